-- Tasks for a person, about a lead.

select brainops.protect_table('public.lead_tasks');

create or replace trigger a0_resolve_lead_id
before insert on public.lead_tasks
for each row
when (new.lead_id is not null)
execute function brainops_internal.resolve_lead_id();

create or replace trigger b0_before_lead_task
before insert or update on public.lead_tasks
for each row
execute function brainops_internal.before_lead_task();
