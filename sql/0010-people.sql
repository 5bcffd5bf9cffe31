-- Rights of people: which topics they want mail about, double opt-in, and the type that describes a person to export
-- and forget.
-- Compatibility: rolling; creates tables that no older program reads.
set local lock_timeout = '2s';

create type brainops.person as (
  tenant_id uuid,
  addresses text[],
  lead_ids uuid[],
  enrolment_ids uuid[],
  workflow_ids uuid[],
  payment_ids uuid[],
  stripe_ids text[],
  row_ids uuid[]
);

comment on type brainops.person is
  'The addresses and ids that identify a person in one tenant. addresses: the one that was given and those of the leads, except what other leads share; e-mail in lower case, numbers in E.164. lead_ids: leads with the given address. The other ids are of rows about these leads; row_ids: of job rows, archived ones too.';

create table public.contact_topics (
  id uuid primary key default gen_random_uuid(),
  tenant_id uuid not null references public.tenants (id),
  code text not null,
  name text not null,
  description text not null default '',
  campaign_codes text[] not null default '{}',
  created_at timestamptz not null default brainops.now(),
  constraint contact_topics_tenant_row unique (tenant_id, id),
  constraint contact_topics_code unique (tenant_id, code),
  constraint contact_topics_code_is_word check (code ~ '^[a-z][a-z0-9_]{0,62}$'),
  constraint contact_topics_name_length check (length(btrim(name)) between 1 and 100),
  constraint contact_topics_description_at_most_10000_bytes check (octet_length(description) <= 10000),
  constraint contact_topics_campaign_codes_at_most_65536_bytes check (pg_column_size(campaign_codes) <= 65536)
);

comment on table public.contact_topics is
  'Topics that people can choose on the preference page. Without rows, the page offers all mail or none.';
comment on column public.contact_topics.code is 'Unique per tenant: a lower-case letter, then letters, digits or _.';
comment on column public.contact_topics.campaign_codes is
  'Campaigns that belong to the topic, besides the campaign whose code is the topic''s code.';

create table public.contact_topic_optouts (
  id uuid primary key default gen_random_uuid(),
  tenant_id uuid not null references public.tenants (id),
  topic_id uuid not null,
  address_key text not null,
  source text not null default 'client',
  created_at timestamptz not null default brainops.now(),
  constraint contact_topic_optouts_once unique (tenant_id, address_key, topic_id),
  constraint contact_topic_optouts_topic
    foreign key (tenant_id, topic_id) references public.contact_topics (tenant_id, id)
      on delete cascade,
  constraint contact_topic_optouts_address_key_at_most_1000_bytes check (octet_length(address_key) <= 1000),
  constraint contact_topic_optouts_source_at_most_300_bytes check (octet_length(source) <= 300)
);

create index contact_topic_optouts_topic_id on public.contact_topic_optouts (tenant_id, topic_id);

comment on table public.contact_topic_optouts is
  'Topics that a person does not want mail about. A row ends running enrolments in the topic''s campaigns; later enrolments in them end at once.';
comment on column public.contact_topic_optouts.address_key is
  'The e-mail address in lower case without surrounding spaces.';
comment on column public.contact_topic_optouts.source is
  'preference_page: the person chose it, and only the person changes it. client, …: the tenant''s own entry.';

create table public.opt_in_requests (
  id uuid primary key default gen_random_uuid(),
  tenant_id uuid not null references public.tenants (id),
  lead_id uuid,
  address text not null,
  address_key text not null generated always as (lower(btrim(address))) stored,
  token_digest bytea,
  email_id uuid,
  created_at timestamptz not null default brainops.now(),
  expires_at timestamptz,
  confirmed_at timestamptz,
  constraint opt_in_requests_digest_length check (octet_length(token_digest) = 32),
  previous_at timestamptz not null default '-infinity',
  constraint opt_in_requests_once unique (tenant_id, address_key, previous_at),
  constraint opt_in_requests_lead
    foreign key (tenant_id, lead_id) references public.revenue_leads (tenant_id, id)
      on delete set null (lead_id)
);

create index opt_in_requests_token on public.opt_in_requests (token_digest);
create index opt_in_requests_email on public.opt_in_requests (email_id);
create index opt_in_requests_address on public.opt_in_requests (tenant_id, address_key, created_at);
create index opt_in_requests_lead_id on public.opt_in_requests (tenant_id, lead_id) where lead_id is not null;
create index opt_in_requests_waiting on public.opt_in_requests (tenant_id) where email_id is null;

comment on table public.opt_in_requests is
  'Requests by mail to confirm that marketing mail is wanted (double opt-in). Created by a consent that is not confirmed, if the tenant''s policy or the consent itself asks for double opt-in.';
comment on column public.opt_in_requests.token_digest is
  'The sha256 of the token in the link /confirm/<token>, which only the mail contains. Opening the page changes nothing; its button confirms. Null until the mail is about to be sent.';
comment on column public.opt_in_requests.email_id is
  'The mail that asks. Null until a process with PUBLIC_URL has started.';
comment on column public.opt_in_requests.expires_at is
  'Seven days after the mail; later the link no longer works, and a new consent creates a new request. If email_id is null: when the mail queue refused the address.';
comment on column public.opt_in_requests.confirmed_at is 'When the person confirmed. Null: not yet.';
comment on column public.opt_in_requests.previous_at is
  'When the address was asked before; -infinity for its first request. Unique for an address, so of two consents at the same moment only one asks.';
