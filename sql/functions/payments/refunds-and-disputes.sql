-- Money that goes back: refunds and disputes, as apply_known_stripe_event (stripe-events.sql) hands them over. Start at
-- apply_stripe_refund.

-- A refund that failed went out and came back: both movements are booked, in whatever order the events arrive.
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
  if v_failed and brainops_internal.record_payment(
    p_known, 'refund_reversal', v_id, brainops_internal.stripe_id(p_refund -> 'charge'), v_minor, p_refund ->> 'currency', p_livemode, p_at
  ) then
    perform brainops.notify(
      (p_known).tenant_id, 'A refund failed: ' || v_request.plan_name,
      'Refund ' || v_id || ' of payment request ' || v_request.id || ' failed: '
        || coalesce(p_refund ->> 'failure_reason', 'no reason given') || '. The money is back in your Stripe balance.',
      'payment:' || v_request.id || ':refund-failed:' || v_id, v_request.lead_id
    );
  end if;
end;
$$;

comment on function brainops_internal.apply_stripe_refund(public.stripe_objects, jsonb, boolean, timestamptz) is
  'Books a refund, and its reversal if it failed; records the lead event and notifies, once for each.';

revoke execute
on function brainops_internal.apply_stripe_refund(public.stripe_objects, jsonb, boolean, timestamptz)
from public;
grant execute
on function brainops_internal.apply_stripe_refund(public.stripe_objects, jsonb, boolean, timestamptz)
to brainops_system;

-- payment_disputes keeps the state of the latest event; of two events of the same second, the later stage wins. The
-- movements of money are booked once each, whatever the order.
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

  -- An inquiry (warning_…) withdraws nothing; any other dispute withdraws the money from the start.
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

comment on function brainops_internal.apply_stripe_dispute(public.stripe_objects, jsonb, timestamptz) is
  'Keeps the latest state of a dispute, books the money withdrawn and reinstated, and notifies when the dispute is new.';

revoke execute
on function brainops_internal.apply_stripe_dispute(public.stripe_objects, jsonb, timestamptz)
from public;
grant execute
on function brainops_internal.apply_stripe_dispute(public.stripe_objects, jsonb, timestamptz)
to brainops_system;
