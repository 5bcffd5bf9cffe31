-- What providers report: a ledger first, effects later. The HTTP server verifies, records and
-- answers; a job processes. Any order, any number of times, one end state.
set local lock_timeout = '2s';

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

alter table public.webhook_events enable row level security;
alter table public.webhook_events force row level security;

create policy own_tenant on public.webhook_events
for select
to brainops_tenant, brainops_worker, brainops_service
using (tenant_id = (select brainops.current_tenant_id()));
create policy every_row on public.webhook_events
for all
to brainops_admin, brainops_system
using (true)
with check (true);

grant select on public.webhook_events to brainops_tenant, brainops_worker, brainops_service;
grant select, insert, update, delete on public.webhook_events to brainops_admin, brainops_system;

-- An archived mail is asked for by its id alone, by every event about it.
create index job_archive_row_id on brainops.job_archive (row_id);

-- SendGrid's X-Message-Id, as events carry it: before the first dot of sg_message_id; a bounce that
-- came as a mail of its own lacks that, but may have it in smtp-id, <X-Message-Id@…>.
create function brainops.sendgrid_message_id(p_event jsonb)
returns text
language sql
immutable
set search_path = ''
as $$
  select coalesce(
    nullif(split_part(p_event ->> 'sg_message_id', '.', 1), ''),
    substring(p_event ->> 'smtp-id' from '^<([^@<>]+)@')
  )
$$;

-- The e-mail an event is about: by our id in it, else by the provider's message id. A bounce that
-- came as a mail of its own may carry neither: then by the recent mails to its address, where all
-- of them are one tenant's (email_id stays null where they are several). Any other event without
-- our ids is about a mail that someone else sent through the same SendGrid account.
create type brainops.email_reference as (tenant_id uuid, email_id uuid);

create function brainops.find_email(p_event jsonb)
returns brainops.email_reference
language plpgsql
stable
set search_path = ''
as $$
declare
  v_id uuid := brainops.uuid_or_null(p_event ->> 'bo_msg');
  v_message_id text := brainops.sendgrid_message_id(p_event);
  v_found brainops.email_reference;
begin
  if v_id is not null then
    select tenant_id, id into v_found from public.ai_email_queue where id = v_id;
    if not found then
      select tenant_id, row_id into v_found
        from brainops.job_archive
        where row_id = v_id and table_name = 'ai_email_queue'
        limit 1;
    end if;
    return v_found;
  end if;
  if v_message_id is not null then
    -- One message of many recipients has one id: the address decides.
    select tenant_id, id into v_found
      from public.ai_email_queue as q
      where provider_message_id = v_message_id
      order by (lower(recipient) = lower(p_event ->> 'email')) desc
      limit 1;
    if found then
      return v_found;
    end if;
  end if;
  if p_event ->> 'event' = 'bounce' and coalesce(p_event ->> 'sg_message_id', '') = '' then
    select min(tenant_id::text)::uuid, case when count(*) = 1 then min(id::text)::uuid end
      into v_found.tenant_id, v_found.email_id
      from public.ai_email_queue
      where lower(recipient) = lower(btrim(p_event ->> 'email')) and sent_at > brainops.now() - interval '7 days'
      having count(distinct tenant_id) = 1;
  end if;
  return v_found;
end;
$$;

-- Writes events down, each once, and sets jobs to process them. Returns how many were new.
create function brainops.record_webhook_events(p_provider text, p_events jsonb)
returns int
language plpgsql
set search_path = ''
as $$
declare
  -- So many that the job's own cost does not count, so few that several workers share a large batch.
  c_per_job constant int := 500;
  v_ids uuid[];
begin
  with recorded as (
    insert into public.webhook_events (provider, provider_event_id, tenant_id, payload, signature_ok)
    select distinct on (i.event_id) p_provider, i.event_id, i.tenant_id, i.event, true
    from (
      select
        -- Ids have at most 100 characters; a longer one would not fit into the index, and would
        -- take the whole batch with it.
        case
          when length(e ->> 'sg_event_id') between 1 and 200 then e ->> 'sg_event_id'
          else 'md5:' || md5(e::text)
        end as event_id,
        -- By our own id alone: it is what makes the same event the same row each time.
        coalesce(q.tenant_id, a.tenant_id) as tenant_id,
        e as event
      from jsonb_array_elements(p_events) as e
      left join public.ai_email_queue as q on q.id = brainops.uuid_or_null(e ->> 'bo_msg')
      left join lateral (
        select j.tenant_id from brainops.job_archive as j
        where q.id is null and j.row_id = brainops.uuid_or_null(e ->> 'bo_msg')
        limit 1
      ) as a on true
    ) as i
    -- One order for everyone, so that two requests with the same events never wait for each other.
    order by i.event_id
    on conflict do nothing
    returning id
  )
  select array_agg(id) into v_ids from recorded;
  for i in 1..coalesce(cardinality(v_ids), 0) by c_per_job
  loop
    perform graphile_worker.add_job('webhook_event__process', json_build_object('ids', v_ids[i:i + c_per_job - 1]));
  end loop;
  return coalesce(cardinality(v_ids), 0);
