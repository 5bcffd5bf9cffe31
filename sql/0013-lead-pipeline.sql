-- Leads as a pipeline: stages, scores with their reasons, one row for each person, and the stream
-- of everything that happens to a lead.
--
-- A person is who has an e-mail address, or a phone number, in one tenant. Whoever inserts the same
-- person again gets the row that he asked for (RETURNING works), but that row is merged into the
-- first one before the statement ends, and its id goes on as an alias:
--
--   insert ──▶ before: whose address is it? ──nobody's──▶ a lead
--                        └─▶ another lead's: fill it, write the alias, mark the row (merged_into)
--              after: a marked row is deleted
--
-- So a trigger of another table's business that hangs on revenue_leads after insert says
-- "when (new.merged_into is null)".
--
-- Lock order: lead_keys, then leads by id, then what refers to them.
set local lock_timeout = '2s';

-- Words that clients write -> our stages. Spaces and hyphens are as underscores. Null for a word
-- that nobody knows.
create function brainops.normal_stage(p_word text)
returns text
language sql
immutable
parallel safe
as $$
  select
    case pg_catalog.regexp_replace(pg_catalog.lower(pg_catalog.btrim(p_word)), '[\s-]+', '_', 'g')
      when 'new' then 'new'
      when 'new_real' then 'new'
      when 'enriched' then 'new'
      when 'open' then 'new'
      when 'contacted' then 'contacted'
      when 'outreach_enrolled' then 'contacted'
      when 'outreach_sent' then 'contacted'
      when 'replied' then 'contacted'
      when 'qualified' then 'qualified'
      when 'contact_ready' then 'qualified'
      when 'outreach_pending_approval' then 'qualified'
      when 'proposal_drafted' then 'qualified'
      when 'proposal_approved' then 'qualified'
      when 'proposal_sent' then 'proposal_sent'
      when 'proposal' then 'proposal_sent'
      when 'negotiating' then 'negotiating'
      when 'negotiation' then 'negotiating'
      when 'meeting_booked' then 'negotiating'
      when 'won' then 'won'
      when 'closed_won' then 'won'
      when 'won_invoice_pending' then 'won'
      when 'invoiced' then 'won'
      when 'paid' then 'won'
      when 'customer' then 'won'
      when 'lost' then 'lost'
      when 'closed_lost' then 'lost'
      when 'nurturing' then 'nurturing'
      when 'nurture' then 'nurturing'
    end;
$$;

comment on function brainops.normal_stage(text) is
  'The stage that a word means (WON, paid, invoiced: won; replied, outreach_sent: contacted; …); null for an unknown word.';

-- The stage machine. Forwards one may skip; backwards leads only what really happens: a proposal is
-- withdrawn or made anew. Nothing becomes new again. Won and lost end it; by an explicit update they
-- open again as contacted or nurturing. Who pays has won, whatever was thought of him before; and a
-- deal that was won can fall through.
create function brainops.next_stages(p_stage text)
returns text[]
language sql
immutable
parallel safe
as $$
  select
    case p_stage
      when 'new' then '{contacted,qualified,proposal_sent,negotiating,won,lost,nurturing}'::text[]
      when 'contacted' then '{qualified,proposal_sent,negotiating,won,lost,nurturing}'
      when 'qualified' then '{contacted,proposal_sent,negotiating,won,lost,nurturing}'
      when 'proposal_sent' then '{qualified,negotiating,won,lost,nurturing}'
      when 'negotiating' then '{proposal_sent,won,lost,nurturing}'
      when 'nurturing' then '{contacted,qualified,proposal_sent,negotiating,won,lost}'
      when 'won' then '{lost,contacted,nurturing}'
      when 'lost' then '{won,contacted,nurturing}'
      else '{}'
    end;
$$;

comment on function brainops.next_stages(text) is
  'The stages that a lead may go to from this one. A lead may be inserted at any.';

-- How far a stage is, for merging two rows of one person: the further one holds.
create function brainops.stage_rank(p_stage text)
returns int
language sql
immutable
parallel safe
as $$
  select
    pg_catalog.array_position(
      array['new', 'nurturing', 'contacted', 'qualified', 'proposal_sent', 'negotiating', 'lost', 'won'],
      p_stage
    );
$$;

comment on function brainops.stage_rank(text) is
  'How far a stage is along the way, from 1; lost counts as further than negotiating.';

-- These two are part of a generated column and of every insert: without a search_path, so that they
-- are inlined.
create function brainops.email_key(p_email text)
returns text
language sql
immutable
parallel safe
as $$
  select
    case
      when p_email operator(pg_catalog.~) '^\s*[^@\s]+@[^@\s]+\.[^@\s]+\s*$' then pg_catalog.lower(
        pg_catalog.btrim(p_email, E' \t\r\n')
      )
    end;
$$;

comment on function brainops.email_key(text) is
  'What two spellings of one e-mail address have in common; null for what is no address ("n/a", "-"), which makes nobody the same person.';

create function brainops.phone_e164(p_phone text, p_country text default 'US')
returns text
language sql
immutable
parallel safe
set search_path = ''
as $$
  select
    case
      -- A "+" is a number as the world writes it; 00 is what Europe dials for it.
      when p_phone ~ '^\s*(\+|00)'
      and d ~ '^[1-9][0-9]{6,14}$' then '+' || d
      -- Ten digits where the North American plan rules, and eleven with its leading 1.
      when p_country in ('US', 'CA')
      and d ~ '^1?[2-9][0-9]{2}[2-9][0-9]{6}$' then '+1' || right(d, 10)
    end
  from
    (
      select regexp_replace(regexp_replace(p_phone, '(?i)\s*(ext|x|#).*$', ''), '^\s*00|\(0\)|\D', '', 'g') as d
      where length(p_phone) <= 60
    ) as s;
$$;

comment on function brainops.phone_e164(text, text) is
  'A phone number as +<country><number>, or null where that can''t be told: a number without "+" is understood in the United States and Canada alone. `brainops leads import` knows every country''s plan.';

alter table public.revenue_leads
add column merged_into uuid,
add column tier text not null generated always as (
  case
    when score >= 80 then 'hot'
    when score >= 60 then 'warm'
    when score >= 40 then 'cool'
    else 'cold'
  end
) stored,
add column email_key text generated always as (
  case
    when merged_into is null then brainops.email_key(email)
  end
) stored,
add column phone_e164 text,
add column owner_email text,
add column state text,
add column scored_at timestamptz,
add column rescore_requested_at timestamptz,
-- What existing clients write beside the above.
add column location text,
add column industry text,
add column status text,
add column is_test boolean default false,
add column is_demo boolean default false,
add column assigned_agent_id uuid,
add column lead_id uuid,
add constraint revenue_leads_phone_e164_shape check (phone_e164 ~ '^\+[1-9][0-9]{6,14}$');

alter table public.revenue_leads alter column created_at set default brainops.now();
alter table public.revenue_leads alter column updated_at set default brainops.now();

comment on column public.revenue_leads.stage is
  'new, contacted, qualified, proposal_sent, negotiating, won, lost or nurturing; other words are understood where brainops.normal_stage knows them. brainops.next_stages says where a lead may go.';
comment on column public.revenue_leads.score is
  '0 (cold) to 100 (hot), reckoned from lead_score_events. What a client writes is kept (as the reason set_by_client) and goes on from there; above 0 and below 1 is taken as a share of 1, so 0.85 is 85.';
comment on column public.revenue_leads.tier is 'hot from 80, warm from 60, cool from 40, else cold.';
comment on column public.revenue_leads.email_key is 'The address as it is compared; null where email is no address.';
comment on column public.revenue_leads.phone_e164 is
  'phone as +<country><number>; null where that can''t be told. May be given.';
comment on column public.revenue_leads.owner_email is 'Who looks after the lead; null for nobody.';
comment on column public.revenue_leads.state is
  'State or province, e.g. CO; null for not known. The rules for text messages go by it.';
comment on column public.revenue_leads.merged_into is
  'Not null only while an insert of a person who is a lead already is under way.';
comment on column public.revenue_leads.scored_at is 'When the score was last reckoned; null: not yet.';
comment on column public.revenue_leads.rescore_requested_at is
  'Set it, and the score is reckoned anew by a job; null when that is done.';
comment on column public.revenue_leads.status is 'A word of existing clients; nothing here goes by it.';
comment on column public.revenue_leads.lead_id is 'Link of existing clients to a table of theirs.';

-- Every key that makes somebody the same person, and whose it is. A second table because its unique
-- key makes a concurrent insert of the same person wait for the first, and then merge, where one on
-- the leads would make it fail.
create table brainops.lead_keys (
  tenant_id uuid not null references public.tenants (id)
    on delete cascade,
  key text not null,
  lead_id uuid not null,
  constraint lead_keys_once unique (tenant_id, key)
);

create index lead_keys_lead_id on brainops.lead_keys (tenant_id, lead_id);

comment on table brainops.lead_keys is 'Which lead an e-mail address or phone number means. Written by triggers alone.';
comment on column brainops.lead_keys.key is
  'email:<address in lower case> or phone:<E.164>. Of several leads with one phone number it is the first.';
comment on column brainops.lead_keys.lead_id is
  'No foreign key: it is claimed before the lead is there. One whose lead is gone is taken over.';

create table public.revenue_lead_aliases (
  id uuid primary key,
  tenant_id uuid not null references public.tenants (id),
  lead_id uuid not null,
  created_at timestamptz not null default brainops.now(),
  constraint revenue_lead_aliases_lead
    foreign key (tenant_id, lead_id) references public.revenue_leads (tenant_id, id)
      on delete cascade
);

create index revenue_lead_aliases_lead_id on public.revenue_lead_aliases (tenant_id, lead_id);

comment on table public.revenue_lead_aliases is
  'Ids of leads that were merged into another: rows that refer to one are taken as the other''s.';
comment on column public.revenue_lead_aliases.id is 'The id that is no lead''s any more.';

