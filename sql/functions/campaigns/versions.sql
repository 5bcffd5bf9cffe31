create or replace function brainops.publish_campaign(
  p_code text,
  p_move boolean default false,
  p_tenant text default null
)
returns int
language plpgsql
-- Tenants may not write campaigns.version; campaign_of refuses those of others.
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
      using errcode = 'OP022', hint = format('Mend the steps of version %s in campaign_steps, then publish again.', v_campaign.version);
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
  'Puts the draft version of a campaign in force, for new enrolments; with p_move running ones go on in it too, each at the step of the same step_key (or, where that is gone, at the next one). OP022 lists what keeps it from being published. Returns the version.';

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
  'Copies the steps in force, with their keys, as a draft to be edited; returns its version. A draft that is there already stays as it is.';

alter function brainops.revise_campaign(text, text) owner to brainops_system;
revoke execute on function brainops.revise_campaign(text, text) from public;
grant execute
on function brainops.revise_campaign(text, text)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

-- A campaign by its code, of the tenant that is named or of the one that asks.
create or replace function brainops_internal.campaign_of(p_tenant text, p_code text)
returns public.campaigns
language plpgsql
stable
set search_path = ''
as $$
declare
  -- Who may not name a tenant gets the same answer for a tenant that exists as for one that does not.
  v_may_name boolean := brainops.may_name_tenant() or pg_catalog.pg_has_role(session_user, 'brainops_admin', 'member');
  v_tenant_id uuid := case when p_tenant is not null and v_may_name then brainops_internal.tenant_id_of(p_tenant) else brainops.current_tenant_id() end;
  v_campaign public.campaigns;
begin
  select c.* into v_campaign
    from public.campaigns as c
    inner join public.tenants as t on t.id = c.tenant_id
    where c.tenant_id = v_tenant_id and c.code = p_code and (p_tenant is null or v_may_name or p_tenant in (t.slug, t.id::text));
  if v_campaign.id is null then
    raise exception 'campaign: % is no campaign of tenant %', quote_literal(p_code), coalesce(quote_literal(p_tenant), v_tenant_id::text, 'nobody')
      using errcode = 'OP020', hint = 'select code, status from campaigns; an admin names the tenant by its slug as well.';
  end if;
  return v_campaign;
end;
$$;

comment on function brainops_internal.campaign_of(text, text) is
  'A campaign by tenant (slug or id; null: the current one) and code; OP020 where there is none.';

revoke execute on function brainops_internal.campaign_of(text, text) from public;
grant execute
on function brainops_internal.campaign_of(text, text)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

-- Takes an enrolment, which the caller has locked and whose open step the version does not have, to
-- that version: to the first step that it has not reached yet, behind the last one on its way that
-- the version has too. It takes the open one's place in time.
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
    outcome = 'left out: version ' || p_enrolment.version || ' does not have it',
    next_key = v_next.step_key,
    -- Where a worker has it, this is a wish, and performing it finds it done.
    status = 'cancelled'
  where id = p_touch.id;
  perform brainops_internal.advance_enrolment(p_enrolment, v_next, p_touch.due_at, p_touch.due_at);
end;
$$;

alter function brainops_internal.replace_open_step(ai_nurture_campaigns, ai_campaign_touches) owner to brainops_system;
revoke execute on function brainops_internal.replace_open_step(ai_nurture_campaigns, ai_campaign_touches) from public;

create or replace function brainops_internal.before_campaign()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  if new.status <> 'active' or (tg_op = 'UPDATE' and old.status = 'active') then
    return new;
  end if;
  if new.version = 0 then
    raise exception 'campaigns: % has no published version, so it cannot be active', quote_literal(new.code)
      using errcode = 'OP022',
        hint = format('Insert it as draft with its campaign_steps, select brainops.publish_campaign(%L), then set status to active.', new.code);
  end if;
  perform brainops_internal.refuse_launch(new.tenant_id, s.channel)
  from (
    select distinct brainops_internal.touch_type_of(kind) as channel
    from public.campaign_steps
    where tenant_id = new.tenant_id and campaign_id = new.id and version = new.version and kind in ('send_email', 'send_sms')
    order by 1
  ) as s;
  new.launched_at := coalesce(new.launched_at, brainops.now());
  return new;
