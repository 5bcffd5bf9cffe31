-- The contact rules, checked for all messages of a claim at once. Start at contact_verdicts, which the gates of mail and
-- texts call. sql/0004-contact.sql lists the rules in order.

-- A thousand messages cost about as much as one: each look-up is made once for all of them (= any (array)). Messages to
-- which no rule applies are not copied from step to step.
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
  'Messages that may not go now, with the reason and until when; a message without a verdict may go. Checks the rules for every message, and then the rules for marketing. p_channel: email or sms; p_rows: in the order in which they get slots.';

revoke execute on function brainops_internal.contact_verdicts(text, brainops.contact[]) from public;
grant execute on function brainops_internal.contact_verdicts(text, brainops.contact[]) to brainops_worker;

-- enable_seqscan, enable_nestloop: a thousand keys must go through the index of a table of any size, even if its
-- statistics are from when it was empty; and where the planner expects ten rows, it would compare a thousand with a
-- thousand in a nested loop. jit: with these settings the statements look so expensive that each would be compiled.
-- They are set for the functions that look up many keys and not for what calls them, because the other functions called
-- there have joins of their own.
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
          'recipient: lead %s is gone or has no %s, then set status to pending',
          r.recipient,
          case p_channel when 'sms' then 'phone number; add one or change the recipient' else 'e-mail address; add one or change the recipient' end
        )
        when s.reason is not null or d.reason is not null then 'suppressed: ' || coalesce(s.reason, d.reason)
        else 'expired: metadata.expires_at was ' || r.expires_at
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
  'The rules for every message of a tenant, and the only ones for transactional messages: no address (fail), suppressed or past metadata.expires_at (skip).';

revoke execute on function brainops_internal.message_verdicts(uuid, text, brainops.contact[]) from public;
grant execute on function brainops_internal.message_verdicts(uuid, text, brainops.contact[]) to brainops_worker;

-- In the order of sql/0004-contact.sql; a message with a verdict is not checked further. A message that then has to wait
-- for a rate limit is checked again later and takes another hourly slot. So neither limit is exceeded, at the price of
-- slots that are not used.
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
    -- Unnest keeps the order in which rows get slots.
    select array_agg(r) into v_rows
      from unnest(p_rows) as r
      where r.id not in (select v.id from unnest(v_verdicts) as v);
    if v_rows is null then
      return;
    end if;
  end if;

  -- Hours are computed once for each combination of zones, country and state, not for each row.
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
        -- The hours are never open: check again tomorrow, because the rules may be corrected by then.
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
  -- A message without a context would go unchecked.
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
  if v_places is not null then
    return query select * from brainops_internal.hourly_verdicts(v_policy, v_places);
  end if;
end;
$$;

comment on function brainops_internal.marketing_verdicts(uuid, text, brainops.contact[]) is
  'The rules for marketing messages of one tenant: consent and holds, quiet hours, frequency caps, hourly limits.';

revoke execute on function brainops_internal.marketing_verdicts(uuid, text, brainops.contact[]) from public;
grant execute on function brainops_internal.marketing_verdicts(uuid, text, brainops.contact[]) to brainops_worker;
