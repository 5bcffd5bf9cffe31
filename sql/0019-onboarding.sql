-- Onboarding: what follows when a lead is won, as rows that can be seen and steered; and word to
-- the tenant itself, when somebody there has to act.
--
-- A workflow and its steps are a state machine kept by triggers, so that it goes on whoever moves
-- it: an update, a function, a mail that was sent, an event of the lead.
--
--   step:      pending ──▶ in_progress ──▶ completed          workflow: in_progress ◀──▶ paused
--                 │  ◀──────────┘  ├─────▶ skipped                          │
--                 └────────────────┴─────▶ cancelled                        ├──▶ completed (every step closed)
--              closed ones may be reopened (pending, in_progress)           └──▶ cancelled ──▶ in_progress
--
-- A workflow whose steps were all closed is completed; the first pending step begins when none is
-- in progress. What is begun has a due date, and what is due has reminders: job rows that end with
-- the step.
--
-- Lock order: step, then its workflow (a row trigger runs with its row locked). Changes of a
-- workflow's status by hand go the other way; Postgres breaks the rare tie, and one repeats.
set local lock_timeout = '2s';

-- Word to the tenant ---------------------------------------------------------------------------
create table public.tenant_notifications (
  id uuid primary key default gen_random_uuid(),
  tenant_id uuid not null,
  subject text not null,
  body text not null,
  lead_id uuid,
  sent_via text,
  sent_at timestamptz,
  scheduled_for timestamptz not null default brainops.now(),
  created_at timestamptz not null default brainops.now(),
  constraint tenant_notifications_subject_length check (length(btrim(subject)) between 1 and 300),
  constraint tenant_notifications_body_length check (length(body) between 1 and 20000),
  constraint tenant_notifications_sent_via_known check (sent_via in ('slack', 'email')),
  constraint tenant_notifications_lead
    foreign key (tenant_id, lead_id) references public.revenue_leads (tenant_id, id)
      on delete cascade
);

create index tenant_notifications_lead_id on public.tenant_notifications (tenant_id, lead_id)
where lead_id is not null;

comment on table public.tenant_notifications is
  'Insert a row: the tenant is told, in its own Slack where it has one (provider_credentials), else by mail to settings.notify_email.';
comment on column public.tenant_notifications.body is 'Plain text.';
comment on column public.tenant_notifications.lead_id is
  'The lead that it is about, and is erased with; null for none.';
comment on column public.tenant_notifications.sent_via is 'slack or email; null until it went.';

-- Where nobody can be told, the row waits and says which setting is missing.
create function brainops.gate_tenant_notification(p_ids uuid[])
returns setof brainops.verdict
language sql
stable
set search_path = ''
as $$
  select
    n.id,
    'defer',
    brainops.now() + interval '10 minutes',
    'waiting: the tenant has no active Slack credential, and its settings.notify_email is not set'
  from
    public.tenant_notifications as n
    inner join public.tenants as t on t.id = n.tenant_id
  where
    n.id = any (p_ids)
    and coalesce(btrim(t.settings ->> 'notify_email'), '') = ''
    and not exists (
      select
      from public.provider_credentials as c
      where c.tenant_id = n.tenant_id and c.provider = 'slack' and c.name = 'default' and c.active
    );
$$;

comment on function brainops.gate_tenant_notification(uuid[]) is
  'Holds the notifications of tenants that have neither a Slack credential nor settings.notify_email.';

select
  brainops.define_job_table(
    'public.tenant_notifications',
    p_task_identifier => 'tenant_notification__send',
    p_effect_is_idempotent => true, -- told twice after a crash is better than not at all
    p_channel => 'notification',
    p_gate => 'brainops.gate_tenant_notification',
    p_result_columns => array['sent_via', 'sent_at']
  );

create trigger a0_resolve_lead_id
before insert on public.tenant_notifications
for each row
when (new.lead_id is not null)
execute function brainops.resolve_lead_id();

create function brainops.may_act_for(p_tenant_id uuid)
returns boolean
language sql
stable
set search_path = ''
as $$
  select
    coalesce(p_tenant_id = brainops.current_tenant_id(), false)
    or brainops.may_name_tenant()
    or pg_catalog.pg_has_role(session_user, 'brainops_admin', 'member');
$$;

comment on function brainops.may_act_for(uuid) is
  'Whether the caller is this tenant, a service that may name it, or an admin. For functions with the engine''s rights.';

create function brainops.notify(p_tenant_id uuid, p_subject text, p_body text, p_key text, p_lead_id uuid)
returns uuid
language plpgsql
-- Called from triggers of every seat; a service that names nobody would not see the row again.
security definer
set search_path = ''
as $$
declare
  v_id uuid;
