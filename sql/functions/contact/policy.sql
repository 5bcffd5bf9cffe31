-- A tenant's contact policy with its defaults, and the triggers that enforce its limits. Start at
-- brainops.contact_policy.

create or replace function brainops.contact_policy(p_tenant_id uuid, p_channel text)
returns public.contact_policies
language plpgsql
stable
set search_path = ''
as $$
declare
  v_policy public.contact_policies;
begin
  select * into v_policy from public.contact_policies where tenant_id = p_tenant_id and channel = p_channel;
  v_policy.tenant_id := p_tenant_id;
  v_policy.channel := p_channel;
  v_policy.window_start := coalesce(v_policy.window_start, '08:00');
  v_policy.window_end := coalesce(v_policy.window_end, '21:00');
  v_policy.weekdays := coalesce(v_policy.weekdays, '{1,2,3,4,5,6,7}');
  v_policy.cap := coalesce(v_policy.cap, 3);
  v_policy.cap_window := coalesce(v_policy.cap_window, '7 days');
  v_policy.consent := coalesce(v_policy.consent, case p_channel when 'sms' then 'opt_in' else 'opt_out' end);
  v_policy.spread := coalesce(v_policy.spread, '1 hour');
  v_policy.expires_after := coalesce(v_policy.expires_after, '30 days');
  return v_policy;
end;
$$;

comment on function brainops.contact_policy(uuid, text) is
  'The tenant''s contact rules for a channel (email or sms) with defaults filled in: 08:00 to 21:00 every day, 3 messages in 7 days, opt_out for mail and opt_in for texts, spread over 1 hour, expired after 30 days, no hourly limit. A tenant without a row, or that the caller may not read, has the defaults.';

revoke execute on function brainops.contact_policy(uuid, text) from public;
grant execute
on function brainops.contact_policy(uuid, text)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

-- A cap counts messages that are still in the queue, so they must stay there for the longest window.
create or replace function brainops_internal.check_cap_window()
returns trigger
language plpgsql
-- Reads the windows of all tenants when an admin changes job_tables.
security definer
set search_path = ''
as $$
declare
  v_longest interval;
  v_kept interval;
begin
  if tg_table_name = 'contact_policies' then
    v_longest := new.cap_window;
    select min(archive_after) into v_kept from brainops.job_tables where channel in ('email', 'sms');
  else
    select greatest(max(cap_window), '7 days') into v_longest from public.contact_policies;
    v_kept := new.archive_after;
  end if;
  if v_longest > v_kept then
    raise exception 'cap_window: % is longer than sent messages stay in the queue (archive_after %)', v_longest, v_kept
      using errcode = 'OP014',
        hint = 'Raise brainops.job_tables.archive_after, or use a shorter contact_policies.cap_window.';
  end if;
  return new;
end;
$$;

comment on function brainops_internal.check_cap_window is
  'Trigger on contact_policies and job_tables: refuses (OP014) a cap_window that is longer than archive_after of the mail and text queues.';

alter function brainops_internal.check_cap_window() owner to brainops_system;
revoke execute on function brainops_internal.check_cap_window() from public;

-- expires_after counts from first_due_at. A deferral by the engine keeps it; a client that moves the row clears it, and
-- running a finished row again sets it.
create or replace function brainops_internal.keep_first_due()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  new.first_due_at := case
    when old.status not in ('pending', 'processing') then greatest(new.scheduled_for, brainops.now())
    when current_user = 'brainops_worker' or current_setting('brainops.spreading', true) = 'on'
      then coalesce(old.first_due_at, old.scheduled_for)
  end;
  return new;
end;
$$;

comment on function brainops_internal.keep_first_due is
  'Trigger: sets first_due_at of a pending marketing message whose scheduled_for or status changes. Null: scheduled_for is when it is first due.';

revoke execute on function brainops_internal.keep_first_due() from public;
