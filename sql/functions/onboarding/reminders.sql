-- Reminders of steps that are due, as rows of a job table. set_onboarding_reminders makes them,
-- gate_onboarding_reminder skips those that no longer apply, and send_onboarding_reminder is the effect of the
-- task onboarding_reminder__send.

create or replace function brainops_internal.set_onboarding_reminders(p_step public.ai_onboarding_steps)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_runs boolean := p_step.status = 'in_progress' and p_step.due_at is not null and exists (
    select from public.ai_onboarding_workflows
    where tenant_id = p_step.tenant_id and id = p_step.workflow_id and status = 'in_progress'
  );
begin
  update public.onboarding_reminders
  set status = 'cancelled'
  where tenant_id = p_step.tenant_id and step_id = p_step.id and status = 'pending'
    and (not v_runs or due_at <> p_step.due_at);
  if not v_runs then
    return;
  end if;
  insert into public.onboarding_reminders as r (tenant_id, workflow_id, step_id, kind, due_at, scheduled_for)
  select p_step.tenant_id, p_step.workflow_id, p_step.id, k.kind, p_step.due_at, k.at
  from (
    values
      ('reminder', p_step.due_at - p_step.remind_before, p_step.remind <> 'nobody'),
      ('escalation', p_step.due_at + p_step.escalate_after, p_step.escalate_after is not null)
  ) as k (kind, at, wanted)
  where k.wanted
    -- A reminder that was sent for an earlier date is not sent at once for a later one.
    and (k.at > brainops.now() or not exists (
      select from public.onboarding_reminders as sent
      where sent.tenant_id = p_step.tenant_id and sent.step_id = p_step.id and sent.kind = k.kind and sent.status = 'completed'
    ))
  on conflict (tenant_id, step_id, kind, due_at) do update
    set status = 'pending', scheduled_for = excluded.scheduled_for
    where r.status in ('pending', 'cancelled')
      and (r.status, r.scheduled_for) is distinct from ('pending', excluded.scheduled_for);
end;
$$;

comment on function brainops_internal.set_onboarding_reminders(public.ai_onboarding_steps) is
  'Creates, moves and cancels the reminders of a step, so that they match its status and due date.';

revoke execute on function brainops_internal.set_onboarding_reminders(public.ai_onboarding_steps) from public;
grant execute on function brainops_internal.set_onboarding_reminders(public.ai_onboarding_steps) to brainops_system;

create or replace function brainops_internal.gate_onboarding_reminder(p_ids uuid[])
returns setof brainops.verdict
language sql
stable
set search_path = ''
as $$
  select
    r.id,
    'skip',
    null::timestamptz,
    case
      when w.status <> 'in_progress' then 'the onboarding is ' || w.status
      when s.status <> 'in_progress' then 'the step is ' || s.status
      else 'the due date of the step has changed'
    end
  from
    public.onboarding_reminders as r
    inner join public.ai_onboarding_steps as s on s.tenant_id = r.tenant_id and s.id = r.step_id
    inner join public.ai_onboarding_workflows as w on w.tenant_id = s.tenant_id and w.id = s.workflow_id
  where
    r.id = any (p_ids)
    and (w.status <> 'in_progress' or s.status <> 'in_progress' or s.due_at is distinct from r.due_at);
$$;

comment on function brainops_internal.gate_onboarding_reminder(uuid[]) is
  'Which of these reminders no longer apply, and why: the step or the workflow is not in progress, or the due date has changed.';

revoke execute on function brainops_internal.gate_onboarding_reminder(uuid[]) from public;
grant execute on function brainops_internal.gate_onboarding_reminder(uuid[]) to brainops_worker, brainops_system;

-- Idempotent: what it queues has idempotency keys made of the reminder's id.
create or replace function brainops_internal.send_onboarding_reminder(p_id uuid)
returns text
language plpgsql
set search_path = ''
as $$
declare
  v_reminder public.onboarding_reminders;
  v_step public.ai_onboarding_steps;
  v_workflow public.ai_onboarding_workflows;
  v_lead public.revenue_leads;
  v_tenant public.tenants;
  v_who text;
  v_what text;
  v_due text;
  v_owner text;
