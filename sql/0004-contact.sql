-- Contact rules: who may be contacted, and when. Consent, suppressions, quiet hours, frequency caps, warm-up, holds.
-- Compatibility: rolling; creates tables that no older program reads.
--
-- One function checks all rules, for mail and texts alike: brainops_internal.contact_verdicts. The gates call it inside
-- the claiming transaction, so its verdicts are true at the moment the row is claimed.
--
-- The rules in the order in which they are checked, and the outcome for a row that breaks one:
--
--   every message   no address (fail) · suppressed (skip) · metadata.expires_at has passed (skip)
--   marketing only  consent (skip) · left its campaign (skip) · expired (skip) · no postal address (fail) ·
--                   marketing on hold, or campaign paused (defer) · quiet hours (defer) · frequency cap (defer) ·
--                   hourly limit (defer)
--
-- A deferred row gets a new scheduled_for and the reason in last_error, and is checked again then. Marketing that has
-- waited longer than contact_policies.expires_after is skipped as expired.
--
-- Lock order: job rows (brainops_internal.claim), the tenant's key, persons' keys in ascending order, hourly counters,
-- then what claim takes after its gate (rate limits, breakers).
set local lock_timeout = '2s';

create type brainops.contact as (
  id uuid,
  tenant_id uuid,
  lead_id uuid,
  address text,
  is_marketing boolean,
  enrolment_id uuid,
  recipient text,
  first_due_at timestamptz,
  expires_at text
);

comment on type brainops.contact is
  'A message to check against the contact rules. address: the e-mail address or phone number, null if the lead is gone or has none. recipient: the row''s column. enrolment_id: null outside campaigns. first_due_at: when the message was due before it was deferred. expires_at: as in its metadata.';

create type brainops.recipient_context as (
  id uuid,
  lead_ids uuid[],
  emails text[],
  phones text[],
  zones text[],
  country text,
  state text,
  opens time[],
  closes time[],
  goes_at timestamptz
);

comment on type brainops.recipient_context is
  'A marketing message with its recipient. lead_ids, emails, phones: all that the person is known by. zones: time zones the person may be in; contact hours must hold in each. country, state: for texts, whose legal hours and caps apply; null if unknown. opens, closes: contact hours of each weekday, Monday first; null for a closed day. goes_at: now, or after the quiet hours.';

-- In a numbered file, because a column is generated from it.
create function brainops_internal.is_persons_source(p_source text)
returns boolean
language sql
immutable
parallel safe
as $$
  select
    p_source operator(pg_catalog.=) any (
      array['unsubscribe_link', 'preference_page', 'double_opt_in', 'sendgrid', 'twilio', 'forget', 'admin']
    );
$$;

comment on function brainops_internal.is_persons_source(text) is
  'Whether consents and topic opt-outs with this source are the person''s own word, or stand for it (admin: brainops.lift_opt_out).';

revoke execute on function brainops_internal.is_persons_source(text) from public;
grant execute
on function brainops_internal.is_persons_source(text)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

create table public.contact_suppressions (
  id uuid primary key default gen_random_uuid(),
  tenant_id uuid not null references public.tenants (id),
  channel text not null default 'email',
  address text not null,
  address_key text not null generated always as (lower(btrim(address))) stored,
  reason text not null default 'manual',
  source text not null default 'client',
  created_at timestamptz not null default now(),
  expires_at timestamptz,
  person_source text,
  person_at timestamptz,
  constraint contact_suppressions_once unique (tenant_id, channel, address_key),
  constraint contact_suppressions_channel_known check (channel in ('email', 'sms')),
  constraint contact_suppressions_address_given check (btrim(address) <> ''),
  constraint contact_suppressions_person_at_given check ((person_source is null) = (person_at is null)),
  constraint contact_suppressions_person_source_at_most_300_bytes check (octet_length(person_source) <= 300),
  constraint contact_suppressions_address_at_most_1000_bytes check (octet_length(address) <= 1000),
  constraint contact_suppressions_reason_at_most_1000_bytes check (octet_length(reason) <= 1000),
  constraint contact_suppressions_source_at_most_300_bytes check (octet_length(source) <= 300)
);

comment on table public.contact_suppressions is
  'Addresses to which nothing may be sent, transactional messages included. Checked when a row is claimed, so an entry also stops what is queued already.';
