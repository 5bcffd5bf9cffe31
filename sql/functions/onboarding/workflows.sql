-- Workflows: the onboarding of one lead. Start at start_onboarding (called by people) and after_lead_won (a lead
-- is won); both end in open_onboarding. The triggers keep the state machine that sql/0009-onboarding.sql draws;
-- steps.sql has the triggers of the steps.

create or replace function brainops.start_onboarding(p_lead_id uuid, p_reason text default 'asked for')
returns uuid
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_lead_id uuid := brainops_internal.find_lead(p_lead_id, null);
  v_tenant_id uuid;
begin
  if v_lead_id is null then
    raise exception 'lead_id: % is not a lead, or it belongs to another tenant', coalesce(p_lead_id::text, 'null')
      using errcode = 'OP009', hint = 'Give the id of one of your leads: select id, email from revenue_leads.';
  end if;
  select tenant_id into v_tenant_id from public.revenue_leads where id = v_lead_id;
  return brainops_internal.open_onboarding(v_tenant_id, v_lead_id, p_reason);
end;
$$;

comment on function brainops.start_onboarding(uuid, text) is
  'Starts the onboarding of a lead, and returns the id of its workflow in ai_onboarding_workflows; if the lead has one, in any status, returns that one. p_reason: stored in reason. OP009 if the lead does not exist or belongs to another tenant.';

alter function brainops.start_onboarding(uuid, text) owner to brainops_system;
revoke execute on function brainops.start_onboarding(uuid, text) from public;
grant execute
on function brainops.start_onboarding(uuid, text)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin;

create or replace function brainops_internal.open_onboarding(p_tenant_id uuid, p_lead_id uuid, p_reason text)
returns uuid
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_id uuid;
begin
  select id into v_id from public.ai_onboarding_workflows where tenant_id = p_tenant_id and lead_id = p_lead_id;
  if found then
    return v_id;
  end if;
  insert into public.ai_onboarding_workflows (tenant_id, lead_id, reason, template)
  select p_tenant_id, l.id, p_reason, coalesce(nullif(btrim(l.metadata ->> 'onboarding_template'), ''), 'default')
  from public.revenue_leads as l
  where l.tenant_id = p_tenant_id and l.id = p_lead_id
  returning id into v_id;
  if v_id is null then
    -- Another transaction inserted it first, and has committed by now.
    select id into v_id from public.ai_onboarding_workflows where tenant_id = p_tenant_id and lead_id = p_lead_id;
  end if;
  return v_id;
end;
$$;

comment on function brainops_internal.open_onboarding(uuid, uuid, text) is
  'The id of a lead''s workflow, which is created if the lead has none. Does not check what the caller may do: triggers and start_onboarding have checked it.';

alter function brainops_internal.open_onboarding(uuid, uuid, text) owner to brainops_system;
revoke execute on function brainops_internal.open_onboarding(uuid, uuid, text) from public;

create or replace function brainops_internal.after_lead_won()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  perform brainops_internal.open_onboarding(new.tenant_id, new.id, 'won');
  return null;
end;
$$;

comment on function brainops_internal.after_lead_won is
  'Trigger after insert or update on revenue_leads: starts the onboarding of a lead that was won.';

alter function brainops_internal.after_lead_won() owner to brainops_system;
revoke execute on function brainops_internal.after_lead_won() from public;

-- A second workflow of the same lead is not inserted: its id becomes an alias of the first one, so that steps
-- inserted for it find the first (resolve_onboarding_workflow).
create or replace function brainops_internal.before_onboarding_insert()
returns trigger
language plpgsql
-- A service that has not named a tenant does not see the workflows that exist.
security definer
set search_path = ''
as $$
begin
  -- Row level security refuses a row of another tenant after this trigger; until then nothing of that tenant is touched.
  if not brainops_internal.may_act_for(new.tenant_id) then
    return new;
  end if;
  new.status := brainops_internal.onboarding_status(coalesce(new.status, 'in_progress'), array['in_progress', 'paused', 'completed', 'cancelled']);
  new.template := coalesce(new.template, 'default');
  new.current_step := coalesce(new.current_step, 1);
  new.total_steps := coalesce(new.total_steps, 0);
  new.started_at := coalesce(new.started_at, brainops.now());
  new.completed_at := case when new.status = 'completed' then coalesce(new.completed_at, brainops.now()) end;
  new.paused_at := case when new.status = 'paused' then brainops.now() end;
  new.alias_ids := '{}';
  -- A concurrent insert for the same lead waits here, and then finds the first workflow.
  perform from public.revenue_leads where tenant_id = new.tenant_id and id = new.lead_id for no key update;
  update public.ai_onboarding_workflows
  set alias_ids = alias_ids || new.id
  where tenant_id = new.tenant_id and lead_id = new.lead_id and id <> new.id;
  if found then
    return null;
  end if;
  return new;
end;
$$;

comment on function brainops_internal.before_onboarding_insert is
  'Trigger before insert on ai_onboarding_workflows: fills defaults, and drops a second workflow of a lead.';

alter function brainops_internal.before_onboarding_insert() owner to brainops_system;
revoke execute on function brainops_internal.before_onboarding_insert() from public;

create or replace function brainops_internal.after_onboarding_insert()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  perform brainops_internal.make_onboarding_steps(new);
  perform brainops_internal.advance_onboarding(new.tenant_id, new.id);
  return null;
end;
$$;

comment on function brainops_internal.after_onboarding_insert is
  'Trigger after insert on ai_onboarding_workflows: creates the steps of the template, and starts the first one.';

