-- Amounts: conversion between units of a currency and the units that Stripe counts in (brainops.currencies), and the
-- triggers of plans. Start at minor_units.

-- Exact, or refused: an amount is never rounded.
create or replace function brainops_internal.minor_units(p_amount numeric, p_currency text)
returns bigint
language plpgsql
stable
set search_path = ''
as $$
declare
  v_currency brainops.currencies;
  v_minor numeric;
begin
  select * into v_currency from brainops.currencies where code = lower(btrim(p_currency));
  if not found then
    raise exception 'currency: % is not a known currency', coalesce(quote_literal(left(p_currency, 20)), 'null')
      using errcode = 'OP028', column = 'currency', hint = 'Give an ISO 4217 code such as usd; brainops.currencies lists them.';
  end if;
  -- NaN is greater than every number, so it is refused here too.
  if p_amount is null or not (p_amount > 0 and p_amount < 1e12) then
    raise exception 'amount: % is not an amount that can be paid', coalesce(p_amount::text, 'null')
      using errcode = 'OP027', column = 'amount',
        hint = 'Give an amount above zero and below 1000000000000, in units of the currency (12.50, not 1250).';
  end if;
  v_minor := p_amount * 10::numeric ^ v_currency.stripe_exponent::int;
  if v_minor <> trunc(v_minor) or v_minor % v_currency.stripe_multiple <> 0 then
    raise exception 'amount: % % is not a multiple of %, the smallest amount that Stripe accepts in this currency',
      trim_scale(p_amount), v_currency.code,
      trim_scale(v_currency.stripe_multiple / 10::numeric ^ v_currency.stripe_exponent::int)
      using errcode = 'OP027', column = 'amount', hint = 'Round it to a multiple of the smallest amount.';
  end if;
  return v_minor::bigint;
end;
$$;

comment on function brainops_internal.minor_units(numeric, text) is
  'p_amount in Stripe''s units of the currency. OP028 for an unknown currency; OP027 for an amount that is not above zero and below 10^12, or not a multiple of the smallest amount that Stripe accepts.';

revoke execute on function brainops_internal.minor_units(numeric, text) from public;
grant execute
on function brainops_internal.minor_units(numeric, text)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

create or replace function brainops_internal.major_units(p_minor bigint, p_currency text)
returns numeric
language sql
stable
set search_path = ''
as $$
  select trim_scale(p_minor / 10::numeric ^ c.stripe_exponent::int)
  from brainops.currencies as c
  where c.code = p_currency;
$$;

comment on function brainops_internal.major_units(bigint, text) is
  'p_minor, in Stripe''s units, as an amount in units of the currency; null for an unknown currency.';

revoke execute on function brainops_internal.major_units(bigint, text) from public;
grant execute
on function brainops_internal.major_units(bigint, text)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

create or replace function brainops_internal.format_payment(p_minor bigint, p_currency text)
returns text
language sql
stable
set search_path = ''
as $$
  select
    coalesce(
      (
        select round(p_minor / 10::numeric ^ c.stripe_exponent::int, c.exponent)::text
        from brainops.currencies as c
        where c.code = p_currency
      ),
      p_minor || ' minor units of'
    ) || ' ' || upper(p_currency);
$$;

comment on function brainops_internal.format_payment(bigint, text) is
  'An amount in Stripe''s units as text for people, such as "12.50 USD", with the decimals that ISO 4217 gives the currency.';

revoke execute on function brainops_internal.format_payment(bigint, text) from public;
grant execute on function brainops_internal.format_payment(bigint, text) to brainops_system;

create or replace function brainops_internal.check_plan()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  new.code := lower(btrim(new.code));
  new.currency := lower(btrim(new.currency));
  -- Without an amount there is nothing to compute; the not-null constraint refuses the row.
  new.amount_minor := case when new.amount is not null then brainops_internal.minor_units(new.amount, new.currency) end;
  return new;
end;
$$;

comment on function brainops_internal.check_plan is
  'Trigger: normalizes code and currency of a plan, and computes amount_minor; errors as in minor_units.';

alter function brainops_internal.check_plan() owner to brainops_system;
revoke execute on function brainops_internal.check_plan() from public;
grant execute on function brainops_internal.check_plan() to brainops_system;

-- A plan without a tenant is for every tenant. Only admins may write one, and they do so by leaving tenant_id out.
create or replace function brainops_internal.fill_plan_tenant()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  if not pg_catalog.pg_has_role(session_user, 'brainops_admin', 'member') then
    new.tenant_id := brainops_internal.resolve_tenant(tg_relid, to_jsonb(new));
  end if;
  return new;
end;
$$;

comment on function brainops_internal.fill_plan_tenant is
  'Trigger: fills in the tenant of a plan, unless an admin writes it.';

alter function brainops_internal.fill_plan_tenant() owner to brainops_system;
revoke execute on function brainops_internal.fill_plan_tenant() from public;
grant execute on function brainops_internal.fill_plan_tenant() to brainops_system;