comment on column public.contact_suppressions.address is
  'An e-mail address, or a phone number, which is stored as E.164. For a person who was forgotten: sha256:<digest>.';
comment on column public.contact_suppressions.address_key is
  'The address in lower case without surrounding spaces: messages are compared with this.';
comment on column public.contact_suppressions.reason is
  'bounced, complained, unsubscribed, forgotten, manual, or a value of your own.';
comment on column public.contact_suppressions.source is
  'Where the entry came from: sendgrid, twilio, unsubscribe_link, preference_page, forget, client, ….';
comment on column public.contact_suppressions.expires_at is
  'The entry has no effect from this instant on. Null: it does not expire.';
comment on column public.contact_suppressions.person_source is
  'Where the person''s own word came from (unsubscribe_link, preference_page, sendgrid, twilio, forget): only the person lifts it, or an admin with brainops.lift_opt_out. Null: the entry is the tenant''s own, or a bounce. Filled by a trigger.';
comment on column public.contact_suppressions.person_at is 'When person_source was recorded.';

create table public.contact_consents (
  id uuid primary key default gen_random_uuid(),
  tenant_id uuid not null references public.tenants (id),
  lead_id uuid,
  channel text not null,
  address text not null,
  address_key text not null generated always as (lower(btrim(address))) stored,
  state text not null,
  source text not null default 'client',
  by_person boolean not null generated always as (brainops_internal.is_persons_source(source)) stored,
  evidence jsonb not null default '{}',
  occurred_at timestamptz not null default brainops.now(),
  created_at timestamptz not null default now(),
  constraint contact_consents_lead
    foreign key (tenant_id, lead_id) references public.revenue_leads (tenant_id, id)
      on delete set null (lead_id),
  constraint contact_consents_channel_known check (channel in ('email', 'sms')),
  constraint contact_consents_state_known check (state in ('granted', 'denied', 'pending')),
  constraint contact_consents_address_given check (btrim(address) <> ''),
  constraint contact_consents_evidence_is_object check (jsonb_typeof(evidence) = 'object'),
  constraint contact_consents_address_at_most_1000_bytes check (octet_length(address) <= 1000),
  constraint contact_consents_source_at_most_300_bytes check (octet_length(source) <= 300),
  constraint contact_consents_evidence_at_most_65536_bytes check (pg_column_size(evidence) <= 65536)
);

create index contact_consents_last_word on public.contact_consents (tenant_id, channel, address_key, occurred_at desc);
create index contact_consents_lead_id on public.contact_consents (tenant_id, lead_id) where lead_id is not null;

comment on table public.contact_consents is
  'Consent given or withdrawn, append only: the latest entry of an address and channel counts.';
comment on column public.contact_consents.lead_id is 'The lead it was recorded for. Null: none, or the lead is gone.';
comment on column public.contact_consents.address is
  'An e-mail address, or a phone number, which is stored as E.164 unless it cannot be read.';
comment on column public.contact_consents.address_key is
  'The address in lower case without surrounding spaces: messages are compared with this.';
comment on column public.contact_consents.state is
  'granted, denied, or pending (the person has been asked to confirm and has not answered).';
comment on column public.contact_consents.source is
  'Where it came from: form, import, inbound_sms, double_opt_in, preference_page, client, ….';
comment on column public.contact_consents.by_person is
  'Whether it is the person''s own word: source unsubscribe_link, preference_page, double_opt_in, sendgrid, twilio, forget, or admin, which stands for it. Tenants may not write such a grant.';
comment on column public.contact_consents.evidence is
  'What proves it: text, page, ip, …. The key confirmed_at marks a granted entry as confirmed by the person (double opt-in).';
comment on column public.contact_consents.occurred_at is
  'When the person gave or withdrew it. Of two entries at the same instant, denied counts.';

