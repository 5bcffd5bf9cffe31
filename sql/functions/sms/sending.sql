-- The last thing before the text goes: from here on its outcome may be lost, and then to_number and
-- text_sent are what it is recognised by. False where the row is not the caller's any more.
create or replace function brainops_internal.begin_sms(
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

comment on function brainops_internal.begin_sms(uuid, uuid, text, text, int, text, text, boolean) is
  'Writes down what is about to be sent, to whom and from where; false where the lease does not hold.';

revoke execute on function brainops_internal.begin_sms(uuid, uuid, text, text, int, text, text, boolean) from public;
grant execute
on function brainops_internal.begin_sms(uuid, uuid, text, text, int, text, text, boolean)
to brainops_worker, brainops_system;

-- A number that libphonenumber read. The row goes back to be judged by it.
create or replace function brainops_internal.address_sms(p_id uuid, p_lease uuid, p_number text)
returns boolean
language plpgsql
set search_path = ''
as $$
begin
  update public.ai_sms_queue set recipient = p_number where id = p_id and lease = p_lease and status = 'processing';
  return found;
end;
$$;

comment on function brainops_internal.address_sms(uuid, uuid, text) is
  'Writes the recipient in E.164; false where the lease does not hold.';

revoke execute on function brainops_internal.address_sms(uuid, uuid, text) from public;
grant execute on function brainops_internal.address_sms(uuid, uuid, text) to brainops_worker, brainops_system;

-- The number of the tenant's that the person knows, else the oldest; null where TWILIO_FROM serves.
create or replace function brainops_internal.sms_sender(p_tenant_id uuid, p_number text)
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

comment on function brainops_internal.sms_sender(uuid, text) is
  'Which of the tenant''s numbers a text to the person goes out from; null where it has none and TWILIO_FROM serves.';

revoke execute on function brainops_internal.sms_sender(uuid, text) from public;
grant execute on function brainops_internal.sms_sender(uuid, text) to brainops_worker, brainops_system;

-- Whether a text to the person is the first from there that tells how to opt out. A text that told
-- and then failed told nobody.
create or replace function brainops_internal.sms_needs_opt_out_notice(
  p_sms public.ai_sms_queue,
  p_number text,
  p_sender text
)
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

comment on function brainops_internal.sms_needs_opt_out_notice(public.ai_sms_queue, text, text) is
  'Whether the text has to tell how to opt out: a marketing text to a person who has had no such word from that sender.';

revoke execute on function brainops_internal.sms_needs_opt_out_notice(ai_sms_queue, text, text) from public;
grant execute
on function brainops_internal.sms_needs_opt_out_notice(ai_sms_queue, text, text)
to brainops_worker, brainops_system;

-- Due again: nothing of the last run is true of the next one.
create or replace function brainops_internal.forget_sms_run()
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

revoke execute on function brainops_internal.forget_sms_run() from public;
grant execute on function brainops_internal.forget_sms_run() to brainops_system;

-- Tried again: what was about to be sent was not.
create or replace function brainops_internal.unbegin_sms()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  new.text_sent := null;
  return new;
end;
$$;

revoke execute on function brainops_internal.unbegin_sms() from public;
grant execute on function brainops_internal.unbegin_sms() to brainops_system;

-- What is known already when an outcome is lost. The callback can be faster than our own time limit;
-- and where begin_sms has written no text, none has gone out, and none can: it asks for the lease.
create or replace function brainops_internal.settle_sms_at_once()
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

revoke execute on function brainops_internal.settle_sms_at_once() from public;
grant execute on function brainops_internal.settle_sms_at_once() to brainops_system;
