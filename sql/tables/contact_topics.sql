-- Topics of the preference page, written by their tenant.
select brainops.protect_table('public.contact_topics');

revoke insert, update on public.contact_topics from brainops_tenant, brainops_service;
grant
  insert (id, tenant_id, code, name, description, campaign_codes, created_at),
  update (id, tenant_id, code, name, description, campaign_codes, created_at)
on public.contact_topics
to brainops_tenant, brainops_service;

-- The preference page shows all of them.
create or replace trigger c0_limit_rows
after insert on public.contact_topics
referencing new table as inserted
for each statement
execute function brainops_internal.limit_rows('100');
