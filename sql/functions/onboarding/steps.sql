-- Steps of an onboarding: the triggers that fill them in, keep the state machine of sql/0009-onboarding.sql, and
-- let mail (step-mail.sql), reminders (reminders.sql) and workflow (advance.sql) follow a step's status.

create or replace function brainops_internal.resolve_onboarding_workflow()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_workflow public.ai_onboarding_workflows;
begin
  select * into v_workflow from public.ai_onboarding_workflows as w
    where w.alias_ids @> array[new.workflow_id]
      and (new.tenant_id is null or w.tenant_id = new.tenant_id)
      and (w.tenant_id = brainops.current_tenant_id() or brainops.may_name_tenant()
        or pg_catalog.pg_has_role(session_user, 'brainops_admin', 'member'))
    limit 1;
  if found then
    new.workflow_id := v_workflow.id;
    if exists (
      select from public.ai_onboarding_steps
      where tenant_id = v_workflow.tenant_id and workflow_id = v_workflow.id and step_number = new.step_number
    ) then
      return null;
    end if;
  end if;
  return new;
end;
$$;

comment on function brainops_internal.resolve_onboarding_workflow is
  'Trigger before insert on ai_onboarding_steps: if the step''s workflow was not inserted, because the lead had one already, assigns the step to that first workflow, unless its number is taken there.';

alter function brainops_internal.resolve_onboarding_workflow() owner to brainops_system;
revoke execute on function brainops_internal.resolve_onboarding_workflow() from public;

create or replace function brainops_internal.before_onboarding_step_insert()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_plan brainops.onboarding_plan;
begin
  if not brainops_internal.may_act_for(new.tenant_id) then
    return new; -- row level security refuses it
  end if;
  -- The same step inserted again is dropped.
  if exists (
    select from public.ai_onboarding_steps
    where tenant_id = new.tenant_id and workflow_id = new.workflow_id
      and step_number = new.step_number and step_name = new.step_name and id <> new.id
  ) then
    return null;
  end if;
  new.status := brainops_internal.onboarding_status(
    coalesce(new.status, 'pending'), array['pending', 'in_progress', 'completed', 'skipped', 'cancelled']
  );
  if new.duration is null then
    select p.* into v_plan
      from public.ai_onboarding_workflows as w
      cross join lateral brainops_internal.onboarding_steps_of(w.tenant_id, w.template) as p
      where w.tenant_id = new.tenant_id and w.id = new.workflow_id and p.step_name = new.step_name;
    new.duration := coalesce(v_plan.duration, interval '3 days');
    new.description := coalesce(new.description, v_plan.description, '');
    if new.body is null then
      new.subject := v_plan.subject;
      new.body := v_plan.body;
    end if;
    new.advance_on := coalesce(new.advance_on, v_plan.advance_on);
    new.remind := coalesce(new.remind, v_plan.remind, 'owner');
    new.remind_before := coalesce(new.remind_before, v_plan.remind_before, interval '1 day');
    new.escalate_after := coalesce(new.escalate_after, v_plan.escalate_after, interval '1 day');
  end if;
  new.remind := coalesce(new.remind, 'nobody');
  new.remind_before := coalesce(new.remind_before, '0');
  new.completed_at := case when new.status = 'completed' then coalesce(new.completed_at, brainops.now()) end;
  if new.status = 'in_progress' then
    new.started_at := coalesce(new.started_at, brainops.now());
    new.due_at := coalesce(new.due_at, new.started_at + new.duration);
    new.email_id := case when new.body is not null then gen_random_uuid() end;
  else
    new.email_id := null;
  end if;
  return new;
end;
$$;

comment on function brainops_internal.before_onboarding_step_insert is
  'Trigger before insert on ai_onboarding_steps: drops a step that exists, and fills what is not given from the template''s step of the same name.';

alter function brainops_internal.before_onboarding_step_insert() owner to brainops_system;
revoke execute on function brainops_internal.before_onboarding_step_insert() from public;