begin
  if not brainops.may_act_for(p_tenant_id) then
    raise exception 'tenant_id: % is not yours', coalesce(p_tenant_id::text, 'null')
      using errcode = 'insufficient_privilege', hint = 'Give your own: select id from tenants.';
  end if;
  insert into public.tenant_notifications as n (tenant_id, subject, body, idempotency_key, lead_id, scheduled_for)
  values (
    p_tenant_id,
    left(regexp_replace(btrim(p_subject), '\s+', ' ', 'g'), 300),
    left(p_body, 20000),
    p_key,
    p_lead_id,
    brainops.now()
  )
  on conflict (tenant_id, idempotency_key) where idempotency_key is not null do nothing
  returning n.id into v_id;
  if v_id is null then
    select n.id into v_id
      from public.tenant_notifications as n
      where n.tenant_id = p_tenant_id and n.idempotency_key = p_key;
  end if;
  return v_id;
end;
$$;

comment on function brainops.notify(uuid, text, text, text, uuid) is
  'Tells the tenant something, once for each key (null: always), about a lead (null: none); returns the row of tenant_notifications.';

create function brainops.notify(p_tenant_id uuid, p_subject text, p_body text, p_key text default null)
returns uuid
language sql
set search_path = ''
as $$
  select brainops.notify(p_tenant_id, p_subject, p_body, p_key, null);
$$;

comment on function brainops.notify(uuid, text, text, text) is 'The same about nobody in particular.';

-- By mail, where there is no Slack (or none that takes it). The words go in as values: they are
-- no Liquid.
create function brainops.mail_notification(p_id uuid)
returns uuid
language sql
set search_path = ''
as $$
  insert into public.ai_email_queue
    (tenant_id, recipient, subject, body, metadata, idempotency_key, scheduled_for)
  select
    n.tenant_id,
    t.settings ->> 'notify_email',
    '{{ notification.subject }}',
    '{{ notification.body }}',
    jsonb_build_object(
      'type',
      'notification',
      'notification',
      jsonb_build_object('id', n.id, 'subject', n.subject, 'body', n.body)
    ),
    'notification:' || n.id,
    brainops.now()
  from
    public.tenant_notifications as n
    inner join public.tenants as t on t.id = n.tenant_id
  where n.id = p_id
  on conflict (tenant_id, idempotency_key) where idempotency_key is not null do nothing
  returning id;
$$;

comment on function brainops.mail_notification(uuid) is
  'Queues the mail of a notification to settings.notify_email, once; null where it is queued already.';

-- What waited for a setting goes on as soon as it is there.
create function brainops.wake_notifications()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_tenant_id uuid := case when tg_table_name = 'tenants' then to_jsonb(new) ->> 'id' else to_jsonb(new) ->> 'tenant_id' end;
begin
  update public.tenant_notifications
  set scheduled_for = brainops.now()
  where tenant_id = v_tenant_id and status = 'pending' and last_error like 'waiting:%';
  return null;
end;
$$;

create trigger wake_notifications
after update of settings on public.tenants
for each row
when (old.settings is distinct from new.settings)
execute function brainops.wake_notifications();
create trigger wake_notifications
after insert or update on public.provider_credentials
for each row
when (new.provider = 'slack' and new.active)
execute function brainops.wake_notifications();

-- Templates ------------------------------------------------------------------------------------
create table public.onboarding_templates (
  id uuid primary key default gen_random_uuid(),
  tenant_id uuid not null references public.tenants (id),
  template text not null default 'default',
  step_number int not null,
  step_name text not null,
  description text not null default '',
  duration interval not null default '3 days',
  subject text,
  body text,
  advance_on text,
  remind text not null default 'owner',
  remind_before interval not null default '1 day',
  escalate_after interval default '1 day',
  created_at timestamptz not null default brainops.now(),
  updated_at timestamptz not null default brainops.now(),
  constraint onboarding_templates_number unique (tenant_id, template, step_number),
  constraint onboarding_templates_name unique (tenant_id, template, step_name),
  constraint onboarding_templates_number_range check (step_number between 1 and 100),
  constraint onboarding_templates_name_is_word check (step_name ~ '^[a-z][a-z0-9_]{0,62}$'),
  constraint onboarding_templates_duration_positive check (duration > '0'),
  constraint onboarding_templates_mail_is_whole check ((subject is null) = (body is null)),
  constraint onboarding_templates_advance_on_is_word check (advance_on ~ '^[a-z][a-z0-9_]{0,62}$'),
  constraint onboarding_templates_email_sent_has_mail
    check (advance_on is distinct from 'email_sent' or body is not null),
  constraint onboarding_templates_remind_known check (remind in ('customer', 'owner', 'both', 'nobody')),
  constraint onboarding_templates_remind_before_not_negative check (remind_before >= '0'),
  constraint onboarding_templates_escalate_after_not_negative check (escalate_after >= '0')
);