alter function brainops_internal.after_onboarding_insert() owner to brainops_system;
revoke execute on function brainops_internal.after_onboarding_insert() from public;

create or replace function brainops_internal.make_onboarding_steps(p_workflow public.ai_onboarding_workflows)
returns void
language sql
set search_path = ''
as $$
  insert into public.ai_onboarding_steps
    (
      tenant_id,
      workflow_id,
      step_number,
      step_name,
      description,
      duration,
      subject,
      body,
      advance_on,
      remind,
      remind_before,
      escalate_after
    )
  select
    (p_workflow).tenant_id,
    (p_workflow).id,
    p.step_number,
    p.step_name,
    p.description,
    p.duration,
    p.subject,
    p.body,
    p.advance_on,
    p.remind,
    p.remind_before,
    p.escalate_after
  from brainops_internal.onboarding_steps_of((p_workflow).tenant_id, (p_workflow).template) as p;
$$;

comment on function brainops_internal.make_onboarding_steps(public.ai_onboarding_workflows) is
  'Inserts the steps of a workflow''s template.';

revoke execute on function brainops_internal.make_onboarding_steps(public.ai_onboarding_workflows) from public;
grant execute on function brainops_internal.make_onboarding_steps(public.ai_onboarding_workflows) to brainops_system;

create or replace function brainops_internal.before_onboarding_update()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  new.status := brainops_internal.onboarding_status(new.status, array['in_progress', 'paused', 'completed', 'cancelled']);
  if new.status = old.status then
    return new;
  end if;
  if old.status = 'completed' and new.status in ('paused', 'cancelled') then
    raise exception 'status: onboarding % was completed at %, so it cannot become %', old.id, old.completed_at, new.status
      using errcode = 'OP030', column = 'status', hint = 'To reopen it, set one of its steps to pending.';
  end if;
  if old.status = 'completed' and not exists (
    select from public.ai_onboarding_steps
    where tenant_id = old.tenant_id and workflow_id = old.id and status in ('pending', 'in_progress')
  ) then
    raise exception 'status: onboarding % was completed at %, and none of its steps is open', old.id, old.completed_at
      using errcode = 'OP030', column = 'status', hint = 'Set one of its steps to pending; that reopens the onboarding too.';
  end if;
  if old.status = 'cancelled' and new.status <> 'in_progress' then
    raise exception 'status: onboarding % is cancelled, so it cannot become %', old.id, new.status
      using errcode = 'OP030', column = 'status', hint = 'Set it to in_progress first.';
  end if;
  new.completed_at := case when new.status = 'completed' then coalesce(new.completed_at, brainops.now()) end;
  new.paused_at := case when new.status = 'paused' then brainops.now() end;
  return new;
end;
$$;

comment on function brainops_internal.before_onboarding_update is
  'Trigger before update on ai_onboarding_workflows: translates the status, and refuses changes that the state machine does not allow (OP030).';

alter function brainops_internal.before_onboarding_update() owner to brainops_system;
revoke execute on function brainops_internal.before_onboarding_update() from public;
grant execute on function brainops_internal.before_onboarding_update() to brainops_system;

create or replace function brainops_internal.after_onboarding_update()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  if new.status = 'completed' then
    update public.ai_onboarding_steps
    set status = 'skipped'
    where tenant_id = new.tenant_id and workflow_id = new.id and status in ('pending', 'in_progress');
    perform brainops_internal.record_lead_event(
      new.tenant_id, new.lead_id, 'onboarded', null, brainops.now(), new.id::text,
      jsonb_build_object('workflow_id', new.id)
    );
    return null;
  end if;
  if new.status = 'cancelled' then
    update public.ai_onboarding_steps
    set status = 'cancelled'
    where tenant_id = new.tenant_id and workflow_id = new.id and status in ('pending', 'in_progress');
    return null;
  end if;
  if old.status = 'cancelled' then
    update public.ai_onboarding_steps
    set status = 'pending', due_at = null
    where tenant_id = new.tenant_id and workflow_id = new.id and status = 'cancelled';
  end if;
  if old.status = 'paused' then
    -- Due dates move by the length of the pause.
    update public.ai_onboarding_steps
    set due_at = due_at + (brainops.now() - old.paused_at)
    where tenant_id = new.tenant_id and workflow_id = new.id and status in ('pending', 'in_progress') and due_at is not null;
  end if;
  if new.status = 'paused' then
    perform brainops_internal.set_onboarding_reminders(s)
    from public.ai_onboarding_steps as s
    where s.tenant_id = new.tenant_id and s.workflow_id = new.id and s.status = 'in_progress';
  end if;
  if new.status = 'in_progress' and old.status <> 'completed' then
    -- The workflow was inserted as paused or cancelled. A client that inserts its own steps has set total_steps, or has
    -- inserted some of them.
    if new.total_steps = 0 and not exists (
      select from public.ai_onboarding_steps where tenant_id = new.tenant_id and workflow_id = new.id
    ) then
      perform brainops_internal.make_onboarding_steps(new);
    end if;
    perform brainops_internal.advance_onboarding(new.tenant_id, new.id);
  end if;
  return null;
end;
$$;

comment on function brainops_internal.after_onboarding_update is
  'Trigger after update on ai_onboarding_workflows: applies the new status to the steps and reminders, and starts the next step.';

alter function brainops_internal.after_onboarding_update() owner to brainops_system;
revoke execute on function brainops_internal.after_onboarding_update() from public;
