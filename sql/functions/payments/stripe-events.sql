-- Stripe's events: which request an event is about, and what it changes. Start at apply_stripe_event. Refunds, disputes
-- and subscriptions have files of their own; what a request's state is afterwards is computed in books.sql.

-- Events may arrive in any order and any number of times. An event whose object is not known yet waits
-- (waiting_stripe_events) until another event, or storing the link's id (after_payment_update), makes it known. If both
-- happen at the same moment, neither transaction sees the other; wake_missed_stripe_events looks again once they have
-- ended. No lock closes that gap: it would have to be one of the whole account, which tenants share, and a transaction
-- that holds it waits for rows that a tenant may have locked.
--
-- Events of one request are applied one at a time. Lock order: the request, then what belongs to it.
create or replace function brainops_internal.apply_stripe_event(p_event jsonb, p_tenant_id uuid)
returns text
language plpgsql
set search_path = ''
as $$
declare
  c_types constant text[] := array[
    'checkout.session.completed', 'checkout.session.async_payment_succeeded', 'checkout.session.async_payment_failed',
    'checkout.session.expired', 'payment_link.updated', 'invoice.paid', 'invoice.payment_failed', 'invoice_payment.paid',
    'customer.subscription.created', 'customer.subscription.updated', 'customer.subscription.deleted',
    'customer.subscription.paused', 'customer.subscription.resumed', 'charge.refunded', 'charge.refund.updated',
    'refund.created', 'refund.updated', 'refund.failed', 'charge.dispute.created', 'charge.dispute.updated',
    'charge.dispute.closed', 'charge.dispute.funds_withdrawn', 'charge.dispute.funds_reinstated'
  ];
  v_type text := p_event ->> 'type';
  v_object jsonb := p_event #> '{data,object}';
  v_account text := brainops_internal.stripe_account(p_tenant_id);
  v_ids text[];
  v_new text[];
  v_known public.stripe_objects;
  v_reason text;
begin
  if v_type is null or jsonb_typeof(v_object) is distinct from 'object' or jsonb_typeof(p_event -> 'created') is distinct from 'number' then
    return 'the event has no "type", "created" or "data.object"';
  end if;
  if v_type <> all (c_types) then
    return 'BrainOps does not use events of type ' || quote_literal(left(v_type, 80));
  end if;
  if p_event ->> 'account' is not null then
    return 'the event is from a connected account, and BrainOps uses none';
  end if;
  if v_type like 'checkout.session.%' and brainops_internal.stripe_id(v_object -> 'payment_link') is null then
    return 'the checkout was not made through a payment link';
  end if;

  v_ids := brainops_internal.stripe_ids(v_object);
  select * into v_known
    from public.stripe_objects as o
    where o.object_id = any (v_ids)
      and o.own_account = (p_tenant_id is not null)
      and (p_tenant_id is null or o.tenant_id = p_tenant_id)
    order by o.created_at, o.object_id
    limit 1;
  if not found then
    delete from brainops.waiting_stripe_events where since < brainops.now() - interval '30 days';
    insert into brainops.waiting_stripe_events (account, object_id, event_id, since)
    select v_account, id, p_event ->> 'id', brainops.now() from unnest(v_ids) as id where p_event ->> 'id' is not null
    on conflict do nothing;
    return 'waiting until one of ' || array_to_string(v_ids, ', ') || ' is known';
  end if;

  perform from public.payment_requests
    where tenant_id = v_known.tenant_id and id = v_known.payment_request_id
    for no key update;
  v_new := brainops_internal.record_stripe_objects(v_known, v_ids);
  v_reason := brainops_internal.apply_known_stripe_event(p_event, v_known);
  perform brainops_internal.wake_stripe_events(v_account, p_tenant_id, v_new);
  return v_reason;
end;
$$;

comment on function brainops_internal.apply_stripe_event(jsonb, uuid) is
  'Applies one verified Stripe event. Null, or the reason why it has no effect. p_tenant_id: the tenant whose own account sent it; null: the platform''s account sent it.';

revoke execute on function brainops_internal.apply_stripe_event(jsonb, uuid) from public;
grant execute on function brainops_internal.apply_stripe_event(jsonb, uuid) to brainops_system;

