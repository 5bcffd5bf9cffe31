-- Campaigns: sequences as rows, the people in them, and each touch as a job row of its own.
--
--   campaigns ──< campaign_steps (by version)           what shall happen
--       └──< ai_nurture_campaigns (one enrolment)       to whom, on which version
--               └──< ai_campaign_touches (job table)    one row for each step that is reached
--                        └── ai_email_queue, ai_sms_queue, lead_tasks, tenant_notifications
--
-- Performing a touch is one call of brainops.perform_touch in one transaction: it marks the touch,
-- inserts what the step makes and the next touch. A worker that dies before the commit has done
-- nothing, one that dies after it has done all; so a touch happens once, and the next one exists.
-- An enrolment never has more than one open touch of its sequence (ai_campaign_touches_one_open),
-- and never two of the same step (ai_campaign_touches_once).
--
-- Time: due_at is when a touch was planned, scheduled_for when its job runs. The next touch is
-- reckoned from due_at, so being a little late never adds up. Being late by more than an hour, or by
-- more than half of the gap that follows, moves the rest of the schedule along: after an outage nobody
-- gets two mails in a row. Days are calendar days in the lead's zone (across DST the hour of the day
-- stays), hours are hours. In a pause time stands still.
--
-- Lock order: campaign, lead, enrolment, touch, queue row. Who holds an enrolment never waits for
-- a row of a queue (skip locked): what a claim holds at that moment, the gate decides.
set local lock_timeout = '2s';

create function brainops.time_between(p_from timestamptz, p_to timestamptz)
returns interval
language sql
immutable
parallel safe
as $$
  select make_interval(secs => (extract(epoch from p_to) - extract(epoch from p_from))::float8);
$$;

comment on function brainops.time_between(timestamptz, timestamptz) is
  'The time between two instants in seconds, so that adding it meets no calendar.';

create function brainops.add_delay(p_at timestamptz, p_delay interval, p_time_zone text)
returns timestamptz
language plpgsql
stable
parallel safe
set search_path = ''
as $$
declare
  v_calendar interval := make_interval(
    years => extract(year from p_delay)::int,
    months => extract(month from p_delay)::int,
    days => extract(day from p_delay)::int
  );
begin
  -- Without days no way there and back through local time, which in the repeated hour of autumn is not unique.
  if v_calendar = '0' then
    return p_at + p_delay;
  end if;
  return ((p_at at time zone p_time_zone) + v_calendar) at time zone p_time_zone + (p_delay - v_calendar);
end;
$$;

comment on function brainops.add_delay(timestamptz, interval, text) is
  'The instant after a delay: days, months and years by the calendar of the zone, hours and less exactly.';

-- The conditions of branches and rules --------------------------------------------------------

-- What is wrong with a condition, one sentence each; nothing where it is right.
create function brainops.condition_problems(p_condition jsonb)
returns setof text
language plpgsql
stable
set search_path = ''
as $$
declare
  c_fields constant text[] := array[
    'tier', 'stage', 'score', 'value_estimate', 'source', 'company_name', 'contact_name', 'email', 'phone', 'website',
    'time_zone'
  ];
  c_operators constant text[] := array['=', '!=', '<', '<=', '>', '>=', 'in', 'exists'];
  v_part jsonb;
  v_key text;
begin
  if jsonb_typeof(p_condition) is distinct from 'object' then
    return next format('condition %s is no object; expected all, any, not, field or event', coalesce(left(p_condition::text, 80), 'null'));
    return;
  end if;

  if p_condition ?| array['all', 'any'] then
    v_key := case when p_condition ? 'all' then 'all' else 'any' end;
    if jsonb_typeof(p_condition -> v_key) <> 'array' or p_condition -> v_key = '[]' then
      return next format('%s %s is no list of conditions', v_key, left((p_condition -> v_key)::text, 80));
      return;
    end if;
    for v_part in select * from jsonb_array_elements(p_condition -> v_key)
    loop
      return query select brainops.condition_problems(v_part);
    end loop;
  elsif p_condition ? 'not' then
    v_key := 'not';
    return query select brainops.condition_problems(p_condition -> 'not');
  elsif p_condition ? 'field' then
    if not (p_condition ->> 'field' = any (c_fields) or p_condition ->> 'field' ~ '^metadata\.\w+$') then
      return next format('field %s is unknown; expected %s or metadata.<key>', quote_literal(p_condition ->> 'field'), array_to_string(c_fields, ', '));
    end if;
    if not coalesce(p_condition ->> 'op', '=') = any (c_operators) then
      return next format('op %s is unknown; expected one of %s', quote_literal(p_condition ->> 'op'), array_to_string(c_operators, ' '));
    elsif p_condition ->> 'op' = 'in' and jsonb_typeof(p_condition -> 'value') is distinct from 'array' then
      return next format('value %s is no list, which op in needs', coalesce(left((p_condition -> 'value')::text, 80), 'null'));
    elsif p_condition ->> 'op' in ('<', '<=', '>', '>=') and jsonb_typeof(p_condition -> 'value') is distinct from 'number' then
      return next format('value %s is no number, which op %s needs', coalesce(left((p_condition -> 'value')::text, 80), 'null'), p_condition ->> 'op');
    elsif not p_condition ? 'value' and p_condition ->> 'op' is distinct from 'exists' then
      return next format('field %s has no value to compare with', quote_literal(p_condition ->> 'field'));
    end if;
  elsif p_condition ? 'event' then
    if not coalesce(p_condition ->> 'event', '') ~ '^[a-z][a-z0-9_]{0,62}$' then
      return next format('event %s is no event''s word', quote_literal(left(p_condition ->> 'event', 80)));
    end if;
    if not brainops.is_interval(coalesce(p_condition ->> 'within', '1 day')) then
      return next format('within %s is no positive interval such as 7 days', quote_literal(p_condition ->> 'within'));
    end if;
    if not coalesce(p_condition ->> 'at_least', '1') ~ '^[1-9][0-9]{0,5}$' then
      return next format('at_least %s is no number from 1 on', p_condition -> 'at_least');
    end if;
  else
    return next format('condition %s has none of all, any, not, field, event', left(p_condition::text, 80));
    return;
  end if;

  for v_key in
    select jsonb_object_keys(p_condition)
    except
    select unnest(case
      when p_condition ? 'field' then array['field', 'op', 'value']
      when p_condition ? 'event' then array['event', 'within', 'at_least', 'channel']
      else array[v_key]
    end)
  loop
    return next format('key %s is not known in condition %s', quote_literal(v_key), left(p_condition::text, 80));
  end loop;
end;
$$;

comment on function brainops.condition_problems(jsonb) is
  'What is wrong with a condition, one sentence each. {"all": […]}, {"any": […]}, {"not": …}, {"field": "score", "op": ">=", "value": 80}, {"event": "email_clicked", "within": "7 days", "at_least": 2}.';

create function brainops.is_interval(p_text text)
returns boolean
language plpgsql
stable
set search_path = ''
as $$
begin
  return p_text::interval > '0';
exception
  when data_exception then return false;
end;
$$;

comment on function brainops.is_interval(text) is 'Whether the text spells a positive interval, such as 7 days.';

-- p_since: from when on events count that do not say "within".
create function brainops.condition_holds(p_condition jsonb, p_lead public.revenue_leads, p_since timestamptz)
returns boolean
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
  v_part jsonb;
  v_field text := p_condition ->> 'field';
  v_op text := coalesce(p_condition ->> 'op', '=');
  v_found text;
  v_value jsonb := p_condition -> 'value';
  v_since timestamptz;
begin
  if p_condition ? 'all' then
    for v_part in select * from jsonb_array_elements(p_condition -> 'all')
    loop
      if not brainops.condition_holds(v_part, p_lead, p_since) then
        return false;
      end if;
    end loop;
    return true;
  elsif p_condition ? 'any' then
    for v_part in select * from jsonb_array_elements(p_condition -> 'any')
    loop
      if brainops.condition_holds(v_part, p_lead, p_since) then
        return true;
      end if;
    end loop;
    return false;
  elsif p_condition ? 'not' then
    return not brainops.condition_holds(p_condition -> 'not', p_lead, p_since);
  elsif p_condition ? 'event' then
    v_since := case
      when p_condition ? 'within' then brainops.now() - (p_condition ->> 'within')::interval
      else p_since
    end;
    return (
      select count(*) >= coalesce((p_condition ->> 'at_least')::int, 1)
      from public.lead_events as v
      where v.tenant_id = p_lead.tenant_id
        and v.lead_id = p_lead.id
        and v.event = p_condition ->> 'event'
        and (not p_condition ? 'channel' or v.channel = p_condition ->> 'channel')
        and greatest(v.occurred_at, v.created_at) >= v_since
    );
  end if;

  v_found := case
    when v_field like 'metadata.%' then p_lead.metadata ->> substr(v_field, 10)
    else to_jsonb(p_lead) ->> v_field
  end;
  return case
    when v_op = 'exists' then (coalesce(v_found, '') <> '') = coalesce((v_value)::boolean, true)
    when v_op = '!=' then v_found is distinct from (v_value #>> '{}')
    when v_found is null then false
    when v_op = 'in' then v_found in (select jsonb_array_elements_text(v_value))
    when jsonb_typeof(v_value) = 'number' then
      -- A word where a number is asked for is no number, not an error in the night.
      coalesce(case when v_found ~ '^-?[0-9]+(\.[0-9]+)?$' then case v_op
        when '=' then v_found::numeric = (v_value)::numeric
        when '<' then v_found::numeric < (v_value)::numeric
        when '<=' then v_found::numeric <= (v_value)::numeric
        when '>' then v_found::numeric > (v_value)::numeric
        when '>=' then v_found::numeric >= (v_value)::numeric
      end end, false)
    else v_found = v_value #>> '{}'
  end;
end;
$$;

comment on function brainops.condition_holds(jsonb, public.revenue_leads, timestamptz) is
  'Whether a condition is true of a lead now; events count since p_since unless the condition says within.';

-- Tables ------------------------------------------------------------------------------------------

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
  constraint campaigns_exit_on_has_no_null check (array_position(exit_on, null) is null)
);

comment on table public.campaigns is
  'A sequence of a tenant. status active launches it, paused holds it, archived ends it; nothing is sent while it is a draft.';
comment on column public.campaigns.code is
  'What ai_nurture_campaigns.campaign_type says: a-z, 0-9, _ and -, at most 63 characters.';
comment on column public.campaigns.version is
  'The version that new enrolments take, published by brainops.publish_campaign; 0: none yet. Steps up to it cannot be changed.';
comment on column public.campaigns.goal_event is
  'Word of lead_events, or won: reaching it ends an enrolment with the reason goal: ….';
comment on column public.campaigns.exit_on is
  'What ends an enrolment: words of lead_events, word:channel for one channel only, and the stages won and lost.';
comment on column public.campaigns.reentry is
  'none: a lead enters once. after_exit: again, as the next entrance, once the enrolment before is over.';

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
  -- At the end of each statement, so that one update can renumber.
  constraint campaign_steps_number_once
    unique (tenant_id, campaign_id, version, step_number) deferrable initially immediate,
  constraint campaign_steps_key_once unique (tenant_id, campaign_id, version, step_key) deferrable initially immediate,
  constraint campaign_steps_number_range check (step_number between 1 and 1000),
  constraint campaign_steps_key_is_short_name check (step_key ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
  constraint campaign_steps_kind_known
    check (kind in ('send_email', 'send_sms', 'wait', 'wait_for', 'branch', 'split', 'task', 'notify', 'exit')),
  constraint campaign_steps_delay_range check (delay >= '0' and delay <= '3 years'),
  constraint campaign_steps_delay_from_known check (delay_from in ('previous', 'enrolment')),
  constraint campaign_steps_config_is_object check (jsonb_typeof(config) = 'object')
);

comment on table public.campaign_steps is
  'The steps of each version of a campaign. Free to edit until brainops.publish_campaign; sql/_README.md lists the kinds.';
comment on column public.campaign_steps.version is 'Left out: the one after the version in force, i.e. the draft.';
comment on column public.campaign_steps.step_key is
  'What the step is called across versions: the same key is the same touch, which never happens twice. Left out: the step''s number.';
comment on column public.campaign_steps.template is 'Name in ai_campaign_templates; for send_email and send_sms.';
comment on column public.campaign_steps.delay is
  'How long after the step before (or the enrolment) it is due; of wait_for: how long it waits at most. Days are calendar days in the lead''s zone.';
comment on column public.campaign_steps.next_step is 'Which step comes next; null: the next number, or the end.';

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
  constraint ai_campaign_templates_version_positive check (version >= 1)
);

comment on table public.ai_campaign_templates is
  'Copy of campaigns, in Liquid. To change one, insert it again: the newest version is taken by the next touch; what a person was sent stays on record.';
comment on column public.ai_campaign_templates.version is
  'Left out: one more than the newest of that name and channel.';

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
  constraint ai_nurture_campaigns_paused_is_held check (lead_id is null or status <> 'paused' or held_since is not null)
);

-- One for each entrance, and one at a time.
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
  'Enrolments: one lead in one campaign. Insert lead_id and campaign_type, and the whole sequence runs; update status to paused, active or cancelled to steer it. A row without a lead is a client''s own definition: kept, and nothing more.';
comment on column public.ai_nurture_campaigns.campaign_type is 'Code of a row in campaigns.';
comment on column public.ai_nurture_campaigns.status is
  'active, paused, completed (all steps done), exited (exit_reason says why) or cancelled.';
