-- Texts with a lost outcome (status unconfirmed), settled by Twilio's own message list. Every minute, the task
-- sms__reconcile asks unconfirmed_sms which lists to fetch, fetches them with no transaction open, and passes each one
-- to reconcile_sms. Start there.

-- Matches unconfirmed rows with all messages that the account has to one number since the first of them. A message
-- matches by number, text and time. If several rows have the same text, messages are assigned to them in order; a row
-- without a message was not sent. A message that belongs to no row leaves the remaining rows unconfirmed, for a person
-- to compare. A text that is certainly absent is made due again, twice; the third time it fails.
-- One call at a time for an account and number: two concurrent calls could assign one message to two rows. So a call
-- locks all of the rows, and if another transaction has one of them, a call or a client, it leaves them to the next
-- minute instead of waiting.
create or replace function brainops_internal.reconcile_sms(p_account_sid text, p_number text, p_messages jsonb)
returns table (id uuid, verdict text)
language plpgsql
set search_path = ''
as $$
declare
  -- Tolerance for the difference of the two clocks, and for Twilio's whole seconds.
  c_clocks constant interval := '2 minutes';
  v_locked uuid[];
  v_row public.ai_sms_queue;
  v_message record;
  v_unmatched int;
begin
  v_locked := array(
    select q.id from public.ai_sms_queue as q
    where q.account_sid = p_account_sid and q.to_number = p_number and q.status = 'unconfirmed'
    for update skip locked
  );
  -- A row in flight may be the one that a message belongs to.
  if exists (
    select from public.ai_sms_queue as q
    where q.account_sid = p_account_sid and q.to_number = p_number
      and (q.status = 'processing' or q.status = 'unconfirmed' and q.id <> all (v_locked))
  ) then
    return;
  end if;
  for v_row in
    select * from public.ai_sms_queue as q
    where q.account_sid = p_account_sid and q.to_number = p_number and q.status = 'unconfirmed'
    order by q.started_at, q.id
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
  -- At this point it is known which messages belong to no row.
  for v_row in
    select * from public.ai_sms_queue as q
    where q.account_sid = p_account_sid and q.to_number = p_number and q.status = 'unconfirmed'
    order by q.started_at, q.id
  loop
    select count(*) into v_unmatched
      from brainops_internal.unexplained_messages(p_messages, v_row.id, v_row.started_at - c_clocks);
    id := v_row.id;
    verdict := brainops_internal.settle_absent_sms(v_row, v_unmatched);
    return next;
  end loop;
end;
$$;

comment on function brainops_internal.reconcile_sms(text, text, jsonb) is
  'Settles unconfirmed texts to a number. p_messages: all messages of the account to it, as [{sid, body, created_at}]. Returns a verdict for each row: sent, not sent (due again), given up, unclear or too early; no rows while a text to the number is in flight or locked by another transaction.';

revoke execute on function brainops_internal.reconcile_sms(text, text, jsonb) from public;
grant execute on function brainops_internal.reconcile_sms(text, text, jsonb) to brainops_system;

-- If the list has messages that belong to no row (p_strangers), one of them may be this text.
create or replace function brainops_internal.settle_absent_sms(p_sms public.ai_sms_queue, p_strangers int)
returns text
language plpgsql
set search_path = ''
as $$
declare
  -- Twilio lists a message within seconds; this is many times that.
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
      when 'unclear' then format('Twilio lists %s other text(s) to %s since then: compare them with text_sent, then call brainops.confirm', p_strangers, q.to_number)
      when 'given up' then format('given up after %s runs: each time Twilio gave no answer, and its list did not have the text', c_times)
      when 'not sent' then 'sending it again: Twilio gave no answer, and its list does not have the text'
      else q.last_error
    end
  where q.id = p_sms.id;
  return v_verdict;
end;
$$;

comment on function brainops_internal.settle_absent_sms(public.ai_sms_queue, int) is
  'Settles an unconfirmed text that is not in Twilio''s list; returns the verdict, as reconcile_sms does. p_strangers: number of messages to the same number that belong to no row.';

revoke execute on function brainops_internal.settle_absent_sms(public.ai_sms_queue, int) from public;
grant execute on function brainops_internal.settle_absent_sms(public.ai_sms_queue, int) to brainops_system;

-- Settles first what callbacks have reported: a callback that is applied while the outcome is being lost does not see
-- the row as unconfirmed. Rows of all tenants: one that a client has locked is left to the next minute, so that it does
-- not hold up the others.
create or replace function brainops_internal.unconfirmed_sms(p_limit int)
returns table (account_sid text, number text, since timestamptz, tenant_ids uuid[])
language plpgsql
set search_path = ''
as $$
declare
  v_now constant timestamptz := brainops.now();
begin
  perform brainops_internal.settle_sms_by_callbacks(reported.tenant_id, reported.id)
  from (
    select q.tenant_id, q.id
    from public.ai_sms_queue as q
    where q.status = 'unconfirmed'
      and exists (
        select from public.sms_deliveries as d
        where d.tenant_id = q.tenant_id and d.sms_id = q.id and d.provider_message_id <> all (q.earlier_message_ids)
      )
    limit p_limit
    for update of q skip locked
  ) as reported;
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
          -- After 3 days a person has to look: Twilio's list is not read further back.
          and q.started_at between v_now - interval '3 days' and v_now - interval '1 minute'
          -- At growing intervals (a quarter of the row's age), because an unclear outcome may stay unclear.
          and (q.looked_for_at is null or q.looked_for_at < v_now - (v_now - q.started_at) / 4)
        group by q.account_sid, q.to_number
        order by max(q.looked_for_at) nulls first, min(q.started_at)
        limit p_limit
      ),
      -- Marked before the lists are fetched; otherwise a list that cannot be fetched would be the first one every time.
      looked_for as (
        update public.ai_sms_queue as q
        set looked_for_at = v_now
        where q.id in (
          select u.id from public.ai_sms_queue as u
          inner join due on u.account_sid = due.account_sid and u.to_number = due.number
          where u.status = 'unconfirmed'
          for update of u skip locked
        )
      )
    select due.account_sid, due.number, due.since, due.tenant_ids from due;
end;
$$;

comment on function brainops_internal.unconfirmed_sms(int) is
  'Which of Twilio''s message lists to fetch, at most p_limit: the account that unconfirmed texts went through, their number, since when, and their tenants. Sets looked_for_at of those rows.';

revoke execute on function brainops_internal.unconfirmed_sms(int) from public;
grant execute on function brainops_internal.unconfirmed_sms(int) to brainops_system;

-- Leaves out messages of rows, of rows' earlier runs, and those that a callback has reported about another row.
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

comment on function brainops_internal.unexplained_messages(jsonb, uuid, timestamptz) is
  'Messages of Twilio''s list from p_since on that do not belong to another row than p_id, as far as is known.';

revoke execute on function brainops_internal.unexplained_messages(jsonb, uuid, timestamptz) from public;
grant execute on function brainops_internal.unexplained_messages(jsonb, uuid, timestamptz) to brainops_system;

-- Twilio does not keep white space as it was.
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

comment on function brainops_internal.same_text(text, text) is
  'Whether two texts are equal except for white space and Unicode normalization.';

revoke execute on function brainops_internal.same_text(text, text) from public;
grant execute on function brainops_internal.same_text(text, text) to brainops_system;