create table public.lead_events (
  id uuid primary key default gen_random_uuid(),
  tenant_id uuid not null references public.tenants (id),
  lead_id uuid not null,
  event text not null,
  channel text,
  occurred_at timestamptz not null default brainops.now(),
  source_key text not null default gen_random_uuid()::text,
  metadata jsonb not null default '{}',
  created_at timestamptz not null default brainops.now(),
  constraint lead_events_once unique (tenant_id, lead_id, event, source_key),
  constraint lead_events_lead
    foreign key (tenant_id, lead_id) references public.revenue_leads (tenant_id, id)
      on delete cascade,
  constraint lead_events_event_is_word check (event ~ '^[a-z][a-z0-9_]{0,62}$'),
  constraint lead_events_source_key_length check (length(source_key) between 1 and 300),
  constraint lead_events_metadata_is_object check (jsonb_typeof(metadata) = 'object')
);

comment on table public.lead_events is
  'Everything that a person did or that happened to a lead, append only. Scores, exits, waits and branches read it.';
comment on column public.lead_events.event is
  'captured, merged, form_submitted, stage_changed, email_opened (never a machine''s), email_clicked, email_replied, email_bounced, email_complained, email_unsubscribed, sms_delivered, sms_failed, sms_replied, opted_in, opted_out, meeting_booked, paid, payment_failed, refunded, disputed, onboarded, or a word of your own.';
comment on column public.lead_events.channel is 'email, sms, web, payment, …; null for none.';
comment on column public.lead_events.source_key is
  'What makes the same event told twice one; made up where none is given.';
comment on column public.lead_events.metadata is
  'May hold email_id, sms_id, touch_id, campaign_id, url; for stage_changed from and to.';

create table brainops.score_reasons (
  reason text primary key,
  kind text not null,
  points numeric not null,
  half_life interval,
  description text not null,
  constraint score_reasons_kind_known check (kind in ('fact', 'event')),
  constraint score_reasons_half_life_positive check (half_life > '0')
);

comment on table brainops.score_reasons is
  'What scores how much. Points and half-lives may be edited: those of events count for events from then on, those of facts from the next reckoning of each lead.';
comment on column brainops.score_reasons.kind is
  'fact: something that the lead''s row says; event: a word in lead_events.';
comment on column brainops.score_reasons.half_life is 'After this time half of the points are left; null: they stay.';

insert into brainops.score_reasons (reason, kind, points, half_life, description)
values
  ('captured', 'fact', 30, null, 'the lead is known'),
  ('email_given', 'fact', 10, null, 'it has an e-mail address'),
  ('business_domain', 'fact', 20, null, 'the address is at a domain of its own, not at a free mail service'),
  ('phone_given', 'fact', 15, null, 'it has a phone number'),
  ('company_given', 'fact', 10, null, 'it has a company'),
  ('custom_fields', 'fact', 3, null, 'for each further field in metadata, at most five'),
  ('budget_high', 'fact', 20, null, 'metadata.budget is high, or above 10,000'),
  ('budget_medium', 'fact', 10, null, 'metadata.budget is medium, or above 5,000'),
  ('decision_maker', 'fact', 15, null, 'metadata.decision_maker'),
  ('timeline_now', 'fact', 20, null, 'metadata.timeline is immediate or this_week'),
  ('timeline_month', 'fact', 10, null, 'metadata.timeline is this_month'),
  ('property_owner', 'fact', 10, null, 'metadata.property_owner'),
  ('budget_approved', 'fact', 15, null, 'metadata.budget_approved'),
  ('email_opened', 'event', 2, '14 days', 'a mail was opened, once for each mail; never by a machine'),
  ('email_clicked', 'event', 6, '14 days', 'a link was clicked, once for each mail'),
  ('email_replied', 'event', 15, '30 days', 'a reply by mail'),
  ('sms_replied', 'event', 15, '30 days', 'a reply by text message'),
  ('form_submitted', 'event', 5, '30 days', 'a form was sent'),
  ('meeting_booked', 'event', 20, '60 days', 'a meeting was booked'),
  ('email_bounced', 'event', -15, null, 'the address does not exist'),
  ('email_unsubscribed', 'event', -30, null, 'no more mail is wanted'),
  ('opted_out', 'event', -20, null, 'no more text messages are wanted'),
  ('email_complained', 'event', -60, null, 'a mail was reported as spam');

revoke all on brainops.score_reasons from public;
grant select on brainops.score_reasons to brainops_tenant, brainops_worker, brainops_service;
grant select, insert, update, delete on brainops.score_reasons to brainops_admin, brainops_system;

create table public.lead_score_events (
  id uuid primary key default gen_random_uuid(),
  tenant_id uuid not null references public.tenants (id),
  lead_id uuid not null,
  reason text not null,
  points numeric not null,
  half_life interval,
  occurred_at timestamptz not null default brainops.now(),
  source_key text not null default gen_random_uuid()::text,
  created_at timestamptz not null default brainops.now(),
  constraint lead_score_events_once unique (tenant_id, lead_id, reason, source_key),
  constraint lead_score_events_lead
    foreign key (tenant_id, lead_id) references public.revenue_leads (tenant_id, id)
      on delete cascade,
  constraint lead_score_events_reason_is_word check (reason ~ '^[a-z][a-z0-9_]{0,62}$'),
  constraint lead_score_events_points_range check (points between -1000000 and 1000000),
  constraint lead_score_events_half_life_positive check (half_life > '0'),
  constraint lead_score_events_source_key_length check (length(source_key) between 1 and 300)
);

comment on table public.lead_score_events is
  'Why a lead''s score is what it is, append only. score = the sum of points * 0.5 ^ (age / half_life), rounded, never below 0 or above 100.';
comment on column public.lead_score_events.reason is
  'A word of brainops.score_reasons, set_by_client (what it took to get to the score that a client wrote), merged, or a word of your own.';
comment on column public.lead_score_events.points is
  'Signed. A fact that changes is corrected by another row with the difference.';
comment on column public.lead_score_events.half_life is 'Null: the points stay.';
comment on column public.lead_score_events.source_key is
  'What makes the same reason told twice one; for a mail''s opens and clicks the mail, of which the earliest counts.';

select brainops.protect_table(t)
from
  unnest(
    array[
      'brainops.lead_keys',
      'public.revenue_lead_aliases',
      'public.lead_events',
      'public.lead_score_events'
    ]::regclass[]
  ) as t;

-- Append only: what happened stays. brainops_system moves rows when two leads are one, and erases
-- a person who asks for it.
revoke update, delete
on public.lead_events, public.lead_score_events
from brainops_tenant, brainops_service, brainops_worker, brainops_admin;
revoke all on brainops.lead_keys from brainops_tenant, brainops_service, brainops_worker;
revoke insert, update, delete
on public.revenue_lead_aliases
from brainops_tenant, brainops_service, brainops_worker, brainops_admin;

-- The lead that an id means: itself, or the one that it was merged into.
create function brainops.lead_alias(p_lead_id uuid, p_tenant_id uuid default null)
returns uuid
language plpgsql
stable
security definer
set search_path = ''
as $$
begin
  return (
    select a.lead_id
    from public.revenue_lead_aliases as a
    where a.id = p_lead_id and (p_tenant_id is null or a.tenant_id = p_tenant_id)
  );
end;
$$;

comment on function brainops.lead_alias(uuid, uuid) is
  'The lead that this id''s lead was merged into; null for an id that is no alias.';

alter function brainops.lead_alias(uuid, uuid) owner to brainops_system;

create or replace function brainops.find_lead(p_lead_id uuid, p_tenant_id uuid)
returns uuid
language sql
stable
security definer
set search_path = ''
as $$
  select l.id
  from public.revenue_leads as l
  where
    l.id = coalesce((select a.lead_id from public.revenue_lead_aliases as a where a.id = p_lead_id), p_lead_id)
    and (p_tenant_id is null or l.tenant_id = p_tenant_id)
    and (
      l.tenant_id = (select brainops.current_tenant_id())
      or brainops.may_name_tenant()
      or pg_catalog.pg_has_role(session_user, 'brainops_admin', 'member')
    );
$$;

comment on function brainops.find_lead(uuid, uuid) is
  'The id of the lead that the id means (itself, or the lead it was merged into), where the caller may refer to it; else null.';

-- Hangs on every table with a lead_id, before its tenant is filled in. The lock is the one that the
-- foreign key takes a moment later: taken here, it waits for a merge that is under way, and the
-- alias is seen.
create function brainops.resolve_lead_id()
returns trigger
language plpgsql
-- The lead may be of a tenant that a service has not named yet.
security definer
set search_path = ''
as $$
declare
  v_lead_id uuid;
begin
  perform from public.revenue_leads where id = new.lead_id for key share;
  if not found then
    select a.lead_id into v_lead_id
      from public.revenue_lead_aliases as a
      where a.id = new.lead_id and (new.tenant_id is null or a.tenant_id = new.tenant_id);
    new.lead_id := coalesce(v_lead_id, new.lead_id);
  end if;
  return new;
end;
$$;

comment on function brainops.resolve_lead_id is
  'Trigger of tables that refer to leads, as a0_resolve_lead_id before insert: takes the id of a lead that was merged as the one that it was merged into.';

alter function brainops.resolve_lead_id() owner to brainops_system;

create trigger a0_resolve_lead_id
before insert on public.lead_events
for each row
execute function brainops.resolve_lead_id();
create trigger a0_resolve_lead_id
before insert on public.lead_score_events
for each row
execute function brainops.resolve_lead_id();
create trigger a0_resolve_lead_id
before insert on public.ai_email_queue
for each row
when (new.lead_id is not null)
execute function brainops.resolve_lead_id();

-- A mail to a lead goes to that lead, whatever lead_id says; or to the one that it was merged into.
create or replace function brainops.email_address(p_email public.ai_email_queue)
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
        where
          l.tenant_id = p_email.tenant_id
          and l.id = coalesce(
            (
              select a.lead_id
              from public.revenue_lead_aliases as a
              where a.tenant_id = p_email.tenant_id and a.id = brainops.uuid_or_null(p_email.recipient)
            ),
            brainops.uuid_or_null(p_email.recipient)
          )
      )
    end;
$$;

