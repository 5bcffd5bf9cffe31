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
      using errcode = 'OP009', hint = 'select step_name, status from ai_onboarding_steps where workflow_id = …';
  end if;
  update public.ai_onboarding_steps set status = 'completed' where tenant_id = v_step.tenant_id and id = v_step.id and status <> 'completed';
  return (select w.status from public.ai_onboarding_workflows as w where w.tenant_id = v_step.tenant_id and w.id = v_step.workflow_id);
end;
$$;

comment on function brainops.complete_onboarding_step(uuid, text) is
  'Completes a step by its name; twice is as once. Returns the workflow''s status.';

revoke execute on function brainops.complete_onboarding_step(uuid, text) from public;
grant execute
on function brainops.complete_onboarding_step(uuid, text)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

-- Begins the next step where none is in progress, and writes the workflow's books.
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
    -- Waits for whoever is closing this very step; then there may be another next one.
    update public.ai_onboarding_steps
    set status = 'in_progress'
    where tenant_id = p_tenant_id and id = v_next and status = 'pending';
  end loop;

  -- The last of several who close steps at once sees them all closed.
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
        when o.status = 'in_progress' and v_steps.open = 0 and v_steps.total >= o.total_steps then 'completed'
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

revoke execute on function brainops_internal.advance_onboarding(uuid, uuid) from public;
grant execute on function brainops_internal.advance_onboarding(uuid, uuid) to brainops_system;

-- Which workflow a step is for: the one that was inserted first, where its own was a second one.
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
    return new; -- for the policies to refuse
  end if;
  -- The same step again is no second one.
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
    raise exception 'workflow_id: step % belongs to its workflow for good', old.id
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
    raise exception 'status: step % is part of a paused onboarding, so it cannot begin', old.step_name
      using errcode = 'OP030', column = 'status', hint = 'Set the workflow to in_progress first; completed and skipped are taken meanwhile.';
  end if;
  if old.status = 'completed' and new.status in ('skipped', 'cancelled') then
    raise exception 'status: step % was completed at %, so it cannot become %', old.step_name, old.completed_at, new.status
      using errcode = 'OP030', column = 'status', hint = 'Set it to pending to do it again, or leave it.';
  end if;

  new.completed_at := case when new.status = 'completed' then brainops.now() end;
  new.problem := null;
  if new.status = 'in_progress' then
    new.started_at := brainops.now();
    -- A date that somebody has set stays; one that is over would be no date.
    if new.due_at is not distinct from old.due_at and (old.due_at is null or old.due_at <= brainops.now()) then
      new.due_at := brainops.now() + coalesce(new.duration, interval '3 days');
    end if;
    new.email_id := coalesce(old.email_id, case when new.body is not null then gen_random_uuid() end);
  end if;
  return new;
end;
$$;

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
      -- A template that no mail can be made of must not keep a lead from being won.
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

alter function brainops_internal.after_onboarding_step_delete() owner to brainops_system;
revoke execute on function brainops_internal.after_onboarding_step_delete() from public;

-- A step's own mail. Whatever goes wrong here must not cost the mail its outcome; what may pass
-- (a deadlock, say) is tried again with it.
create or replace function brainops_internal.after_onboarding_mail()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  if new.status = 'completed' then
    update public.ai_onboarding_steps
    set
      status = case when advance_on = 'email_sent' then 'completed' else status end,
      problem = null
    where tenant_id = new.tenant_id and email_id = new.id and status = 'in_progress';
  else
    update public.ai_onboarding_steps
    set problem = case
      when new.status in ('failed', 'skipped', 'cancelled', 'unconfirmed')
        then format('its mail is %s: %s', new.status, coalesce(new.skip_reason, new.last_error, 'no reason given'))
    end
    where tenant_id = new.tenant_id and email_id = new.id and status = 'in_progress';
  end if;
  return null;
exception
  when serialization_failure or deadlock_detected or lock_not_available or query_canceled then
    raise;
  when others then
    raise warning 'onboarding: step of mail % could not be moved on: %', new.id, sqlerrm;
    return null;
end;
$$;

alter function brainops_internal.after_onboarding_mail() owner to brainops_system;
revoke execute on function brainops_internal.after_onboarding_mail() from public;

-- Steps that an event completes, in any order; not by what happened before the onboarding began.
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

alter function brainops_internal.after_lead_events_onboarding() owner to brainops_system;
revoke execute on function brainops_internal.after_lead_events_onboarding() from public;
