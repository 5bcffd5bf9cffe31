-- The rules of contact, asked of a thousand messages at about the price of one: each look-up is made
-- once for all of them (= any (array)), where sql/0014 made it row by row. What they say is the same.
set local lock_timeout = '2s';

-- Most texts are told by their length, which spares them the regular expression.
create or replace function brainops.uuid_or_null(p_text text)
returns uuid
language sql
immutable
parallel safe
as $$
  select
    case
      when pg_catalog.octet_length(p_text) operator(pg_catalog.>=) 32
      and pg_catalog.octet_length(p_text) operator(pg_catalog.<=) 36
      and p_text operator(pg_catalog.~*) '^[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}$' then p_text::pg_catalog.uuid
    end;
$$;

create or replace function brainops.gate_email(p_ids uuid[])
returns setof brainops.verdict
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_rows brainops.contact[];
begin
  -- The address as brainops.email_address has it, a lead's only where the row names one. What is looked
  -- for is reckoned a step before: behind row level security an index serves plain columns alone.
  select array_agg(
    row(
      q.id, q.tenant_id, q.lead_id,
      case
        when q.lead_now is null then q.recipient
        else (
          select nullif(btrim(l.email), '') from public.revenue_leads as l
          where l.tenant_id = q.tenant_id and l.id = q.lead_now
        )
      end,
      q.is_marketing, q.enrolment_id, q.recipient, q.due_at, q.expires_at
    )::brainops.contact
    order by q.job_priority, q.scheduled_for, q.id
  )
    into v_rows
    from (
      select u.*,
        case when u.named is not null then coalesce(
          (select a.lead_id from public.revenue_lead_aliases as a where a.tenant_id = u.tenant_id and a.id = u.named),
          u.named
        ) end as lead_now
      from (
        select e.id, e.tenant_id, e.lead_id, e.recipient, e.is_marketing, e.enrolment_id, e.job_priority, e.scheduled_for,
          brainops.uuid_or_null(e.recipient) as named, coalesce(e.first_due_at, e.scheduled_for) as due_at,
          e.metadata ->> 'expires_at' as expires_at
        from public.ai_email_queue as e
        where e.id = any (p_ids)
        offset 0
      ) as u
      offset 0
    ) as q;
  return query select * from brainops.contact_verdicts('email', v_rows);
end;
$$;

create or replace function brainops.contact_verdicts(p_channel text, p_rows brainops.contact[])
returns setof brainops.verdict
language plpgsql
volatile
set search_path = ''
set jit = off
as $$
declare
  v_tenant record;
  v_rows brainops.contact[];
  v_verdicts brainops.verdict[];
begin
  for v_tenant in
    select r.tenant_id as id, bool_and(r.is_marketing) as marketing, bool_or(r.is_marketing) as any_marketing, count(*) as rows
    from unnest(p_rows) as r
    group by r.tenant_id
  loop
    v_rows := p_rows;
    if v_tenant.rows < cardinality(p_rows) then
      select array_agg(r) into v_rows from unnest(p_rows) as r where r.tenant_id = v_tenant.id;
    end if;
    v_verdicts := array(select v from brainops.message_verdicts(v_tenant.id, p_channel, v_rows) as v);
    return query select * from unnest(v_verdicts);
    continue when not v_tenant.any_marketing;
    if not v_tenant.marketing or v_verdicts <> '{}' then
      select array_agg(r) into v_rows
        from unnest(v_rows) as r
        where r.is_marketing and r.id not in (select v.id from unnest(v_verdicts) as v);
      continue when v_rows is null;
    end if;
    return query select * from brainops.marketing_verdicts(v_tenant.id, p_channel, v_rows);
  end loop;
end;
$$;

-- How the look-ups are planned: a thousand keys against a table of any size go through the index, even
-- where Postgres has not looked at the table since it was empty; and where it thinks of ten rows, a
-- thousand by a thousand would be compared in a nested loop. On those functions alone, not on what calls
-- them: what else is called there has joins of its own.
create function brainops.message_verdicts(p_tenant_id uuid, p_channel text, p_rows brainops.contact[])
returns setof brainops.verdict
language plpgsql
stable
set search_path = ''
set jit = off
set enable_seqscan = off
set enable_nestloop = off
as $$
declare
  v_now constant timestamptz := brainops.now();
