-- Steps of each version of a campaign: the triggers refuse changes to published versions.

select brainops.protect_table('public.campaign_steps');

revoke insert, update on public.campaign_steps from brainops_tenant, brainops_service;
grant
  insert (
    id,
    tenant_id,
    campaign_id,
    version,
    step_number,
    step_key,
    kind,
    name,
    template,
    delay,
    delay_from,
    next_step,
    config,
    created_at
  ),
  update (
    id,
    tenant_id,
    campaign_id,
    version,
    step_number,
    step_key,
    kind,
    name,
    template,
    delay,
    delay_from,
    next_step,
    config,
    created_at
  )
on public.campaign_steps
to brainops_tenant, brainops_service;

create or replace trigger b0_before_campaign_step
before insert or delete on public.campaign_steps
for each row
execute function brainops_internal.before_campaign_step();

create or replace trigger b1_before_campaign_step
before update on public.campaign_steps
for each row
when (old is distinct from new)
execute function brainops_internal.before_campaign_step();
