-- Texts of campaigns, by version: the triggers keep versions that were sent.

select brainops.protect_table('public.ai_campaign_templates');

revoke insert, update on public.ai_campaign_templates from brainops_tenant, brainops_service;
grant
  insert (id, tenant_id, name, channel, subject, body, version, created_at),
  update (id, tenant_id, name, channel, subject, body, version, created_at)
on public.ai_campaign_templates
to brainops_tenant, brainops_service;

create or replace trigger b0_before_campaign_template
before insert or update on public.ai_campaign_templates
for each row
execute function brainops_internal.before_campaign_template();

create or replace trigger b1_keep_sent_template
before delete on public.ai_campaign_templates
for each row
execute function brainops_internal.keep_sent_template();