comment on table public.onboarding_templates is
  'A tenant''s own onboarding, a row for each step. Copied when a workflow begins, so that edits do not change what runs. Without rows for default, brainops.default_onboarding_steps() is used.';
comment on column public.onboarding_templates.template is
  'default, or a name that a lead asks for by metadata.onboarding_template.';
comment on column public.onboarding_templates.duration is
  'How long the step may take from its beginning: gives due_at.';
comment on column public.onboarding_templates.subject is
  'Liquid, with body: a mail to the lead when the step begins. Null: none.';
comment on column public.onboarding_templates.advance_on is
  'What completes the step by itself: a word of lead_events, or email_sent (its own mail went). Null: somebody does.';
comment on column public.onboarding_templates.remind is
  'Who is reminded by mail: customer, owner (the lead''s owner_email, else settings.notify_email), both or nobody.';
comment on column public.onboarding_templates.remind_before is 'How long before due_at; 0 for when it is due.';
comment on column public.onboarding_templates.escalate_after is
  'How long after due_at the tenant is notified; null for never.';

select brainops.protect_table('public.onboarding_templates');

create trigger touch_updated_at
before update on public.onboarding_templates
for each row
execute function brainops.touch_updated_at();

create type brainops.onboarding_plan as (
  step_number int,
  step_name text,
  description text,
  duration interval,
  subject text,
  body text,
  advance_on text,
  remind text,
  remind_before interval,
  escalate_after interval
);

comment on type brainops.onboarding_plan is 'A step as a template has it; see public.onboarding_templates.';

create function brainops.default_onboarding_steps()
returns setof brainops.onboarding_plan
language sql
immutable
set search_path = ''
as $$
  values
    (
      1,
      'welcome_email',
      'Send welcome email and credentials',
      interval '1 day',
      'Welcome to {{ tenant.name }}',
      '<p>Hello{% if lead.contact_name %} {{ lead.contact_name }}{% endif %},</p>' || '<p>thank you for choosing {{ tenant.name }}. From here on we take it step by step:</p>' || '<ol><li>we collect what we need from you,</li><li>we set everything up,</li>' || '<li>we agree on a time to show you around,</li><li>and your first project begins.</li></ol>' || '<p>You need to do nothing now; we will write to you about each step. ' || 'If you have a question, answer this mail.</p><p>{{ tenant.name }}</p>',
      'email_sent',
      'nobody',
      interval '0',
      interval '0'
    ),
    (
      2,
      'data_collection',
      'Collect the customer''s data and requirements',
      interval '3 days',
      null,
      null,
      null,
      'owner',
      interval '1 day',
      interval '1 day'
    ),
    (
      3,
      'system_setup',
      'Set up the customer''s system and accounts',
      interval '5 days',
      null,
      null,
      null,
      'owner',
      interval '1 day',
      interval '1 day'
    ),
    (
      4,
      'training_schedule',
      'Schedule the training',
      interval '5 days',
      null,
      null,
      'meeting_booked',
      'owner',
      interval '1 day',
      interval '1 day'
    ),
    (
      5,
      'first_project',
      'Start the first project',
      interval '14 days',
      null,
      null,
      null,
      'owner',
      interval '2 days',
      interval '2 days'
    );
$$;

comment on function brainops.default_onboarding_steps is
  'The onboarding of tenants that have none of their own; insert into onboarding_templates (…) select … from it to begin one.';

create function brainops.onboarding_steps_of(p_tenant_id uuid, p_template text)
returns setof brainops.onboarding_plan
language plpgsql
stable
set search_path = ''
as $$
begin
  return query
    select t.step_number, t.step_name, t.description, t.duration, t.subject, t.body, t.advance_on, t.remind, t.remind_before, t.escalate_after
    from public.onboarding_templates as t
    where t.tenant_id = p_tenant_id and t.template = p_template
    order by t.step_number;
  if not found then
    return query
      select t.step_number, t.step_name, t.description, t.duration, t.subject, t.body, t.advance_on, t.remind, t.remind_before, t.escalate_after
      from public.onboarding_templates as t
      where t.tenant_id = p_tenant_id and t.template = 'default'
      order by t.step_number;
  end if;
  if not found then
    return query select * from brainops.default_onboarding_steps();
  end if;
end;
$$;

comment on function brainops.onboarding_steps_of(uuid, text) is
  'The steps of a tenant''s template; of its template default where it has none of that name, else ours.';

