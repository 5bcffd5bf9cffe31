-- Payment links, a job table. Its triggers take the price from the plan, compute payment_status, and do what follows.
select
  brainops.define_job_table(
    'public.payment_requests',
    p_task_identifier => 'payment_request__create_link',
    p_effect_is_idempotent => true, -- by the key
    p_channel => 'payment',
    p_gate => 'brainops_internal.gate_payment_request',
    p_provider => 'stripe',
    p_result_columns => array['payment_url', 'stripe_payment_link_id', 'livemode'],
    p_time_limit => '60 seconds',
    p_max_attempts => 12
  );

-- Only the engine writes facts; a client asks for something by writing payment_status.
revoke insert, update on public.payment_requests from brainops_tenant, brainops_service;
grant
  insert (
    id,
    tenant_id,
    lead_id,
    product_service,
    plan_id,
    plan_code,
    amount,
    currency,
    payment_status,
    expires_at,
    success_url,
    deliver_by,
    metadata,
    status,
    scheduled_for,
    max_attempts,
    job_priority,
    idempotency_key,
    created_at
  ),
  update (
    lead_id,
    product_service,
    plan_id,
    plan_code,
    amount,
    currency,
    payment_status,
    expires_at,
    success_url,
    deliver_by,
    metadata,
    status,
    scheduled_for,
    max_attempts,
    job_priority,
    idempotency_key
  )
on public.payment_requests
to brainops_tenant, brainops_service;

create or replace trigger a0_resolve_lead_id
before insert on public.payment_requests
for each row
when (new.lead_id is not null)
execute function brainops_internal.resolve_lead_id();

-- Regardless of the current link's state: an older link may still be open, and a closed one may have been paid a moment
-- before.
create or replace trigger a2_before_payment_delete
before delete on public.payment_requests
for each row
when (old.key_started_at is not null or old.stripe_payment_link_id is not null or old.key_generation > 0)
execute function brainops_internal.before_payment_delete();

create or replace trigger a2_before_payment_update
before update on public.payment_requests
for each row
execute function brainops_internal.before_payment_update();

create or replace trigger a2_check_payment_request
before insert on public.payment_requests
for each row
execute function brainops_internal.check_payment_request();

create or replace trigger d0_after_payment_update
after update on public.payment_requests
for each row
when
  (
    new.stripe_payment_link_id is distinct from old.stripe_payment_link_id
    or new.cancelled_at is distinct from old.cancelled_at
    or new.paid_at is distinct from old.paid_at
    or new.expires_at <> old.expires_at
  )
execute function brainops_internal.after_payment_update();
