-- Leads as a pipeline: stages, scores with their reasons, one row for each person, and the stream
-- of everything that happens to a lead.
--
-- A person is who has an e-mail address, or a phone number, in one tenant. Whoever inserts the same
-- person again gets the row that he asked for (RETURNING works), but that row is merged into the
-- first one before the statement ends, and its id goes on as an alias:
--
--   insert ──▶ before: whose address is it? ──nobody's──▶ a lead
--                        └─▶ another lead's: fill it, write the alias, mark the row (merged_into)
--              after: a marked row is deleted
--
-- So a trigger of another table's business that hangs on revenue_leads after insert says
-- "when (new.merged_into is null)".
--
-- Lock order: lead_keys, then leads by id, then what refers to them.
set local lock_timeout = '2s';

-- These two are part of a generated column and of every insert: without a search_path, so that they
-- are inlined.
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
  'What two spellings of one e-mail address have in common; null for what is no address ("n/a", "-"), which makes nobody the same person.';

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
  -- What existing clients write beside the above.
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
    check (stage in ('new', 'contacted', 'qualified', 'proposal_sent', 'negotiating', 'won', 'lost', 'nurturing'))
);

create unique index revenue_leads_person on public.revenue_leads (tenant_id, email_key) where email_key is not null;
create index revenue_leads_phone on public.revenue_leads (tenant_id, phone_e164) where phone_e164 is not null;
create index revenue_leads_merged_into on public.revenue_leads (tenant_id, merged_into) where merged_into is not null;

comment on table public.revenue_leads is 'People and companies that may become customers of a tenant.';
comment on column public.revenue_leads.score is
  '0 (cold) to 100 (hot), reckoned from lead_score_events. What a client writes is kept (as the reason set_by_client) and goes on from there; above 0 and below 1 is taken as a share of 1, so 0.85 is 85.';
comment on column public.revenue_leads.value_estimate is
  'What the deal may be worth, in the tenant''s currency; null for not known.';
comment on column public.revenue_leads.time_zone is 'IANA name; null for not known, then the tenant''s zone counts.';
comment on column public.revenue_leads.stage is
  'new, contacted, qualified, proposal_sent, negotiating, won, lost or nurturing; other words are understood where brainops_internal.normal_stage knows them. brainops.next_stages says where a lead may go.';
comment on column public.revenue_leads.tier is 'hot from 80, warm from 60, cool from 40, else cold.';
comment on column public.revenue_leads.email_key is 'The address as it is compared; null where email is no address.';
comment on column public.revenue_leads.phone_e164 is
  'phone as +<country><number>; null where that can''t be told. May be given.';
comment on column public.revenue_leads.owner_email is 'Who looks after the lead; null for nobody.';
comment on column public.revenue_leads.state is
  'State or province, e.g. CO; null for not known. The rules for text messages go by it.';
comment on column public.revenue_leads.merged_into is
  'Not null only while an insert of a person who is a lead already is under way.';
comment on column public.revenue_leads.scored_at is 'When the score was last reckoned; null: not yet.';
comment on column public.revenue_leads.rescore_requested_at is
  'Set it, and the score is reckoned anew by a job; null when that is done.';
comment on column public.revenue_leads.status is 'A word of existing clients; nothing here goes by it.';
comment on column public.revenue_leads.lead_id is 'Link of existing clients to a table of theirs.';

-- Every key that makes somebody the same person, and whose it is. A second table because its unique
-- key makes a concurrent insert of the same person wait for the first, and then merge, where one on
-- the leads would make it fail.
create table brainops.lead_keys (
  tenant_id uuid not null references public.tenants (id)
    on delete cascade,
  key text not null,
  lead_id uuid not null,
  constraint lead_keys_once unique (tenant_id, key)
);

-- The table has no primary key, and a publication of all tables refuses updates of rows it cannot tell apart.
alter table brainops.lead_keys replica identity using index lead_keys_once;

create index lead_keys_lead_id on brainops.lead_keys (tenant_id, lead_id);

comment on table brainops.lead_keys is 'Which lead an e-mail address or phone number means. Written by triggers alone.';
comment on column brainops.lead_keys.key is
  'email:<address in lower case> or phone:<E.164>. Of several leads with one phone number it is the first.';
comment on column brainops.lead_keys.lead_id is
  'No foreign key: it is claimed before the lead is there. One whose lead is gone is taken over.';

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
  'Ids of leads that were merged into another: rows that refer to one are taken as the other''s.';
comment on column public.revenue_lead_aliases.id is 'The id that is no lead''s any more.';

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
  constraint lead_events_metadata_is_object check (jsonb_typeof(metadata) = 'object')
);

-- squawk-ignore require-concurrent-index-creation
create index lead_events_form_submitted on public.lead_events (tenant_id, source_key) where event = 'form_submitted';

comment on table public.lead_events is
  'Everything that a person did or that happened to a lead, append only. Scores, exits, waits and branches read it.';
comment on column public.lead_events.event is
  'captured, merged, form_submitted, stage_changed, email_opened (never a machine''s), email_clicked, email_replied, email_bounced, email_complained, email_unsubscribed, sms_delivered, sms_failed, sms_replied, opted_in, opted_out, meeting_booked, paid, payment_failed, refunded, disputed, onboarded, or a word of your own.';
comment on column public.lead_events.channel is 'email, sms, web, payment, …; null for none.';
comment on column public.lead_events.source_key is
  'What makes the same event told twice one; made up where none is given.';
comment on column public.lead_events.metadata is
  'May hold email_id, sms_id, touch_id, campaign_id, url; for stage_changed from and to.';

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
  'What scores how much. Points and half-lives may be edited: those of events count for events from then on, those of facts from the next reckoning of each lead.';
comment on column brainops.score_reasons.kind is
  'fact: something that the lead''s row says; event: a word in lead_events.';
comment on column brainops.score_reasons.half_life is 'After this time half of the points are left; null: they stay.';

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
  'Why a lead''s score is what it is, append only. score = the sum of points * 0.5 ^ (age / half_life), rounded, never below 0 or above 100.';
comment on column public.lead_score_events.reason is
  'A word of brainops.score_reasons, set_by_client (what it took to get to the score that a client wrote), merged, or a word of your own.';
comment on column public.lead_score_events.points is
  'Signed. A fact that changes is corrected by another row with the difference.';
comment on column public.lead_score_events.half_life is 'Null: the points stay.';
comment on column public.lead_score_events.source_key is
  'What makes the same reason told twice one; for a mail''s opens and clicks the mail, of which the earliest counts.';

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
  constraint lead_forms_defaults_is_object check (jsonb_typeof(defaults) = 'object')
);

comment on table public.lead_forms is
  'Forms that send leads to POST /forms/<token>, signed. `brainops leads form` makes one; its secret and its token are in provider_credentials, provider form, under the same name.';
comment on column public.lead_forms.source is 'source of the leads that come from it.';
comment on column public.lead_forms.defaults is
  'What a lead is given where the form says nothing, by columns of revenue_leads; others go into metadata.';
comment on column public.lead_forms.active is 'False: what it sends is refused.';
