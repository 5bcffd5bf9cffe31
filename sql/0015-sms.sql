-- Text messages: the queue that clients insert into, what Twilio reported back, what people wrote,
-- and who texts whom from which number.
--
-- A text can be sent only once: Twilio has no idempotency key. What is told twice by Twilio is taken
-- once, in any order; a row whose outcome was lost is settled by a callback, or by looking at
-- Twilio's own list (brainops.reconcile_sms), never by sending again blindly.
set local lock_timeout = '2s';

-- ── Numbers ────────────────────────────────────────────────────────────────────────────────────

-- How far SQL reads numbers: E.164 with any punctuation, and national numbers of countries that
-- dial +1. Others wait for libphonenumber in the worker, which writes back what it read, so that
-- the gate always judges a number in E.164.
create function brainops.sms_number(p_text text, p_country text)
returns text
language sql
immutable
parallel safe
set search_path = ''
as $$
  select
    case
      when n.digits ~ '^\+1[2-9][0-9]{9}$' then n.digits
      when n.digits ~ '^\+[2-9][0-9]{6,14}$' then n.digits
      when n.digits ~ '^1?[2-9][0-9]{9}$'
      and upper(p_country) = any (
        '{US,CA,AG,AI,AS,BB,BM,BS,DM,DO,GD,GU,JM,KN,KY,LC,MP,MS,PR,SX,TC,TT,VC,VG,VI}'
      ) then '+1' || right(n.digits, 10)
    end
  from (select regexp_replace(p_text, '[[:space:]().\-/' || U&'\00A0' || ']', '', 'g') as digits) as n;
$$;

comment on function brainops.sms_number(text, text) is
  'A phone number in E.164 (+13035550100), where SQL can read it: with a + and any punctuation, or national in a country that dials +1. Null otherwise.';

create function brainops.tenant_country(p_settings jsonb)
returns text
language sql
immutable
parallel safe
set search_path = ''
as $$
  select
    case
      when p_settings ->> 'country' ~* '^[a-z]{2}$' then upper(p_settings ->> 'country')
      else 'US'
    end;
$$;

comment on function brainops.tenant_country(jsonb) is
  'tenants.settings.country (ISO 3166, two letters): how numbers without + are read. US where there is none.';

-- ── Tables ─────────────────────────────────────────────────────────────────────────────────────

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
  constraint ai_sms_queue_lead
    foreign key (tenant_id, lead_id) references public.revenue_leads (tenant_id, id)
      on delete set null (lead_id)
);

create index ai_sms_queue_lead_id on public.ai_sms_queue (tenant_id, lead_id) where lead_id is not null;
create index ai_sms_queue_provider_message_id on public.ai_sms_queue (provider_message_id)
where provider_message_id is not null;
create index ai_sms_queue_earlier_message_ids on public.ai_sms_queue using gin (earlier_message_ids)
where earlier_message_ids <> '{}';
create index ai_sms_queue_recipient on public.ai_sms_queue (tenant_id, recipient);
create index ai_sms_queue_to_number on public.ai_sms_queue (to_number, tenant_id) where to_number is not null;
create index ai_sms_queue_enrolment on public.ai_sms_queue (tenant_id, enrolment_id) where enrolment_id is not null;

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

select brainops.protect_table(t)
from
  unnest(
    array['public.sms_numbers', 'public.sms_deliveries', 'public.sms_inbound', 'public.sms_threads']::regclass[]
  ) as t;

-- Reports and words are the provider's to write, threads the worker's; and a number that a tenant
-- could claim for itself would bring it the replies to another.
revoke insert, update, delete
on public.sms_deliveries, public.sms_inbound, public.sms_numbers
from brainops_tenant, brainops_service;
revoke insert, update, delete on public.sms_numbers, public.sms_inbound from brainops_worker;
revoke all on public.sms_threads from brainops_tenant, brainops_service;

-- One number, one tenant: a unique index would tell tenants of each other, so admins are told here.
create function brainops.check_sms_number()
returns trigger
language plpgsql
set search_path = ''
as $$
declare
  v_other text;
begin
  perform pg_advisory_xact_lock(hashtextextended('sms_numbers ' || new.number, 0));
  select t.slug into v_other
    from public.sms_numbers as n
    inner join public.tenants as t on t.id = n.tenant_id
    where n.number = new.number and n.tenant_id <> new.tenant_id;
  if found then
    raise exception 'number: % is that of tenant %', new.number, v_other
      using errcode = 'OP018', column = 'number', hint = 'Delete the other row first; two tenants that share a number use TWILIO_FROM.';
  end if;
  return new;
end;
$$;

create trigger a2_check_sms_number
before insert or update of tenant_id, number on public.sms_numbers
for each row
execute function brainops.check_sms_number();

-- ── Rows ───────────────────────────────────────────────────────────────────────────────────────

-- Refuses what can never be sent, naming the column, the value and the remedy. Runs before the
-- tenant is filled in, which may come from the lead.
create function brainops.check_sms_row()
returns trigger
language plpgsql
set search_path = ''
as $$
declare
  v_lead_id uuid;
begin
  new.recipient := btrim(new.recipient, E' \t\r\n');
  -- Clients write the JSON null where they mean none.
  new.metadata := coalesce(nullif(new.metadata, 'null'), '{}');
  v_lead_id := brainops.uuid_or_null(new.recipient);

  if coalesce(new.recipient, '') = '' then
    raise exception 'recipient: is empty'
      using errcode = 'OP017', column = 'recipient', hint = 'Give one phone number, or the id of a lead.';
  end if;
  if v_lead_id is null then
    if regexp_replace(new.recipient, '[[:space:]().\-/' || U&'\00A0' || ']', '', 'g') !~ '^\+?[0-9]{5,15}$' or new.recipient ~ '^\+0' then
      raise exception 'recipient: % is not a phone number', quote_literal(left(new.recipient, 120))
        using errcode = 'OP017', column = 'recipient',
          hint = 'Give one number with its country code such as +13035550100 (without an extension), or the id of a lead.';
    end if;
    if new.recipient ~ '^\+' and brainops.sms_number(new.recipient, null) is null then
      raise exception 'recipient: % has not as many digits as a phone number', quote_literal(left(new.recipient, 120))
        using errcode = 'OP017', column = 'recipient',
          hint = 'Give one number with its country code such as +13035550100, or the id of a lead.';
    end if;
    new.recipient := coalesce(brainops.sms_number(new.recipient, null), new.recipient);
  end if;
  if coalesce(btrim(new.body, E' \t\r\n'), '') = '' then
    raise exception 'body: is empty'
      using errcode = 'OP005', column = 'body', hint = 'Give the text.';
  end if;
  -- With Liquid in it, it may become shorter.
  if length(new.body) > 1600 and (new.body !~ '\{[{%]' or length(new.body) > 32768) then
    raise exception 'body: has % characters, at most 1600 are allowed', length(new.body)
      using errcode = 'OP005', column = 'body', hint = 'Shorten it: Twilio takes no longer text.';
  end if;
  if jsonb_typeof(new.metadata) <> 'object' then
    raise exception 'metadata: % is no JSON object', quote_literal(left(new.metadata::text, 120))
      using errcode = 'OP006', column = 'metadata', hint = 'Give an object such as {"first_name": "Ann"}; {} or null for none.';
  end if;

  if tg_op = 'INSERT' then
    if new.metadata ->> 'priority' = 'high' and new.job_priority = 0 then
      new.job_priority := -10;
    end if;
    if v_lead_id is null and new.lead_id is null and new.metadata ? 'lead_id' then
      new.lead_id := brainops.find_lead(brainops.uuid_or_null(new.metadata ->> 'lead_id'), new.tenant_id);
    end if;
  elsif new.recipient = old.recipient then
    -- The lead may be gone by now: the gate says so when the text is due.
    return new;
  end if;
  if v_lead_id is not null then
    new.lead_id := brainops.find_lead(v_lead_id, new.tenant_id);
    if new.lead_id is null then
      raise exception 'recipient: % is no lead of this tenant', new.recipient
        using errcode = 'OP017', column = 'recipient', hint = 'Give a phone number, or the id of a row in revenue_leads.';
    end if;
  end if;
  return new;
