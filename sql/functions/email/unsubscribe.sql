-- Unsubscribe links (RFC 8058). A link's token identifies a tenant and an address; it is created when it is first
-- needed.

-- For anyone who has the token: no login and no tenant are needed. Idempotent.
create or replace function brainops_internal.unsubscribe(p_token text)
returns boolean
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_link public.email_unsubscribe_links;
begin
  -- Serialises concurrent requests of one link.
  select * into v_link from public.email_unsubscribe_links where token = p_token for no key update;
  if not found then
    return false;
  end if;
  perform brainops_internal.stop_mail(v_link.tenant_id, v_link.address_key, 'unsubscribe_link');
  return true;
end;
$$;

comment on function brainops_internal.unsubscribe(text) is
  'Suppresses the address of an unsubscribe link, and returns true; false if the token is unknown.';

alter function brainops_internal.unsubscribe(text) owner to brainops_system;
revoke execute on function brainops_internal.unsubscribe(text) from public;

create or replace function brainops_internal.unsubscribe_token(p_tenant_id uuid, p_address text)
returns text
language sql
set search_path = ''
as $$
  select k.token from brainops_internal.unsubscribe_tokens(p_tenant_id, array[p_address]) as k;
$$;

comment on function brainops_internal.unsubscribe_token(uuid, text) is
  'The token of one address; see brainops_internal.unsubscribe_tokens.';

revoke execute on function brainops_internal.unsubscribe_token(uuid, text) from public;
grant execute on function brainops_internal.unsubscribe_token(uuid, text) to brainops_worker;

create or replace function brainops_internal.unsubscribe_tokens(p_tenant_id uuid, p_addresses text[])
returns table (address_key text, token text)
language plpgsql
rows 1000
set search_path = ''
as $$
#variable_conflict use_column
declare
  -- Sorted: all transactions insert in the same order, so that they cannot deadlock.
  v_missing text[] := array(
    select distinct lower(btrim(a)) collate "C" from unnest(p_addresses) as a where a is not null order by 1
  );
  v_keys text[];
  v_tokens text[];
  v_found text[];
  v_found_tokens text[];
begin
  -- Loops again only if another transaction inserts one of the links at the same time: the next statement sees it.
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

comment on function brainops_internal.unsubscribe_tokens(uuid, text[]) is
  'The tokens of the unsubscribe links of these addresses, created where missing: one row for each distinct address, with address_key in lower case. Null addresses are left out.';

revoke execute on function brainops_internal.unsubscribe_tokens(uuid, text[]) from public;
grant execute on function brainops_internal.unsubscribe_tokens(uuid, text[]) to brainops_worker;
