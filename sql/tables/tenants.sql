-- Tenants see their own row; only admins write. The library's campaigns come with a new tenant, and a tenant that has
-- rows cannot be deleted.
alter table public.tenants enable row level security;
alter table public.tenants force row level security;

drop policy if exists own_tenant on public.tenants;
create policy own_tenant on public.tenants
for select
to brainops_tenant, brainops_worker, brainops_service
using (id = (select brainops.current_tenant_id()));

drop policy if exists every_row on public.tenants;
create policy every_row on public.tenants
for all
to brainops_admin, brainops_system
using (true)
with check (true);

grant usage
on schema public
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

grant select on public.tenants to brainops_tenant, brainops_worker, brainops_service;
grant select, insert, update, delete on public.tenants to brainops_admin, brainops_system;

create or replace trigger a0_before_tenant_delete
before delete on public.tenants
for each row
execute function brainops_internal.before_tenant_delete();

create or replace trigger a3_refuse_mail_from
before insert or update of settings on public.tenants
for each row
when (btrim(new.settings ->> 'mail_from') <> '' and not brainops_internal.is_mailbox(new.settings ->> 'mail_from'))
execute function brainops_internal.refuse_mail_from();

create or replace trigger a3_refuse_time_zone
before insert or update of time_zone on public.tenants
for each row
when (not brainops_internal.is_time_zone(new.time_zone))
execute function brainops_internal.refuse_time_zone();

create or replace trigger z0_touch_updated_at
before update on public.tenants
for each row
execute function brainops_internal.touch_updated_at();

create or replace trigger c0_after_tenant_insert
after insert on public.tenants
for each row
execute function brainops_internal.after_tenant_insert();

create or replace trigger d0_wake_notifications
after update of settings on public.tenants
for each row
when (old.settings is distinct from new.settings)
execute function brainops_internal.wake_notifications();