end;
$$;

-- A national number, once it is known whose country it is of.
create function brainops.read_national_number()
returns trigger
language plpgsql
-- A service that has named no tenant does not see the tenant's row.
security definer
set search_path = ''
as $$
begin
  select coalesce(brainops.sms_number(new.recipient, brainops.tenant_country(t.settings)), new.recipient)
    into new.recipient
    from public.tenants as t
    where t.id = new.tenant_id;
  return new;
end;
$$;

alter function brainops.read_national_number() owner to brainops_system;

-- The number that a row is for, right now: its lead's, else its recipient. As it was written where
-- SQL can't read it; null for a lead that is gone or has none.
create function brainops.sms_address(p_sms public.ai_sms_queue)
returns text
language plpgsql
stable
set search_path = ''
as $$
declare
  v_lead_id uuid := brainops.uuid_or_null(p_sms.recipient);
begin
  if v_lead_id is null then
    return p_sms.recipient;
  end if;
  return (
    select
      coalesce(
        l.phone_e164,
        brainops.sms_number(l.phone, brainops.tenant_country(t.settings)),
        nullif(btrim(l.phone), '')
      )
    from public.revenue_leads as l
    inner join public.tenants as t on t.id = l.tenant_id
    where l.tenant_id = p_sms.tenant_id and l.id in (v_lead_id, p_sms.lead_id)
    order by (l.id = v_lead_id) desc
    limit 1
  );
end;
$$;

comment on function brainops.sms_address(public.ai_sms_queue) is
  'The number that a text goes to as things stand: its recipient, or that lead''s; null for a lead that is gone or has none.';

select
  brainops.define_job_table(
    'public.ai_sms_queue',
    p_task_identifier => 'sms__send',
    p_effect_is_idempotent => false, -- Twilio has no idempotency key
    p_channel => 'sms',
    p_gate => 'brainops.gate_sms',
    p_sender => 'twilio',
    p_result_columns => array['sent_at', 'provider_message_id', 'segments', 'from_number']
  );

revoke
  insert (to_number, account_sid, text_sent, earlier_message_ids, times_absent, looked_for_at),
  update (to_number, account_sid, text_sent, earlier_message_ids, times_absent, looked_for_at)
on public.ai_sms_queue
from brainops_tenant, brainops_service;

create trigger a0_check_sms_row
before insert or update of recipient, body, metadata on public.ai_sms_queue
for each row
execute function brainops.check_sms_row();
create trigger a0_resolve_lead_id
before insert on public.ai_sms_queue
for each row
when (new.lead_id is not null)
execute function brainops.resolve_lead_id();
create trigger a0_resolve_lead_id
before insert on public.sms_inbound
for each row
when (new.lead_id is not null)
execute function brainops.resolve_lead_id();

create trigger a2_read_national_number
before insert or update of recipient on public.ai_sms_queue
for each row
when (new.recipient !~ '^\+' and brainops.uuid_or_null(new.recipient) is null)
execute function brainops.read_national_number();

-- ── What is told of a text ─────────────────────────────────────────────────────────────────────

-- Twilio keeps no order: what counts is the farthest that a text has come.
create function brainops.sms_status_rank(p_event text)
returns int
language sql
immutable
parallel safe
set search_path = ''
as $$
  select
    array_position(
      '{refused,queued,accepted,scheduled,sending,sent,canceled,failed,undelivered,delivered,read}',
      p_event
    );
$$;

comment on function brainops.sms_status_rank(text) is
  'How far a text has come: of two statuses of one text, the one with the higher rank holds, in whichever order they were told.';

create view brainops.sms_results
with (security_invoker = true)
as
  select distinct on (d.tenant_id, d.sms_id, d.provider_message_id)
    d.tenant_id,
    d.sms_id,
    d.provider_message_id,
    d.recipient,
    d.event as status,
    d.error_code,
    d.occurred_at
  from public.sms_deliveries as d
  order by d.tenant_id, d.sms_id, d.provider_message_id, brainops.sms_status_rank(d.event) desc, d.occurred_at;

comment on view brainops.sms_results is 'The farthest that each text has come, and the error that it ended with.';

grant select
on brainops.sms_results
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

-- What Twilio's error codes mean for us (twilio.com/docs/api/errors). src/providers/twilio.ts has the
-- same list for what is refused at once; test/sms/classes.test.ts compares the two.
create function brainops.sms_error_class(p_code int)
returns text
language sql
immutable
parallel safe
set search_path = ''
as $$
  select
    case
      when p_code in (21211, 21214, 21217, 21614, 30005, 30006) then 'recipient'
      when p_code in (21610, 30004) then 'opted_out'
      when p_code in (21212, 21603, 21606, 21659, 21660, 21661, 30032, 30034, 30035) then 'sender'
      when p_code in (21408, 21608, 21612, 30007) then 'route'
      when p_code in (20003, 20005, 20006, 30002) then 'account'
      when p_code = 30003 then 'unreachable'
      when p_code in (20429, 20503, 21611, 30001) then 'later'
      when p_code in (20500, 30008, 30500) then 'unknown'
      else 'text'
    end;
$$;

comment on function brainops.sms_error_class(int) is
  'recipient (no text can reach it) · opted_out · sender (our number may not send) · route (not from here to there, or filtered) · account · unreachable (may be on later) · later · unknown · text (anything else: this text as it stands).';

-- Two words about one person, in two hands: the second sees what the first has written.
create function brainops.lock_sms_number(p_tenant_id uuid, p_number text)
returns void
language sql
set search_path = ''
as $$
  select pg_advisory_xact_lock(hashtextextended('sms ' || p_tenant_id || p_number, 0));
