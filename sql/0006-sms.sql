-- Text messages: the queue that clients insert into, what Twilio reported back, what people wrote,
-- and who texts whom from which number.
--
-- A text can be sent only once: Twilio has no idempotency key. What is told twice by Twilio is taken
-- once, in any order; a row whose outcome was lost is settled by a callback, or by looking at
-- Twilio's own list (brainops_internal.reconcile_sms), never by sending again blindly.
set local lock_timeout = '2s';

create type brainops.sms_reference as (
  tenant_id uuid,
  sms_id uuid,
  lead_id uuid,
  touch_id uuid,
  enrolment_id uuid,
  to_number text
);

create table public.sms_numbers (
  id uuid primary key default gen_random_uuid(),
  tenant_id uuid not null references public.tenants (id),
  number text not null,
  active boolean not null default true,
  created_at timestamptz not null default now(),
  constraint sms_numbers_once unique (tenant_id, number),
  constraint sms_numbers_shape check (number ~ '^(\+[1-9][0-9]{6,14}|[0-9]{5,6})$')
);

create index sms_numbers_number on public.sms_numbers (number);

comment on table public.sms_numbers is
  'Numbers of the installation''s Twilio account that are one tenant''s: its texts go out from them, and what is written to them is its. A tenant without any uses TWILIO_FROM. Admins write it.';
comment on column public.sms_numbers.number is 'In E.164, or a short code.';
comment on column public.sms_numbers.active is
  'False: no text goes out from it any more; what people write to it is still the tenant''s.';

create table public.ai_sms_queue (
  id uuid primary key default gen_random_uuid(),
  tenant_id uuid not null,
  recipient text not null,
  body text not null,
  scheduled_for timestamptz not null default now(),
  status text not null default 'pending',
  metadata jsonb not null default '{}',
  created_at timestamptz not null default now(),
  sent_at timestamptz,
  lead_id uuid,
  enrolment_id uuid,
  touch_id uuid,
  is_marketing boolean not null generated always as (coalesce(metadata ->> 'transactional', '') <> 'true') stored,
  to_number text,
  from_number text,
  account_sid text,
  text_sent text,
  segments int,
  provider_message_id text,
  earlier_message_ids text[] not null default '{}',
  times_absent int not null default 0,
  looked_for_at timestamptz,
  first_due_at timestamptz,
  constraint ai_sms_queue_lead
    foreign key (tenant_id, lead_id) references public.revenue_leads (tenant_id, id)
      on delete set null (lead_id)
);

select brainops_internal.add_job_columns('public.ai_sms_queue');

create index ai_sms_queue_lead_id on public.ai_sms_queue (tenant_id, lead_id) where lead_id is not null;
create index ai_sms_queue_provider_message_id on public.ai_sms_queue (provider_message_id)
where provider_message_id is not null;
create index ai_sms_queue_earlier_message_ids on public.ai_sms_queue using gin (earlier_message_ids)
where earlier_message_ids <> '{}';
create index ai_sms_queue_recipient on public.ai_sms_queue (tenant_id, recipient);
create index ai_sms_queue_to_number on public.ai_sms_queue (to_number, tenant_id) where to_number is not null;
create index ai_sms_queue_enrolment on public.ai_sms_queue (tenant_id, enrolment_id) where enrolment_id is not null;
-- What counts against a cap: marketing that went, or may have gone.
create index ai_sms_queue_contacted_lead on public.ai_sms_queue (tenant_id, lead_id, started_at)
where is_marketing and lead_id is not null and status in ('processing', 'completed', 'unconfirmed');
create index ai_sms_queue_contacted_address on public.ai_sms_queue (tenant_id, recipient, started_at)
where is_marketing and status in ('processing', 'completed', 'unconfirmed');

comment on table public.ai_sms_queue is
  'Insert a row: the text is sent once, when it is due. status tells how it went, last_error why it waits or failed; what became of it afterwards is in sms_deliveries.';
comment on column public.ai_sms_queue.recipient is
  'One phone number (kept in E.164), or the id of a lead of the tenant, whose number at the time of sending is taken.';
comment on column public.ai_sms_queue.body is
  'Text with Liquid, at most 1600 characters once filled in. Variables: metadata''s keys, metadata, lead, tenant.';
comment on column public.ai_sms_queue.scheduled_for is 'Null on insert means now. Update it to move the text.';
comment on column public.ai_sms_queue.metadata is
  'Variables for Liquid, and: transactional true (no consent, quiet hours or cap asked; an opt-out still holds), priority high, lead_id.';
comment on column public.ai_sms_queue.sent_at is 'When Twilio took the text; null until it did.';
comment on column public.ai_sms_queue.lead_id is
  'Filled from recipient or metadata.lead_id where that is a lead of the tenant.';
comment on column public.ai_sms_queue.enrolment_id is
  'Row of ai_nurture_campaigns that the text is part of; no foreign key, as texts outlive it. Null for none.';
comment on column public.ai_sms_queue.touch_id is 'Row of ai_campaign_touches that inserted it; null for none.';
comment on column public.ai_sms_queue.is_marketing is 'Whatever metadata does not call transactional.';
comment on column public.ai_sms_queue.to_number is 'The number it went to, in E.164; null until it was about to.';
comment on column public.ai_sms_queue.from_number is 'The number it went out from, as Twilio says; null until it did.';
comment on column public.ai_sms_queue.account_sid is
  'The Twilio account it went through; null until it was about to. A lost outcome is looked for there and nowhere else.';
