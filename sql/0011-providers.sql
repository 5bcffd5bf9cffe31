-- Accounts of tenants' own with the providers, and one ledger for the webhooks of all of them.
--
-- A credential is encrypted before it gets here: AES-256-GCM under a key of the tenant's own, which
-- is itself encrypted under BRAINOPS_SECRET_KEY (src/revenue/credentials). A dump of the database
-- gives nothing away, and one tenant's key opens no other tenant's credentials.
set local lock_timeout = '2s';

create table public.tenant_keys (
  id uuid primary key default gen_random_uuid(),
  tenant_id uuid not null references public.tenants (id),
  wrapped_key bytea not null,
  secret_key_id text not null,
  created_at timestamptz not null default now(),
  constraint tenant_keys_once unique (tenant_id)
);

comment on table public.tenant_keys is
  'The key that a tenant''s credentials are encrypted with, itself encrypted with BRAINOPS_SECRET_KEY. No client reads it.';
comment on column public.tenant_keys.wrapped_key is
  'Initialisation vector (12 bytes), tag (16), AES-256-GCM of the 32-byte key; the tenant''s id is authenticated with it.';
comment on column public.tenant_keys.secret_key_id is
  'Which BRAINOPS_SECRET_KEY it needs: the first 16 hexadecimal digits of that key''s sha256.';

create table public.provider_credentials (
  id uuid primary key default gen_random_uuid(),
  tenant_id uuid not null references public.tenants (id),
  provider text not null,
  name text not null default 'default',
  sealed bytea not null,
  hint text not null default '',
  active boolean not null default true,
  -- 244 random bits; two uuids, because Postgres has no other generator without an extension.
  endpoint_token text not null default replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''),
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint provider_credentials_once unique (tenant_id, provider, name),
  constraint provider_credentials_provider_known check (provider in ('sendgrid', 'twilio', 'stripe', 'slack', 'form')),
  constraint provider_credentials_name_short check (length(name) between 1 and 63)
);

create index provider_credentials_endpoint on public.provider_credentials (endpoint_token);

comment on table public.provider_credentials is
  'A tenant''s own accounts with providers. Written by `brainops tenant credential`; where there is an active one, the tenant''s rows go through it and not through the installation''s account.';
comment on column public.provider_credentials.provider is
  'sendgrid, twilio, stripe, slack (an incoming webhook), or form (the secret that signs a lead form).';
comment on column public.provider_credentials.name is
  'default for the account that is used; a form''s secret has the form''s name.';
comment on column public.provider_credentials.sealed is
  'The credential as JSON: initialisation vector (12 bytes), tag (16), AES-256-GCM under the tenant''s key; tenant, provider and name are authenticated with it.';
comment on column public.provider_credentials.hint is
  'What a person recognises the credential by: the last characters of its key.';
comment on column public.provider_credentials.endpoint_token is
  'Where the account posts its webhooks: /webhooks/<provider>[/…]/<endpoint_token>.';
comment on column public.provider_credentials.active is
  'False: the tenant''s rows go through the installation''s account. The keys stay, to verify what the account still tells and to switch off payment links that were made through it; `brainops tenant credential remove --erase` deletes them.';

create table public.webhook_events (
  id uuid primary key default gen_random_uuid(),
  tenant_id uuid references public.tenants (id),
  provider text not null,
  provider_event_id text not null,
  payload jsonb not null,
  signature_ok boolean not null,
  status text not null default 'pending',
  attempts int not null default 0,
  last_error text,
  skip_reason text,
  received_at timestamptz not null default now(),
  processed_at timestamptz,
  constraint webhook_events_status_known check (status in ('pending', 'completed', 'failed', 'skipped')),
  constraint webhook_events_done_has_processed_at check ((status <> 'pending') = (processed_at is not null)),
  constraint webhook_events_skipped_has_reason check ((status = 'skipped') = (skip_reason is not null))
);

create unique index webhook_events_once on public.webhook_events (tenant_id, provider, provider_event_id)
nulls not distinct;
create index webhook_events_pending on public.webhook_events (received_at) where status = 'pending';
create index webhook_events_processed on public.webhook_events (processed_at) where processed_at is not null;

comment on table public.webhook_events is
  'Every event a provider sent, as it came. Set status to pending to process one again.';
comment on column public.webhook_events.tenant_id is
  'Whose message the event is about, found by our own id in it; null where that says nothing.';
comment on column public.webhook_events.provider_event_id is
  'The provider''s id, or md5:… of the payload where it has none.';
comment on column public.webhook_events.signature_ok is
  'Always true: what is not signed is refused before it gets here.';
comment on column public.webhook_events.skip_reason is
  'Why an event has no effect, e.g. it is about no message of ours.';

create table public.tenant_notifications (
  id uuid primary key default gen_random_uuid(),
  tenant_id uuid not null,
  subject text not null,
  body text not null,
  lead_id uuid,
  sent_via text,
  sent_at timestamptz,
  scheduled_for timestamptz not null default brainops.now(),
  created_at timestamptz not null default brainops.now(),
  constraint tenant_notifications_subject_length check (length(btrim(subject)) between 1 and 300),
  constraint tenant_notifications_body_length check (length(body) between 1 and 20000),
  constraint tenant_notifications_sent_via_known check (sent_via in ('slack', 'email')),
  constraint tenant_notifications_lead
    foreign key (tenant_id, lead_id) references public.revenue_leads (tenant_id, id)
      on delete cascade
);

select brainops_internal.add_job_columns('public.tenant_notifications');

create index tenant_notifications_lead_id on public.tenant_notifications (tenant_id, lead_id)
where lead_id is not null;

comment on table public.tenant_notifications is
  'Insert a row: the tenant is told, in its own Slack where it has one (provider_credentials), else by mail to settings.notify_email.';
comment on column public.tenant_notifications.body is 'Plain text.';
comment on column public.tenant_notifications.lead_id is
  'The lead that it is about, and is erased with; null for none.';
comment on column public.tenant_notifications.sent_via is 'slack or email; null until it went.';
