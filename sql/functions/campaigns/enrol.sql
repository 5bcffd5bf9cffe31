-- Enrolling a lead in a campaign. brainops.enrol, and every other insert into ai_nurture_campaigns, goes through two
-- triggers: enter_campaign pins the row to a version and decides whether the lead may enter, and
-- after_enrolment_insert creates the first touch.

create or replace function brainops.enrol(p_lead_id uuid, p_campaign_type text)
returns uuid
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_lead_id uuid := brainops_internal.find_lead(p_lead_id, null);
  v_tenant_id uuid;
  v_id uuid;
begin
  select tenant_id into v_tenant_id from public.revenue_leads where id = v_lead_id;
  if not found then
    raise exception 'lead_id: % is not the id of a lead', coalesce(p_lead_id::text, 'null')
      using errcode = 'OP009', hint = 'Give an id of revenue_leads; the id of a merged lead works as well.';
  end if;
  insert into public.ai_nurture_campaigns as e (tenant_id, lead_id, campaign_type)
  values (v_tenant_id, v_lead_id, p_campaign_type)
  on conflict do nothing
  returning e.id into v_id;
  if v_id is null then
    select e.id into v_id
      from public.ai_nurture_campaigns as e
      where e.tenant_id = v_tenant_id and e.lead_id = v_lead_id and e.campaign_type = p_campaign_type
      order by e.entrance desc
      limit 1;
  end if;
  return v_id;
end;
$$;

comment on function brainops.enrol(uuid, text) is
  'Enrols a lead in a campaign and returns the enrolment''s id. p_lead_id: the lead; the id of a merged lead means the one that it was merged into. p_campaign_type: code of the campaign. If the lead is in the campaign already, or the campaign takes each lead only once, returns the latest enrolment. A lead that may not enter (won, lost, topic not wanted) gets an enrolment that is exited, with exit_reason. OP009: the lead does not exist. OP020: the campaign does not exist, is archived or has no published version.';

alter function brainops.enrol(uuid, text) owner to brainops_system;
revoke execute on function brainops.enrol(uuid, text) from public;
grant execute
on function brainops.enrol(uuid, text)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

-- Security definer, because a service that names no tenant cannot read campaigns, yet its row belongs to one. Rows
-- without a lead are a client's own definitions and are stored as they are.
--
-- Locks the campaign, then the lead, both for share.
create or replace function brainops_internal.enter_campaign()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_status text := brainops_internal.normal_enrolment_status(coalesce(new.status, 'active'));
  v_campaign public.campaigns;
  v_before public.ai_nurture_campaigns;
  v_lead public.revenue_leads;
  v_now constant timestamptz := brainops.now();
begin
  if not brainops_internal.may_write_for(new.tenant_id) then
    -- Row level security will refuse the row; until then, nothing about the other tenant is revealed.
    return new;
  end if;
  if v_status is null then
    raise exception 'status: % is not a status of an enrolment', quote_literal(left(new.status, 80))
      using errcode = 'OP002', hint = 'Write active, paused, completed, exited or cancelled; left out, it is active.';
  end if;
  new.status := v_status;
  if new.lead_id is null then
    return new;
  end if;

  -- A transaction that publishes or pauses the campaign waits for this lock, and so sees every enrolment that came
  -- before it.
  select * into v_campaign from public.campaigns where tenant_id = new.tenant_id and code = new.campaign_type for share;
  if not found or v_campaign.status = 'archived' or v_campaign.version = 0 then
    raise exception 'campaign_type: campaign % %', quote_literal(left(new.campaign_type, 80)), case
        when v_campaign.id is null then 'does not exist in this tenant'
        when v_campaign.status = 'archived' then 'is archived'
        else 'has no published version'
      end
      using errcode = 'OP020', column = 'campaign_type',
        hint = 'Name a campaign that has a version and is not archived: select code, status, version from campaigns. brainops.publish_campaign(code) publishes one.';
  end if;

  new.campaign_id := v_campaign.id;
  new.version := v_campaign.version;
  new.enrolled_at := v_now;
  new.schedule_start := v_now;
  new.created_at := coalesce(new.created_at, v_now);
  new.touch_count := 0;
  new.entrance := 1;
  select * into v_before
    from public.ai_nurture_campaigns
    where tenant_id = new.tenant_id and lead_id = new.lead_id and campaign_type = new.campaign_type
    order by entrance desc
    limit 1;
  if found then
    -- A repeated entrance violates the unique key, as "on conflict do nothing" expects.
    new.entrance := v_before.entrance
      + (v_campaign.reentry = 'after_exit' and v_before.status not in ('active', 'paused'))::int;
  end if;

  -- The lock serializes this entry with a concurrent transaction that sets the lead to won.
  select * into v_lead from public.revenue_leads where tenant_id = new.tenant_id and id = new.lead_id for share;
  if v_status in ('active', 'paused') then
    new.exit_reason := brainops_internal.entry_refusal(v_campaign, v_lead);
    new.status := case when new.exit_reason is null then v_status else 'exited' end;
  end if;

  if new.status in ('active', 'paused') then
    new.ended_at := null;
    new.held_since := case when new.status = 'paused' or v_campaign.status <> 'active' then v_now end;
  else
    new.ended_at := coalesce(new.ended_at, v_now);
    new.next_touch_date := null;
    new.held_since := null;
  end if;
  return new;
