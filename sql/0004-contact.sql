-- Who may be written to, and when: consent, quiet hours, frequency caps, warm-up, holds. All of it
-- is asked by one function, brainops_internal.contact_verdicts, inside the claiming transaction, for mail
-- and texts alike; so what it says is true at the moment it counts.
--
-- The order: no address (fail) · suppressed (skip) · consent (skip) · left its campaign (skip) ·
-- expired (skip) · no postal address (fail) · marketing on hold (defer) · quiet hours (defer) ·
-- frequency cap (defer) · hourly limit (defer). Deferred, never dropped: a row is written a new
-- scheduled_for and its reason, and is asked again then; what has waited longer than
-- contact_policies.expires_after is skipped as expired.
--
-- Transactional messages pass suppression (and metadata.expires_at) alone.
--
-- Lock order: job rows (brainops_internal.claim), the tenant's key, persons' keys in order, hourly counters,
-- then what claim takes after its gate (rate limits, breakers).
--
-- Adding the generated column rewrites ai_email_queue: on a large queue run it in a quiet hour.
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
  'A message that asks whether it may go. address: null where the lead is gone or has none; recipient: what the row says. expires_at: as in its metadata.';

-- Where a message stands on its way through the rules for marketing.
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

create table public.contact_suppressions (
  id uuid primary key default gen_random_uuid(),
  tenant_id uuid not null references public.tenants (id),
  channel text not null default 'email',
  address text not null,
  -- What is compared: senders and recipients write the same address in different cases.
  address_key text not null generated always as (lower(btrim(address))) stored,
  reason text not null default 'manual',
  source text not null default 'client',
  created_at timestamptz not null default now(),
  expires_at timestamptz,
  constraint contact_suppressions_once unique (tenant_id, channel, address_key),
  constraint contact_suppressions_channel_known check (channel in ('email', 'sms')),
  constraint contact_suppressions_address_given check (btrim(address) <> '')
);

comment on table public.contact_suppressions is
  'Whom not to write to. Asked at the moment of each send, so it counts for what is queued already.';
comment on column public.contact_suppressions.address is
  'An e-mail address, or a phone number; a number is kept as E.164, whichever way it was written.';
comment on column public.contact_suppressions.reason is
  'bounced, complained, unsubscribed, forgotten, manual, or a word of your own.';
comment on column public.contact_suppressions.source is 'Who said so: sendgrid, unsubscribe_link, client, ….';
comment on column public.contact_suppressions.expires_at is 'Null: for ever.';

create table public.contact_consents (
  id uuid primary key default gen_random_uuid(),
  tenant_id uuid not null references public.tenants (id),
  lead_id uuid,
  channel text not null,
  address text not null,
  address_key text not null generated always as (lower(btrim(address))) stored,
  state text not null,
  source text not null default 'client',
  evidence jsonb not null default '{}',
  occurred_at timestamptz not null default brainops.now(),
  created_at timestamptz not null default now(),
  constraint contact_consents_lead
    foreign key (tenant_id, lead_id) references public.revenue_leads (tenant_id, id)
      on delete set null (lead_id),
  constraint contact_consents_channel_known check (channel in ('email', 'sms')),
  constraint contact_consents_state_known check (state in ('granted', 'denied', 'pending')),
  constraint contact_consents_address_given check (btrim(address) <> ''),
  constraint contact_consents_evidence_is_object check (jsonb_typeof(evidence) = 'object')
);

create index contact_consents_last_word on public.contact_consents (tenant_id, channel, address_key, occurred_at desc);
create index contact_consents_lead_id on public.contact_consents (tenant_id, lead_id) where lead_id is not null;

comment on table public.contact_consents is
  'What people said about being written to, append only: the last word about an address counts.';
comment on column public.contact_consents.address is
  'An e-mail address, or a phone number; a number is kept as E.164, whichever way it was written.';
comment on column public.contact_consents.state is
  'granted, denied, or pending: asked to confirm (double opt-in) and not answered yet.';
comment on column public.contact_consents.source is
  'Where it was said: form, import, inbound_sms, double_opt_in, client, ….';
comment on column public.contact_consents.evidence is
  'What shows it: words, page, ip, …. confirmed_at marks a granted word as confirmed by the person (double opt-in).';
