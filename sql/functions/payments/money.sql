-- Exactly, or not at all: nothing is rounded.
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
    raise exception 'currency: nobody knows %', coalesce(quote_literal(left(p_currency, 20)), 'null')
      using errcode = 'OP028', column = 'currency', hint = 'Give a code of ISO 4217 such as usd: select code from brainops.currencies.';
  end if;
  -- NaN is greater than every number, so it falls here too.
  if p_amount is null or not (p_amount > 0 and p_amount < 1e12) then
    raise exception 'amount: % is no amount of money', coalesce(p_amount::text, 'null')
      using errcode = 'OP027', column = 'amount', hint = 'Give an amount above zero, in units of the currency (12.50, not 1250).';
  end if;
  v_minor := p_amount * 10::numeric ^ v_currency.stripe_exponent::int;
  if v_minor <> trunc(v_minor) or v_minor % v_currency.stripe_multiple <> 0 then
    raise exception 'amount: % cannot be paid in %, whose smallest amount at Stripe is %',
      trim_scale(p_amount), v_currency.code,
      trim_scale(v_currency.stripe_multiple / 10::numeric ^ v_currency.stripe_exponent::int)
      using errcode = 'OP027', column = 'amount', hint = 'Round it to a multiple of the smallest amount.';
  end if;
  return v_minor::bigint;
end;
$$;

comment on function brainops_internal.minor_units(numeric, text) is
  'The amount in Stripe''s units of the currency. OP028 for an unknown currency, OP027 for an amount that does not come out even; never rounded.';

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
  'What the amount in Stripe''s units is in units of the currency; null for an unknown currency.';

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
  -- Without an amount there is nothing to reckon: the column's own rule refuses the row.
  new.amount_minor := case when new.amount is not null then brainops_internal.minor_units(new.amount, new.currency) end;
  return new;
end;
$$;

alter function brainops_internal.check_plan() owner to brainops_system;
revoke execute on function brainops_internal.check_plan() from public;
grant execute on function brainops_internal.check_plan() to brainops_system;

-- Without a tenant, a plan is everyone's: what only an admin may say, and says by leaving it out.
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

alter function brainops_internal.fill_plan_tenant() owner to brainops_system;
revoke execute on function brainops_internal.fill_plan_tenant() from public;
grant execute on function brainops_internal.fill_plan_tenant() to brainops_system;
