-- Compares rows whose outcome was lost with all that the account has in its list to one number since
-- (p_messages: sid, body, created_at). Texts are told apart by number, words and time; where two rows
-- have the same words, the first message is the first row's, and of two rows with one message the
-- second one was not sent. A message that explains no row leaves everything open: then a person
-- looks. What is surely not there is made due again, twice; the third time it fails.
create or replace function brainops_internal.reconcile_sms(p_account_sid text, p_number text, p_messages jsonb)
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
      from brainops_internal.unexplained_messages(p_messages, v_row.id, v_row.started_at - c_clocks) as m
      where brainops_internal.same_text(m.body, v_row.text_sent)
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
      from brainops_internal.unexplained_messages(p_messages, v_row.id, v_row.started_at - c_clocks);
    id := v_row.id;
    verdict := brainops_internal.settle_absent_sms(v_row, v_strangers);
    return next;
  end loop;
end;
$$;

comment on function brainops_internal.reconcile_sms(text, text, jsonb) is
  'Settles unconfirmed texts to a number by all messages that Twilio has to it; verdict: sent, not sent (due again), given up, unclear, too early.';

revoke execute on function brainops_internal.reconcile_sms(text, text, jsonb) from public;
grant execute on function brainops_internal.reconcile_sms(text, text, jsonb) to brainops_system;

-- A text that is not in Twilio's list, where so many texts are that nobody knows.
create or replace function brainops_internal.settle_absent_sms(p_sms public.ai_sms_queue, p_strangers int)
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

revoke execute on function brainops_internal.settle_absent_sms(ai_sms_queue, int) from public;
grant execute on function brainops_internal.settle_absent_sms(ai_sms_queue, int) to brainops_system;

-- What to ask Twilio about: settles what callbacks have told meanwhile, and returns the rest.
create or replace function brainops_internal.unconfirmed_sms(p_limit int)
returns table (account_sid text, number text, since timestamptz, tenant_ids uuid[])
language plpgsql
set search_path = ''
as $$
declare
  v_now constant timestamptz := brainops.now();
begin
  perform brainops_internal.settle_sms_by_callbacks(told.tenant_id, told.id)
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

comment on function brainops_internal.unconfirmed_sms(int) is
  'Which lists of Twilio''s to ask for: through which account texts with a lost outcome went, to whom, and since when; once callbacks have settled what they can.';

revoke execute on function brainops_internal.unconfirmed_sms(int) from public;
grant execute on function brainops_internal.unconfirmed_sms(int) to brainops_system;

-- Messages of Twilio's list that no row of ours is known to be, but for the row in question.
create or replace function brainops_internal.unexplained_messages(p_messages jsonb, p_id uuid, p_since timestamptz)
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

revoke execute on function brainops_internal.unexplained_messages(jsonb, uuid, timestamptz) from public;
grant execute on function brainops_internal.unexplained_messages(jsonb, uuid, timestamptz) to brainops_system;

-- Spaces at the ends and runs of them are not Twilio's to keep.
create or replace function brainops_internal.same_text(p_one text, p_other text)
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

revoke execute on function brainops_internal.same_text(text, text) from public;
grant execute on function brainops_internal.same_text(text, text) to brainops_system;