create function brainops.record_lead_event(
  p_tenant_id uuid,
  p_lead_id uuid,
  p_event text,
  p_channel text default null,
  p_occurred_at timestamptz default null,
  p_source_key text default null,
  p_metadata jsonb default '{}'
)
returns void
language sql
set search_path = ''
as $$
  insert into public.lead_events (tenant_id, lead_id, event, channel, occurred_at, source_key, metadata)
  values
    (
      p_tenant_id,
      p_lead_id,
      p_event,
      p_channel,
      coalesce(p_occurred_at, brainops.now()),
      coalesce(p_source_key, gen_random_uuid()::text),
      coalesce(p_metadata, '{}')
    )
  on conflict (tenant_id, lead_id, event, source_key) do nothing;
$$;

comment on function brainops.record_lead_event(uuid, uuid, text, text, timestamptz, text, jsonb) is
  'Writes an event of a lead down; told again under the same source_key it stays one. Nulls: now, and a key made up.';

-- For clients who see the answers to our mails, which the provider does not.
create function brainops.record_reply(p_lead_id uuid, p_channel text default 'email', p_text text default null)
returns uuid
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_lead_id uuid := brainops.find_lead(p_lead_id, null);
  v_event_id uuid;
begin
  if v_lead_id is null then
    raise exception 'lead_id: % is no lead of yours', coalesce(p_lead_id::text, 'null')
      using errcode = 'OP009', hint = 'select id, email from revenue_leads';
  end if;
  if p_channel is null or p_channel not in ('email', 'sms') then
    raise exception 'channel: % is none that people reply by', coalesce(quote_literal(left(p_channel, 80)), 'null')
      using errcode = 'OP007', hint = 'Give email or sms.';
  end if;
  insert into public.lead_events (tenant_id, lead_id, event, channel, metadata)
  select l.tenant_id, l.id, p_channel || '_replied', p_channel, jsonb_strip_nulls(jsonb_build_object('text', left(p_text, 10000)))
  from public.revenue_leads as l
  where l.id = v_lead_id
  returning id into v_event_id;
  update public.revenue_leads set last_contact = brainops.now() where id = v_lead_id;
  return v_event_id;
end;
$$;

comment on function brainops.record_reply(uuid, text, text) is
  'Tells that a lead replied, by email or sms: it is scored, and sequences that end on a reply end. Returns the event''s id.';

alter function brainops.record_reply(uuid, text, text) owner to brainops_system;

-- A reckoning is asked for by a mark on the lead; the mark sets the job (after_lead_update). The
-- lock makes a reckoning that is under way end first: it has not seen what is being written now.
create function brainops.request_rescore(p_lead_ids uuid[])
returns void
language plpgsql
security definer
set search_path = ''
as $$
begin
  perform from public.revenue_leads where id = any (p_lead_ids) order by id for no key update;
  update public.revenue_leads set rescore_requested_at = brainops.now()
  where id = any (p_lead_ids) and rescore_requested_at is null;
end;
$$;

comment on function brainops.request_rescore(uuid[]) is 'Marks leads whose score is to be reckoned anew.';

alter function brainops.request_rescore(uuid[]) owner to brainops_system;

-- Behind the two tables that feed the score.
create function brainops.after_lead_events()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_ids uuid[];
begin
  select array_agg(distinct e.lead_id) into v_ids
    from inserted as e
    inner join brainops.score_reasons as r on r.reason = e.event and r.kind = 'event';
  if v_ids is not null then
    perform brainops.request_rescore(v_ids);
  end if;
  return null;
end;
$$;

alter function brainops.after_lead_events() owner to brainops_system;

create trigger c0_after_lead_events
after insert on public.lead_events
referencing new table as inserted
for each statement
execute function brainops.after_lead_events();

create function brainops.after_lead_score_events()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  perform brainops.request_rescore((select array_agg(distinct lead_id) from inserted));
  return null;
end;
$$;

alter function brainops.after_lead_score_events() owner to brainops_system;

-- The reckoning's own rows ask for no other one.
create trigger c0_after_lead_score_events
after insert on public.lead_score_events
referencing new table as inserted
for each statement
when (current_user <> 'brainops_system')
execute function brainops.after_lead_score_events();

-- Mail services where people have an address without having a company.
create function brainops.is_free_mail(p_domain text)
returns boolean
language sql
immutable
parallel safe
set search_path = ''
as $$
  select
    p_domain ~ '^(gmail|googlemail|icloud|me|mac|aol|aim|msn|proton|protonmail|pm|fastmail|hey|zoho|tutanota|tuta|mail|email|inbox|comcast|verizon|att|sbcglobal|bellsouth|cox|charter|earthlink|qq|163|126|sina|foxmail|rediffmail|naver|hanmail|web|freenet|t-online|arcor|posteo|orange|wanadoo|free|laposte|libero|virgilio|seznam|wp|o2|bk|list|ya|rambler|uol|terra|bigpond|optusnet|btinternet|ntlworld|sky|talktalk|shaw|rogers|telus|sympatico)\.(com|net|org|de|fr|it|cz|pl|ru|co\.uk|uk|ca|me|us|kr|cn|com\.br|com\.au|net\.au)$'
    or p_domain ~ '^(yahoo|ymail|rocketmail|hotmail|outlook|live|gmx|yandex)\.([a-z]{2,3}|com?\.[a-z]{2})$';
$$;

comment on function brainops.is_free_mail(text) is
  'Whether the domain is a mail service for everybody (gmail.com, yahoo.*, outlook.*, gmx.*, …).';

create function brainops.is_yes(p_word text)
returns boolean
language sql
immutable
parallel safe
set search_path = ''
as $$
  select coalesce(lower(btrim(p_word)) in ('true', 't', 'yes', 'y', '1', 'on', 'x', 'ja', 'si', 'oui'), false);
$$;

comment on function brainops.is_yes(text) is
  'Whether a word of a form or a file means yes; false for null and for anything else.';

-- What the lead's own row says, as reasons: one row for each reason that holds.
create function brainops.lead_facts(p_lead public.revenue_leads)
returns table (reason text, times int)
language sql
stable
set search_path = ''
as $$
  select f.reason, f.times
  from
    (
      select
        -- Custom fields come in an object of their own, or beside the others.
        p_lead.metadata || coalesce(
          case
            when jsonb_typeof(p_lead.metadata -> 'custom_fields') = 'object' then p_lead.metadata -> 'custom_fields'
          end,
          '{}'
        ) as given,
        split_part(p_lead.email_key, '@', 2) as domain
    ) as m
    cross join lateral (
      select
        lower(btrim(m.given ->> 'budget')) as budget,
        case
          when btrim(m.given ->> 'budget') ~ '^[$€£]?\s*[0-9][0-9,]{0,14}(\.[0-9]{1,6})?$' then regexp_replace(
            m.given ->> 'budget',
            '[^0-9.]',
            '',
            'g'
          )::numeric
        end as amount,
        regexp_replace(lower(btrim(m.given ->> 'timeline')), '[\s-]+', '_', 'g') as timeline
    ) as b
    cross join lateral (
      values
        ('captured', 1),
        ('email_given', (p_lead.email_key is not null)::int),
        ('business_domain', (p_lead.email_key is not null and not brainops.is_free_mail(m.domain))::int),
        ('phone_given', (coalesce(btrim(p_lead.phone), '') <> '')::int),
        ('company_given', (coalesce(btrim(p_lead.company_name), '') <> '')::int),
        (
          'custom_fields',
          (
            select least(count(*), 5)::int
            from jsonb_each_text(m.given) as k
            where
              btrim(k.value) <> ''
              and k.key <> all (
                '{custom_fields,merged,lead_id,source,type,campaign,is_test,is_demo,import,budget,timeline,decision_maker,property_owner,budget_approved}'::text[]
              )
          )
        ),
        ('budget_high', (b.budget = 'high' or b.amount > 10000)::int),
        ('budget_medium', (b.budget = 'medium' or b.amount > 5000 and b.amount <= 10000)::int),
        ('decision_maker', brainops.is_yes(m.given ->> 'decision_maker')::int),
        (
          'timeline_now',
          (b.timeline in ('immediate', 'immediately', 'urgent', 'now', 'today', 'asap', 'this_week'))::int
        ),
        ('timeline_month', (b.timeline in ('this_month', 'month'))::int),
        ('property_owner', brainops.is_yes(m.given ->> 'property_owner')::int),
        ('budget_approved', brainops.is_yes(m.given ->> 'budget_approved')::int)
    ) as f (reason, times)
  where f.times > 0;
$$;

comment on function brainops.lead_facts(public.revenue_leads) is
  'Which facts of a lead''s row score, and how many times; brainops.score_reasons has their points.';

-- The sum behind a score, of now. Each term is rounded before the sum, so that the order of the rows
-- does not matter.
create function brainops.decayed(p_points numeric, p_half_life interval, p_occurred_at timestamptz, p_now timestamptz)
returns numeric
language sql
immutable
parallel safe
set search_path = ''
as $$
  select
    case
      when p_half_life is null then p_points
      else round(
        (
          p_points * power(
            0.5::float8,
            least(
              greatest(extract(epoch from p_now - p_occurred_at), 0) / extract(epoch from p_half_life),
              1000
            )::float8
          )
        )::numeric,
        6
      )
    end;
$$;

comment on function brainops.decayed(numeric, interval, timestamptz, timestamptz) is
  'What is left of points: half of them after each half-life; all of them where that is null or the time is yet to come.';

create function brainops.score_total(p_tenant_id uuid, p_lead_id uuid)
returns numeric
language sql
stable
set search_path = ''
as $$
  select coalesce(sum(brainops.decayed(e.points, e.half_life, e.occurred_at, brainops.now())), 0)
  from public.lead_score_events as e
  where e.tenant_id = p_tenant_id and e.lead_id = p_lead_id;
$$;

comment on function brainops.score_total(uuid, uuid) is
  'The sum of a lead''s points as of now; the score is this, rounded and kept within 0 to 100.';

create function brainops.clamp_score(p_total numeric)
returns numeric
language sql
immutable
parallel safe
as $$
  select greatest(0, least(100, pg_catalog.round(p_total)));
