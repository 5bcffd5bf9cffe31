-- Providers: tenants' own accounts with them, the events that they send by webhook, and notifications to tenants.
--
-- A credential is encrypted before it is stored: AES-256-GCM under the tenant's own key, which is itself encrypted with
-- BRAINOPS_SECRET_KEY (src/revenue/credentials). A dump of the database contains no usable secret, and one tenant's key
-- does not open another tenant's credentials.
--
-- Compatibility: rolling; creates tables that no older program reads.
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
  'The key that a tenant''s credentials are encrypted with, itself encrypted with BRAINOPS_SECRET_KEY. Tenants and services cannot read it.';
comment on column public.tenant_keys.wrapped_key is
  'Initialisation vector (12 bytes), tag (16), AES-256-GCM of the 32-byte key; the tenant''s id is the additional authenticated data.';
comment on column public.tenant_keys.secret_key_id is
  'The BRAINOPS_SECRET_KEY that decrypts it: the first 16 hexadecimal digits of that key''s sha256.';

create table public.provider_credentials (
  id uuid primary key default gen_random_uuid(),
  tenant_id uuid not null references public.tenants (id),
  provider text not null,
  name text not null default 'default',
  sealed bytea not null,
  hint text not null default '',
  active boolean not null default true,
  -- 244 random bits: two uuids, because Postgres has no other generator of secure random values without an extension.
  endpoint_token text not null default replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''),
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint provider_credentials_once unique (tenant_id, provider, name),
  constraint provider_credentials_provider_known check (provider in ('sendgrid', 'twilio', 'stripe', 'slack', 'form')),
  constraint provider_credentials_name_short check (length(name) between 1 and 63)
);

create index provider_credentials_endpoint on public.provider_credentials (endpoint_token);

comment on table public.provider_credentials is
  'Tenants'' own accounts with providers. Written by `brainops tenant credential`. With an active one, the tenant''s rows go through it instead of the platform''s account.';
comment on column public.provider_credentials.provider is
  'sendgrid, twilio, stripe, slack (an incoming webhook), or form (the secret that signs a lead form).';
comment on column public.provider_credentials.name is
  'default for the account that rows go through; a form''s secret has the form''s name.';
comment on column public.provider_credentials.sealed is
  'The credential as encrypted JSON: initialisation vector (12 bytes), tag (16), AES-256-GCM under the tenant''s key; tenant, provider and name are the additional authenticated data.';
comment on column public.provider_credentials.hint is
  'The last characters of the key, so that a person can recognise the credential.';
comment on column public.provider_credentials.endpoint_token is
  'The secret part of the address that the account posts its webhooks to: /webhooks/<provider>[/…]/<endpoint_token>.';
comment on column public.provider_credentials.active is
  'False: the tenant''s rows go through the platform''s account. The keys are kept, to verify webhooks that the account still sends and to switch off payment links that were created through it; `brainops tenant credential remove --erase` deletes them.';

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
  'Every event that a provider sent, unchanged and once each. Set status to pending to process one again.';
comment on column public.webhook_events.tenant_id is
  'The tenant whose own account sent the event, or whose row it names by our id; null if neither is known.';
comment on column public.webhook_events.provider_event_id is
  'The provider''s id of the event, or md5: and a digest of the payload if it has none.';
comment on column public.webhook_events.signature_ok is
  'Always true: requests without a valid signature are refused and not recorded.';
comment on column public.webhook_events.status is
  'pending: not applied yet. completed: applied. skipped: has no effect, see skip_reason. failed: could not be applied in three attempts, see last_error.';
comment on column public.webhook_events.skip_reason is
  'Why the event has no effect, such as that it is not about a message of ours.';

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
  'Messages to the tenant itself. Insert a row, or call brainops.notify: it goes to the tenant''s own Slack (provider_credentials), else by mail to settings.notify_email.';
comment on column public.tenant_notifications.subject is '1 to 300 characters, plain text.';
comment on column public.tenant_notifications.body is '1 to 20,000 characters, plain text.';
comment on column public.tenant_notifications.lead_id is
  'The lead that the message is about; the message is erased with it. Null: not about a lead.';
comment on column public.tenant_notifications.sent_via is 'slack or email; null until it was sent.';