-- Workflows and steps --------------------------------------------------------------------------
create table public.ai_onboarding_workflows (
  id uuid primary key default gen_random_uuid(),
  tenant_id uuid not null references public.tenants (id),
  lead_id uuid not null,
  status text not null default 'in_progress',
  current_step int not null default 1,
  total_steps int not null default 0,
  template text not null default 'default',
  reason text,
  started_at timestamptz default brainops.now(),
  completed_at timestamptz,
  paused_at timestamptz,
  alias_ids uuid[] not null default '{}',
  created_at timestamptz not null default brainops.now(),
  constraint ai_onboarding_workflows_tenant_row unique (tenant_id, id),
  constraint ai_onboarding_workflows_one_for_a_lead unique (tenant_id, lead_id),
  constraint ai_onboarding_workflows_lead
    foreign key (tenant_id, lead_id) references public.revenue_leads (tenant_id, id)
      on delete cascade,
  constraint ai_onboarding_workflows_status_known check (status in ('in_progress', 'completed', 'cancelled', 'paused')),
  constraint ai_onboarding_workflows_completed_has_time check ((status = 'completed') = (completed_at is not null)),
  constraint ai_onboarding_workflows_paused_has_time check ((status = 'paused') = (paused_at is not null)),
  constraint ai_onboarding_workflows_steps_not_negative check (total_steps >= 0 and current_step >= 0)
);

create index ai_onboarding_workflows_alias_ids on public.ai_onboarding_workflows using gin (alias_ids);

comment on table public.ai_onboarding_workflows is
  'The onboarding of a customer, one for each lead. Insert a lead_id and it begins; a won lead gets one by itself, unless its metadata.onboarding is none (old customers that are imported).';
comment on column public.ai_onboarding_workflows.status is
  'in_progress, paused (nothing begins, nobody is reminded, due dates move), completed, cancelled. Stuck ones: brainops.stuck_onboarding.';
comment on column public.ai_onboarding_workflows.current_step is
  'Number of the first step that is in progress, else of the first pending one, else of the last. Follows the steps.';
comment on column public.ai_onboarding_workflows.total_steps is
  '0 on insert: the steps of the template are made. More: whoever inserts brings so many steps, and the workflow is not completed before.';
comment on column public.ai_onboarding_workflows.reason is 'Why it began, e.g. won, paid.';
comment on column public.ai_onboarding_workflows.alias_ids is
  'Ids under which it was inserted again: steps for them are taken as this workflow''s.';

create table public.ai_onboarding_steps (
  id uuid primary key default gen_random_uuid(),
  tenant_id uuid not null references public.tenants (id),
  workflow_id uuid not null,
  step_number int not null,
  step_name text not null,
  description text,
  status text not null default 'pending',
  due_at timestamptz,
  started_at timestamptz,
  completed_at timestamptz,
  duration interval,
  subject text,
  body text,
  advance_on text,
  remind text,
  remind_before interval,
  escalate_after interval,
  email_id uuid,
  problem text,
  created_at timestamptz not null default brainops.now(),
  constraint ai_onboarding_steps_tenant_row unique (tenant_id, id),
  constraint ai_onboarding_steps_once unique (tenant_id, workflow_id, step_number),
  constraint ai_onboarding_steps_workflow
    foreign key (tenant_id, workflow_id) references public.ai_onboarding_workflows (tenant_id, id)
      on delete cascade,
  constraint ai_onboarding_steps_number_positive check (step_number >= 1),
  constraint ai_onboarding_steps_status_known
    check (status in ('pending', 'in_progress', 'completed', 'skipped', 'cancelled')),
  constraint ai_onboarding_steps_completed_has_time check ((status = 'completed') = (completed_at is not null)),
  constraint ai_onboarding_steps_begun_has_time check (status <> 'in_progress' or started_at is not null),
  constraint ai_onboarding_steps_duration_positive check (duration > '0'),
  constraint ai_onboarding_steps_remind_known check (remind in ('customer', 'owner', 'both', 'nobody'))
);

create index ai_onboarding_steps_awaiting on public.ai_onboarding_steps (tenant_id, advance_on, workflow_id)
where advance_on is not null and status in ('pending', 'in_progress');
create index ai_onboarding_steps_email on public.ai_onboarding_steps (tenant_id, email_id)
where email_id is not null;

comment on table public.ai_onboarding_steps is
  'Steps of a workflow. update … set status = ''completed'' moves it on; skipped, in_progress (again) and pending are taken too.';
comment on column public.ai_onboarding_steps.step_name is
  'welcome_email, data_collection, … or a word of the tenant''s own template, of which it takes what is not given.';
comment on column public.ai_onboarding_steps.due_at is
  'Filled when the step begins, from duration; may be moved. Reminders follow it.';
comment on column public.ai_onboarding_steps.email_id is
  'The mail that the step sent when it began (in ai_email_queue or the archive); never a second one.';
