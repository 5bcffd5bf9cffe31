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
    raise exception 'lead_id: % is no lead', coalesce(p_lead_id::text, 'null')
      using errcode = 'OP009', hint = 'select id from revenue_leads';
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
  'Enrols a lead in a campaign by its code; returns the enrolment, the one that is there already where the campaign takes nobody twice.';

alter function brainops.enrol(uuid, text) owner to brainops_system;
revoke execute on function brainops.enrol(uuid, text) from public;
grant execute
on function brainops.enrol(uuid, text)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

-- Pins a new enrolment to its campaign and version. Definer: a service that names no tenant sees no
-- campaign, and yet its row has one.
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
  if brainops.current_tenant_id() <> new.tenant_id then
    -- Row level security refuses it in a moment; nothing of the other tenant is told before.
    return new;
  end if;
  if v_status is null then
    raise exception 'status: unknown word %', quote_literal(left(new.status, 80))
      using errcode = 'OP002', hint = 'Write active (or leave status out), paused, completed, exited or cancelled.';
  end if;
  new.status := v_status;
  if new.lead_id is null then
    return new;
  end if;

  -- Shared, so that who publishes or pauses sees every enrolment that came before.
  select * into v_campaign from public.campaigns where tenant_id = new.tenant_id and code = new.campaign_type for share;
  if not found or v_campaign.status = 'archived' or v_campaign.version = 0 then
    raise exception 'campaign_type: % %', quote_literal(left(new.campaign_type, 80)), case
        when v_campaign.id is null then 'is no campaign of this tenant'
        when v_campaign.status = 'archived' then 'is archived'
        else 'has no published version'
      end
      using errcode = 'OP020', column = 'campaign_type',
        hint = 'select code, status, version from campaigns; a new one is published by brainops.publish_campaign(code).';
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
    -- The same entrance again runs into the unique key, as "on conflict do nothing" expects.
    new.entrance := v_before.entrance
      + (v_campaign.reentry = 'after_exit' and v_before.status not in ('active', 'paused'))::int;
  end if;

  -- Shared too: a lead that is being won right now is won before it enters, or after.
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

alter function brainops_internal.enter_campaign() owner to brainops_system;
revoke execute on function brainops_internal.enter_campaign() from public;

-- Why a lead cannot be in a campaign as things stand; null where it can.
create or replace function brainops_internal.entry_refusal(p_campaign public.campaigns, p_lead public.revenue_leads)
returns text
language plpgsql
stable
set search_path = ''
as $$
begin
  if p_lead.stage in ('won', 'lost') and (p_lead.stage = any (p_campaign.exit_on) or p_lead.stage = p_campaign.goal_event) then
    return p_lead.stage || ' already';
  elsif brainops_internal.topic_opted_out(p_campaign.tenant_id, p_lead.email, p_campaign.code) then
    return 'topic_not_wanted';
  end if;
  return null;
end;
$$;

revoke execute on function brainops_internal.entry_refusal(campaigns, revenue_leads) from public;
grant execute on function brainops_internal.entry_refusal(campaigns, revenue_leads) to brainops_system;

create or replace function brainops_internal.normal_enrolment_status(p_word text)
returns text
language sql
immutable
parallel safe
set search_path = ''
as $$
  select
    case lower(btrim(p_word))
      when 'active' then 'active'
      when 'pending' then 'active'
      when 'new' then 'active'
      when 'enrolled' then 'active'
      when 'running' then 'active'
      when 'in_progress' then 'active'
      when 'paused' then 'paused'
      when 'completed' then 'completed'
      when 'exited' then 'exited'
      when 'cancelled' then 'cancelled'
      when 'canceled' then 'cancelled'
      when 'stopped' then 'cancelled'
    end;
$$;

comment on function brainops_internal.normal_enrolment_status(text) is
  'The enrolment status that a word means (pending, new, enrolled, running: active); null for an unknown word.';

revoke execute on function brainops_internal.normal_enrolment_status(text) from public;
grant execute
on function brainops_internal.normal_enrolment_status(text)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

create or replace function brainops_internal.touch_type_of(p_kind text)
returns text
language sql
immutable
parallel safe
set search_path = ''
as $$
  select
    case p_kind
      when 'send_email' then 'email'
      when 'send_sms' then 'sms'
      else p_kind
    end;
$$;

comment on function brainops_internal.touch_type_of(text) is 'What a touch of a step of this kind is called.';

revoke execute on function brainops_internal.touch_type_of(text) from public;
grant execute
on function brainops_internal.touch_type_of(text)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

create or replace function brainops_internal.lead_time_zone(p_tenant_id uuid, p_lead_id uuid)
returns text
language sql
stable
set search_path = ''
as $$
  select coalesce(l.time_zone, t.time_zone)
  from
    public.tenants as t
    left join public.revenue_leads as l on l.tenant_id = t.id and l.id = p_lead_id
  where t.id = p_tenant_id;
$$;

comment on function brainops_internal.lead_time_zone(uuid, uuid) is
  'The zone in which a lead''s days are counted: its own, else its tenant''s.';

revoke execute on function brainops_internal.lead_time_zone(uuid, uuid) from public;
grant execute on function brainops_internal.lead_time_zone(uuid, uuid) to brainops_system;

-- The first touch of all enrolments of a statement, in one insert.
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
    -- As the row will be once it is in: inserted has the types of the table.
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

alter function brainops_internal.after_enrolment_insert() owner to brainops_system;
revoke execute on function brainops_internal.after_enrolment_insert() from public;