comment on column public.ai_nurture_campaigns.next_touch_date is 'When the next step is due; null when there is none.';
comment on column public.ai_nurture_campaigns.touch_count is 'Messages made so far.';
comment on column public.ai_nurture_campaigns.version is 'Version of the campaign that it runs on.';
comment on column public.ai_nurture_campaigns.entrance is 'Which time the lead is in this campaign, from 1.';
comment on column public.ai_nurture_campaigns.schedule_start is
  'What delays from the enrolment count from: when it began, moved along by pauses and outages.';
comment on column public.ai_nurture_campaigns.held_since is
  'Since when its time stands still, because it or its campaign is paused; null while it runs.';
comment on column public.ai_nurture_campaigns.variant is 'What the last split (split_key) chose; null before any.';

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
    check (touch_type in ('email', 'sms', 'wait', 'wait_for', 'branch', 'split', 'task', 'notify', 'exit'))
);

-- A touch never happens twice.
create unique index ai_campaign_touches_once on public.ai_campaign_touches (tenant_id, campaign_id, entrance, step_key)
where step_key is not null;
-- And no enrolment is at two steps at a time.
create unique index ai_campaign_touches_one_open on public.ai_campaign_touches (tenant_id, campaign_id)
where step_key is not null and performed_at is null;
create index ai_campaign_touches_campaign_id on public.ai_campaign_touches (tenant_id, campaign_id);
create index ai_campaign_touches_split on public.ai_campaign_touches (tenant_id, split_key, variant)
where split_key is not null;

comment on table public.ai_campaign_touches is
  'One row for each step that an enrolment reaches; performed by brainops.perform_touch when it is due. Update scheduled_for to move it; cancelled leaves the step out.';
comment on column public.ai_campaign_touches.campaign_id is 'The enrolment: a row of ai_nurture_campaigns.';
comment on column public.ai_campaign_touches.touch_type is 'email, sms, or the kind of a step that sends nothing.';
comment on column public.ai_campaign_touches.content_template is
  'Name in ai_campaign_templates; its newest version is taken when the touch is performed (template_version).';
comment on column public.ai_campaign_touches.step_key is
  'The step of the sequence; null for a touch that a client added beside it.';
comment on column public.ai_campaign_touches.due_at is
  'When it was planned for; what follows is reckoned from here, while scheduled_for may be put off.';
comment on column public.ai_campaign_touches.woken_at is 'When the event that a wait_for waits for came; null before.';
comment on column public.ai_campaign_touches.performed_at is 'When it happened: from then on it never does again.';
comment on column public.ai_campaign_touches.outcome is 'What came of it, in words.';
comment on column public.ai_campaign_touches.next_key is 'The step that it led to; null for the end.';
comment on column public.ai_campaign_touches.message_id is
  'Row of ai_email_queue or ai_sms_queue (or of the archive); null where it sent nothing.';
comment on column public.ai_campaign_touches.variant is 'Variant of split_key that the enrolment was in.';

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
  constraint campaign_rules_asks_something check (coalesce(tiers, stages, sources) is not null or condition is not null)
);

create index campaign_rules_campaign_id on public.campaign_rules (tenant_id, campaign_id);

comment on table public.campaign_rules is
  'Which leads enter which campaign by themselves: when a lead''s tier, stage or source comes to fit, it is enrolled. Only active campaigns take anyone.';
comment on column public.campaign_rules.tiers is 'hot, warm, cool, cold; null: any. Likewise stages and sources.';
comment on column public.campaign_rules.condition is
  'More to ask, in the language of branch steps; null: nothing more.';
comment on column public.campaign_rules.leaves is 'Codes of campaigns that the lead leaves when the rule applies.';

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
  constraint campaign_split_winners_once unique (tenant_id, campaign_id, version, step_key)
);

comment on table public.campaign_split_winners is
  'The variant that won a split; who comes to the split from then on takes it. Insert a row to decide by hand, delete it to go on testing.';
comment on column public.campaign_split_winners.figures is 'Touches and rate of each variant when it was decided.';

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
  constraint lead_tasks_title_given check (length(title) between 1 and 500)
);

create unique index lead_tasks_once_per_touch on public.lead_tasks (tenant_id, touch_id) where touch_id is not null;
create index lead_tasks_lead_id on public.lead_tasks (tenant_id, lead_id);
create index lead_tasks_open on public.lead_tasks (tenant_id, due_at) where status = 'open';

comment on table public.lead_tasks is
  'Work for a person about a lead: a call, a visit. Made by steps of kind task, or by anyone.';
comment on column public.lead_tasks.assigned_to is 'Who shall do it; null: whoever comes.';

select brainops.protect_table(t)
from
  unnest(
    array[
      'public.campaigns',
      'public.campaign_steps',
      'public.ai_campaign_templates',
      'public.ai_nurture_campaigns',
      'public.campaign_rules',
      'public.campaign_split_winners',
      'public.lead_tasks'
    ]::regclass[]
  ) as t;

-- Tenants say who is enrolled and what shall become of it; where it stands is the engine's to write.
revoke insert, update on public.ai_nurture_campaigns from brainops_tenant, brainops_service;
grant
  insert (
    id,
    tenant_id,
    lead_id,
    campaign_type,
    status,
    next_touch_date,
    touch_count,
    created_at,
    name,
    is_active,
    exit_reason
  ),
  update (status, name, is_active, exit_reason)
on public.ai_nurture_campaigns
to brainops_tenant, brainops_service;
-- Published by brainops.publish_campaign alone.
revoke insert, update on public.campaigns from brainops_tenant, brainops_service;
grant
  insert (id, tenant_id, code, name, description, status, goal_event, exit_on, reentry, created_at),
  update (name, description, status, goal_event, exit_on, reentry)
on public.campaigns
to brainops_tenant, brainops_service;

create trigger touch_updated_at
before update on public.campaigns
for each row
execute function brainops.touch_updated_at();

-- Which touches may be performed now -------------------------------------------------------------

create function brainops.enrolment_hold_reason(p_enrolment public.ai_nurture_campaigns, p_campaign public.campaigns)
returns text
language sql
immutable
set search_path = ''
as $$
  select
    case
      when p_enrolment.status = 'paused' then 'held: the enrolment is paused; update ai_nurture_campaigns set status = ''active'' lets it go on'
      when p_campaign.status = 'paused' then 'held: campaign ' || p_campaign.code || ' is paused; brainops.resume_campaign lets it go on'
      when p_campaign.status = 'draft' then 'held: campaign ' || p_campaign.code || ' is not launched; update campaigns set status = ''active'' where code = ' || quote_literal(
        p_campaign.code
      )
      when p_enrolment.held_since is not null then 'held'
    end;
$$;

comment on function brainops.enrolment_hold_reason(public.ai_nurture_campaigns, public.campaigns) is
  'What an enrolment waits for: its own pause, its campaign''s, or the launch; null when it runs.';

create function brainops.gate_campaign_touch(p_ids uuid[])
returns setof brainops.verdict
language sql
stable
set search_path = ''
as $$
  select
    t.id,
    case
      when e.status in ('active', 'paused') then 'defer'
      else 'skip'
    end,
    case
      when e.status in ('active', 'paused') then brainops.now() + interval '1 hour'
    end,
    coalesce(
      brainops.enrolment_hold_reason(e, c),
      'the enrolment is ' || e.status || coalesce(': ' || e.exit_reason, '')
    )
  from
    public.ai_campaign_touches as t
    inner join public.ai_nurture_campaigns as e on e.tenant_id = t.tenant_id and e.id = t.campaign_id
    left join public.campaigns as c on c.tenant_id = e.tenant_id and c.id = e.campaign_id
  where
    t.id = any (p_ids)
    and t.performed_at is null
    and (
      e.status not in ('active', 'paused', 'completed')
      or (e.status = 'completed' and t.step_key is not null)
      or (e.status <> 'completed' and brainops.enrolment_hold_reason(e, c) is not null)
    );
$$;

comment on function brainops.gate_campaign_touch(uuid[]) is
  'Which touches may not be performed: the enrolment is over (skip), or it, its campaign or the launch is waited for (defer; going on moves them to their time).';

select
  brainops.define_job_table(
    'public.ai_campaign_touches',
    p_task_identifier => 'campaign_touch__run',
    p_effect_is_idempotent => true, -- what is performed is never performed again
    p_channel => 'campaign',
    p_gate => 'brainops.gate_campaign_touch',
    p_result_columns =>
      array[
        'step_key',
        'step_number',
        'version',
        'entrance',
        'due_at',
        'woken_at',
        'performed_at',
        'outcome',
        'next_key',
        'message_id',
        'template_version',
        'split_key',
        'variant'
      ],
    p_max_attempts => 10
  );

-- A touch that is on record is what keeps it from happening again.
update brainops.job_tables set archive_after = '10 years' where table_name = 'ai_campaign_touches';

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
  'What became of each touch''s message, once each: kept here because queue rows move to the archive.';
comment on column public.campaign_touch_events.detail is 'Why it was skipped, failed or cancelled; else null.';

select brainops.protect_table('public.campaign_touch_events');

revoke insert, update, delete on public.campaign_touch_events from brainops_tenant, brainops_service;

-- Steps and versions ----------------------------------------------------------------------------

create function brainops.before_campaign_step()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_row public.campaign_steps := case when tg_op = 'DELETE' then old else new end;
  v_campaign public.campaigns;
begin
  if brainops.current_tenant_id() <> v_row.tenant_id then
    -- As in enter_campaign: nothing of the other tenant is told before row level security refuses it.
    return v_row;
  end if;
  -- Else a published version would lose its steps to a draft.
  if tg_op = 'UPDATE' and (old.tenant_id, old.campaign_id) <> (new.tenant_id, new.campaign_id) then
    raise exception 'campaign_steps: step % belongs to its campaign for good', quote_literal(old.step_key)
      using errcode = 'OP021', column = 'campaign_id', hint = 'Insert it into the other campaign, and delete it here.';
  end if;
  select * into v_campaign from public.campaigns where tenant_id = v_row.tenant_id and id = v_row.campaign_id;
  if not found then
    -- The campaign goes, and its steps with it; or the foreign key says that there is none.
    return v_row;
  end if;
  if tg_op = 'INSERT' then
    new.version := coalesce(new.version, v_campaign.version + 1);
    new.step_key := coalesce(new.step_key, new.step_number::text);
    v_row := new;
  end if;
  if v_row.version <= v_campaign.version or (tg_op = 'UPDATE' and old.version <= v_campaign.version) then
    raise exception 'campaign_steps: version % of campaign % is published and cannot be changed', least(v_row.version, v_campaign.version), quote_literal(v_campaign.code)
      using errcode = 'OP021',
        hint = format('select brainops.revise_campaign(%L), change version %s, then brainops.publish_campaign(%L).', v_campaign.code, v_campaign.version + 1, v_campaign.code);
  end if;
  return v_row;
end;
$$;

create trigger b0_before_campaign_step
before insert or delete on public.campaign_steps
for each row
execute function brainops.before_campaign_step();
create trigger b1_before_campaign_step
before update on public.campaign_steps
for each row
when (old is distinct from new)
execute function brainops.before_campaign_step();

create function brainops.before_campaign_template()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  if tg_op = 'INSERT' then
    new.version := coalesce(
      new.version,
      (
        select max(t.version) + 1
        from public.ai_campaign_templates as t
        where t.tenant_id = new.tenant_id and t.name = new.name and t.channel = new.channel
      ),
      1
    );
  elsif (new.subject, new.body, new.name, new.channel, new.version) is distinct from (old.subject, old.body, old.name, old.channel, old.version)
    and exists (
      select from public.ai_campaign_touches as t
      where t.tenant_id = old.tenant_id and t.content_template = old.name and t.template_version = old.version
    )
  then
    raise exception 'ai_campaign_templates: version % of % was sent to people and cannot be changed', old.version, quote_literal(old.name)
      using errcode = 'OP021', hint = 'Insert the template again: it becomes the next version, which touches take from then on.';
  end if;
  return new;
end;
$$;

create trigger b0_before_campaign_template
before insert or update on public.ai_campaign_templates
for each row
execute function brainops.before_campaign_template();

create index ai_campaign_touches_template on public.ai_campaign_touches (tenant_id, content_template, template_version)
where template_version is not null;

-- A campaign by its code, of the tenant that is named or of the one that asks.
create function brainops.campaign_of(p_tenant text, p_code text)
returns public.campaigns
language plpgsql
stable
set search_path = ''
as $$
declare
  v_tenant_id uuid := case when p_tenant is null then brainops.current_tenant_id() else brainops.tenant_id_of(p_tenant) end;
  v_campaign public.campaigns;
begin
  -- Also asked by functions that see every tenant's rows.
  if v_tenant_id = brainops.current_tenant_id() or brainops.may_name_tenant() or pg_catalog.pg_has_role(session_user, 'brainops_admin', 'member') then
    select * into v_campaign from public.campaigns where tenant_id = v_tenant_id and code = p_code;
  end if;
  if v_campaign.id is null then
    raise exception 'campaign: % is no campaign of tenant %', quote_literal(p_code), coalesce(quote_literal(p_tenant), v_tenant_id::text, 'nobody')
      using errcode = 'OP020', hint = 'select code, status from campaigns; an admin names the tenant by its slug as well.';
  end if;
  return v_campaign;
end;
$$;

comment on function brainops.campaign_of(text, text) is
  'A campaign by tenant (slug or id; null: the current one) and code; OP020 where there is none.';

