-- Sending a text. src/revenue/sms/send.ts composes the text and calls Twilio; these functions keep the row's record of
-- it. Start at begin_sms. The triggers at the end handle what may follow: a new run, or a lost outcome.

-- The last step before Twilio is called. From here on the outcome may be lost, and reconciliation then finds the
-- message by to_number and text_sent. If the lease no longer holds, nothing is written, and the text must not be sent.
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
  'Records the number, account and text that are about to be sent, and the thread. False if the lease no longer holds. p_sender: as sms_threads.sender. p_tells: whether the text carries the opt-out notice.';

revoke execute on function brainops_internal.begin_sms(uuid, uuid, text, text, int, text, text, boolean) from public;
grant execute
on function brainops_internal.begin_sms(uuid, uuid, text, text, int, text, text, boolean)
to brainops_worker, brainops_system;

-- For a number that only libphonenumber could read. The worker then defers the row, so that the gate checks that
-- number.
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
  'Stores the recipient in E.164 as the worker read it; false if the lease no longer holds.';

revoke execute on function brainops_internal.address_sms(uuid, uuid, text) from public;
grant execute on function brainops_internal.address_sms(uuid, uuid, text) to brainops_worker, brainops_system;

-- The number that the person texted with last, else the tenant's oldest one.
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
  'Which of the tenant''s numbers to text the person from; null if it has no active one, so that TWILIO_FROM is used.';

revoke execute on function brainops_internal.sms_sender(uuid, text) from public;
grant execute on function brainops_internal.sms_sender(uuid, text) to brainops_worker, brainops_system;

-- A notice in a text that failed, or was cancelled or skipped, did not reach the person and does not count.
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
        left join public.ai_sms_queue as notice on notice.tenant_id = t.tenant_id and notice.id = t.told_by
      where
        t.tenant_id = p_sms.tenant_id
        and t.number = p_number
        and t.sender is not distinct from p_sender
        and t.told_by is not null
        and t.told_by <> p_sms.id
        and coalesce(notice.status, 'completed') not in ('failed', 'cancelled', 'skipped')
    );
$$;

comment on function brainops_internal.sms_needs_opt_out_notice(public.ai_sms_queue, text, text) is
  'Whether the text must carry the opt-out notice: it is marketing, and the person has not had the notice from that sender yet.';

revoke execute on function brainops_internal.sms_needs_opt_out_notice(public.ai_sms_queue, text, text) from public;
grant execute
on function brainops_internal.sms_needs_opt_out_notice(public.ai_sms_queue, text, text)
to brainops_worker, brainops_system;

-- A row that becomes due again starts a new run, to which no result of the last one applies. The MessageSids of earlier
-- runs are kept, so that late reports about them do not settle the new run.
create or replace function brainops_internal.forget_sms_run()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  new.earlier_message_ids := array(
    select distinct m from unnest(old.earlier_message_ids || old.provider_message_id) as m where m is not null
    union
    -- Reported while the outcome was unknown.
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

comment on function brainops_internal.forget_sms_run is
  'Trigger: clears the last run''s results when a finished row becomes pending again.';

revoke execute on function brainops_internal.forget_sms_run() from public;
grant execute on function brainops_internal.forget_sms_run() to brainops_system;

-- A row in flight goes back to pending only if its text was not sent. settle_sms_at_once takes a null text_sent to mean
-- that.
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

comment on function brainops_internal.unbegin_sms is
  'Trigger: clears text_sent when a row goes from processing back to pending.';

revoke execute on function brainops_internal.unbegin_sms() from public;
grant execute on function brainops_internal.unbegin_sms() to brainops_system;

-- Settles a row whose outcome is being lost, as far as the outcome is known. If begin_sms wrote no text, none was sent
-- and none can be, because begin_sms asks for the lease: the row is due again (or cancelled, or failed after its last
-- attempt). If a callback has arrived, which can be faster than the worker's time limit, the text was sent.
create or replace function brainops_internal.settle_sms_at_once()
returns trigger
language plpgsql
set search_path = ''
as $$
declare
  v_now constant timestamptz := brainops.now();
  v_reported record;
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
  select d.provider_message_id, min(d.occurred_at) as at into v_reported
    from public.sms_deliveries as d
    where d.tenant_id = new.tenant_id and d.sms_id = new.id and d.provider_message_id is not null
      and d.provider_message_id <> all (new.earlier_message_ids)
    group by d.provider_message_id
    order by 1
    limit 1;
  if found then
    new.status := 'completed';
    new.finished_at := v_now;
    new.sent_at := coalesce(new.sent_at, v_reported.at);
    new.provider_message_id := v_reported.provider_message_id;
    new.last_error := null;
  end if;
  return new;
end;
$$;

comment on function brainops_internal.settle_sms_at_once is
  'Trigger: settles a row that would become unconfirmed, if the text was certainly not sent or a callback has reported it.';

revoke execute on function brainops_internal.settle_sms_at_once() from public;
grant execute on function brainops_internal.settle_sms_at_once() to brainops_system;
