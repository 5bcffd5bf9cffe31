-- Frequency caps: how many marketing messages one person may get within a sliding window. The tenant's cap counts mail
-- and texts together, a legal cap counts its channel alone. Start at cap_verdicts, which marketing_verdicts calls for
-- the messages that are within contact hours.

-- A person comprises all leads and addresses of a context: a message to any of them counts. Messages of one claim count
-- toward each other's cap, in the order of the claim. A message over a cap is deferred until an earlier message leaves
-- the window, and then until contact hours; if several are over the cap, each waits for a different message.
--
-- The persons are locked before history is read: a claim that runs at the same time for one of them, on either channel,
-- waits and then counts the messages that this one let go. Only claims take this lock, so one waits for workers, and
-- never for a transaction of the tenant's own.
create or replace function brainops_internal.cap_verdicts(
  p_policy public.contact_policies,
  p_places brainops.recipient_context[]
)
returns setof brainops.verdict
language plpgsql
volatile
set search_path = ''
set timezone = 'UTC' -- so that a window of days is a multiple of 24 hours
as $$
declare
  v_now constant timestamptz := brainops.now();
  v_law record;
  v_keys text[];
  v_shared text[]; -- keys that occur more than once in this claim, or null
  v_place brainops.recipient_context;
  v_asked record;
  v_going brainops.recipient_context[] := '{}';
  v_waiting brainops.recipient_context[] := '{}';
  v_same int;
  v_ahead int;
  v_free_at timestamptz;
begin
  select array_agg(k.key), array_agg(k.key) filter (where k.times > 1) into v_keys, v_shared
    from (
      select key, count(*) as times
      from unnest(p_places) as p
      cross join unnest(p.lead_ids::text[] || p.emails || p.phones) as key
      group by key
    ) as k;
  perform brainops_internal.lock_keys(p_policy.tenant_id, 'person', v_keys);

  select max(cap_window) as cap_window into v_law
    from brainops.contact_caps where channel = p_policy.channel;
  -- A person without history who occurs once in this claim may be contacted, because no cap is below 1.
  for v_asked in
    select row(p.id, p.lead_ids, p.emails, p.phones, p.zones, p.country, p.state, p.opens, p.closes, p.goes_at)::brainops.recipient_context as place, coalesce(h.every, '{}') as every, coalesce(h.own, '{}') as own, law.cap, law.cap_window
    from unnest(p_places) with ordinality
      as p (id, lead_ids, emails, phones, zones, country, state, opens, closes, goes_at, n)
    left join brainops_internal.contact_history(
      p_policy.tenant_id, p_policy.channel, p_places, v_now - greatest(p_policy.cap_window, v_law.cap_window)
    ) as h on h.place = p.n
    left join lateral (
      select min(c.cap) as cap, max(c.cap_window) as cap_window
      from brainops.contact_caps as c
      where c.country = p.country and c.channel = p_policy.channel
        and (c.state is null or p.state is null or c.state = p.state)
    ) as law on p.country is not null
    where h.place is not null or v_shared is not null and p.lead_ids::text[] || p.emails || p.phones && v_shared
    order by p.n
  loop
    v_place := v_asked.place;
    v_same := 0;
    v_ahead := 0;
    if v_shared is not null then
      select count(*) into v_same from unnest(v_going) as g
        where g.lead_ids && v_place.lead_ids or g.emails && v_place.emails or g.phones && v_place.phones;
      select count(*) into v_ahead from unnest(v_waiting) as w
        where w.lead_ids && v_place.lead_ids or w.emails && v_place.emails or w.phones && v_place.phones;
    end if;
    v_free_at := greatest(
      brainops_internal.cap_frees_at(v_now, v_same, v_ahead, v_asked.every, p_policy.cap, p_policy.cap_window),
      brainops_internal.cap_frees_at(v_now, v_same, v_ahead, v_asked.own, v_asked.cap, v_asked.cap_window)
    );
    if v_free_at is null then
      if v_shared is not null then
        v_going := v_going || v_place;
      end if;
    else
      if v_shared is not null then
        v_waiting := v_waiting || v_place;
      end if;
      return next row(
        v_place.id,
        'defer',
        brainops_internal.spread_contact_time(v_free_at, v_place.zones, v_place.opens, v_place.closes, p_policy.spread),
        'frequency cap: this person has had as many marketing messages as allowed; the next may go from ' || v_free_at
      )::brainops.verdict;
    end if;
  end loop;
end;
$$;

comment on function brainops_internal.cap_verdicts(public.contact_policies, brainops.recipient_context[]) is
  'Which messages are over the tenant''s or the legal frequency cap, and until when. Locks the persons.';

revoke execute
on function brainops_internal.cap_verdicts(public.contact_policies, brainops.recipient_context[])
from public;
grant execute
on function brainops_internal.cap_verdicts(public.contact_policies, brainops.recipient_context[])
to brainops_worker;

