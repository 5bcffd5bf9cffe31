-- The books: movements of money (payment_ledger), the state of a request that follows from them, and the effects of a
-- payment. Start at settle_payment_request, which runs after every event that is applied.

-- Computes a request's facts from everything on record, so the order of events does not matter. The effects of a
-- payment are triggered by the change of paid_at (after_payment_update), so they happen once. A refund in another
-- currency counts as its share of what was charged in that currency: 1300 of 1900 yen, for which 12.50 dollars were
-- booked, are 1300/1900 of 12.50 dollars.
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
  v_other_payments text;
  v_first_currency text;
  v_refunded bigint;
  v_disputes int;
begin
  select * into v_old from public.payment_requests where tenant_id = p_tenant_id and id = p_id for no key update;
  select
    coalesce(sum(amount_minor) filter (where kind = 'payment' and currency = v_old.currency), 0),
    count(*) filter (where kind = 'payment'),
    min(occurred_at) filter (where kind = 'payment' and currency = v_old.currency and amount_minor = v_old.amount_minor),
    string_agg(brainops_internal.format_payment(amount_minor, currency), ', ' order by occurred_at, object_id)
      filter (where kind = 'payment' and (currency <> v_old.currency or amount_minor <> v_old.amount_minor)),
    (array_agg(currency order by occurred_at, object_id) filter (where kind = 'payment'))[1]
    into v_paid, v_payments, v_matching, v_other_payments, v_first_currency
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
      -- Refunded, by currency: by the ledger, or by Stripe's totals of the charges, whichever is more.
      select m.currency, greatest(sum(m.booked), sum(m.reported)) as minor
      from (
        select
          currency,
          -amount_minor as booked,
          case when kind = 'refund_reversal' then -amount_minor else 0 end as reported
        from public.payment_ledger
        where tenant_id = p_tenant_id and payment_request_id = p_id and kind in ('refund', 'refund_reversal')
        union all
        select
          coalesce(
            o.currency,
            -- A charge that was stored without its currency.
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
      -- charged: what payers were charged in that currency. worth: the part of the request that this paid. For payments
      -- that Stripe converted, that is the booked amount; if nothing was paid in the request's currency, the whole
      -- amount requested.
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
          case when v_paid = 0 and b.currency = v_first_currency then v_old.amount_minor else 0 end,
          null
        from public.payment_ledger as l
        where l.tenant_id = p_tenant_id and l.payment_request_id = p_id and l.kind = 'payment' and l.currency = b.currency
        union all
        -- For a conversion that was not stored, the amount of the refunded charge.
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
        'paid ' || v_other_payments || ' but ' || brainops_internal.format_payment(r.amount_minor, r.currency) || ' was requested',
        case when r.interval = 'one_time' and v_payments > 1 then 'paid ' || v_payments || ' times' end,
        case when v_matching is not null and r.cancelled_at is not null then 'paid although it was cancelled' end,
        case when v_matching is not null and r.cancelled_at is null and r.expired_at is not null then 'paid although it had expired' end
      ),
      ''
    )
  where r.tenant_id = p_tenant_id and r.id = p_id
  returning * into v_new;

  if v_new.attention is distinct from v_old.attention and v_new.attention is not null then
    perform brainops.notify(
      p_tenant_id, 'A payment needs attention: ' || v_new.plan_name,
      'Payment request ' || p_id || ': ' || v_new.attention || '.', 'payment:' || p_id || ':' || md5(v_new.attention),
      v_new.lead_id
    );
  end if;
end;
$$;

comment on function brainops_internal.settle_payment_request(uuid, uuid) is
  'Recomputes the columns that payment_status depends on from ledger, disputes and charges; notifies the tenant when attention changes.';

revoke execute on function brainops_internal.settle_payment_request(uuid, uuid) from public;
grant execute on function brainops_internal.settle_payment_request(uuid, uuid) to brainops_system;

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

comment on function brainops_internal.record_payment(
  public.stripe_objects,
  text,
  text,
  text,
  bigint,
  text,
  boolean,
  timestamptz
) is
  'Books a movement of money, once; true if it was not booked before. p_minor: in Stripe''s units, negative for money that goes out.';

revoke execute
on function brainops_internal.record_payment(
  public.stripe_objects,
  text,
  text,
  text,
  bigint,
  text,
  boolean,
  timestamptz
)
from public;
grant execute
on function brainops_internal.record_payment(
  public.stripe_objects,
  text,
  text,
  text,
  bigint,
  text,
  boolean,
  timestamptz
)
to brainops_system;

-- The payment stands, even if the lead cannot be moved to won: that becomes a notification. Transient errors are
-- raised, so that the event is retried.
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
      raise; -- transient: the event is retried
    when others then
      perform brainops.notify(
        (p_request).tenant_id, 'A lead that paid could not be moved to won',
        'Lead ' || (p_request).lead_id || ': ' || sqlerrm, 'payment:' || (p_request).id || ':won',
        (p_request).lead_id
      );
  end;
end;
$$;

comment on function brainops_internal.follow_payment(public.payment_requests) is
  'Records the lead event paid and moves the lead to won, which starts its onboarding; no effect on a request without a lead.';

revoke execute on function brainops_internal.follow_payment(public.payment_requests) from public;
grant execute on function brainops_internal.follow_payment(public.payment_requests) to brainops_system;

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

comment on function brainops_internal.record_payment_event(public.payment_requests, text, timestamptz, text, jsonb) is
  'Records a lead event of channel payment, once per p_key; no effect on a request without a lead.';

revoke execute
on function brainops_internal.record_payment_event(public.payment_requests, text, timestamptz, text, jsonb)
from public;
grant execute
on function brainops_internal.record_payment_event(public.payment_requests, text, timestamptz, text, jsonb)
to brainops_system;
