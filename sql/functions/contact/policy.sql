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
  'A tenant''s rules for a channel, defaults filled in: 08:00 to 21:00 every day, 3 messages in 7 days, opt_out for mail and opt_in for texts.';

revoke execute on function brainops.contact_policy(uuid, text) from public;
grant execute
on function brainops.contact_policy(uuid, text)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

-- A cap can count only what the queue still holds.
create or replace function brainops_internal.check_cap_window()
returns trigger
language plpgsql
-- Tenants' windows are nobody else's to read, and job_tables is everybody's.
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
    raise exception 'cap_window: % is longer than the queue keeps what was sent (archive_after %)', v_longest, v_kept
      using errcode = 'OP014',
        hint = 'Keep rows longer (brainops.job_tables.archive_after), or count over a shorter window (contact_policies.cap_window).';
  end if;
  return new;
end;
$$;

alter function brainops_internal.check_cap_window() owner to brainops_system;
revoke execute on function brainops_internal.check_cap_window() from public;

-- Whoever puts a message off decides what its first due time is: the engine keeps it, a client who
-- moves the row sets a new one, and so does running it again.
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

revoke execute on function brainops_internal.keep_first_due() from public;

create or replace function brainops.hold_marketing(p_tenant text, p_channel text, p_reason text)
returns void
language sql
set search_path = ''
as $$
  insert into public.marketing_holds (tenant_id, channel, reason)
  values (brainops_internal.tenant_id_of(p_tenant), p_channel, p_reason)
  on conflict (tenant_id, channel) where lifted_at is null do update set reason = excluded.reason;
$$;

comment on function brainops.hold_marketing(text, text, text) is
  'Holds marketing of a tenant (slug or id) on a channel; what is transactional goes on. brainops.lift_marketing_hold ends it.';

revoke execute on function brainops.hold_marketing(text, text, text) from public;
grant execute on function brainops.hold_marketing(text, text, text) to brainops_admin, brainops_system;

create or replace function brainops.lift_marketing_hold(p_tenant text, p_channel text)
returns int
language plpgsql
set search_path = ''
as $$
declare
  v_tenant_id uuid := brainops_internal.tenant_id_of(p_tenant);
  v_job brainops.job_tables;
  v_count int := 0;
begin
  update public.marketing_holds set lifted_at = brainops.now()
  where tenant_id = v_tenant_id and channel = p_channel and lifted_at is null;
  for v_job in select * from brainops.job_tables where channel = p_channel
  loop
    v_count := v_count + brainops_internal.spread_rows(v_job, v_tenant_id, 'marketing on hold: %');
  end loop;
  return v_count;
end;
$$;

comment on function brainops.lift_marketing_hold(text, text) is
  'Ends the hold on a tenant''s marketing; returns how many rows that waited for it go on, spread over time.';

revoke execute on function brainops.lift_marketing_hold(text, text) from public;
grant execute on function brainops.lift_marketing_hold(text, text) to brainops_admin, brainops_system;

-- Mailbox providers take a sender down at 0.3 % of complaints (Gmail's bulk sender rules), and count
-- hard bounces as a sign of a bought list. Three complaints or ten bounces at least, so that the
-- first one of a small sender decides nothing.
create or replace function brainops_internal.guard_reputation()
returns int
language plpgsql
set search_path = ''
as $$
declare
  c_window constant interval := '7 days';
  c_warn constant numeric := 0.001;
  c_complaints constant numeric := 0.003;
  c_bounces constant numeric := 0.05;
  v_tenant record;
  v_sent int;
  v_reason text;
  v_count int := 0;
begin
  for v_tenant in
    select t.id, w.since, c.n as complaints, b.n as bounces
    from public.tenants as t
    cross join lateral (
      -- What a hold was lifted for counts no more.
      select greatest(brainops.now() - c_window, max(h.lifted_at)) as since
      from public.marketing_holds as h
      where h.tenant_id = t.id and h.channel = 'email'
    ) as w
    cross join lateral (
      select count(*)::int as n from public.email_deliveries as d
      where d.tenant_id = t.id and d.event = 'spamreport' and d.occurred_at > w.since
    ) as c
    cross join lateral (
      select count(*)::int as n from public.email_bounces as e
      where e.tenant_id = t.id and e.bounce_type = 'hard' and e.occurred_at > w.since
    ) as b
    where t.status = 'active' and (c.n >= 3 or b.n >= 10)
      and not exists (
        select from public.marketing_holds as h where h.tenant_id = t.id and h.channel = 'email' and h.lifted_at is null
      )
  loop
    -- No more need be counted than would make both shares small.
    select count(*) into v_sent
      from (
        select from public.ai_email_queue as q
        where q.tenant_id = v_tenant.id and q.status = 'completed' and q.finished_at > v_tenant.since
        limit greatest(v_tenant.complaints / c_warn, v_tenant.bounces / c_bounces)::int + 1
      ) as s;
    v_sent := greatest(v_sent, 1);
    v_reason := case
      when v_tenant.complaints >= 3 and v_tenant.complaints >= v_sent * c_complaints
        then format('%s of %s mails were reported as spam since %s; 0.3 %% is the most that mailbox providers bear', v_tenant.complaints, v_sent, v_tenant.since)
      when v_tenant.bounces >= 10 and v_tenant.bounces >= v_sent * c_bounces
        then format('%s of %s mails went to addresses that do not exist since %s; 5 %% is the most', v_tenant.bounces, v_sent, v_tenant.since)
    end;
    if v_reason is not null then
      insert into public.marketing_holds (tenant_id, channel, reason)
      values (v_tenant.id, 'email', v_reason)
      on conflict (tenant_id, channel) where lifted_at is null do nothing;
      perform brainops.notify(
        v_tenant.id, 'Marketing by e-mail is on hold', v_reason, 'marketing_hold:' || date_trunc('day', brainops.now())
      );
      v_count := v_count + 1;
    elsif v_tenant.complaints >= 3 and v_tenant.complaints >= v_sent * c_warn then
      perform brainops.notify(
        v_tenant.id,
        'Your mails are being reported as spam',
        format('%s of %s since %s. At 0.3 %% marketing is put on hold.', v_tenant.complaints, v_sent, v_tenant.since),
        'complaints:' || date_trunc('day', brainops.now())
      );
    end if;
  end loop;
  return v_count;
end;
$$;

comment on function brainops_internal.guard_reputation is
  'Holds the marketing mail of tenants with 0.3 % of complaints or 5 % of hard bounces within 7 days, and warns at 0.1 %; returns how many it held. The sweep asks it.';

revoke execute on function brainops_internal.guard_reputation() from public;
grant execute on function brainops_internal.guard_reputation() to brainops_admin, brainops_system;
