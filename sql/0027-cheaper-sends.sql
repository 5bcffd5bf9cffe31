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

-- Looked for by equality alone, and written for each mail. (A BRIN index with Bloom filters costs nothing to
-- write, but the planner thinks that it reads the whole table, and does that instead.)
drop index brainops.job_events_row;
create index job_events_row on brainops.job_events using hash (row_id);
drop index public.email_unsubscribe_links_token;
create index email_unsubscribe_links_token on public.email_unsubscribe_links using hash (token);

-- A link is known by its address and by its token: an id of its own was one more random key to write.
alter table public.email_unsubscribe_links
drop constraint email_unsubscribe_links_pkey,
drop constraint email_unsubscribe_links_once,
drop column id,
add primary key (tenant_id, address_key);

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
        insert into public.email_unsubscribe_links (tenant_id, address_key)
        select p_tenant_id, k from unnest(v_missing) as k where k not in (select address_key from known)
        on conflict (tenant_id, address_key) do nothing
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

-- What of brainops.settle is left where many rows came to the same good end: nothing to decide for
-- each, and their results are read once.
create function brainops.settle_completed(p_table text, p_ids uuid[], p_lease uuid, p_result jsonb)
returns setof uuid
language plpgsql
set search_path = ''
set random_page_cost = 1 -- as in brainops.settle
as $$
declare
  v_job brainops.job_tables;
  v_names text;
  v_values text;
begin
  select * into strict v_job from brainops.job_tables as j where j.table_name = p_table;
  select
    string_agg(format(', %1$I = r.%1$I', a.attname), '' order by a.attnum),
    string_agg(format(', (p ->> %1$L)::%2$s as %1$I', a.attname, format_type(a.atttypid, a.atttypmod)), '' order by a.attnum)
    into v_names, v_values
    from pg_catalog.pg_attribute as a
    where a.attrelid = v_job.relation::regclass and a.attname = any (v_job.result_columns) and p_result ? a.attname;
  return query execute format(
    $sql$
    update %1$s as t
    set
      status = 'completed',
      finished_at = $3,
      skip_reason = null,
      last_error = null,
      lease = null,
      worker_id = null,
      rate_slot = null%2$s
    from (select p%3$s from (values ($4)) as v (p) offset 0) as r
    where t.id = any ($1) and t.lease = $2
    returning t.id
    $sql$,
    v_job.relation, v_names, v_values
  )
    using p_ids, p_lease, brainops.now(), p_result;
end;
$$;

comment on function brainops.settle_completed(text, uuid[], uuid, jsonb) is
  'As brainops.settle, for rows under one lease that all are completed with the same result; returns those whose lease still held.';

revoke execute on function brainops.settle_completed(text, uuid[], uuid, jsonb) from public;
grant execute on function brainops.settle_completed(text, uuid[], uuid, jsonb) to brainops_worker;
