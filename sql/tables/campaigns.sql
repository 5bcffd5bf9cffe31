-- Sequences of a tenant: a launch is checked here, and a change of status holds, releases or ends the enrolments.

select brainops.protect_table('public.campaigns');

-- version is written by brainops.publish_campaign only.
revoke insert, update on public.campaigns from brainops_tenant, brainops_service;
grant
  insert (id, tenant_id, code, name, description, status, goal_event, exit_on, reentry, created_at),
  update (name, description, status, goal_event, exit_on, reentry)
on public.campaigns
to brainops_tenant, brainops_service;

create or replace trigger b0_before_campaign
before insert or update on public.campaigns
for each row
execute function brainops_internal.before_campaign();

create or replace trigger z0_touch_updated_at
before update on public.campaigns
for each row
execute function brainops_internal.touch_updated_at();

create or replace trigger c0_after_campaign_status
after update on public.campaigns
for each row
when (old.status is distinct from new.status)
execute function brainops_internal.after_campaign_status();