$$;

comment on function brainops.clamp_score(numeric) is 'A sum of points as a score: rounded, from 0 to 100.';

-- Reckons scores, from the facts, the events and what clients said. Returns how many changed. Leads
-- that somebody else has locked get a job of their own, so that nobody waits here.
create function brainops.score_leads(p_lead_ids uuid[])
returns int
language plpgsql
security definer
set search_path = ''
as $$
declare
  c_qualified_from constant int := 70;
  v_now timestamptz := brainops.now();
  v_ids uuid[];
  v_rest uuid[];
  v_changed int;
begin
  select coalesce(array_agg(s.id), '{}') into v_ids
    from (
      select id from public.revenue_leads where id = any (p_lead_ids) order by id for no key update skip locked
    ) as s;
  select array_agg(id) into v_rest
    from public.revenue_leads
    where id = any (p_lead_ids) and id <> all (v_ids);
  if v_rest is not null then
    perform graphile_worker.add_job(
      'lead__score', json_build_object('ids', v_rest), run_at => pg_catalog.now() + interval '2 seconds', priority => 100
    );
  end if;

  -- Facts that changed: the difference to what was written for them before.
  insert into public.lead_score_events (tenant_id, lead_id, reason, points, occurred_at)
  select w.tenant_id, w.lead_id, w.reason, w.points, v_now
  from (
    select
      coalesce(f.tenant_id, h.tenant_id) as tenant_id,
      coalesce(f.lead_id, h.lead_id) as lead_id,
      coalesce(f.reason, h.reason) as reason,
      coalesce(f.points, 0) - coalesce(h.points, 0) as points
    from (
      select l.tenant_id, l.id as lead_id, t.reason, t.times * r.points as points
      from public.revenue_leads as l
      cross join lateral brainops.lead_facts(l) as t
      inner join brainops.score_reasons as r on r.reason = t.reason and r.kind = 'fact'
      where l.id = any (v_ids)
    ) as f
    full join (
      select e.tenant_id, e.lead_id, e.reason, sum(e.points) as points
      from public.revenue_leads as l
      inner join public.lead_score_events as e on e.tenant_id = l.tenant_id and e.lead_id = l.id
      inner join brainops.score_reasons as r on r.reason = e.reason and r.kind = 'fact'
      where l.id = any (v_ids)
      group by e.tenant_id, e.lead_id, e.reason
    ) as h on h.lead_id = f.lead_id and h.reason = f.reason
  ) as w
  where w.points <> 0;

  -- What they did. A mail's opens and clicks count once each, by the earliest, in whatever order
  -- they were told: the one case in which a row here changes.
  insert into public.lead_score_events as s (tenant_id, lead_id, reason, points, half_life, occurred_at, source_key)
  select e.tenant_id, e.lead_id, e.event, r.points, r.half_life, min(e.occurred_at), k.source_key
  from public.revenue_leads as l
  inner join public.lead_events as e on e.tenant_id = l.tenant_id and e.lead_id = l.id
  inner join brainops.score_reasons as r on r.reason = e.event and r.kind = 'event'
  cross join lateral (
    select
      case
        when e.event in ('email_opened', 'email_clicked') then coalesce(e.metadata ->> 'email_id', e.source_key)
        else e.source_key
      end as source_key
  ) as k
  where l.id = any (v_ids)
  group by e.tenant_id, e.lead_id, e.event, r.points, r.half_life, k.source_key
  on conflict (tenant_id, lead_id, reason, source_key) do update
    set occurred_at = excluded.occurred_at
    where excluded.occurred_at < s.occurred_at;

  -- A score that came with the lead stays what it is: the difference is the client's word.
  insert into public.lead_score_events (tenant_id, lead_id, reason, points, occurred_at)
  select l.tenant_id, l.id, 'set_by_client', greatest(least(l.score - brainops.score_total(l.tenant_id, l.id), 1000000), -1000000), v_now
  from public.revenue_leads as l
  where l.id = any (v_ids) and l.scored_at is null and l.score > 0;

  with totals as (
    select l.id, l.score as old_score, brainops.clamp_score(coalesce(sum(brainops.decayed(e.points, e.half_life, e.occurred_at, v_now)), 0)) as score
    from public.revenue_leads as l
    left join public.lead_score_events as e on e.tenant_id = l.tenant_id and e.lead_id = l.id
    where l.id = any (v_ids)
    group by l.id, l.score
  ),
  written as (
    update public.revenue_leads as l
    set
      score = t.score,
      scored_at = v_now,
      rescore_requested_at = null,
      stage = case when l.stage = 'new' and t.score >= c_qualified_from then 'qualified' else l.stage end
    from totals as t
    where l.id = t.id
      and (l.score <> t.score or l.rescore_requested_at is not null or l.scored_at is null)
    returning t.old_score <> l.score as changed
  )
  select count(*) filter (where changed) into v_changed from written;
  return v_changed;
end;
$$;

comment on function brainops.score_leads(uuid[]) is
  'Reckons the scores of leads now; from 70 on a new lead is qualified. Returns how many changed.';

alter function brainops.score_leads(uuid[]) owner to brainops_system;

-- Points fade by themselves: the leads, from p_after on in the order of their ids, whose score would
-- be another one by now, and those whose request was lost. Returns where to go on, null at the end.
create function brainops.rescore_stale(p_after uuid default null, p_limit int default 5000)
returns table (last_id uuid, rescored int)
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_ids uuid[];
  v_scanned int;
begin
  with page as (
    select l.id, l.tenant_id, l.score, l.rescore_requested_at
    from public.revenue_leads as l
    where p_after is null or l.id > p_after
    order by l.id
    limit p_limit
  ),
  due as (
    select p.id
    from page as p
    left join public.lead_score_events as e on e.tenant_id = p.tenant_id and e.lead_id = p.id
    group by p.id, p.score, p.rescore_requested_at
    having p.rescore_requested_at < brainops.now() - interval '10 minutes'
      or (
        p.rescore_requested_at is null
        and bool_or(e.half_life is not null)
        and p.score <> brainops.clamp_score(sum(brainops.decayed(e.points, e.half_life, e.occurred_at, brainops.now())))
      )
  )
  select (select array_agg(d.id) from due as d), (select max(p.id::text)::uuid from page as p), (select count(*)::int from page)
    into v_ids, last_id, v_scanned;
  rescored := coalesce(cardinality(v_ids), 0);
  if v_ids is not null then
    perform brainops.score_leads(v_ids);
  end if;
  if v_scanned < p_limit then
    last_id := null;
  end if;
  return next;
end;
$$;

comment on function brainops.rescore_stale(uuid, int) is
  'Reckons a page of leads whose points have faded since their score was written; the nightly run of lead__score.';

alter function brainops.rescore_stale(uuid, int) owner to brainops_system;

-- The row as it should be, before anybody looks for the person in it.
create function brainops.normal_lead(p_lead public.revenue_leads)
returns public.revenue_leads
language plpgsql
stable
set search_path = ''
as $$
begin
  p_lead.email := nullif(btrim(p_lead.email, E' \t\r\n'), '');
  p_lead.phone := nullif(btrim(p_lead.phone, E' \t\r\n'), '');
  -- Clients write the JSON null where they mean none.
  p_lead.metadata := coalesce(nullif(p_lead.metadata, 'null'), '{}');
  p_lead.score := case
    when p_lead.score is null then 0
    -- A share of 1, as some clients reckon. Exactly 1 is 1 of 100.
    when p_lead.score > 0 and p_lead.score < 1 then round(p_lead.score * 100)
    when p_lead.score between 0 and 100 then round(p_lead.score)
    else p_lead.score
  end;
  if p_lead.phone is null then
    p_lead.phone := p_lead.phone_e164;
  elsif p_lead.phone_e164 is null then
    p_lead.phone_e164 := brainops.phone_e164(
      p_lead.phone,
      case
        when p_lead.phone ~ '^(\+|00)' then null
        else (select coalesce(t.settings ->> 'country', 'US') from public.tenants as t where t.id = p_lead.tenant_id)
      end
    );
  end if;
  return p_lead;
end;
$$;

comment on function brainops.normal_lead(public.revenue_leads) is
  'The row as it is stored: addresses trimmed, a score of 0 to 1 as one of 100, the phone number in E.164 where that can be told.';

-- Whose key it is now: the one that holds it, or p_lead_id, for whom it is claimed. Waits for a
-- transaction that is claiming the same one.
create function brainops.claim_lead_key(p_tenant_id uuid, p_key text, p_lead_id uuid)
returns uuid
language plpgsql
set search_path = ''
as $$
declare
  v_holder uuid;
begin
  loop
    insert into brainops.lead_keys (tenant_id, key, lead_id) values (p_tenant_id, p_key, p_lead_id) on conflict do nothing;
    if found then
      return p_lead_id;
    end if;
    select lead_id into v_holder from brainops.lead_keys where tenant_id = p_tenant_id and key = p_key;
    continue when not found;
    if v_holder = p_lead_id or exists (select from public.revenue_leads where tenant_id = p_tenant_id and id = v_holder) then
      return v_holder;
    end if;
    -- Claimed by an insert that came to nothing.
    update brainops.lead_keys set lead_id = p_lead_id
    where tenant_id = p_tenant_id and key = p_key and lead_id = v_holder;
    if found then
      return p_lead_id;
    end if;
  end loop;
end;
$$;

-- Puts into a lead what another row of the same person says: nulls are filled, the further stage and
-- the higher score hold, and what differs is kept in metadata.merged, so that nothing is lost.
-- Returns false where the lead is gone.
create function brainops.absorb_lead(p_into uuid, p_row public.revenue_leads)
returns boolean
language plpgsql
security definer
set search_path = ''
as $$
declare
  c_columns constant text[] := array[
    'company_name', 'contact_name', 'email', 'phone', 'website', 'value_estimate', 'source', 'time_zone', 'state',
    'location', 'industry', 'status', 'assigned_agent_id', 'lead_id', 'owner_email', 'next_action', 'next_action_date'
  ];
  v_lead public.revenue_leads;
  v_new public.revenue_leads;
  v_old jsonb;
  v_given jsonb := to_jsonb(p_row);
  v_other jsonb;
  v_more jsonb;
  v_other_metadata jsonb;
  v_merged jsonb;
