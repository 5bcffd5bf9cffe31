-- One Stripe event, of the tenant's own account or (p_tenant_id null) the installation's. Returns
-- null, or why it has no effect.
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
    return 'it is no event: it has no "type", "created" and "data.object"';
  end if;
  if v_type <> all (c_types) then
    return 'nothing follows from ' || quote_literal(left(v_type, 80));
  end if;
  if p_event ->> 'account' is not null then
    return 'it is of a connected account, and none is used';
  end if;
  if v_type like 'checkout.session.%' and brainops_internal.stripe_id(v_object -> 'payment_link') is null then
    return 'it is about no payment request of ours';
  end if;

  perform brainops_internal.lock_stripe_account(v_account);
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
    return 'it waits until one of ' || array_to_string(v_ids, ', ') || ' is known';
  end if;

  v_new := brainops_internal.record_stripe_objects(v_known, v_ids);
  v_reason := brainops_internal.apply_known_stripe_event(p_event, v_known);
  perform brainops_internal.wake_stripe_events(v_account, p_tenant_id, v_new);
  return v_reason;
end;
$$;

comment on function brainops_internal.apply_stripe_event(jsonb, uuid) is
  'Applies one verified Stripe event, whatever the order and however often; p_tenant_id: whose own account sent it, null for the installation''s. Returns null, or why nothing follows from it.';

revoke execute on function brainops_internal.apply_stripe_event(jsonb, uuid) from public;
grant execute on function brainops_internal.apply_stripe_event(jsonb, uuid) to brainops_system;

