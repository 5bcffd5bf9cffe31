-- The campaigns and texts that come with BrainOps (sql/after/0003-campaign-library.sql). Each tenant gets a copy when
-- it is created, and may change it from then on: campaigns as drafts with version 1 published, templates as version 1.
-- Enrolments wait until the tenant launches the campaign by setting its status. Later additions to the library reach
-- existing tenants by ship_campaigns.

create or replace function brainops_internal.ship_campaigns(p_tenant_id uuid)
returns int
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_ids uuid[];
begin
  insert into public.ai_campaign_templates (tenant_id, name, channel, subject, body, version)
  select p_tenant_id, l.name, l.channel, l.subject, l.body, 1
  from brainops.library_templates as l
  where not exists (
    select from public.ai_campaign_templates as t
    where t.tenant_id = p_tenant_id and t.name = l.name and t.channel = l.channel
  );
  with shipped as (
    insert into public.campaigns (tenant_id, code, name, description, goal_event, exit_on)
    select p_tenant_id, l.code, l.name, l.description, l.goal_event, l.exit_on
    from brainops.library_campaigns as l
    on conflict (tenant_id, code) do nothing
    returning id
  )
  select coalesce(array_agg(id), '{}') into v_ids from shipped;

  insert into public.campaign_steps
    (tenant_id, campaign_id, version, step_number, step_key, kind, template, delay, delay_from, next_step, config)
  select
    p_tenant_id, c.id, 1, s.step_number, s.step_key, s.kind, s.template, coalesce(s.delay, '0'), coalesce(s.delay_from, 'previous'),
    s.next_step, coalesce(s.config, '{}')
  from public.campaigns as c
  inner join brainops.library_campaigns as l on l.code = c.code
  cross join jsonb_to_recordset(l.steps) as s (
    step_number int, step_key text, kind text, template text, delay interval, delay_from text, next_step int, config jsonb
  )
  where c.id = any (v_ids);
  insert into public.campaign_rules (tenant_id, campaign_id, name, tiers, stages, leaves)
  select
    p_tenant_id, c.id, l.rule ->> 'name', brainops_internal.text_array(l.rule -> 'tiers'), brainops_internal.text_array(l.rule -> 'stages'),
    coalesce(brainops_internal.text_array(l.rule -> 'leaves'), '{}')
  from public.campaigns as c
  inner join brainops.library_campaigns as l on l.code = c.code
  where c.id = any (v_ids) and l.rule is not null
  on conflict (tenant_id, name) do nothing;
  update public.campaigns set version = 1 where id = any (v_ids);
  return cardinality(v_ids);
end;
$$;

comment on function brainops_internal.ship_campaigns(uuid) is
  'Gives a tenant the campaigns, rules and templates of the library that it does not have yet, by code and name; what it has stays as it is. Returns the number of campaigns added.';

alter function brainops_internal.ship_campaigns(uuid) owner to brainops_system;
revoke execute on function brainops_internal.ship_campaigns(uuid) from public;
grant execute on function brainops_internal.ship_campaigns(uuid) to brainops_admin;
