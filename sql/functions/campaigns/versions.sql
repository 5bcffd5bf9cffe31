-- Versions of a campaign: publish_campaign puts the draft in force, revise_campaign copies the steps in force as a new
-- draft. A published version never changes (before_campaign_step), so running enrolments keep theirs unless
-- publish_campaign moves them.

-- Locks the campaign, then, with p_move, its running enrolments in the order of their ids, then their touches.
create or replace function brainops.publish_campaign(
  p_code text,
  p_move boolean default false,
  p_tenant text default null
)
returns int
language plpgsql
-- Tenants have no right to write campaigns.version. campaign_of refuses campaigns of other tenants.
security definer
set search_path = ''
as $$
declare
  v_campaign public.campaigns := brainops_internal.campaign_of(p_tenant, p_code);
  v_problems text;
  v_open record;
begin
  select * into v_campaign from public.campaigns where id = v_campaign.id for update;
  v_campaign.version := v_campaign.version + 1;
  select string_agg(p, '; ') into v_problems from brainops_internal.campaign_problems(v_campaign.id, v_campaign.version) as p;
  if v_problems is not null then
    raise exception 'campaign % cannot be published: %', quote_literal(p_code), v_problems
      using errcode = 'OP022', hint = format('Correct the steps of version %s in campaign_steps, then publish again.', v_campaign.version);
  end if;
  update public.campaigns set version = v_campaign.version where id = v_campaign.id;
  if not p_move then
    return v_campaign.version;
  end if;

  perform from public.ai_nurture_campaigns
  where tenant_id = v_campaign.tenant_id and campaign_id = v_campaign.id and status in ('active', 'paused')
  order by id
  for no key update;
  update public.ai_nurture_campaigns set version = v_campaign.version
  where tenant_id = v_campaign.tenant_id and campaign_id = v_campaign.id and status in ('active', 'paused');
  update public.ai_campaign_touches as t
  set
    version = s.version,
    step_number = s.step_number,
    touch_type = brainops_internal.touch_type_of(s.kind),
    content_template = s.template
  from public.ai_nurture_campaigns as e
  inner join public.campaign_steps as s on s.tenant_id = e.tenant_id and s.campaign_id = e.campaign_id and s.version = e.version
  where e.tenant_id = v_campaign.tenant_id and e.campaign_id = v_campaign.id and e.status in ('active', 'paused')
    and t.tenant_id = e.tenant_id and t.campaign_id = e.id and t.step_key = s.step_key and t.performed_at is null;
  for v_open in
    select e, t
    from public.ai_nurture_campaigns as e
    inner join public.ai_campaign_touches as t
      on t.tenant_id = e.tenant_id and t.campaign_id = e.id and t.step_key is not null and t.performed_at is null
    where e.tenant_id = v_campaign.tenant_id and e.campaign_id = v_campaign.id and e.status in ('active', 'paused')
      and t.version <> e.version
    order by e.id
  loop
    perform brainops_internal.replace_open_step(v_open.e, v_open.t);
  end loop;
  return v_campaign.version;
end;
$$;

comment on function brainops.publish_campaign(text, boolean, text) is
  'Puts the draft version of a campaign in force for new enrolments, and returns its number. p_code: the campaign''s code. p_move: running enrolments change to it too, each at the step with the same step_key or, if the version does not have it, at the next one. p_tenant: slug or id of the tenant; null for the caller''s. OP007: the tenant does not exist. OP020: the campaign does not exist. OP022: lists what prevents it from being published.';

alter function brainops.publish_campaign(text, boolean, text) owner to brainops_system;
revoke execute on function brainops.publish_campaign(text, boolean, text) from public;
grant execute
on function brainops.publish_campaign(text, boolean, text)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin;

create or replace function brainops.revise_campaign(p_code text, p_tenant text default null)
returns int
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_campaign public.campaigns := brainops_internal.campaign_of(p_tenant, p_code);
begin
  insert into public.campaign_steps
    (tenant_id, campaign_id, version, step_number, step_key, kind, name, template, delay, delay_from, next_step, config)
  select
    tenant_id, campaign_id, version + 1, step_number, step_key, kind, name, template, delay, delay_from, next_step, config
  from public.campaign_steps
  where tenant_id = v_campaign.tenant_id and campaign_id = v_campaign.id and version = v_campaign.version
    and not exists (
      select from public.campaign_steps as d
      where d.tenant_id = v_campaign.tenant_id and d.campaign_id = v_campaign.id and d.version > v_campaign.version
    );
  return v_campaign.version + 1;
end;
$$;

comment on function brainops.revise_campaign(text, text) is
  'Copies the steps in force, with their keys, as a draft to edit, and returns the draft''s version. An existing draft stays as it is. p_code, p_tenant and errors are those of publish_campaign, without OP022.';

alter function brainops.revise_campaign(text, text) owner to brainops_system;
revoke execute on function brainops.revise_campaign(text, text) from public;
grant execute
on function brainops.revise_campaign(text, text)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

create or replace function brainops_internal.campaign_of(p_tenant text, p_code text)
returns public.campaigns
language plpgsql
stable
set search_path = ''
as $$
declare
  -- A caller who may not name a tenant gets the same error whether or not that tenant exists.
  v_may_name boolean := brainops.may_name_tenant() or pg_catalog.pg_has_role(session_user, 'brainops_admin', 'member');
  v_tenant_id uuid := case when p_tenant is not null and v_may_name then brainops_internal.tenant_id_of(p_tenant) else brainops.current_tenant_id() end;
  v_campaign public.campaigns;
