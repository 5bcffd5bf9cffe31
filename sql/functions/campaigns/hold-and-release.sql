-- Holding enrolments and releasing them. The clock of an enrolment is stopped, and held_since is set, while it is
-- paused, or its campaign is paused or not launched yet. Its touches and queued messages then wait as
-- awaiting_approval, with a last_error that begins with "held"; that prefix distinguishes them from rows that wait for
-- a person. Start at hold_enrolments and release_enrolments; enrolment_hold_reason gives the reason.

-- Locks the enrolments in the order of their ids, then touches and queue rows. Rows that a claim has locked at this
-- moment are passed over (skip locked), so that a transaction that holds an enrolment never waits for a queue row:
-- their gate, and perform_touch once it has the enrolment's lock, check for a hold themselves.
create or replace function brainops_internal.hold_enrolments(p_tenant_id uuid, p_ids uuid[])
returns void
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_reasons jsonb;
begin
  perform from public.ai_nurture_campaigns where tenant_id = p_tenant_id and id = any (p_ids) order by id for no key update;
  update public.ai_nurture_campaigns set held_since = brainops.now()
  where tenant_id = p_tenant_id and id = any (p_ids) and held_since is null and status in ('active', 'paused');
  select coalesce(jsonb_object_agg(e.id, brainops_internal.enrolment_hold_reason(e, c)), '{}') into v_reasons
    from public.ai_nurture_campaigns as e
    inner join public.campaigns as c on c.tenant_id = e.tenant_id and c.id = e.campaign_id
    where e.tenant_id = p_tenant_id and e.id = any (p_ids);

  update public.ai_campaign_touches as t
  set status = 'awaiting_approval', last_error = v_reasons ->> t.campaign_id::text
  from (
    select id from public.ai_campaign_touches
    where tenant_id = p_tenant_id and campaign_id = any (p_ids) and performed_at is null
      and (status = 'pending' or (status = 'awaiting_approval' and last_error like 'held%'))
    order by id
    for update skip locked
  ) as o
  where t.id = o.id;
  update public.ai_email_queue as q
  set status = 'awaiting_approval', last_error = v_reasons ->> q.enrolment_id::text
  from (
    select id from public.ai_email_queue
    where tenant_id = p_tenant_id and enrolment_id = any (p_ids) and status = 'pending'
    order by id
    for update skip locked
  ) as o
  where q.id = o.id;
  update public.ai_sms_queue as q
  set status = 'awaiting_approval', last_error = v_reasons ->> q.enrolment_id::text
  from (
    select id from public.ai_sms_queue
    where tenant_id = p_tenant_id and enrolment_id = any (p_ids) and status = 'pending'
    order by id
    for update skip locked
  ) as o
  where q.id = o.id;
end;
$$;

comment on function brainops_internal.hold_enrolments(uuid, uuid[]) is
  'Stops the clock of these enrolments; their pending touches and messages wait, with the reason in last_error.';

alter function brainops_internal.hold_enrolments(uuid, uuid[]) owner to brainops_system;
revoke execute on function brainops_internal.hold_enrolments(uuid, uuid[]) from public;

-- Shifts due_at, schedule_start and next_touch_date by the time that the enrolment was held. Rows that are due at once
-- are spread over time. Enrolments that are paused, or whose campaign is not active, remain held.
create or replace function brainops_internal.release_enrolments(p_tenant_id uuid, p_ids uuid[])
returns int
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_now constant timestamptz := brainops.now();
  v_ids uuid[];
