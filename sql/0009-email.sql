-- E-mail: the queue that clients insert into, what the provider reported back, and whom not to
-- write to.
set local lock_timeout = '2s';

create table public.ai_email_queue (
  id uuid primary key default gen_random_uuid(),
  tenant_id uuid not null,
  recipient text not null,
  subject text not null,
  body text not null,
  scheduled_for timestamptz not null default now(),
  status text not null default 'pending',
  metadata jsonb not null default '{}',
  created_at timestamptz not null default now(),
  sent_at timestamptz,
  lead_id uuid,
  provider_message_id text,
  constraint ai_email_queue_lead
    foreign key (tenant_id, lead_id) references public.revenue_leads (tenant_id, id)
      on delete set null (lead_id)
);

create index ai_email_queue_lead_id on public.ai_email_queue (tenant_id, lead_id) where lead_id is not null;
create index ai_email_queue_provider_message_id on public.ai_email_queue (provider_message_id)
where provider_message_id is not null;
-- The address first: a bounce without any id is looked up by it, before its tenant is known.
create index ai_email_queue_recipient on public.ai_email_queue (lower(recipient), tenant_id);

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
  'Variables for Liquid, and: marketing true (adds unsubscribe headers), priority high, lead_id, reply_to, category.';
comment on column public.ai_email_queue.sent_at is 'When the provider took the mail; null until it did.';
comment on column public.ai_email_queue.lead_id is
  'Filled from recipient or metadata.lead_id where that is a lead of the tenant.';
comment on column public.ai_email_queue.provider_message_id is
  'SendGrid''s X-Message-Id; events carry it before the first dot of sg_message_id.';

-- A lead by its id, for callers that may know it: the tenant's own, or (services that have not
-- said whose row it is, and admins) anyone's.
create function brainops.find_lead(p_lead_id uuid, p_tenant_id uuid)
returns uuid
language sql
stable
security definer
set search_path = ''
as $$
  select l.id
  from public.revenue_leads as l
  where
    l.id = p_lead_id
    and (p_tenant_id is null or l.tenant_id = p_tenant_id)
    and (
      l.tenant_id = (select brainops.current_tenant_id())
      or brainops.may_name_tenant()
      or pg_catalog.pg_has_role(session_user, 'brainops_admin', 'member')
    );
$$;

comment on function brainops.find_lead(uuid, uuid) is
  'The id, where it is a lead that the caller may refer to; else null.';

alter function brainops.find_lead(uuid, uuid) owner to brainops_system;
revoke execute on function brainops.find_lead(uuid, uuid) from public;
grant execute
on function brainops.find_lead(uuid, uuid)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin;

-- Refuses what can never be sent, naming the column, the value and the remedy. Runs before the
-- tenant is filled in, which may come from the lead.
create function brainops.check_email_row()
returns trigger
language plpgsql
set search_path = ''
as $$
declare
  c_address constant text := '^[a-z0-9.!#$%&''*+/=?^_`{|}~-]{1,64}@([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9-]{2,63}$';
  v_lead_id uuid;
begin
  new.recipient := btrim(new.recipient, E' \t\r\n');
  -- Clients write the JSON null where they mean none.
  new.metadata := coalesce(nullif(new.metadata, 'null'), '{}');
  v_lead_id := brainops.uuid_or_null(new.recipient);

  if coalesce(new.recipient, '') = '' then
    raise exception 'recipient: is empty'
      using errcode = 'OP004', column = 'recipient', hint = 'Give one e-mail address, or the id of a lead.';
  end if;
  if v_lead_id is null and (new.recipient !~* c_address or length(new.recipient) > 254) then
    raise exception 'recipient: % is not an e-mail address', quote_literal(left(new.recipient, 120))
      using errcode = 'OP004', column = 'recipient',
        hint = 'Give one bare address such as ann@example.com (a domain with other letters in punycode), or the id of a lead.';
  end if;
  if coalesce(btrim(new.subject), '') = '' then
    raise exception 'subject: is empty'
      using errcode = 'OP005', column = 'subject', hint = 'Give a subject of 1 to 998 characters.';
  end if;
  if length(new.subject) > 998 then
    raise exception 'subject: has % characters, at most 998 are allowed', length(new.subject)
      using errcode = 'OP005', column = 'subject', hint = 'Shorten it.';
  end if;
  if new.subject ~ '[\x01-\x1f\x7f]' then
    raise exception 'subject: % holds a control character', quote_literal(left(new.subject, 120))
      using errcode = 'OP005', column = 'subject', hint = 'Remove line breaks, tabs and other control characters.';
  end if;
  if coalesce(new.body, '') = '' then
    raise exception 'body: is empty'
      using errcode = 'OP005', column = 'body', hint = 'Give the mail''s text or HTML.';
  end if;
  if octet_length(new.body) > 1048576 then
    raise exception 'body: has % bytes, at most 1048576 (1 MiB) are allowed', octet_length(new.body)
      using errcode = 'OP005', column = 'body', hint = 'Link to large content instead of sending it.';
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
    -- The lead may be gone by now: the gate says so when the mail is due.
    return new;
  end if;
  if v_lead_id is not null then
    new.lead_id := brainops.find_lead(v_lead_id, new.tenant_id);
    if new.lead_id is null then
      raise exception 'recipient: % is no lead of this tenant', new.recipient
        using errcode = 'OP004', column = 'recipient', hint = 'Give an e-mail address, or the id of a row in revenue_leads.';
    end if;
  end if;
  return new;
end;
$$;

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

comment on table public.email_bounces is 'Mails that came back. A hard bounce suppresses the address.';
comment on column public.email_bounces.bounce_type is
  'hard: the address does not exist or is closed. soft: blocked or full now, may work later.';

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
  'As given; compared without regard to case. sha256:… stands for a person who was forgotten.';
