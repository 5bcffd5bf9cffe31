-- The rules of contact, asked of a thousand messages at about the price of one: each look-up is made
-- once for all of them (= any (array)), where sql/0014 made it row by row. What they say is the same.
create or replace function brainops_internal.contact_verdicts(p_channel text, p_rows brainops.contact[])
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
    v_verdicts := array(select v from brainops_internal.message_verdicts(v_tenant.id, p_channel, v_rows) as v);
    return query select * from unnest(v_verdicts);
    continue when not v_tenant.any_marketing;
    if not v_tenant.marketing or v_verdicts <> '{}' then
      select array_agg(r) into v_rows
        from unnest(v_rows) as r
        where r.is_marketing and r.id not in (select v.id from unnest(v_verdicts) as v);
      continue when v_rows is null;
    end if;
    return query select * from brainops_internal.marketing_verdicts(v_tenant.id, p_channel, v_rows);
  end loop;
end;
$$;

comment on function brainops_internal.contact_verdicts(text, brainops.contact[]) is
  'Which messages may not go now, and until when: suppression for all; for marketing also consent, campaign exits, expiry, postal address, holds, quiet hours, caps and hourly limits. Asked inside a claim.';

revoke execute on function brainops_internal.contact_verdicts(text, brainops.contact[]) from public;
grant execute on function brainops_internal.contact_verdicts(text, brainops.contact[]) to brainops_worker;

-- Who and where each message's recipient is. A person is the lead that the row names, else the one
-- with the address; and every other lead with that address or number, since one pair of eyes reads
-- it. Those are looked for one by one, with a limit: a number may be a thousand leads'.
create or replace function brainops_internal.recipient_contexts(p_channel text, p_rows brainops.contact[])
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
          case when p_channel = 'sms' then coalesce(brainops_internal.phone_e164(r.address), r.address) end as phone
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

comment on function brainops_internal.recipient_contexts(text, brainops.contact[]) is
  'Who the recipients are (leads, addresses) and where (zones, country, state).';

revoke execute on function brainops_internal.recipient_contexts(text, brainops.contact[]) from public;
grant execute
on function brainops_internal.recipient_contexts(text, brainops.contact[])
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

-- How the look-ups are planned: a thousand keys against a table of any size go through the index, even
-- where Postgres has not looked at the table since it was empty; and where it thinks of ten rows, a
-- thousand by a thousand would be compared in a nested loop. On those functions alone, not on what calls
-- them: what else is called there has joins of its own.
create or replace function brainops_internal.message_verdicts(
  p_tenant_id uuid,
  p_channel text,
  p_rows brainops.contact[]
)
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
        select u.id, u.address, u.recipient, u.expires_at, lower(u.address) as key, brainops_internal.address_digest(u.address) as digest
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
      or (r.expires_at is not null and brainops_internal.timestamptz_or_null(r.expires_at) <= v_now);
end;
$$;

comment on function brainops_internal.message_verdicts(uuid, text, brainops.contact[]) is
  'What holds for every message of a tenant, and all that is asked of a transactional one: nobody to go to (fail), suppressed or expired (skip).';

revoke execute on function brainops_internal.message_verdicts(uuid, text, brainops.contact[]) from public;
grant execute on function brainops_internal.message_verdicts(uuid, text, brainops.contact[]) to brainops_worker;

-- Everything that is asked of marketing, for rows of one tenant.
-- As in sql/0014, but that rows of which there is nothing to say are not copied from step to step.
create or replace function brainops_internal.marketing_verdicts(
  p_tenant_id uuid,
  p_channel text,
  p_rows brainops.contact[]
)
returns setof brainops.verdict
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_now constant timestamptz := brainops.now();
  v_policy public.contact_policies := brainops.contact_policy(p_tenant_id, p_channel);
  v_rows brainops.contact[];
  v_places brainops.recipient_context[];
  v_verdicts brainops.verdict[];
begin
  if cardinality(p_rows) = 0 then
    return;
  end if;
  v_rows := p_rows;
  v_verdicts := array(select v from brainops_internal.consent_verdicts(v_policy, p_rows) as v);
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
      select * from brainops_internal.recipient_contexts(p_channel, v_rows)
    ),
    hours as materialized (
      select g.*, h.opens, h.closes, brainops_internal.contact_opening(v_now, g.zones, h.opens, h.closes) as open
      from (select distinct zones, country, state from asked) as g
      cross join lateral brainops_internal.contact_hours(v_policy, g.country, g.state) as h
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
    )::brainops.recipient_context
    order by a.place
  )
    into v_places
    from asked as a
    inner join hours as h on h.zones = a.zones and h.country is not distinct from a.country and h.state is not distinct from a.state;
  -- A message that got lost on the way here would go unasked.
  assert cardinality(v_places) = cardinality(v_rows), 'recipient_contexts left out a message';
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

  v_verdicts := array(select v from brainops_internal.cap_verdicts(v_policy, v_places) as v);
  if v_verdicts <> '{}' then
    return query select * from unnest(v_verdicts);
    select array_agg(p) into v_places from unnest(v_places) as p where p.id not in (select v.id from unnest(v_verdicts) as v);
  end if;
  -- What waits for the slot of a rate limit asks again then, and takes another place: of both limits
  -- neither is exceeded, at the price of places that nobody used.
  if v_places is not null then
    return query select * from brainops_internal.hourly_verdicts(v_policy, v_places);
  end if;
end;
$$;

comment on function brainops_internal.marketing_verdicts(uuid, text, brainops.contact[]) is
  'All that is asked of one tenant''s marketing.';

revoke execute on function brainops_internal.marketing_verdicts(uuid, text, brainops.contact[]) from public;
grant execute on function brainops_internal.marketing_verdicts(uuid, text, brainops.contact[]) to brainops_worker;