end;
$$;

alter function brainops_internal.before_campaign() owner to brainops_system;
revoke execute on function brainops_internal.before_campaign() from public;

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
  if brainops.current_tenant_id() <> v_row.tenant_id then
    -- As in enter_campaign: nothing of the other tenant is told before row level security refuses it.
    return v_row;
  end if;
  -- Else a published version would lose its steps to a draft.
  if tg_op = 'UPDATE' and (old.tenant_id, old.campaign_id) <> (new.tenant_id, new.campaign_id) then
    raise exception 'campaign_steps: step % belongs to its campaign for good', quote_literal(old.step_key)
      using errcode = 'OP021', column = 'campaign_id', hint = 'Insert it into the other campaign, and delete it here.';
  end if;
  select * into v_campaign from public.campaigns where tenant_id = v_row.tenant_id and id = v_row.campaign_id;
  if not found then
    -- The campaign goes, and its steps with it; or the foreign key says that there is none.
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
        hint = format('select brainops.revise_campaign(%L), change version %s, then brainops.publish_campaign(%L).', v_campaign.code, v_campaign.version + 1, v_campaign.code);
  end if;
  return v_row;
end;
$$;

alter function brainops_internal.before_campaign_step() owner to brainops_system;
revoke execute on function brainops_internal.before_campaign_step() from public;

create or replace function brainops_internal.before_campaign_template()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  if tg_op = 'INSERT' then
    new.version := coalesce(
      new.version,
      (
        select max(t.version) + 1
        from public.ai_campaign_templates as t
        where t.tenant_id = new.tenant_id and t.name = new.name and t.channel = new.channel
      ),
      1
    );
  elsif (new.subject, new.body, new.name, new.channel, new.version) is distinct from (old.subject, old.body, old.name, old.channel, old.version)
    and exists (
      select from public.ai_campaign_touches as t
      where t.tenant_id = old.tenant_id and t.content_template = old.name and t.template_version = old.version
    )
  then
    raise exception 'ai_campaign_templates: version % of % was sent to people and cannot be changed', old.version, quote_literal(old.name)
      using errcode = 'OP021', hint = 'Insert the template again: it becomes the next version, which touches take from then on.';
  end if;
  return new;
end;
$$;

alter function brainops_internal.before_campaign_template() owner to brainops_system;
revoke execute on function brainops_internal.before_campaign_template() from public;

-- Words that went to people stay, as long as a touch remembers them.
create or replace function brainops_internal.keep_sent_template()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  if exists (
    select from public.ai_campaign_touches as t
    where t.tenant_id = old.tenant_id and t.content_template = old.name and t.touch_type = old.channel
      and t.template_version = old.version
  ) then
    raise exception 'ai_campaign_templates: version % of % was sent to people and cannot be deleted', old.version, quote_literal(old.name)
      using errcode = 'OP021', hint = 'Leave it; touches take the newest version of a name.';
  end if;
  return old;
end;
$$;

comment on function brainops_internal.keep_sent_template is
  'A version of a template that touches were sent with is there to be read: what a person got can be shown to them.';

alter function brainops_internal.keep_sent_template() owner to brainops_system;
revoke execute on function brainops_internal.keep_sent_template() from public;

-- Whoever sends holds on to the words that it sends: a delete in the same moment waits, and is refused then.
create or replace function brainops_internal.hold_sent_template()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  perform from public.ai_campaign_templates as t
    where t.tenant_id = new.tenant_id and t.name = new.content_template and t.channel = new.touch_type
      and t.version = new.template_version
    for key share;
  if not found then
    raise exception 'content_template: version % of % was deleted while it was sent', new.template_version, quote_literal(new.content_template)
      using errcode = 'serialization_failure', hint = 'The touch is tried again, with the version that is the newest then.';
  end if;
  return new;
end;
$$;

comment on function brainops_internal.hold_sent_template is
  'The version that a touch was sent with is there when the touch says so, whoever deletes it meanwhile.';

alter function brainops_internal.hold_sent_template() owner to brainops_system;
revoke execute on function brainops_internal.hold_sent_template() from public;