comment on column public.contact_suppressions.reason is
  'bounced, complained, unsubscribed, forgotten, manual, or a word of your own.';
comment on column public.contact_suppressions.source is 'Who said so: sendgrid, unsubscribe_link, client, ….';
comment on column public.contact_suppressions.expires_at is 'Null: for ever.';

create table public.email_unsubscribe_links (
  id uuid primary key default gen_random_uuid(),
  tenant_id uuid not null references public.tenants (id),
  address_key text not null,
  -- 244 random bits; two uuids, because Postgres has no other generator without an extension.
  token text not null default replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''),
  created_at timestamptz not null default now(),
  constraint email_unsubscribe_links_once unique (tenant_id, address_key)
);

create index email_unsubscribe_links_token on public.email_unsubscribe_links (token);

comment on table public.email_unsubscribe_links is
  'The token in each recipient''s unsubscribe link (RFC 8058), the same in every mail to the address.';

select brainops.protect_table(t)
from
  unnest(
    array[
      'public.email_deliveries',
      'public.email_bounces',
      'public.contact_suppressions',
      'public.email_unsubscribe_links'
    ]::regclass[]
  ) as t;

-- Reports are the provider's to write, links the worker's.
revoke insert, update, delete on public.email_deliveries, public.email_bounces from brainops_tenant, brainops_service;
revoke all on public.email_unsubscribe_links from brainops_tenant, brainops_service;

-- The address that a row is for, right now: its lead's, else its recipient; null for a lead that
-- is gone or has none.
create function brainops.email_address(p_email public.ai_email_queue)
returns text
language sql
stable
set search_path = ''
as $$
  select
    case
      when brainops.uuid_or_null(p_email.recipient) is null then p_email.recipient
      else (
        select nullif(btrim(l.email), '')
        from public.revenue_leads as l
        where l.tenant_id = p_email.tenant_id and l.id = brainops.uuid_or_null(p_email.recipient)
      )
    end;
$$;

comment on function brainops.email_address(public.ai_email_queue) is
  'The address that a mail goes to as things stand: its recipient, or that lead''s; null for a lead that is gone or has none.';

create function brainops.address_digest(p_address text)
returns text
language sql
immutable
set search_path = ''
as $$
  select 'sha256:' || encode(sha256(convert_to(lower(btrim(p_address)), 'UTF8')), 'hex');
$$;

comment on function brainops.address_digest(text) is 'What is left of the address of a person who was forgotten.';

create function brainops.gate_email(p_ids uuid[])
returns setof brainops.verdict
language sql
stable
set search_path = ''
as $$
  select
    e.id,
    case
      when e.address is null then 'fail'
      else 'skip'
    end,
    null::timestamptz,
    case
      when e.address is null then 'recipient: lead ' || e.recipient || ' is gone or has no e-mail address; give an address and set status to pending'
      else 'suppressed: ' || s.reason
    end
  from
    (
      select q.id, q.tenant_id, q.recipient, brainops.email_address(q) as address
      from public.ai_email_queue as q
      where q.id = any (p_ids)
    ) as e
    left join public.contact_suppressions as s
      on s.tenant_id = e.tenant_id
      and s.channel = 'email'
      and s.address_key in (lower(e.address), brainops.address_digest(e.address))
      and (s.expires_at is null or s.expires_at > brainops.now())
  where e.address is null or s.id is not null;
$$;

comment on function brainops.gate_email(uuid[]) is
  'Which of the mails may not go: suppressed recipients (skip), leads without an address (fail).';

create function brainops.unsubscribe_token(p_tenant_id uuid, p_address text)
returns text
language sql
set search_path = ''
as $$
  insert into public.email_unsubscribe_links as l (tenant_id, address_key)
  values (p_tenant_id, lower(btrim(p_address)))
  on conflict (tenant_id, address_key) do update set address_key = l.address_key
  returning token;
$$;

comment on function brainops.unsubscribe_token(uuid, text) is
  'The token of the recipient''s unsubscribe link; made when first asked for.';

-- By whoever holds the token: no login, no tenant. Twice is as once.
create function brainops.unsubscribe(p_token text)
returns boolean
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_link public.email_unsubscribe_links;
begin
  select * into v_link from public.email_unsubscribe_links where token = p_token;
  if not found then
    return false;
  end if;
  insert into public.contact_suppressions as s (tenant_id, channel, address, reason, source)
  values (v_link.tenant_id, 'email', v_link.address_key, 'unsubscribed', 'unsubscribe_link')
  on conflict (tenant_id, channel, address_key) do update
    set
      expires_at = null,
      -- A word given to us; what SendGrid is told later does not take it back.
      source = case when s.reason = 'unsubscribed' then excluded.source else s.source end;
  return true;
end;
$$;

comment on function brainops.unsubscribe(text) is
  'Suppresses the address of an unsubscribe link; false for an unknown token.';

alter function brainops.unsubscribe(text) owner to brainops_system;
revoke execute
on function brainops.unsubscribe(text), brainops.unsubscribe_token(uuid, text), brainops.gate_email(uuid[])
from public;
grant execute on function brainops.unsubscribe_token(uuid, text), brainops.gate_email(uuid[]) to brainops_worker;

select
  brainops.define_job_table(
    'public.ai_email_queue',
    p_task_identifier => 'email__send',
    p_effect_is_idempotent => false, -- SendGrid has no idempotency key
    p_channel => 'email',
    p_gate => 'brainops.gate_email',
    p_sender => 'sendgrid',
    p_result_columns => array['sent_at', 'provider_message_id']
  );

create trigger a0_check_email_row
before insert or update of recipient, subject, body, metadata on public.ai_email_queue
for each row
execute function brainops.check_email_row();