end;
$$;

comment on function brainops.record_webhook_events(text, jsonb) is
  'Ledgers an array of verified events, each once, and sets a job to process them; returns how many were new.';

-- What a person said to SendGrid about our mails, by the time of each word and not by the order
-- they came in; at the same second the one that stops wins. Joining a group again takes back
-- leaving that group, nothing else: who left them all has to be asked.
create function brainops.settle_consent(p_tenant_id uuid, p_address text)
returns void
language plpgsql
set search_path = ''
as $$
begin
  if exists (
    select
    from (
      select distinct on (w.topic) w.stops
      from (
        select
          case when event like 'group_%' then coalesce(metadata ->> 'asm_group_id', '') else 'every mail' end as topic,
          event <> 'group_resubscribe' as stops,
          occurred_at
        from public.email_deliveries
        where tenant_id = p_tenant_id
          and recipient = p_address
          and (
            event in ('unsubscribe', 'group_unsubscribe', 'group_resubscribe')
            -- The provider's word for one that it heard earlier.
            or (event = 'dropped' and lower(metadata ->> 'reason') = 'unsubscribed address')
          )
      ) as w
      order by w.topic, w.occurred_at desc, w.stops desc
    ) as last_words
    where stops
  ) then
    perform brainops.suppress(p_tenant_id, 'email', p_address, 'unsubscribed', 'sendgrid');
  else
    delete from public.contact_suppressions
    where tenant_id = p_tenant_id and channel = 'email' and address_key = p_address
      and reason = 'unsubscribed' and source = 'sendgrid';
  end if;
end;
$$;

-- From the gravest down. What clients wrote themselves ranks above unsubscribed, the one reason
-- that a later event may take back: their rows are not ours to delete.
create function brainops.suppression_rank(p_reason text)
returns int
language sql
immutable
set search_path = ''
as $$
  select
    case p_reason
      when 'complained' then 1
      when 'bounced' then 2
      when 'unsubscribed' then 4
      else 3
    end;
$$;

-- Suppresses for ever. Where the address is suppressed for ever already, the graver reason stays,
-- so that the order of events does not matter.
create function brainops.suppress(p_tenant_id uuid, p_channel text, p_address text, p_reason text, p_source text)
returns void
language sql
set search_path = ''
as $$
  insert into public.contact_suppressions as s (tenant_id, channel, address, reason, source)
  values (p_tenant_id, p_channel, p_address, p_reason, p_source)
  on conflict (tenant_id, channel, address_key) do update
    set
      reason = excluded.reason,
      source = excluded.source,
      expires_at = null
    where s.expires_at is not null or brainops.suppression_rank(excluded.reason) < brainops.suppression_rank(s.reason);
$$;

-- An event about a mail whose outcome we lost says that the provider had it. The result is the
-- same whichever of the mail's events comes first.
create function brainops.settle_by_events(p_tenant_id uuid, p_email_id uuid)
returns void
language sql
set search_path = ''
as $$
  update public.ai_email_queue as q
  set
    status = case
      when e.taken then 'completed'
      else 'failed'
    end,
    sent_at = case
      when e.taken then coalesce(q.sent_at, q.started_at, e.first_at)
      else q.sent_at
    end,
    provider_message_id = coalesce(q.provider_message_id, e.message_id),
    last_error = case
      when not e.taken then 'SendGrid dropped it: ' || coalesce(e.reason, 'no reason given')
    end
  from
    (
      select
        bool_or(event <> 'dropped') as taken,
        min(occurred_at) as first_at,
        min(provider_message_id) as message_id,
        min(metadata ->> 'reason') as reason
      from public.email_deliveries
      where tenant_id = p_tenant_id and email_id = p_email_id
    ) as e
  where q.tenant_id = p_tenant_id and q.id = p_email_id and q.status = 'unconfirmed' and e.taken is not null;
$$;