begin
  perform from public.ai_nurture_campaigns where tenant_id = p_tenant_id and id = any (p_ids) order by id for no key update;
  select coalesce(array_agg(e.id), '{}') into v_ids
    from public.ai_nurture_campaigns as e
    inner join public.campaigns as c on c.tenant_id = e.tenant_id and c.id = e.campaign_id
    where e.tenant_id = p_tenant_id and e.id = any (p_ids) and c.status = 'active'
      and ((e.status = 'active' and e.held_since is not null) or e.status = 'completed');

  update public.ai_campaign_touches as t
  set
    due_at = o.due_at,
    scheduled_for = case when t.status = 'processing' then t.scheduled_for else o.goes_at end,
    status = case when t.status = 'awaiting_approval' and t.last_error like 'held%' then 'pending' else t.status end,
    last_error = case when t.last_error like 'held%' then null else t.last_error end
  from (
    select
      s.id,
      s.due_at,
      case
        when s.due_at > v_now then s.due_at
        else v_now + brainops_internal.spread(
          row_number() over (partition by s.due_at > v_now order by s.due_at, s.id),
          count(*) over (partition by s.due_at > v_now)
        )
      end as goes_at
    from (
      select d.id, d.due_at + brainops_internal.time_between(coalesce(e.held_since, v_now), v_now) as due_at
      from public.ai_campaign_touches as d
      inner join public.ai_nurture_campaigns as e on e.tenant_id = d.tenant_id and e.id = d.campaign_id
      where d.tenant_id = p_tenant_id and d.campaign_id = any (v_ids) and d.performed_at is null
        and d.status in ('pending', 'awaiting_approval', 'processing', 'failed')
    ) as s
  ) as o
  where t.id = o.id;

  update public.ai_nurture_campaigns
  set
    schedule_start = schedule_start + brainops_internal.time_between(held_since, v_now),
    next_touch_date = next_touch_date + brainops_internal.time_between(held_since, v_now),
    held_since = null
  where tenant_id = p_tenant_id and id = any (v_ids) and held_since is not null;

  update public.ai_email_queue as q
  set status = 'pending', last_error = null, scheduled_for = greatest(q.scheduled_for, v_now + brainops_internal.spread(o.n, o.of))
  from (
    select id, row_number() over (order by scheduled_for, id) as n, count(*) over () as of
    from public.ai_email_queue
    where tenant_id = p_tenant_id and enrolment_id = any (v_ids) and status = 'awaiting_approval' and last_error like 'held%'
  ) as o
  where q.id = o.id;
  update public.ai_sms_queue as q
  set status = 'pending', last_error = null, scheduled_for = greatest(q.scheduled_for, v_now + brainops_internal.spread(o.n, o.of))
  from (
    select id, row_number() over (order by scheduled_for, id) as n, count(*) over () as of
    from public.ai_sms_queue
    where tenant_id = p_tenant_id and enrolment_id = any (v_ids) and status = 'awaiting_approval' and last_error like 'held%'
  ) as o
  where q.id = o.id;
  return cardinality(v_ids);
end;
$$;

comment on function brainops_internal.release_enrolments(uuid, uuid[]) is
  'Releases the enrolments that nothing holds any more, shifted by the time that they were held. Returns their number, including completed ones.';

alter function brainops_internal.release_enrolments(uuid, uuid[]) owner to brainops_system;
revoke execute on function brainops_internal.release_enrolments(uuid, uuid[]) from public;

create or replace function brainops_internal.spread(p_n bigint, p_of bigint)
returns interval
language sql
immutable
parallel safe
as $$
  select make_interval(secs => (p_n - 1) * least(0.2, 3600.0 / p_of)::float8);
$$;

comment on function brainops_internal.spread(bigint, bigint) is
  'The delay from now of row p_n (from 1), if p_of rows are due at once: five rows a second, or faster if that would take more than an hour.';

revoke execute on function brainops_internal.spread(bigint, bigint) from public;
grant execute on function brainops_internal.spread(bigint, bigint) to brainops_system;

create or replace function brainops_internal.enrolment_hold_reason(
  p_enrolment public.ai_nurture_campaigns,
  p_campaign public.campaigns
)
returns text
language sql
immutable
set search_path = ''
as $$
  select
    case
      when p_enrolment.status = 'paused' then 'held: the enrolment is paused; to resume it, update ai_nurture_campaigns set status = ''active'''
      when p_campaign.status = 'paused' then 'held: campaign ' || p_campaign.code || ' is paused; brainops.resume_campaign resumes it'
      when p_campaign.status = 'draft' then 'held: campaign ' || p_campaign.code || ' is not launched; to launch it, update campaigns set status = ''active'' where code = ' || quote_literal(
        p_campaign.code
      )
      when p_enrolment.held_since is not null then 'held'
    end;
$$;

comment on function brainops_internal.enrolment_hold_reason(public.ai_nurture_campaigns, public.campaigns) is
  'Why an enrolment is held, for last_error: its own pause, its campaign''s, or that the campaign is not launched; null if it is not held.';

revoke execute
on function brainops_internal.enrolment_hold_reason(public.ai_nurture_campaigns, public.campaigns)
from public;
grant execute
on function brainops_internal.enrolment_hold_reason(public.ai_nurture_campaigns, public.campaigns)
to brainops_worker, brainops_system;

-- hold_enrolments passes over a message that a worker has claimed. If the worker then defers it, the message waits for
-- this check at its next claim.
create or replace function brainops_internal.enrolment_pause_reason(p_enrolment_id uuid)
returns text
language sql
stable
security definer
set search_path = ''
as $$
  select brainops_internal.enrolment_hold_reason(e, c)
  from
    public.ai_nurture_campaigns as e
    inner join public.campaigns as c on c.tenant_id = e.tenant_id and c.id = e.campaign_id
  where e.id = p_enrolment_id and brainops_internal.may_act_for(e.tenant_id);
$$;

comment on function brainops_internal.enrolment_pause_reason(uuid) is
  'Why a message of this enrolment must wait; null if it need not. Checked at each claim.';

alter function brainops_internal.enrolment_pause_reason(uuid) owner to brainops_system;
revoke execute on function brainops_internal.enrolment_pause_reason(uuid) from public;
grant execute on function brainops_internal.enrolment_pause_reason(uuid) to brainops_worker;