begin
  select * into v_lead from public.revenue_leads where id = p_into and tenant_id = p_row.tenant_id for no key update;
  if not found then
    return false;
  end if;
  v_old := to_jsonb(v_lead);

  select
    coalesce(jsonb_object_agg(c, v_given -> c) filter (where v_old ->> c is null), '{}'),
    coalesce(jsonb_object_agg(c, v_given -> c) filter (where lower(btrim(v_old ->> c)) <> lower(btrim(v_given ->> c))), '{}')
    into v_more, v_other
    from unnest(c_columns) as c
    where v_given ->> c is not null;
  v_new := jsonb_populate_record(v_lead, v_more);
  if v_lead.phone is null or v_lead.phone_e164 is null and v_lead.phone = p_row.phone then
    v_new.phone_e164 := p_row.phone_e164;
  elsif v_lead.phone_e164 = p_row.phone_e164 then
    v_other := v_other - 'phone'; -- the same number, written in another way
  end if;

  select
    coalesce(jsonb_object_agg(k.key, k.value) filter (where coalesce(v_lead.metadata -> k.key, 'null') = 'null'), '{}'),
    coalesce(jsonb_object_agg(k.key, k.value) filter (where v_lead.metadata -> k.key not in (k.value, 'null')), '{}')
    into v_more, v_other_metadata
    from jsonb_each(p_row.metadata - 'merged') as k
    where k.value <> 'null';
  if v_other_metadata <> '{}' then
    v_other := v_other || jsonb_build_object('metadata', v_other_metadata);
  end if;

  if brainops.stage_rank(p_row.stage) > brainops.stage_rank(v_lead.stage)
    and p_row.stage = any (brainops.next_stages(v_lead.stage))
    -- A lost lead is not taken up again by mistake, nor a deal under way ended by an old list.
    and (p_row.stage <> 'lost' or v_lead.stage = 'new')
  then
    v_new.stage := p_row.stage;
  elsif p_row.stage not in ('new', v_lead.stage) then
    v_other := v_other || jsonb_build_object('stage', p_row.stage);
  end if;
  if p_row.score > v_lead.score and v_lead.scored_at is null then
    v_new.score := p_row.score;
  elsif p_row.score > 0 and p_row.score < v_lead.score then
    v_other := v_other || jsonb_build_object('score', p_row.score);
  end if;
  v_new.last_contact := greatest(v_lead.last_contact, p_row.last_contact);
  v_new.created_at := least(v_lead.created_at, p_row.created_at);

  v_merged := coalesce(case when jsonb_typeof(v_lead.metadata -> 'merged') = 'array' then v_lead.metadata -> 'merged' end, '[]')
    || coalesce(case when jsonb_typeof(p_row.metadata -> 'merged') = 'array' then p_row.metadata -> 'merged' end, '[]');
  -- Told again it is the same; a client that inserts its whole list each night must not fill the row.
  if v_other <> '{}' and not exists (select from jsonb_array_elements(v_merged) as m where m -> 'values' = v_other) then
    v_merged := v_merged || jsonb_build_object('id', p_row.id, 'at', brainops.now(), 'values', v_other);
  end if;
  v_new.metadata := v_lead.metadata || v_more || case when v_merged <> '[]' then jsonb_build_object('merged', v_merged) else '{}' end;

  if v_new is distinct from v_lead then
    update public.revenue_leads
    set
      company_name = v_new.company_name,
      contact_name = v_new.contact_name,
      email = v_new.email,
      phone = v_new.phone,
      phone_e164 = v_new.phone_e164,
      website = v_new.website,
      value_estimate = v_new.value_estimate,
      source = v_new.source,
      time_zone = v_new.time_zone,
      state = v_new.state,
      location = v_new.location,
      industry = v_new.industry,
      status = v_new.status,
      assigned_agent_id = v_new.assigned_agent_id,
      lead_id = v_new.lead_id,
      owner_email = v_new.owner_email,
      next_action = v_new.next_action,
      next_action_date = v_new.next_action_date,
      stage = v_new.stage,
      score = v_new.score,
      last_contact = v_new.last_contact,
      created_at = v_new.created_at,
      metadata = v_new.metadata
    where id = p_into;
  end if;
  if p_row.score > v_lead.score and v_lead.scored_at is not null then
    perform brainops.set_score(v_lead.tenant_id, p_into, p_row.score, 'merged');
  end if;
  return true;
end;
$$;

alter function brainops.absorb_lead(uuid, public.revenue_leads) owner to brainops_system;

-- The points that it takes to get from what has been reckoned to this score.
create function brainops.set_score(p_tenant_id uuid, p_lead_id uuid, p_score numeric, p_reason text)
returns void
language sql
set search_path = ''
as $$
  insert into public.lead_score_events (tenant_id, lead_id, reason, points)
  values
    (
      p_tenant_id,
      p_lead_id,
      p_reason,
      greatest(least(p_score - brainops.score_total(p_tenant_id, p_lead_id), 1000000), -1000000)
    );
  update public.revenue_leads
  set
    score = p_score,
    rescore_requested_at = brainops.now()
  where id = p_lead_id and (score <> p_score or rescore_requested_at is null);
$$;

create function brainops.before_lead_insert()
returns trigger
language plpgsql
-- Looks for the person among leads that a service may not see yet.
security definer
set search_path = ''
as $$
declare
  v_stage text := brainops.normal_stage(coalesce(new.stage, 'new'));
  v_email text;
  v_phone text;
  v_into uuid;
  v_other uuid;
  v_returning text := current_setting('brainops.inserted_tenant', true);
begin
  if v_stage is null then
    raise exception 'stage: unknown word %', quote_literal(left(new.stage, 80))
      using errcode = 'OP011', column = 'stage',
        hint = 'Write new, contacted, qualified, proposal_sent, negotiating, won, lost or nurturing, or leave stage out.';
  end if;
  new := brainops.normal_lead(new);
  new.stage := v_stage;
  new.merged_into := null;
  new.scored_at := null;
  new.rescore_requested_at := brainops.now();
  v_email := 'email:' || brainops.email_key(new.email);
  v_phone := 'phone:' || new.phone_e164;

  select lead_id into v_into from public.revenue_lead_aliases where id = new.id and tenant_id = new.tenant_id;
  -- A second row with one id is the business of the primary key, or of the client's "on conflict".
  if exists (select from public.revenue_leads where id = new.id) then
    return new;
  end if;
  loop
    if v_into is null and v_email is not null then
      v_into := nullif(brainops.claim_lead_key(new.tenant_id, v_email, new.id), new.id);
    end if;
    if v_phone is not null then
      v_other := nullif(brainops.claim_lead_key(new.tenant_id, v_phone, coalesce(v_into, new.id)), coalesce(v_into, new.id));
      -- Two people with addresses of their own may share a telephone.
      if exists (select from public.revenue_leads where id = v_other and (v_email is null or email_key is null)) then
        -- One lead has the address and another the number: this row says that they are one person.
        v_into := case
          when v_into is null then v_other
          when exists (select from public.revenue_leads where id = v_other and email_key is null)
            then brainops.join_leads(new.tenant_id, v_into, v_other)
          else v_into
        end;
      end if;
    end if;
    exit when v_into is null;
    update brainops.lead_keys set lead_id = v_into where tenant_id = new.tenant_id and lead_id = new.id;
    if brainops.absorb_lead(v_into, new) then
      insert into public.revenue_lead_aliases (id, tenant_id, lead_id) values (new.id, new.tenant_id, v_into)
      on conflict (id) do nothing;
      perform brainops.record_lead_event(
        new.tenant_id, v_into, 'merged', null, null, new.id::text,
        jsonb_strip_nulls(jsonb_build_object('id', new.id, 'source', new.source))
      );
      new.merged_into := v_into;
      exit;
    end if;
    v_into := null; -- deleted in between
  end loop;
  -- The inserts above forgot whose row this is, which RETURNING goes by (sql/0002, fill_tenant).
  perform set_config('brainops.inserted_tenant', coalesce(v_returning, ''), true);
  return new;
end;
$$;

alter function brainops.before_lead_insert() owner to brainops_system;

create function brainops.drop_merged_lead()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  delete from public.revenue_leads where id = new.id;
  return null;
end;
$$;

alter function brainops.drop_merged_lead() owner to brainops_system;

-- One job for 500 leads: so many that its own cost does not count, so few that several workers share
-- a large import.
create function brainops.enqueue_rescores(p_lead_ids uuid[])
returns void
language plpgsql
security definer
set search_path = ''
as $$
declare
  c_per_job constant int := 500;
begin
  -- import_leads asks once for all of its rows.
  if current_setting('brainops.hold_rescores', true) = 'on' then
    return;
  end if;
  for i in 1..coalesce(cardinality(p_lead_ids), 0) by c_per_job
  loop
    perform graphile_worker.add_job('lead__score', json_build_object('ids', p_lead_ids[i:i + c_per_job - 1]), priority => 100);
  end loop;
end;
$$;

alter function brainops.enqueue_rescores(uuid[]) owner to brainops_system;

create function brainops.after_lead_insert()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  insert into public.lead_events (tenant_id, lead_id, event, source_key, metadata)
  select tenant_id, id, 'captured', 'captured', jsonb_strip_nulls(jsonb_build_object('source', source))
  from inserted
  where merged_into is null;
  perform brainops.enqueue_rescores((select array_agg(id) from inserted where merged_into is null));
  return null;
end;
$$;

alter function brainops.after_lead_insert() owner to brainops_system;

-- With the rights of whoever updates, so that the engine's own writes are told from a client's.
create function brainops.before_lead_update()
returns trigger
language plpgsql
set search_path = ''
as $$
declare
  v_stage text;