-- One SendGrid event. Returns null, or why it has no effect.
create function brainops.apply_sendgrid_event(p_event jsonb)
returns text
language plpgsql
set search_path = ''
as $$
declare
  c_events constant text[] := array[
    'processed', 'deferred', 'delivered', 'bounce', 'dropped', 'open', 'click', 'spamreport',
    'unsubscribe', 'group_unsubscribe', 'group_resubscribe'
  ];
  v_event text := p_event ->> 'event';
  v_recipient text := lower(btrim(p_event ->> 'email'));
  v_at timestamptz;
  v_email brainops.email_reference;
  v_reason text := coalesce(p_event ->> 'reason', p_event ->> 'response');
  v_detail text := concat_ws(' ', p_event ->> 'url', (p_event -> 'url_offset')::text, p_event ->> 'attempt');
  v_classification text := lower(coalesce(p_event ->> 'bounce_classification', ''));
  v_hard boolean;
begin
  if jsonb_typeof(p_event) <> 'object' or v_event is null then
    return 'it is no event: it has no field "event"';
  end if;
  if v_event <> all (c_events) then
    return 'nobody knows the event ' || quote_literal(left(v_event, 80));
  end if;
  if length(coalesce(v_recipient, '')) not between 1 and 320
    or coalesce(p_event ->> 'timestamp', '') !~ '^[0-9]{9,11}$'
  then
    return 'it has no usable "email" and "timestamp"';
  end if;
  v_at := to_timestamp((p_event ->> 'timestamp')::bigint);
  v_email := brainops.find_email(p_event);
  if v_email.tenant_id is null then
    return 'it is about no message of ours';
  end if;

  insert into public.email_deliveries (tenant_id, email_id, recipient, event, provider_message_id, occurred_at, detail, metadata)
  values (
    v_email.tenant_id,
    v_email.email_id,
    v_recipient,
    v_event,
    brainops.sendgrid_message_id(p_event),
    v_at,
    -- A clicked url may be longer than an index takes.
    case when length(v_detail) <= 500 then v_detail else left(v_detail, 400) || ' md5:' || md5(v_detail) end,
    jsonb_strip_nulls(jsonb_build_object(
      'reason', v_reason,
      'type', p_event -> 'type',
      'status', p_event -> 'status',
      'bounce_classification', p_event -> 'bounce_classification',
      'url', p_event -> 'url',
      'machine_open', p_event -> 'sg_machine_open',
      'asm_group_id', case when v_event like 'group_%' then p_event -> 'asm_group_id' end
    ))
  )
  on conflict do nothing;
  if not found then
    return null; -- told before, under another event id
  end if;

  -- Asked first, because an update of no row still costs the queue's triggers.
  if exists (select from public.ai_email_queue where id = v_email.email_id and status = 'unconfirmed') then
    perform brainops.settle_by_events(v_email.tenant_id, v_email.email_id);
  end if;

  if v_event = 'bounce' then
    -- "blocked" and the soft classes may work another day; an address that does not exist will not.
    v_hard := coalesce(p_event ->> 'type', 'bounce') = 'bounce'
      and v_classification not in ('reputation', 'content', 'technical failure', 'frequency or volume too high')
      and (
        v_classification in ('invalid address', 'mailbox unavailable')
        or coalesce(p_event ->> 'status', '') like '5.%'
        or coalesce(v_reason, '') ~ '^5'
      );
    insert into public.email_bounces (tenant_id, recipient, bounce_type, reason, occurred_at, email_id)
    values (v_email.tenant_id, v_recipient, case when v_hard then 'hard' else 'soft' end, v_reason, v_at, v_email.email_id)
    on conflict do nothing;
    if v_hard then
      perform brainops.suppress(v_email.tenant_id, 'email', v_recipient, 'bounced', 'sendgrid');
    end if;
  elsif v_event = 'spamreport' then
    perform brainops.suppress(v_email.tenant_id, 'email', v_recipient, 'complained', 'sendgrid');
  elsif v_event in ('unsubscribe', 'group_unsubscribe', 'group_resubscribe') then
    perform brainops.settle_consent(v_email.tenant_id, v_recipient);
  elsif v_event = 'dropped' then
    -- The provider knows of an older refusal: take it over.
    case lower(v_reason)
      when 'bounced address' then
        perform brainops.suppress(v_email.tenant_id, 'email', v_recipient, 'bounced', 'sendgrid');
      when 'spam reporting address' then
        perform brainops.suppress(v_email.tenant_id, 'email', v_recipient, 'complained', 'sendgrid');
      when 'unsubscribed address' then
        perform brainops.settle_consent(v_email.tenant_id, v_recipient);
      else
        null; -- about the mail, not about the person
    end case;
  end if;
  return null;
