-- Leads: the people who may become customers of a tenant, each with a stage, a score and the reasons for it, and the
-- events that happened to them.
--
-- A person is an e-mail address or a phone number in one tenant, and is one row of revenue_leads. Inserting the same
-- person again returns the inserted row (RETURNING works), but the row is merged into the existing lead before the
-- statement ends, and its id becomes an alias of that lead:
--
--   insert ──▶ before: which lead has the address? ──none──▶ the row becomes a lead
--                        └─▶ another one: fill that lead, write the alias, set the row's merged_into
--              after: a row with merged_into is deleted
--
-- So a trigger after insert on revenue_leads that belongs to another subject needs "when (new.merged_into is null)".
--
-- Lock order: lead_keys, then leads by id, then the rows that refer to them.
--
-- Compatibility: rolling; creates tables that no older program reads.
set local lock_timeout = '2s';

-- Deliberately looser than brainops_internal.is_email_address. This one decides who is the same person, not who can
-- receive mail: a lead with jörg@exämple.de or a@b.c_d, which the mail queue refuses, is accepted, must be found when
-- it is inserted again, and must be found by brainops.forget. gate_email keeps mail from going to such an address.
--
-- Part of a generated column: it must not change without rewriting the stored values, so it is not among functions/. It
-- sets no search_path, so that Postgres inlines it.
create function brainops_internal.email_key(p_email text)
returns text
language sql
immutable
parallel safe
as $$
  select
    case
      when p_email operator(pg_catalog.~) '^\s*[^@\s]+@[^@\s]+\.[^@\s]+\s*$' then pg_catalog.lower(
        pg_catalog.btrim(p_email, E' \t\r\n')
      )
    end;
$$;

comment on function brainops_internal.email_key(text) is
  'The form in which e-mail addresses are compared: trimmed, in lower case. Null for a text that is not an address ("n/a", "-"), so that it does not make two leads the same person.';

revoke execute on function brainops_internal.email_key(text) from public;
grant execute
on function brainops_internal.email_key(text)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

create table public.revenue_leads (
  id uuid primary key default gen_random_uuid(),
  tenant_id uuid not null references public.tenants (id),
  company_name text,
  contact_name text,
  email text,
  phone text,
  website text,
  stage text not null default 'new',
  score numeric not null default 0,
  value_estimate numeric,
  source text,
  time_zone text,
  metadata jsonb not null default '{}',
  created_at timestamptz not null default brainops.now(),
  updated_at timestamptz not null default brainops.now(),
  last_contact timestamptz,
  next_action text,
  next_action_date timestamptz,
  merged_into uuid,
  tier text not null generated always as (
    case
      when score >= 80 then 'hot'
      when score >= 60 then 'warm'
      when score >= 40 then 'cool'
      else 'cold'
    end
  ) stored,
  email_key text generated always as (
    case
      when merged_into is null then brainops_internal.email_key(email)
    end
  ) stored,
  phone_e164 text,
  owner_email text,
  state text,
  scored_at timestamptz,
  rescore_requested_at timestamptz,
  -- Existing clients also write these columns.
  location text,
  industry text,
  status text,
  is_test boolean default false,
  is_demo boolean default false,
  assigned_agent_id uuid,
  lead_id uuid,
  constraint revenue_leads_tenant_row unique (tenant_id, id),
  constraint revenue_leads_score_range check (score between 0 and 100),
  constraint revenue_leads_time_zone_known check (brainops_internal.is_time_zone(time_zone)),
  constraint revenue_leads_metadata_is_object check (jsonb_typeof(metadata) = 'object'),
  constraint revenue_leads_phone_e164_shape check (phone_e164 ~ '^\+[1-9][0-9]{6,14}$'),
  constraint revenue_leads_stage_known
    check (stage in ('new', 'contacted', 'qualified', 'proposal_sent', 'negotiating', 'won', 'lost', 'nurturing')),
  constraint revenue_leads_value_estimate_range check (abs(value_estimate) < 1e15),
  constraint revenue_leads_company_name_at_most_1000_bytes check (octet_length(company_name) <= 1000),
  constraint revenue_leads_contact_name_at_most_1000_bytes check (octet_length(contact_name) <= 1000),
  constraint revenue_leads_email_at_most_1000_bytes check (octet_length(email) <= 1000),
  constraint revenue_leads_phone_at_most_1000_bytes check (octet_length(phone) <= 1000),
  constraint revenue_leads_website_at_most_2048_bytes check (octet_length(website) <= 2048),
  constraint revenue_leads_source_at_most_1000_bytes check (octet_length(source) <= 1000),
  constraint revenue_leads_next_action_at_most_10000_bytes check (octet_length(next_action) <= 10000),
  constraint revenue_leads_owner_email_at_most_1000_bytes check (octet_length(owner_email) <= 1000),
  constraint revenue_leads_state_at_most_1000_bytes check (octet_length(state) <= 1000),
  constraint revenue_leads_location_at_most_1000_bytes check (octet_length(location) <= 1000),
  constraint revenue_leads_industry_at_most_1000_bytes check (octet_length(industry) <= 1000),
  constraint revenue_leads_status_at_most_1000_bytes check (octet_length(status) <= 1000),
  constraint revenue_leads_metadata_at_most_65536_bytes check (pg_column_size(metadata) <= 65536)
);

