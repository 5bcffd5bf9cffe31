-- The handler's first step, in a transaction of its own before anything is asked of Stripe: fixes
-- the key, and through which account. look_first: the key may be forgotten at Stripe, so whether the
-- link is there already must be looked up.
create or replace function brainops_internal.begin_payment_link(
  p_id uuid,
  p_account uuid,
  p_new_key boolean default false,
  out idempotency_key text,
  out key_generation int,
  out look_first boolean,
  out same_account boolean,
  out stripe_payment_link_id text
)
returns record
language plpgsql
set search_path = ''
as $$
declare
  v_row public.payment_requests;
begin
  select * into v_row from public.payment_requests as r where r.id = p_id for update;
  if not found then
    raise exception 'payment request %: no such row', p_id using errcode = 'OP009', hint = 'It was deleted meanwhile.';
  end if;
  look_first := v_row.key_started_at < brainops.now() - interval '23 hours';
  same_account := v_row.key_started_at is null or v_row.key_account is not distinct from p_account;
  if same_account and v_row.stripe_payment_link_id is null and (v_row.key_started_at is null or p_new_key) then
    update public.payment_requests as r
    set
      key_started_at = brainops.now(),
      key_account = p_account,
      -- Only a key that was used can be spoiled.
      key_generation = r.key_generation + (r.key_started_at is not null)::int
    where r.id = p_id
    returning * into v_row;
  end if;
  key_generation := v_row.key_generation;
  idempotency_key := 'brainops:' || v_row.id || ':' || v_row.key_generation;
  stripe_payment_link_id := v_row.stripe_payment_link_id;
end;
$$;

comment on function brainops_internal.begin_payment_link(uuid, uuid, boolean) is
  'Fixes the idempotency key of a request''s link and the account it is made through (null: the installation''s) before Stripe is asked. p_new_key: the key is spoiled, take the next.';

revoke execute on function brainops_internal.begin_payment_link(uuid, uuid, boolean) from public;
grant execute on function brainops_internal.begin_payment_link(uuid, uuid, boolean) to brainops_worker, brainops_system;

-- When the request's present link is switched off. Once it is paid, no other payment may come in,
-- neither by this link nor by an older one, which have their closures already.
create or replace function brainops_internal.schedule_payment_closure(p_request public.payment_requests)
returns void
language sql
set search_path = ''
as $$
  insert into public.payment_link_closures as c (
    tenant_id,
    payment_request_id,
    key_generation,
    stripe_payment_link_id,
    account,
    reason,
    scheduled_for
  )
  select
    (p_request).tenant_id,
    (p_request).id,
    (p_request).key_generation,
    (p_request).stripe_payment_link_id,
    (p_request).key_account,
    w.reason,
    case
      when w.reason = 'expired' then (p_request).expires_at
      when (p_request).stripe_payment_link_id is not null then brainops.now()
      -- The link may still be in the making, its answer lost on the way.
      else brainops.now() + interval '10 minutes'
    end
  from
    (
      select
        case
          when (p_request).paid_at is not null then 'paid'
          when (p_request).cancelled_at is not null then 'cancelled'
          else 'expired'
        end as reason
    ) as w
  where (p_request).stripe_payment_link_id is not null or w.reason <> 'expired'
  on conflict (tenant_id, payment_request_id, key_generation) do update
    set
      stripe_payment_link_id = coalesce(excluded.stripe_payment_link_id, c.stripe_payment_link_id),
      reason = excluded.reason,
      scheduled_for = excluded.scheduled_for,
      status = case
        when c.status = 'processing' then c.status
        else 'pending'
      end
    -- What is switched off stays so.
    where c.status <> 'completed' or c.stripe_payment_link_id is distinct from excluded.stripe_payment_link_id;
$$;

revoke execute on function brainops_internal.schedule_payment_closure(payment_requests) from public;
grant execute on function brainops_internal.schedule_payment_closure(payment_requests) to brainops_system;

-- A link that was switched off because its time was over makes its request expired.
create or replace function brainops_internal.after_payment_closure()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  update public.payment_requests
  set expired_at = brainops.now()
  where tenant_id = new.tenant_id
    and id = new.payment_request_id
    and key_generation = new.key_generation
    and expired_at is null
    and cancelled_at is null
    and new.reason = 'expired';
  return null;
end;
$$;

alter function brainops_internal.after_payment_closure() owner to brainops_system;
revoke execute on function brainops_internal.after_payment_closure() from public;

create or replace function brainops_internal.gate_payment_closure(p_ids uuid[])
returns setof brainops.verdict
language sql
stable
set search_path = ''
as $$
  select c.id, 'defer', r.expires_at, 'it expires later'
  from
    public.payment_link_closures as c
    inner join public.payment_requests as r on r.tenant_id = c.tenant_id and r.id = c.payment_request_id
  where
    c.id = any (p_ids)
    and c.reason = 'expired'
    -- A link that another one took the place of is closed at its own time at the latest.
    and r.key_generation = c.key_generation
    and r.paid_at is null
    and r.cancelled_at is null
    and r.expires_at > brainops.now();
$$;

comment on function brainops_internal.gate_payment_closure(uuid[]) is
  'Which of the links are kept open longer: those whose request expires later by now.';

revoke execute on function brainops_internal.gate_payment_closure(uuid[]) from public;
grant execute on function brainops_internal.gate_payment_closure(uuid[]) to brainops_worker, brainops_system;

create or replace function brainops_internal.stripe_account(p_tenant_id uuid)
returns text
language sql
immutable
set search_path = ''
as $$
  select coalesce(p_tenant_id::text, 'platform');
$$;

revoke execute on function brainops_internal.stripe_account(uuid) from public;
grant execute on function brainops_internal.stripe_account(uuid) to brainops_system;

-- One at a time for each account, because an event that finds its object unknown and one that
-- makes it known must not miss each other.
create or replace function brainops_internal.lock_stripe_account(p_account text)
returns void
language sql
set search_path = ''
as $$
  select pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('stripe ' || p_account, 0));
$$;

revoke execute on function brainops_internal.lock_stripe_account(text) from public;
grant execute on function brainops_internal.lock_stripe_account(text) to brainops_system;
