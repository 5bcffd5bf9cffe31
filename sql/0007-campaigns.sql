-- Campaigns: sequences of steps as rows, the leads that are in them, and one row of a job table for each step that a
-- lead reaches.
--
-- Compatibility: rolling; creates tables that no older program reads.
--
--   campaigns ──< campaign_steps (by version)           what happens
--       └──< ai_nurture_campaigns (enrolments)          which lead, on which version
--               └──< ai_campaign_touches (job table)    one row for each step that is reached
--                        └── ai_email_queue, ai_sms_queue, lead_tasks, tenant_notifications
--
-- Performing a touch is one call of brainops_internal.perform_touch in one transaction: it marks the touch, inserts what
-- the step creates, and inserts the next touch. A worker that dies before the commit has done nothing; one that dies
-- after it has done everything. So a touch happens once, and the next one exists. An enrolment never has more than one
-- open touch of its sequence (ai_campaign_touches_one_open), and never two of the same step (ai_campaign_touches_once).
--
-- Time: due_at is when a touch was planned for, scheduled_for when its job runs. The next touch is planned from due_at,
-- so short delays do not add up. A delay of more than an hour, or of more than half of the gap that follows, moves the
-- rest of the schedule: after an outage, no person gets two mails in a row. Days are calendar days in the lead's time
-- zone (the hour of the day stays across DST), hours are hours. During a pause the clock is stopped.
--
-- Lock order: campaign, lead, enrolment, touch, queue row. A transaction that holds an enrolment never waits for a queue
-- row (skip locked); for rows that a claim has locked at that moment, the gate decides.
set local lock_timeout = '2s';