end;
$$;

-- Processes what of p_ids is pending. Each event stands alone: one that fails takes nothing with
-- it, is tried three times in all, and then stays as failed.
create function brainops.process_webhook_events(p_ids uuid[])
returns table (status text, events int)
language plpgsql
set search_path = ''
as $$
declare
  c_attempts constant int := 3;
  v_row public.webhook_events;
  v_skip_reason text;
  v_error text;
begin
  for v_row in
    select * from public.webhook_events as w
    where w.id = any (p_ids) and w.status = 'pending'
    -- By person, for everyone who processes: what is written is about a person, so two who have
    -- the same persons in hand (a repeated batch) never wait for each other crosswise.
    order by lower(w.payload ->> 'email'), w.payload ->> 'event', w.payload ->> 'timestamp', w.id
    for update skip locked
  loop
    v_error := null;
    v_skip_reason := null;
    begin
      v_skip_reason := case v_row.provider
        when 'sendgrid' then brainops.apply_sendgrid_event(v_row.payload)
        else 'nobody knows the provider ' || v_row.provider
      end;
    exception
      when others then v_error := sqlerrm;
    end;
    update public.webhook_events as w
    set
      attempts = w.attempts + 1,
      last_error = v_error,
      skip_reason = v_skip_reason,
      status = case
        when v_error is null and v_skip_reason is null then 'completed'
        when v_error is null then 'skipped'
        when w.attempts + 1 >= c_attempts then 'failed'
        else 'pending'
      end,
      processed_at = case when v_error is null or w.attempts + 1 >= c_attempts then brainops.now() end
    where w.id = v_row.id;
  end loop;
  perform pg_notify('brainops_jobs', 'webhook_events');
  return query
    select w.status, count(*)::int from public.webhook_events as w where w.id = any (p_ids) group by w.status;
end;
$$;

comment on function brainops.process_webhook_events(uuid[]) is
  'Applies pending events, each on its own; returns how many rows now have which status.';

-- Setting a row to pending runs it again, as in every job table.
create function brainops.before_webhook_update()
returns trigger
language plpgsql
-- Admins may set the status, but only the owner of graphile_worker may add jobs.
security definer
set search_path = ''
as $$
begin
  new.attempts := 0;
  new.processed_at := null;
  new.skip_reason := null;
  perform graphile_worker.add_job('webhook_event__process', json_build_object('ids', array[new.id]));
  return new;
end;
$$;

alter function brainops.before_webhook_update() owner to brainops_system;
revoke execute on function brainops.before_webhook_update() from public;

create trigger process_again
before update of status on public.webhook_events
for each row
when (old.status <> 'pending' and new.status = 'pending')
execute function brainops.before_webhook_update();

-- The sweep's second half: events whose job got lost, and mails that became unconfirmed after their
-- events had come (the webhook can be faster than our own time limit).
create function brainops.sweep_webhook_events()
returns int
language plpgsql
set search_path = ''
as $$
declare
  v_ids uuid[];
begin
  select array_agg(id) into v_ids
    from (
      select id from public.webhook_events
      where status = 'pending' and received_at < brainops.now() - interval '1 minute'
      order by received_at
      limit 1000
    ) as s;
  if v_ids is not null then
    perform graphile_worker.add_job(
      'webhook_event__process', json_build_object('ids', v_ids), job_key => 'webhook_events:sweep'
    );
  end if;

  perform brainops.settle_by_events(tenant_id, id)
  from (
    select q.tenant_id, q.id
    from public.ai_email_queue as q
    where q.status = 'unconfirmed'
      and exists (select from public.email_deliveries as d where d.tenant_id = q.tenant_id and d.email_id = q.id)
    limit 1000
  ) as told;
  return coalesce(cardinality(v_ids), 0);
end;
$$;

do $$
declare
  v_function regprocedure;
begin
  foreach v_function in array array[
    'brainops.find_email(jsonb)',
    'brainops.record_webhook_events(text, jsonb)',
    'brainops.sendgrid_message_id(jsonb)',
    'brainops.settle_consent(uuid, text)',
    'brainops.suppression_rank(text)',
    'brainops.settle_by_events(uuid, uuid)',
    'brainops.suppress(uuid, text, text, text, text)',
    'brainops.apply_sendgrid_event(jsonb)',
    'brainops.process_webhook_events(uuid[])',
    'brainops.sweep_webhook_events()'
  ]::regprocedure[]
  loop
    execute format('revoke execute on function %s from public', v_function);
    execute format('grant execute on function %s to brainops_system', v_function);
  end loop;
end;
$$;