create function brainops.revise_campaign(p_code text, p_tenant text default null)
returns int
language plpgsql
set search_path = ''
as $$
declare
  v_campaign public.campaigns := brainops.campaign_of(p_tenant, p_code);
begin
  insert into public.campaign_steps
    (tenant_id, campaign_id, version, step_number, step_key, kind, name, template, delay, delay_from, next_step, config)
  select
    tenant_id, campaign_id, version + 1, step_number, step_key, kind, name, template, delay, delay_from, next_step, config
  from public.campaign_steps
  where tenant_id = v_campaign.tenant_id and campaign_id = v_campaign.id and version = v_campaign.version
    and not exists (
      select from public.campaign_steps as d
      where d.tenant_id = v_campaign.tenant_id and d.campaign_id = v_campaign.id and d.version > v_campaign.version
    );
  return v_campaign.version + 1;
end;
$$;

comment on function brainops.revise_campaign(text, text) is
  'Copies the steps in force, with their keys, as a draft to be edited; returns its version. A draft that is there already stays as it is.';

create function brainops.step_paths(p_kind text, p_config jsonb, p_next_step int)
returns table (path text, target jsonb)
language sql
immutable
set search_path = ''
as $$
  select 'next_step', to_jsonb(p_next_step)
  where p_next_step is not null
  union all
  select 'when[' || n - 1 || '].to', coalesce(w -> 'to', 'null')
  from
    jsonb_array_elements(
      case
        when p_kind = 'branch'
        and jsonb_typeof(p_config -> 'when') = 'array' then p_config -> 'when'
        else '[]'
      end
    ) with ordinality as b (w, n)
  union all
  select 'variants[' || n - 1 || '].to', coalesce(v -> 'to', 'null')
  from
    jsonb_array_elements(
      case
        when p_kind = 'split'
        and jsonb_typeof(p_config -> 'variants') = 'array' then p_config -> 'variants'
        else '[]'
      end
    ) with ordinality as b (v, n)
  union all
  select k, p_config -> k
  from
    unnest(
      case p_kind
        when 'branch' then '{else}'::text[]
        when 'wait_for' then '{then,else}'
        else '{}'
      end
    ) as k
  where p_config ? k;
$$;

comment on function brainops.step_paths(text, jsonb, int) is
  'Where a step may lead beside the next number: the name of each path, and the step it names.';

-- What keeps a version from being published, one sentence each, naming step and value.
create function brainops.campaign_problems(p_campaign_id uuid, p_version int)
returns setof text
language plpgsql
stable
set search_path = ''
as $$
declare
  v_step public.campaign_steps;
  v_numbers int[];
  v_reached int[] := '{}';
  v_said text;
  v_path record;
  v_item jsonb;
  v_keys text[];
  v_start text;
begin
  select array_agg(step_number order by step_number) into v_numbers
    from public.campaign_steps where campaign_id = p_campaign_id and version = p_version;
  if v_numbers is null then
    return next format('version %s has no steps; insert into campaign_steps, or select brainops.revise_campaign(…)', p_version);
    return;
  end if;
  v_reached := v_numbers[:1];

  for v_step in
    select * from public.campaign_steps where campaign_id = p_campaign_id and version = p_version order by step_number
  loop
    v_start := format('step %s (%s): ', v_step.step_number, v_step.kind);
    v_keys := case v_step.kind
      when 'send_email' then '{high_priority_when,transactional,variables}'::text[]
      when 'send_sms' then '{high_priority_when,transactional,variables}'
      when 'wait' then '{}'
      when 'wait_for' then '{event,then,else,since}'
      when 'branch' then '{when,else}'
      when 'split' then '{variants,winner}'
      when 'task' then '{title,description,assigned_to,priority,due_in}'
      when 'notify' then '{subject,body}'
      when 'exit' then '{reason}'
    end;
    select string_agg(quote_literal(k), ', ') into v_said from jsonb_object_keys(v_step.config) as k where k <> all (v_keys);
    if v_said is not null then
      return next v_start || format('config has %s; known are %s', v_said, coalesce(nullif(array_to_string(v_keys, ', '), ''), 'none'));
    end if;

    if v_step.kind in ('send_email', 'send_sms') then
      if not exists (
        select from public.ai_campaign_templates as t
        where t.tenant_id = v_step.tenant_id and t.name = v_step.template
          and t.channel = case v_step.kind when 'send_email' then 'email' else 'sms' end
      ) then
        return next v_start || format('template %s is not in ai_campaign_templates for this channel', coalesce(quote_literal(v_step.template), 'null'));
      end if;
      if v_step.config ? 'high_priority_when' then
        return query select v_start || 'high_priority_when: ' || p from brainops.condition_problems(v_step.config -> 'high_priority_when') as p;
      end if;
      if jsonb_typeof(coalesce(v_step.config -> 'variables', '{}')) <> 'object' then
        return next v_start || format('variables %s is no object', v_step.config -> 'variables');
      end if;
      if jsonb_typeof(coalesce(v_step.config -> 'transactional', 'true')) <> 'boolean' then
        return next v_start || format('transactional %s is neither true nor false', v_step.config -> 'transactional');
      end if;
    elsif v_step.template is not null then
      return next v_start || format('template %s is given, but the step sends nothing', quote_literal(v_step.template));
    end if;

    if v_step.kind in ('wait', 'wait_for') and v_step.delay = '0' then
      return next v_start || 'delay is 0; give how long it waits';
    end if;
    if v_step.kind = 'wait_for' then
      if not coalesce(v_step.config ->> 'event', '') ~ '^[a-z][a-z0-9_]{0,62}$' then
        return next v_start || format('event %s is no word of lead_events', coalesce(quote_literal(v_step.config ->> 'event'), 'null'));
      end if;
      if coalesce(v_step.config ->> 'since', 'step') not in ('step', 'enrolment') then
        return next v_start || format('since %s is neither step nor enrolment', quote_literal(v_step.config ->> 'since'));
      end if;
    elsif v_step.kind = 'branch' then
      if jsonb_typeof(v_step.config -> 'when') is distinct from 'array' or v_step.config -> 'when' = '[]' then
        return next v_start || format('when %s is no list of {"if": condition, "to": step}', coalesce(v_step.config ->> 'when', 'null'));
      else
        for v_item in select * from jsonb_array_elements(v_step.config -> 'when')
        loop
          return query select v_start || p from brainops.condition_problems(v_item -> 'if') as p;
        end loop;
      end if;
    elsif v_step.kind = 'split' then
      return query select v_start || p from brainops.split_problems(v_step.config) as p;
    elsif v_step.kind = 'task' then
      if coalesce(btrim(v_step.config ->> 'title'), '') = '' then
        return next v_start || 'title is missing; give what the person shall do';
      end if;
      if coalesce(v_step.config ->> 'priority', 'normal') not in ('high', 'normal', 'low') then
        return next v_start || format('priority %s is none of high, normal, low', quote_literal(v_step.config ->> 'priority'));
      end if;
      if not brainops.is_interval(coalesce(v_step.config ->> 'due_in', '1 day')) then
        return next v_start || format('due_in %s is no positive interval such as 1 day', quote_literal(v_step.config ->> 'due_in'));
      end if;
    elsif v_step.kind = 'notify' and coalesce(btrim(v_step.config ->> 'subject'), '') = '' then
      return next v_start || 'subject is missing; give what is told';
    end if;

    for v_path in select * from brainops.step_paths(v_step.kind, v_step.config, v_step.next_step)
    loop
      if jsonb_typeof(v_path.target) <> 'number' or not v_path.target::numeric = any (v_numbers) then
        return next v_start || format('%s %s is no step of this version', v_path.path, v_path.target);
      elsif v_path.target::numeric <= v_step.step_number then
        -- A touch never happens twice, so there is no way back.
        return next v_start || format('%s %s does not lead forward', v_path.path, v_path.target);
      elsif v_step.step_number = any (v_reached) then
        v_reached := v_reached || v_path.target::numeric::int;
      end if;
    end loop;
    -- Falls through to the next number.
    if v_step.step_number = any (v_reached) and v_step.kind <> 'exit' and v_step.next_step is null and not (
      case v_step.kind
        when 'branch' then v_step.config ? 'else'
        when 'split' then true
        when 'wait_for' then v_step.config ? 'then' and v_step.config ? 'else'
        else false
      end
    ) then
      v_reached := v_reached || v_numbers[array_position(v_numbers, v_step.step_number) + 1];
    end if;
    if not v_step.step_number = any (v_reached) then
      return next v_start || 'no step leads here';
    end if;
  end loop;
end;
$$;

comment on function brainops.campaign_problems(uuid, int) is
  'What keeps a version of a campaign from being published, one sentence each, naming step and value; nothing when it is right.';

create function brainops.split_problems(p_config jsonb)
returns setof text
language plpgsql
stable
set search_path = ''
as $$
declare
  v_variant jsonb;
  v_winner jsonb := p_config -> 'winner';
begin
  if jsonb_typeof(p_config -> 'variants') is distinct from 'array' or jsonb_array_length(p_config -> 'variants') < 2 then
    return next format('variants %s is no list of two or more {"name": …, "weight": …, "to": step}', coalesce(left(p_config ->> 'variants', 120), 'null'));
    return;
  end if;
  for v_variant in select * from jsonb_array_elements(p_config -> 'variants')
  loop
    if coalesce(v_variant ->> 'name', '') = '' then
      return next format('variant %s has no name', v_variant);
    end if;
    if jsonb_typeof(v_variant -> 'weight') is distinct from 'number' or not (v_variant ->> 'weight')::numeric between 1 and 10000
      or (v_variant ->> 'weight')::numeric % 1 <> 0
    then
      return next format('weight %s of variant %s is no whole number from 1 to 10000', coalesce(v_variant ->> 'weight', 'null'), coalesce(quote_literal(v_variant ->> 'name'), 'null'));
    end if;
  end loop;
  if (select count(distinct v ->> 'name') from jsonb_array_elements(p_config -> 'variants') as v) < jsonb_array_length(p_config -> 'variants') then
    return next 'two variants have the same name';
  end if;
  if v_winner is not null then
    if coalesce(v_winner ->> 'by', '') not in ('open', 'click', 'reply') then
      return next format('winner.by %s is none of open, click, reply', coalesce(quote_literal(v_winner ->> 'by'), 'null'));
    end if;
    if not v_winner ?| array['after_touches', 'after'] then
      return next 'winner says neither after_touches (per variant) nor after (an interval)';
    end if;
    if not coalesce(v_winner ->> 'after_touches', '1') ~ '^[1-9][0-9]{0,6}$' then
      return next format('winner.after_touches %s is no number from 1 on', v_winner ->> 'after_touches');
    end if;
    if not brainops.is_interval(coalesce(v_winner ->> 'after', '1 day')) then
      return next format('winner.after %s is no positive interval such as 7 days', quote_literal(v_winner ->> 'after'));
    end if;
  end if;
end;
$$;

comment on function brainops.split_problems(jsonb) is 'What is wrong with the config of a split, one sentence each.';

-- Enrolments: who enters -------------------------------------------------------------------------

create function brainops.normal_enrolment_status(p_word text)
returns text
language sql
immutable
parallel safe
set search_path = ''
as $$
  select
    case lower(btrim(p_word))
      when 'active' then 'active'
      when 'pending' then 'active'
      when 'new' then 'active'
      when 'enrolled' then 'active'
      when 'running' then 'active'
      when 'in_progress' then 'active'
      when 'paused' then 'paused'
      when 'completed' then 'completed'
      when 'exited' then 'exited'
      when 'cancelled' then 'cancelled'
      when 'canceled' then 'cancelled'
      when 'stopped' then 'cancelled'
    end;
$$;

comment on function brainops.normal_enrolment_status(text) is
  'The enrolment status that a word means (pending, new, enrolled, running: active); null for an unknown word.';

-- Why a lead cannot be in a campaign as things stand; null where it can.
create function brainops.entry_refusal(p_campaign public.campaigns, p_lead public.revenue_leads)
returns text
language plpgsql
stable
set search_path = ''
as $$
begin
  if p_lead.stage in ('won', 'lost') and (p_lead.stage = any (p_campaign.exit_on) or p_lead.stage = p_campaign.goal_event) then
    return p_lead.stage || ' already';
  elsif brainops.topic_opted_out(p_campaign.tenant_id, p_lead.email, p_campaign.code) then
    return 'topic_not_wanted';
  end if;
  return null;
end;
$$;

-- Pins a new enrolment to its campaign and version. Definer: a service that names no tenant sees no
-- campaign, and yet its row has one.
create function brainops.enter_campaign()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_status text := brainops.normal_enrolment_status(coalesce(new.status, 'active'));
  v_campaign public.campaigns;
  v_before public.ai_nurture_campaigns;
  v_lead public.revenue_leads;
  v_now constant timestamptz := brainops.now();