begin
  select * into strict v_reminder from public.onboarding_reminders where id = p_id;
  -- A transaction that closes the step waits until this one ends.
  select * into v_step from public.ai_onboarding_steps
    where tenant_id = v_reminder.tenant_id and id = v_reminder.step_id
    for share;
  select * into v_workflow from public.ai_onboarding_workflows where tenant_id = v_step.tenant_id and id = v_step.workflow_id;
  if v_step.status <> 'in_progress' or v_workflow.status <> 'in_progress' then
    return format('the step is %s and the onboarding is %s', v_step.status, v_workflow.status);
  end if;
  select * into v_lead from public.revenue_leads where tenant_id = v_workflow.tenant_id and id = v_workflow.lead_id;
  select * into v_tenant from public.tenants where id = v_workflow.tenant_id;
  v_who := coalesce(nullif(btrim(v_lead.contact_name), ''), nullif(btrim(v_lead.company_name), ''), v_lead.email, 'a customer');
  v_what := replace(v_step.step_name, '_', ' ');
  v_due := to_char(v_reminder.due_at at time zone coalesce(v_lead.time_zone, v_tenant.time_zone), 'FMDay, FMDD FMMonth YYYY');
  v_owner := coalesce(nullif(btrim(v_lead.owner_email), ''), nullif(btrim(v_tenant.settings ->> 'notify_email'), ''));

  if v_reminder.kind = 'escalation' then
    perform brainops.notify(
      v_reminder.tenant_id,
      format('Onboarding of %s is overdue: %s', v_who, v_what),
      format(
        E'Step %s of %s, "%s", was due on %s and is still open.\n%s%s\nComplete or skip it: update ai_onboarding_steps set status = ''completed'' where id = ''%s''',
        v_step.step_number, v_workflow.total_steps, v_what, v_due, v_step.description,
        case when v_step.problem is not null then E'\nProblem: ' || v_step.problem else '' end, v_step.id
      ),
      'onboarding_escalation:' || v_reminder.id,
      v_workflow.lead_id
    );
    return null;
  end if;

  if v_step.remind in ('customer', 'both') then
    insert into public.ai_email_queue (tenant_id, recipient, subject, body, metadata, idempotency_key, scheduled_for)
    values (
      v_reminder.tenant_id, v_lead.id::text,
      'Next step with {{ tenant.name }}: {{ step.name }}',
      '<p>Hello{% if lead.contact_name %} {{ lead.contact_name }}{% endif %},</p><p>the next step is: {{ step.name }}'
        || '{% if step.description != "" %} ({{ step.description }}){% endif %}. We would like to finish it by {{ step.due }}.</p>'
        || '<p>If something is unclear, or the date does not suit you, reply to this email.</p><p>{{ tenant.name }}</p>',
      jsonb_build_object(
        'type', 'onboarding',
        'onboarding_workflow_id', v_workflow.id,
        'step', jsonb_build_object('name', v_what, 'description', v_step.description, 'due', v_due)
      ),
      'onboarding_reminder:' || v_reminder.id || ':customer', brainops.now()
    )
    on conflict (tenant_id, idempotency_key) where idempotency_key is not null do nothing;
  end if;
  if v_step.remind in ('owner', 'both') then
    if v_owner is null then
      perform brainops.notify(
        v_reminder.tenant_id,
        format('Onboarding of %s: %s is due', v_who, v_what),
        format(E'Step %s of %s, "%s", is due on %s.\n%s', v_step.step_number, v_workflow.total_steps, v_what, v_due, v_step.description),
        'onboarding_reminder:' || v_reminder.id,
        v_workflow.lead_id
      );
    else
      -- Without lead_id: an open by the owner is not an event of the lead.
      insert into public.ai_email_queue (tenant_id, recipient, subject, body, metadata, idempotency_key, scheduled_for)
      values (
        v_reminder.tenant_id, v_owner,
        'Onboarding of {{ customer }}: {{ step.name }} is due',
        E'Step {{ step.number }} of {{ step.of }}, "{{ step.name }}", of the onboarding of {{ customer }} is due on {{ step.due }}.\n{{ step.description }}',
        jsonb_build_object(
          'type', 'onboarding',
          'onboarding_workflow_id', v_workflow.id,
          'customer', v_who,
          'step', jsonb_build_object(
            'name', v_what, 'description', v_step.description, 'due', v_due, 'number', v_step.step_number, 'of', v_workflow.total_steps
          )
        ),
        'onboarding_reminder:' || v_reminder.id || ':owner', brainops.now()
      )
      on conflict (tenant_id, idempotency_key) where idempotency_key is not null do nothing;
    end if;
  end if;
  return null;
end;
$$;

comment on function brainops_internal.send_onboarding_reminder(uuid) is
  'Queues the mails or the notification of a reminder. Returns null, or why there is nothing to send.';

revoke execute on function brainops_internal.send_onboarding_reminder(uuid) from public;
grant execute on function brainops_internal.send_onboarding_reminder(uuid) to brainops_worker, brainops_system;