begin
  if new.tenant_id <> old.tenant_id then
    raise exception 'tenant_id: lead % belongs to its tenant for good', old.id
      using errcode = 'insufficient_privilege', hint = 'Insert it for the other tenant.';
  end if;
  if new.stage is distinct from old.stage then
    v_stage := brainops.normal_stage(new.stage);
    if v_stage is null then
      raise exception 'stage: unknown word %', coalesce(quote_literal(left(new.stage, 80)), 'null')
        using errcode = 'OP011', column = 'stage',
          hint = format('From %s it may go to %s.', old.stage, array_to_string(brainops.next_stages(old.stage), ', '));
    end if;
    if v_stage <> lower(btrim(new.stage)) and v_stage not in ('lost', old.stage)
      and (brainops.stage_rank(v_stage) < brainops.stage_rank(old.stage) or v_stage <> all (brainops.next_stages(old.stage)))
    then
      -- A client's own word that says less than is known ("replied" of a lead that negotiates).
      v_stage := old.stage;
    end if;
    if v_stage <> old.stage and v_stage <> all (brainops.next_stages(old.stage)) then
      raise exception 'stage: lead % cannot go from % to %', old.id, old.stage, quote_literal(left(new.stage, 80))
        using errcode = 'OP011', column = 'stage',
          hint = format('From %s it may go to %s.', old.stage, array_to_string(brainops.next_stages(old.stage), ', '));
    end if;
    new.stage := v_stage;
  end if;

  -- Bookkeeping alone does not make a row a newer one.
  if (new.scored_at, new.rescore_requested_at) is not distinct from (old.scored_at, old.rescore_requested_at)
    or new.stage <> old.stage
  then
    new.updated_at := brainops.now();
  end if;
  if new.score is distinct from old.score or new.metadata is distinct from old.metadata
    or new.email is distinct from old.email or new.phone is distinct from old.phone or new.phone_e164 is distinct from old.phone_e164
  then
    if new.phone is distinct from old.phone and new.phone_e164 is not distinct from old.phone_e164 then
      new.phone_e164 := null;
    end if;
    new := brainops.normal_lead(new);
  end if;
  if new.company_name is distinct from old.company_name or new.metadata is distinct from old.metadata
    or new.email is distinct from old.email or new.phone is distinct from old.phone
  then
    new.rescore_requested_at := coalesce(new.rescore_requested_at, brainops.now());
  end if;
  return new;
end;
$$;

create function brainops.move_lead_keys()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_old text := 'email:' || brainops.email_key(old.email);
  v_new text := 'email:' || brainops.email_key(new.email);
  v_holder uuid;
begin
  if new.merged_into is not null then
    return new; -- its keys go to the other lead
  end if;
  if v_new is distinct from v_old then
    if v_new is not null then
      v_holder := brainops.claim_lead_key(new.tenant_id, v_new, new.id);
      if v_holder <> new.id then
        raise exception 'email: % is lead %''s already', quote_literal(left(new.email, 120)), v_holder
          using errcode = 'OP012', column = 'email',
            hint = format('If they are one person: select brainops.merge_leads(%L, %L).', v_holder, new.id);
      end if;
    end if;
    delete from brainops.lead_keys where tenant_id = new.tenant_id and key = v_old and lead_id = new.id;
  end if;
  if new.phone_e164 is distinct from old.phone_e164 then
    if new.phone_e164 is not null then
      perform brainops.claim_lead_key(new.tenant_id, 'phone:' || new.phone_e164, new.id);
    end if;
    delete from brainops.lead_keys where tenant_id = new.tenant_id and key = 'phone:' || old.phone_e164 and lead_id = new.id;
  end if;
  return new;
end;
$$;

alter function brainops.move_lead_keys() owner to brainops_system;

create function brainops.after_lead_update()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  insert into public.lead_events (tenant_id, lead_id, event, metadata)
  select n.tenant_id, n.id, 'stage_changed', jsonb_build_object('from', o.stage, 'to', n.stage)
  from after_rows as n
  inner join before_rows as o on o.id = n.id
  where o.stage <> n.stage;
  perform brainops.enqueue_rescores(
    (
      select array_agg(n.id)
      from after_rows as n
      inner join before_rows as o on o.id = n.id
      where o.rescore_requested_at is null and n.rescore_requested_at is not null
    )
  );
  return null;
end;
$$;

alter function brainops.after_lead_update() owner to brainops_system;

-- A score that a client writes to a lead that has one already: what it takes to get there.
create function brainops.after_lead_score_update()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  perform brainops.set_score(new.tenant_id, new.id, new.score, 'set_by_client');
  return null;
end;
$$;

alter function brainops.after_lead_score_update() owner to brainops_system;

create function brainops.after_lead_delete()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  delete from brainops.lead_keys as k using deleted as d where k.tenant_id = d.tenant_id and k.lead_id = d.id;
  return null;
end;
$$;

alter function brainops.after_lead_delete() owner to brainops_system;

-- A row out of its table, with every row that hangs on it, as JSON.
create function brainops.take_row(p_table regclass, p_tenant_id uuid, p_id uuid)
returns jsonb
language plpgsql
set search_path = ''
as $$
declare
  v_child record;
  v_id uuid;
  v_row jsonb;
  v_below jsonb := '[]';
begin
  for v_child in
    select c.conrelid::regclass as relation, a.attname as column_name
    from pg_catalog.pg_constraint as c
    inner join pg_catalog.pg_attribute as f on f.attrelid = c.confrelid and f.attname = 'id'
    inner join pg_catalog.pg_attribute as a on a.attrelid = c.conrelid and a.attnum = c.conkey[array_position(c.confkey, f.attnum)]
    -- Rows whose reference is merely emptied stay where they are.
    where c.confrelid = p_table and c.contype = 'f' and c.conparentid = 0 and c.confdeltype not in ('n', 'd')
    order by c.conrelid::regclass::text
  loop
    for v_id in
      execute format('select id from %s where tenant_id = $1 and %I = $2', v_child.relation, v_child.column_name)
        using p_tenant_id, p_id
    loop
      v_below := v_below || jsonb_build_array(brainops.take_row(v_child.relation, p_tenant_id, v_id));
    end loop;
  end loop;
  execute format('delete from %s as t where tenant_id = $1 and id = $2 returning to_jsonb(t)', p_table)
    into v_row
    using p_tenant_id, p_id;
  return jsonb_build_object('table', p_table::text, 'row', v_row)
    || case when v_below <> '[]' then jsonb_build_object('rows', v_below) else '{}' end;
end;
$$;

-- What refers to one lead refers to the other from then on, in every table with a foreign key to
-- leads. Returns the rows for which there was no room, because the other has the like (by a unique
-- key): they are out of their tables then.
create function brainops.move_lead_rows(p_tenant_id uuid, p_into uuid, p_from uuid)
returns jsonb
language plpgsql
set search_path = ''
as $$
declare
  v_child record;
  v_id uuid;
  v_kept jsonb := '[]';
begin
  for v_child in
    select c.conrelid::regclass as relation, a.attname as column_name
    from pg_catalog.pg_constraint as c
    inner join pg_catalog.pg_attribute as f on f.attrelid = c.confrelid and f.attname = 'id'
    inner join pg_catalog.pg_attribute as a on a.attrelid = c.conrelid and a.attnum = c.conkey[array_position(c.confkey, f.attnum)]
    where c.confrelid = 'public.revenue_leads'::regclass and c.contype = 'f' and c.conparentid = 0
    order by c.conrelid::regclass::text
  loop
    begin
      execute format('update %s set %I = $1 where tenant_id = $2 and %2$I = $3', v_child.relation, v_child.column_name)
        using p_into, p_tenant_id, p_from;
    exception
      when unique_violation then
        for v_id in
          execute format('select id from %s where tenant_id = $1 and %I = $2', v_child.relation, v_child.column_name)
            using p_tenant_id, p_from
        loop
          begin
            execute format('update %s set %I = $1 where tenant_id = $2 and id = $3', v_child.relation, v_child.column_name)
              using p_into, p_tenant_id, v_id;
          exception
            when unique_violation then
              v_kept := v_kept || jsonb_build_array(brainops.take_row(v_child.relation, p_tenant_id, v_id));
          end;
        end loop;
    end;
  end loop;
  return v_kept;
end;
$$;

-- Behind merge_leads, and behind an insert that tells that two leads are one person. Of what the row
-- scored by its facts nothing moves: they are reckoned anew; what the person did goes along.
create function brainops.join_leads(p_tenant_id uuid, p_into uuid, p_from uuid)
returns uuid
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_lead public.revenue_leads;
  v_kept jsonb;
begin
  perform from public.revenue_leads where tenant_id = p_tenant_id and id in (p_into, p_from) order by id for update;
  select * into v_lead from public.revenue_leads where tenant_id = p_tenant_id and id = p_from;
  if not found or not exists (select from public.revenue_leads where tenant_id = p_tenant_id and id = p_into) then
    -- Somebody else joined or deleted one of them while this waited.
    return coalesce(brainops.lead_alias(p_into, p_tenant_id), p_into);
  end if;

  update brainops.lead_keys set lead_id = p_into where tenant_id = p_tenant_id and lead_id = p_from;
  -- Its address is the other's to take from here on.
  update public.revenue_leads set merged_into = p_into where id = p_from;
  perform brainops.absorb_lead(p_into, v_lead);

  with dropped as (
    delete from public.lead_score_events as e
    where e.tenant_id = p_tenant_id and e.lead_id = p_from
      and (e.reason in ('set_by_client', 'merged') or e.reason in (select reason from brainops.score_reasons where kind = 'fact'))
    returning e.reason, e.points
  )
  select coalesce(jsonb_agg(jsonb_build_object('table', 'public.lead_score_events', 'row', to_jsonb(d))), '[]') into v_kept
    from dropped as d;
  v_kept := v_kept || brainops.move_lead_rows(p_tenant_id, p_into, p_from);

  delete from public.revenue_leads where id = p_from;
  insert into public.revenue_lead_aliases (id, tenant_id, lead_id) values (p_from, p_tenant_id, p_into);
  perform brainops.record_lead_event(
    p_tenant_id, p_into, 'merged', null, null, p_from::text, jsonb_build_object('id', p_from, 'kept', v_kept)
  );
  perform brainops.score_leads(array[p_into]);
  -- Joining never cools a lead.
  perform brainops.set_score(p_tenant_id, p_into, v_lead.score, 'merged')
  from public.revenue_leads
  where id = p_into and score < v_lead.score;
  return p_into;