create unique index revenue_leads_person on public.revenue_leads (tenant_id, email_key) where email_key is not null;
create index revenue_leads_phone on public.revenue_leads (tenant_id, phone_e164) where phone_e164 is not null;
create index revenue_leads_merged_into on public.revenue_leads (tenant_id, merged_into) where merged_into is not null;

comment on table public.revenue_leads is
  'People and companies that may become customers of a tenant; each person is one row. Inserting a person who is a lead already adds to that lead.';
comment on column public.revenue_leads.score is
  'From 0 (cold) to 100 (hot), computed from lead_score_events. A score that a client writes is kept, as the reason set_by_client, and later points add to it. A value between 0 and 1 is a share of 1: 0.85 is stored as 85.';
comment on column public.revenue_leads.value_estimate is
  'What the deal may be worth, in the tenant''s currency; null if not known.';
comment on column public.revenue_leads.time_zone is
  'IANA name; null if not known: then the tenant''s time zone is used.';
comment on column public.revenue_leads.stage is
  'new, contacted, qualified, proposal_sent, negotiating, won, lost or nurturing. Other names are translated if brainops_internal.normal_stage knows them. brainops.next_stages lists the stages that a lead may move to.';
comment on column public.revenue_leads.tier is 'hot from a score of 80, warm from 60, cool from 40, else cold.';
comment on column public.revenue_leads.email_key is
  'email in lower case, as it is compared; null if email is not an address. Look leads up by this column: it is indexed.';
comment on column public.revenue_leads.phone_e164 is
  'phone as +<country><number>; null if it cannot be read. Filled in unless given.';
comment on column public.revenue_leads.owner_email is
  'E-mail address of the person who looks after the lead; null: no one.';
comment on column public.revenue_leads.state is
  'State or province, e.g. CO; null if not known. Rules for text messages depend on it.';
comment on column public.revenue_leads.merged_into is
  'The lead that this row is being merged into. Null except within the transaction that merges it.';
comment on column public.revenue_leads.scored_at is 'When the score was last computed; null: not yet.';
comment on column public.revenue_leads.rescore_requested_at is
  'Set it to have a job compute the score again; null once that is done.';
comment on column public.revenue_leads.status is 'For existing clients; not used here.';
comment on column public.revenue_leads.lead_id is
  'For existing clients: a reference to one of their own tables; not used here.';

-- The keys by which a person is recognised. A table of its own, because a concurrent insert of the same person waits at
-- its unique key and then merges; at a unique key of the leads it would fail.
create table brainops.lead_keys (
  tenant_id uuid not null references public.tenants (id)
    on delete cascade,
  key text not null,
  lead_id uuid not null,
  constraint lead_keys_once unique (tenant_id, key)
);

-- The table has no primary key, and in a publication of all tables, updates need a replica identity.
alter table brainops.lead_keys replica identity using index lead_keys_once;

create index lead_keys_lead_id on brainops.lead_keys (tenant_id, lead_id);

comment on table brainops.lead_keys is 'Which lead has an e-mail address or a phone number. Written only by triggers.';
comment on column brainops.lead_keys.key is
  'email:<address in lower case> or phone:<E.164>. If several leads have one phone number, the key belongs to the first.';
comment on column brainops.lead_keys.lead_id is
  'Without a foreign key, because a key is claimed before its lead is inserted. A key whose lead does not exist may be taken over.';

create table public.revenue_lead_aliases (
  id uuid primary key,
  tenant_id uuid not null references public.tenants (id),
  lead_id uuid not null,
  created_at timestamptz not null default brainops.now(),
  constraint revenue_lead_aliases_lead
    foreign key (tenant_id, lead_id) references public.revenue_leads (tenant_id, id)
      on delete cascade
);

create index revenue_lead_aliases_lead_id on public.revenue_lead_aliases (tenant_id, lead_id);

comment on table public.revenue_lead_aliases is
  'Ids of leads that were merged into another one. Rows that refer to such an id are stored with the id of the other lead.';
comment on column public.revenue_lead_aliases.id is 'The former id of a lead that was merged.';

create table public.lead_events (
  id uuid primary key default gen_random_uuid(),
  tenant_id uuid not null references public.tenants (id),
  lead_id uuid not null,
  event text not null,
  channel text,
  occurred_at timestamptz not null default brainops.now(),
  source_key text not null default gen_random_uuid()::text,
  metadata jsonb not null default '{}',
  created_at timestamptz not null default brainops.now(),
  constraint lead_events_once unique (tenant_id, lead_id, event, source_key),
  constraint lead_events_lead
    foreign key (tenant_id, lead_id) references public.revenue_leads (tenant_id, id)
      on delete cascade,
  constraint lead_events_event_is_word check (event ~ '^[a-z][a-z0-9_]{0,62}$'),
  constraint lead_events_source_key_length check (length(source_key) between 1 and 300),
  constraint lead_events_metadata_is_object check (jsonb_typeof(metadata) = 'object'),
  constraint lead_events_channel_at_most_300_bytes check (octet_length(channel) <= 300),
  constraint lead_events_metadata_at_most_262144_bytes check (pg_column_size(metadata) <= 262144)
);

