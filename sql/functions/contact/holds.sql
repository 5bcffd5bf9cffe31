-- Holds on a tenant's marketing: set and lifted by admins, or set by guard_reputation. consent_verdicts reads them.

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
  'Holds marketing of a tenant (slug or id) on a channel (email or sms); transactional messages still go. p_reason is shown in last_error of the rows that wait; for a hold in force, it replaces the reason. brainops.lift_marketing_hold ends it. OP007 for an unknown tenant, 23514 for another channel or a blank reason.';

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
  'Ends the hold on marketing of a tenant (slug or id) on a channel (email or sms). Returns the number of waiting rows that are released, spread over time. OP007 for an unknown tenant.';

revoke execute on function brainops.lift_marketing_hold(text, text) from public;
grant execute on function brainops.lift_marketing_hold(text, text) to brainops_admin, brainops_system;

-- Mailbox providers block a tenant whose mail gets 0.3 % of complaints (Gmail's rules for bulk mail), and take hard
-- bounces as a sign of a bought list. At least three complaints or ten bounces, so that a single complaint or bounce of
-- a tenant that sends little has no effect.
create or replace function brainops_internal.guard_reputation()
returns int
language plpgsql
set search_path = ''
set lock_timeout = '500ms'
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
      -- Reports from before the last hold was lifted no longer count.
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
    -- Stops counting where both shares are too small to matter.
    select count(*) into v_sent
      from (
        select from public.ai_email_queue as q
        where q.tenant_id = v_tenant.id and q.status = 'completed' and q.finished_at > v_tenant.since
        limit greatest(v_tenant.complaints / c_warn, v_tenant.bounces / c_bounces)::int + 1
      ) as s;
    v_sent := greatest(v_sent, 1);
    v_reason := case
      when v_tenant.complaints >= 3 and v_tenant.complaints >= v_sent * c_complaints
        then format('%s of %s mails were reported as spam since %s; mailbox providers accept less than 0.3 %%', v_tenant.complaints, v_sent, v_tenant.since)
      when v_tenant.bounces >= 10 and v_tenant.bounces >= v_sent * c_bounces
        then format('%s of %s mails bounced hard since %s; the limit is 5 %%', v_tenant.bounces, v_sent, v_tenant.since)
    end;
    begin
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
          format('%s of %s mails were reported as spam since %s. At 0.3 %%, marketing by e-mail is put on hold.', v_tenant.complaints, v_sent, v_tenant.since),
          'complaints:' || date_trunc('day', brainops.now())
        );
      end if;
    exception
      -- The tenant may have locked a notification of the same key. Looked at again in a minute.
      when lock_not_available then null;
    end;
  end loop;
  return v_count;
end;
$$;

comment on function brainops_internal.guard_reputation is
  'Holds marketing mail of tenants with 0.3 % of complaints (3 or more) or 5 % of hard bounces (10 or more) within 7 days and notifies them; warns from 0.1 % of complaints on. Returns the number of holds it set. The sweep calls it.';

revoke execute on function brainops_internal.guard_reputation() from public;
grant execute on function brainops_internal.guard_reputation() to brainops_admin, brainops_system;