begin
  if brainops.current_tenant_id() <> new.tenant_id then
    -- Row level security refuses it in a moment; nothing of the other tenant is told before.
    return new;
  end if;
  if v_status is null then
    raise exception 'status: unknown word %', quote_literal(left(new.status, 80))
      using errcode = 'OP002', hint = 'Write active (or leave status out), paused, completed, exited or cancelled.';
  end if;
  new.status := v_status;
  if new.lead_id is null then
    return new;
  end if;

  -- Shared, so that who publishes or pauses sees every enrolment that came before.
  select * into v_campaign from public.campaigns where tenant_id = new.tenant_id and code = new.campaign_type for share;
  if not found or v_campaign.status = 'archived' or v_campaign.version = 0 then
    raise exception 'campaign_type: % %', quote_literal(left(new.campaign_type, 80)), case
        when v_campaign.id is null then 'is no campaign of this tenant'
        when v_campaign.status = 'archived' then 'is archived'
        else 'has no published version'
      end
      using errcode = 'OP020', column = 'campaign_type',
        hint = 'select code, status, version from campaigns; a new one is published by brainops.publish_campaign(code).';
  end if;

  new.campaign_id := v_campaign.id;
  new.version := v_campaign.version;
  new.enrolled_at := v_now;
  new.schedule_start := v_now;
  new.created_at := coalesce(new.created_at, v_now);
  new.touch_count := 0;
  new.entrance := 1;
  select * into v_before
    from public.ai_nurture_campaigns
    where tenant_id = new.tenant_id and lead_id = new.lead_id and campaign_type = new.campaign_type
    order by entrance desc
    limit 1;
  if found then
    -- The same entrance again runs into the unique key, as "on conflict do nothing" expects.
    new.entrance := v_before.entrance
      + (v_campaign.reentry = 'after_exit' and v_before.status not in ('active', 'paused'))::int;
  end if;

  -- Shared too: a lead that is being won right now is won before it enters, or after.
  select * into v_lead from public.revenue_leads where tenant_id = new.tenant_id and id = new.lead_id for share;
  if v_status in ('active', 'paused') then
    new.exit_reason := brainops.entry_refusal(v_campaign, v_lead);
    new.status := case when new.exit_reason is null then v_status else 'exited' end;
  end if;

  if new.status in ('active', 'paused') then
    new.ended_at := null;
    new.held_since := case when new.status = 'paused' or v_campaign.status <> 'active' then v_now end;
  else
    new.ended_at := coalesce(new.ended_at, v_now);
    new.next_touch_date := null;
    new.held_since := null;
  end if;
  return new;
end;
$$;

create trigger b0_enter_campaign
before insert on public.ai_nurture_campaigns
for each row
execute function brainops.enter_campaign();

create function brainops.lead_time_zone(p_tenant_id uuid, p_lead_id uuid)
returns text
language sql
stable
set search_path = ''
as $$
  select coalesce(l.time_zone, t.time_zone)
  from
    public.tenants as t
    left join public.revenue_leads as l on l.tenant_id = t.id and l.id = p_lead_id
  where t.id = p_tenant_id;
$$;

comment on function brainops.lead_time_zone(uuid, uuid) is
  'The zone in which a lead''s days are counted: its own, else its tenant''s.';

create function brainops.touch_type_of(p_kind text)
returns text
language sql
immutable
parallel safe
set search_path = ''
as $$
  select
    case p_kind
      when 'send_email' then 'email'
      when 'send_sms' then 'sms'
      else p_kind
    end;
$$;

comment on function brainops.touch_type_of(text) is 'What a touch of a step of this kind is called.';

-- The first touch of all enrolments of a statement, in one insert.
create function brainops.after_enrolment_insert()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  with first_touches as (
    insert into public.ai_campaign_touches
      (tenant_id, campaign_id, touch_type, content_template, status, last_error, scheduled_for, due_at, step_key, step_number, version, entrance)
    select
      e.tenant_id,
      e.id,
      brainops.touch_type_of(s.kind),
      s.template,
      case when h.reason is null then 'pending' else 'awaiting_approval' end,
      h.reason,
      d.due_at,
      d.due_at,
      s.step_key,
      s.step_number,
      e.version,
      e.entrance
    from inserted as e
    inner join public.campaigns as c on c.tenant_id = e.tenant_id and c.id = e.campaign_id
    cross join lateral (
      select f.* from public.campaign_steps as f
      where f.tenant_id = e.tenant_id and f.campaign_id = e.campaign_id and f.version = e.version
      order by f.step_number
      limit 1
    ) as s
    cross join lateral (
      select brainops.add_delay(e.schedule_start, s.delay, brainops.lead_time_zone(e.tenant_id, e.lead_id)) as due_at
    ) as d
    -- As the row will be once it is in: inserted has the types of the table.
    cross join lateral (
      select brainops.enrolment_hold_reason(r, c) as reason
      from public.ai_nurture_campaigns as r
      where r.tenant_id = e.tenant_id and r.id = e.id
    ) as h
    where e.lead_id is not null and e.status in ('active', 'paused')
    returning tenant_id, campaign_id, due_at
  )
  update public.ai_nurture_campaigns as e
  set next_touch_date = f.due_at
  from first_touches as f
  where e.tenant_id = f.tenant_id and e.id = f.campaign_id and e.next_touch_date is distinct from f.due_at;
  return null;
end;
$$;

create trigger c0_after_enrolment_insert
after insert on public.ai_nurture_campaigns
referencing new table as inserted
for each statement
execute function brainops.after_enrolment_insert();

create function brainops.enrol(p_lead_id uuid, p_campaign_type text)
returns uuid
language plpgsql
set search_path = ''
as $$
declare
  v_lead_id uuid := coalesce(brainops.find_lead(p_lead_id, null), p_lead_id);
  v_tenant_id uuid;
  v_id uuid;
begin
  select tenant_id into v_tenant_id from public.revenue_leads where id = v_lead_id;
  if not found then
    raise exception 'lead_id: % is no lead', coalesce(p_lead_id::text, 'null')
      using errcode = 'OP009', hint = 'select id from revenue_leads';
  end if;
  insert into public.ai_nurture_campaigns as e (tenant_id, lead_id, campaign_type)
  values (v_tenant_id, v_lead_id, p_campaign_type)
  on conflict do nothing
  returning e.id into v_id;
  if v_id is null then
    select e.id into v_id
      from public.ai_nurture_campaigns as e
      where e.tenant_id = v_tenant_id and e.lead_id = v_lead_id and e.campaign_type = p_campaign_type
      order by e.entrance desc
      limit 1;
  end if;
  return v_id;
end;
$$;

comment on function brainops.enrol(uuid, text) is
  'Enrols a lead in a campaign by its code; returns the enrolment, the one that is there already where the campaign takes nobody twice.';

-- Touches that clients insert --------------------------------------------------------------------

-- A client that inserts the sequence's next touch by itself gives that touch its id and time; what
-- the sequence has made already is not made again; anything else is a touch beside the sequence.
create function brainops.adopt_touch()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_enrolment public.ai_nurture_campaigns;
  v_step public.campaign_steps;
  v_touch public.ai_campaign_touches;
begin
  new.touch_type := lower(btrim(new.touch_type));
  if new.touch_type not in ('email', 'sms') then
    raise exception 'touch_type: % is neither email nor sms', quote_literal(left(new.touch_type, 80))
      using errcode = 'OP024', column = 'touch_type', hint = 'Other kinds are steps of a campaign: insert them into campaign_steps.';
  end if;
  new.scheduled_for := coalesce(new.scheduled_for, brainops.now());
  new.due_at := new.scheduled_for;
  if brainops.current_tenant_id() <> new.tenant_id then
    return new;
  end if;

  select * into v_enrolment
    from public.ai_nurture_campaigns
    where tenant_id = new.tenant_id and id = new.campaign_id
    for no key update;
  if not found or v_enrolment.lead_id is null then
    if coalesce(brainops.normal_status(new.status), 'pending') in ('pending', 'awaiting_approval') and found then
      new.status := 'skipped';
      new.skip_reason := 'campaign_id is a definition without a lead';
    end if;
    return new;
  end if;

  new.entrance := v_enrolment.entrance;
  select * into v_step
    from public.campaign_steps as s
    where s.tenant_id = new.tenant_id and s.campaign_id = v_enrolment.campaign_id and s.version = v_enrolment.version
      and s.template = new.content_template and brainops.touch_type_of(s.kind) = new.touch_type
    order by
      not exists (
        select from public.ai_campaign_touches as t
        where t.tenant_id = new.tenant_id and t.campaign_id = new.campaign_id and t.step_key = s.step_key and t.performed_at is null
      ),
      s.step_number
    limit 1;
  if not found then
    return new;
  end if;

  delete from public.ai_campaign_touches
  where tenant_id = new.tenant_id
    and campaign_id = new.campaign_id
    and entrance = new.entrance
    and step_key = v_step.step_key
    and performed_at is null
    and status in ('pending', 'awaiting_approval')
  returning * into v_touch;
  if not found then
    new.status := 'skipped';
    new.skip_reason := 'the sequence makes this touch itself';
    return new;
  end if;
  new.step_key := v_touch.step_key;
  new.step_number := v_touch.step_number;
  new.version := v_touch.version;
  new.split_key := v_touch.split_key;
  new.variant := v_touch.variant;
  if v_touch.status = 'awaiting_approval' then
    new.status := v_touch.status;
    new.last_error := v_touch.last_error;
  end if;
  update public.ai_nurture_campaigns set next_touch_date = new.scheduled_for where id = v_enrolment.id;
  return new;
end;
$$;

create trigger a2_adopt_touch
before insert on public.ai_campaign_touches
for each row
when (new.step_key is null)
execute function brainops.adopt_touch();

-- Holding, going on, ending ---------------------------------------------------------------------

-- Touches and messages that are due wait under the enrolment's reason. What a claim holds at this
-- moment is skipped: its gate, and perform_touch behind the enrolment's lock, ask again.
create function brainops.hold_enrolments(p_tenant_id uuid, p_ids uuid[])
returns void
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_reasons jsonb;
begin
  perform from public.ai_nurture_campaigns where tenant_id = p_tenant_id and id = any (p_ids) order by id for no key update;
  update public.ai_nurture_campaigns set held_since = brainops.now()
  where tenant_id = p_tenant_id and id = any (p_ids) and held_since is null and status in ('active', 'paused');
  select coalesce(jsonb_object_agg(e.id, brainops.enrolment_hold_reason(e, c)), '{}') into v_reasons
    from public.ai_nurture_campaigns as e
    inner join public.campaigns as c on c.tenant_id = e.tenant_id and c.id = e.campaign_id
    where e.tenant_id = p_tenant_id and e.id = any (p_ids);

  update public.ai_campaign_touches as t
  set status = 'awaiting_approval', last_error = v_reasons ->> t.campaign_id::text
  from (
    select id from public.ai_campaign_touches
    where tenant_id = p_tenant_id and campaign_id = any (p_ids) and performed_at is null
      and (status = 'pending' or (status = 'awaiting_approval' and last_error like 'held%'))
    order by id
    for update skip locked
  ) as o
  where t.id = o.id;
  update public.ai_email_queue as q
  set status = 'awaiting_approval', last_error = v_reasons ->> q.enrolment_id::text
  from (
    select id from public.ai_email_queue
    where tenant_id = p_tenant_id and enrolment_id = any (p_ids) and status = 'pending'
    order by id
    for update skip locked
  ) as o
  where q.id = o.id;
  update public.ai_sms_queue as q
  set status = 'awaiting_approval', last_error = v_reasons ->> q.enrolment_id::text
  from (
    select id from public.ai_sms_queue
    where tenant_id = p_tenant_id and enrolment_id = any (p_ids) and status = 'pending'
    order by id
    for update skip locked
  ) as o
  where q.id = o.id;
end;
$$;

-- How long after now the n-th of so many rows goes that would all go at once.
create function brainops.spread(p_n bigint, p_of bigint)
returns interval
language sql
immutable
parallel safe
as $$
  select make_interval(secs => (p_n - 1) * least(0.2, 3600.0 / p_of)::float8);
$$;

comment on function brainops.spread(bigint, bigint) is
  'Five a second, or as many as it takes to be through within an hour: what resuming lets go at once.';

-- Everything is moved by the time it stood still.
create function brainops.release_enrolments(p_tenant_id uuid, p_ids uuid[])
returns int
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_now constant timestamptz := brainops.now();
  v_ids uuid[];
begin
  perform from public.ai_nurture_campaigns where tenant_id = p_tenant_id and id = any (p_ids) order by id for no key update;
  select coalesce(array_agg(e.id), '{}') into v_ids
    from public.ai_nurture_campaigns as e
    inner join public.campaigns as c on c.tenant_id = e.tenant_id and c.id = e.campaign_id
    where e.tenant_id = p_tenant_id and e.id = any (p_ids) and c.status = 'active'
      and ((e.status = 'active' and e.held_since is not null) or e.status = 'completed');

  update public.ai_campaign_touches as t
  set
    due_at = o.due_at,
    scheduled_for = case when t.status = 'processing' then t.scheduled_for else o.goes_at end,
    status = case when t.status = 'awaiting_approval' and t.last_error like 'held%' then 'pending' else t.status end,
    last_error = case when t.last_error like 'held%' then null else t.last_error end
  from (
    select
      s.id,
      s.due_at,
      case
        when s.due_at > v_now then s.due_at
        else v_now + brainops.spread(
          row_number() over (partition by s.due_at > v_now order by s.due_at, s.id),
          count(*) over (partition by s.due_at > v_now)
        )
      end as goes_at
    from (
      select d.id, d.due_at + brainops.time_between(coalesce(e.held_since, v_now), v_now) as due_at
      from public.ai_campaign_touches as d
      inner join public.ai_nurture_campaigns as e on e.tenant_id = d.tenant_id and e.id = d.campaign_id
      where d.tenant_id = p_tenant_id and d.campaign_id = any (v_ids) and d.performed_at is null
        and d.status in ('pending', 'awaiting_approval', 'processing', 'failed')
    ) as s
  ) as o
  where t.id = o.id;

  update public.ai_nurture_campaigns
  set
    schedule_start = schedule_start + brainops.time_between(held_since, v_now),
    next_touch_date = next_touch_date + brainops.time_between(held_since, v_now),
    held_since = null
  where tenant_id = p_tenant_id and id = any (v_ids) and held_since is not null;

  update public.ai_email_queue as q
  set status = 'pending', last_error = null, scheduled_for = greatest(q.scheduled_for, v_now + brainops.spread(o.n, o.of))
  from (
    select id, row_number() over (order by scheduled_for, id) as n, count(*) over () as of
    from public.ai_email_queue
    where tenant_id = p_tenant_id and enrolment_id = any (v_ids) and status = 'awaiting_approval' and last_error like 'held%'
  ) as o
  where q.id = o.id;
  update public.ai_sms_queue as q
  set status = 'pending', last_error = null, scheduled_for = greatest(q.scheduled_for, v_now + brainops.spread(o.n, o.of))
  from (
    select id, row_number() over (order by scheduled_for, id) as n, count(*) over () as of
    from public.ai_sms_queue
    where tenant_id = p_tenant_id and enrolment_id = any (v_ids) and status = 'awaiting_approval' and last_error like 'held%'
  ) as o
  where q.id = o.id;
  return cardinality(v_ids);