begin
  return query
    with
      asked as materialized (
        select u.id, u.address, u.recipient, u.expires_at, lower(u.address) as key, brainops.address_digest(u.address) as digest
        from unnest(p_rows) as u
      ),
      suppressed as materialized (
        select c.address_key, c.reason from public.contact_suppressions as c
        where c.tenant_id = p_tenant_id and c.channel = p_channel
          and c.address_key = any (array(select key from asked union all select digest from asked))
          and (c.expires_at is null or c.expires_at > v_now)
      )
    select
      r.id,
      case when r.address is null then 'fail' else 'skip' end,
      null::timestamptz,
      case
        when r.address is null then format(
          'recipient: lead %s is gone or has no %s and set status to pending',
          r.recipient,
          case p_channel when 'sms' then 'phone number; give a number' else 'e-mail address; give an address' end
        )
        when s.reason is not null or d.reason is not null then 'suppressed: ' || coalesce(s.reason, d.reason)
        else 'expired: its expires_at was ' || r.expires_at
      end
    from asked as r
    left join suppressed as s on s.address_key = r.key
    left join suppressed as d on d.address_key = r.digest
    where r.address is null
      or s.reason is not null
      or d.reason is not null
      or (r.expires_at is not null and brainops.timestamptz_or_null(r.expires_at) <= v_now);
end;
$$;

comment on function brainops.message_verdicts(uuid, text, brainops.contact[]) is
  'What holds for every message of a tenant, and all that is asked of a transactional one: nobody to go to (fail), suppressed or expired (skip).';

create function brainops.last_words(p_tenant_id uuid, p_channel text, p_addresses text[])
returns table (address_key text, state text, occurred_at timestamptz, confirmed boolean)
language plpgsql
stable
rows 1000
set search_path = ''
set jit = off
set enable_seqscan = off
set enable_nestloop = off
as $$
begin
  return query
    select distinct on (w.address_key) w.address_key, w.state, w.occurred_at, w.evidence ? 'confirmed_at'
    from public.contact_consents as w
    where w.tenant_id = p_tenant_id and w.channel = p_channel and w.address_key = any (p_addresses)
    order by w.address_key, w.occurred_at desc, w.state = 'denied' desc, w.created_at desc;
end;
$$;

comment on function brainops.last_words(uuid, text, text[]) is
  'What each address (in lower case) last said of the channel; confirmed: and said in the same breath that it is its own. Addresses without a word are left out.';

-- As in sql/0014, but that the last words are read in one go.
create or replace function brainops.consent_verdicts(p_policy public.contact_policies, p_rows brainops.contact[])
returns setof brainops.verdict
language plpgsql
stable
set search_path = ''
as $$
declare
  -- brainops.lift_marketing_hold brings the rows forward.
  c_ask_held_again constant interval := '6 hours';
  c_ask_paused_again constant interval := '1 hour';
  v_now constant timestamptz := brainops.now();
  v_exits jsonb := '{}';
  v_pauses jsonb := '{}';
  v_settings jsonb := (select settings from public.tenants where id = p_policy.tenant_id);
  v_hold text := (
    select reason from public.marketing_holds
    where tenant_id = p_policy.tenant_id and channel = p_policy.channel and lifted_at is null
  );
begin
  if exists (select from unnest(p_rows) as r where r.enrolment_id is not null) then
    select jsonb_object_agg(e.id, brainops.enrolment_exit_reason(e.id)), jsonb_object_agg(e.id, brainops.enrolment_pause_reason(e.id))
      into v_exits, v_pauses
      from (select distinct enrolment_id from unnest(p_rows) where enrolment_id is not null) as e (id);
  end if;
  return query
    with
      asked as materialized (
        select u.id, u.enrolment_id, u.first_due_at, lower(btrim(u.address)) as key from unnest(p_rows) as u
      )
    select
      d.id,
      case
        when d.skip is not null then 'skip'
        when d.fail is not null then 'fail'
        else 'defer'
      end,
      case
        when d.skip is not null or d.fail is not null then null
        when v_hold is null then v_now + c_ask_paused_again
        else v_now + c_ask_held_again * (1 + random())
      end,
      coalesce(d.skip, d.fail, 'marketing on hold: ' || v_hold, d.paused)
    from (
      select
        r.id,
        case
          when c.state = 'denied' then 'consent denied'
          when p_policy.consent <> 'opt_out' and c.state is null then 'no consent for ' || p_policy.channel
          when p_policy.consent <> 'opt_out' and (c.state = 'pending' or p_policy.consent = 'double_opt_in' and not (
            c.confirmed or exists (
              select from public.contact_consents as p
              where p.tenant_id = p_policy.tenant_id and p.channel = p_policy.channel and p.address_key = r.key
                and p.state = 'pending' and p.occurred_at <= c.occurred_at
            )
          ))
            then 'double opt-in not confirmed'
          when v_exits ->> r.enrolment_id::text is not null then 'left the campaign: ' || (v_exits ->> r.enrolment_id::text)
          when r.first_due_at < v_now - p_policy.expires_after
            then format('expired: it was due at %s and could not go within %s', r.first_due_at, p_policy.expires_after)
        end as skip,
        case
          when p_policy.channel = 'email' and coalesce(btrim(v_settings ->> 'postal_address'), '') = ''
            then 'the law wants a postal address in marketing mail: give tenants.settings a postal_address, and set status to pending'
        end as fail,
        v_pauses ->> r.enrolment_id::text as paused
      from asked as r
      left join brainops.last_words(p_policy.tenant_id, p_policy.channel, array(select key from asked)) as c on c.address_key = r.key
    ) as d
    where d.skip is not null or d.fail is not null or v_hold is not null or d.paused is not null;