create table public.campaigns (
  id uuid primary key default gen_random_uuid(),
  tenant_id uuid not null references public.tenants (id)
    on delete cascade,
  code text not null,
  name text not null,
  description text,
  status text not null default 'draft',
  version int not null default 0,
  goal_event text,
  exit_on text[] not null default array[
    'email_replied',
    'sms_replied',
    'email_unsubscribed',
    'email_bounced',
    'email_complained',
    'opted_out:email',
    'won',
    'lost'
  ],
  reentry text not null default 'none',
  launched_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint campaigns_tenant_row unique (tenant_id, id),
  constraint campaigns_code_once unique (tenant_id, code),
  constraint campaigns_code_is_short_name check (code ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
  constraint campaigns_name_given check (length(name) between 1 and 200),
  constraint campaigns_status_known check (status in ('draft', 'active', 'paused', 'archived')),
  constraint campaigns_version_not_negative check (version >= 0),
  constraint campaigns_reentry_known check (reentry in ('none', 'after_exit')),
  constraint campaigns_goal_event_is_word check (goal_event ~ '^[a-z][a-z0-9_]{0,62}$'),
  constraint campaigns_exit_on_has_no_null check (array_position(exit_on, null) is null),
  constraint campaigns_description_at_most_10000_bytes check (octet_length(description) <= 10000),
  constraint campaigns_exit_on_at_most_4096_bytes check (pg_column_size(exit_on) <= 4096)
);

comment on table public.campaigns is
  'A tenant''s sequences. Setting status to active launches one, paused holds it, archived ends it; while it is a draft, enrolments wait and nothing is sent.';
comment on column public.campaigns.code is
  'Its name in ai_nurture_campaigns.campaign_type: a-z, 0-9, _ and -, at most 63 characters, unique for the tenant.';
comment on column public.campaigns.version is
  'The version that new enrolments get; 0: not published yet. Written by brainops.publish_campaign; steps up to this version cannot be changed.';
comment on column public.campaigns.goal_event is
  'An event of lead_events, or won: it ends an enrolment with the exit_reason goal: <event>. Null: no goal.';
comment on column public.campaigns.exit_on is
  'What ends an enrolment: events of lead_events, event:channel for one channel only, and the stages won and lost.';
comment on column public.campaigns.launched_at is 'When it was first set to active; null before.';
comment on column public.campaigns.reentry is
  'none: a lead enters once. after_exit: it may enter again, as the next entrance, once its enrolment has ended.';

create table public.campaign_steps (
  id uuid primary key default gen_random_uuid(),
  tenant_id uuid not null,
  campaign_id uuid not null,
  version int not null,
  step_number int not null,
  step_key text not null,
  kind text not null,
  name text,
  template text,
  delay interval not null default '0',
  delay_from text not null default 'previous',
  next_step int,
  config jsonb not null default '{}',
  created_at timestamptz not null default now(),
  constraint campaign_steps_campaign
    foreign key (tenant_id, campaign_id) references public.campaigns (tenant_id, id)
      on delete cascade,
  -- Checked at the end of each statement, so that one update can renumber steps.
  constraint campaign_steps_number_once
    unique (tenant_id, campaign_id, version, step_number) deferrable initially immediate,
  constraint campaign_steps_key_once unique (tenant_id, campaign_id, version, step_key) deferrable initially immediate,
  constraint campaign_steps_number_range check (step_number between 1 and 1000),
  constraint campaign_steps_key_is_short_name check (step_key ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
  constraint campaign_steps_kind_known
    check (kind in ('send_email', 'send_sms', 'wait', 'wait_for', 'branch', 'split', 'task', 'notify', 'exit')),
  constraint campaign_steps_delay_range check (delay >= '0' and delay <= '3 years'),
  constraint campaign_steps_delay_from_known check (delay_from in ('previous', 'enrolment')),
  constraint campaign_steps_config_is_object check (jsonb_typeof(config) = 'object'),
  constraint campaign_steps_name_at_most_1000_bytes check (octet_length(name) <= 1000),
  constraint campaign_steps_template_at_most_300_bytes check (octet_length(template) <= 300),
  constraint campaign_steps_config_at_most_65536_bytes check (pg_column_size(config) <= 65536)
);

comment on table public.campaign_steps is
  'The steps of each version of a campaign. Steps of the draft may be edited until brainops.publish_campaign; src/revenue/campaigns/README.md lists the kinds and their config.';
comment on column public.campaign_steps.version is
  'Left out: the draft, which is one more than the campaign''s version.';
comment on column public.campaign_steps.step_key is
  'Name of the step across versions: steps with the same key are the same step, which an enrolment reaches once. Left out: the step_number.';
comment on column public.campaign_steps.template is
  'Name of the template in ai_campaign_templates, for send_email and send_sms; else null.';
comment on column public.campaign_steps.delay is
  'How long after the previous step (or the enrolment, see delay_from) it is due; for wait_for, the longest wait. 0 to 3 years; days are calendar days in the lead''s time zone.';
comment on column public.campaign_steps.delay_from is
  'previous: the delay counts from the previous step. enrolment: from the enrolment, see ai_nurture_campaigns.schedule_start.';
comment on column public.campaign_steps.next_step is
  'step_number of the step that follows; null: the next number, or the end of the sequence.';

create table public.ai_campaign_templates (
  id uuid primary key default gen_random_uuid(),
  tenant_id uuid not null references public.tenants (id)
    on delete cascade,
  name text not null,
  channel text not null default 'email',
  subject text,
  body text not null,
  version int not null,
  created_at timestamptz not null default now(),
  constraint ai_campaign_templates_once unique (tenant_id, name, channel, version),
  constraint ai_campaign_templates_channel_known check (channel in ('email', 'sms')),
  constraint ai_campaign_templates_name_given check (length(name) between 1 and 200),
  constraint ai_campaign_templates_subject_of_mail check (channel <> 'email' or btrim(coalesce(subject, '')) <> ''),
  constraint ai_campaign_templates_body_given check (btrim(body) <> ''),
  constraint ai_campaign_templates_version_positive check (version >= 1),
  constraint ai_campaign_templates_subject_at_most_1000_bytes check (octet_length(subject) <= 1000),
  constraint ai_campaign_templates_body_at_most_262144_bytes check (octet_length(body) <= 262144)
);

comment on table public.ai_campaign_templates is
  'Texts of campaigns, in Liquid. To change one, insert its name again: the next touch uses the newest version. A version that was sent cannot be changed or deleted.';
comment on column public.ai_campaign_templates.version is
  'Left out: one more than the newest version of that name and channel, or 1.';

create table public.ai_nurture_campaigns (
  id uuid primary key default gen_random_uuid(),
  tenant_id uuid not null references public.tenants (id),
  lead_id uuid,
  campaign_type text not null,
  status text not null default 'active',
  next_touch_date timestamptz,
  touch_count int not null default 0,
  created_at timestamptz not null default now(),
  name text,
  is_active boolean not null default true,
  campaign_id uuid,
  version int,
  entrance int not null default 1,
  enrolled_at timestamptz,
  schedule_start timestamptz,
  held_since timestamptz,
  split_key text,
  variant text,
  exit_reason text,
  ended_at timestamptz,
  constraint ai_nurture_campaigns_tenant_row unique (tenant_id, id),
  constraint ai_nurture_campaigns_lead
    foreign key (tenant_id, lead_id) references public.revenue_leads (tenant_id, id)
      on delete cascade,
  constraint ai_nurture_campaigns_campaign
    foreign key (tenant_id, campaign_id) references public.campaigns (tenant_id, id),
  constraint ai_nurture_campaigns_status_known
    check (status in ('active', 'paused', 'completed', 'exited', 'cancelled')),
  constraint ai_nurture_campaigns_lead_or_name check (lead_id is not null or name is not null),
  constraint ai_nurture_campaigns_enrolment_is_pinned
    check (lead_id is null or (campaign_id is not null and version is not null)),
  constraint ai_nurture_campaigns_touch_count_not_negative check (touch_count >= 0),
  constraint ai_nurture_campaigns_over_has_end
    check (lead_id is null or (status in ('completed', 'exited', 'cancelled')) = (ended_at is not null)),
  constraint ai_nurture_campaigns_paused_is_held
    check (lead_id is null or status <> 'paused' or held_since is not null),
  constraint ai_nurture_campaigns_campaign_type_at_most_300_bytes check (octet_length(campaign_type) <= 300),
  constraint ai_nurture_campaigns_name_at_most_1000_bytes check (octet_length(name) <= 1000),
  constraint ai_nurture_campaigns_exit_reason_at_most_1000_bytes check (octet_length(exit_reason) <= 1000)
);

-- One row for each entrance of a lead, and at most one that runs.
create unique index ai_nurture_campaigns_one_per_lead on public.ai_nurture_campaigns (
  tenant_id,
  lead_id,
  campaign_type,
  entrance
)
where lead_id is not null;
create unique index ai_nurture_campaigns_one_running on public.ai_nurture_campaigns (tenant_id, lead_id, campaign_type)
where lead_id is not null and status in ('active', 'paused');
create index ai_nurture_campaigns_lead_id on public.ai_nurture_campaigns (tenant_id, lead_id) where lead_id is not null;
create index ai_nurture_campaigns_campaign_id on public.ai_nurture_campaigns (tenant_id, campaign_id)
where campaign_id is not null;

comment on table public.ai_nurture_campaigns is
  'Enrolments: one lead in one campaign. Insert lead_id and campaign_type to run the whole sequence; set status to paused, active or cancelled to steer it. A row without lead_id is a client''s own definition, which is stored and not used.';
comment on column public.ai_nurture_campaigns.campaign_type is 'Code of the campaign (campaigns.code).';
comment on column public.ai_nurture_campaigns.status is
  'active, paused, completed (all steps done), exited (exit_reason says why) or cancelled. The last three are final.';
comment on column public.ai_nurture_campaigns.next_touch_date is 'When the next step is due; null if none follows.';
comment on column public.ai_nurture_campaigns.touch_count is 'Number of messages queued so far.';
comment on column public.ai_nurture_campaigns.version is 'Version of the campaign that it runs on.';
comment on column public.ai_nurture_campaigns.entrance is
  'How many times the lead has entered this campaign, including this time; from 1.';
comment on column public.ai_nurture_campaigns.schedule_start is
  'Where delays from the enrolment start: enrolled_at, moved by the length of pauses and outages.';
comment on column public.ai_nurture_campaigns.held_since is
  'Since when its clock is stopped, because it or its campaign is paused or the campaign is not launched; null while it runs.';
comment on column public.ai_nurture_campaigns.exit_reason is
  'Why it was exited or cancelled, such as an event, goal: <event>, or a text given to brainops.exit_enrolment; the reason of an exit step if one completed it; else null.';
comment on column public.ai_nurture_campaigns.variant is
  'Variant that the last split (split_key) chose; null before the first split.';

create table public.ai_campaign_touches (
  id uuid primary key default gen_random_uuid(),
  tenant_id uuid not null,
  campaign_id uuid not null,
  touch_type text not null,
  scheduled_for timestamptz not null default now(),
  content_template text,
  status text not null default 'pending',
  step_key text,
  step_number int,
  version int,
  entrance int not null default 1,
  due_at timestamptz,
  woken_at timestamptz,
  performed_at timestamptz,
  outcome text,
  next_key text,
  message_id uuid,
  template_version int,
  split_key text,
  variant text,
  constraint ai_campaign_touches_enrolment
    foreign key (tenant_id, campaign_id) references public.ai_nurture_campaigns (tenant_id, id)
      on delete cascade,
  constraint ai_campaign_touches_type_known
    check (touch_type in ('email', 'sms', 'wait', 'wait_for', 'branch', 'split', 'task', 'notify', 'exit')),
  constraint ai_campaign_touches_content_template_at_most_300_bytes check (octet_length(content_template) <= 300)
);

select brainops_internal.add_job_columns('public.ai_campaign_touches', p_max_attempts => 10);

-- No step happens twice.
create unique index ai_campaign_touches_once on public.ai_campaign_touches (tenant_id, campaign_id, entrance, step_key)
where step_key is not null;
-- No enrolment is at two steps at a time.
create unique index ai_campaign_touches_one_open on public.ai_campaign_touches (tenant_id, campaign_id)
where step_key is not null and performed_at is null;
create index ai_campaign_touches_campaign_id on public.ai_campaign_touches (tenant_id, campaign_id);
create index ai_campaign_touches_split on public.ai_campaign_touches (tenant_id, split_key, variant)
where split_key is not null;
create index ai_campaign_touches_template on public.ai_campaign_touches (tenant_id, content_template, template_version)
where template_version is not null;

comment on table public.ai_campaign_touches is
  'One row for each step that an enrolment reaches, performed when it is due. Update scheduled_for to move it; set status to cancelled to leave the step out.';
comment on column public.ai_campaign_touches.campaign_id is
  'The enrolment: a row of ai_nurture_campaigns (not of campaigns).';
comment on column public.ai_campaign_touches.touch_type is 'email, sms, or the kind of a step that sends nothing.';
comment on column public.ai_campaign_touches.content_template is
  'Name of the template in ai_campaign_templates; its newest version is used when the touch is performed (template_version).';
comment on column public.ai_campaign_touches.step_key is
  'The step of the sequence; null for a touch that a client added outside the sequence.';
comment on column public.ai_campaign_touches.due_at is
  'When it was planned for. The next touch is planned from here, while scheduled_for moves with each deferral.';
comment on column public.ai_campaign_touches.woken_at is
  'When the event came that a wait_for waits for; null if it has not come.';
comment on column public.ai_campaign_touches.performed_at is
  'When it was performed or skipped, after which it never happens again; null before.';
comment on column public.ai_campaign_touches.outcome is
  'What the step did, as a text for people; null before performed_at.';
comment on column public.ai_campaign_touches.next_key is
  'step_key of the step that it led to; null if the sequence ended.';
comment on column public.ai_campaign_touches.message_id is
  'Its row in ai_email_queue or ai_sms_queue, which may be archived by now; null if it sent nothing.';
comment on column public.ai_campaign_touches.variant is 'Variant of the split split_key that the enrolment was in.';

create table public.campaign_rules (
  id uuid primary key default gen_random_uuid(),
  tenant_id uuid not null,
  campaign_id uuid not null,
  name text not null,
  tiers text[],
  stages text[],
  sources text[],
  condition jsonb,
  leaves text[] not null default '{}',
  active boolean not null default true,
  created_at timestamptz not null default now(),
  constraint campaign_rules_campaign
    foreign key (tenant_id, campaign_id) references public.campaigns (tenant_id, id)
      on delete cascade,
  constraint campaign_rules_name_once unique (tenant_id, name),
  constraint campaign_rules_asks_something
    check (coalesce(tiers, stages, sources) is not null or condition is not null),
  constraint campaign_rules_name_at_most_300_bytes check (octet_length(name) <= 300),
  constraint campaign_rules_tiers_at_most_4096_bytes check (pg_column_size(tiers) <= 4096),
  constraint campaign_rules_stages_at_most_4096_bytes check (pg_column_size(stages) <= 4096),
  constraint campaign_rules_sources_at_most_4096_bytes check (pg_column_size(sources) <= 4096),
  constraint campaign_rules_leaves_at_most_4096_bytes check (pg_column_size(leaves) <= 4096),
  constraint campaign_rules_condition_at_most_65536_bytes check (pg_column_size(condition) <= 65536)
);

create index campaign_rules_campaign_id on public.campaign_rules (tenant_id, campaign_id);

comment on table public.campaign_rules is
  'Which leads are enrolled automatically: a lead whose tier, stage, source or other fields come to fit a rule enters its campaign, if that is active.';
comment on column public.campaign_rules.tiers is 'hot, warm, cool, cold; null: any tier.';
comment on column public.campaign_rules.stages is 'Stages of a lead; null: any but won and lost.';
comment on column public.campaign_rules.sources is 'Values of revenue_leads.source; null: any.';
comment on column public.campaign_rules.condition is
  'A further condition, in the form that branch steps have; null: none.';
comment on column public.campaign_rules.leaves is
  'Codes of campaigns whose running enrolments of the lead end when the rule applies.';

create table public.campaign_split_winners (
  id uuid primary key default gen_random_uuid(),
  tenant_id uuid not null,
  campaign_id uuid not null,
  version int not null,
  step_key text not null,
  variant text not null,
  decided_at timestamptz not null default now(),
  figures jsonb not null default '{}',
  constraint campaign_split_winners_campaign
    foreign key (tenant_id, campaign_id) references public.campaigns (tenant_id, id)
      on delete cascade,
  constraint campaign_split_winners_once unique (tenant_id, campaign_id, version, step_key),
  constraint campaign_split_winners_step_key_at_most_300_bytes check (octet_length(step_key) <= 300),
  constraint campaign_split_winners_variant_at_most_300_bytes check (octet_length(variant) <= 300),
  constraint campaign_split_winners_figures_at_most_65536_bytes check (pg_column_size(figures) <= 65536)
);

comment on table public.campaign_split_winners is
  'The variant that won a split; later enrolments take it. Insert a row to decide by hand; delete it to continue testing.';
comment on column public.campaign_split_winners.figures is
  'Touches and hits of each variant when the winner was decided; {} if decided by hand.';

create table public.lead_tasks (
  id uuid primary key default gen_random_uuid(),
  tenant_id uuid not null references public.tenants (id),
  lead_id uuid not null,
  title text not null,
  description text,
  status text not null default 'open',
  priority text not null default 'normal',
  due_at timestamptz,
  assigned_to text,
  touch_id uuid,
  created_at timestamptz not null default now(),
  done_at timestamptz,
  constraint lead_tasks_lead
    foreign key (tenant_id, lead_id) references public.revenue_leads (tenant_id, id)
      on delete cascade,
  constraint lead_tasks_status_known check (status in ('open', 'done', 'cancelled')),
  constraint lead_tasks_priority_known check (priority in ('high', 'normal', 'low')),
  constraint lead_tasks_title_given check (length(title) between 1 and 500),
  constraint lead_tasks_description_at_most_10000_bytes check (octet_length(description) <= 10000),
  constraint lead_tasks_assigned_to_at_most_1000_bytes check (octet_length(assigned_to) <= 1000)
);

create unique index lead_tasks_once_per_touch on public.lead_tasks (tenant_id, touch_id) where touch_id is not null;
create index lead_tasks_lead_id on public.lead_tasks (tenant_id, lead_id);
create index lead_tasks_open on public.lead_tasks (tenant_id, due_at) where status = 'open';

comment on table public.lead_tasks is
  'Tasks for a person about a lead, such as a call or a visit. Created by steps of kind task, or by any client.';
comment on column public.lead_tasks.touch_id is 'The touch that created it; null if a client did.';
comment on column public.lead_tasks.assigned_to is 'Who is to do it; null: no one in particular.';

create table public.campaign_touch_events (
  id uuid primary key default gen_random_uuid(),
  tenant_id uuid not null references public.tenants (id),
  touch_id uuid not null,
  event text not null,
  occurred_at timestamptz not null,
  detail text,
  constraint campaign_touch_events_touch
    foreign key (tenant_id, touch_id) references public.ai_campaign_touches (tenant_id, id)
      on delete cascade,
  constraint campaign_touch_events_once unique (tenant_id, touch_id, event),
  constraint campaign_touch_events_known
    check (
      event in (
        'sent',
        'skipped',
        'failed',
        'cancelled',
        'opened',
        'clicked',
        'replied',
        'bounced',
        'unsubscribed',
        'complained'
      )
    )
);

comment on table public.campaign_touch_events is
  'What happened to each touch''s message; each event is recorded once. Kept here, because queue rows move to the archive.';
comment on column public.campaign_touch_events.detail is 'Why the message was skipped, failed or cancelled; else null.';

create table brainops.library_templates (
  name text not null,
  channel text not null,
  subject text,
  body text not null,
  primary key (name, channel)
);

comment on table brainops.library_templates is 'Texts that each new tenant gets in ai_campaign_templates.';

create table brainops.library_campaigns (
  code text primary key,
  name text not null,
  description text not null,
  goal_event text,
  exit_on text[] not null,
  steps jsonb not null,
  rule jsonb
);

comment on table brainops.library_campaigns is
  'Campaigns that each new tenant gets in campaigns, campaign_steps and campaign_rules.';
comment on column brainops.library_campaigns.steps is 'Rows of campaign_steps, as an array of objects.';
comment on column brainops.library_campaigns.rule is
  'Row of campaign_rules for the campaign, as an object; null: no lead is enrolled automatically.';
