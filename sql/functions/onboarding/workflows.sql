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
    raise exception 'lead_id: % is no lead of yours', coalesce(p_lead_id::text, 'null')
      using errcode = 'OP009', hint = 'Give the id of a row of revenue_leads.';
  end if;
  select tenant_id into v_tenant_id from public.revenue_leads where id = v_lead_id;
  return brainops_internal.open_onboarding(v_tenant_id, v_lead_id, p_reason);
end;
$$;

comment on function brainops.start_onboarding(uuid, text) is
  'Begins the onboarding of a lead and returns its workflow; the one there is, where it has begun.';

alter function brainops.start_onboarding(uuid, text) owner to brainops_system;
revoke execute on function brainops.start_onboarding(uuid, text) from public;
grant execute
on function brainops.start_onboarding(uuid, text)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin;

-- The rule without the question who asks: triggers have answered that.
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
    -- Another transaction was first, and is committed by now.
    select id into v_id from public.ai_onboarding_workflows where tenant_id = p_tenant_id and lead_id = p_lead_id;
  end if;
  return v_id;
end;
$$;

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

alter function brainops_internal.after_lead_won() owner to brainops_system;
revoke execute on function brainops_internal.after_lead_won() from public;

-- Words that clients write -> our words. Null for one that nobody knows.
create or replace function brainops_internal.normal_onboarding_status(p_word text)
returns text
language sql
immutable
parallel safe
set search_path = ''
as $$
  select
    case pg_catalog.lower(pg_catalog.btrim(p_word))
      when 'in_progress' then 'in_progress'
      when 'active' then 'in_progress'
      when 'started' then 'in_progress'
      when 'running' then 'in_progress'
      when 'reactivated' then 'in_progress'
      when 'pending' then 'pending'
      when 'not_started' then 'pending'
      when 'open' then 'pending'
      when 'new' then 'pending'
      when 'paused' then 'paused'
      when 'completed' then 'completed'
      when 'complete' then 'completed'
      when 'done' then 'completed'
      when 'skipped' then 'skipped'
      when 'cancelled' then 'cancelled'
      when 'canceled' then 'cancelled'
      when 'abandoned' then 'cancelled'
    end;
$$;

comment on function brainops_internal.normal_onboarding_status(text) is
  'The status of a workflow or step that a word means; null for an unknown word.';

revoke execute on function brainops_internal.normal_onboarding_status(text) from public;
grant execute
on function brainops_internal.normal_onboarding_status(text)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

-- The status that a word means, where the table has it.
create or replace function brainops_internal.onboarding_status(p_word text, p_known text[])
returns text
language plpgsql
immutable
set search_path = ''
as $$
declare
  v_status text := brainops_internal.normal_onboarding_status(p_word);
begin
  if v_status = 'pending' and v_status <> all (p_known) then
    v_status := 'in_progress';
  end if;
  if v_status is null or v_status <> all (p_known) then
    raise exception 'status: unknown word %', coalesce(quote_literal(left(p_word, 80)), 'null')
      using errcode = 'OP002', column = 'status', hint = 'Write one of ' || array_to_string(p_known, ', ') || '.';
  end if;
  return v_status;
end;
$$;

comment on function brainops_internal.onboarding_status(text, text[]) is
  'The status that a word means, of those that a table knows; OP002 for any other.';

revoke execute on function brainops_internal.onboarding_status(text, text[]) from public;
grant execute
on function brainops_internal.onboarding_status(text, text[])
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

create or replace function brainops_internal.before_onboarding_insert()
returns trigger
language plpgsql
-- A service that has named nobody does not see what is there already.
security definer
set search_path = ''
as $$
begin
  -- Another tenant's is refused by the policies, once this is over; until then nothing of it is touched.
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
  -- Whoever comes second with the same lead waits here, and then finds the first one's.
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

alter function brainops_internal.after_onboarding_insert() owner to brainops_system;
revoke execute on function brainops_internal.after_onboarding_insert() from public;

-- Two ways in which an onboarding stood still for good. One that was inserted as paused (or cancelled) got no steps
-- when it went on. And cancelled and reopened, it waited for a welcome mail that was cancelled with it. Now a begun
-- onboarding without steps gets the template's, and a step that begins again takes its mail along.
-- Those that stand still already are in brainops.stuck_onboarding: pause them, then set them to in_progress again.
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

comment on function brainops_internal.make_onboarding_steps is 'Gives a workflow the steps of its template.';

revoke execute on function brainops_internal.make_onboarding_steps(ai_onboarding_workflows) from public;
grant execute on function brainops_internal.make_onboarding_steps(ai_onboarding_workflows) to brainops_system;

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
      using errcode = 'OP030', column = 'status', hint = 'Reopen one of its steps (set it to pending), or leave it.';
  end if;
  if old.status = 'completed' and not exists (
    select from public.ai_onboarding_steps
    where tenant_id = old.tenant_id and workflow_id = old.id and status in ('pending', 'in_progress')
  ) then
    raise exception 'status: onboarding % was completed at %, and none of its steps is open', old.id, old.completed_at
      using errcode = 'OP030', column = 'status', hint = 'Reopen one of its steps (set it to pending): the onboarding follows.';
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
    -- Nobody is late because of a pause.
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
    -- It did not begin when it was inserted; whoever brings steps has said how many, or brought them.
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

alter function brainops_internal.after_onboarding_update() owner to brainops_system;
revoke execute on function brainops_internal.after_onboarding_update() from public;

-- What became of a mail before its step began again is seen at the step again; what was only held back goes.
create or replace function brainops_internal.wake_onboarding_mail(p_step public.ai_onboarding_steps)
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

comment on function brainops_internal.wake_onboarding_mail is
  'Queues the cancelled mail of a step that begins again; where it cannot go, the step says so.';

revoke execute on function brainops_internal.wake_onboarding_mail(ai_onboarding_steps) from public;
grant execute on function brainops_internal.wake_onboarding_mail(ai_onboarding_steps) to brainops_system;
