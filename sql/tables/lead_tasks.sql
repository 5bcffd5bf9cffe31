-- Tasks for a person, about a lead.

select brainops.protect_table('public.lead_tasks');

revoke insert, update on public.lead_tasks from brainops_tenant, brainops_service;
grant
  insert (
    id,
    tenant_id,
    lead_id,
    title,
    description,
    status,
    priority,
    due_at,
    assigned_to,
    touch_id,
    created_at,
    done_at
  ),
  update (
    id,
    tenant_id,
    lead_id,
    title,
    description,
    status,
    priority,
    due_at,
    assigned_to,
    touch_id,
    created_at,
    done_at
  )
on public.lead_tasks
to brainops_tenant, brainops_service;

create or replace trigger a0_resolve_lead_id
before insert on public.lead_tasks
for each row
when (new.lead_id is not null)
execute function brainops_internal.resolve_lead_id();

create or replace trigger b0_before_lead_task
before insert or update on public.lead_tasks
for each row
execute function brainops_internal.before_lead_task();