comment on column public.ai_sms_queue.text_sent is
  'What Twilio was given, to the letter; null until it was about to be. What a lost outcome is recognised by.';
comment on column public.ai_sms_queue.segments is 'How many segments it took, which is what it costs.';
comment on column public.ai_sms_queue.provider_message_id is 'Twilio''s MessageSid.';
comment on column public.ai_sms_queue.earlier_message_ids is
  'MessageSids of earlier runs of the row: what Twilio says of them settles nothing any more.';
comment on column public.ai_sms_queue.looked_for_at is
  'When Twilio''s list was last asked about a lost outcome; null: not yet.';
comment on column public.ai_sms_queue.times_absent is
  'How often the text was surely not with Twilio and was made due again; the third time it fails.';
comment on column public.ai_sms_queue.first_due_at is
  'When the text was due before the engine first put it off; null while it never did. A move by a client, or running it again, starts anew.';

create table public.sms_deliveries (
  id uuid primary key default gen_random_uuid(),
  tenant_id uuid not null references public.tenants (id),
  sms_id uuid,
  recipient text not null,
  event text not null,
  provider_message_id text,
  error_code int,
  occurred_at timestamptz not null,
  metadata jsonb not null default '{}',
  constraint sms_deliveries_event_known
    check (
      event in (
        'queued',
        'accepted',
        'scheduled',
        'sending',
        'sent',
        'delivered',
        'read',
        'undelivered',
        'failed',
        'canceled',
        'refused'
      )
    )
);

create unique index sms_deliveries_once on public.sms_deliveries (tenant_id, provider_message_id, event, sms_id)
nulls not distinct;
create index sms_deliveries_sms on public.sms_deliveries (tenant_id, sms_id);
create index sms_deliveries_recipient on public.sms_deliveries (tenant_id, recipient, occurred_at);
create index sms_deliveries_message on public.sms_deliveries (provider_message_id);
-- squawk-ignore require-concurrent-index-creation
create index sms_deliveries_occurred_at on public.sms_deliveries using brin (occurred_at);

comment on table public.sms_deliveries is
  'What became of each text, as Twilio told it: one row for each status, however often it was told. brainops.sms_results has the last word on each.';
comment on column public.sms_deliveries.sms_id is
  'Row of ai_sms_queue (or of the archive, so no foreign key); null where only the MessageSid is known.';
comment on column public.sms_deliveries.recipient is 'In E.164.';
comment on column public.sms_deliveries.event is
  'Twilio''s MessageStatus; refused for a text that Twilio would not take at all.';
comment on column public.sms_deliveries.error_code is 'Twilio''s ErrorCode, e.g. 30003; null for none.';
comment on column public.sms_deliveries.occurred_at is 'When we heard of it: Twilio''s callbacks carry no time.';

create table public.sms_inbound (
  id uuid primary key default gen_random_uuid(),
  tenant_id uuid not null references public.tenants (id),
  message_sid text not null,
  from_number text not null,
  to_number text not null,
  body text not null,
  kind text not null,
  lead_id uuid,
  received_at timestamptz not null,
  metadata jsonb not null default '{}',
  constraint sms_inbound_once unique (tenant_id, message_sid),
  constraint sms_inbound_kind_known check (kind in ('stop', 'start', 'help', 'reply')),
  constraint sms_inbound_lead
    foreign key (tenant_id, lead_id) references public.revenue_leads (tenant_id, id)
      on delete set null (lead_id)
);

create index sms_inbound_lead_id on public.sms_inbound (tenant_id, lead_id) where lead_id is not null;
create index sms_inbound_from on public.sms_inbound (tenant_id, from_number, received_at);

comment on table public.sms_inbound is
  'What people texted to us, each once. A STOP to a number that several tenants use is there once for each of them.';
comment on column public.sms_inbound.kind is
  'stop, start and help by the whole text alone (or by Twilio''s OptOutType); anything else is a reply.';
comment on column public.sms_inbound.lead_id is 'The tenant''s lead with this number; null where there is none.';
comment on column public.sms_inbound.metadata is 'opt_out_type and media, where Twilio told of any.';

create table public.sms_threads (
  id uuid primary key default gen_random_uuid(),
  tenant_id uuid not null references public.tenants (id),
  number text not null,
  sender text,
  last_at timestamptz not null,
  told_by uuid
);

create unique index sms_threads_once on public.sms_threads (tenant_id, number, sender) nulls not distinct;
create index sms_threads_number on public.sms_threads (number);

comment on table public.sms_threads is
  'Who texts whom from which number: whose a text to a shared number is, which number a person knows, and whether it was told how to opt out.';
comment on column public.sms_threads.number is 'The person''s, in E.164.';
comment on column public.sms_threads.sender is
  'A number of sms_numbers; own for the tenant''s own account; null for the installation''s TWILIO_FROM.';
comment on column public.sms_threads.last_at is 'When the tenant last texted the person, or was written to.';
comment on column public.sms_threads.told_by is 'The row of ai_sms_queue that told how to opt out; null for none yet.';
