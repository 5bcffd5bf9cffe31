-- Tenants' contact rules. The trigger refuses a cap window for which the queues do not keep enough history.
select brainops.protect_table('public.contact_policies');

create or replace trigger b0_check_cap_window
before insert or update of cap_window on public.contact_policies
for each row
when (new.cap_window is not null)
execute function brainops_internal.check_cap_window();