end;
$$;

-- Who and where each message's recipient is. A person is the lead that the row names, else the one
-- with the address; and every other lead with that address or number, since one pair of eyes reads
-- it. Those are looked for one by one, with a limit: a number may be a thousand leads'.
create or replace function brainops.contact_places(p_channel text, p_rows brainops.contact[])
returns table (
  place int,
  id uuid,
  lead_ids uuid[],
  emails text[],
  phones text[],
  zones text[],
  country text,
  state text
)
language plpgsql
stable
set search_path = ''
set jit = off
set enable_seqscan = off
set enable_nestloop = off
as $$
declare
  -- The rows of one tenant.
  v_tenant_id constant uuid := (p_rows[1]).tenant_id;
  v_tenants_zone constant text := (select t.time_zone from public.tenants as t where t.id = v_tenant_id);
begin
  return query
    with
      asked as materialized (
        select r.n::int as n, r.id, r.lead_id,
          case when p_channel = 'email' then lower(r.address) end as email,
          case when p_channel = 'sms' then coalesce(brainops.phone_e164(r.address), r.address) end as phone
        from unnest(p_rows) with ordinality
          as r (id, tenant_id, lead_id, address, is_marketing, enrolment_id, recipient, first_due_at, expires_at, n)
        where r.tenant_id = v_tenant_id and v_tenants_zone is not null
      ),
      named as materialized (
        select i.id, i.email_key, i.phone_e164, i.time_zone, i.state from public.revenue_leads as i
        where i.tenant_id = v_tenant_id and i.id = any (array(select a.lead_id from asked as a))
      ),
      addressed as materialized (
        select i.id, i.email_key, i.phone_e164, i.time_zone, i.state from public.revenue_leads as i
        where i.tenant_id = v_tenant_id
          and i.email_key = any (array(select a.email from asked as a where a.lead_id is null))
      ),
      called as materialized (
        select distinct on (i.phone_e164) i.id, i.email_key, i.phone_e164, i.time_zone, i.state
        from public.revenue_leads as i
        where i.tenant_id = v_tenant_id
          and i.phone_e164 = any (array(select a.phone from asked as a where a.lead_id is null))
        order by i.phone_e164, i.created_at, i.id
      ),
      known as materialized (
        select a.*,
          coalesce(l.id, e.id, c.id) as known_id,
          coalesce(l.email_key, e.email_key, c.email_key) as email_key,
          coalesce(l.phone_e164, e.phone_e164, c.phone_e164) as phone_e164,
          coalesce(l.time_zone, e.time_zone, c.time_zone) as time_zone,
          coalesce(l.state, e.state, c.state) as lead_state
        from asked as a
        left join named as l on l.id = a.lead_id
        left join addressed as e on a.lead_id is null and e.email_key = a.email
        left join called as c on a.lead_id is null and c.phone_e164 = a.phone
      ),
      others as (
        select k.n, array_agg(o.id) as ids, array_agg(o.email_key) as emails, array_agg(o.phone_e164) as phones
        from known as k
        cross join lateral (
          (
            select i.id, i.email_key, i.phone_e164 from public.revenue_leads as i
            where i.tenant_id = v_tenant_id and i.phone_e164 = k.phone_e164 and i.id <> k.known_id
            limit 100
          )
          union all
          (
            -- The row's address may be another than its lead's.
            select i.id, i.email_key, i.phone_e164 from public.revenue_leads as i
            where k.email <> k.email_key and i.tenant_id = v_tenant_id and i.email_key = k.email
            limit 1
          )
          union all
          (
            select i.id, i.email_key, i.phone_e164 from public.revenue_leads as i
            where i.tenant_id = v_tenant_id and i.phone_e164 = k.phone and k.phone is distinct from k.phone_e164
              and i.id is distinct from k.known_id
            limit 100
          )
        ) as o
        where k.phone_e164 is not null or k.phone is not null or k.email <> k.email_key
        group by k.n
      ),
      zoned as (
        -- The longest prefix that is known.
        select distinct on (d.n) d.n, pz.zones, pz.country, pz.state
        from (
          select k.n, coalesce(k.phone, k.phone_e164) as phone from known as k
          where p_channel = 'sms' or k.time_zone is null
        ) as d
        cross join generate_series(1, 7) as digits
        inner join brainops.phone_zones as pz on pz.prefix = substr(d.phone, 2, digits)
        where d.phone is not null
        order by d.n, length(pz.prefix) desc
      )
    select
      k.n,
      k.id,
      array_remove(array[coalesce(k.known_id, k.lead_id)] || o.ids, null),
      array_remove(array[coalesce(k.email, k.email_key), case when k.email <> k.email_key then k.email_key end] || o.emails, null),
      array_remove(array[coalesce(k.phone, k.phone_e164), case when k.phone <> k.phone_e164 then k.phone_e164 end] || o.phones, null),
      case when k.time_zone is not null then array[k.time_zone] else coalesce(z.zones, array[v_tenants_zone]) end,
      case when p_channel = 'sms' then z.country end,
      case when p_channel = 'sms' then coalesce(
        (select pz.state from brainops.phone_zones as pz where pz.country = z.country and pz.state = upper(btrim(k.lead_state)) limit 1),
        z.state
      ) end
    from known as k
    left join others as o on o.n = k.n
    left join zoned as z on z.n = k.n;
