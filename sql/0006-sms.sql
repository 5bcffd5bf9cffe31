-- Text messages: the queue that clients insert into, what Twilio reports about each text, what people write, and which
-- person texts with which number.
--
-- A text must go out once, and Twilio has no idempotency key. So a row whose outcome was lost is settled by a status
-- callback or by Twilio's own message list (brainops_internal.reconcile_sms), and never sent again blindly. What Twilio
-- reports is applied once, however often and in whatever order it arrives.
--
-- Compatibility: rolling; creates tables that no older program reads.
set local lock_timeout = '2s';

create type brainops.sms_reference as (
  tenant_id uuid,
  sms_id uuid,
  lead_id uuid,
  touch_id uuid,
  enrolment_id uuid,
  to_number text,
  started_at timestamptz
);

comment on type brainops.sms_reference is
  'A text of ai_sms_queue or its archive, as brainops_internal.find_sms returns it. sms_id is the row''s id; the other fields are its columns.';

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
  'Numbers of the platform''s Twilio account that belong to one tenant: its texts are sent from them, and texts to them belong to it. A tenant without a row uses TWILIO_FROM. Only admins write this table.';
comment on column public.sms_numbers.number is 'In E.164, or a short code.';
comment on column public.sms_numbers.active is
  'False: no text is sent from it any more; texts to it still belong to the tenant.';

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
-- What counts against a cap: marketing that was sent, or may have been.
create index ai_sms_queue_contacted_lead on public.ai_sms_queue (tenant_id, lead_id, started_at)
where is_marketing and lead_id is not null and status in ('processing', 'completed', 'unconfirmed');
create index ai_sms_queue_contacted_address on public.ai_sms_queue (tenant_id, recipient, started_at)
where is_marketing and status in ('processing', 'completed', 'unconfirmed');

comment on table public.ai_sms_queue is
  'Insert a row: the text is sent once, when it is due. status shows the result, last_error why it waits or failed; what Twilio reported afterwards is in sms_deliveries.';
comment on column public.ai_sms_queue.recipient is
  'One phone number (stored in E.164), or the id of a lead of the tenant: then the number that the lead has when the text is sent.';
comment on column public.ai_sms_queue.body is
  'Text with Liquid, at most 1600 characters once rendered. Variables: the keys of metadata, metadata, lead, tenant.';
comment on column public.ai_sms_queue.scheduled_for is
  'When the text is due. Null on insert means now; update it to move the text.';
comment on column public.ai_sms_queue.metadata is
  'Variables for Liquid, and: transactional true (consent, quiet hours and caps do not apply; an opt-out still does), priority high, lead_id.';
comment on column public.ai_sms_queue.sent_at is 'When Twilio accepted the text; null until then.';
comment on column public.ai_sms_queue.lead_id is
  'Filled in from recipient or metadata.lead_id if that is a lead of the tenant; null for other recipients.';
comment on column public.ai_sms_queue.enrolment_id is
  'Row of ai_nurture_campaigns that the text is part of; null: none. No foreign key, because texts outlive enrolments.';
comment on column public.ai_sms_queue.touch_id is 'Row of ai_campaign_touches that inserted the text; null: none.';
comment on column public.ai_sms_queue.is_marketing is 'True unless metadata.transactional is true.';
comment on column public.ai_sms_queue.to_number is
  'The number that the text went to, in E.164; written just before it is sent, null until then.';
comment on column public.ai_sms_queue.from_number is
  'The number that the text went out from, as Twilio reports it; null until then.';
comment on column public.ai_sms_queue.account_sid is
  'The Twilio account that the text went through; written just before it is sent, null until then. A lost outcome is looked up in this account only.';
comment on column public.ai_sms_queue.text_sent is
  'The exact text passed to Twilio; written just before it is sent, null until then. Identifies the text if its outcome was lost.';
comment on column public.ai_sms_queue.segments is
  'Number of segments, which determines the price; null until the text is sent.';
comment on column public.ai_sms_queue.provider_message_id is 'Twilio''s MessageSid; null until it is known.';
comment on column public.ai_sms_queue.earlier_message_ids is
  'MessageSids of earlier runs of the row: reports about them no longer settle it.';
comment on column public.ai_sms_queue.looked_for_at is
  'When Twilio''s message list was last asked about a lost outcome; null: not yet.';
comment on column public.ai_sms_queue.times_absent is
  'How often Twilio certainly did not have the text and the row was made due again; the third time, the row fails.';
comment on column public.ai_sms_queue.first_due_at is
  'When the text was due before the engine first deferred it; null if it never did. Starts over when a client moves the row or runs it again.';

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
  'What Twilio reported about each text: one row for each status, however often it is reported. brainops.sms_results has the most advanced status of each text.';
comment on column public.sms_deliveries.sms_id is
  'Row of ai_sms_queue or of its archive (so no foreign key); null if only the MessageSid is known.';
comment on column public.sms_deliveries.recipient is
  'In E.164; unknown if Twilio does not name the number in that form.';
comment on column public.sms_deliveries.event is
  'Twilio''s MessageStatus; refused: Twilio''s API did not accept the text.';
comment on column public.sms_deliveries.provider_message_id is 'Twilio''s MessageSid; null for refused.';
comment on column public.sms_deliveries.error_code is 'Twilio''s ErrorCode, such as 30003; null: no error.';
comment on column public.sms_deliveries.occurred_at is
  'When our server received the report: Twilio''s callbacks carry no time.';
comment on column public.sms_deliveries.metadata is 'from and reason, if Twilio reported them.';

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
create index sms_inbound_message on public.sms_inbound (message_sid);
create index sms_inbound_from on public.sms_inbound (tenant_id, from_number, received_at);

comment on table public.sms_inbound is
  'Texts that people sent to us, each once. A STOP or START to a number that several tenants text from is there once for each of them.';
comment on column public.sms_inbound.message_sid is 'Twilio''s MessageSid.';
comment on column public.sms_inbound.kind is
  'stop, start or help if the whole text is such a keyword (or Twilio''s OptOutType says so); a yes to a request for consent is start; anything else is reply.';
comment on column public.sms_inbound.lead_id is 'The tenant''s lead with this number; null: none.';
comment on column public.sms_inbound.received_at is 'When our server received the text.';
comment on column public.sms_inbound.metadata is
  'opt_out_type and media (the number of attachments), if Twilio reported them.';

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
  'Which person texts with which number. Decides which tenant a text to a shared number belongs to, and from which number a person is texted; records whether the person has had the opt-out notice.';
comment on column public.sms_threads.number is 'The person''s, in E.164.';
comment on column public.sms_threads.sender is
  'A number of sms_numbers; own: the tenant''s own account; null: the platform''s TWILIO_FROM.';
comment on column public.sms_threads.last_at is
  'When the tenant last texted the person, or (except from TWILIO_FROM) the person texted the tenant.';
comment on column public.sms_threads.told_by is 'Row of ai_sms_queue that carried the opt-out notice; null: none yet.';
