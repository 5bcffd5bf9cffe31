-- Rights of people: what they want to get, that they asked for it, what is held on them, and to be
-- forgotten. And what a sender owes them before it writes to many.
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
  'What a person is known by in a tenant: addresses (e-mail in lower case, numbers in E.164), leads, and the rows that are about them; row_ids are those of job rows.';

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
  constraint contact_topics_name_length check (length(btrim(name)) between 1 and 100)
);

comment on table public.contact_topics is
  'What a person may choose on the preference page, beside all or nothing. Without rows the page offers just that.';
comment on column public.contact_topics.campaign_codes is
  'Campaigns that belong to the topic, beside the one that is called as the topic is.';

create table public.contact_topic_optouts (
  id uuid primary key default gen_random_uuid(),
  tenant_id uuid not null references public.tenants (id),
  topic_id uuid not null,
  address_key text not null,
  created_at timestamptz not null default brainops.now(),
  constraint contact_topic_optouts_once unique (tenant_id, address_key, topic_id),
  constraint contact_topic_optouts_topic
    foreign key (tenant_id, topic_id) references public.contact_topics (tenant_id, id)
      on delete cascade
);

create index contact_topic_optouts_topic_id on public.contact_topic_optouts (tenant_id, topic_id);

comment on table public.contact_topic_optouts is
  'Topics that a person does not want by e-mail. Ends running enrolments of the topic''s campaigns and keeps new ones from beginning.';

create table public.opt_in_requests (
  id uuid primary key default gen_random_uuid(),
  tenant_id uuid not null references public.tenants (id),
  lead_id uuid,
  address text not null,
  address_key text not null generated always as (lower(btrim(address))) stored,
  token text not null default replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''),
  email_id uuid,
  created_at timestamptz not null default brainops.now(),
  expires_at timestamptz,
  confirmed_at timestamptz,
  constraint opt_in_requests_lead
    foreign key (tenant_id, lead_id) references public.revenue_leads (tenant_id, id)
      on delete set null (lead_id)
);

create index opt_in_requests_token on public.opt_in_requests (token);
create index opt_in_requests_address on public.opt_in_requests (tenant_id, address_key, created_at);
create index opt_in_requests_lead_id on public.opt_in_requests (tenant_id, lead_id) where lead_id is not null;
create index opt_in_requests_waiting on public.opt_in_requests (tenant_id) where email_id is null;

comment on table public.opt_in_requests is
  'Who was asked by mail whether marketing mail is really wanted (double opt-in). Made by a consent that is not confirmed, where the tenant asks for that.';
comment on column public.opt_in_requests.token is
  'In the link /confirm/<token>; opening it changes nothing, its button does.';
comment on column public.opt_in_requests.email_id is
  'The mail that asks; null until a process with PUBLIC_URL has started.';
comment on column public.opt_in_requests.expires_at is
  'Seven days after the mail; then the person must ask anew. Where email_id is null: when it was found that no mail can go to the address.';