-- What one event means, for an object that is known. Returns null, or why nothing follows from it.
-- As in sql/0018, but that it keeps what was charged in another currency.
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
        return null; -- a delayed method: async_payment_succeeded or _failed tells
      end if;
      -- What a subscription brings in is told by its invoices.
      if coalesce(v_object ->> 'mode', 'payment') = 'payment' and coalesce((v_object ->> 'amount_total')::bigint, 0) > 0 then
        perform brainops_internal.record_payment(
          p_known, 'payment',
          coalesce(brainops_internal.stripe_id(v_object -> 'payment_intent'), v_object ->> 'id'), null,
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
        'The bank refused the payment of request ' || v_request.id || '. Set its payment_status to open to make a new link.',
        'payment:' || v_request.id || ':failed:' || (v_object ->> 'id'), v_request.lead_id
      );
    when v_type = 'checkout.session.expired' then
      perform brainops_internal.record_payment_event(v_request, 'checkout_expired', v_at, v_object ->> 'id', '{}');
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
      null; -- it tells which intent paid the invoice, and that is known now
    when v_type like 'customer.subscription.%' then
      perform brainops_internal.apply_stripe_subscription(p_known, p_event, v_at);
    when v_type = 'charge.refunded' then
      perform brainops_internal.apply_stripe_refund(p_known, refund, v_livemode, v_at)
        from jsonb_array_elements(coalesce(v_object #> '{refunds,data}', '[]')) as refund;
      -- The single refunds are not in it any more since 2022: their own events book them.
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

revoke execute on function brainops_internal.apply_known_stripe_event(jsonb, stripe_objects) from public;
grant execute on function brainops_internal.apply_known_stripe_event(jsonb, stripe_objects) to brainops_system;

create or replace function brainops_internal.apply_stripe_refund(
  p_known public.stripe_objects,
  p_refund jsonb,
  p_livemode boolean,
  p_at timestamptz
)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_request public.payment_requests;
  v_id text := p_refund ->> 'id';
  v_minor bigint := (p_refund ->> 'amount')::bigint;
  v_failed boolean := p_refund ->> 'status' in ('failed', 'canceled');
begin
  select * into strict v_request from public.payment_requests where tenant_id = (p_known).tenant_id and id = (p_known).payment_request_id;
  if brainops_internal.record_payment(
    p_known, 'refund', v_id, brainops_internal.stripe_id(p_refund -> 'charge'), -v_minor, p_refund ->> 'currency', p_livemode,
    coalesce(brainops_internal.stripe_time(p_refund -> 'created'), p_at)
  ) then
    perform brainops_internal.record_payment_event(
      v_request, 'refunded', coalesce(brainops_internal.stripe_time(p_refund -> 'created'), p_at), v_id, jsonb_build_object('refund', v_id)
    );
  end if;
  -- One that failed went out and came back, in whatever order we hear of it.
  if v_failed and brainops_internal.record_payment(
    p_known, 'refund_reversal', v_id, brainops_internal.stripe_id(p_refund -> 'charge'), v_minor, p_refund ->> 'currency', p_livemode, p_at
  ) then
    perform brainops.notify(
      (p_known).tenant_id, 'A refund failed: ' || v_request.plan_name,
      'Refund ' || v_id || ' of payment request ' || v_request.id || ' failed: '
        || coalesce(p_refund ->> 'failure_reason', 'no reason given') || '. The money is back with you.',
      'payment:' || v_request.id || ':refund-failed:' || v_id, v_request.lead_id
    );
  end if;
end;
$$;

revoke execute
on function brainops_internal.apply_stripe_refund(stripe_objects, jsonb, boolean, timestamptz)
from public;
grant execute
on function brainops_internal.apply_stripe_refund(stripe_objects, jsonb, boolean, timestamptz)
to brainops_system;

create or replace function brainops_internal.apply_stripe_dispute(
  p_known public.stripe_objects,
  p_event jsonb,
  p_at timestamptz
)
returns void
language plpgsql
set search_path = ''
as $$
declare
  c_stages constant text[] := array[
    'warning_needs_response', 'warning_under_review', 'needs_response', 'under_review', 'warning_closed', 'prevented', 'lost', 'won'
  ];
  v_dispute jsonb := p_event #> '{data,object}';
  v_type text := p_event ->> 'type';
  v_id text := v_dispute ->> 'id';
  v_status text := v_dispute ->> 'status';
  v_rank int := coalesce(array_position(c_stages, v_status), 0);
  v_minor bigint := (v_dispute ->> 'amount')::bigint;
  v_livemode boolean := coalesce((p_event ->> 'livemode')::boolean, false);
  v_opened timestamptz := coalesce(brainops_internal.stripe_time(v_dispute -> 'created'), p_at);
  v_request public.payment_requests;
  v_is_new boolean;
begin
  select * into strict v_request from public.payment_requests where tenant_id = (p_known).tenant_id and id = (p_known).payment_request_id;
  select count(*) = 0 into v_is_new from public.payment_disputes where tenant_id = (p_known).tenant_id and stripe_dispute_id = v_id;
  insert into public.payment_disputes as d (
    tenant_id, payment_request_id, stripe_dispute_id, status, reason, amount_minor, currency, evidence_due_by, opened_at, told_at, told_rank
  )
  values (
    (p_known).tenant_id, (p_known).payment_request_id, v_id, v_status, v_dispute ->> 'reason', v_minor, lower(v_dispute ->> 'currency'),
    brainops_internal.stripe_time(v_dispute #> '{evidence_details,due_by}'), v_opened, p_at, v_rank
  )
  on conflict (tenant_id, stripe_dispute_id) do update
    set
      status = excluded.status,
      reason = excluded.reason,
      amount_minor = excluded.amount_minor,
      evidence_due_by = excluded.evidence_due_by,
      told_at = excluded.told_at,
      told_rank = excluded.told_rank
    where (excluded.told_at, excluded.told_rank) > (d.told_at, d.told_rank);

  -- A bank that only asks (warning_…) takes nothing; otherwise the money is gone from the start.
  if v_type in ('charge.dispute.funds_withdrawn', 'charge.dispute.funds_reinstated') or v_status not like 'warning%' and v_status <> 'prevented' then
    perform brainops_internal.record_payment(
      p_known, 'dispute', v_id, brainops_internal.stripe_id(v_dispute -> 'charge'), -v_minor, v_dispute ->> 'currency', v_livemode, v_opened
    );
  end if;
  if v_type = 'charge.dispute.funds_reinstated' then
    perform brainops_internal.record_payment(
      p_known, 'dispute_reversal', v_id, brainops_internal.stripe_id(v_dispute -> 'charge'), v_minor, v_dispute ->> 'currency', v_livemode, p_at
    );
  end if;
  if v_is_new then
    perform brainops_internal.record_payment_event(v_request, 'disputed', v_opened, v_id, jsonb_build_object('dispute', v_id));
    perform brainops.notify(
      (p_known).tenant_id, 'A payment is disputed: ' || v_request.plan_name,
      'Dispute ' || v_id || ' (' || coalesce(v_dispute ->> 'reason', 'no reason given') || ') of '
        || brainops_internal.format_payment(v_minor, lower(v_dispute ->> 'currency')) || ', payment request ' || v_request.id
        || coalesce('. Evidence is due by ' || brainops_internal.stripe_time(v_dispute #> '{evidence_details,due_by}'), '') || '.',
      'payment:' || v_request.id || ':dispute:' || v_id, v_request.lead_id
    );
  end if;
end;
$$;

revoke execute on function brainops_internal.apply_stripe_dispute(stripe_objects, jsonb, timestamptz) from public;
grant execute on function brainops_internal.apply_stripe_dispute(stripe_objects, jsonb, timestamptz) to brainops_system;

create or replace function brainops_internal.apply_stripe_subscription(
  p_known public.stripe_objects,
  p_event jsonb,
  p_at timestamptz
)
returns void
language sql
set search_path = ''
as $$
  insert into public.subscriptions as s (
    tenant_id,
    payment_request_id,
    stripe_subscription_id,
    status,
    current_period_start,
    current_period_end,
    cancel_at_period_end,
    canceled_at,
    ended_at,
    livemode,
    told_at,
    told_rank,
    told_by
  )
  select
    (p_known).tenant_id,
    (p_known).payment_request_id,
    o.sub ->> 'id',
    o.sub ->> 'status',
    -- The period moved from the subscription to its items in 2025.
    brainops_internal.stripe_time(
      coalesce(o.sub #> '{items,data,0,current_period_start}', o.sub -> 'current_period_start')
    ),
    brainops_internal.stripe_time(
      coalesce(o.sub #> '{items,data,0,current_period_end}', o.sub -> 'current_period_end')
    ),
    coalesce((o.sub ->> 'cancel_at_period_end')::boolean, false),
    brainops_internal.stripe_time(o.sub -> 'canceled_at'),
    brainops_internal.stripe_time(o.sub -> 'ended_at'),
    coalesce((p_event ->> 'livemode')::boolean, false),
    p_at,
    case p_event ->> 'type'
      when 'customer.subscription.created' then 0
      when 'customer.subscription.deleted' then 20
      else 10
    end + coalesce(
      array_position(
        array['incomplete', 'trialing', 'active', 'past_due', 'unpaid', 'paused', 'incomplete_expired', 'canceled'],
        o.sub ->> 'status'
      ),
      0
    ),
    p_event ->> 'id'
  from (select p_event #> '{data,object}' as sub) as o
  on conflict (tenant_id, stripe_subscription_id) do update
    set
      status = excluded.status,
      current_period_start = excluded.current_period_start,
      current_period_end = excluded.current_period_end,
      cancel_at_period_end = excluded.cancel_at_period_end,
      canceled_at = excluded.canceled_at,
      ended_at = excluded.ended_at,
      told_at = excluded.told_at,
      told_rank = excluded.told_rank,
      told_by = excluded.told_by
    -- A subscription that was deleted never comes back.
    where
      (
        excluded.told_rank >= 20,
        excluded.told_at,
        excluded.told_rank / 10,
        coalesce(excluded.current_period_end, '-infinity'),
        excluded.told_rank,
        excluded.told_by
      ) > (
        s.told_rank >= 20,
        s.told_at,
        s.told_rank / 10,
        coalesce(s.current_period_end, '-infinity'),
        s.told_rank,
        s.told_by
      );
$$;

revoke execute on function brainops_internal.apply_stripe_subscription(stripe_objects, jsonb, timestamptz) from public;
grant execute
on function brainops_internal.apply_stripe_subscription(stripe_objects, jsonb, timestamptz)
to brainops_system;

-- An event that had waited for its object was tried only once, inside the event that made the object known: a passing
-- error there (a deadlock, say) made it failed, and a refund, dispute or payment was never booked. Now it goes back to
-- pending, and has its three attempts like any other. What still fails is seen in brainops.queue_health.
-- And amounts in another currency were added up as if they were the request's: a refund of 1300 of 1900 yen, for which
-- 12.50 dollars were booked, counted as all of it. Now it counts as its share. A payment in another currency could not
-- be accepted at all, for it adds nothing to paid_minor.
--
-- Applies the events that waited for these ids; each stands alone.
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
    -- It waits for nothing any more, so whatever failed may pass: pending gives it a job (process_again),
    -- and brainops_internal.process_webhook_events gives it up after three attempts.
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
