-- Movements of money, append only.
select brainops.protect_table('public.payment_ledger');

-- Only Stripe's events write it.
revoke insert, update, delete on public.payment_ledger from brainops_tenant, brainops_service;

create or replace trigger b0_append_only_truncate
before truncate on public.payment_ledger
for each statement
execute function brainops_internal.refuse_change();

create or replace trigger b0_append_only
before update or delete on public.payment_ledger
for each row
execute function brainops_internal.refuse_change();