end;
$$;

-- Nothing more of it happens; what lies in the queues is taken out, unless all steps were done.
create function brainops.close_enrolment(p_enrolment public.ai_nurture_campaigns)
returns void
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_left constant boolean := p_enrolment.status <> 'completed';
  v_reason constant text := p_enrolment.status || coalesce(': ' || p_enrolment.exit_reason, '');
begin
  update public.ai_campaign_touches as t
  set status = 'skipped', skip_reason = 'the enrolment is ' || v_reason
  from (
    select id from public.ai_campaign_touches
    where tenant_id = p_enrolment.tenant_id and campaign_id = p_enrolment.id and performed_at is null
      and status in ('pending', 'awaiting_approval') and (v_left or step_key is not null)
    for update skip locked
  ) as o
  where t.id = o.id;
  if not v_left then
    return;
  end if;
  update public.ai_email_queue as q
  set status = 'skipped', skip_reason = 'left the campaign: ' || v_reason
  from (
    select id from public.ai_email_queue
    where tenant_id = p_enrolment.tenant_id and enrolment_id = p_enrolment.id and status in ('pending', 'awaiting_approval')
    for update skip locked
  ) as o
  where q.id = o.id;
  update public.ai_sms_queue as q
  set status = 'skipped', skip_reason = 'left the campaign: ' || v_reason
  from (
    select id from public.ai_sms_queue
    where tenant_id = p_enrolment.tenant_id and enrolment_id = p_enrolment.id and status in ('pending', 'awaiting_approval')
    for update skip locked
  ) as o
  where q.id = o.id;
end;
$$;

create index ai_email_queue_enrolment on public.ai_email_queue (tenant_id, enrolment_id) where enrolment_id is not null;

create function brainops.before_enrolment_update()
returns trigger
language plpgsql
set search_path = ''
as $$
declare
  v_status text := brainops.normal_enrolment_status(new.status);
begin
  if v_status is null then
    raise exception 'status: unknown word %', quote_literal(left(new.status, 80))
      using errcode = 'OP002', hint = 'Write active, paused, completed, exited or cancelled.';
  end if;
  new.status := v_status;
  if new.lead_id is null or old.status = new.status then
    return new;
  end if;
  if old.status not in ('active', 'paused') then
    raise exception 'status: enrolment % is % since %, so it cannot be set to %', old.id, old.status, old.ended_at, quote_literal(v_status)
      using errcode = 'OP023',
        hint = 'Enrol the lead anew with brainops.enrol; its campaign says with reentry whether a lead may come back.';
  end if;
  if v_status = 'paused' then
    new.held_since := coalesce(old.held_since, brainops.now());
  elsif v_status in ('completed', 'exited', 'cancelled') then
    new.ended_at := brainops.now();
    new.next_touch_date := null;
    new.held_since := null;
    new.exit_reason := coalesce(new.exit_reason, case when v_status <> 'completed' then 'set by ' || session_user end);
  end if;
  return new;
end;
$$;

create trigger b1_before_enrolment_update
before update on public.ai_nurture_campaigns
for each row
when (old.status is distinct from new.status)
execute function brainops.before_enrolment_update();

create function brainops.after_enrolment_update()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  if new.status = 'paused' then
    perform brainops.hold_enrolments(new.tenant_id, array[new.id]);
  elsif new.status = 'active' then
    if brainops.release_enrolments(new.tenant_id, array[new.id]) = 0 then
      -- Its campaign holds it yet: the reason is another now.
      perform brainops.hold_enrolments(new.tenant_id, array[new.id]);
    end if;
  else
    perform brainops.close_enrolment(new);
  end if;
  return null;
end;
$$;

create trigger c1_after_enrolment_update
after update on public.ai_nurture_campaigns
for each row
when (old.status is distinct from new.status and new.lead_id is not null)
execute function brainops.after_enrolment_update();

-- Two leads were made one: what the other one would not have entered ends.
create function brainops.after_enrolment_moves()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  perform brainops.exit_enrolment(new.id, r.reason)
  from public.campaigns as c
  inner join public.revenue_leads as l on l.tenant_id = c.tenant_id
  cross join lateral (select brainops.entry_refusal(c, l) as reason) as r
  where c.tenant_id = new.tenant_id and c.id = new.campaign_id and l.id = new.lead_id and r.reason is not null;
  return null;
end;
$$;

create trigger c2_after_enrolment_moves
after update of lead_id on public.ai_nurture_campaigns
for each row
when (old.lead_id is distinct from new.lead_id and new.lead_id is not null and new.status in ('active', 'paused'))
execute function brainops.after_enrolment_moves();

create function brainops.exit_enrolment(p_id uuid, p_reason text)
returns boolean
language plpgsql
set search_path = ''
as $$
begin
  update public.ai_nurture_campaigns
  set status = 'exited', exit_reason = coalesce(nullif(btrim(p_reason), ''), 'no reason given')
  where id = p_id and lead_id is not null and status in ('active', 'paused');
  return found;
end;
$$;

comment on function brainops.exit_enrolment(uuid, text) is
  'Ends an enrolment for this reason, with what of it waits in the queues; false where it was over already.';

-- What an event ends an enrolment for; null where it goes on.
create function brainops.exit_reason_of(p_campaign public.campaigns, p_event text, p_channel text, p_metadata jsonb)
returns text
language sql
immutable
set search_path = ''
as $$
  select
    case
      when w.word = p_campaign.goal_event then 'goal: ' || w.word
      when w.word = any (p_campaign.exit_on)
      or w.word || ':' || p_channel = any (p_campaign.exit_on) then w.word
    end
  from
    (
      select
        case
          when p_event = 'stage_changed'
          and p_metadata ->> 'to' in ('won', 'lost') then p_metadata ->> 'to'
          else p_event
        end as word
    ) as w;
$$;

create function brainops.enrolment_exit_reason(p_enrolment_id uuid)
returns text
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
  v_enrolment public.ai_nurture_campaigns;
begin
  select * into v_enrolment from public.ai_nurture_campaigns where id = p_enrolment_id;
  if not found then
    return 'the enrolment is gone';
  elsif v_enrolment.status in ('exited', 'cancelled') then
    return v_enrolment.status || coalesce(': ' || v_enrolment.exit_reason, '');
  elsif v_enrolment.status <> 'completed' then
    -- Events end a running one in their own transaction.
    return null;
  end if;
  return (
    select brainops.exit_reason_of(c, v.event, v.channel, v.metadata)
    from public.lead_events as v
    inner join public.campaigns as c on c.tenant_id = v.tenant_id and c.id = v_enrolment.campaign_id
    where v.tenant_id = v_enrolment.tenant_id and v.lead_id = v_enrolment.lead_id
      and v.occurred_at >= date_trunc('second', v_enrolment.enrolled_at)
      and brainops.exit_reason_of(c, v.event, v.channel, v.metadata) is not null
    order by v.occurred_at
    limit 1
  );
end;
$$;

comment on function brainops.enrolment_exit_reason(uuid) is
  'Why a message of this enrolment must not go any more; null when it may. Asked at each claim.';

create function brainops.enrolment_pause_reason(p_enrolment_id uuid)
returns text
language sql
stable
security definer
set search_path = ''
as $$
  select brainops.enrolment_hold_reason(e, c)
  from
    public.ai_nurture_campaigns as e
    inner join public.campaigns as c on c.tenant_id = e.tenant_id and c.id = e.campaign_id
  where e.id = p_enrolment_id;
$$;

comment on function brainops.enrolment_pause_reason(uuid) is
  'Why a message of this enrolment must wait; null when it need not. Asked at each claim: what a worker had in its hands when the pause began and put off is not held by it.';

-- From step to step ------------------------------------------------------------------------------

-- The first step from a number on that has not been reached yet: what is on record never happens
-- again, not even where a version has put it elsewhere.
create function brainops.step_from(p_enrolment public.ai_nurture_campaigns, p_number int)
returns public.campaign_steps
language sql
stable
set search_path = ''
as $$
  select s.*
  from public.campaign_steps as s
  where
    s.tenant_id = p_enrolment.tenant_id
    and s.campaign_id = p_enrolment.campaign_id
    and s.version = p_enrolment.version
    and s.step_number >= p_number
    and not exists (
      select
      from public.ai_campaign_touches as t
      where
        t.tenant_id = p_enrolment.tenant_id
        and t.campaign_id = p_enrolment.id
        and t.entrance = p_enrolment.entrance
        and t.step_key = s.step_key
    )
  order by s.step_number
  limit 1;
$$;

create function brainops.step_due_at(
  p_enrolment public.ai_nurture_campaigns,
  p_step public.campaign_steps,
  p_base timestamptz,
  p_zone text
)
returns timestamptz
language sql
stable
set search_path = ''
as $$
  select
    case p_step.delay_from
      when 'enrolment' then greatest(brainops.add_delay(p_enrolment.schedule_start, p_step.delay, p_zone), p_base)
      else brainops.add_delay(p_base, p_step.delay, p_zone)
    end;
$$;

-- Makes the touch of the step that follows one which was due at p_due_at; without a step, the
-- enrolment is completed. p_at: when it is due, where that is known. The caller holds the
-- enrolment's lock.
create function brainops.advance_enrolment(
  p_enrolment public.ai_nurture_campaigns,
  p_step public.campaign_steps,
  p_due_at timestamptz,
  p_at timestamptz default null
)
returns void
language plpgsql
security definer
set search_path = ''
as $$
declare
  -- Where time stands still, nothing becomes later.
  v_now constant timestamptz := coalesce(p_enrolment.held_since, brainops.now());
  v_zone constant text := brainops.lead_time_zone(p_enrolment.tenant_id, p_enrolment.lead_id);
  v_late constant interval := brainops.time_between(p_due_at, v_now);
  v_base timestamptz := p_due_at;
  v_due_at timestamptz := p_at;
  v_gap interval;
  v_hold text;
  v_woken_at timestamptz;
begin
  if p_step.id is null then
    update public.ai_nurture_campaigns set status = 'completed' where id = p_enrolment.id;
    return;
  end if;

  if v_due_at is null then
    v_due_at := brainops.step_due_at(p_enrolment, p_step, v_base, v_zone);
    v_gap := brainops.time_between(p_due_at, v_due_at);
    if v_late > '1 hour' or (v_gap > '0' and v_late > v_gap / 2) then
      v_base := v_now;
      p_enrolment.schedule_start := p_enrolment.schedule_start + v_late;
      v_due_at := brainops.step_due_at(p_enrolment, p_step, v_base, v_zone);
    end if;
  end if;
  if p_step.kind = 'wait_for' and p_step.config ->> 'since' = 'enrolment' and exists (
    select from public.lead_events as v
    where v.tenant_id = p_enrolment.tenant_id and v.lead_id = p_enrolment.lead_id
      and v.event = p_step.config ->> 'event' and v.occurred_at >= date_trunc('second', p_enrolment.enrolled_at)
  ) then
    v_woken_at := v_now;
    v_due_at := v_base;
  end if;

  select brainops.enrolment_hold_reason(p_enrolment, c) into v_hold
    from public.campaigns as c
    where c.tenant_id = p_enrolment.tenant_id and c.id = p_enrolment.campaign_id;
  insert into public.ai_campaign_touches
    (tenant_id, campaign_id, touch_type, content_template, status, last_error, scheduled_for, due_at, woken_at, step_key, step_number, version, entrance, split_key, variant)
  values (
    p_enrolment.tenant_id,
    p_enrolment.id,
    brainops.touch_type_of(p_step.kind),
    p_step.template,
    case when v_hold is null then 'pending' else 'awaiting_approval' end,
    v_hold,
    v_due_at,
    v_due_at,
    v_woken_at,
    p_step.step_key,
    p_step.step_number,
    p_step.version,
    p_enrolment.entrance,
    p_enrolment.split_key,
    p_enrolment.variant
  );
  update public.ai_nurture_campaigns
  set next_touch_date = v_due_at, schedule_start = p_enrolment.schedule_start
  where id = p_enrolment.id;
end;
$$;

-- A step that somebody cancelled is left out, and the next one comes at its time. The touch is
-- locked before the enrolment here: where a release comes at the same moment, Postgres ends one.
create function brainops.leave_out_step()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_enrolment public.ai_nurture_campaigns;
  v_next public.campaign_steps;
