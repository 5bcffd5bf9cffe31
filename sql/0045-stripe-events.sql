-- An event that had waited for its object was tried only once, inside the event that made the object known: a passing
-- error there (a deadlock, say) made it failed, and a refund, dispute or payment was never booked. Now it goes back to
-- pending, and has its three attempts like any other. What still fails is seen in brainops.queue_health.
-- And amounts in another currency were added up as if they were the request's: a refund of 1300 of 1900 yen, for which
-- 12.50 dollars were booked, counted as all of it. Now it counts as its share. A payment in another currency could not
-- be accepted at all, for it adds nothing to paid_minor.
-- Old workers go on meanwhile: they call what is replaced here by its old names.
set local lock_timeout = '2s';

-- Applies the events that waited for these ids; each stands alone.
create or replace function brainops.wake_stripe_events(p_account text, p_tenant_id uuid, p_ids text[])
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_event_ids text[];
  v_row public.webhook_events;
  v_reason text;
  v_error text;
begin
  select array_agg(distinct event_id) into v_event_ids
    from brainops.waiting_stripe_events
    where account = p_account and object_id = any (p_ids);
  if v_event_ids is null then
    return;
  end if;
  delete from brainops.waiting_stripe_events where account = p_account and event_id = any (v_event_ids);
  for v_row in
    select * from public.webhook_events
    where provider = 'stripe' and provider_event_id = any (v_event_ids) and tenant_id is not distinct from p_tenant_id and status <> 'pending'
    order by (payload ->> 'created')::bigint, provider_event_id
    for update
  loop
    v_error := null;
    begin
      v_reason := brainops.apply_stripe_event(v_row.payload, p_tenant_id);
    exception
      when others then v_error := sqlerrm;
    end;
    -- It waits for nothing any more, so whatever failed may pass: pending gives it a job (process_again),
    -- and brainops.process_webhook_events gives it up after three attempts.
    update public.webhook_events
    set
      status = case when v_error is not null then 'pending' when v_reason is null then 'completed' else 'skipped' end,
      skip_reason = case when v_error is null then v_reason end,
      last_error = v_error,
      processed_at = case when v_error is null then brainops.now() end
    where id = v_row.id;
  end loop;
end;
$$;

comment on function brainops.wake_stripe_events(text, uuid, text[]) is
  'Applies the events that waited for one of these ids; one that fails goes back to pending.';

create or replace view brainops.queue_health
with (security_invoker = true)
as
  select
    table_name,
    tenant_id,
    count(*) filter (where status = 'pending' and scheduled_for <= brainops.now()) as due,
    count(*) filter (where status = 'pending' and scheduled_for > brainops.now()) as later,
    count(*) filter (where status = 'processing') as processing,
    count(*) filter (where status = 'unconfirmed') as unconfirmed,
    count(*) filter (where status = 'awaiting_approval') as awaiting_approval,
    count(*) filter (where status = 'failed') as failed,
    brainops.now() - min(scheduled_for) filter (
      where status = 'pending' and scheduled_for <= brainops.now()
    ) as oldest_due,
    max(last_error) filter (where status = 'pending') as waiting_for
  from brainops.jobs
  where status not in ('completed', 'cancelled', 'skipped')
  group by table_name, tenant_id
  -- No job table, but money may hang on an event that was given up.
  union all
  select 'webhook_events', tenant_id, 0, 0, 0, 0, 0, count(*), null, null
  from public.webhook_events
  where status = 'failed'
  group by tenant_id;

comment on view brainops.queue_health is
  'For each job table and tenant: what waits, runs and failed, how late the oldest due row is, and one reason that rows wait for. And where webhook_events failed, how many (tenant_id null: nobody knows whose).';

-- Amounts in another currency ----------------------------------------------------------------------
alter table public.stripe_objects add column currency text;
alter table public.stripe_objects add column charged_minor bigint;

comment on column public.stripe_objects.charged_minor is
  'What the payer was charged, in currency: of a charge that was refunded, and of a payment that Stripe converted (the ledger has it in the request''s currency). Null for anything else.';
comment on column public.stripe_objects.currency is 'That of charged_minor and refunded_minor.';
comment on column public.payment_requests.paid_minor is
  'Sum of the ledger''s payments in the request''s currency. Where there are none, and a person accepted one in another currency: what was asked.';
comment on column public.payment_requests.refunded_minor is
  'What went back, as the ledger has it or as Stripe''s total of the charge says, whichever is more. In the request''s currency: what went back in another one counts as its share of what was charged in that.';

-- As in sql/0018, but that it keeps what was charged in another currency.
create or replace function brainops.apply_known_stripe_event(p_event jsonb, p_known public.stripe_objects)
returns text
language plpgsql
set search_path = ''
as $$
declare
  v_type text := p_event ->> 'type';
  v_object jsonb := p_event #> '{data,object}';
  v_at timestamptz := brainops.stripe_time(p_event -> 'created');
  v_livemode boolean := coalesce((p_event ->> 'livemode')::boolean, false);
  v_request public.payment_requests;
  v_inactive boolean;