comment on column public.contact_consents.occurred_at is 'When it was said. Of two words at one instant denied counts.';

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
  -- The law's hours for texts never do, and the two are intersected day by day.
  constraint contact_policies_sms_window_within_day check (channel <> 'sms' or window_start < window_end),
  constraint contact_policies_weekdays_known
    check (weekdays <@ array[1, 2, 3, 4, 5, 6, 7] and cardinality(weekdays) > 0),
  constraint contact_policies_cap_range check (cap between 1 and 10000),
  constraint contact_policies_cap_window_range check (cap_window between '1 hour' and '28 days'),
  constraint contact_policies_consent_known check (consent in ('opt_out', 'opt_in', 'double_opt_in')),
  constraint contact_policies_spread_range check (spread between '0' and '6 hours'),
  constraint contact_policies_hourly_limit_positive check (hourly_limit > 0),
  constraint contact_policies_expires_after_range check (expires_after between '1 hour' and '90 days')
);

comment on table public.contact_policies is
  'How a tenant may write to people, one row for each channel; without one, and where a column is null, the defaults of brainops.contact_policy().';
comment on column public.contact_policies.window_start is
  'Recipient''s wall clock from when marketing may go. Null: 08:00.';
comment on column public.contact_policies.window_end is
  'Until when, exclusive. Earlier than window_start (mail only): past midnight. The same as window_start: all day. Null: 21:00.';
comment on column public.contact_policies.weekdays is
  'Days on which the window may begin, 1 Monday to 7 Sunday. Null: every day.';
comment on column public.contact_policies.cap is
  'Marketing messages to one person, of all campaigns and both channels, within cap_window. Null: 3.';
comment on column public.contact_policies.cap_window is 'A sliding window of 1 hour to 28 days. Null: 7 days.';
comment on column public.contact_policies.consent is
  'opt_out: unless denied. opt_in: only when granted. double_opt_in: only when granted and confirmed. Null: opt_out for mail, opt_in for texts.';
comment on column public.contact_policies.spread is
  'Messages that wait for the window''s start go over this time after it (half of the window at most). Null: 1 hour.';
comment on column public.contact_policies.hourly_limit is
  'Marketing messages an hour. Null: no limit but the warm-up''s.';
comment on column public.contact_policies.expires_after is
  'Marketing that was put off for longer than this after it was first due is skipped. Null: 30 days.';

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
  'Time zones that a number may lie in, by its longest prefix here; filled by sql/0022. Admins may edit it.';
comment on column brainops.phone_zones.prefix is 'Leading digits of the number in E.164, without +.';
comment on column brainops.phone_zones.country is
  'ISO 3166 code of the country whose rules hold; US for its territories too, and for numbers that may be anywhere in it.';
comment on column brainops.phone_zones.state is
  'State, territory or province of the US and Canada; null for elsewhere, and where it is not known.';
comment on column brainops.phone_zones.zones is
  'IANA names, the most populous first. Zones with the same rules from 2026 on stand there once.';

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
  'Hours in which the law lets a business contact people, by the recipient''s wall clock. The country''s and the state''s hold together, and the tenant''s own; state not known: every state''s. Admins may edit it.';
comment on column brainops.contact_windows.state is 'Null: the whole country.';
comment on column brainops.contact_windows.weekdays is
  '1 Monday to 7 Sunday. A state with rows, but none for a day, is closed on that day.';
comment on column brainops.contact_windows.source is 'Where the rule is written.';

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
  'How often the law lets a business contact one person on a channel; state null: the whole country. State not known: every state''s. Admins may edit it.';

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
  'New senders begin slowly: marketing messages an hour, by day. Written by brainops.start_warmup; past the plan''s last day there is no limit.';
comment on column public.sender_warmups.started_on is 'The plan''s first day, in the tenant''s zone.';
comment on column public.sender_warmups.plan is 'Messages an hour on the first day, the second, ….';

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
  'Marketing messages let through under an hourly limit or a warm-up, by hour; its row is the lock. Kept for 3 days.';
comment on column brainops.contact_counts.promised is
  'Rows put off to this hour, so that a backlog is spread over the hours that it needs.';

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
  'Marketing at a standstill, for a tenant and channel; what is transactional goes on. brainops.lift_marketing_hold() ends it.';
comment on column public.marketing_holds.lifted_at is 'Null while it holds.';
