-- How an onboarding advances. A step is completed by a person (complete_onboarding_step or an update), by an event
-- of the lead, or by its own mail (step-mail.sql); advance_onboarding then starts the next one, and completes the
-- workflow after the last.

create or replace function brainops.complete_onboarding_step(p_workflow_id uuid, p_step_name text)
returns text
language plpgsql
set search_path = ''
as $$
declare
  v_step public.ai_onboarding_steps;
begin
  select s.* into v_step from public.ai_onboarding_steps as s
    where s.step_name = p_step_name
      and s.workflow_id in (
        select w.id from public.ai_onboarding_workflows as w where w.id = p_workflow_id or w.alias_ids @> array[p_workflow_id]
      );
  if not found then
    raise exception 'step: onboarding % has no step %', coalesce(p_workflow_id::text, 'null'), coalesce(quote_literal(p_step_name), 'null')
      using errcode = 'OP009', hint = 'List its steps: select step_name, status from ai_onboarding_steps where workflow_id = ….';
  end if;
  update public.ai_onboarding_steps set status = 'completed' where tenant_id = v_step.tenant_id and id = v_step.id and status <> 'completed';
  return (select w.status from public.ai_onboarding_workflows as w where w.tenant_id = v_step.tenant_id and w.id = v_step.workflow_id);
end;
$$;

comment on function brainops.complete_onboarding_step(uuid, text) is
  'Completes a step of a workflow by its name, e.g. data_collection, and returns the workflow''s status afterwards. Idempotent. OP009 if the workflow has no such step, or belongs to another tenant.';

revoke execute on function brainops.complete_onboarding_step(uuid, text) from public;
grant execute
on function brainops.complete_onboarding_step(uuid, text)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

-- Locks in the order step, workflow.
create or replace function brainops_internal.advance_onboarding(p_tenant_id uuid, p_workflow_id uuid)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_next uuid;
  v_steps record;
begin
  loop
    select s.id into v_next
      from public.ai_onboarding_workflows as w
      inner join public.ai_onboarding_steps as s on s.tenant_id = w.tenant_id and s.workflow_id = w.id
      where w.tenant_id = p_tenant_id and w.id = p_workflow_id and w.status in ('in_progress', 'completed')
        and s.status = 'pending'
        and not exists (
          select from public.ai_onboarding_steps as o
          where o.tenant_id = w.tenant_id and o.workflow_id = w.id and o.status = 'in_progress'
        )
      order by s.step_number
      limit 1;
    exit when v_next is null;
    -- Waits for a transaction that is closing this step; afterwards the loop looks for the next one.
    update public.ai_onboarding_steps
    set status = 'in_progress'
    where tenant_id = p_tenant_id and id = v_next and status = 'pending';
  end loop;

  -- Of several transactions that close steps at once, the last one sees them all closed.
  perform from public.ai_onboarding_workflows where tenant_id = p_tenant_id and id = p_workflow_id for no key update;
  select
    count(*)::int as total,
    count(*) filter (where s.status in ('pending', 'in_progress'))::int as open,
    coalesce(
      min(s.step_number) filter (where s.status = 'in_progress'),
      min(s.step_number) filter (where s.status = 'pending'),
      max(s.step_number)
    ) as current
    into v_steps
    from public.ai_onboarding_steps as s
    where s.tenant_id = p_tenant_id and s.workflow_id = p_workflow_id;
  if v_steps.total = 0 then
    return;
  end if;
  update public.ai_onboarding_workflows as w
  set
    current_step = v_steps.current,
    total_steps = n.total,
    status = n.status,
    completed_at = case when n.status = 'completed' then coalesce(w.completed_at, brainops.now()) end
  from (
    select
      greatest(o.total_steps, v_steps.total) as total,
      case
        -- A paused onboarding starts nothing, but its steps may be closed, and then nothing is left to start.
        when o.status in ('in_progress', 'paused') and v_steps.open = 0 and v_steps.total >= o.total_steps then 'completed'
        when o.status = 'completed' and v_steps.open > 0 then 'in_progress'
        else o.status
      end as status
    from public.ai_onboarding_workflows as o
    where o.tenant_id = p_tenant_id and o.id = p_workflow_id
  ) as n
  where w.tenant_id = p_tenant_id and w.id = p_workflow_id
    and (w.current_step, w.total_steps, w.status) is distinct from (v_steps.current, n.total, n.status);
end;
$$;

comment on function brainops_internal.advance_onboarding(uuid, uuid) is
  'Starts the first pending step if none is in progress, and updates the workflow: its current step, its number of steps, and its status.';

revoke execute on function brainops_internal.advance_onboarding(uuid, uuid) from public;
grant execute on function brainops_internal.advance_onboarding(uuid, uuid) to brainops_system;

create or replace function brainops_internal.after_lead_events_onboarding()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_step_id uuid;
begin
  for v_step_id in
    select s.id
    from inserted as e
    inner join public.ai_onboarding_workflows as w on w.tenant_id = e.tenant_id and w.lead_id = e.lead_id
    inner join public.ai_onboarding_steps as s
      on s.tenant_id = w.tenant_id and s.workflow_id = w.id and s.advance_on = e.event
    where s.status in ('pending', 'in_progress') and w.status in ('in_progress', 'paused') and e.occurred_at >= w.started_at
    order by s.id
  loop
    update public.ai_onboarding_steps set status = 'completed' where id = v_step_id and status in ('pending', 'in_progress');
  end loop;
  return null;
end;
$$;

comment on function brainops_internal.after_lead_events_onboarding is
  'Trigger after insert on lead_events: completes steps whose advance_on is the event, in any order. Events from before the onboarding started do not count.';

alter function brainops_internal.after_lead_events_onboarding() owner to brainops_system;
revoke execute on function brainops_internal.after_lead_events_onboarding() from public;
