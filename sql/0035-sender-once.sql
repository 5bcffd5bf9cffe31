-- A function in SQL is planned anew at each call (up to Postgres 17), and each claim calls this one: a tenth of a
-- millisecond of two. In PL/pgSQL its plan is kept; and tables without a sender need not look at all.
set local lock_timeout = '2s';

create or replace function brainops.sender_of(p_sender text, p_tenant_id uuid)
returns text
language plpgsql
stable
set search_path = ''
as $$
begin
  if p_sender is null then
    return null;
  end if;
  if exists (
    select from public.provider_credentials as c
    where c.tenant_id = p_tenant_id and c.provider = p_sender and c.name = 'default' and c.active
  ) then
    return p_sender || ':' || p_tenant_id;
  end if;
  return p_sender;
end;
$$;