comment on column public.ai_onboarding_steps.problem is
  'Why its mail did not go; null where there is nothing to mend. Shown by brainops.stuck_onboarding.';
comment on column public.ai_onboarding_steps.duration is 'As the others below: copied from the template.';

create table public.onboarding_reminders (
  id uuid primary key default gen_random_uuid(),
  tenant_id uuid not null,
  workflow_id uuid not null,
  step_id uuid not null,
  kind text not null,
  due_at timestamptz not null,
  scheduled_for timestamptz not null default brainops.now(),
  created_at timestamptz not null default brainops.now(),
  constraint onboarding_reminders_once unique (tenant_id, step_id, kind, due_at),
  constraint onboarding_reminders_step
    foreign key (tenant_id, step_id) references public.ai_onboarding_steps (tenant_id, id)
      on delete cascade,
  constraint onboarding_reminders_kind_known check (kind in ('reminder', 'escalation'))
);

comment on table public.onboarding_reminders is
  'When somebody is told about a step that is due: made when it begins, cancelled when it is closed.';
comment on column public.onboarding_reminders.kind is
  'reminder: a mail to the customer or the lead''s owner. escalation: the tenant is notified.';
comment on column public.onboarding_reminders.due_at is
  'The due date that it is about; another date has other reminders.';

select brainops.protect_table(t)
from unnest(array['public.ai_onboarding_workflows', 'public.ai_onboarding_steps']::regclass[]) as t;

-- Clients say what is to happen; what came of it is the triggers' to write.
revoke insert, update
on public.ai_onboarding_workflows, public.ai_onboarding_steps
from brainops_tenant, brainops_service;
grant
  insert (
    id,
    tenant_id,
    lead_id,
    status,
    current_step,
    total_steps,
    template,
    reason,
    started_at,
    completed_at,
    created_at
  ),
  update (status, reason)
on public.ai_onboarding_workflows
to brainops_tenant, brainops_service;
grant
  insert (
    id,
    tenant_id,
    workflow_id,
    step_number,
    step_name,
    description,
    status,
    due_at,
    started_at,
    completed_at,
    duration,
    subject,
    body,
    advance_on,
    remind,
    remind_before,
    escalate_after,
    created_at
  ),
  update (description, status, due_at, subject, body, advance_on, remind, remind_before, escalate_after)
on public.ai_onboarding_steps
to brainops_tenant, brainops_service;

create function brainops.gate_onboarding_reminder(p_ids uuid[])
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
      else 'the step is due at another time now'
    end
  from
    public.onboarding_reminders as r
    inner join public.ai_onboarding_steps as s on s.tenant_id = r.tenant_id and s.id = r.step_id
    inner join public.ai_onboarding_workflows as w on w.tenant_id = s.tenant_id and w.id = s.workflow_id
  where
    r.id = any (p_ids)
    and (w.status <> 'in_progress' or s.status <> 'in_progress' or s.due_at is distinct from r.due_at);
$$;

comment on function brainops.gate_onboarding_reminder(uuid[]) is
  'Which reminders have nothing to say any more: the step is closed, paused or due at another time.';

select
  brainops.define_job_table(
    'public.onboarding_reminders',
    p_task_identifier => 'onboarding_reminder__send',
    p_effect_is_idempotent => true, -- rows of ours, under keys of its own
    p_channel => 'onboarding',
    p_gate => 'brainops.gate_onboarding_reminder'
  );

revoke insert on public.onboarding_reminders from brainops_tenant, brainops_service;

-- Words that clients write -> our words. Null for one that nobody knows.
create function brainops.normal_onboarding_status(p_word text)
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

comment on function brainops.normal_onboarding_status(text) is
  'The status of a workflow or step that a word means; null for an unknown word.';

-- The status that a word means, where the table has it.
create function brainops.onboarding_status(p_word text, p_known text[])
returns text
language plpgsql
immutable
set search_path = ''
as $$
declare
  v_status text := brainops.normal_onboarding_status(p_word);
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

comment on function brainops.onboarding_status(text, text[]) is
  'The status that a word means, of those that a table knows; OP002 for any other.';

create function brainops.before_onboarding_insert()
returns trigger
language plpgsql
-- A service that has named nobody does not see what is there already.
security definer
set search_path = ''
as $$
begin
  -- Another tenant's is refused by the policies, once this is over; until then nothing of it is touched.
  if not brainops.may_act_for(new.tenant_id) then
    return new;
  end if;
  new.status := brainops.onboarding_status(coalesce(new.status, 'in_progress'), array['in_progress', 'paused', 'completed', 'cancelled']);
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