begin
  select * into strict v_request
    from public.payment_requests
    where tenant_id = (p_known).tenant_id and id = (p_known).payment_request_id;
  case
    when v_type in ('checkout.session.completed', 'checkout.session.async_payment_succeeded') then
      if v_object ->> 'payment_status' = 'unpaid' then
        return null; -- a delayed method: async_payment_succeeded or _failed tells
      end if;
      -- What a subscription brings in is told by its invoices.
      if coalesce(v_object ->> 'mode', 'payment') = 'payment' and coalesce((v_object ->> 'amount_total')::bigint, 0) > 0 then
        perform brainops.book_payment(
          p_known, 'payment',
          coalesce(brainops.stripe_id(v_object -> 'payment_intent'), v_object ->> 'id'), null,
          -- Where Stripe showed the payer another currency, this is what was charged in ours.
          coalesce(v_object #> '{currency_conversion,amount_total}', v_object -> 'amount_total')::text::bigint,
          coalesce(v_object #>> '{currency_conversion,source_currency}', v_object ->> 'currency'),
          v_livemode, v_at
        );
        -- Refunds come in what the payer paid, so they are shares of that.
        if v_object #> '{currency_conversion,amount_total}' is not null then
          update public.stripe_objects
          set charged_minor = (v_object ->> 'amount_total')::bigint, currency = lower(v_object ->> 'currency')
          where tenant_id = (p_known).tenant_id
            and object_id = coalesce(brainops.stripe_id(v_object -> 'payment_intent'), v_object ->> 'id');
        end if;
      end if;
    when v_type = 'checkout.session.async_payment_failed' then
      update public.payment_requests
      set failed_generation = greatest(failed_generation, (p_known).key_generation)
      where tenant_id = (p_known).tenant_id and id = (p_known).payment_request_id;
      perform brainops.record_payment_event(v_request, 'payment_failed', v_at, v_object ->> 'id', '{}');
      perform brainops.notify(
        (p_known).tenant_id, 'A payment failed: ' || v_request.plan_name,
        'The bank refused the payment of request ' || v_request.id || '. Set its payment_status to open to make a new link.',
        'payment:' || v_request.id || ':failed:' || (v_object ->> 'id'), v_request.lead_id
      );
    when v_type = 'checkout.session.expired' then
      perform brainops.record_payment_event(v_request, 'checkout_expired', v_at, v_object ->> 'id', '{}');
    when v_type = 'payment_link.updated' then
      -- One that was used up is inactive too; that is no news.
      v_inactive := not coalesce((v_object ->> 'active')::boolean, true)
        and coalesce((v_object #>> '{restrictions,completed_sessions,count}')::int, 0)
          < coalesce((v_object #>> '{restrictions,completed_sessions,limit}')::int, 1);
      update public.payment_requests as r
      set link_inactive = v_inactive, link_told_at = v_at
      where r.tenant_id = (p_known).tenant_id
        and r.id = (p_known).payment_request_id
        and r.key_generation = (p_known).key_generation
        and (r.link_told_at is null or r.link_told_at < v_at or (r.link_told_at = v_at and v_inactive));
    when v_type = 'invoice.paid' then
      if coalesce((v_object ->> 'amount_paid')::bigint, 0) > 0 then
        perform brainops.book_payment(
          p_known, 'payment', v_object ->> 'id', null, (v_object ->> 'amount_paid')::bigint, v_object ->> 'currency', v_livemode,
          coalesce(brainops.stripe_time(v_object #> '{status_transitions,paid_at}'), v_at)
        );
      end if;
    when v_type = 'invoice.payment_failed' then
      perform brainops.record_payment_event(
        v_request, 'payment_failed', v_at, concat_ws(':', v_object ->> 'id', v_object ->> 'attempt_count'), '{}'
      );
      perform brainops.notify(
        (p_known).tenant_id, 'A renewal could not be collected: ' || v_request.plan_name,
        'Invoice ' || (v_object ->> 'id') || ' of payment request ' || v_request.id || ', attempt '
          || coalesce(v_object ->> 'attempt_count', '?') || '.',
        concat_ws(':', 'payment', v_request.id, 'invoice', v_object ->> 'id', v_object ->> 'attempt_count'), v_request.lead_id
      );
    when v_type = 'invoice_payment.paid' then
      null; -- it tells which intent paid the invoice, and that is known now
    when v_type like 'customer.subscription.%' then
      perform brainops.apply_stripe_subscription(p_known, p_event, v_at);
    when v_type = 'charge.refunded' then
      perform brainops.apply_stripe_refund(p_known, refund, v_livemode, v_at)
        from jsonb_array_elements(coalesce(v_object #> '{refunds,data}', '[]')) as refund;
      -- The single refunds are not in it any more since 2022: their own events book them.
      update public.stripe_objects
      set
        refunded_minor = greatest(refunded_minor, (v_object ->> 'amount_refunded')::bigint),
        charged_minor = (v_object ->> 'amount')::bigint,
        currency = lower(v_object ->> 'currency')
      where tenant_id = (p_known).tenant_id and object_id = v_object ->> 'id';
    when v_type in ('refund.created', 'refund.updated', 'refund.failed', 'charge.refund.updated') then
      perform brainops.apply_stripe_refund(p_known, v_object, v_livemode, v_at);
    when v_type like 'charge.dispute.%' then
      perform brainops.apply_stripe_dispute(p_known, p_event, v_at);
  end case;
  perform brainops.settle_payment_request((p_known).tenant_id, (p_known).payment_request_id);
  return null;
end;
$$;

-- As in sql/0018, but that a payment in another currency can be accepted too.
create or replace function brainops.before_payment_update()
returns trigger
language plpgsql
set search_path = ''
as $$
declare
  v_wish text := case
    when new.payment_status is distinct from old.payment_status then replace(lower(btrim(new.payment_status)), 'canceled', 'cancelled')
  end;
  v_status text := brainops.normal_status(new.status);
begin
  if (new.plan_id, new.plan_code, new.plan_name, new.amount, new.currency, new.amount_minor, new.interval, new.success_url)
    is distinct from (old.plan_id, old.plan_code, old.plan_name, old.amount, old.currency, old.amount_minor, old.interval, old.success_url)
  then
    raise exception 'amount: request % is for % % by plan %, and stays so', old.id, trim_scale(old.amount), old.currency, old.plan_code
      using errcode = 'OP026', hint = 'Set payment_status to cancelled, and insert another request.';
  end if;

  if v_wish = 'cancelled' and old.paid_at is null then
    new.cancelled_at := coalesce(new.cancelled_at, brainops.now());
    -- Where there is no link yet, none is made; one that is being made is closed once it is known.
    if old.status in ('pending', 'awaiting_approval', 'processing') then
      new.status := 'cancelled';
    end if;
  elsif v_wish = 'paid' and old.paid_at is null and exists (
    select from public.payment_ledger
    where tenant_id = old.tenant_id and payment_request_id = old.id and kind = 'payment'
  ) then
    new.paid_at := brainops.now();
    -- Where nothing came in the request's currency, what came is taken for what was asked.
    new.paid_minor := coalesce(nullif(old.paid_minor, 0), old.amount_minor);
  elsif v_wish = 'open' and old.payment_status in ('cancelled', 'expired', 'payment_failed') and old.status not in ('pending', 'processing') then
    new.status := 'pending';
    v_status := 'pending';
  elsif v_wish is not null then
    raise exception 'payment_status: request % is %, so it cannot be set to %', old.id, old.payment_status, quote_literal(left(v_wish, 40))
      using errcode = 'OP029', column = 'payment_status',
        hint = 'Write cancelled before it is paid, open after it was cancelled, expired or failed, paid to accept a payment of another amount. Refund at Stripe.';
  end if;

  if v_status = 'cancelled' and old.status not in ('cancelled', 'completed') and old.paid_at is null then
    new.cancelled_at := coalesce(new.cancelled_at, brainops.now());
  elsif v_status = 'skipped' and old.status = 'pending' and old.paid_at is null and old.expires_at <= brainops.now() then
    new.expired_at := coalesce(new.expired_at, brainops.now());
  elsif v_status = 'pending' and old.status not in ('pending', 'processing') and old.payment_status in ('cancelled', 'expired', 'payment_failed') then
    -- A new link. The old one stays closed; a payment that it took in time still counts.
    new.cancelled_at := null;
    new.expired_at := null;
    new.link_inactive := false;
    new.link_told_at := null;
    new.payment_url := null;
    new.stripe_payment_link_id := null;
    new.key_generation := old.key_generation + 1;
    new.key_started_at := null;
    new.key_account := null;
    if new.expires_at <= brainops.now() then
      new.expires_at := brainops.now() + (old.expires_at - old.created_at);
    end if;
  end if;

  new.payment_status := brainops.payment_state(new);
  return new;
end;
$$;

-- As in sql/0018, but that each currency's refunds count as their share of what was charged in it.
create or replace function brainops.settle_payment_request(p_tenant_id uuid, p_id uuid)
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
    string_agg(brainops.payment_words(amount_minor, currency), ', ' order by occurred_at, object_id)
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
        'paid ' || v_others || ' where ' || brainops.payment_words(r.amount_minor, r.currency) || ' was asked',
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