begin
  select * into v_enrolment from public.ai_nurture_campaigns where id = new.campaign_id for no key update;
  if not found or v_enrolment.status not in ('active', 'paused') then
    return null;
  end if;
  v_next := brainops.step_from(
    v_enrolment,
    coalesce(
      (
        select s.next_step
        from public.campaign_steps as s
        where s.tenant_id = v_enrolment.tenant_id and s.campaign_id = v_enrolment.campaign_id
          and s.version = v_enrolment.version and s.step_key = new.step_key
      ),
      new.step_number + 1
    )
  );
  update public.ai_campaign_touches
  set performed_at = brainops.now(), outcome = 'left out: ' || new.status || ' by ' || session_user, next_key = v_next.step_key
  where id = new.id;
  perform brainops.advance_enrolment(v_enrolment, v_next, new.due_at);
  return null;
end;
$$;

create trigger d0_leave_out_step
after update on public.ai_campaign_touches
for each row
when
  (
    old.status is distinct from new.status
    and new.status in ('cancelled', 'skipped', 'completed')
    and new.performed_at is null
    and new.step_key is not null
  )
execute function brainops.leave_out_step();

-- A client that moves a touch plans it anew; what the engine puts off keeps its plan.
create function brainops.move_touch()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  if current_user not in ('brainops_worker', 'brainops_system') and current_setting('brainops.spreading', true) is distinct from 'on' then
    new.due_at := new.scheduled_for;
    perform brainops.note_next_touch(new.campaign_id, new.scheduled_for);
  end if;
  return new;
end;
$$;

-- Not where somebody else holds the enrolment: whoever does writes the date himself.
create function brainops.note_next_touch(p_enrolment_id uuid, p_at timestamptz)
returns void
language sql
security definer
set search_path = ''
as $$
  update public.ai_nurture_campaigns as e
  set next_touch_date = p_at
  from (select id from public.ai_nurture_campaigns where id = p_enrolment_id for no key update skip locked) as o
  where e.id = o.id and e.tenant_id = brainops.current_tenant_id() and e.status in ('active', 'paused');
$$;

comment on function brainops.note_next_touch(uuid, timestamptz) is
  'Behind an update of ai_campaign_touches.scheduled_for.';

create trigger b2_move_touch
before update of scheduled_for on public.ai_campaign_touches
for each row
when
  (
    old.scheduled_for is distinct from new.scheduled_for
    and new.performed_at is null
    and new.step_key is not null
    -- What runs again, or a dead worker's, has another status as well: its plan stays.
    and old.status = new.status
    and new.status in ('pending', 'awaiting_approval')
  )
execute function brainops.move_touch();

-- Performing a touch ------------------------------------------------------------------------------

-- Marketing mail says who writes and how to be left alone; a template that does so itself is left
-- as it is.
create function brainops.with_footer(p_body text)
returns text
language sql
immutable
set search_path = ''
as $$
  select
    case
      when p_body like '%unsubscribe_url%' then p_body
      when p_body ~* '<[a-z!/]' then p_body || E'\n<p style="color:#666;font-size:12px">{{ tenant.name }}{% if postal_address %}, {{ postal_address }}{% endif %}<br>' || '<a href="{{ unsubscribe_url }}">Unsubscribe</a></p>'
      else p_body || E'\n\n-- \n{{ tenant.name }}{% if postal_address %}, {{ postal_address }}{% endif %}\nUnsubscribe: {{ unsubscribe_url }}'
    end;
$$;

comment on function brainops.with_footer(text) is
  'A mail''s body with the sender''s address and the unsubscribe link under it, where the body has none of its own.';

-- Puts the message of a touch into its queue, under a key of its own: twice is as once. said is
-- what came of it, failed why it cannot be made as things stand.
create function brainops.queue_touch(
  p_enrolment public.ai_nurture_campaigns,
  p_touch public.ai_campaign_touches,
  p_step public.campaign_steps,
  p_lead public.revenue_leads,
  out message_id uuid,
  out template_version int,
  out said text,
  out failed text
)
language plpgsql
set search_path = ''
as $$
declare
  v_template public.ai_campaign_templates;
  v_transactional boolean := coalesce((p_step.config -> 'transactional')::boolean, false);
  v_priority smallint := case
    when p_step.config ? 'high_priority_when'
      and brainops.condition_holds(p_step.config -> 'high_priority_when', p_lead, p_enrolment.enrolled_at) then -10
    else 0
  end;
  v_metadata jsonb;
begin
  select * into v_template
    from public.ai_campaign_templates as t
    where t.tenant_id = p_touch.tenant_id and t.name = p_touch.content_template and t.channel = p_touch.touch_type
    order by t.version desc
    limit 1;
  if not found then
    failed := format(
      'content_template: %s is no %s template of ai_campaign_templates; insert it, then set status to pending',
      coalesce(quote_literal(left(p_touch.content_template, 120)), 'null'), p_touch.touch_type
    );
    return;
  end if;
  if coalesce(btrim(case p_touch.touch_type when 'email' then p_lead.email else coalesce(p_lead.phone_e164, p_lead.phone) end), '') = '' then
    said := 'left out: the lead has no ' || case p_touch.touch_type when 'email' then 'e-mail address' else 'phone number' end;
    return;
  end if;

  template_version := v_template.version;
  v_metadata := coalesce(p_step.config -> 'variables', '{}') || jsonb_strip_nulls(jsonb_build_object(
    'first_name', coalesce(nullif(split_part(btrim(p_lead.contact_name), ' ', 1), ''), 'there'),
    'postal_address', (select t.settings ->> 'postal_address' from public.tenants as t where t.id = p_touch.tenant_id),
    'campaign', p_enrolment.campaign_type,
    'step', p_touch.step_key,
    'category', p_enrolment.campaign_type,
    'marketing', case when p_touch.touch_type = 'email' and not v_transactional then true end,
    'transactional', case when v_transactional then true end
  ));
  if p_touch.touch_type = 'email' then
    insert into public.ai_email_queue as q
      (tenant_id, recipient, subject, body, scheduled_for, metadata, lead_id, enrolment_id, touch_id, idempotency_key, job_priority)
    values (
      p_touch.tenant_id, p_lead.id, v_template.subject,
      case when v_transactional then v_template.body else brainops.with_footer(v_template.body) end,
      brainops.now(), v_metadata, p_lead.id,
      -- An enrolment makes a mail marketing.
      case when not v_transactional then p_enrolment.id end,
      p_touch.id, 'touch:' || p_touch.id, v_priority
    )
    on conflict (tenant_id, idempotency_key) where idempotency_key is not null do nothing
    returning q.id into message_id;
  else
    insert into public.ai_sms_queue as q
      (tenant_id, recipient, body, scheduled_for, metadata, lead_id, enrolment_id, touch_id, idempotency_key, job_priority)
    values (
      p_touch.tenant_id, p_lead.id, v_template.body, brainops.now(), v_metadata, p_lead.id, p_enrolment.id,
      p_touch.id, 'touch:' || p_touch.id, v_priority
    )
    on conflict (tenant_id, idempotency_key) where idempotency_key is not null do nothing
    returning q.id into message_id;
  end if;
  said := 'queued';
end;
$$;

-- The variant of a split that the figures speak for; null while they don't, or nothing came of any.
create function brainops.leading_variant(p_step public.campaign_steps, out variant text, out figures jsonb)
language plpgsql
stable
set search_path = ''
as $$
declare
  v_winner constant jsonb := p_step.config -> 'winner';
  v_key constant text := brainops.split_key(p_step);
  v_event constant text := case v_winner ->> 'by' when 'open' then 'opened' when 'click' then 'clicked' else 'replied' end;
  v_first timestamptz;
  v_least bigint;
  v_leader text;
begin
  select jsonb_object_agg(f.name, jsonb_build_object('touches', f.touches, 'hits', f.hits)), min(f.touches), min(f.first_at),
    (array_agg(f.name order by f.hits::numeric / nullif(f.touches, 0) desc nulls last, f.weight desc, f.n) filter (where f.hits > 0))[1]
    into figures, v_least, v_first, v_leader
    from (
      select v.item ->> 'name' as name, (v.item ->> 'weight')::int as weight, v.n,
        count(t.message_id) as touches,
        count(t.message_id) filter (
          where exists (
            select from public.campaign_touch_events as e
            where e.tenant_id = t.tenant_id and e.touch_id = t.id and e.event = v_event
          )
        ) as hits,
        min(t.performed_at) as first_at
      from jsonb_array_elements(p_step.config -> 'variants') with ordinality as v (item, n)
      left join public.ai_campaign_touches as t
        on t.tenant_id = p_step.tenant_id and t.split_key = v_key and t.variant = v.item ->> 'name' and t.performed_at is not null
      group by v.item, v.n
    ) as f;
  if v_least >= (v_winner ->> 'after_touches')::bigint or v_first + (v_winner ->> 'after')::interval <= brainops.now() then
    variant := v_leader;
  end if;
end;
$$;

create function brainops.split_key(p_step public.campaign_steps)
returns text
language sql
immutable
set search_path = ''
as $$
  select p_step.campaign_id || '/' || p_step.version || '/' || p_step.step_key;
$$;

-- The winner, once there is one; before that by chance of the weights, but the same each time.
create function brainops.choose_variant(p_enrolment public.ai_nurture_campaigns, p_step public.campaign_steps)
returns jsonb
language plpgsql
set search_path = ''
as $$
declare
  v_variants constant jsonb := p_step.config -> 'variants';
  v_name text;
  v_leader record;
  v_total int := (select sum((v ->> 'weight')::int) from jsonb_array_elements(v_variants) as v);
  v_draw int;
begin
  select w.variant into v_name
    from public.campaign_split_winners as w
    where w.tenant_id = p_step.tenant_id and w.campaign_id = p_step.campaign_id and w.version = p_step.version and w.step_key = p_step.step_key;
  if not found and p_step.config ? 'winner' then
    v_leader := brainops.leading_variant(p_step);
    if v_leader.variant is not null then
      insert into public.campaign_split_winners as w (tenant_id, campaign_id, version, step_key, variant, decided_at, figures)
      values (p_step.tenant_id, p_step.campaign_id, p_step.version, p_step.step_key, v_leader.variant, brainops.now(), v_leader.figures)
      on conflict do nothing;
      select w.variant into v_name
        from public.campaign_split_winners as w
        where w.tenant_id = p_step.tenant_id and w.campaign_id = p_step.campaign_id and w.version = p_step.version and w.step_key = p_step.step_key;
    end if;
  end if;
  v_draw := ((hashtextextended(p_enrolment.id || p_step.step_key, 0) % v_total) + v_total) % v_total;
  return (
    select s.item
    from (
      select v.item, v.n, sum((v.item ->> 'weight')::int) over (order by v.n) as upto
      from jsonb_array_elements(v_variants) with ordinality as v (item, n)
    ) as s
    order by (s.item ->> 'name' = v_name) desc nulls last, v_draw >= s.upto, s.n
    limit 1
  );
end;
$$;

create function brainops.lead_words(p_lead public.revenue_leads)
returns text
language sql
stable
set search_path = ''
as $$
  select
    concat_ws(
      E'\n',
      nullif(concat_ws(', ', p_lead.contact_name, p_lead.company_name), ''),
      p_lead.email,
      coalesce(p_lead.phone_e164, p_lead.phone),
      'stage ' || p_lead.stage || ', score ' || p_lead.score,
      'lead ' || p_lead.id
    );
$$;

comment on function brainops.lead_words(public.revenue_leads) is 'Who a lead is, for a person to read.';

-- Does what a step does. to_number: the step that it leads to, where that is not the usual next one;
-- failed: why it cannot be done as things stand.
create function brainops.perform_step(
  p_enrolment public.ai_nurture_campaigns,
  p_touch public.ai_campaign_touches,
  p_step public.campaign_steps,
  p_lead public.revenue_leads,
  out said text,
  out failed text,
  out to_number int,
  out message_id uuid,
  out template_version int,
  out split_key text,
  out variant text
)
language plpgsql
set search_path = ''
as $$
declare
  v_message record;
  v_item jsonb;
begin
  split_key := p_enrolment.split_key;
  variant := p_enrolment.variant;
  case p_touch.touch_type
    when 'email', 'sms' then
      v_message := brainops.queue_touch(p_enrolment, p_touch, p_step, p_lead);
      said := v_message.said;
      failed := v_message.failed;
      message_id := v_message.message_id;
      template_version := v_message.template_version;
    when 'wait' then
      said := 'waited';
    when 'wait_for' then
      said := case when p_touch.woken_at is null then 'timed out: no ' else 'came: ' end || (p_step.config ->> 'event');
      to_number := (p_step.config ->> case when p_touch.woken_at is null then 'else' else 'then' end)::int;
    when 'branch' then
      select w into v_item
        from jsonb_array_elements(p_step.config -> 'when') with ordinality as b (w, n)
        where brainops.condition_holds(w -> 'if', p_lead, p_enrolment.enrolled_at)
        order by n
        limit 1;
      to_number := coalesce((v_item ->> 'to')::int, (p_step.config ->> 'else')::int);
      said := coalesce('true: ' || (v_item ->> 'if'), 'none is true');
    when 'split' then
      v_item := brainops.choose_variant(p_enrolment, p_step);
      to_number := (v_item ->> 'to')::int;
      split_key := brainops.split_key(p_step);
      variant := v_item ->> 'name';
      said := 'variant ' || variant;
    when 'task' then
      insert into public.lead_tasks (tenant_id, lead_id, title, description, priority, due_at, assigned_to, touch_id)
      values (
        p_touch.tenant_id, p_lead.id, p_step.config ->> 'title', p_step.config ->> 'description',
        coalesce(p_step.config ->> 'priority', 'normal'),
        brainops.add_delay(brainops.now(), (p_step.config ->> 'due_in')::interval, brainops.lead_time_zone(p_touch.tenant_id, p_lead.id)),
        coalesce(p_step.config ->> 'assigned_to', p_lead.owner_email), p_touch.id
      )
      on conflict (tenant_id, touch_id) where touch_id is not null do nothing;
      said := 'task made';
    when 'notify' then
      perform brainops.notify(
        p_touch.tenant_id,
        (p_step.config ->> 'subject') || ': ' || coalesce(p_lead.contact_name, p_lead.company_name, p_lead.email, p_lead.phone, 'a lead'),
        concat_ws(E'\n\n', p_step.config ->> 'body', brainops.lead_words(p_lead)),
        'touch:' || p_touch.id,
        p_lead.id
      );
      said := 'told';
    when 'exit' then
      said := coalesce(p_step.config ->> 'reason', 'ended here');
  end case;
