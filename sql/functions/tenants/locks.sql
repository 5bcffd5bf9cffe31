-- Locks: rows of brainops.tenant_locks, until the end of the transaction. The only way to do one thing at a time that
-- concerns no row which exists. Advisory locks are left to the liveness of workers, for which nobody waits
-- (jobs/workers.sql): their keys are visible in pg_locks, and every login can take them.

-- Each key has one of 64 buckets; two keys may share one, and then wait for each other. The buckets of a call are locked
-- in ascending order, so two calls cannot deadlock. These locks come before rows of tenants, and sms_number before
-- sms_route; only a claim locks its job rows first, and then person.
--
-- All rows of a purpose are created at once, at its first use, so none is missing while others are locked. A transaction
-- that comes at the same moment waits for the first one's end, as it would for the locks.
create or replace function brainops_internal.lock_keys(p_tenant_id uuid, p_purpose text, p_keys text[])
returns void
language plpgsql
-- Nobody else has rights on the table.
security definer
set search_path = ''
as $$
declare
  v_buckets constant smallint[] := array(select distinct brainops_internal.lock_bucket(k) from unnest(p_keys) as k);
begin
  for i in 1..2 loop
    perform from brainops.tenant_locks
      where tenant_id = p_tenant_id and purpose = p_purpose and bucket = any (v_buckets)
      order by bucket
      for no key update;
    exit when found or v_buckets = '{}';
    insert into brainops.tenant_locks (tenant_id, purpose, bucket)
    select p_tenant_id, p_purpose, b from generate_series(0, 63) as b
    on conflict do nothing;
  end loop;
end;
$$;

comment on function brainops_internal.lock_keys(uuid, text, text[]) is
  'Locks the keys of a tenant for a purpose (brainops.tenant_locks.purpose) until the transaction ends: another transaction that locks one of them waits. Null or empty p_keys: none.';

alter function brainops_internal.lock_keys(uuid, text, text[]) owner to brainops_system;
revoke execute on function brainops_internal.lock_keys(uuid, text, text[]) from public;
grant execute on function brainops_internal.lock_keys(uuid, text, text[]) to brainops_worker;

create or replace function brainops_internal.lock_bucket(p_key text)
returns smallint
language sql
immutable
parallel safe
as $$
  select (pg_catalog.hashtextextended(p_key, 0) & 63)::pg_catalog.int2;
$$;

comment on function brainops_internal.lock_bucket(text) is
  'The bucket of a key in brainops.tenant_locks, 0 to 63. Without a search_path of its own, so that it is inlined.';

revoke execute on function brainops_internal.lock_bucket(text) from public;
grant execute on function brainops_internal.lock_bucket(text) to brainops_system;
