-- Rules that enrol leads automatically: the triggers refuse a condition that is not valid.

select brainops.protect_table('public.campaign_rules');

revoke insert, update on public.campaign_rules from brainops_tenant, brainops_service;
grant
  insert (id, tenant_id, campaign_id, name, tiers, stages, sources, condition, leaves, active, created_at),
  update (id, tenant_id, campaign_id, name, tiers, stages, sources, condition, leaves, active, created_at)
on public.campaign_rules
to brainops_tenant, brainops_service;

create or replace trigger b0_before_campaign_rule
before insert on public.campaign_rules
for each row
when (new.condition is not null)
execute function brainops_internal.before_campaign_rule();

-- A stored rule whose condition is not valid may be renamed or switched off, but not on.
create or replace trigger b1_before_campaign_rule
before update on public.campaign_rules
for each row
when (new.condition is not null and (old.condition is distinct from new.condition or (new.active and not old.active)))
execute function brainops_internal.before_campaign_rule();

-- Each rule is evaluated for each new lead.
create or replace trigger c0_limit_rows
after insert on public.campaign_rules
referencing new table as inserted
for each statement
execute function brainops_internal.limit_rows('100');