create table public.contact_policies (
  id uuid primary key default gen_random_uuid(),
  tenant_id uuid not null references public.tenants (id),
  channel text not null,
  window_start time,
  window_end time,
  weekdays int[],
  cap int,
  cap_window interval,
  consent text,
  spread interval,
  hourly_limit int,
  expires_after interval,
  constraint contact_policies_once unique (tenant_id, channel),
  constraint contact_policies_channel_known check (channel in ('email', 'sms')),
  constraint contact_policies_window_whole check ((window_start is null) = (window_end is null)),
  -- Legal hours for texts never pass midnight, and the two are intersected day by day.
  constraint contact_policies_sms_window_within_day check (channel <> 'sms' or window_start < window_end),
  constraint contact_policies_weekdays_known
    check (weekdays <@ array[1, 2, 3, 4, 5, 6, 7] and cardinality(weekdays) > 0),
  constraint contact_policies_cap_range check (cap between 1 and 10000),
  constraint contact_policies_cap_window_range check (cap_window between '1 hour' and '28 days'),
  constraint contact_policies_consent_known check (consent in ('opt_out', 'opt_in', 'double_opt_in')),
  constraint contact_policies_spread_range check (spread between '0' and '6 hours'),
  constraint contact_policies_hourly_limit_positive check (hourly_limit > 0),
  constraint contact_policies_expires_after_range check (expires_after between '1 hour' and '90 days'),
  constraint contact_policies_weekdays_at_most_100_bytes check (pg_column_size(weekdays) <= 100)
);

comment on table public.contact_policies is
  'A tenant''s contact rules, one row per channel. Without a row, and where a column is null, the defaults of brainops.contact_policy() apply.';
comment on column public.contact_policies.window_start is
  'Start of the contact hours for marketing, by the recipient''s wall clock. Null: 08:00.';
comment on column public.contact_policies.window_end is
  'End of the contact hours, exclusive. Earlier than window_start (mail only): the next day. Equal to window_start (mail only): 24 hours. Null: 21:00.';
comment on column public.contact_policies.weekdays is
  'Days on which the contact hours may begin, 1 Monday to 7 Sunday. Null: every day.';
comment on column public.contact_policies.cap is
  'Marketing messages to one person within cap_window, over all campaigns and both channels; 1 to 10,000. Null: 3.';
comment on column public.contact_policies.cap_window is 'A sliding window of 1 hour to 28 days. Null: 7 days.';
comment on column public.contact_policies.consent is
  'Marketing needs: opt_out, no denial; opt_in, a grant; double_opt_in, a confirmed grant. Null: opt_out for mail, opt_in for texts.';
comment on column public.contact_policies.spread is
  'Messages that waited for the contact hours start at random within this time after they begin (within half of the hours at most); 0 to 6 hours. Null: 1 hour.';
comment on column public.contact_policies.hourly_limit is
  'Marketing messages per hour. Null: no limit except the warm-up''s.';
comment on column public.contact_policies.expires_after is
  'Marketing that is still waiting this long after it was first due is skipped; 1 hour to 90 days. Null: 30 days.';

create table brainops.phone_zones (
  prefix text primary key,
  country text not null,
  state text,
  zones text[] not null,
  constraint phone_zones_prefix_is_digits check (prefix ~ '^[1-9][0-9]{0,6}$'),
  constraint phone_zones_country_is_code check (country ~ '^[A-Z]{2}$'),
  constraint phone_zones_state_is_code check (state ~ '^[A-Z]{2}$'),
  constraint phone_zones_has_zones check (cardinality(zones) > 0)
);

create index phone_zones_state on brainops.phone_zones (country, state);

comment on table brainops.phone_zones is
  'Country, state and time zones of phone numbers; the longest prefix that matches a number counts. Filled by after/0002-phone-zones.sql; admins may edit it.';
comment on column brainops.phone_zones.prefix is 'Leading digits of the number in E.164, without +; 1 to 7.';
comment on column brainops.phone_zones.country is
  'ISO 3166 code of the country whose rules apply; US also for its territories and for toll-free numbers.';
comment on column brainops.phone_zones.state is
  'State, territory or province in the US and Canada. Null elsewhere, and if unknown.';
comment on column brainops.phone_zones.zones is
  'IANA names, the most populous zone first. Of zones that have the same rules from 2026 on, one is listed.';

create table brainops.contact_windows (
  id uuid primary key default gen_random_uuid(),
  country text not null,
  state text,
  channel text not null,
  weekdays int[] not null default '{1,2,3,4,5,6,7}',
  window_from time not null,
  window_to time not null,
  source text not null,
  constraint contact_windows_channel_known check (channel in ('email', 'sms')),
  constraint contact_windows_weekdays_known
    check (weekdays <@ array[1, 2, 3, 4, 5, 6, 7] and cardinality(weekdays) > 0),
  constraint contact_windows_within_day check (window_from < window_to)
);

