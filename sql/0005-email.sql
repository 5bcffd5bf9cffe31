-- E-mail: the queue that clients insert into, broadcasts to many leads, what SendGrid reported about each mail, and the
-- tokens of unsubscribe links.
--
-- Compatibility: rolling; creates tables that no older program reads.
set local lock_timeout = '2s';

create type brainops.email_reference as (tenant_id uuid, email_id uuid);

comment on type brainops.email_reference is
  'The mail that an event is about, as brainops_internal.find_email finds it. email_id is null if only the tenant is known.';

create table public.ai_broadcasts (
  id uuid primary key default gen_random_uuid(),
  tenant_id uuid not null references public.tenants (id),
  name text,
  audience text,
  template text,
  subject text not null,
  body text not null,
  metadata jsonb not null default '{}',
  status text not null default 'draft',
  created_at timestamptz not null default brainops.now(),
  launched_at timestamptz,
  constraint ai_broadcasts_tenant_row unique (tenant_id, id),
  constraint ai_broadcasts_status_known check (status in ('draft', 'active', 'paused', 'cancelled')),
  constraint ai_broadcasts_metadata_is_object check (jsonb_typeof(metadata) = 'object'),
  constraint ai_broadcasts_launched check (status <> 'active' or launched_at is not null),
  constraint ai_broadcasts_name_at_most_300_bytes check (octet_length(name) <= 300),
  constraint ai_broadcasts_audience_at_most_300_bytes check (octet_length(audience) <= 300),
  constraint ai_broadcasts_template_at_most_300_bytes check (octet_length(template) <= 300)
);

comment on table public.ai_broadcasts is
  'One mail to many people. Its recipients are rows of ai_email_queue with broadcast_id; up to 1,000 of them are sent in one call. brainops.broadcast_results counts them by status.';
comment on column public.ai_broadcasts.name is 'A name for people; null for none.';
comment on column public.ai_broadcasts.audience is
  'A description of the recipients; brainops.broadcast_to_leads stores its first condition here if it is null.';
comment on column public.ai_broadcasts.template is
  'Name of a template in ai_campaign_templates, from whose newest version subject and body are copied. Null for none.';
comment on column public.ai_broadcasts.subject is
  'Liquid, as in ai_email_queue. Like body, metadata and template it cannot change after the launch.';
comment on column public.ai_broadcasts.metadata is
  'Variables for Liquid, which those of each recipient override; and reply_to, category. At most 256 KiB.';
comment on column public.ai_broadcasts.status is
  'draft: recipients wait (awaiting_approval). active: they are sent. paused: they wait again. cancelled: the remaining ones are cancelled; this is final.';
comment on column public.ai_broadcasts.launched_at is 'When it first became active; null before.';

create table public.ai_email_queue (
  id uuid primary key default gen_random_uuid(),
  tenant_id uuid not null,
  recipient text not null,
  subject text,
  body text,
  scheduled_for timestamptz not null default now(),
  status text not null default 'pending',
  metadata jsonb not null default '{}',
  created_at timestamptz not null default now(),
  sent_at timestamptz,
  lead_id uuid,
  provider_message_id text,
  enrolment_id uuid,
  touch_id uuid,
  broadcast_id uuid,
  first_due_at timestamptz,
  -- Stored, because lower() is not leakproof: behind row level security an index on lower(recipient) is not used.
  recipient_key text collate "C" not null generated always as (lower(recipient)) stored,
  is_marketing boolean not null generated always as (
    coalesce(metadata ->> 'marketing', '') = 'true'
    or coalesce(metadata ->> 'type', '') = 'marketing'
    or enrolment_id is not null
    or broadcast_id is not null
  ) stored,
  constraint ai_email_queue_lead
    foreign key (tenant_id, lead_id) references public.revenue_leads (tenant_id, id)
      on delete set null (lead_id),
  constraint ai_email_queue_broadcast
    foreign key (tenant_id, broadcast_id) references public.ai_broadcasts (tenant_id, id),
  constraint ai_email_queue_content
    check (
      case
        when broadcast_id is null then subject is not null
        and body is not null
        else subject is null
        and body is null
      end
    )
);

select brainops_internal.add_job_columns('public.ai_email_queue');

-- No foreign key refers to this pair of columns, and lookups use the primary key.
alter table public.ai_email_queue drop constraint ai_email_queue_tenant_row;

create index ai_email_queue_lead_id on public.ai_email_queue (tenant_id, lead_id) where lead_id is not null;
-- What counts against a cap: marketing that was sent, or may have been.
create index ai_email_queue_contacted_lead on public.ai_email_queue (tenant_id, lead_id, started_at)
where is_marketing and lead_id is not null and status in ('processing', 'completed', 'unconfirmed');
create index ai_email_queue_enrolment on public.ai_email_queue (tenant_id, enrolment_id) where enrolment_id is not null;
create index ai_email_queue_recipient on public.ai_email_queue (recipient_key, tenant_id, started_at);
create index ai_email_queue_provider_message_id on public.ai_email_queue (provider_message_id)
where provider_message_id is not null and broadcast_id is null;

comment on table public.ai_email_queue is
  'Insert a row: the mail is sent once, when it is due. status shows the result, last_error why it waits or failed.';
comment on column public.ai_email_queue.recipient is
  'One e-mail address, or the id of a lead of the tenant: then the address that the lead has when the mail is sent.';