-- Sent, in flight and unconfirmed messages count: every message that may have arrived. A message counts once for a
-- person, whether it is found by lead or by address. The messages are looked up first, each set through its own index,
-- and then matched with the persons. For the planner settings, see message_verdicts.
create or replace function brainops_internal.contact_history(
  p_tenant_id uuid,
  p_channel text,
  p_places brainops.recipient_context[],
  p_since timestamptz
)
returns table (place int, every timestamptz[], own timestamptz[])
language plpgsql
stable
set search_path = ''
set jit = off
set enable_seqscan = off
set enable_nestloop = off
as $$
begin
  return query
    with
      places as materialized (
        select n::int as n, p.lead_ids, p.emails, p.phones
        from unnest(p_places) with ordinality
          as p (id, lead_ids, emails, phones, zones, country, state, opens, closes, goes_at, n)
      ),
      leads as materialized (select p.n, unnest(p.lead_ids) as key from places as p),
      emails as materialized (select p.n, unnest(p.emails) as key from places as p),
      phones as materialized (select p.n, unnest(p.phones) as key from places as p),
      mails_to_leads as materialized (
        select q.id, q.lead_id as key, q.started_at from public.ai_email_queue as q
        where q.tenant_id = p_tenant_id and q.lead_id = any (array(select k.key from leads as k))
          and q.started_at > p_since and q.is_marketing and q.status in ('processing', 'completed', 'unconfirmed')
      ),
      mails_to_addresses as materialized (
        select q.id, q.recipient_key as key, q.started_at from public.ai_email_queue as q
        where q.tenant_id = p_tenant_id and q.recipient_key = any (array(select k.key from emails as k))
          and q.started_at > p_since and q.is_marketing and q.status in ('processing', 'completed', 'unconfirmed')
      ),
      texts_to_leads as materialized (
        select q.id, q.lead_id as key, q.started_at from public.ai_sms_queue as q
        where q.tenant_id = p_tenant_id and q.lead_id = any (array(select k.key from leads as k))
          and q.started_at > p_since and q.is_marketing and q.status in ('processing', 'completed', 'unconfirmed')
      ),
      texts_to_numbers as materialized (
        select q.id, q.recipient as key, q.started_at from public.ai_sms_queue as q
        where q.tenant_id = p_tenant_id and q.recipient = any (array(select k.key from phones as k))
          and q.started_at > p_since and q.is_marketing and q.status in ('processing', 'completed', 'unconfirmed')
      )
    select
      h.n,
      array_agg(h.started_at order by h.started_at desc),
      coalesce(array_agg(h.started_at order by h.started_at desc) filter (where h.channel = p_channel), '{}')
    from (
      select k.n, 'email' as channel, m.id, m.started_at
      from mails_to_leads as m inner join leads as k on k.key = m.key
      union
      select k.n, 'email', m.id, m.started_at
      from mails_to_addresses as m inner join emails as k on k.key = m.key
      union
      select k.n, 'sms', m.id, m.started_at
      from texts_to_leads as m inner join leads as k on k.key = m.key
      union
      select k.n, 'sms', m.id, m.started_at
      from texts_to_numbers as m inner join phones as k on k.key = m.key
    ) as h
    group by h.n;
end;
$$;

comment on function brainops_internal.contact_history(uuid, text, brainops.recipient_context[], timestamptz) is
  'When marketing messages went, or may have gone, to each person after p_since, newest first. place: position in p_places; every: on both channels; own: on p_channel. Persons without any are left out.';

revoke execute
on function brainops_internal.contact_history(uuid, text, brainops.recipient_context[], timestamptz)
from public;
grant execute
on function brainops_internal.contact_history(uuid, text, brainops.recipient_context[], timestamptz)
to brainops_worker;

-- p_times: earlier messages, newest first. p_same: messages of this claim to the same person that may go now. p_ahead:
-- messages of this claim that wait already; each of them takes the place of another message.
create or replace function brainops_internal.cap_frees_at(
  p_now timestamptz,
  p_same int,
  p_ahead int,
  p_times timestamptz[],
  p_cap int,
  p_window interval
)
returns timestamptz
language plpgsql
stable
set search_path = ''
as $$
declare
  v_times timestamptz[] := array_fill(p_now, array[p_same])
    || array(select t from unnest(p_times) as t where t > p_now - p_window order by t desc);
begin
  return case when cardinality(v_times) >= p_cap then v_times[greatest(p_cap - p_ahead, 1)] + p_window end;
end;
$$;

comment on function brainops_internal.cap_frees_at(timestamptz, int, int, timestamptz[], int, interval) is
  'When the person may get another message under a cap of p_cap messages in p_window; null: now.';

revoke execute
on function brainops_internal.cap_frees_at(timestamptz, int, int, timestamptz[], int, interval)
from public;
grant execute
on function brainops_internal.cap_frees_at(timestamptz, int, int, timestamptz[], int, interval)
to brainops_worker;