begin
  select c.* into v_campaign
    from public.campaigns as c
    inner join public.tenants as t on t.id = c.tenant_id
    where c.tenant_id = v_tenant_id and c.code = p_code and (p_tenant is null or v_may_name or p_tenant in (t.slug, t.id::text));
  if v_campaign.id is null then
    raise exception 'campaign: % does not exist in tenant %', quote_literal(p_code), coalesce(quote_literal(p_tenant), v_tenant_id::text, '(not given)')
      using errcode = 'OP020', hint = 'To list the codes: select code, status from campaigns. A caller that acts for no tenant also gives p_tenant, a slug or an id.';
  end if;
  return v_campaign;
end;
$$;

comment on function brainops_internal.campaign_of(text, text) is
  'A campaign by tenant (slug or id; null for the caller''s) and code. OP020 if it does not exist or is another tenant''s.';

revoke execute on function brainops_internal.campaign_of(text, text) from public;
grant execute
on function brainops_internal.campaign_of(text, text)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

-- For an enrolment that was moved to a version without the step that it is at. Goes back along the reached steps to the
-- last one that the version has. Continues with the next step that the enrolment has not reached, which is due when the
-- open one was. The caller holds the enrolment's lock.
create or replace function brainops_internal.replace_open_step(
  p_enrolment public.ai_nurture_campaigns,
  p_touch public.ai_campaign_touches
)
returns void
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_last int;
  v_next public.campaign_steps;
begin
  with recursive
    way (step_key, n) as (
      select p_touch.step_key, 0
      union all
      select t.step_key, w.n + 1
      from way as w
      inner join public.ai_campaign_touches as t on t.next_key = w.step_key
      where t.tenant_id = p_enrolment.tenant_id and t.campaign_id = p_enrolment.id
    )
  select s.step_number into v_last
    from way as w
    inner join public.campaign_steps as s on s.step_key = w.step_key
    where s.tenant_id = p_enrolment.tenant_id and s.campaign_id = p_enrolment.campaign_id and s.version = p_enrolment.version
    order by w.n
    limit 1;
  v_next := brainops_internal.step_from(p_enrolment, coalesce(v_last, 0) + 1);
  update public.ai_campaign_touches
  set
    performed_at = brainops.now(),
    outcome = 'skipped: version ' || p_enrolment.version || ' does not have it',
    next_key = v_next.step_key,
    -- If a worker has claimed the touch, this only requests its cancellation, and perform_touch finds it performed.
    status = 'cancelled'
  where id = p_touch.id;
  perform brainops_internal.advance_enrolment(p_enrolment, v_next, p_touch.due_at, p_touch.due_at);
end;
$$;

comment on function brainops_internal.replace_open_step(public.ai_nurture_campaigns, public.ai_campaign_touches) is
  'Replaces the open touch of an enrolment whose version does not have its step by the touch of the next step.';

alter function brainops_internal.replace_open_step(public.ai_nurture_campaigns, public.ai_campaign_touches)
owner to brainops_system;
revoke execute
on function brainops_internal.replace_open_step(public.ai_nurture_campaigns, public.ai_campaign_touches)
from public;

create or replace function brainops_internal.before_campaign_step()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_row public.campaign_steps := case when tg_op = 'DELETE' then old else new end;
  v_campaign public.campaigns;
begin
  if not brainops_internal.may_write_for(v_row.tenant_id) then
    -- Row level security will refuse the row; until then, nothing about the other tenant is revealed.
    return v_row;
  end if;
  -- Otherwise a published version could lose its steps to a draft.
  if tg_op = 'UPDATE' and (old.tenant_id, old.campaign_id) <> (new.tenant_id, new.campaign_id) then
    raise exception 'campaign_steps: step % cannot be moved to another campaign', quote_literal(old.step_key)
      using errcode = 'OP021', column = 'campaign_id', hint = 'Insert it into the other campaign, and delete it here.';
  end if;
  select * into v_campaign from public.campaigns where tenant_id = v_row.tenant_id and id = v_row.campaign_id;
  if not found then
    -- The campaign is being deleted with its steps, or the foreign key will refuse the row.
    return v_row;
  end if;
  if tg_op = 'INSERT' then
    new.version := coalesce(new.version, v_campaign.version + 1);
    new.step_key := coalesce(new.step_key, new.step_number::text);
    v_row := new;
  end if;
  if v_row.version <= v_campaign.version or (tg_op = 'UPDATE' and old.version <= v_campaign.version) then
    raise exception 'campaign_steps: version % of campaign % is published and cannot be changed', least(v_row.version, v_campaign.version), quote_literal(v_campaign.code)
      using errcode = 'OP021',
        hint = format('Create a draft with brainops.revise_campaign(%L), change its version %s, then publish it with brainops.publish_campaign(%L).', v_campaign.code, v_campaign.version + 1, v_campaign.code);
  end if;
  return v_row;
end;
$$;

comment on function brainops_internal.before_campaign_step is
  'Trigger of campaign_steps before insert, update or delete: fills in version (the draft''s) and step_key (the number). OP021: the version is published, or the step would move to another campaign.';

alter function brainops_internal.before_campaign_step() owner to brainops_system;
revoke execute on function brainops_internal.before_campaign_step() from public;