-- What each type of event changes. The facts of the request are computed afterwards, from everything on record
-- (settle_payment_request).
create or replace function brainops_internal.apply_known_stripe_event(p_event jsonb, p_known public.stripe_objects)
returns text
language plpgsql
set search_path = ''
as $$
declare
  v_type text := p_event ->> 'type';
  v_object jsonb := p_event #> '{data,object}';
  v_at timestamptz := brainops_internal.stripe_time(p_event -> 'created');
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
        return null; -- a delayed payment method: async_payment_succeeded or _failed follows
      end if;
      -- A subscription's payments are booked by its invoices.
      if coalesce(v_object ->> 'mode', 'payment') = 'payment' and coalesce((v_object ->> 'amount_total')::bigint, 0) > 0 then
        perform brainops_internal.record_payment(
          p_known, 'payment',
          coalesce(brainops_internal.stripe_id(v_object -> 'payment_intent'), v_object ->> 'id'), null,
          -- If Stripe showed the payer another currency, this is the amount in ours.
          coalesce(v_object #> '{currency_conversion,amount_total}', v_object -> 'amount_total')::text::bigint,
          coalesce(v_object #>> '{currency_conversion,source_currency}', v_object ->> 'currency'),
          v_livemode, v_at
        );
        -- Refunds are in the payer's currency, so they are prorated by the amount charged.
        if v_object #> '{currency_conversion,amount_total}' is not null then
          update public.stripe_objects
          set charged_minor = (v_object ->> 'amount_total')::bigint, currency = lower(v_object ->> 'currency')
          where tenant_id = (p_known).tenant_id
            and object_id = coalesce(brainops_internal.stripe_id(v_object -> 'payment_intent'), v_object ->> 'id');
        end if;
      end if;
    when v_type = 'checkout.session.async_payment_failed' then
      update public.payment_requests
      set failed_generation = greatest(failed_generation, (p_known).key_generation)
      where tenant_id = (p_known).tenant_id and id = (p_known).payment_request_id;
      perform brainops_internal.record_payment_event(v_request, 'payment_failed', v_at, v_object ->> 'id', '{}');
      perform brainops.notify(
        (p_known).tenant_id, 'A payment failed: ' || v_request.plan_name,
        'The bank refused the payment of request ' || v_request.id || '. Set its payment_status to open to create a new link.',
        'payment:' || v_request.id || ':failed:' || (v_object ->> 'id'), v_request.lead_id
      );
    when v_type = 'checkout.session.expired' then
      perform brainops_internal.record_payment_event(v_request, 'checkout_expired', v_at, v_object ->> 'id', '{}');
    when v_type = 'payment_link.updated' then
      -- A link that was used up is inactive too, which changes nothing.
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
        perform brainops_internal.record_payment(
          p_known, 'payment', v_object ->> 'id', null, (v_object ->> 'amount_paid')::bigint, v_object ->> 'currency', v_livemode,
          coalesce(brainops_internal.stripe_time(v_object #> '{status_transitions,paid_at}'), v_at)
        );
      end if;
    when v_type = 'invoice.payment_failed' then
      perform brainops_internal.record_payment_event(
        v_request, 'payment_failed', v_at, concat_ws(':', v_object ->> 'id', v_object ->> 'attempt_count'), '{}'
      );
      perform brainops.notify(
        (p_known).tenant_id, 'A renewal could not be collected: ' || v_request.plan_name,
        'Invoice ' || (v_object ->> 'id') || ' of payment request ' || v_request.id || ', attempt '
          || coalesce(v_object ->> 'attempt_count', '?') || '.',
        concat_ws(':', 'payment', v_request.id, 'invoice', v_object ->> 'id', v_object ->> 'attempt_count'), v_request.lead_id
      );
    when v_type = 'invoice_payment.paid' then
      null; -- it names the intent that paid the invoice, and the caller has recorded that
    when v_type like 'customer.subscription.%' then
      perform brainops_internal.apply_stripe_subscription(p_known, p_event, v_at);
    when v_type = 'charge.refunded' then
      perform brainops_internal.apply_stripe_refund(p_known, refund, v_livemode, v_at)
        from jsonb_array_elements(coalesce(v_object #> '{refunds,data}', '[]')) as refund;
      -- Since 2022, the event does not contain the individual refunds; they are booked by their own events.
      update public.stripe_objects
      set
        refunded_minor = greatest(refunded_minor, (v_object ->> 'amount_refunded')::bigint),
        charged_minor = (v_object ->> 'amount')::bigint,
        currency = lower(v_object ->> 'currency')
      where tenant_id = (p_known).tenant_id and object_id = v_object ->> 'id';
    when v_type in ('refund.created', 'refund.updated', 'refund.failed', 'charge.refund.updated') then
      perform brainops_internal.apply_stripe_refund(p_known, v_object, v_livemode, v_at);
    when v_type like 'charge.dispute.%' then
      perform brainops_internal.apply_stripe_dispute(p_known, p_event, v_at);
  end case;
  perform brainops_internal.settle_payment_request((p_known).tenant_id, (p_known).payment_request_id);
  return null;
end;
$$;

comment on function brainops_internal.apply_known_stripe_event(jsonb, public.stripe_objects) is
  'Applies an event whose request is known (p_known). Null, or the reason why it has no effect.';

revoke execute on function brainops_internal.apply_known_stripe_event(jsonb, public.stripe_objects) from public;
grant execute on function brainops_internal.apply_known_stripe_event(jsonb, public.stripe_objects) to brainops_system;

-- The events are independent: one that fails goes back to pending and has three attempts like any other, because a
-- transient error (a deadlock, say) must not lose a refund, a dispute or a payment. One that fails for the third time
-- is counted by brainops.queue_health.
create or replace function brainops_internal.wake_stripe_events(p_account text, p_tenant_id uuid, p_ids text[])
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
      v_reason := brainops_internal.apply_stripe_event(v_row.payload, p_tenant_id);
    exception
      when others then v_error := sqlerrm;
    end;
    -- It no longer waits. Setting it to pending queues a job (trigger b0_process_again), and
    -- brainops_internal.process_webhook_events gives it up after three attempts.
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

comment on function brainops_internal.wake_stripe_events(text, uuid, text[]) is
  'Applies the events that waited for one of these ids; one that fails goes back to pending.';

revoke execute on function brainops_internal.wake_stripe_events(text, uuid, text[]) from public;
grant execute on function brainops_internal.wake_stripe_events(text, uuid, text[]) to brainops_system;

-- Called after every job that applied events, so that of two transactions which missed each other the later one finds
-- what both have written; and each minute, for a link that was stored at the moment when its event came, and for jobs
-- that were lost. Rows that another transaction is about to wake are skipped.
create or replace function brainops_internal.wake_missed_stripe_events(p_since interval)
returns int
language plpgsql
set search_path = ''
as $$
declare
  v_count int;
begin
  with
    missed as (
      select w.account, w.event_id
      from brainops.waiting_stripe_events as w
      where w.since > brainops.now() - p_since
        and exists (
          select from public.stripe_objects as o
          where o.object_id = w.object_id
            and brainops_internal.stripe_account(case when o.own_account then o.tenant_id end) = w.account
        )
      order by w.account, w.object_id, w.event_id
      for update skip locked
    ),
    woken as (
      delete from brainops.waiting_stripe_events as w
      using missed as m
      where w.account = m.account and w.event_id = m.event_id
    )
  update public.webhook_events as e
  set status = 'pending'
  from (select distinct account, event_id from missed) as m
  where e.provider = 'stripe' and e.provider_event_id = m.event_id
    and brainops_internal.stripe_account(e.tenant_id) = m.account
    and e.status <> 'pending';
  get diagnostics v_count = row_count;
  return v_count;
end;
$$;

comment on function brainops_internal.wake_missed_stripe_events(interval) is
  'Sets events to pending that began to wait within p_since although one of their objects is known by now; returns their number.';

revoke execute on function brainops_internal.wake_missed_stripe_events(interval) from public;
grant execute on function brainops_internal.wake_missed_stripe_events(interval) to brainops_system;