-- squawk-ignore require-concurrent-index-creation
create index lead_events_form_submitted on public.lead_events (tenant_id, source_key) where event = 'form_submitted';

comment on table public.lead_events is
  'Everything that a lead did or that happened to it, append only. Scores and campaigns (ends, waits, branches) read it.';
comment on column public.lead_events.event is
  'captured, merged, form_submitted, stage_changed, email_opened (not by a machine), email_clicked, email_replied, email_bounced, email_complained, email_unsubscribed, sms_delivered, sms_failed, sms_replied, opted_in, opted_out, meeting_booked, paid, payment_failed, refunded, disputed, onboarded, or a name of your own.';
comment on column public.lead_events.channel is 'email, sms, web, payment, …; null if the event has no channel.';
comment on column public.lead_events.source_key is
  'Identifies the event, so that it is recorded once; a random one if not given.';
comment on column public.lead_events.metadata is
  'Details: email_id, sms_id, touch_id, campaign_id, url; for stage_changed from and to.';

create table brainops.score_reasons (
  reason text primary key,
  kind text not null,
  points numeric not null,
  half_life interval,
  description text not null,
  constraint score_reasons_kind_known check (kind in ('fact', 'event')),
  constraint score_reasons_half_life_positive check (half_life > '0')
);

comment on table brainops.score_reasons is
  'What scores how many points. Points and half-lives may be edited: for events the change applies to later events, for facts from each lead''s next rescore on.';
comment on column brainops.score_reasons.kind is
  'fact: something in the lead''s row. event: a value of lead_events.event.';
comment on column brainops.score_reasons.half_life is
  'The time after which half of the points remain; null: they do not decay.';

create table public.lead_score_events (
  id uuid primary key default gen_random_uuid(),
  tenant_id uuid not null references public.tenants (id),
  lead_id uuid not null,
  reason text not null,
  points numeric not null,
  half_life interval,
  occurred_at timestamptz not null default brainops.now(),
  source_key text not null default gen_random_uuid()::text,
  created_at timestamptz not null default brainops.now(),
  constraint lead_score_events_once unique (tenant_id, lead_id, reason, source_key),
  constraint lead_score_events_lead
    foreign key (tenant_id, lead_id) references public.revenue_leads (tenant_id, id)
      on delete cascade,
  constraint lead_score_events_reason_is_word check (reason ~ '^[a-z][a-z0-9_]{0,62}$'),
  constraint lead_score_events_points_range check (points between -1000000 and 1000000),
  constraint lead_score_events_half_life_positive check (half_life > '0'),
  constraint lead_score_events_source_key_length check (length(source_key) between 1 and 300)
);

comment on table public.lead_score_events is
  'The reasons for a lead''s score, append only. The score is the sum of points * 0.5 ^ (age / half_life), rounded and limited to 0 to 100.';
comment on column public.lead_score_events.reason is
  'A reason of brainops.score_reasons, set_by_client (the difference to a score that a client wrote), merged, or a name of your own.';
comment on column public.lead_score_events.points is
  'May be negative. If a fact changes, another row with the difference is added.';
comment on column public.lead_score_events.half_life is
  'The time after which half of the points remain; null: they do not decay.';
comment on column public.lead_score_events.source_key is
  'Identifies the reason, so that it counts once; a random one if not given. For opens and clicks it is the mail''s id, and the earliest of each counts.';

create table public.lead_forms (
  id uuid primary key default gen_random_uuid(),
  tenant_id uuid not null references public.tenants (id),
  name text not null,
  source text not null default 'form',
  defaults jsonb not null default '{}',
  active boolean not null default true,
  created_at timestamptz not null default brainops.now(),
  constraint lead_forms_once unique (tenant_id, name),
  constraint lead_forms_name_short check (name ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
  constraint lead_forms_defaults_is_object check (jsonb_typeof(defaults) = 'object'),
  constraint lead_forms_source_at_most_1000_bytes check (octet_length(source) <= 1000),
  constraint lead_forms_defaults_at_most_65536_bytes check (pg_column_size(defaults) <= 65536)
);

comment on table public.lead_forms is
  'Forms that may post leads to /forms/<token>, signed. `brainops leads form` creates them; their secret and token are in provider_credentials, with provider form and the same name.';
comment on column public.lead_forms.source is 'source of the leads that come from the form.';
comment on column public.lead_forms.defaults is
  'Values for what a submission leaves out, by columns of revenue_leads; other keys go into metadata.';
comment on column public.lead_forms.active is 'False: submissions are refused.';
