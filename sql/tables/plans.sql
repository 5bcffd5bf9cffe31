-- Prices. Policies of its own, because a row without a tenant is for every tenant: all tenants read it, and only admins
-- write it.
alter table public.plans enable row level security;
alter table public.plans force row level security;

drop policy if exists select_own_and_common on public.plans;
create policy select_own_and_common on public.plans
for select
to brainops_tenant, brainops_worker, brainops_service
using (tenant_id is null or tenant_id = (select brainops.current_tenant_id()));

drop policy if exists insert_own on public.plans;
create policy insert_own on public.plans
for insert
to brainops_tenant, brainops_worker, brainops_service
with check (
  tenant_id = (select brainops.current_tenant_id())
  or (tenant_id is not null and (select brainops.may_name_tenant()))
);

drop policy if exists update_own on public.plans;
create policy update_own on public.plans
for update
to brainops_tenant, brainops_worker, brainops_service
using (tenant_id = (select brainops.current_tenant_id()))
with check (tenant_id = (select brainops.current_tenant_id()));

drop policy if exists delete_own on public.plans;
create policy delete_own on public.plans
for delete
to brainops_tenant, brainops_worker, brainops_service
using (tenant_id = (select brainops.current_tenant_id()));

drop policy if exists every_row on public.plans;
create policy every_row on public.plans
for all
to brainops_admin, brainops_system
using (true)
with check (true);

alter table public.plans
alter column tenant_id set default nullif(current_setting('brainops.statement_tenant', true), '')::uuid;

select brainops_internal.grant_to_clients('public.plans');

revoke insert, update on public.plans from brainops_tenant, brainops_service;
grant
  insert (
    id,
    tenant_id,
    code,
    name,
    amount,
    currency,
    amount_minor,
    "interval",
    lead_id,
    active,
    created_at,
    updated_at
  ),
  update (
    id,
    tenant_id,
    code,
    name,
    amount,
    currency,
    amount_minor,
    "interval",
    lead_id,
    active,
    created_at,
    updated_at
  )
on public.plans
to brainops_tenant, brainops_service;

create or replace trigger a0_remember_tenant
before insert on public.plans
for each statement
execute function brainops_internal.remember_tenant();

create or replace trigger a0_resolve_lead_id
before insert on public.plans
for each row
when (new.lead_id is not null)
execute function brainops_internal.resolve_lead_id();

create or replace trigger a1_fill_tenant
before insert on public.plans
for each row
when (new.tenant_id is null)
execute function brainops_internal.fill_plan_tenant();

create or replace trigger a2_check_plan
before insert or update on public.plans
for each row
execute function brainops_internal.check_plan();

create or replace trigger z0_touch_updated_at
before update on public.plans
for each row
execute function brainops_internal.touch_updated_at();