create function brainops.after_onboarding_insert()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  insert into public.ai_onboarding_steps (
    tenant_id, workflow_id, step_number, step_name, description, duration, subject, body, advance_on,
    remind, remind_before, escalate_after
  )
  select
    new.tenant_id, new.id, p.step_number, p.step_name, p.description, p.duration, p.subject, p.body, p.advance_on,
    p.remind, p.remind_before, p.escalate_after
  from brainops.onboarding_steps_of(new.tenant_id, new.template) as p;
  perform brainops.advance_onboarding(new.tenant_id, new.id);
  return null;
end;
$$;

-- Which workflow a step is for: the one that was inserted first, where its own was a second one.
create function brainops.resolve_onboarding_workflow()
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

create function brainops.before_onboarding_step_insert()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_plan brainops.onboarding_plan;
begin
  if not brainops.may_act_for(new.tenant_id) then
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
  new.status := brainops.onboarding_status(
    coalesce(new.status, 'pending'), array['pending', 'in_progress', 'completed', 'skipped', 'cancelled']
  );
  if new.duration is null then
    select p.* into v_plan
      from public.ai_onboarding_workflows as w
      cross join lateral brainops.onboarding_steps_of(w.tenant_id, w.template) as p
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

create function brainops.before_onboarding_step_update()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_workflow_status text;
begin
  new.status := brainops.onboarding_status(new.status, array['pending', 'in_progress', 'completed', 'skipped', 'cancelled']);
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

-- Makes the reminders of a step what its status and due date say.
create function brainops.set_onboarding_reminders(p_step public.ai_onboarding_steps)
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
    -- Who was told about an earlier date is not told at once about a later one.
    and (k.at > brainops.now() or not exists (
      select from public.onboarding_reminders as told
      where told.tenant_id = p_step.tenant_id and told.step_id = p_step.id and told.kind = k.kind and told.status = 'completed'
    ))
  on conflict (tenant_id, step_id, kind, due_at) do update
    set status = 'pending', scheduled_for = excluded.scheduled_for
    where r.status in ('pending', 'cancelled')
      and (r.status, r.scheduled_for) is distinct from ('pending', excluded.scheduled_for);
end;
$$;

create function brainops.after_onboarding_step()
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

-- Begins the next step where none is in progress, and writes the workflow's books.
create function brainops.advance_onboarding(p_tenant_id uuid, p_workflow_id uuid)
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

create function brainops.after_onboarding_step_delete()
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
    perform brainops.advance_onboarding(old.tenant_id, old.workflow_id);
  end if;
  return null;
end;
$$;

create function brainops.before_onboarding_update()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  new.status := brainops.onboarding_status(new.status, array['in_progress', 'paused', 'completed', 'cancelled']);
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

create function brainops.after_onboarding_update()
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
    perform brainops.advance_onboarding(new.tenant_id, new.id);
  end if;
  return null;
end;
$$;

create trigger a0_resolve_lead_id
before insert on public.ai_onboarding_workflows
for each row
execute function brainops.resolve_lead_id();
create trigger b0_before_onboarding_insert
before insert on public.ai_onboarding_workflows
for each row
execute function brainops.before_onboarding_insert();
create trigger b1_before_onboarding_update
before update on public.ai_onboarding_workflows
for each row
when (old.status is distinct from new.status)
execute function brainops.before_onboarding_update();
create trigger c0_after_onboarding_insert
after insert on public.ai_onboarding_workflows
for each row
when (new.total_steps = 0 and new.status = 'in_progress')
execute function brainops.after_onboarding_insert();
create trigger c1_after_onboarding_update
after update on public.ai_onboarding_workflows
for each row
when (old.status is distinct from new.status)
execute function brainops.after_onboarding_update();

create trigger a0_resolve_onboarding_workflow
before insert on public.ai_onboarding_steps
for each row
execute function brainops.resolve_onboarding_workflow();
create trigger b0_before_onboarding_step_insert
before insert on public.ai_onboarding_steps
for each row
execute function brainops.before_onboarding_step_insert();
create trigger b1_before_onboarding_step_update
before update on public.ai_onboarding_steps
for each row
execute function brainops.before_onboarding_step_update();
create trigger c0_after_onboarding_step
after insert or update on public.ai_onboarding_steps
for each row
execute function brainops.after_onboarding_step();
create trigger c1_after_onboarding_step_delete
after delete on public.ai_onboarding_steps
for each row
execute function brainops.after_onboarding_step_delete();

-- What begins and moves it ---------------------------------------------------------------------
-- The rule without the question who asks: triggers have answered that.
create function brainops.open_onboarding(p_tenant_id uuid, p_lead_id uuid, p_reason text)
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

create function brainops.start_onboarding(p_lead_id uuid, p_reason text default 'asked for')
returns uuid
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_lead_id uuid := brainops.find_lead(p_lead_id, null);
  v_tenant_id uuid;
