-- The ledger of webhook events. Without protect_table, because tenant_id may be null: such an event is for admins only.
alter table public.webhook_events enable row level security;
alter table public.webhook_events force row level security;

drop policy if exists own_tenant on public.webhook_events;
create policy own_tenant on public.webhook_events
for select
to brainops_tenant, brainops_worker, brainops_service
using (tenant_id = (select brainops.current_tenant_id()));

drop policy if exists every_row on public.webhook_events;
create policy every_row on public.webhook_events
for all
to brainops_admin, brainops_system
using (true)
with check (true);

grant select on public.webhook_events to brainops_tenant, brainops_worker, brainops_service;
grant select, insert, update, delete on public.webhook_events to brainops_admin, brainops_system;

create or replace trigger b0_process_again
before update of status on public.webhook_events
for each row
when (old.status <> 'pending' and new.status = 'pending')
execute function brainops_internal.before_webhook_update();
