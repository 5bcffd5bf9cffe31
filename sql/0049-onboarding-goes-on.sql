-- Two ways in which an onboarding stood still for good. One that was inserted as paused (or cancelled) got no steps
-- when it went on. And cancelled and reopened, it waited for a welcome mail that was cancelled with it. Now a begun
-- onboarding without steps gets the template's, and a step that begins again takes its mail along.
-- Those that stand still already are in brainops.stuck_onboarding: pause them, then set them to in_progress again.
-- Old workers go on meanwhile: nothing but these functions changes.
set local lock_timeout = '2s';

create function brainops.make_onboarding_steps(p_workflow public.ai_onboarding_workflows)
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
  from brainops.onboarding_steps_of((p_workflow).tenant_id, (p_workflow).template) as p;
$$;

comment on function brainops.make_onboarding_steps is 'Gives a workflow the steps of its template.';

-- What became of a mail before its step began again is seen at the step again; what was only held back goes.
create function brainops.wake_onboarding_mail(p_step public.ai_onboarding_steps)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_mail public.ai_email_queue;
  v_problem text;
begin
  update public.ai_email_queue
  set status = 'pending'
  where tenant_id = (p_step).tenant_id and id = (p_step).email_id and status = 'cancelled' and sent_at is null;
  if found then
    return;
  end if;
  select * into v_mail from public.ai_email_queue where tenant_id = (p_step).tenant_id and id = (p_step).email_id;
  if v_mail.status in ('failed', 'skipped', 'unconfirmed') then
    v_problem := format('its mail is %s: %s', v_mail.status, coalesce(v_mail.skip_reason, v_mail.last_error, 'no reason given'));
  elsif v_mail.id is null and not exists (
    select from brainops.job_archive as a
    where a.tenant_id = (p_step).tenant_id and a.row_id = (p_step).email_id and a.status = 'completed'
  ) then
    v_problem := 'its mail was not sent and is no longer in the queue: write to the lead, then complete the step';
  end if;
  if v_problem is not null then
    update public.ai_onboarding_steps set problem = v_problem where tenant_id = (p_step).tenant_id and id = (p_step).id;
  end if;
end;
$$;

comment on function brainops.wake_onboarding_mail is
  'Queues the cancelled mail of a step that begins again; where it cannot go, the step says so.';

do $$
declare
  v_function regprocedure;
begin
  foreach v_function in array array[
    'brainops.make_onboarding_steps(public.ai_onboarding_workflows)',
    'brainops.wake_onboarding_mail(public.ai_onboarding_steps)'
  ]::regprocedure[]
  loop
    execute format('revoke execute on function %s from public', v_function);
    execute format('grant execute on function %s to brainops_system', v_function);
  end loop;
end;
$$;

create or replace function brainops.after_onboarding_insert()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  perform brainops.make_onboarding_steps(new);
  perform brainops.advance_onboarding(new.tenant_id, new.id);
  return null;
end;
$$;

create or replace function brainops.after_onboarding_step()
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
    perform brainops.wake_onboarding_mail(new);
  end if;
  if tg_op = 'INSERT' or v_old_status <> new.status or old.due_at is distinct from new.due_at
    or old.remind <> new.remind or old.remind_before <> new.remind_before or old.escalate_after is distinct from new.escalate_after
  then
    perform brainops.set_onboarding_reminders(new);
  end if;
  if v_old_status is distinct from new.status then
    perform brainops.advance_onboarding(new.tenant_id, new.workflow_id);
  end if;
  return null;
end;
$$;

create or replace function brainops.after_onboarding_update()
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
    perform brainops.record_lead_event(
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
    -- Nobody is late because of a pause.
    update public.ai_onboarding_steps
    set due_at = due_at + (brainops.now() - old.paused_at)
    where tenant_id = new.tenant_id and workflow_id = new.id and status in ('pending', 'in_progress') and due_at is not null;
  end if;
  if new.status = 'paused' then
    perform brainops.set_onboarding_reminders(s)
    from public.ai_onboarding_steps as s
    where s.tenant_id = new.tenant_id and s.workflow_id = new.id and s.status = 'in_progress';
  end if;
  if new.status = 'in_progress' and old.status <> 'completed' then
    -- It did not begin when it was inserted; whoever brings steps has said how many, or brought them.
    if new.total_steps = 0 and not exists (
      select from public.ai_onboarding_steps where tenant_id = new.tenant_id and workflow_id = new.id
    ) then
      perform brainops.make_onboarding_steps(new);
    end if;
    perform brainops.advance_onboarding(new.tenant_id, new.id);
  end if;
  return null;
end;
$$;
