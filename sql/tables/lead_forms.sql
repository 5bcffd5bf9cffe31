-- Forms that may post leads.
select brainops.protect_table('public.lead_forms');

revoke insert, update on public.lead_forms from brainops_tenant, brainops_service;
grant
  insert (id, tenant_id, name, source, defaults, active, created_at),
  update (id, tenant_id, name, source, defaults, active, created_at)
on public.lead_forms
to brainops_tenant, brainops_service;

-- Each form has an address of its own.
create or replace trigger c0_limit_rows
after insert on public.lead_forms
referencing new table as inserted
for each statement
execute function brainops_internal.limit_rows('100');
