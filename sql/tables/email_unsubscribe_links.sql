-- Tokens of unsubscribe links. Clients may not read them: a token unsubscribes its address.
-- No foreign key to tenants: c0_check_tenants and c1_check_tenants check all rows of a statement at once.
select brainops_internal.guard_table('public.email_unsubscribe_links', p_reference_tenants => false);

revoke all on public.email_unsubscribe_links from brainops_tenant, brainops_service;

create or replace trigger c0_check_tenants
after insert on public.email_unsubscribe_links
referencing new table as changed
for each statement
execute function brainops_internal.check_tenants();

create or replace trigger c1_check_tenants
after update on public.email_unsubscribe_links
referencing new table as changed
for each statement
execute function brainops_internal.check_tenants();