begin
  if v_lead_id is null then
    raise exception 'lead_id: % is no lead of yours', coalesce(p_lead_id::text, 'null')
      using errcode = 'OP009', hint = 'Give the id of a row of revenue_leads.';
  end if;
  select tenant_id into v_tenant_id from public.revenue_leads where id = v_lead_id;
  return brainops.open_onboarding(v_tenant_id, v_lead_id, p_reason);
end;
$$;

comment on function brainops.start_onboarding(uuid, text) is
  'Begins the onboarding of a lead and returns its workflow; the one there is, where it has begun.';

create function brainops.complete_onboarding_step(p_workflow_id uuid, p_step_name text)
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

create function brainops.won_starts_onboarding()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  perform brainops.open_onboarding(new.tenant_id, new.id, 'won');
  return null;
end;
$$;

-- In the transaction that wins the lead: no won lead is ever without its onboarding. Not "of
-- stage", because a trigger of the table may set it too.
create trigger won_starts_onboarding
after update on public.revenue_leads
for each row
when (new.stage = 'won' and old.stage is distinct from 'won' and new.metadata ->> 'onboarding' is distinct from 'none')
execute function brainops.won_starts_onboarding();
create trigger won_at_once_starts_onboarding
after insert on public.revenue_leads
for each row
when (new.stage = 'won' and new.merged_into is null and new.metadata ->> 'onboarding' is distinct from 'none')
execute function brainops.won_starts_onboarding();

-- A step's own mail. Whatever goes wrong here must not cost the mail its outcome; what may pass
-- (a deadlock, say) is tried again with it.
create function brainops.onboarding_mail_settled()
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

create trigger onboarding_mail_settled
after update on public.ai_email_queue
for each row
when (old.status is distinct from new.status and new.idempotency_key like 'onboarding:%')
execute function brainops.onboarding_mail_settled();

-- Steps that an event completes, in any order; not by what happened before the onboarding began.
create function brainops.event_advances_onboarding()
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

create trigger event_advances_onboarding
after insert on public.lead_events
referencing new table as inserted
for each statement
execute function brainops.event_advances_onboarding();

-- Reminders ------------------------------------------------------------------------------------
-- Returns null when somebody was told, else why there is nothing to tell. Under keys of its own,
-- so that twice is as once.
create function brainops.send_onboarding_reminder(p_id uuid)
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
  -- Whoever closes the step now waits until this is decided.
  select * into v_step from public.ai_onboarding_steps
    where tenant_id = v_reminder.tenant_id and id = v_reminder.step_id
    for share;
  select * into v_workflow from public.ai_onboarding_workflows where tenant_id = v_step.tenant_id and id = v_step.workflow_id;
  if v_step.status <> 'in_progress' or v_workflow.status <> 'in_progress' then
    return format('the step is %s, the onboarding %s', v_step.status, v_workflow.status);
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
        || '{% if step.description != "" %} ({{ step.description }}){% endif %}. We would like to be done by {{ step.due }}.</p>'
        || '<p>If something is unclear or the date does not suit you, answer this mail.</p><p>{{ tenant.name }}</p>',
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
      -- Without lead_id: what the owner opens is nothing that the lead did.
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

comment on function brainops.send_onboarding_reminder(uuid) is
  'Queues the mails or the notification of a reminder, once; returns null, or why there is nothing to tell.';

-- What can be seen -----------------------------------------------------------------------------
create view brainops.onboarding_progress
with (security_invoker = true)
as
  select
    w.id as workflow_id,
    w.tenant_id,
    w.lead_id,
    l.contact_name,
    l.company_name,
    w.status,
    w.current_step,
    c.step_name as current_step_name,
    c.due_at,
    coalesce(c.due_at < brainops.now() and w.status = 'in_progress' and c.status = 'in_progress', false) as overdue,
    w.total_steps,
    n.closed as closed_steps,
    case
      when w.total_steps = 0 then 0
      else least(100, round(100.0 * n.closed / w.total_steps))::int
    end as percent,
    w.started_at,
    w.completed_at
  from
    public.ai_onboarding_workflows as w
    inner join public.revenue_leads as l on l.tenant_id = w.tenant_id and l.id = w.lead_id
    left join public.ai_onboarding_steps as c
      on c.tenant_id = w.tenant_id and c.workflow_id = w.id and c.step_number = w.current_step
    cross join lateral (
      select count(*) filter (where s.status in ('completed', 'skipped', 'cancelled'))::int as closed
      from public.ai_onboarding_steps as s
      where s.tenant_id = w.tenant_id and s.workflow_id = w.id
    ) as n;

comment on view brainops.onboarding_progress is 'Each onboarding with its current step, due date and how far it is.';

