-- E-mail: the queue that clients insert into, what the provider reported back, and whom not to
-- write to.
set local lock_timeout = '2s';

-- The e-mail an event is about: by our id in it, else by the provider's message id. A bounce that
-- came as a mail of its own may carry neither: then by the recent mails to its address, where all
-- of them are one tenant's (email_id stays null where they are several). Any other event without
-- our ids is about a mail that someone else sent through the same SendGrid account.
create type brainops.email_reference as (tenant_id uuid, email_id uuid);

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
  constraint ai_broadcasts_launched check (status <> 'active' or launched_at is not null)
);

comment on table public.ai_broadcasts is
  'One mail to many people. Recipients are rows of ai_email_queue with broadcast_id; up to 1,000 of them go out in one call. brainops.broadcast_results counts them.';
comment on column public.ai_broadcasts.name is 'For people; null for none.';
comment on column public.ai_broadcasts.audience is
  'Whom it is for, in words; brainops.broadcast_to_leads writes its condition here. Null for none.';
comment on column public.ai_broadcasts.template is
  'Name of a template of ai_campaign_templates: subject and body are copied from its newest version. Null for none.';
comment on column public.ai_broadcasts.subject is
  'Liquid, as in ai_email_queue; fixed once the broadcast was launched, as body and metadata are.';
comment on column public.ai_broadcasts.metadata is
  'Variables for Liquid, below those of each row; and reply_to, category. At most 256 KiB.';
comment on column public.ai_broadcasts.status is
  'draft: recipients wait (awaiting_approval). active: they go. paused: they wait again. cancelled: those left are cancelled, for good.';
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
  -- Stored, because row level security lets no index on lower(recipient) be used: lower() might leak.
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

-- Nothing refers to mails by this pair; the primary key finds them.
alter table public.ai_email_queue drop constraint ai_email_queue_tenant_row;

create index ai_email_queue_lead_id on public.ai_email_queue (tenant_id, lead_id) where lead_id is not null;
-- What counts against a cap: marketing that went, or may have gone.
create index ai_email_queue_contacted_lead on public.ai_email_queue (tenant_id, lead_id, started_at)
where is_marketing and lead_id is not null and status in ('processing', 'completed', 'unconfirmed');
create index ai_email_queue_enrolment on public.ai_email_queue (tenant_id, enrolment_id) where enrolment_id is not null;
create index ai_email_queue_recipient on public.ai_email_queue (recipient_key, tenant_id, started_at);
create index ai_email_queue_provider_message_id on public.ai_email_queue (provider_message_id)
where provider_message_id is not null and broadcast_id is null;

comment on table public.ai_email_queue is
  'Insert a row: the mail is sent once, when it is due. status tells how it went, last_error why it waits or failed.';
comment on column public.ai_email_queue.recipient is
  'One address, or the id of a lead of the tenant, whose address at the time of sending is taken.';
comment on column public.ai_email_queue.subject is
  'Liquid, at most 998 characters. Variables: metadata''s keys, metadata, lead, tenant.';
comment on column public.ai_email_queue.body is
  'HTML with Liquid, at most 1 MiB; values are HTML-escaped. The text part is made from it.';
comment on column public.ai_email_queue.scheduled_for is 'Null on insert means now. Update it to move the mail.';
comment on column public.ai_email_queue.metadata is
  'Variables for Liquid, and: marketing true (the rules for marketing, unsubscribe headers), expires_at (not to be sent later), priority high, lead_id, reply_to, category. At most 256 KiB, as a recipient of a broadcast 32.';
comment on column public.ai_email_queue.sent_at is 'When the provider took the mail; null until it did.';
comment on column public.ai_email_queue.lead_id is
  'Filled from recipient or metadata.lead_id where that is a lead of the tenant.';
comment on column public.ai_email_queue.provider_message_id is
  'SendGrid''s X-Message-Id; events carry it before the first dot of sg_message_id.';
comment on column public.ai_email_queue.enrolment_id is
  'Row of ai_nurture_campaigns that the mail belongs to; null for none. No foreign key: mails outlive enrolments.';
comment on column public.ai_email_queue.touch_id is 'Row of ai_campaign_touches that made the mail; null for none.';
comment on column public.ai_email_queue.first_due_at is
  'When the mail was due before the engine first put it off; null while it never did. A move by a client, or running it again, starts anew.';
comment on column public.ai_email_queue.recipient_key is
  'The recipient in lower case, as a column: behind row level security an index on lower(recipient) is not used.';
comment on column public.ai_email_queue.is_marketing is
  'Whether the rules for marketing hold: metadata.marketing true, metadata.type marketing, or a mail of a campaign or broadcast.';
comment on column public.ai_email_queue.broadcast_id is
  'The broadcast that the row is a recipient of; subject and body are the broadcast''s then, and null here.';

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

-- SendGrid repeats an event under a new sg_event_id (sendgrid-nodejs #1435): this is what makes
-- a repetition one, whatever its id.
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
-- Summaries of a few bytes for every 128 pages: reports come in by their time, and are only looked for by night.
-- squawk-ignore require-concurrent-index-creation
create index email_deliveries_occurred_at on public.email_deliveries using brin (occurred_at);

comment on table public.email_deliveries is
  'What became of each mail, as the provider told it: one row for each event, however often it was told.';
comment on column public.email_deliveries.email_id is
  'Row of ai_email_queue (or of the archive, so no foreign key); null where the event did not say.';
comment on column public.email_deliveries.recipient is 'In lower case.';
comment on column public.email_deliveries.event is
  'processed, deferred, delivered, bounce, dropped, open, click, spamreport, unsubscribe, group_unsubscribe, group_resubscribe.';
comment on column public.email_deliveries.detail is
  'What tells two events of one kind in one second apart: the clicked url and its place, the attempt; else empty.';

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

comment on table public.email_bounces is 'Mails that came back. A hard bounce suppresses the address.';
comment on column public.email_bounces.bounce_type is
  'hard: the address does not exist or is closed. soft: blocked or full now, may work later.';

create table public.email_unsubscribe_links (
  tenant_id uuid not null,
  -- Compared for equality alone, so by its bytes.
  address_key text collate "C" not null,
  -- 244 random bits; two uuids, because Postgres has no other generator without an extension.
  token text not null default replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''),
  created_at timestamptz not null default now(),
  primary key (tenant_id, address_key)
);

create index email_unsubscribe_links_token on public.email_unsubscribe_links using hash (token);

comment on table public.email_unsubscribe_links is
  'The token in each recipient''s unsubscribe link (RFC 8058), the same in every mail to the address.';