end;
$$;

comment on function brainops_internal.enter_campaign is
  'Trigger of ai_nurture_campaigns before insert: pins the enrolment to its campaign''s version and numbers its entrance; a lead that may not enter is stored as exited. OP002: unknown status. OP020: the campaign does not exist, is archived or has no published version.';

alter function brainops_internal.enter_campaign() owner to brainops_system;
revoke execute on function brainops_internal.enter_campaign() from public;

create or replace function brainops_internal.after_enrolment_insert()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  with first_touches as (
    insert into public.ai_campaign_touches
      (tenant_id, campaign_id, touch_type, content_template, status, last_error, scheduled_for, due_at, step_key, step_number, version, entrance)
    select
      e.tenant_id,
      e.id,
      brainops_internal.touch_type_of(s.kind),
      s.template,
      case when h.reason is null then 'pending' else 'awaiting_approval' end,
      h.reason,
      d.due_at,
      d.due_at,
      s.step_key,
      s.step_number,
      e.version,
      e.entrance
    from inserted as e
    inner join public.campaigns as c on c.tenant_id = e.tenant_id and c.id = e.campaign_id
    cross join lateral (
      select f.* from public.campaign_steps as f
      where f.tenant_id = e.tenant_id and f.campaign_id = e.campaign_id and f.version = e.version
      order by f.step_number
      limit 1
    ) as s
    cross join lateral (
      select brainops_internal.add_delay(e.schedule_start, s.delay, brainops_internal.lead_time_zone(e.tenant_id, e.lead_id)) as due_at
    ) as d
    -- The function takes a row of the table, which the transition table does not have, so the row is read again.
    cross join lateral (
      select brainops_internal.enrolment_hold_reason(r, c) as reason
      from public.ai_nurture_campaigns as r
      where r.tenant_id = e.tenant_id and r.id = e.id
    ) as h
    where e.lead_id is not null and e.status in ('active', 'paused')
    returning tenant_id, campaign_id, due_at
  )
  update public.ai_nurture_campaigns as e
  set next_touch_date = f.due_at
  from first_touches as f
  where e.tenant_id = f.tenant_id and e.id = f.campaign_id and e.next_touch_date is distinct from f.due_at;
  return null;
end;
$$;

comment on function brainops_internal.after_enrolment_insert is
  'Trigger of ai_nurture_campaigns after insert, once per statement: creates the first touch of each enrolment, all in one insert.';

alter function brainops_internal.after_enrolment_insert() owner to brainops_system;
revoke execute on function brainops_internal.after_enrolment_insert() from public;

create or replace function brainops_internal.entry_refusal(p_campaign public.campaigns, p_lead public.revenue_leads)
returns text
language plpgsql
stable
set search_path = ''
as $$
begin
  if p_lead.stage in ('won', 'lost') and (p_lead.stage = any (p_campaign.exit_on) or p_lead.stage = p_campaign.goal_event) then
    return 'already ' || p_lead.stage;
  elsif brainops_internal.topic_opted_out(p_campaign.tenant_id, p_lead.email, p_campaign.code) then
    return 'topic_not_wanted';
  end if;
  return null;
end;
$$;

comment on function brainops_internal.entry_refusal(public.campaigns, public.revenue_leads) is
  'Why a lead may not be in a campaign (already won, already lost, topic_not_wanted); null if it may.';

revoke execute on function brainops_internal.entry_refusal(public.campaigns, public.revenue_leads) from public;
grant execute on function brainops_internal.entry_refusal(public.campaigns, public.revenue_leads) to brainops_system;