end;
$$;

-- Behind a touch that is performed: its next one, or the end of the sequence. A touch beside the
-- sequence leads nowhere.
create function brainops.go_on_from(
  p_enrolment public.ai_nurture_campaigns,
  p_touch public.ai_campaign_touches,
  p_step public.campaign_steps,
  p_to_number int
)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_next public.campaign_steps;
begin
  if p_touch.step_key is null then
    return;
  end if;
  if p_touch.touch_type <> 'exit' then
    v_next := brainops.step_from(p_enrolment, coalesce(p_to_number, p_step.next_step, p_step.step_number + 1));
    update public.ai_campaign_touches set next_key = v_next.step_key where id = p_touch.id;
  end if;
  perform brainops.advance_enrolment(p_enrolment, v_next, p_touch.due_at);
end;
$$;

-- What a worker calls for a touch that it has claimed. All of it in the caller's transaction: the
-- touch is marked, what the step makes is inserted, and the next touch. Nothing where the lease does
-- not hold any more; completed where it was performed before.
create function brainops.perform_touch(p_touch_id uuid, p_lease uuid)
returns table (outcome text, reason text, run_at timestamptz)
language plpgsql
security definer
set search_path = ''
as $$
declare
  c_tenant_id constant uuid := brainops.current_tenant_id();
  v_now constant timestamptz := brainops.now();
  v_touch public.ai_campaign_touches;
  v_enrolment public.ai_nurture_campaigns;
  v_campaign public.campaigns;
  v_lead public.revenue_leads;
  v_step public.campaign_steps;
  v_done record;
begin
  select e.* into v_enrolment
    from public.ai_campaign_touches as t
    inner join public.ai_nurture_campaigns as e on e.tenant_id = t.tenant_id and e.id = t.campaign_id
    where t.tenant_id = c_tenant_id and t.id = p_touch_id;
  perform from public.revenue_leads where tenant_id = c_tenant_id and id = v_enrolment.lead_id for key share;
  select * into v_enrolment from public.ai_nurture_campaigns where tenant_id = c_tenant_id and id = v_enrolment.id for no key update;
  select * into v_touch
    from public.ai_campaign_touches
    where tenant_id = c_tenant_id and id = p_touch_id and status = 'processing' and lease = p_lease
    for no key update;
  if not found then
    return query select 'skip', 'the touch is another''s by now', null::timestamptz;
    return;
  elsif v_touch.performed_at is not null then
    return query select 'completed', v_touch.outcome, null::timestamptz;
    return;
  elsif v_enrolment.status not in ('active', 'paused') and not (v_enrolment.status = 'completed' and v_touch.step_key is null) then
    return query select 'skip', 'the enrolment is ' || v_enrolment.status || coalesce(': ' || v_enrolment.exit_reason, ''), null::timestamptz;
    return;
  end if;
  select * into v_campaign from public.campaigns where tenant_id = c_tenant_id and id = v_enrolment.campaign_id;
  if v_enrolment.status <> 'completed' and brainops.enrolment_hold_reason(v_enrolment, v_campaign) is not null then
    return query select 'defer', brainops.enrolment_hold_reason(v_enrolment, v_campaign), v_now + interval '1 hour';
    return;
  end if;
  select * into v_lead from public.revenue_leads where tenant_id = c_tenant_id and id = v_enrolment.lead_id;
  select * into v_step
    from public.campaign_steps
    where tenant_id = c_tenant_id and campaign_id = v_enrolment.campaign_id and version = v_enrolment.version and step_key = v_touch.step_key;

  v_done := brainops.perform_step(v_enrolment, v_touch, v_step, v_lead);
  if v_done.failed is not null then
    return query select 'fail', v_done.failed, null::timestamptz;
    return;
  end if;
  update public.ai_campaign_touches as t
  set
    performed_at = v_now,
    outcome = v_done.said,
    message_id = v_done.message_id,
    template_version = v_done.template_version,
    split_key = v_done.split_key,
    variant = v_done.variant
  where t.id = v_touch.id;
  update public.ai_nurture_campaigns as e
  set
    touch_count = e.touch_count + (v_done.message_id is not null)::int,
    split_key = v_done.split_key,
    variant = v_done.variant,
    exit_reason = case when v_touch.touch_type = 'exit' then v_done.said else e.exit_reason end
  where e.id = v_enrolment.id
  returning * into v_enrolment;
  perform brainops.go_on_from(v_enrolment, v_touch, v_step, v_done.to_number);
  return query select 'completed', v_done.said, null::timestamptz;
end;
$$;

comment on function brainops.perform_touch(uuid, uuid) is
  'Performs a touch that was claimed under this lease, and makes the next one; performed twice is as once. outcome: completed, skip, defer (until run_at) or fail, with the reason.';

-- What people do --------------------------------------------------------------------------------

-- The enrolments of the people concerned are locked first: a step that is being performed ends
-- before, and so has either not begun to wait or is waiting.
create function brainops.campaigns_hear_events()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_now constant timestamptz := brainops.now();
  v_exit record;
begin
  if not exists (
    select from inserted as i
    inner join public.ai_nurture_campaigns as e on e.tenant_id = i.tenant_id and e.lead_id = i.lead_id
  ) then
    return null;
  end if;
  perform from (select distinct tenant_id, lead_id from inserted) as i
  inner join public.ai_nurture_campaigns as e on e.tenant_id = i.tenant_id and e.lead_id = i.lead_id
  where e.status in ('active', 'paused')
  order by e.id
  for no key update of e;

  insert into public.campaign_touch_events (tenant_id, touch_id, event, occurred_at)
  select i.tenant_id, t.id, w.word, min(i.occurred_at)
  from inserted as i
  cross join lateral (
    select case i.event
      when 'email_opened' then 'opened'
      when 'email_clicked' then 'clicked'
      when 'email_replied' then 'replied'
      when 'sms_replied' then 'replied'
      when 'email_bounced' then 'bounced'
      when 'email_unsubscribed' then 'unsubscribed'
      when 'opted_out' then 'unsubscribed'
      when 'email_complained' then 'complained'
    end as word
  ) as w
  cross join lateral (
    -- The touch that is named; or else the one that the person was sent last.
    select t.id
    from public.ai_nurture_campaigns as e
    inner join public.ai_campaign_touches as t on t.tenant_id = e.tenant_id and t.campaign_id = e.id
    where e.tenant_id = i.tenant_id and e.lead_id = i.lead_id and t.message_id is not null
      and case
        when i.metadata ? 'touch_id' then t.id::text = i.metadata ->> 'touch_id'
        when i.metadata ?| array['email_id', 'sms_id'] then t.message_id::text = coalesce(i.metadata ->> 'email_id', i.metadata ->> 'sms_id')
        else t.touch_type = coalesce(i.channel, t.touch_type) and t.performed_at between i.occurred_at - interval '30 days' and i.occurred_at
      end
    order by t.performed_at desc
    limit 1
  ) as t
  where w.word is not null
  group by 1, 2, 3
  on conflict do nothing;

  for v_exit in
    select distinct on (e.id) e.id, brainops.exit_reason_of(c, i.event, i.channel, i.metadata) as reason
    from inserted as i
    inner join public.ai_nurture_campaigns as e on e.tenant_id = i.tenant_id and e.lead_id = i.lead_id
    inner join public.campaigns as c on c.tenant_id = e.tenant_id and c.id = e.campaign_id
    where e.status in ('active', 'paused')
      -- Providers tell seconds.
      and i.occurred_at >= date_trunc('second', e.enrolled_at)
      and brainops.exit_reason_of(c, i.event, i.channel, i.metadata) is not null
    order by e.id, i.occurred_at
  loop
    perform brainops.exit_enrolment(v_exit.id, v_exit.reason);
  end loop;

  with woken as (
    update public.ai_campaign_touches as t
    set
      woken_at = v_now,
      -- Where time stands still, it goes on from there.
      due_at = coalesce(e.held_since, v_now),
      scheduled_for = case when t.status = 'pending' then coalesce(e.held_since, v_now) else t.scheduled_for end
    from inserted as i
    inner join public.ai_nurture_campaigns as e on e.tenant_id = i.tenant_id and e.lead_id = i.lead_id
    inner join public.campaign_steps as s
      on s.tenant_id = e.tenant_id and s.campaign_id = e.campaign_id and s.version = e.version
      and s.kind = 'wait_for' and s.config ->> 'event' = i.event
    where e.status in ('active', 'paused')
      and i.occurred_at >= date_trunc('second', e.enrolled_at)
      and t.tenant_id = e.tenant_id and t.campaign_id = e.id and t.step_key = s.step_key
      and t.performed_at is null and t.woken_at is null
    returning t.campaign_id, t.due_at
  )
  update public.ai_nurture_campaigns as e set next_touch_date = w.due_at from woken as w where e.id = w.campaign_id;
  return null;
end;
$$;

create trigger campaigns_hear_events
after insert on public.lead_events
referencing new table as inserted
for each statement
execute function brainops.campaigns_hear_events();

-- What became of a touch's message.
create function brainops.note_touch_message()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  insert into public.campaign_touch_events (tenant_id, touch_id, event, occurred_at, detail)
  select t.tenant_id, t.id, case new.status when 'completed' then 'sent' else new.status end, brainops.now(),
    case when new.status <> 'completed' then coalesce(new.skip_reason, new.last_error) end
  from public.ai_campaign_touches as t
  where t.tenant_id = new.tenant_id and t.id = new.touch_id
  on conflict do nothing;
  return null;
end;
$$;

create trigger note_touch_message
after update on public.ai_email_queue
for each row
when
  (
    new.touch_id is not null
    and old.status is distinct from new.status
    and new.status in ('completed', 'skipped', 'failed', 'cancelled')
  )
execute function brainops.note_touch_message();
create trigger note_touch_message
after update on public.ai_sms_queue
for each row
when
  (
    new.touch_id is not null
    and old.status is distinct from new.status
    and new.status in ('completed', 'skipped', 'failed', 'cancelled')
  )
execute function brainops.note_touch_message();

-- Launching, pausing, publishing ------------------------------------------------------------------

create function brainops.before_campaign()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  if new.status <> 'active' or (tg_op = 'UPDATE' and old.status = 'active') then
    return new;
  end if;
  if new.version = 0 then
    raise exception 'campaigns: % has no published version, so it cannot be active', quote_literal(new.code)
      using errcode = 'OP022',
        hint = format('Insert it as draft with its campaign_steps, select brainops.publish_campaign(%L), then set status to active.', new.code);
  end if;
  perform brainops.refuse_launch(new.tenant_id, s.channel)
  from (
    select distinct brainops.touch_type_of(kind) as channel
    from public.campaign_steps
    where tenant_id = new.tenant_id and campaign_id = new.id and version = new.version and kind in ('send_email', 'send_sms')
    order by 1
  ) as s;
  new.launched_at := coalesce(new.launched_at, brainops.now());
  return new;
end;
$$;

create trigger b0_before_campaign
before insert or update on public.campaigns
for each row
execute function brainops.before_campaign();

create function brainops.after_campaign_status()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_ids uuid[] := array(
    select e.id from public.ai_nurture_campaigns as e
    where e.tenant_id = new.tenant_id and e.campaign_id = new.id and e.status in ('active', 'paused')
    order by e.id
  );
begin
  if new.status <> 'archived' then
    -- And those whose steps are all done, while a message of theirs waits.
    v_ids := v_ids || array(
      select e.id from public.ai_nurture_campaigns as e
      where e.tenant_id = new.tenant_id and e.campaign_id = new.id and e.status = 'completed'
        and (
          exists (
            select from public.ai_email_queue as q
            where q.tenant_id = e.tenant_id and q.enrolment_id = e.id and q.status in ('pending', 'awaiting_approval')
          )
          or exists (
            select from public.ai_sms_queue as q
            where q.tenant_id = e.tenant_id and q.enrolment_id = e.id and q.status in ('pending', 'awaiting_approval')
          )
        )
      order by e.id
    );
  end if;
  if new.status = 'active' then
    perform brainops.release_enrolments(new.tenant_id, v_ids);
  elsif new.status = 'archived' then
    perform brainops.exit_enrolment(id, 'the campaign is archived') from unnest(v_ids) as id;
  else
    perform brainops.hold_enrolments(new.tenant_id, v_ids);
  end if;
  return null;
end;
$$;

create trigger c0_after_campaign_status
after update on public.campaigns
for each row
when (old.status is distinct from new.status)
execute function brainops.after_campaign_status();

