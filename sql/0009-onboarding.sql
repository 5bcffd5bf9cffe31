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

select brainops_internal.add_job_columns('public.onboarding_reminders');

comment on table public.onboarding_reminders is
  'When somebody is told about a step that is due: made when it begins, cancelled when it is closed.';
comment on column public.onboarding_reminders.kind is
  'reminder: a mail to the customer or the lead''s owner. escalation: the tenant is notified.';
comment on column public.onboarding_reminders.due_at is
  'The due date that it is about; another date has other reminders.';
