-- What the sending of a mail costs, without a change in what it does. Old workers survive it.
--
-- Two columns change their collation, for which Postgres writes their tables anew and lets nobody
-- in meanwhile: ai_email_queue with 100,000 rows takes some seconds. What is sent and done with can
-- be archived first (brainops.retain).
set local lock_timeout = '2s';

-- Keys that are compared for equality alone: by their bytes, whatever the database's language. In
-- most languages a comparison costs several times as much, and a look-up makes a dozen of them.
alter table public.ai_email_queue alter column recipient_key type text collate "C";
alter table public.email_unsubscribe_links alter column address_key type text collate "C";

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
    select tenant_id, id into v_found
      from public.ai_email_queue
      where provider_message_id = v_message_id
      order by recipient_key = v_address desc
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