end;
$$;

alter function brainops.join_leads(uuid, uuid, uuid) owner to brainops_system;

create function brainops.merge_leads(p_into uuid, p_from uuid)
returns uuid
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_into uuid := brainops.find_lead(p_into, null);
  v_from uuid := brainops.find_lead(p_from, null);
  v_tenant_id uuid;
begin
  if v_into is null or v_from is null then
    raise exception 'lead: % is no lead of yours', coalesce(case when v_into is null then p_into::text else p_from::text end, 'null')
      using errcode = 'OP009', hint = 'select id, email from revenue_leads';
  end if;
  if v_into = v_from then
    return v_into;
  end if;
  select tenant_id into v_tenant_id from public.revenue_leads where id = v_into;
  if not exists (select from public.revenue_leads where id = v_from and tenant_id = v_tenant_id) then
    raise exception 'lead: % and % are not of one tenant', p_into, p_from
      using errcode = 'OP012', hint = 'A person is one lead in each tenant; leads of two tenants stay two.';
  end if;
  return brainops.join_leads(v_tenant_id, v_into, v_from);
end;
$$;

comment on function brainops.merge_leads(uuid, uuid) is
  'Makes two leads of one tenant one: the first is filled from the second, everything that refers to the second is moved (what there is no room for is kept in the event merged), and its id goes on as an alias. Returns the id that is left; twice is as once.';

alter function brainops.merge_leads(uuid, uuid) owner to brainops_system;

-- What the provider reported about a mail, as events of the lead that it went to.
create function brainops.feed_lead_events()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_event text;
  v_url text;
  v_lead_id uuid;
begin
  if tg_table_name = 'email_bounces' then
    v_event := 'email_bounced';
  else
    v_event := case new.event
      when 'open' then 'email_opened'
      when 'click' then 'email_clicked'
      when 'spamreport' then 'email_complained'
      else 'email_unsubscribed'
    end;
    v_url := new.metadata ->> 'url';
  end if;
  if new.email_id is not null then
    select lead_id into v_lead_id from public.ai_email_queue where tenant_id = new.tenant_id and id = new.email_id;
    if not found then
      select coalesce(brainops.lead_alias(l.id, new.tenant_id), l.id) into v_lead_id
        from brainops.job_archive as a
        cross join lateral (select brainops.uuid_or_null(a.job_row ->> 'lead_id') as id) as l
        where a.row_id = new.email_id and a.tenant_id = new.tenant_id and a.table_name = 'ai_email_queue'
        limit 1;
    end if;
  end if;
  -- A mail to an address and not to a lead: the lead may have that address.
  if v_lead_id is null then
    select id into v_lead_id
      from public.revenue_leads
      where tenant_id = new.tenant_id and email_key = lower(new.recipient);
  end if;
  if v_lead_id is not null and exists (select from public.revenue_leads where id = v_lead_id) then
    perform brainops.record_lead_event(
      new.tenant_id, v_lead_id, v_event, 'email', new.occurred_at, new.id::text,
      jsonb_strip_nulls(jsonb_build_object('email_id', new.email_id, 'url', v_url))
    );
  end if;
  return null;
end;
$$;

alter function brainops.feed_lead_events() owner to brainops_system;

create trigger b0_feed_lead_events
after insert on public.email_deliveries
for each row
when
  (
    new.event in ('open', 'click', 'spamreport', 'unsubscribe', 'group_unsubscribe')
    -- Apple's mail service fetches every picture, whether anybody reads the mail or not.
    and new.metadata ->> 'machine_open' is distinct from 'true'
  )
execute function brainops.feed_lead_events();
create trigger b0_feed_lead_events
after insert on public.email_bounces
for each row
when (new.bounce_type = 'hard')
execute function brainops.feed_lead_events();

------------------------------------------------------------------------------------------------
-- Capture: files and forms