create index contact_windows_country on brainops.contact_windows (country, channel, state);

comment on table brainops.contact_windows is
  'Legal contact hours, by the recipient''s wall clock. The country''s, the state''s and the tenant''s own hours must all allow a message; if the recipient''s state is unknown, the hours of every state must. Admins may edit it.';
comment on column brainops.contact_windows.state is 'Null: the whole country.';
comment on column brainops.contact_windows.channel is
  'Only sms has an effect: the country of a mail''s recipient is not known.';
comment on column brainops.contact_windows.weekdays is
  'Days on which these hours apply, 1 Monday to 7 Sunday. A country or state that has rows is closed on days without one.';
comment on column brainops.contact_windows.window_to is 'Exclusive; later than window_from.';
comment on column brainops.contact_windows.source is 'The statute or regulation.';

create table brainops.contact_caps (
  id uuid primary key default gen_random_uuid(),
  country text not null,
  state text,
  channel text not null,
  cap int not null,
  cap_window interval not null,
  source text not null,
  constraint contact_caps_channel_known check (channel in ('email', 'sms')),
  constraint contact_caps_cap_positive check (cap > 0),
  constraint contact_caps_window_range check (cap_window between '1 hour' and '28 days')
);

create index contact_caps_country on brainops.contact_caps (country, channel, state);

comment on table brainops.contact_caps is
  'Legal frequency caps: at most cap messages to one person on the channel within cap_window. If the recipient''s state is unknown, the caps of every state apply. Admins may edit it.';
comment on column brainops.contact_caps.state is 'Null: the whole country.';
comment on column brainops.contact_caps.channel is
  'Only sms has an effect: the country of a mail''s recipient is not known.';
comment on column brainops.contact_caps.cap_window is 'A sliding window of 1 hour to 28 days.';
comment on column brainops.contact_caps.source is 'The statute or regulation.';

create table public.sender_warmups (
  id uuid primary key default gen_random_uuid(),
  tenant_id uuid not null references public.tenants (id),
  channel text not null,
  started_on date not null,
  plan int[] not null,
  constraint sender_warmups_once unique (tenant_id, channel),
  constraint sender_warmups_channel_known check (channel in ('email', 'sms')),
  constraint sender_warmups_plan_given check (cardinality(plan) > 0 and 0 < all (plan))
);

comment on table public.sender_warmups is
  'Warm-up plans: a tenant that is new on a channel sends few marketing messages per hour, more each day. Written by brainops.start_warmup. After the plan''s last day it sets no limit.';
comment on column public.sender_warmups.started_on is 'The first day of the plan, in the tenant''s time zone.';
comment on column public.sender_warmups.plan is
  'Messages per hour on the first day, on the second, and so on; each above 0.';

create table brainops.contact_counts (
  tenant_id uuid not null references public.tenants (id)
    on delete cascade,
  channel text not null,
  hour timestamptz not null,
  taken int not null default 0,
  promised int not null default 0,
  primary key (tenant_id, channel, hour)
);

comment on table brainops.contact_counts is
  'Slots of marketing messages per hour, where an hourly limit or a warm-up applies. A claim locks the row of the hour. Kept for 3 days.';
comment on column brainops.contact_counts.hour is 'Start of the hour, in UTC.';
comment on column brainops.contact_counts.taken is 'Messages that were let through in this hour.';
comment on column brainops.contact_counts.promised is
  'Messages that were deferred to this hour, so that a backlog spreads over as many hours as it needs.';

create table public.marketing_holds (
  id uuid primary key default gen_random_uuid(),
  tenant_id uuid not null references public.tenants (id),
  channel text not null,
  reason text not null,
  since timestamptz not null default brainops.now(),
  held_by name not null default session_user,
  lifted_at timestamptz,
  constraint marketing_holds_channel_known check (channel in ('email', 'sms')),
  constraint marketing_holds_reason_given check (btrim(reason) <> '')
);

create unique index marketing_holds_once on public.marketing_holds (tenant_id, channel) where lifted_at is null;

comment on table public.marketing_holds is
  'Holds on a tenant''s marketing on a channel; transactional messages still go. brainops.hold_marketing() sets one, brainops.lift_marketing_hold() ends it.';
comment on column public.marketing_holds.held_by is 'The login that set it.';
comment on column public.marketing_holds.lifted_at is 'When it ended. Null: it is in force.';
