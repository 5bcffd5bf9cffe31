create or replace function brainops.pause_campaign(p_code text, p_tenant text default null)
returns void
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_campaign public.campaigns := brainops_internal.campaign_of(p_tenant, p_code);
begin
  update public.campaigns set status = 'paused' where id = v_campaign.id and status = 'active';
end;
$$;

comment on function brainops.pause_campaign(text, text) is
  'Holds a campaign: no step is performed and nothing of it is sent, and time stands still in it. Twice is as once.';

alter function brainops.pause_campaign(text, text) owner to brainops_system;
revoke execute on function brainops.pause_campaign(text, text) from public;
grant execute
on function brainops.pause_campaign(text, text)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

create or replace function brainops.resume_campaign(p_code text, p_tenant text default null)
returns void
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_campaign public.campaigns := brainops_internal.campaign_of(p_tenant, p_code);
begin
  update public.campaigns set status = 'active' where id = v_campaign.id and status = 'paused';
end;
$$;

comment on function brainops.resume_campaign(text, text) is
  'Lets a paused campaign go on where it stood: everything in it comes later by the time it was paused, and what is due at once goes five a second.';

alter function brainops.resume_campaign(text, text) owner to brainops_system;
revoke execute on function brainops.resume_campaign(text, text) from public;
grant execute
on function brainops.resume_campaign(text, text)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

-- Touches and messages that are due wait under the enrolment's reason. What a claim holds at this
-- moment is skipped: its gate, and perform_touch behind the enrolment's lock, ask again.
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

alter function brainops_internal.hold_enrolments(uuid, uuid[]) owner to brainops_system;
revoke execute on function brainops_internal.hold_enrolments(uuid, uuid[]) from public;

-- Everything is moved by the time it stood still.
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

alter function brainops_internal.release_enrolments(uuid, uuid[]) owner to brainops_system;
revoke execute on function brainops_internal.release_enrolments(uuid, uuid[]) from public;

-- How long after now the n-th of so many rows goes that would all go at once.
create or replace function brainops_internal.spread(p_n bigint, p_of bigint)
returns interval
language sql
immutable
parallel safe
as $$
  select make_interval(secs => (p_n - 1) * least(0.2, 3600.0 / p_of)::float8);
$$;

comment on function brainops_internal.spread(bigint, bigint) is
  'Five a second, or as many as it takes to be through within an hour: what resuming lets go at once.';

revoke execute on function brainops_internal.spread(bigint, bigint) from public;
grant execute on function brainops_internal.spread(bigint, bigint) to brainops_system;

create or replace function brainops_internal.before_enrolment_update()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_status text := brainops_internal.normal_enrolment_status(new.status);
begin
  if v_status is null then
    raise exception 'status: unknown word %', quote_literal(left(new.status, 80))
      using errcode = 'OP002', hint = 'Write active, paused, completed, exited or cancelled.';
  end if;
  new.status := v_status;
  if new.lead_id is null or old.status = new.status then
    return new;
  end if;
  if old.status not in ('active', 'paused') then
    raise exception 'status: enrolment % is % since %, so it cannot be set to %', old.id, old.status, old.ended_at, quote_literal(v_status)
      using errcode = 'OP023',
        hint = 'Enrol the lead anew with brainops.enrol; its campaign says with reentry whether a lead may come back.';
  end if;
  if v_status = 'paused' then
    new.held_since := coalesce(old.held_since, brainops.now());
  elsif v_status in ('completed', 'exited', 'cancelled') then
    new.ended_at := brainops.now();
    new.next_touch_date := null;
    new.held_since := null;
    new.exit_reason := coalesce(new.exit_reason, case when v_status <> 'completed' then 'set by ' || session_user end);
  end if;
  return new;
end;
$$;

alter function brainops_internal.before_enrolment_update() owner to brainops_system;
revoke execute on function brainops_internal.before_enrolment_update() from public;
grant execute on function brainops_internal.before_enrolment_update() to brainops_system;

create or replace function brainops_internal.after_enrolment_update()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  if new.status = 'paused' then
    perform brainops_internal.hold_enrolments(new.tenant_id, array[new.id]);
  elsif new.status = 'active' then
    if brainops_internal.release_enrolments(new.tenant_id, array[new.id]) = 0 then
      -- Its campaign holds it yet: the reason is another now.
      perform brainops_internal.hold_enrolments(new.tenant_id, array[new.id]);
    end if;
  else
    perform brainops_internal.close_enrolment(new);
  end if;
  return null;
end;
$$;

alter function brainops_internal.after_enrolment_update() owner to brainops_system;
revoke execute on function brainops_internal.after_enrolment_update() from public;

-- Two leads were made one: what the other one would not have entered ends.
create or replace function brainops_internal.after_enrolment_moves()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  perform brainops.exit_enrolment(new.id, r.reason)
  from public.campaigns as c
  inner join public.revenue_leads as l on l.tenant_id = c.tenant_id
  cross join lateral (select brainops_internal.entry_refusal(c, l) as reason) as r
  where c.tenant_id = new.tenant_id and c.id = new.campaign_id and l.id = new.lead_id and r.reason is not null;
  return null;
end;
$$;

alter function brainops_internal.after_enrolment_moves() owner to brainops_system;
revoke execute on function brainops_internal.after_enrolment_moves() from public;

create or replace function brainops_internal.after_campaign_status()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_ids uuid[] := array(
    select e.id from public.ai_nurture_campaigns as e
    where e.tenant_id = new.tenant_id and e.campaign_id = new.id and e.status in ('active', 'paused')
    order by e.id
  );
begin
  if new.status <> 'archived' then
    -- And those whose steps are all done, while a message of theirs waits.
    v_ids := v_ids || array(
      select e.id from public.ai_nurture_campaigns as e
      where e.tenant_id = new.tenant_id and e.campaign_id = new.id and e.status = 'completed'
        and (
          exists (
            select from public.ai_email_queue as q
            where q.tenant_id = e.tenant_id and q.enrolment_id = e.id and q.status in ('pending', 'awaiting_approval')
          )
          or exists (
            select from public.ai_sms_queue as q
            where q.tenant_id = e.tenant_id and q.enrolment_id = e.id and q.status in ('pending', 'awaiting_approval')
          )
        )
      order by e.id
    );
  end if;
  if new.status = 'active' then
    perform brainops_internal.release_enrolments(new.tenant_id, v_ids);
  elsif new.status = 'archived' then
    perform brainops.exit_enrolment(id, 'the campaign is archived') from unnest(v_ids) as id;
  else
    perform brainops_internal.hold_enrolments(new.tenant_id, v_ids);
  end if;
  return null;
end;
$$;

alter function brainops_internal.after_campaign_status() owner to brainops_system;
revoke execute on function brainops_internal.after_campaign_status() from public;