create table public.lead_forms (
  id uuid primary key default gen_random_uuid(),
  tenant_id uuid not null references public.tenants (id),
  name text not null,
  source text not null default 'form',
  defaults jsonb not null default '{}',
  active boolean not null default true,
  created_at timestamptz not null default brainops.now(),
  constraint lead_forms_once unique (tenant_id, name),
  constraint lead_forms_name_short check (name ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
  constraint lead_forms_defaults_is_object check (jsonb_typeof(defaults) = 'object')
);

comment on table public.lead_forms is
  'Forms that send leads to POST /forms/<token>, signed. `brainops leads form` makes one; its secret and its token are in provider_credentials, provider form, under the same name.';
comment on column public.lead_forms.source is 'source of the leads that come from it.';
comment on column public.lead_forms.defaults is
  'What a lead is given where the form says nothing, by columns of revenue_leads; others go into metadata.';
comment on column public.lead_forms.active is 'False: what it sends is refused.';

select brainops.protect_table('public.lead_forms');

-- The lead of a person who is known by every address that the row has; null where the row is somebody
-- new, or tells something new of who is who: then it takes an insert.
create function brainops.known_lead(p_lead public.revenue_leads)
returns uuid
language plpgsql
stable
set search_path = ''
as $$
declare
  v_email text := 'email:' || brainops.email_key(p_lead.email);
  v_phone text := 'phone:' || p_lead.phone_e164;
  v_lead_id uuid;
begin
  select l.id into v_lead_id
    from (
      select min(k.lead_id::text)::uuid as lead_id, count(*) as keys, count(distinct k.lead_id) as leads
      from brainops.lead_keys as k
      where k.tenant_id = p_lead.tenant_id and k.key in (v_email, v_phone)
    ) as k
    inner join public.revenue_leads as l on l.tenant_id = p_lead.tenant_id and l.id = k.lead_id
    where k.leads = 1 and k.keys = (v_email is not null)::int + (v_phone is not null)::int;
  return v_lead_id;
end;
$$;

-- What a file or a form says about one person. Told again it changes nothing.
create function brainops.capture_lead(p_tenant_id uuid, p_lead jsonb, p_source text, p_evidence jsonb)
returns table (lead_id uuid, is_new boolean)
language plpgsql
security definer
set search_path = ''
as $$
declare
  c_columns constant text[] := array[
    'company_name', 'contact_name', 'email', 'phone', 'phone_e164', 'website', 'stage', 'score', 'value_estimate', 'source',
    'time_zone', 'state', 'location', 'industry', 'status', 'owner_email', 'next_action', 'next_action_date', 'metadata',
    'is_test', 'is_demo'
  ];
  v_row public.revenue_leads;
  v_stage text := coalesce(p_lead ->> 'stage', 'new');
begin
  if not (
    p_tenant_id = brainops.current_tenant_id()
    or brainops.may_name_tenant()
    or pg_catalog.pg_has_role(session_user, 'brainops_admin', 'member')
  ) is true then
    raise exception 'tenant_id: % is not yours', p_tenant_id
      using errcode = 'insufficient_privilege', hint = 'Capture leads as a login of the tenant, or as a service.';
  end if;
  v_row := jsonb_populate_record(
    null::public.revenue_leads,
    (select coalesce(jsonb_object_agg(e.key, e.value), '{}') from jsonb_each(p_lead) as e where e.key = any (c_columns))
  );
  v_row.tenant_id := p_tenant_id;
  v_row.source := coalesce(v_row.source, p_source);
  v_row := brainops.normal_lead(v_row);
  if brainops.email_key(v_row.email) is null and v_row.phone_e164 is null then
    raise exception 'email: % and phone: % are no addresses',
      coalesce(quote_literal(left(v_row.email, 120)), 'null'), coalesce(quote_literal(left(v_row.phone, 60)), 'null')
      using errcode = 'OP013', column = 'email',
        hint = 'Give an e-mail address or a phone number with its country code: without one nobody can tell whether the person is a lead already.';
  end if;
  if brainops.normal_stage(v_stage) is null then
    raise exception 'stage: unknown word %', quote_literal(left(v_stage, 80))
      using errcode = 'OP011', column = 'stage',
        hint = 'Write new, contacted, qualified, proposal_sent, negotiating, won, lost or nurturing, or leave stage out.';
  end if;
  v_row.stage := brainops.normal_stage(v_stage);

  lead_id := brainops.known_lead(v_row);
  is_new := false;
  if lead_id is null or not brainops.absorb_lead(lead_id, v_row) then
    insert into public.revenue_leads (
      tenant_id, company_name, contact_name, email, phone, phone_e164, website, stage, score, value_estimate, source, time_zone,
      state, location, industry, status, owner_email, next_action, next_action_date, metadata, is_test, is_demo
    )
    values (
      p_tenant_id, v_row.company_name, v_row.contact_name, v_row.email, v_row.phone, v_row.phone_e164, v_row.website, v_row.stage,
      v_row.score, v_row.value_estimate, v_row.source, v_row.time_zone, v_row.state, v_row.location, v_row.industry, v_row.status,
      v_row.owner_email, v_row.next_action, v_row.next_action_date, v_row.metadata,
      coalesce(v_row.is_test, false), coalesce(v_row.is_demo, false)
    )
    returning id into lead_id;
    is_new := brainops.lead_alias(lead_id, p_tenant_id) is null;
    lead_id := coalesce(brainops.lead_alias(lead_id, p_tenant_id), lead_id);
  end if;
  perform brainops.capture_consent(p_tenant_id, lead_id, 'email', v_row.email, p_lead -> 'email_consent', p_source, p_evidence);
  perform brainops.capture_consent(p_tenant_id, lead_id, 'sms', v_row.phone_e164, p_lead -> 'sms_consent', p_source, p_evidence);
  return next;
end;
$$;

comment on function brainops.capture_lead(uuid, jsonb, text, jsonb) is
  'Takes what is said about a person (columns of revenue_leads, email_consent and sms_consent true or false) as a lead: a new one, or the one that the person is. p_source: where it comes from; p_evidence: what shows the consents.';

alter function brainops.capture_lead(uuid, jsonb, text, jsonb) owner to brainops_system;

-- A file is old news: it never lifts what the person has said since. A form is the person's own word
-- of now.
create function brainops.capture_consent(
  p_tenant_id uuid,
  p_lead_id uuid,
  p_channel text,
  p_address text,
  p_granted jsonb,
  p_source text,
  p_evidence jsonb
)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_state text := case p_granted when 'true' then 'granted' when 'false' then 'denied' end;
  v_before text;
begin
  if v_state is null or p_address is null then
    return;
  end if;
  v_before := brainops.consent_state(p_tenant_id, p_channel, p_address);
  if v_before = v_state or (v_before is not null and v_state = 'granted' and p_source = 'import') then
    return;
  end if;
  insert into public.contact_consents (tenant_id, lead_id, channel, address, state, source, evidence)
  values (p_tenant_id, p_lead_id, p_channel, p_address, v_state, p_source, coalesce(p_evidence, '{}'));
end;
$$;

-- A part of a file. Each row stands alone: what is wrong with one is told, and costs the others
-- nothing. The scores are asked for once, at the end.
create function brainops.import_leads(p_tenant_id uuid, p_rows jsonb)
returns table (line int, lead_id uuid, outcome text, column_name text, problem text, expected text)
language plpgsql
set search_path = ''
as $$
declare
  v_row jsonb;
  v_is_new boolean;
  v_ids uuid[];
begin
  -- Two files of the same people, in different orders, would end each other as deadlocks.
  perform pg_advisory_xact_lock(hashtextextended('brainops.import_leads:' || p_tenant_id, 0));
  perform set_config('brainops.hold_rescores', 'on', true);
  for v_row in
    select r from jsonb_array_elements(p_rows) as r
  loop
    line := (v_row ->> 'line')::int;
    lead_id := null;
    column_name := null;
    problem := null;
    expected := null;
    begin
      select c.lead_id, c.is_new into lead_id, v_is_new
        from brainops.capture_lead(p_tenant_id, v_row -> 'lead', 'import', v_row -> 'evidence') as c;
      outcome := case when v_is_new then 'new' else 'known' end;
      v_ids := v_ids || lead_id;
    exception
      when data_exception or integrity_constraint_violation or sqlstate 'OP011' or sqlstate 'OP012' or sqlstate 'OP013' then
        get stacked diagnostics problem = message_text, expected = pg_exception_hint, column_name = column_name;
        outcome := 'rejected';
    end;
    return next;
  end loop;
  perform set_config('brainops.hold_rescores', '', true);
  perform brainops.release_rescores(p_tenant_id, v_ids);
end;
$$;

comment on function brainops.import_leads(uuid, jsonb) is
  'Behind `brainops leads import`: takes rows {line, lead, evidence} as capture_lead does, and says of each whether it was new, known, or rejected and why.';

create function brainops.release_rescores(p_tenant_id uuid, p_lead_ids uuid[])
returns void
language sql
security definer
set search_path = ''
as $$
  select brainops.enqueue_rescores(array_agg(l.id))
  from public.revenue_leads as l
  where
    l.tenant_id = p_tenant_id
    and l.id = any (p_lead_ids)
    and l.rescore_requested_at is not null
    and (
      p_tenant_id = brainops.current_tenant_id()
      or brainops.may_name_tenant()
      or pg_catalog.pg_has_role(session_user, 'brainops_admin', 'member')
    );
$$;

comment on function brainops.release_rescores(uuid, uuid[]) is
  'Sets the jobs that score those of these leads that wait for it; a job too many does nothing.';

alter function brainops.release_rescores(uuid, uuid[]) owner to brainops_system;

-- One submission of a form. The same one sent again finds the same person, and stays one event.
create function brainops.submit_lead_form(
  p_tenant_id uuid,
  p_form text,
  p_submission_id text,
  p_lead jsonb,
  p_evidence jsonb
)
returns table (lead_id uuid, is_new boolean)
language plpgsql
set search_path = ''
as $$
declare
  v_form public.lead_forms;
  v_key text := 'form:' || p_form || ':' || p_submission_id;
begin
  select * into v_form from public.lead_forms where tenant_id = p_tenant_id and name = p_form and active;
  if not found then
    raise exception 'form: % is none, or is switched off', quote_literal(left(p_form, 80))
      using errcode = 'OP009', hint = 'select name, active from lead_forms';
  end if;
  select c.lead_id, c.is_new into lead_id, is_new
    from brainops.capture_lead(
      p_tenant_id,
      jsonb_build_object('source', v_form.source) || v_form.defaults || p_lead
        || jsonb_build_object('metadata', coalesce(v_form.defaults -> 'metadata', '{}') || coalesce(p_lead -> 'metadata', '{}')),
      'form',
      p_evidence || jsonb_build_object('form', p_form, 'submission', p_submission_id)
    ) as c;
  perform brainops.record_lead_event(
    p_tenant_id, lead_id, 'form_submitted', 'web', null, v_key, jsonb_build_object('form', p_form, 'fields', p_lead)
  );
  return next;
end;
$$;

comment on function brainops.submit_lead_form(uuid, text, text, jsonb, jsonb) is
  'Behind POST /forms/<token>: a lead, its consents, and the event form_submitted, once for each p_submission_id.';

-- Leads that are there already: their stages in our words, each person once, and scored by and by.
update public.revenue_leads set stage = coalesce(brainops.normal_stage(stage), 'new');

alter table public.revenue_leads
add constraint revenue_leads_stage_known
  check (stage in ('new', 'contacted', 'qualified', 'proposal_sent', 'negotiating', 'won', 'lost', 'nurturing'));

drop trigger touch_updated_at on public.revenue_leads;

create trigger a2_capture_lead
before insert on public.revenue_leads
for each row
execute function brainops.before_lead_insert();
create trigger a2_check_lead
before update on public.revenue_leads
for each row
execute function brainops.before_lead_update();
create trigger a3_move_lead_keys
before update on public.revenue_leads
for each row
when (old.email is distinct from new.email or old.phone_e164 is distinct from new.phone_e164)
execute function brainops.move_lead_keys();
create trigger a0_drop_merged_lead
after insert on public.revenue_leads
for each row
when (new.merged_into is not null)
execute function brainops.drop_merged_lead();
create trigger b0_after_lead_score_update
after update on public.revenue_leads
for each row
when (old.score is distinct from new.score and new.scored_at is not null and current_user <> 'brainops_system')
execute function brainops.after_lead_score_update();
create trigger c0_after_lead_insert
after insert on public.revenue_leads
referencing new table as inserted
for each statement
execute function brainops.after_lead_insert();
create trigger c2_after_lead_delete
after delete on public.revenue_leads
referencing old table as deleted
for each statement
execute function brainops.after_lead_delete();

do $$
declare
  v_lead public.revenue_leads;
  v_into uuid;
begin
  -- In here, because the formatter knows no trigger with two transition tables.
  create trigger c1_after_lead_update
  after update on public.revenue_leads
  referencing old table as before_rows new table as after_rows
  for each statement
  execute function brainops.after_lead_update();

  for v_lead in select * from public.revenue_leads order by created_at, id
  loop
    update public.revenue_leads
    set phone_e164 = (brainops.normal_lead(v_lead)).phone_e164, rescore_requested_at = brainops.now()
    where id = v_lead.id
    returning * into v_lead;
    v_into := null;
    if v_lead.email_key is not null then
      v_into := nullif(brainops.claim_lead_key(v_lead.tenant_id, 'email:' || v_lead.email_key, v_lead.id), v_lead.id);
    end if;
    if v_into is not null then
      perform brainops.join_leads(v_lead.tenant_id, v_into, v_lead.id);
    end if;
  end loop;
end;
$$;

drop index public.revenue_leads_email;
create unique index revenue_leads_person on public.revenue_leads (tenant_id, email_key) where email_key is not null;
create index revenue_leads_phone on public.revenue_leads (tenant_id, phone_e164) where phone_e164 is not null;

do $$
declare
  v_function regprocedure;
begin
  for v_function in
    select p.oid::regprocedure
    from pg_catalog.pg_proc as p
    where p.pronamespace = 'brainops'::regnamespace
      and p.proname = any (
        '{normal_stage,next_stages,stage_rank,email_key,phone_e164,lead_alias,find_lead,resolve_lead_id,record_lead_event,record_reply,request_rescore,after_lead_events,after_lead_score_events,is_free_mail,is_yes,lead_facts,decayed,score_total,clamp_score,score_leads,rescore_stale,normal_lead,claim_lead_key,absorb_lead,set_score,before_lead_insert,drop_merged_lead,enqueue_rescores,after_lead_insert,before_lead_update,move_lead_keys,after_lead_update,after_lead_score_update,after_lead_delete,take_row,move_lead_rows,join_leads,merge_leads,feed_lead_events,known_lead,capture_lead,capture_consent,import_leads,release_rescores,submit_lead_form}'::text[]
      )
  loop
    execute format('revoke execute on function %s from public', v_function);
    execute format('grant execute on function %s to brainops_system', v_function);
  end loop;
end;
$$;

-- Used by triggers and generated columns that run with a client's rights, or made for clients.
grant execute
on function brainops.normal_stage(text),
brainops.next_stages(text),
brainops.stage_rank(text),
brainops.email_key(text),
brainops.phone_e164(text, text),
brainops.is_free_mail(text),
brainops.is_yes(text),
brainops.lead_facts(public.revenue_leads),
brainops.decayed(numeric, interval, timestamptz, timestamptz),
brainops.score_total(uuid, uuid),
brainops.clamp_score(numeric),
brainops.normal_lead(public.revenue_leads),
brainops.record_lead_event(uuid, uuid, text, text, timestamptz, text, jsonb),
brainops.record_reply(uuid, text, text),
brainops.merge_leads(uuid, uuid),
brainops.capture_lead(uuid, jsonb, text, jsonb),
brainops.import_leads(uuid, jsonb),
brainops.release_rescores(uuid, uuid[]),
brainops.submit_lead_form(uuid, text, text, jsonb, jsonb)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin;
grant execute on function brainops.resolve_lead_id() to brainops_admin;