end;
$$;

-- When marketing went, or may have gone, to the person of each place since p_since, newest first;
-- own: on the channel that asks. Places without any are left out. A person is found by each lead and
-- each address.
-- The one with a limit stays for claims that are under way while this is applied.
create function brainops.contact_history(
  p_tenant_id uuid,
  p_channel text,
  p_places brainops.contact_place[],
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
      -- The messages first, each set through its own index, then whose they are.
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

comment on function brainops.contact_history(uuid, text, brainops.contact_place[], timestamptz) is
  'When marketing went, or may have gone, to each person since an instant: on both channels, and on the one that asks.';

-- As in sql/0014, but that history is read without a limit, and shared persons are looked for where there are any.
create or replace function brainops.cap_verdicts(p_policy public.contact_policies, p_places brainops.contact_place[])
returns setof brainops.verdict
language plpgsql
volatile
set search_path = ''
set timezone = 'UTC' -- a day is 24 hours, in the count and in when it ends
as $$
declare
  v_now constant timestamptz := brainops.now();
  v_law record;
  v_keys text[];
  v_shared text[];
  v_place brainops.contact_place;
  v_asked record;
  v_going brainops.contact_place[] := '{}';
  v_waiting brainops.contact_place[] := '{}';
  v_same int;
  v_ahead int;
  v_frees timestamptz;
begin
  select array_agg(k.key), array_agg(k.key) filter (where k.times > 1) into v_keys, v_shared
    from (
      select key, count(*) as times
      from unnest(p_places) as p
      cross join unnest(p.lead_ids::text[] || p.emails || p.phones) as key
      group by key
    ) as k;
  perform brainops.lock_persons(p_policy.tenant_id, v_keys);

  select max(cap_window) as cap_window into v_law
    from brainops.contact_caps where channel = p_policy.channel;
  -- Who was not written to yet, and is there once, may be written to: no cap is below 1.
  for v_asked in
    select row(p.id, p.lead_ids, p.emails, p.phones, p.zones, p.country, p.state, p.opens, p.closes, p.goes_at)::brainops.contact_place as place, coalesce(h.every, '{}') as every, coalesce(h.own, '{}') as own, law.cap, law.cap_window
    from unnest(p_places) with ordinality
      as p (id, lead_ids, emails, phones, zones, country, state, opens, closes, goes_at, n)
    left join brainops.contact_history(
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
    v_frees := greatest(
      brainops.cap_frees_at(v_now, v_same, v_ahead, v_asked.every, p_policy.cap, p_policy.cap_window),
      brainops.cap_frees_at(v_now, v_same, v_ahead, v_asked.own, v_asked.cap, v_asked.cap_window)
    );
    if v_frees is null then
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
        brainops.spread_contact_time(v_frees, v_place.zones, v_place.opens, v_place.closes, p_policy.spread),
        'frequency cap: this person was written to as often as is allowed; a place is free from ' || v_frees
      )::brainops.verdict;
    end if;
  end loop;
end;
$$;

-- As in sql/0014, but that rows of which there is nothing to say are not copied from step to step.
create or replace function brainops.marketing_verdicts(p_tenant_id uuid, p_channel text, p_rows brainops.contact[])
returns setof brainops.verdict
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_now constant timestamptz := brainops.now();
  v_policy public.contact_policies := brainops.contact_policy(p_tenant_id, p_channel);
  v_rows brainops.contact[];
  v_places brainops.contact_place[];
  v_verdicts brainops.verdict[];
begin
  if cardinality(p_rows) = 0 then
    return;
  end if;
  v_rows := p_rows;
  v_verdicts := array(select v from brainops.consent_verdicts(v_policy, p_rows) as v);
  if v_verdicts <> '{}' then
    return query select * from unnest(v_verdicts);
    -- Unnest keeps the order: who comes first has the first claim to a place.
    select array_agg(r) into v_rows
      from unnest(p_rows) as r
      where r.id not in (select v.id from unnest(v_verdicts) as v);
    if v_rows is null then
      return;
    end if;
  end if;

  -- Reckoned once for each set of zones and laws, not for each row.
  with
    asked as materialized (
      select * from brainops.contact_places(p_channel, v_rows)
    ),
    hours as materialized (
      select g.*, h.opens, h.closes, brainops.contact_opening(v_now, g.zones, h.opens, h.closes) as open
      from (select distinct zones, country, state from asked) as g
      cross join lateral brainops.contact_hours(v_policy, g.country, g.state) as h
    )
  select array_agg(
    row(
      a.id, a.lead_ids, a.emails, a.phones, a.zones, a.country, a.state, h.opens, h.closes,
      case
        when lower(h.open) <= v_now then v_now
        -- No hour is open at all: the rules may be mended by tomorrow.
        else coalesce(
          lower(h.open) + random() * least(v_policy.spread, (upper(h.open) - lower(h.open)) / 2),
          v_now + interval '24 hours'
        )
      end
    )::brainops.contact_place
    order by a.place
  )
    into v_places
    from asked as a
    inner join hours as h on h.zones = a.zones and h.country is not distinct from a.country and h.state is not distinct from a.state;
  -- A message that got lost on the way here would go unasked.
  assert cardinality(v_places) = cardinality(v_rows), 'contact_places left out a message';
  return query
    select p.id, 'defer', p.goes_at, 'quiet hours in ' || array_to_string(p.zones, ', ')
    from unnest(v_places) as p
    where p.goes_at > v_now;
  if found then
    select array_agg(p) into v_places from unnest(v_places) as p where p.goes_at <= v_now;
    if v_places is null then
      return;
    end if;
  end if;

  v_verdicts := array(select v from brainops.cap_verdicts(v_policy, v_places) as v);
  if v_verdicts <> '{}' then
    return query select * from unnest(v_verdicts);
    select array_agg(p) into v_places from unnest(v_places) as p where p.id not in (select v.id from unnest(v_verdicts) as v);
  end if;
  -- What waits for the slot of a rate limit asks again then, and takes another place: of both limits
  -- neither is exceeded, at the price of places that nobody used.
  if v_places is not null then
    return query select * from brainops.hourly_verdicts(v_policy, v_places);
  end if;
end;
$$;

revoke execute
on function brainops.message_verdicts(uuid, text, brainops.contact[]),
brainops.last_words(uuid, text, text[]),
brainops.contact_history(uuid, text, brainops.contact_place[], timestamptz)
from public;
grant execute
on function brainops.message_verdicts(uuid, text, brainops.contact[]),
brainops.last_words(uuid, text, text[]),
brainops.contact_history(uuid, text, brainops.contact_place[], timestamptz)
to brainops_worker;