create function brainops.pause_campaign(p_code text, p_tenant text default null)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_campaign public.campaigns := brainops.campaign_of(p_tenant, p_code);
begin
  update public.campaigns set status = 'paused' where id = v_campaign.id and status = 'active';
end;
$$;

comment on function brainops.pause_campaign(text, text) is
  'Holds a campaign: no step is performed and nothing of it is sent, and time stands still in it. Twice is as once.';

create function brainops.resume_campaign(p_code text, p_tenant text default null)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_campaign public.campaigns := brainops.campaign_of(p_tenant, p_code);
begin
  update public.campaigns set status = 'active' where id = v_campaign.id and status = 'paused';
end;
$$;

comment on function brainops.resume_campaign(text, text) is
  'Lets a paused campaign go on where it stood: everything in it comes later by the time it was paused, and what is due at once goes five a second.';

-- Takes an enrolment, which the caller has locked and whose open step the version does not have, to
-- that version: to the first step that it has not reached yet, behind the last one on its way that
-- the version has too. It takes the open one's place in time.
create function brainops.replace_open_step(p_enrolment public.ai_nurture_campaigns, p_touch public.ai_campaign_touches)
returns void
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_last int;
  v_next public.campaign_steps;
begin
  with recursive
    way (step_key, n) as (
      select p_touch.step_key, 0
      union all
      select t.step_key, w.n + 1
      from way as w
      inner join public.ai_campaign_touches as t on t.next_key = w.step_key
      where t.tenant_id = p_enrolment.tenant_id and t.campaign_id = p_enrolment.id
    )
  select s.step_number into v_last
    from way as w
    inner join public.campaign_steps as s on s.step_key = w.step_key
    where s.tenant_id = p_enrolment.tenant_id and s.campaign_id = p_enrolment.campaign_id and s.version = p_enrolment.version
    order by w.n
    limit 1;
  v_next := brainops.step_from(p_enrolment, coalesce(v_last, 0) + 1);
  update public.ai_campaign_touches
  set
    performed_at = brainops.now(),
    outcome = 'left out: version ' || p_enrolment.version || ' does not have it',
    next_key = v_next.step_key,
    -- Where a worker has it, this is a wish, and performing it finds it done.
    status = 'cancelled'
  where id = p_touch.id;
  perform brainops.advance_enrolment(p_enrolment, v_next, p_touch.due_at, p_touch.due_at);
end;
$$;

create function brainops.publish_campaign(p_code text, p_move boolean default false, p_tenant text default null)
returns int
language plpgsql
-- Tenants may not write campaigns.version; campaign_of refuses those of others.
security definer
set search_path = ''
as $$
declare
  v_campaign public.campaigns := brainops.campaign_of(p_tenant, p_code);
  v_problems text;
  v_open record;
begin
  select * into v_campaign from public.campaigns where id = v_campaign.id for update;
  v_campaign.version := v_campaign.version + 1;
  select string_agg(p, '; ') into v_problems from brainops.campaign_problems(v_campaign.id, v_campaign.version) as p;
  if v_problems is not null then
    raise exception 'campaign % cannot be published: %', quote_literal(p_code), v_problems
      using errcode = 'OP022', hint = format('Mend the steps of version %s in campaign_steps, then publish again.', v_campaign.version);
  end if;
  update public.campaigns set version = v_campaign.version where id = v_campaign.id;
  if not p_move then
    return v_campaign.version;
  end if;

  perform from public.ai_nurture_campaigns
  where tenant_id = v_campaign.tenant_id and campaign_id = v_campaign.id and status in ('active', 'paused')
  order by id
  for no key update;
  update public.ai_nurture_campaigns set version = v_campaign.version
  where tenant_id = v_campaign.tenant_id and campaign_id = v_campaign.id and status in ('active', 'paused');
  update public.ai_campaign_touches as t
  set
    version = s.version,
    step_number = s.step_number,
    touch_type = brainops.touch_type_of(s.kind),
    content_template = s.template
  from public.ai_nurture_campaigns as e
  inner join public.campaign_steps as s on s.tenant_id = e.tenant_id and s.campaign_id = e.campaign_id and s.version = e.version
  where e.tenant_id = v_campaign.tenant_id and e.campaign_id = v_campaign.id and e.status in ('active', 'paused')
    and t.tenant_id = e.tenant_id and t.campaign_id = e.id and t.step_key = s.step_key and t.performed_at is null;
  for v_open in
    select e, t
    from public.ai_nurture_campaigns as e
    inner join public.ai_campaign_touches as t
      on t.tenant_id = e.tenant_id and t.campaign_id = e.id and t.step_key is not null and t.performed_at is null
    where e.tenant_id = v_campaign.tenant_id and e.campaign_id = v_campaign.id and e.status in ('active', 'paused')
      and t.version <> e.version
    order by e.id
  loop
    perform brainops.replace_open_step(v_open.e, v_open.t);
  end loop;
  return v_campaign.version;
end;
$$;

comment on function brainops.publish_campaign(text, boolean, text) is
  'Puts the draft version of a campaign in force, for new enrolments; with p_move running ones go on in it too, each at the step of the same step_key (or, where that is gone, at the next one). OP022 lists what keeps it from being published. Returns the version.';

-- Who enters by itself --------------------------------------------------------------------------

create function brainops.rule_fits(p_rule public.campaign_rules, p_lead public.revenue_leads)
returns boolean
language sql
stable
set search_path = ''
as $$
  select
    -- Before it is reckoned, a score of 0 says nothing.
    (p_rule.tiers is null or (p_lead.scored_at is not null and p_lead.tier = any (p_rule.tiers)))
    and case
      when p_rule.stages is null then p_lead.stage not in ('won', 'lost')
      else p_lead.stage = any (p_rule.stages)
    end
    and (p_rule.sources is null or p_lead.source = any (p_rule.sources))
    and (p_rule.condition is null or brainops.condition_holds(p_rule.condition, p_lead, '-infinity'));
$$;

comment on function brainops.rule_fits(public.campaign_rules, public.revenue_leads) is
  'Whether a rule of campaign_rules is true of a lead as it is.';

create index revenue_leads_merged_into on public.revenue_leads (tenant_id, merged_into) where merged_into is not null;

create function brainops.route_lead(p_old public.revenue_leads, p_new public.revenue_leads)
returns void
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_rule record;
begin
  for v_rule in
    select r, c.code
    from public.campaign_rules as r
    inner join public.campaigns as c on c.tenant_id = r.tenant_id and c.id = r.campaign_id
    where r.tenant_id = p_new.tenant_id and r.active and c.status = 'active'
      and brainops.rule_fits(r, p_new)
      and (p_old.id is null or not brainops.rule_fits(r, p_old))
      -- A lead that is being made one with this brings its enrolment along, and goes on where it was.
      and not exists (
        select from public.revenue_leads as m
        inner join public.ai_nurture_campaigns as e on e.tenant_id = m.tenant_id and e.lead_id = m.id
        where m.tenant_id = p_new.tenant_id and m.merged_into = p_new.id and e.campaign_id = c.id
      )
    order by r.name
  loop
    perform brainops.exit_enrolment(e.id, 'routed to ' || v_rule.code)
    from public.ai_nurture_campaigns as e
    where e.tenant_id = p_new.tenant_id and e.lead_id = p_new.id and e.campaign_type = any ((v_rule.r).leaves)
      and e.status in ('active', 'paused');
    insert into public.ai_nurture_campaigns (tenant_id, lead_id, campaign_type)
    values (p_new.tenant_id, p_new.id, v_rule.code)
    on conflict do nothing;
  end loop;
end;
$$;

create function brainops.tier_enrols()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  perform brainops.route_lead(case when tg_op = 'UPDATE' then old end, new);
  return null;
end;
$$;

create trigger tier_enrols
after insert on public.revenue_leads
for each row
when (new.merged_into is null)
execute function brainops.tier_enrols();
create trigger tier_enrols_later
after update on public.revenue_leads
for each row
when
  (
    new.merged_into is null
    and (
      (old.score, old.stage, old.source, old.value_estimate, old.metadata) is distinct from (
        new.score,
        new.stage,
        new.source,
        new.value_estimate,
        new.metadata
      )
      or (old.company_name, old.contact_name, old.email, old.phone, old.website, old.time_zone) is distinct from (
        new.company_name,
        new.contact_name,
        new.email,
        new.phone,
        new.website,
        new.time_zone
      )
      or (old.scored_at is null and new.scored_at is not null)
    )
  )
execute function brainops.tier_enrols();

create function brainops.before_lead_task()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  new.done_at := case when new.status = 'done' then coalesce(new.done_at, brainops.now()) end;
  return new;
end;
$$;

create trigger b0_before_lead_task
before insert or update on public.lead_tasks
for each row
execute function brainops.before_lead_task();

create trigger a0_resolve_lead_id
before insert on public.ai_nurture_campaigns
for each row
when (new.lead_id is not null)
execute function brainops.resolve_lead_id();
create trigger a0_resolve_lead_id
before insert on public.lead_tasks
for each row
when (new.lead_id is not null)
execute function brainops.resolve_lead_id();

create view brainops.campaign_results
with (security_invoker = true)
as
  select
    t.tenant_id,
    c.code,
    t.version,
    t.step_number,
    t.step_key,
    t.touch_type,
    t.variant,
    count(distinct t.id) as reached,
    count(distinct t.id) filter (where t.performed_at is not null) as performed,
    count(*) filter (where e.event = 'sent') as sent,
    count(*) filter (where e.event = 'opened') as opened,
    count(*) filter (where e.event = 'clicked') as clicked,
    count(*) filter (where e.event = 'replied') as replied,
    count(*) filter (where e.event in ('skipped', 'failed', 'cancelled')) as not_sent,
    count(*) filter (where e.event = 'bounced') as bounced,
    count(*) filter (where e.event in ('unsubscribed', 'complained')) as unsubscribed
  from
    public.ai_campaign_touches as t
    inner join public.ai_nurture_campaigns as n on n.tenant_id = t.tenant_id and n.id = t.campaign_id
    inner join public.campaigns as c on c.tenant_id = n.tenant_id and c.id = n.campaign_id
    left join public.campaign_touch_events as e on e.tenant_id = t.tenant_id and e.touch_id = t.id
  where t.step_key is not null
  group by t.tenant_id, c.code, t.version, t.step_number, t.step_key, t.touch_type, t.variant;

comment on view brainops.campaign_results is
  'What came of each step of each campaign: how many reached it, were sent its message, opened, clicked, replied.';

grant select on brainops.campaign_results to brainops_tenant, brainops_service, brainops_worker, brainops_admin;

-- Rights ------------------------------------------------------------------------------------------

-- A touch on record is what keeps it from happening again, and it stays in its enrolment.
revoke delete on public.ai_campaign_touches from brainops_tenant, brainops_service;
revoke update (campaign_id, touch_type) on public.ai_campaign_touches from brainops_tenant, brainops_service;

do $$
declare
  v_function record;
begin
  for v_function in
    select p.oid::regprocedure as name, p.prosecdef as is_definer
    from pg_catalog.pg_proc as p
    where p.pronamespace = 'brainops'::regnamespace
      and p.proname = any (
        '{time_between,add_delay,condition_problems,is_interval,condition_holds,enrolment_hold_reason,gate_campaign_touch,before_campaign_step,before_campaign_template,campaign_of,revise_campaign,step_paths,campaign_problems,split_problems,normal_enrolment_status,entry_refusal,enter_campaign,lead_time_zone,touch_type_of,after_enrolment_insert,enrol,adopt_touch,hold_enrolments,spread,release_enrolments,close_enrolment,before_enrolment_update,after_enrolment_update,after_enrolment_moves,exit_enrolment,exit_reason_of,enrolment_exit_reason,enrolment_pause_reason,step_from,step_due_at,advance_enrolment,leave_out_step,move_touch,note_next_touch,with_footer,queue_touch,leading_variant,split_key,choose_variant,lead_words,perform_step,go_on_from,perform_touch,campaigns_hear_events,note_touch_message,before_campaign,after_campaign_status,pause_campaign,resume_campaign,replace_open_step,publish_campaign,rule_fits,route_lead,tier_enrols,before_lead_task}'::text[]
      )
  loop
    execute format('revoke execute on function %s from public', v_function.name);
    execute format('grant execute on function %s to brainops_system', v_function.name);
    if v_function.is_definer then
      execute format('alter function %s owner to brainops_system', v_function.name);
    end if;
  end loop;
end;
$$;

-- Made for clients, or called by triggers that run with a client's rights.
grant execute
on function brainops.time_between(timestamptz, timestamptz),
brainops.add_delay(timestamptz, interval, text),
brainops.condition_problems(jsonb),
brainops.is_interval(text),
brainops.normal_enrolment_status(text),
brainops.touch_type_of(text),
brainops.campaign_of(text, text),
brainops.step_paths(text, jsonb, int),
brainops.split_problems(jsonb),
brainops.campaign_problems(uuid, int),
brainops.revise_campaign(text, text),
brainops.publish_campaign(text, boolean, text),
brainops.pause_campaign(text, text),
brainops.resume_campaign(text, text),
brainops.enrol(uuid, text),
brainops.exit_enrolment(uuid, text),
brainops.note_next_touch(uuid, timestamptz)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin;
grant execute
on function brainops.gate_campaign_touch(uuid[]),
brainops.enrolment_hold_reason(public.ai_nurture_campaigns, public.campaigns),
brainops.enrolment_exit_reason(uuid),
brainops.enrolment_pause_reason(uuid),
brainops.perform_touch(uuid, uuid)
to brainops_worker;
