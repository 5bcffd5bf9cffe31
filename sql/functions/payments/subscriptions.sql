-- The state of subscriptions, as apply_known_stripe_event (stripe-events.sql) hands it over. Their payments are booked
-- by invoices.

-- The latest event wins: by its time, then its type (created, updated, deleted), then the later period and status, then
-- its id. A deleted subscription never comes back.
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
    -- Since 2025, the period is on the subscription's items.
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
    -- Deleted (rank 20 and above) comes first: it is final.
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

comment on function brainops_internal.apply_stripe_subscription(public.stripe_objects, jsonb, timestamptz) is
  'Keeps the latest state of a subscription, by the event''s object. p_at: time of the event.';

revoke execute
on function brainops_internal.apply_stripe_subscription(public.stripe_objects, jsonb, timestamptz)
from public;
grant execute
on function brainops_internal.apply_stripe_subscription(public.stripe_objects, jsonb, timestamptz)
to brainops_system;
