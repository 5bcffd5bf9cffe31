-- What the sending of a mail costs, without a change in what it does. Old workers survive it.
--
-- A column gets another collation, for which Postgres writes ai_email_queue anew and lets nobody in
-- meanwhile: some seconds for 100,000 rows. What is done with can be archived first
-- (brainops.archive_done).
set local lock_timeout = '2s';

-- All at once and before anything is written anew: whoever writes to two of them in another order
-- then keeps this migration waiting, which tries again, instead of a deadlock at its end.
do $$
begin
  lock table public.tenants, brainops.job_events, public.email_unsubscribe_links, public.ai_email_queue
    in access exclusive mode;
end;
$$;

-- Keys that are compared for equality alone: by their bytes, whatever the database's language. In
-- most languages a comparison costs several times as much, and a look-up makes a dozen of them.
alter table public.ai_email_queue alter column recipient_key type text collate "C";
alter table public.email_unsubscribe_links alter column address_key type text collate "C";

-- Recipients of a broadcast share their message id by the thousand: it finds none of them.
drop index public.ai_email_queue_provider_message_id;
create index ai_email_queue_provider_message_id on public.ai_email_queue (provider_message_id)
where provider_message_id is not null and broadcast_id is null;

-- Looked for by equality alone, and written for each mail.
drop index brainops.job_events_row;
create index job_events_row on brainops.job_events using hash (row_id);
drop index public.email_unsubscribe_links_token;
create index email_unsubscribe_links_token on public.email_unsubscribe_links using hash (token);

-- What a foreign key to tenants holds, once for a statement of many rows, as job tables have it
-- (sql/0003): row by row it was an eighth of what a new link costs.
create function brainops.check_tenants()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  -- The lock keeps the tenants from being deleted meanwhile.
  if (select count(*) from (
    select from public.tenants where id in (select tenant_id from changed) for key share
  ) as t) <> (select count(distinct tenant_id) from changed) then
    raise exception 'tenant_id: % names a tenant that does not exist', tg_relid::regclass
      using errcode = 'foreign_key_violation', column = 'tenant_id', hint = 'select id, slug from tenants';
  end if;
  return null;
end;
$$;

comment on function brainops.check_tenants is
  'For tables without a foreign key to tenants: each statement''s rows are of tenants that are there, and a tenant that has rows stays.';

alter function brainops.check_tenants() owner to brainops_system;
revoke execute on function brainops.check_tenants() from public;

alter table public.email_unsubscribe_links drop constraint email_unsubscribe_links_tenant_id_fkey;
create trigger c0_check_tenants
after insert on public.email_unsubscribe_links
referencing new table as changed
for each statement
execute function brainops.check_tenants();
create trigger c1_check_tenants
after update on public.email_unsubscribe_links
referencing new table as changed
for each statement
execute function brainops.check_tenants();

create or replace function brainops.before_tenant_delete()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_relation regclass;
  v_found boolean;
begin
  for v_relation in
    select j.relation::regclass from brainops.job_tables as j
    union
    select t.tgrelid::regclass from pg_catalog.pg_trigger as t where t.tgfoid = 'brainops.check_tenants'::regproc
  loop
    execute format('select exists (select from %s where tenant_id = $1)', v_relation) into v_found using old.id;
    if v_found then
      raise exception 'tenant % still has rows in %', old.slug, v_relation
        using errcode = 'foreign_key_violation', hint = 'Suspend the tenant instead, or delete its rows first.';
    end if;
  end loop;
  return old;
end;
$$;

-- Not immutable, since convert_to() isn't: as long as it claimed to be, no query could take it in
-- and it was called for each address.
alter function brainops.address_digest(text) stable;

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

-- As in sql/0010, but that an address is looked for where the index has it.
create or replace function brainops.find_email(p_event jsonb)
returns brainops.email_reference
language plpgsql
stable
set search_path = ''
as $$
declare
  v_id uuid := brainops.uuid_or_null(p_event ->> 'bo_msg');
  v_message_id text := brainops.sendgrid_message_id(p_event);
  v_address text := lower(btrim(p_event ->> 'email'));
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
    select found.tenant_id, found.id into v_found
      from (
        select tenant_id, id, recipient_key from public.ai_email_queue
        where provider_message_id = v_message_id and broadcast_id is null
        union all
        select tenant_id, id, recipient_key from public.ai_email_queue
        where recipient_key = v_address and provider_message_id = v_message_id and broadcast_id is not null
      ) as found
      order by found.recipient_key = v_address desc
      limit 1;
    if found then
      return v_found;
    end if;
  end if;
  if p_event ->> 'event' = 'bounce' and coalesce(p_event ->> 'sg_message_id', '') = '' then
    select min(tenant_id::text)::uuid, case when count(*) = 1 then min(id::text)::uuid end
      into v_found.tenant_id, v_found.email_id
      from public.ai_email_queue
      where recipient_key = v_address and sent_at > brainops.now() - interval '7 days'
      having count(distinct tenant_id) = 1;
  end if;
  return v_found;
end;
$$;

create function brainops.unsubscribe_tokens(p_tenant_id uuid, p_addresses text[])
returns table (address_key text, token text)
language plpgsql
rows 1000
set search_path = ''
as $$
#variable_conflict use_column
declare
  -- In one order for everyone, so that two who make links never wait for each other crosswise.
  v_missing text[] := array(
    select distinct lower(btrim(a)) collate "C" from unnest(p_addresses) as a where a is not null order by 1
  );
  v_keys text[];
  v_tokens text[];
  v_found text[];
  v_found_tokens text[];
begin
  -- A second time only where another makes a link in this very moment: its row can be seen then.
  while v_missing <> '{}' loop
    with
      known as materialized (
        select l.address_key, l.token
        from public.email_unsubscribe_links as l
        where l.tenant_id = p_tenant_id and l.address_key = any (v_missing)
      ),
      made as (
        -- Each random number counts: the link's id is half of its token.
        insert into public.email_unsubscribe_links (id, tenant_id, address_key, token)
        select m.id, p_tenant_id, m.key, replace(m.id::text || gen_random_uuid()::text, '-', '')
        from (
          select gen_random_uuid() as id, k as key from unnest(v_missing) as k where k not in (select address_key from known)
          offset 0
        ) as m
        on conflict do nothing
        returning address_key, token
      )
    select array_agg(a.address_key), array_agg(a.token)
      into v_found, v_found_tokens
      from (select * from known union all select * from made) as a;
    v_keys := v_keys || v_found;
    v_tokens := v_tokens || v_found_tokens;
    v_missing := array(select k from unnest(v_missing) as k where k not in (select unnest(v_found)));
  end loop;
  return query select * from unnest(v_keys, v_tokens);
end;
$$;

comment on function brainops.unsubscribe_tokens(uuid, text[]) is
  'The tokens of the recipients'' unsubscribe links, one row for each address (address_key: in lower case); made when first asked for.';

revoke execute on function brainops.unsubscribe_tokens(uuid, text[]) from public;
grant execute on function brainops.unsubscribe_tokens(uuid, text[]) to brainops_worker;

create or replace function brainops.unsubscribe_token(p_tenant_id uuid, p_address text)
returns text
language sql
set search_path = ''
as $$
  select k.token from brainops.unsubscribe_tokens(p_tenant_id, array[p_address]) as k;
$$;
