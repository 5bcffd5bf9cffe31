-- Links to deactivate, a job table.
select
  brainops.define_job_table(
    'public.payment_link_closures',
    p_task_identifier => 'payment_link_closure__deactivate',
    p_effect_is_idempotent => true,
    p_channel => 'payment',
    p_gate => 'brainops_internal.gate_payment_closure',
    p_provider => 'stripe',
    p_result_columns => array['stripe_payment_link_id'],
    p_time_limit => '60 seconds',
    p_max_attempts => 20
  );

-- The engine creates closures; a client may only move, stop or repeat one.
revoke insert, update, delete on public.payment_link_closures from brainops_tenant, brainops_service;
grant update (status, scheduled_for, max_attempts, job_priority, idempotency_key)
on public.payment_link_closures
to brainops_tenant, brainops_service;

create or replace trigger d0_after_payment_closure
after update on public.payment_link_closures
for each row
when (new.status = 'completed' and old.status <> 'completed')
execute function brainops_internal.after_payment_closure();
