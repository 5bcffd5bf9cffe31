-- Computes a request's facts from what is on record. What follows from a payment follows from the
-- change of paid_at (after_payment_update), so it happens once.
-- As in sql/0018, but that each currency's refunds count as their share of what was charged in it.
create or replace function brainops_internal.settle_payment_request(p_tenant_id uuid, p_id uuid)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_old public.payment_requests;
  v_new public.payment_requests;
  v_paid bigint;
  v_payments int;
  v_matching timestamptz;
  v_others text;
  v_taken text;
  v_refunded bigint;
  v_disputes int;
begin
  select * into v_old from public.payment_requests where tenant_id = p_tenant_id and id = p_id for update;
  select
    coalesce(sum(amount_minor) filter (where kind = 'payment' and currency = v_old.currency), 0),
    count(*) filter (where kind = 'payment'),
    min(occurred_at) filter (where kind = 'payment' and currency = v_old.currency and amount_minor = v_old.amount_minor),
    string_agg(brainops_internal.format_payment(amount_minor, currency), ', ' order by occurred_at, object_id)
      filter (where kind = 'payment' and (currency <> v_old.currency or amount_minor <> v_old.amount_minor)),
    (array_agg(currency order by occurred_at, object_id) filter (where kind = 'payment'))[1]
    into v_paid, v_payments, v_matching, v_others, v_taken
    from public.payment_ledger
    where tenant_id = p_tenant_id and payment_request_id = p_id;

  select
    coalesce(
      sum(
        case
          when b.currency = v_old.currency then b.minor
          else least(round(b.minor * c.worth / c.charged), c.worth)
        end
      ),
      0
    )
    into v_refunded
    from (
      -- What went back by currency: as the ledger has it, or as Stripe's totals of the charges say.
      select m.currency, greatest(sum(m.booked), sum(m.told)) as minor
      from (
        select
          currency,
          -amount_minor as booked,
          case when kind = 'refund_reversal' then -amount_minor else 0 end as told
        from public.payment_ledger
        where tenant_id = p_tenant_id and payment_request_id = p_id and kind in ('refund', 'refund_reversal')
        union all
        select
          coalesce(
            o.currency,
            -- From before charges had their currency.
            (
              select l.currency from public.payment_ledger as l
              where l.tenant_id = p_tenant_id and l.payment_request_id = p_id and l.charge_id = o.object_id
              limit 1
            ),
            v_old.currency
          ),
          0,
          o.refunded_minor
        from public.stripe_objects as o
        where o.tenant_id = p_tenant_id and o.payment_request_id = p_id and o.refunded_minor > 0
      ) as m
      group by m.currency
    ) as b
    cross join lateral (
      -- What payers were charged in that currency, and what of the request it paid: what Stripe
      -- converted, as booked; and where nothing came in the request's currency, all that was asked.
      select
        coalesce(nullif(sum(p.charged), 0), nullif(sum(p.of_charges), 0), greatest(v_paid, 1)) as charged,
        case when count(p.charged) > 0 then sum(p.worth) else v_paid end as worth
      from (
        select o.charged_minor as charged, l.amount_minor as worth, null::bigint as of_charges
        from public.payment_ledger as l
        inner join public.stripe_objects as o
          on o.tenant_id = l.tenant_id and o.object_id = l.object_id and o.payment_request_id = l.payment_request_id
        where l.tenant_id = p_tenant_id and l.payment_request_id = p_id and l.kind = 'payment'
          and l.currency = v_old.currency and o.currency = b.currency
        union all
        select
          sum(l.amount_minor),
          case when v_paid = 0 and b.currency = v_taken then v_old.amount_minor else 0 end,
          null
        from public.payment_ledger as l
        where l.tenant_id = p_tenant_id and l.payment_request_id = p_id and l.kind = 'payment' and l.currency = b.currency
        union all
        -- From before conversions were kept, a charge that was refunded says what it was.
        select null, 0, sum(o.charged_minor)
        from public.stripe_objects as o
        where o.tenant_id = p_tenant_id and o.payment_request_id = p_id and o.currency = b.currency and o.refunded_minor > 0
      ) as p
    ) as c;
  select count(*) into v_disputes
    from public.payment_disputes
    where tenant_id = p_tenant_id and payment_request_id = p_id and status not in ('won', 'warning_closed', 'prevented');

  update public.payment_requests as r
  set
    paid_minor = case when v_paid = 0 and v_payments > 0 and r.paid_at is not null then r.amount_minor else v_paid end,
    refunded_minor = v_refunded,
    disputes_open = v_disputes,
    paid_at = coalesce(v_matching, r.paid_at),
    attention = nullif(
      concat_ws(
        '; ',
        'paid ' || v_others || ' where ' || brainops_internal.format_payment(r.amount_minor, r.currency) || ' was asked',
        case when r.interval = 'one_time' and v_payments > 1 then 'paid ' || v_payments || ' times' end,
        case when v_matching is not null and r.cancelled_at is not null then 'paid though it was cancelled' end,
        case when v_matching is not null and r.cancelled_at is null and r.expired_at is not null then 'paid though it had expired' end
      ),
      ''
    )
  where r.tenant_id = p_tenant_id and r.id = p_id
  returning * into v_new;

  if v_new.attention is distinct from v_old.attention and v_new.attention is not null then
    perform brainops.notify(
      p_tenant_id, 'A payment needs a look: ' || v_new.plan_name,
      'Payment request ' || p_id || ': ' || v_new.attention || '.', 'payment:' || p_id || ':' || md5(v_new.attention),
      v_new.lead_id
    );
  end if;