$$;

-- What a person told us, or Twilio on its behalf: by the time of each word, and at the same instant
-- the one that stops. START takes back this, and no other suppression.
create function brainops.settle_sms_consent(p_tenant_id uuid, p_number text)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_stops boolean;
begin
  select w.stops into v_stops
    from (
      select received_at as at, kind = 'stop' as stops
      from public.sms_inbound
      where tenant_id = p_tenant_id and from_number = p_number and kind in ('stop', 'start')
      union all
      select occurred_at, true
      from public.sms_deliveries
      where tenant_id = p_tenant_id and recipient = p_number and brainops.sms_error_class(error_code) = 'opted_out'
    ) as w
    order by w.at desc, w.stops desc
    limit 1;
  if v_stops then
    perform brainops.suppress(p_tenant_id, 'sms', p_number, 'unsubscribed', 'twilio');
  else
    delete from public.contact_suppressions
    where tenant_id = p_tenant_id and channel = 'sms' and address_key = p_number
      and reason = 'unsubscribed' and source = 'twilio';
    -- Which may have stood over this one.
    perform brainops.settle_unreachable(p_tenant_id, p_number);
  end if;
end;
$$;

-- Leads by number, all of them: two leads with one number are one person to whoever answers. Where no
-- lead has it (a national number that SQL can't read), the one that was last texted there.
create function brainops.sms_leads(p_tenant_id uuid, p_number text)
returns table (id uuid, updated_at timestamptz)
language plpgsql
stable
set search_path = ''
as $$
begin
  return query
    select l.id, l.updated_at from public.revenue_leads as l where l.tenant_id = p_tenant_id and l.phone_e164 = p_number;
  if not found then
    return query
      select l.id, l.updated_at
      from public.ai_sms_queue as q
      inner join public.revenue_leads as l on l.tenant_id = q.tenant_id and l.id = q.lead_id
      where q.tenant_id = p_tenant_id and q.to_number = p_number
      order by q.started_at desc
      limit 1;
  end if;
end;
$$;

create function brainops.record_sms_lead_event(
  p_tenant_id uuid,
  p_number text,
  p_lead_id uuid,
  p_event text,
  p_at timestamptz,
  p_source_key text,
  p_metadata jsonb
)
returns void
language plpgsql
set search_path = ''
as $$
begin
  perform brainops.record_lead_event(p_tenant_id, l.id, p_event, 'sms', p_at, p_source_key, p_metadata)
  from brainops.sms_leads(p_tenant_id, p_number) as l
  where p_lead_id is null
  union all
  select brainops.record_lead_event(p_tenant_id, l.id, p_event, 'sms', p_at, p_source_key, p_metadata)
  from public.revenue_leads as l
  where l.tenant_id = p_tenant_id and l.id = p_lead_id;
end;
$$;

create function brainops.record_sms_consent(
  p_tenant_id uuid,
  p_number text,
  p_lead_id uuid,
  p_state text,
  p_at timestamptz,
  p_evidence jsonb
)
returns void
language plpgsql
set search_path = ''
as $$
begin
  insert into public.contact_consents (tenant_id, lead_id, channel, address, state, source, evidence, occurred_at)
  values (p_tenant_id, p_lead_id, 'sms', p_number, p_state, 'twilio', p_evidence, p_at);
end;
$$;

-- A handset that is off is no reason to stop; one that is off for days is, for a month. Anything
-- delivered since takes it back.
create function brainops.settle_unreachable(p_tenant_id uuid, p_number text)
returns void
language plpgsql
set search_path = ''
as $$
declare
  c_times constant int := 3;
  c_apart constant interval := '4 hours';
  c_within constant interval := '14 days';
  c_for constant interval := '30 days';
  v_delivered_at timestamptz;
  v_last timestamptz;
begin
  select max(occurred_at) into v_delivered_at
    from public.sms_deliveries
    where tenant_id = p_tenant_id and recipient = p_number and event in ('delivered', 'read');
  select max(occurred_at) into v_last
    from public.sms_deliveries
    where tenant_id = p_tenant_id and recipient = p_number and error_code = 30003
      and occurred_at > coalesce(v_delivered_at, '-infinity')
      and occurred_at > brainops.now() - c_within
    having count(distinct provider_message_id) >= c_times and max(occurred_at) - min(occurred_at) >= c_apart;
  if v_last is null then
    delete from public.contact_suppressions
    where tenant_id = p_tenant_id and channel = 'sms' and address_key = p_number
      and reason = 'unreachable' and source = 'twilio';
    return;
  end if;
  insert into public.contact_suppressions as s (tenant_id, channel, address, reason, source, expires_at)
  values (p_tenant_id, 'sms', p_number, 'unreachable', 'twilio', v_last + c_for)
  on conflict (tenant_id, channel, address_key) do update
    set expires_at = excluded.expires_at
    where s.reason = 'unreachable' and s.source = 'twilio';
end;
$$;

-- Nothing of the tenant's goes until a person has looked.
create function brainops.pause_sms(p_tenant_id uuid, p_reason text)
returns void
language plpgsql
set search_path = ''
as $$
begin
  insert into brainops.pauses (table_name, tenant_id, reason)
  values ('ai_sms_queue', p_tenant_id, p_reason)
  on conflict (tenant_id, table_name, channel) do nothing;
  if found and to_regprocedure('brainops.notify(uuid,text,text,text)') is not null then
    perform brainops.notify(
      p_tenant_id,
      'Text messages are paused',
      p_reason || E'\n\nOnce that is mended: select brainops.resume(''ai_sms_queue'', …)',
      'ai_sms_queue paused ' || to_char(brainops.now(), 'YYYY-MM-DD HH24')
    );
  end if;
end;
$$;

-- What a refused or undelivered text means beyond itself. Nothing is sent again: "undelivered" is
-- no proof that the handset did not get it, so what follows is for the campaign or a person to say.
create function brainops.apply_sms_error(
  p_tenant_id uuid,
  p_number text,
  p_lead_id uuid,
  p_code int,
  p_at timestamptz,
  p_words text
)
returns void
language plpgsql
set search_path = ''
as $$
declare
  -- One text that a carrier filters is bad luck; several in an hour are the sender's doing.
  c_routes constant int := 3;
begin
  case brainops.sms_error_class(p_code)
    when 'recipient' then
      perform brainops.suppress(p_tenant_id, 'sms', p_number, 'bounced', 'twilio');
    when 'opted_out' then
      perform brainops.settle_sms_consent(p_tenant_id, p_number);
      perform brainops.record_sms_consent(
        p_tenant_id, p_number, p_lead_id, 'denied', p_at, jsonb_build_object('error_code', p_code)
      );
      perform brainops.record_sms_lead_event(
        p_tenant_id, p_number, null, 'opted_out', p_at, 'twilio:' || p_code || ':' || p_at, jsonb_build_object('error_code', p_code)
      );
    when 'sender', 'account' then
      perform brainops.pause_sms(p_tenant_id, p_words);
    when 'route' then
      -- Three refused at the same moment would each see only themselves. Always after the number's lock.
      perform pg_advisory_xact_lock(hashtextextended('brainops sms route ' || p_tenant_id || ' ' || p_code, 0));
      -- Any hour that has this one in it: they may be told in any order.
      if exists (
        select from
          (
            select
              count(*) over (order by occurred_at range between interval '1 hour' preceding and current row) as n
            from public.sms_deliveries
            where tenant_id = p_tenant_id and error_code = p_code
              and occurred_at between p_at - interval '1 hour' and p_at + interval '1 hour'
          ) as hours
        where hours.n >= c_routes
      ) then
        perform brainops.pause_sms(p_tenant_id, c_routes || ' or more texts within an hour: ' || p_words);
      end if;
    when 'unreachable' then
      perform brainops.settle_unreachable(p_tenant_id, p_number);
    else
      null; -- about this text alone
  end case;
end;
$$;

-- Twilio would not take the row that a worker has in hand. By the worker, as the row's tenant.
create function brainops.note_sms_refusal(p_id uuid, p_lease uuid, p_code int, p_words text)
returns void
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_sms public.ai_sms_queue;
begin
  select * into v_sms
    from public.ai_sms_queue
    where id = p_id and lease = p_lease and tenant_id = brainops.current_tenant_id();
  if not found then
    return;
  end if;
  insert into public.sms_deliveries as d (tenant_id, sms_id, recipient, event, error_code, occurred_at, metadata)
  values (v_sms.tenant_id, p_id, v_sms.to_number, 'refused', p_code, brainops.now(), jsonb_build_object('reason', p_words))
  on conflict (tenant_id, provider_message_id, event, sms_id) do update
    set
      error_code = excluded.error_code,
      occurred_at = excluded.occurred_at,
      recipient = excluded.recipient,
      metadata = excluded.metadata;
  perform brainops.apply_sms_error(v_sms.tenant_id, v_sms.to_number, v_sms.lead_id, p_code, brainops.now(), p_words);
  perform brainops.record_sms_lead_event(
    v_sms.tenant_id, v_sms.to_number, v_sms.lead_id, 'sms_failed', brainops.now(), p_id || ':refused',
    jsonb_strip_nulls(jsonb_build_object(
      'sms_id', p_id, 'touch_id', v_sms.touch_id, 'campaign_id', v_sms.enrolment_id, 'error_code', p_code
    ))
  );
end;
$$;

comment on function brainops.note_sms_refusal(uuid, uuid, int, text) is
  'Writes down that Twilio refused the text, and does what the code asks for: suppression, consent, pause. For the worker that has the row.';

alter function brainops.note_sms_refusal(uuid, uuid, int, text) owner to brainops_system;

-- ── Sending ────────────────────────────────────────────────────────────────────────────────────

-- The number of the tenant's that the person knows, else the oldest; null where TWILIO_FROM serves.
create function brainops.sms_sender(p_tenant_id uuid, p_number text)
returns text
language sql
stable
set search_path = ''
as $$
  select n.number
  from
    public.sms_numbers as n
    left join public.sms_threads as t on t.tenant_id = n.tenant_id and t.number = p_number and t.sender = n.number
  where n.tenant_id = p_tenant_id and n.active
  order by t.last_at desc nulls last, n.created_at, n.id
  limit 1;
$$;

comment on function brainops.sms_sender(uuid, text) is
  'Which of the tenant''s numbers a text to the person goes out from; null where it has none and TWILIO_FROM serves.';

-- Whether a text to the person is the first from there that tells how to opt out. A text that told
-- and then failed told nobody.
create function brainops.sms_must_tell(p_sms public.ai_sms_queue, p_number text, p_sender text)
returns boolean
language sql
stable
set search_path = ''
as $$
  select
    p_sms.is_marketing
    and not exists (
      select
      from
        public.sms_threads as t
        left join public.ai_sms_queue as told on told.tenant_id = t.tenant_id and told.id = t.told_by
      where
        t.tenant_id = p_sms.tenant_id
        and t.number = p_number
        and t.sender is not distinct from p_sender
        and t.told_by is not null
        and t.told_by <> p_sms.id
        and coalesce(told.status, 'completed') not in ('failed', 'cancelled', 'skipped')
    );
$$;

comment on function brainops.sms_must_tell(public.ai_sms_queue, text, text) is
  'Whether the text has to tell how to opt out: a marketing text to a person who has had no such word from that sender.';

-- The last thing before the text goes: from here on its outcome may be lost, and then to_number and
-- text_sent are what it is recognised by. False where the row is not the caller's any more.
create function brainops.begin_sms(
  p_id uuid,
  p_lease uuid,
  p_number text,
  p_text text,
  p_segments int,
  p_account_sid text,
  p_sender text,
  p_tells boolean
)
returns boolean
language plpgsql
set search_path = ''
as $$
declare
  v_tenant_id uuid;
begin
  update public.ai_sms_queue
  set to_number = p_number, account_sid = p_account_sid, text_sent = p_text, segments = p_segments
  where id = p_id and lease = p_lease and status = 'processing'
  returning tenant_id into v_tenant_id;
  if not found then
    return false;
  end if;
  insert into public.sms_threads as t (tenant_id, number, sender, last_at, told_by)
  values (v_tenant_id, p_number, p_sender, brainops.now(), case when p_tells then p_id end)
  on conflict (tenant_id, number, sender) do update
    set
      last_at = greatest(t.last_at, excluded.last_at),
      told_by = coalesce(excluded.told_by, t.told_by);
  return true;
end;
$$;

comment on function brainops.begin_sms(uuid, uuid, text, text, int, text, text, boolean) is
  'Writes down what is about to be sent, to whom and from where; false where the lease does not hold.';

-- A number that libphonenumber read. The row goes back to be judged by it.
create function brainops.address_sms(p_id uuid, p_lease uuid, p_number text)
returns boolean
language plpgsql
set search_path = ''
as $$
begin
  update public.ai_sms_queue set recipient = p_number where id = p_id and lease = p_lease and status = 'processing';
  return found;
end;
$$;

comment on function brainops.address_sms(uuid, uuid, text) is
  'Writes the recipient in E.164; false where the lease does not hold.';

-- Due again: nothing of the last run is true of the next one.
create function brainops.forget_sms_run()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  new.earlier_message_ids := array(
    select distinct m from unnest(old.earlier_message_ids || old.provider_message_id) as m where m is not null
    union
    -- Told of while the outcome was lost.
    select provider_message_id from public.sms_deliveries
    where tenant_id = old.tenant_id and sms_id = old.id and provider_message_id is not null
  );
  if old.status <> 'unconfirmed' then
    new.times_absent := 0;
  end if;
  new.provider_message_id := null;
  new.sent_at := null;
  new.from_number := null;
  new.segments := null;
  new.account_sid := null;
  new.looked_for_at := null;
  new.text_sent := null;
  new.to_number := null;
  return new;
end;
$$;

create trigger b2_forget_sms_run
before update of status on public.ai_sms_queue
for each row
when (new.status = 'pending' and old.status not in ('pending', 'processing', 'awaiting_approval'))
execute function brainops.forget_sms_run();

-- Tried again: what was about to be sent was not.
create function brainops.unbegin_sms()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  new.text_sent := null;
  return new;
end;
$$;

create trigger b2_unbegin_sms
before update of status on public.ai_sms_queue
for each row
when (old.status = 'processing' and new.status = 'pending' and new.text_sent is not null)
execute function brainops.unbegin_sms();

-- What is known already when an outcome is lost. The callback can be faster than our own time limit;
-- and where begin_sms has written no text, none has gone out, and none can: it asks for the lease.
create function brainops.settle_sms_at_once()
returns trigger
language plpgsql
set search_path = ''
as $$
declare
  v_now constant timestamptz := brainops.now();
  v_told record;
begin
  if new.text_sent is null then
    new.status := case
      when new.cancel_requested_at is not null then 'cancelled'
      when new.attempts >= new.max_attempts then 'failed'
      else 'pending'
    end;
    new.scheduled_for := case when new.status = 'pending' then v_now else new.scheduled_for end;
    new.finished_at := case when new.status <> 'pending' then v_now end;
    return new;
  end if;
  select d.provider_message_id, min(d.occurred_at) as at into v_told
    from public.sms_deliveries as d
    where d.tenant_id = new.tenant_id and d.sms_id = new.id and d.provider_message_id is not null
      and d.provider_message_id <> all (new.earlier_message_ids)
    group by d.provider_message_id
    order by 1
    limit 1;
  if found then
    new.status := 'completed';
    new.finished_at := v_now;
    new.sent_at := coalesce(new.sent_at, v_told.at);
    new.provider_message_id := v_told.provider_message_id;
    new.last_error := null;
  end if;
  return new;
end;
$$;

create trigger b2_settle_sms_at_once
before update of status on public.ai_sms_queue
for each row
when (old.status = 'processing' and new.status = 'unconfirmed')
execute function brainops.settle_sms_at_once();

-- ── Callbacks ──────────────────────────────────────────────────────────────────────────────────

create type brainops.sms_reference as (
  tenant_id uuid,
  sms_id uuid,
  lead_id uuid,
  touch_id uuid,
  enrolment_id uuid,
  to_number text
);

-- The text a callback is about: by our id in its URL, else by the MessageSid; in the archive too.
create function brainops.find_sms(p_row uuid, p_message_sid text)
returns brainops.sms_reference
language plpgsql
stable
set search_path = ''
as $$
declare
  v_found brainops.sms_reference;
begin
  select tenant_id, id, lead_id, touch_id, enrolment_id, to_number into v_found
    from public.ai_sms_queue as q
    where q.id = p_row or (p_row is null and q.provider_message_id = p_message_sid)
    limit 1;
  if not found and p_row is not null then
    select
      a.tenant_id, a.row_id, (a.job_row ->> 'lead_id')::uuid, (a.job_row ->> 'touch_id')::uuid,
      (a.job_row ->> 'enrolment_id')::uuid, a.job_row ->> 'to_number'
      into v_found
      from brainops.job_archive as a
      where a.row_id = p_row and a.table_name = 'ai_sms_queue'
      limit 1;
  end if;
  return v_found;
end;
$$;

-- A callback about a row whose outcome we lost says that Twilio had it.
create function brainops.settle_sms_by_callbacks(p_tenant_id uuid, p_id uuid)
returns void
language sql
set search_path = ''
as $$
  update public.ai_sms_queue as q
  set
    status = 'completed',
    sent_at = coalesce(q.sent_at, told.at),
    provider_message_id = told.provider_message_id,
    last_error = null
  from
    (
      select d.provider_message_id, min(d.occurred_at) as at
      from
        public.sms_deliveries as d
        inner join public.ai_sms_queue as mine on mine.tenant_id = d.tenant_id and mine.id = d.sms_id
      where
        d.tenant_id = p_tenant_id
        and d.sms_id = p_id
        and d.provider_message_id is not null
        and d.provider_message_id <> all (mine.earlier_message_ids)
      group by d.provider_message_id
      order by d.provider_message_id
      limit 1
    ) as told
  where q.tenant_id = p_tenant_id and q.id = p_id and q.status = 'unconfirmed';
$$;

create function brainops.apply_sms_callback(p_event jsonb, p_tenant_id uuid)
returns text
language plpgsql
set search_path = ''
as $$
declare
  v_sid text := coalesce(p_event ->> 'MessageSid', p_event ->> 'SmsSid');
  v_status text := lower(coalesce(p_event ->> 'MessageStatus', p_event ->> 'SmsStatus'));
  v_code int := case when p_event ->> 'ErrorCode' ~ '^[1-9][0-9]{0,6}$' then (p_event ->> 'ErrorCode')::int end;
  v_at timestamptz := brainops.webhook_time(p_event);
  v_sms brainops.sms_reference;
  v_number text;
  v_reason text;
begin
  if v_sid is null or brainops.sms_status_rank(v_status) is null or v_status = 'refused' then
    return 'it has no MessageSid and MessageStatus that anybody knows';
  end if;
  v_sms := brainops.find_sms(brainops.uuid_or_null(p_event ->> 'row'), v_sid);
  if v_sms.tenant_id is null then
    return 'it is about no text of ours';
  end if;
  if v_sms.tenant_id <> p_tenant_id then
    return 'it is about another tenant''s text';
  end if;
  v_number := coalesce(brainops.sms_number(p_event ->> 'To', null), v_sms.to_number, 'unknown');
  perform brainops.lock_sms_number(v_sms.tenant_id, v_number);
  insert into public.sms_deliveries (tenant_id, sms_id, recipient, event, provider_message_id, error_code, occurred_at, metadata)
  values (
    v_sms.tenant_id, v_sms.sms_id, v_number, v_status, v_sid, v_code, v_at,
    jsonb_strip_nulls(jsonb_build_object('from', p_event -> 'From', 'reason', p_event -> 'ErrorMessage'))
  )
  on conflict do nothing;
  if not found then
    return null; -- told before
  end if;

  -- Asked first, because an update of no row still costs the queue's triggers.
  if exists (select from public.ai_sms_queue where id = v_sms.sms_id and status = 'unconfirmed') then
    perform brainops.settle_sms_by_callbacks(v_sms.tenant_id, v_sms.sms_id);
  end if;

  if v_status in ('delivered', 'read') then
    perform brainops.settle_unreachable(v_sms.tenant_id, v_number);
  elsif v_status in ('undelivered', 'failed') then
    v_reason := format('Twilio could not deliver a text: error %s', coalesce(v_code::text, 'unknown'));
    if v_code is not null then
      perform brainops.apply_sms_error(v_sms.tenant_id, v_number, v_sms.lead_id, v_code, v_at, v_reason);
    end if;
  else
    return null;
  end if;
  perform brainops.record_sms_lead_event(
    v_sms.tenant_id, v_number, v_sms.lead_id,
    case when v_status in ('undelivered', 'failed') then 'sms_failed' else 'sms_delivered' end,
    v_at, v_sid,
    jsonb_strip_nulls(jsonb_build_object(
      'sms_id', v_sms.sms_id, 'touch_id', v_sms.touch_id, 'enrolment_id', v_sms.enrolment_id, 'error_code', v_code
    ))
  );
  return null;
end;
$$;

-- Writes a verified event down with the time it came, which Twilio's own events lack.
create function brainops.record_twilio_event(p_event jsonb, p_tenant_id uuid)
returns int
language plpgsql
set search_path = ''
as $$
begin
  return brainops.record_webhook_events(
    'twilio', jsonb_build_array(p_event || jsonb_build_object('received_at', brainops.now())), p_tenant_id
  );
end;
$$;

comment on function brainops.record_twilio_event(jsonb, uuid) is
  'Ledgers a verified event of Twilio''s once, with the time it came; returns 0 where it was known. p_tenant_id: whose own account sent it, null for the installation''s.';

-- When our server took the event: written into it there, as Twilio's events carry no time.
create function brainops.webhook_time(p_event jsonb)
returns timestamptz
language plpgsql
stable
set search_path = ''
as $$
begin
  return coalesce((p_event ->> 'received_at')::timestamptz, brainops.now());
exception
  when data_exception then return brainops.now();
end;
$$;

-- ── What people write ──────────────────────────────────────────────────────────────────────────

-- By the whole text, never by a word in it: "don't stop" is a reply. Case and a full stop or
-- exclamation mark at the end do not count. Twilio's own reading (Advanced Opt-Out) comes first.
create function brainops.sms_keyword(p_body text, p_opt_out_type text)
returns text
language sql
immutable
parallel safe
set search_path = ''
as $$
  select
    case
      when upper(p_opt_out_type) in ('STOP', 'START', 'HELP') then lower(p_opt_out_type)
      when w.word in (
        'STOP',
        'STOPALL',
        'STOP ALL',
        'UNSUBSCRIBE',
        'CANCEL',
        'END',
        'QUIT',
        'REVOKE',
        'OPTOUT',
        'OPT OUT',
        'OPT-OUT'
      ) then 'stop'
      when w.word in ('START', 'UNSTOP') then 'start'
      when w.word = 'YES' then 'yes'
      when w.word in ('HELP', 'INFO') then 'help'
      else 'reply'
    end
  from
    (
      select
        upper(
          regexp_replace(
            regexp_replace(p_body, '^[[:space:]"''“”‘’.]+|[[:space:]"''“”‘’.!?,;]+$', '', 'g'),
            '[[:space:]]+',
            ' ',
            'g'
          )
        ) as word
    ) as w;
$$;

comment on function brainops.sms_keyword(text, text) is
  'stop, start, help, yes (which opts in only whom it was asked of) or reply.';

-- Whose a text to this number is: the tenant that has the number; for TWILIO_FROM, whoever texted
-- the person last from it; else the tenant that takes what is nobody's.
create function brainops.sms_tenants(p_from text, p_to text, p_tenant_id uuid)
returns table (tenant_id uuid, is_the_one boolean)
language plpgsql
stable
set search_path = ''
as $$
declare
  v_owner uuid;
begin
  if p_tenant_id is not null then
    return query select p_tenant_id, true;
    return;
  end if;
  select n.tenant_id into v_owner from public.sms_numbers as n where n.number = p_to limit 1;
  return query
    with candidates as (
      select t.tenant_id, t.last_at, t.tenant_id = v_owner as owns
      from public.sms_threads as t
      where t.number = p_from and t.sender is not distinct from case when v_owner is not null then p_to end
      union all
      select v_owner, 'infinity', true where v_owner is not null
      union all
      select id, '-infinity', false from public.tenants
      where is_default or (select count(*) from public.tenants) = 1
    ),
    ranked as (
      select c.tenant_id, max(c.last_at) as last_at, bool_or(c.owns) as owns from candidates as c group by c.tenant_id
    )
    select r.tenant_id, row_number() over (order by r.owns desc, r.last_at desc, r.tenant_id) = 1
    from ranked as r
    -- Nobody's default where somebody's thread is.
    where r.last_at > '-infinity' or not exists (select from ranked as o where o.last_at > '-infinity');
end;
$$;

comment on function brainops.sms_tenants(text, text, uuid) is
  'The tenants that texted a person from a number; is_the_one: whose a reply is. Of a number that is one tenant''s, that one. By the number and the account that signed, never by the text.';

create function brainops.apply_sms_inbound(p_event jsonb, p_tenant_id uuid)
returns text
language plpgsql
set search_path = ''
as $$
declare
  v_sid text := coalesce(p_event ->> 'MessageSid', p_event ->> 'SmsSid');
  v_from text := p_event ->> 'From';
  v_to text := p_event ->> 'To';
  v_body text := coalesce(p_event ->> 'Body', '');
  v_at timestamptz := brainops.webhook_time(p_event);
  v_kind text := brainops.sms_keyword(v_body, p_event ->> 'OptOutType');
  v_opt_out_type text := nullif(p_event ->> 'OptOutType', '');
  v_tenant record;
  v_tenants int := 0;
begin
  if coalesce(length(v_sid), 0) not between 1 and 64 or coalesce(length(v_from), 0) not between 3 and 32
    or coalesce(length(v_to), 0) not between 3 and 64
  then
    return 'it has no usable MessageSid, From and To';
  end if;
  for v_tenant in
    select t.tenant_id, t.is_the_one from brainops.sms_tenants(v_from, v_to, p_tenant_id) as t order by t.tenant_id
  loop
    if v_tenant.is_the_one or v_kind in ('stop', 'start') then
      v_tenants := v_tenants + 1;
      perform brainops.lock_sms_number(v_tenant.tenant_id, v_from);
      perform brainops.apply_sms_inbound_for(
        v_tenant.tenant_id, v_sid, v_from, v_to, v_body,
        case
          when v_kind <> 'yes' then v_kind
          -- Asked for it is a word; out of the blue it is an answer to something else.
          when brainops.consent_state(v_tenant.tenant_id, 'sms', v_from) = 'pending' then 'start'
          else 'reply'
        end,
        v_at, v_opt_out_type, p_event ->> 'NumMedia',
        case
          when p_tenant_id is not null then 'own'
          when exists (select from public.sms_numbers as n where n.tenant_id = v_tenant.tenant_id and n.number = v_to) then v_to
        end
      );
    end if;
  end loop;
  return case when v_tenants = 0 then 'nobody here has texted this person from that number' end;
end;
$$;

create function brainops.apply_sms_inbound_for(
  p_tenant_id uuid,
  p_sid text,
  p_from text,
  p_to text,
  p_body text,
  p_kind text,
  p_at timestamptz,
  p_opt_out_type text,
  p_media text,
  p_sender text
)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_lead_id uuid;
  v_inbound_id uuid;
  v_help text;
begin
  select l.id into v_lead_id from brainops.sms_leads(p_tenant_id, p_from) as l order by l.updated_at desc, l.id limit 1;
  insert into public.sms_inbound (tenant_id, message_sid, from_number, to_number, body, kind, lead_id, received_at, metadata)
  values (
    p_tenant_id, p_sid, p_from, p_to, p_body, p_kind, v_lead_id, p_at,
    jsonb_strip_nulls(jsonb_build_object('opt_out_type', p_opt_out_type, 'media', nullif(p_media, '0')))
  )
  on conflict do nothing
  returning id into v_inbound_id;
  if v_inbound_id is null then
    return; -- told before
  end if;
  -- A thread of a shared number is begun by a tenant's text alone: whoever is written to there by a
  -- stranger would else be one of those whom its STOP means.
  if p_sender is not null then
    insert into public.sms_threads as t (tenant_id, number, sender, last_at)
    values (p_tenant_id, p_from, p_sender, p_at)
    on conflict (tenant_id, number, sender) do update
      set last_at = greatest(t.last_at, excluded.last_at);
  end if;

  if p_kind in ('stop', 'start') then
    perform brainops.settle_sms_consent(p_tenant_id, p_from);
    perform brainops.record_sms_consent(
      p_tenant_id, p_from, v_lead_id, case p_kind when 'stop' then 'denied' else 'granted' end, p_at,
      jsonb_build_object('message_sid', p_sid, 'text', left(p_body, 200), 'to', p_to)
    );
    perform brainops.record_sms_lead_event(
      p_tenant_id, p_from, null, case p_kind when 'stop' then 'opted_out' else 'opted_in' end, p_at, p_sid,
      jsonb_build_object('inbound_id', v_inbound_id)
    );
  elsif p_kind = 'help' then
    -- Twilio has answered already where Advanced Opt-Out is on.
    if p_opt_out_type is null and p_from ~ '^\+[1-9][0-9]{6,14}$' then
      select
        coalesce(
          nullif(btrim(t.settings ->> 'sms_help_reply'), ''),
          '{{ tenant.name }}: you get text messages from us at this number. Reply STOP to opt out.'
        )
        into v_help
        from public.tenants as t
        where t.id = p_tenant_id;
      insert into public.ai_sms_queue (tenant_id, recipient, body, metadata, lead_id, idempotency_key)
      values (
        p_tenant_id, p_from, v_help, jsonb_build_object('transactional', true, 'priority', 'high', 'in_reply_to', p_sid),
        v_lead_id, 'twilio:help:' || p_sid
      )
      on conflict do nothing;
    end if;
  else
    perform brainops.record_sms_lead_event(
      p_tenant_id, p_from, null, 'sms_replied', p_at, p_sid,
      jsonb_build_object('inbound_id', v_inbound_id, 'text', left(p_body, 1600))
    );
  end if;
end;
$$;

-- One event of Twilio's. Returns null, or why it has no effect. p_tenant_id: whose account or text it
-- is about; null for what somebody wrote to the installation's own account.
create function brainops.apply_twilio_event(p_event jsonb, p_tenant_id uuid)
returns text
language plpgsql
set search_path = ''
as $$
begin
  return case
    when jsonb_typeof(p_event) <> 'object' then 'it is no event'
    when p_event ->> 'kind' = 'status' then brainops.apply_sms_callback(p_event, p_tenant_id)
    when p_event ->> 'kind' = 'inbound' then brainops.apply_sms_inbound(p_event, p_tenant_id)
    else 'it is neither a status nor a text'
  end;
end;
$$;

comment on function brainops.apply_twilio_event(jsonb, uuid) is
  'Applies a status callback or an inbound text; null, or why it has no effect. Any order, any number of times: one end state.';

-- ── Lost outcomes ──────────────────────────────────────────────────────────────────────────────

-- Spaces at the ends and runs of them are not Twilio's to keep.
create function brainops.same_text(p_one text, p_other text)
returns boolean
language sql
immutable
parallel safe
set search_path = ''
as $$
  select
    normalize(btrim(regexp_replace(p_one, '[[:space:]]+', ' ', 'g')), NFC) = normalize(
      btrim(regexp_replace(p_other, '[[:space:]]+', ' ', 'g')),
      NFC
    );
$$;

-- Compares rows whose outcome was lost with all that the account has in its list to one number since
-- (p_messages: sid, body, created_at). Texts are told apart by number, words and time; where two rows
-- have the same words, the first message is the first row's, and of two rows with one message the
-- second one was not sent. A message that explains no row leaves everything open: then a person
-- looks. What is surely not there is made due again, twice; the third time it fails.
create function brainops.reconcile_sms(p_account_sid text, p_number text, p_messages jsonb)
returns table (id uuid, verdict text)
language plpgsql
set search_path = ''
as $$
declare
  -- The two clocks, and that Twilio keeps whole seconds.
  c_clocks constant interval := '2 minutes';
  v_row public.ai_sms_queue;
  v_message record;
  v_strangers int;
begin
  -- One at a time, or two would give one message to two rows.
  perform pg_advisory_xact_lock(hashtextextended('reconcile_sms ' || p_account_sid || p_number, 0));
  -- A row that is under way may be the one that a message belongs to.
  if exists (
    select from public.ai_sms_queue as q
    where q.account_sid = p_account_sid and q.to_number = p_number and q.status = 'processing'
  ) then
    return;
  end if;
  for v_row in
    select * from public.ai_sms_queue as q
    where q.account_sid = p_account_sid and q.to_number = p_number and q.status = 'unconfirmed'
    order by q.started_at, q.id
    for update
  loop
    select m.sid, m.created_at into v_message
      from brainops.unexplained_messages(p_messages, v_row.id, v_row.started_at - c_clocks) as m
      where brainops.same_text(m.body, v_row.text_sent)
      order by m.created_at, m.sid
      limit 1;
    if found then
      update public.ai_sms_queue as q
      set status = 'completed', provider_message_id = v_message.sid, sent_at = v_message.created_at, last_error = null
      where q.id = v_row.id;
      id := v_row.id;
      verdict := 'sent';
      return next;
    end if;
  end loop;
  -- Only now is it known which messages are nobody's.
  for v_row in
    select * from public.ai_sms_queue as q
    where q.account_sid = p_account_sid and q.to_number = p_number and q.status = 'unconfirmed'
    order by q.started_at, q.id
  loop
    select count(*) into v_strangers
      from brainops.unexplained_messages(p_messages, v_row.id, v_row.started_at - c_clocks);
    id := v_row.id;
    verdict := brainops.settle_absent_sms(v_row, v_strangers);
    return next;
  end loop;
end;
$$;

comment on function brainops.reconcile_sms(text, text, jsonb) is
  'Settles unconfirmed texts to a number by all messages that Twilio has to it; verdict: sent, not sent (due again), given up, unclear, too early.';

-- A text that is not in Twilio's list, where so many texts are that nobody knows.
create function brainops.settle_absent_sms(p_sms public.ai_sms_queue, p_strangers int)
returns text
language plpgsql
set search_path = ''
as $$
declare
  -- Twilio's list shows a message within seconds; this is many times that.
  c_patience constant interval := '10 minutes';
  c_times constant int := 3;
  v_verdict constant text := case
    when p_strangers > 0 then 'unclear'
    when p_sms.started_at > brainops.now() - c_patience then 'too early'
    when p_sms.times_absent + 1 >= c_times then 'given up'
    else 'not sent'
  end;
begin
  update public.ai_sms_queue as q
  set
    times_absent = q.times_absent + (v_verdict in ('given up', 'not sent'))::int,
    status = case v_verdict
      when 'given up' then 'failed'
      when 'not sent' then 'pending'
      else q.status
    end,
    scheduled_for = case v_verdict
      when 'not sent' then brainops.now()
      else q.scheduled_for
    end,
    last_error = case v_verdict
      when 'unclear' then format('Twilio has %s other text(s) to %s from that time: compare, then brainops.confirm', p_strangers, q.to_number)
      when 'given up' then format('%s times Twilio gave no answer and did not have the text', c_times)
      when 'not sent' then 'Twilio gave no answer and does not have the text: again'
      else q.last_error
    end
  where q.id = p_sms.id;
  return v_verdict;
end;
$$;

-- Messages of Twilio's list that no row of ours is known to be, but for the row in question.
create function brainops.unexplained_messages(p_messages jsonb, p_id uuid, p_since timestamptz)
returns table (sid text, body text, created_at timestamptz)
language sql
stable
set search_path = ''
as $$
  select m.sid, m.body, m.created_at
  from jsonb_to_recordset(p_messages) as m (sid text, body text, created_at timestamptz)
  where
    m.created_at >= p_since
    and not exists (
      select
      from public.ai_sms_queue as q
      where q.provider_message_id = m.sid
    )
    and not exists (
      select
      from public.ai_sms_queue as q
      where q.earlier_message_ids <> '{}' and q.earlier_message_ids @> array[m.sid]
    )
    and not exists (
      select
      from public.sms_deliveries as d
      where d.provider_message_id = m.sid and d.sms_id is distinct from p_id
    );
$$;

-- What to ask Twilio about: settles what callbacks have told meanwhile, and returns the rest.
create function brainops.unconfirmed_sms(p_limit int)
returns table (account_sid text, number text, since timestamptz, tenant_ids uuid[])
language plpgsql
set search_path = ''
as $$
declare
  v_now constant timestamptz := brainops.now();
begin
  perform brainops.settle_sms_by_callbacks(told.tenant_id, told.id)
  from (
    select q.tenant_id, q.id
    from public.ai_sms_queue as q
    where q.status = 'unconfirmed'
      and exists (
        select from public.sms_deliveries as d
        where d.tenant_id = q.tenant_id and d.sms_id = q.id and d.provider_message_id <> all (q.earlier_message_ids)
      )
    limit p_limit
  ) as told;
  return query
    with
      due as (
        select
          q.account_sid,
          q.to_number as number,
          min(q.started_at) - interval '2 minutes' as since,
          array_agg(distinct q.tenant_id) as tenant_ids
        from public.ai_sms_queue as q
        where q.status = 'unconfirmed'
          and q.account_sid is not null
          -- Later than that a person has to look: Twilio's list is not read that far back.
          and q.started_at between v_now - interval '3 days' and v_now - interval '1 minute'
          -- Ever more seldom: what is not clear by now may stay so.
          and (q.looked_for_at is null or q.looked_for_at < v_now - (v_now - q.started_at) / 4)
        group by q.account_sid, q.to_number
        order by max(q.looked_for_at) nulls first, min(q.started_at)
        limit p_limit
      ),
      -- Here already, so that a list that can't be had does not stand before all others.
      looked_for as (
        update public.ai_sms_queue as q
        set looked_for_at = v_now
        from due
        where q.account_sid = due.account_sid and q.to_number = due.number and q.status = 'unconfirmed'
      )
    select due.account_sid, due.number, due.since, due.tenant_ids from due;
end;
$$;

comment on function brainops.unconfirmed_sms(int) is
  'Which lists of Twilio''s to ask for: through which account texts with a lost outcome went, to whom, and since when; once callbacks have settled what they can.';

-- ── Rights ─────────────────────────────────────────────────────────────────────────────────────

do $$
declare
  v_function regprocedure;
begin
  for v_function in
    select p.oid::regprocedure
    from pg_catalog.pg_proc as p
    where p.pronamespace = 'brainops'::regnamespace
      and p.proname in (
        'check_sms_number', 'check_sms_row', 'read_national_number', 'forget_sms_run', 'unbegin_sms', 'settle_sms_at_once',
        'sms_number', 'tenant_country', 'sms_address', 'sms_status_rank', 'sms_error_class', 'sms_sender',
        'sms_must_tell', 'lock_sms_number', 'begin_sms', 'address_sms', 'note_sms_refusal', 'settle_sms_consent', 'sms_leads', 'record_sms_lead_event',
        'record_sms_consent', 'settle_unreachable', 'pause_sms', 'apply_sms_error', 'find_sms',
        'settle_sms_by_callbacks', 'record_twilio_event', 'apply_sms_callback', 'webhook_time', 'sms_keyword', 'sms_tenants',
        'apply_sms_inbound', 'apply_sms_inbound_for', 'apply_twilio_event', 'same_text', 'reconcile_sms', 'settle_absent_sms',
        'unexplained_messages', 'unconfirmed_sms'
      )
  loop
    execute format('revoke execute on function %s from public', v_function);
    execute format('grant execute on function %s to brainops_system', v_function);
  end loop;
end;
$$;

grant execute
on function brainops.sms_number(text, text),
brainops.tenant_country(jsonb),
brainops.sms_address(public.ai_sms_queue),
brainops.sms_status_rank(text),
brainops.sms_error_class(int)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin;

grant execute
on function brainops.sms_sender(uuid, text),
brainops.sms_must_tell(public.ai_sms_queue, text, text),
brainops.begin_sms(uuid, uuid, text, text, int, text, text, boolean),
brainops.address_sms(uuid, uuid, text),
brainops.note_sms_refusal(uuid, uuid, int, text)
to brainops_worker;
