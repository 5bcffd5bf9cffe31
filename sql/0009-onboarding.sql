-- Onboarding: what happens after a lead is won, as rows that people can see and steer.
--
-- Triggers keep a workflow and its steps as a state machine, whoever changes it: an update, a function, a mail that was
-- sent, an event of the lead.
--
--   step:      pending ──▶ in_progress ──▶ completed          workflow: in_progress ◀──▶ paused
--                 │  ◀──────────┘  ├─────▶ skipped                          │
--                 └────────────────┴─────▶ cancelled                        ├──▶ completed (every step is closed)
--              closed steps may be reopened (pending, in_progress)          └──▶ cancelled ──▶ in_progress
--
-- When no step is in progress, the first pending one starts; when all are closed, the workflow is completed. A step that
-- starts gets a due date and reminders, which are rows of a job table and end with the step.
--
-- Lock order: the step, then its workflow (a row trigger runs with its row locked). An update of a workflow's status locks
-- in the opposite order; Postgres resolves the rare deadlock, and one of the two has to try again.
--
-- Compatibility: rolling; creates tables that no older program reads.
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

comment on type brainops.onboarding_plan is
  'A step of an onboarding template; the columns are those of onboarding_templates.';

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
  constraint onboarding_templates_escalate_after_not_negative check (escalate_after >= '0'),
  constraint onboarding_templates_template_at_most_300_bytes check (octet_length(template) <= 300),
  constraint onboarding_templates_description_at_most_10000_bytes check (octet_length(description) <= 10000),
  constraint onboarding_templates_subject_at_most_1000_bytes check (octet_length(subject) <= 1000),
  constraint onboarding_templates_body_at_most_262144_bytes check (octet_length(body) <= 262144)
);

comment on table public.onboarding_templates is
  'A tenant''s own onboarding: one row for each step. Copied when a workflow starts, so edits do not change workflows that have started. Without rows named default, brainops.default_onboarding_steps() is used.';
comment on column public.onboarding_templates.template is
  'default, or a name that leads choose by metadata.onboarding_template.';
comment on column public.onboarding_templates.duration is
  'How long the step may take from its start; due_at is computed from it.';
comment on column public.onboarding_templates.subject is
  'Liquid. With body: a mail to the lead when the step starts. Null: no mail.';
comment on column public.onboarding_templates.advance_on is
  'What completes the step automatically: a value of lead_events.event, or email_sent (the step''s own mail was sent). Null: a person completes it.';
comment on column public.onboarding_templates.remind is
  'Who gets a mail as a reminder: customer, owner (the lead''s owner_email, else settings.notify_email), both or nobody.';
comment on column public.onboarding_templates.remind_before is
  'How long before due_at the reminder is sent; 0: when the step is due.';
comment on column public.onboarding_templates.escalate_after is
  'How long after due_at the tenant is notified; null: never.';

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
  constraint ai_onboarding_workflows_steps_not_negative check (total_steps >= 0 and current_step >= 0),
  constraint ai_onboarding_workflows_template_at_most_300_bytes check (octet_length(template) <= 300),
  constraint ai_onboarding_workflows_reason_at_most_1000_bytes check (octet_length(reason) <= 1000)
);

create index ai_onboarding_workflows_alias_ids on public.ai_onboarding_workflows using gin (alias_ids);

comment on table public.ai_onboarding_workflows is
  'The onboarding of a customer, one for each lead. Insert a lead_id to start it. A won lead gets one automatically, unless its metadata.onboarding is "none" (for old customers that are imported).';
comment on column public.ai_onboarding_workflows.status is
  'in_progress, paused (no step starts, no reminder is sent, due dates move), completed or cancelled. Stuck ones are in brainops.stuck_onboarding.';
comment on column public.ai_onboarding_workflows.current_step is
  'Number of the first step in progress, else of the first pending one, else of the last one. Follows the steps.';
comment on column public.ai_onboarding_workflows.total_steps is
  'On insert, 0 means that the steps of the template are created. A higher number means that the client inserts that many steps itself; the workflow is not completed before it has them.';
comment on column public.ai_onboarding_workflows.reason is 'Why it started, e.g. won, paid.';
comment on column public.ai_onboarding_workflows.alias_ids is
  'Ids under which the same onboarding was inserted again; steps inserted for them go to this workflow.';

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
  constraint ai_onboarding_steps_number_range check (step_number between 1 and 1000),
  constraint ai_onboarding_steps_status_known
    check (status in ('pending', 'in_progress', 'completed', 'skipped', 'cancelled')),
  constraint ai_onboarding_steps_completed_has_time check ((status = 'completed') = (completed_at is not null)),
  constraint ai_onboarding_steps_begun_has_time check (status <> 'in_progress' or started_at is not null),
  constraint ai_onboarding_steps_duration_positive check (duration > '0'),
  constraint ai_onboarding_steps_remind_known check (remind in ('customer', 'owner', 'both', 'nobody')),
  constraint ai_onboarding_steps_step_name_at_most_300_bytes check (octet_length(step_name) <= 300),
  constraint ai_onboarding_steps_description_at_most_10000_bytes check (octet_length(description) <= 10000),
  constraint ai_onboarding_steps_subject_at_most_1000_bytes check (octet_length(subject) <= 1000),
  constraint ai_onboarding_steps_body_at_most_262144_bytes check (octet_length(body) <= 262144),
  constraint ai_onboarding_steps_advance_on_at_most_300_bytes check (octet_length(advance_on) <= 300)
);

create index ai_onboarding_steps_awaiting on public.ai_onboarding_steps (tenant_id, advance_on, workflow_id)
where advance_on is not null and status in ('pending', 'in_progress');
create index ai_onboarding_steps_email on public.ai_onboarding_steps (tenant_id, email_id)
where email_id is not null;

comment on table public.ai_onboarding_steps is
  'Steps of a workflow. Set status to completed to advance it; skipped, pending and in_progress (again) are accepted too.';
comment on column public.ai_onboarding_steps.step_name is
  'welcome_email, data_collection, … or a name from the tenant''s own template. Columns that are not given are filled from the template''s step of this name.';
comment on column public.ai_onboarding_steps.due_at is
  'Set when the step starts, from duration; may be changed. Reminders follow it.';
comment on column public.ai_onboarding_steps.email_id is
  'The mail that the step sent when it first started (in ai_email_queue or the archive); a step sends only one.';
comment on column public.ai_onboarding_steps.problem is
  'Why its mail was not sent; null without a problem. Shown by brainops.stuck_onboarding.';
comment on column public.ai_onboarding_steps.duration is
  'Copied from the template, like subject, body, advance_on, remind, remind_before and escalate_after.';

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
  'Reminders of steps that are due: created when the step starts, cancelled when it is closed.';
comment on column public.onboarding_reminders.kind is
  'reminder: a mail to the customer or the lead''s owner. escalation: a notification to the tenant.';
comment on column public.onboarding_reminders.due_at is
  'The due date that the reminder is about; another due date has its own reminders.';