create view brainops.stuck_onboarding
with (security_invoker = true)
as
  select
    w.id as workflow_id,
    w.tenant_id,
    w.lead_id,
    s.id as step_id,
    s.step_number,
    s.step_name,
    case
      when s.id is null then format('no step is in progress: %s of %s steps are there', n.total, w.total_steps)
      when s.problem is not null then s.problem
      else 'overdue'
    end as reason,
    case
      when s.id is null then w.started_at
      when s.problem is not null then s.started_at
      else s.due_at
    end as since
  from
    public.ai_onboarding_workflows as w
    left join public.ai_onboarding_steps as s
      on s.tenant_id = w.tenant_id and s.workflow_id = w.id and s.status = 'in_progress'
    cross join lateral (
      select count(*) as total
      from public.ai_onboarding_steps as a
      where a.tenant_id = w.tenant_id and a.workflow_id = w.id
    ) as n
  where w.status = 'in_progress' and (s.id is null or s.problem is not null or s.due_at < brainops.now());

comment on view brainops.stuck_onboarding is
  'Onboardings that need a person: a step is overdue, its mail did not go, or there is nothing to go on with. Paused ones are not.';

grant select
on brainops.onboarding_progress, brainops.stuck_onboarding
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

do $$
declare
  v_function regprocedure;
begin
  -- With the rights of the engine.
  foreach v_function in array array[
    'brainops.notify(uuid, text, text, text, uuid)',
    'brainops.wake_notifications()',
    'brainops.before_onboarding_insert()',
    'brainops.after_onboarding_insert()',
    'brainops.resolve_onboarding_workflow()',
    'brainops.before_onboarding_step_insert()',
    'brainops.before_onboarding_step_update()',
    'brainops.after_onboarding_step()',
    'brainops.after_onboarding_step_delete()',
    'brainops.after_onboarding_update()',
    'brainops.open_onboarding(uuid, uuid, text)',
    'brainops.start_onboarding(uuid, text)',
    'brainops.won_starts_onboarding()',
    'brainops.onboarding_mail_settled()',
    'brainops.event_advances_onboarding()'
  ]::regprocedure[]
  loop
    execute format('alter function %s owner to brainops_system', v_function);
  end loop;
  foreach v_function in array array[
    'brainops.notify(uuid, text, text, text, uuid)',
    'brainops.wake_notifications()',
    'brainops.before_onboarding_insert()',
    'brainops.after_onboarding_insert()',
    'brainops.resolve_onboarding_workflow()',
    'brainops.before_onboarding_step_insert()',
    'brainops.before_onboarding_step_update()',
    'brainops.after_onboarding_step()',
    'brainops.after_onboarding_step_delete()',
    'brainops.before_onboarding_update()',
    'brainops.after_onboarding_update()',
    'brainops.open_onboarding(uuid, uuid, text)',
    'brainops.start_onboarding(uuid, text)',
    'brainops.won_starts_onboarding()',
    'brainops.onboarding_mail_settled()',
    'brainops.event_advances_onboarding()',
    'brainops.notify(uuid, text, text, text)',
    'brainops.may_act_for(uuid)',
    'brainops.gate_tenant_notification(uuid[])',
    'brainops.mail_notification(uuid)',
    'brainops.default_onboarding_steps()',
    'brainops.onboarding_steps_of(uuid, text)',
    'brainops.gate_onboarding_reminder(uuid[])',
    'brainops.normal_onboarding_status(text)',
    'brainops.onboarding_status(text, text[])',
    'brainops.set_onboarding_reminders(public.ai_onboarding_steps)',
    'brainops.advance_onboarding(uuid, uuid)',
    'brainops.complete_onboarding_step(uuid, text)',
    'brainops.send_onboarding_reminder(uuid)'
  ]::regprocedure[]
  loop
    execute format('revoke execute on function %s from public', v_function);
    execute format('grant execute on function %s to brainops_system', v_function);
  end loop;
end;
$$;

grant execute
on function brainops.notify(uuid, text, text, text, uuid),
brainops.notify(uuid, text, text, text),
brainops.may_act_for(uuid),
brainops.start_onboarding(uuid, text),
brainops.complete_onboarding_step(uuid, text),
brainops.default_onboarding_steps(),
brainops.onboarding_steps_of(uuid, text),
brainops.normal_onboarding_status(text),
brainops.onboarding_status(text, text[])
to brainops_tenant, brainops_worker, brainops_service, brainops_admin;
grant execute
on function brainops.gate_tenant_notification(uuid[]),
brainops.mail_notification(uuid),
brainops.gate_onboarding_reminder(uuid[]),
brainops.send_onboarding_reminder(uuid)
to brainops_worker;
