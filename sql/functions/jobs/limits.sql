-- What may hold back the rows of a whole table: pauses (by a person or the engine) and rate limits (buckets shared by
-- all workers). A claim asks pause_reason and reserve_rate_slots in its own transaction, right before it writes the
-- rows. A settle reports a provider's refusal of the whole account with pause_account. Circuit breakers: breaker.sql.

create or replace function brainops_internal.pause_reason(p_table text, p_tenant_id uuid)
returns text
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
  v_reason text;
begin
  select 'tenant ' || slug || ' is suspended' into v_reason
    from public.tenants
    where id = p_tenant_id and status <> 'active';
  if not found then
    select 'paused by ' || p.paused_by || ': ' || p.reason into v_reason
      from brainops.pauses as p
      inner join brainops.job_tables as j using (table_name)
      where p.table_name = p_table
        and (p.tenant_id is null or p.tenant_id = p_tenant_id)
        and (p.channel is null or p.channel = j.channel)
      limit 1;
  end if;
  return v_reason;
end;
$$;

comment on function brainops_internal.pause_reason(text, uuid) is
  'Why no row of the table may go for the tenant now: the tenant is suspended or the table is paused; null if rows may go.';

alter function brainops_internal.pause_reason(text, uuid) owner to brainops_system;
revoke execute on function brainops_internal.pause_reason(text, uuid) from public;
grant execute on function brainops_internal.pause_reason(text, uuid) to brainops_worker, brainops_admin;

-- Reserves a slot for each of p_n rows, in order. If a slot lies in the future, the caller moves the row to it, and
-- the row need not ask again. Locks the buckets until the end of the transaction, the tenant's before the common one.
create or replace function brainops_internal.reserve_rate_slots(p_table text, p_tenant_id uuid, p_n int)
returns timestamptz[]
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_limit record;
  v_from timestamptz;
  v_slots timestamptz[];
  v_all timestamptz[];
begin
  for v_limit in
    select * from brainops.rate_limits
    where table_name = p_table and (tenant_id = p_tenant_id or tenant_id is null)
    order by tenant_id nulls last
    for update
  loop
    v_from := greatest(v_limit.next_slot, brainops.now());
    select array_agg(v_from + make_interval(secs => ((i - v_limit.burst) / v_limit.per_second)::float8) order by i)
      into v_slots
      from generate_series(1, p_n) as i;
    update brainops.rate_limits
    set next_slot = v_from + make_interval(secs => (p_n / v_limit.per_second)::float8)
    where id = v_limit.id;
    select array_agg(greatest(mine, v_all[i]) order by i) into v_all from unnest(v_slots) with ordinality as s (mine, i);
  end loop;
  return v_all;
end;
$$;

comment on function brainops_internal.reserve_rate_slots(text, uuid, int) is
  'Reserves p_n slots under the table''s rate limits and returns their times, the first for the first row: the later one where both the tenant''s and the common limit apply. Null if the table has no limit.';

alter function brainops_internal.reserve_rate_slots(text, uuid, int) owner to brainops_system;
revoke execute on function brainops_internal.reserve_rate_slots(text, uuid, int) from public;
grant execute on function brainops_internal.reserve_rate_slots(text, uuid, int) to brainops_worker;

-- A refusal that a row may have caused holds the row's tenant only. It holds everyone once the account has refused two
-- tenants in turn: another tenant's pause for the same account is still in force, and no third tenant, nor this one,
-- has succeeded since. (Stored times of successes are up to a quarter of the window old, see breaker.sql.)
create or replace function brainops_internal.pause_account(
  p_table text,
  p_everyone boolean,
  p_reason text,
  p_account text default null
)
returns void
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_tenant_id uuid := brainops.current_tenant_id();
  v_everyone boolean := p_everyone;
begin
  if p_everyone and p_account is not null then
    select exists (
      select
      from brainops.pauses as p
      where p.table_name = p_table
        and p.account = p_account
        and p.tenant_id <> v_tenant_id
        and not exists (
          select from brainops.breaker_tenants as s
          where s.account = p_account
            and s.tenant_id <> p.tenant_id
            and s.last_success_at > p.paused_at - brainops_internal.failure_window(p_account) / 4
        )
    )
      into v_everyone;
  end if;
  insert into brainops.pauses (table_name, tenant_id, reason, account, paused_at)
  values (p_table, case when not v_everyone then v_tenant_id end, p_reason, p_account, brainops.now())
  on conflict (tenant_id, table_name, channel) do update
    set
      reason = excluded.reason,
      account = excluded.account;
end;
$$;

comment on function brainops_internal.pause_account(text, boolean, text, text) is
  'Pauses a job table because its provider refuses every call: for the current tenant, or with p_everyone for every tenant. p_account: the platform''s account that refused, if a row may have caused the refusal; then p_everyone applies only once the account has refused a second tenant, too. brainops.resume ends the pause.';

alter function brainops_internal.pause_account(text, boolean, text, text) owner to brainops_system;
revoke execute on function brainops_internal.pause_account(text, boolean, text, text) from public;
grant execute on function brainops_internal.pause_account(text, boolean, text, text) to brainops_worker;