comment on column public.ai_email_queue.subject is
  'Liquid, at most 998 characters. Variables: the keys of metadata, and metadata, lead, tenant. Null for a recipient of a broadcast.';
comment on column public.ai_email_queue.body is
  'HTML with Liquid, at most 1 MiB; values are HTML-escaped. The text part is made from it. Null for a recipient of a broadcast.';
comment on column public.ai_email_queue.scheduled_for is
  'When the mail is due; null on insert means now. Update it to move the mail.';
comment on column public.ai_email_queue.metadata is
  'Variables for Liquid, and: marketing true (marketing rules and unsubscribe headers apply), expires_at (not sent after that time), priority high, lead_id, reply_to, category. At most 256 KiB; for a recipient of a broadcast 32 KiB.';
comment on column public.ai_email_queue.sent_at is 'When SendGrid accepted the mail; null before.';
comment on column public.ai_email_queue.lead_id is
  'The lead that the mail is about; filled from recipient or metadata.lead_id if that is a lead of the tenant.';
comment on column public.ai_email_queue.provider_message_id is
  'SendGrid''s X-Message-Id; events have it before the first dot of sg_message_id.';
comment on column public.ai_email_queue.enrolment_id is
  'The enrolment (row of ai_nurture_campaigns) that the mail belongs to; null for none. No foreign key, because mails outlive enrolments.';
comment on column public.ai_email_queue.touch_id is
  'The row of ai_campaign_touches that queued the mail; null for none.';
comment on column public.ai_email_queue.first_due_at is
  'When the mail was due before the engine first deferred it; null if it never did. Starts again when a client moves the mail or runs it again.';
comment on column public.ai_email_queue.recipient_key is
  'recipient in lower case. A stored column, because behind row level security an index on lower(recipient) is not used.';
comment on column public.ai_email_queue.is_marketing is
  'Whether marketing rules apply: metadata.marketing is true, metadata.type is marketing, or the mail belongs to a campaign or broadcast.';
comment on column public.ai_email_queue.broadcast_id is
  'The broadcast that the row is a recipient of; null for a mail of its own.';

create table public.email_deliveries (
  id uuid primary key default gen_random_uuid(),
  tenant_id uuid not null references public.tenants (id),
  email_id uuid,
  recipient text not null,
  event text not null,
  provider_message_id text,
  occurred_at timestamptz not null,
  metadata jsonb not null default '{}',
  detail text not null default ''
);

-- SendGrid may repeat an event with a new sg_event_id (sendgrid-nodejs #1435), so the contents identify it.
create unique index email_deliveries_once on public.email_deliveries (
  tenant_id,
  email_id,
  recipient,
  event,
  occurred_at,
  detail
)
nulls not distinct;
create index email_deliveries_recipient on public.email_deliveries (tenant_id, recipient, occurred_at);
create index email_deliveries_complaints on public.email_deliveries (tenant_id, occurred_at) where event = 'spamreport';
-- A few bytes for every 128 pages: reports arrive in the order of their time, and are searched by time only at night.
-- squawk-ignore require-concurrent-index-creation
create index email_deliveries_occurred_at on public.email_deliveries using brin (occurred_at);

comment on table public.email_deliveries is
  'What SendGrid reported about each mail: one row for each event, however often it was reported.';
comment on column public.email_deliveries.email_id is
  'Row of ai_email_queue or of the archive (so no foreign key); null if the event did not identify it.';
comment on column public.email_deliveries.recipient is 'The address in lower case.';
comment on column public.email_deliveries.event is
  'processed, deferred, delivered, bounce, dropped, open, click, spamreport, unsubscribe, group_unsubscribe, group_resubscribe.';
comment on column public.email_deliveries.detail is
  'Distinguishes events of one kind in the same second: the clicked URL and its position, the attempt; else empty.';

create table public.email_bounces (
  id uuid primary key default gen_random_uuid(),
  tenant_id uuid not null references public.tenants (id),
  recipient text not null,
  bounce_type text not null,
  reason text,
  occurred_at timestamptz not null default now(),
  email_id uuid,
  constraint email_bounces_type_known check (bounce_type in ('hard', 'soft'))
);

create unique index email_bounces_once on public.email_bounces (tenant_id, recipient, email_id, occurred_at)
nulls not distinct;
create index email_bounces_hard on public.email_bounces (tenant_id, occurred_at) where bounce_type = 'hard';
-- squawk-ignore require-concurrent-index-creation
create index email_bounces_occurred_at on public.email_bounces using brin (occurred_at);

comment on table public.email_bounces is 'Mails that bounced. A hard bounce suppresses the address.';
comment on column public.email_bounces.bounce_type is
  'hard: the address does not exist or is closed. soft: blocked or full now; may be delivered later.';

create table public.email_unsubscribe_links (
  tenant_id uuid not null,
  -- Collated by bytes, because it is only compared for equality.
  address_key text collate "C" not null,
  -- 244 random bits, of two uuids: Postgres has no other secure generator without an extension.
  token text not null default replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''),
  created_at timestamptz not null default now(),
  primary key (tenant_id, address_key)
);

create index email_unsubscribe_links_token on public.email_unsubscribe_links using hash (token);

comment on table public.email_unsubscribe_links is
  'The token in the unsubscribe link (RFC 8058) of each recipient; the same in every mail to the address.';