create or replace function brainops_internal.before_onboarding_step_update()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_workflow_status text;
begin
  new.status := brainops_internal.onboarding_status(new.status, array['pending', 'in_progress', 'completed', 'skipped', 'cancelled']);
  if new.tenant_id <> old.tenant_id or new.workflow_id <> old.workflow_id then
    raise exception 'workflow_id: step % cannot be moved to another workflow', old.id
      using errcode = 'OP030', column = 'workflow_id', hint = 'Insert a step of the other workflow instead.';
  end if;
  if new.status = old.status then
    return new;
  end if;
  select w.status into v_workflow_status from public.ai_onboarding_workflows as w
    where w.tenant_id = new.tenant_id and w.id = new.workflow_id;
  if v_workflow_status = 'cancelled' and new.status <> 'cancelled' then
    raise exception 'status: step % is part of a cancelled onboarding, so it cannot become %', old.step_name, new.status
      using errcode = 'OP030', column = 'status', hint = 'Set the workflow to in_progress first.';
  end if;
  if v_workflow_status = 'paused' and new.status = 'in_progress' then
    raise exception 'status: step % is part of a paused onboarding, so it cannot start', old.step_name
      using errcode = 'OP030', column = 'status', hint = 'Set the workflow to in_progress first. While it is paused, a step may be completed or skipped.';
  end if;
  if old.status = 'completed' and new.status in ('skipped', 'cancelled') then
    raise exception 'status: step % was completed at %, so it cannot become %', old.step_name, old.completed_at, new.status
      using errcode = 'OP030', column = 'status', hint = 'To do it again, set it to pending.';
  end if;

  new.completed_at := case when new.status = 'completed' then brainops.now() end;
  new.problem := null;
  if new.status = 'in_progress' then
    new.started_at := brainops.now();
    -- Keeps a date that this update sets, and an existing date unless it has passed.
    if new.due_at is not distinct from old.due_at and (old.due_at is null or old.due_at <= brainops.now()) then
      new.due_at := brainops.now() + coalesce(new.duration, interval '3 days');
    end if;
    new.email_id := coalesce(old.email_id, case when new.body is not null then gen_random_uuid() end);
  end if;
  return new;
end;
$$;

comment on function brainops_internal.before_onboarding_step_update is
  'Trigger before update on ai_onboarding_steps: translates the status, refuses changes that the state machine does not allow (OP030), and sets times and the due date.';

alter function brainops_internal.before_onboarding_step_update() owner to brainops_system;
revoke execute on function brainops_internal.before_onboarding_step_update() from public;

create or replace function brainops_internal.after_onboarding_step()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_old_status text := case when tg_op = 'UPDATE' then old.status end;
begin
  if new.email_id is not null and (tg_op = 'INSERT' or old.email_id is null) then
    begin
      insert into public.ai_email_queue (id, tenant_id, recipient, subject, body, metadata, idempotency_key, scheduled_for)
      select
        new.email_id, new.tenant_id, w.lead_id::text, new.subject, new.body,
        jsonb_build_object('type', 'onboarding', 'onboarding_step', new.step_name, 'onboarding_workflow_id', w.id),
        'onboarding:' || new.id, brainops.now()
      from public.ai_onboarding_workflows as w
      where w.tenant_id = new.tenant_id and w.id = new.workflow_id
      on conflict (tenant_id, idempotency_key) where idempotency_key is not null do nothing;
    exception
      -- A template that cannot be sent must not prevent a lead from being won.
      when sqlstate 'OP004' or sqlstate 'OP005' then
        update public.ai_onboarding_steps
        set email_id = null, problem = 'its mail could not be queued: ' || sqlerrm
        where tenant_id = new.tenant_id and id = new.id;
    end;
  elsif new.status in ('skipped', 'cancelled') and new.email_id is not null then
    update public.ai_email_queue
    set status = 'cancelled'
    where tenant_id = new.tenant_id and id = new.email_id and status = 'pending';
  elsif new.status = 'in_progress' and v_old_status <> 'in_progress' and new.email_id is not null then
    perform brainops_internal.wake_onboarding_mail(new);
  end if;
  if tg_op = 'INSERT' or v_old_status <> new.status or old.due_at is distinct from new.due_at
    or old.remind <> new.remind or old.remind_before <> new.remind_before or old.escalate_after is distinct from new.escalate_after
  then
    perform brainops_internal.set_onboarding_reminders(new);
  end if;
  if v_old_status is distinct from new.status then
    perform brainops_internal.advance_onboarding(new.tenant_id, new.workflow_id);
  end if;
  return null;
end;
$$;

comment on function brainops_internal.after_onboarding_step is
  'Trigger after insert or update on ai_onboarding_steps: queues or cancels the step''s mail, sets its reminders, and advances the workflow.';

alter function brainops_internal.after_onboarding_step() owner to brainops_system;
revoke execute on function brainops_internal.after_onboarding_step() from public;

create or replace function brainops_internal.after_onboarding_step_delete()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  update public.ai_onboarding_workflows
  set total_steps = greatest(total_steps - 1, 1)
  where tenant_id = old.tenant_id and id = old.workflow_id;
  if found then
    perform brainops_internal.advance_onboarding(old.tenant_id, old.workflow_id);
  end if;
  return null;
end;
$$;

comment on function brainops_internal.after_onboarding_step_delete is
  'Trigger after delete on ai_onboarding_steps: counts the workflow''s steps again, and advances it.';

alter function brainops_internal.after_onboarding_step_delete() owner to brainops_system;
revoke execute on function brainops_internal.after_onboarding_step_delete() from public;