end;
$$;

comment on function brainops_internal.settle_payment_request(uuid, uuid) is
  'Computes what payment_status comes from anew, from ledger, disputes and charges.';

revoke execute on function brainops_internal.settle_payment_request(uuid, uuid) from public;
grant execute on function brainops_internal.settle_payment_request(uuid, uuid) to brainops_system;

-- Books a movement of money; true where it was not booked before.
create or replace function brainops_internal.record_payment(
  p_known public.stripe_objects,
  p_kind text,
  p_object_id text,
  p_charge_id text,
  p_minor bigint,
  p_currency text,
  p_livemode boolean,
  p_at timestamptz
)
returns boolean
language plpgsql
set search_path = ''
as $$
begin
  insert into public.payment_ledger (tenant_id, payment_request_id, kind, object_id, charge_id, amount_minor, currency, livemode, occurred_at)
  values ((p_known).tenant_id, (p_known).payment_request_id, p_kind, p_object_id, p_charge_id, p_minor, lower(p_currency), p_livemode, p_at)
  on conflict (tenant_id, kind, object_id) do nothing;
  return found;
end;
$$;

revoke execute
on function brainops_internal.record_payment(stripe_objects, text, text, text, bigint, text, boolean, timestamptz)
from public;
grant execute
on function brainops_internal.record_payment(stripe_objects, text, text, text, bigint, text, boolean, timestamptz)
to brainops_system;

-- A paid request: the person's history says so, and the lead is won, which starts the onboarding.
create or replace function brainops_internal.follow_payment(p_request public.payment_requests)
returns void
language plpgsql
set search_path = ''
as $$
begin
  if (p_request).lead_id is null then
    return;
  end if;
  perform brainops_internal.record_payment_event(p_request, 'paid', (p_request).paid_at, (p_request).id::text, '{}');
  begin
    update public.revenue_leads set stage = 'won'
    where tenant_id = (p_request).tenant_id and id = (p_request).lead_id and stage <> 'won';
  exception
    when serialization_failure or deadlock_detected or lock_not_available then
      raise; -- may pass: the event is tried again
    -- The money is there, whatever the stages say.
    when others then
      perform brainops.notify(
        (p_request).tenant_id, 'A lead that paid could not be moved to won',
        'Lead ' || (p_request).lead_id || ': ' || sqlerrm, 'payment:' || (p_request).id || ':won',
        (p_request).lead_id
      );
  end;
end;
$$;

revoke execute on function brainops_internal.follow_payment(payment_requests) from public;
grant execute on function brainops_internal.follow_payment(payment_requests) to brainops_system;

create or replace function brainops_internal.record_payment_event(
  p_request public.payment_requests,
  p_event text,
  p_at timestamptz,
  p_key text,
  p_metadata jsonb
)
returns void
language plpgsql
set search_path = ''
as $$
begin
  if (p_request).lead_id is not null then
    perform brainops_internal.record_lead_event(
      (p_request).tenant_id, (p_request).lead_id, p_event, 'payment', p_at, p_key,
      p_metadata || jsonb_build_object(
        'payment_request_id', (p_request).id, 'plan', (p_request).plan_code,
        'amount', (p_request).amount, 'currency', (p_request).currency
      )
    );
  end if;
end;
$$;

revoke execute
on function brainops_internal.record_payment_event(payment_requests, text, timestamptz, text, jsonb)
from public;
grant execute
on function brainops_internal.record_payment_event(payment_requests, text, timestamptz, text, jsonb)
to brainops_system;
