-- Payment links: each is created at most once, sent to the lead if the request says so, and closed. Start at
-- begin_payment_link, the first step of src/revenue/payments/createLink.ts.

-- Called in a transaction of its own before Stripe is asked: the key is fixed in the row, so a second attempt (after a
-- crash or a lost answer) gets the same link. look_first: the key is more than 23 hours old, and Stripe forgets keys
-- after 24, so the list of links must be read first. same_account: false if its creation was begun through another
-- account than p_account; then nothing is written.
create or replace function brainops_internal.begin_payment_link(
  p_id uuid,
  p_account uuid,
  p_new_key boolean default false,
  out idempotency_key text,
  out key_generation int,
  out look_first boolean,
  out same_account boolean,
  out stripe_payment_link_id text
)
returns record
language plpgsql
set search_path = ''
as $$
declare
  v_row public.payment_requests;
begin
  select * into v_row from public.payment_requests as r where r.id = p_id for update;
  if not found then
    raise exception 'payment request % does not exist', p_id using errcode = 'OP009', hint = 'It was deleted; it needs no link.';
  end if;
  look_first := v_row.key_started_at < brainops.now() - interval '23 hours';
  same_account := v_row.key_started_at is null or v_row.key_account is not distinct from p_account;
  if same_account and v_row.stripe_payment_link_id is null and (v_row.key_started_at is null or p_new_key) then
    update public.payment_requests as r
    set
      key_started_at = brainops.now(),
      key_account = p_account,
      -- A key that was never used need not be replaced.
      key_generation = r.key_generation + (r.key_started_at is not null)::int
    where r.id = p_id
    returning * into v_row;
  end if;
  key_generation := v_row.key_generation;
  idempotency_key := 'brainops:' || v_row.id || ':' || v_row.key_generation;
  stripe_payment_link_id := v_row.stripe_payment_link_id;
end;
$$;

comment on function brainops_internal.begin_payment_link(uuid, uuid, boolean) is
  'Fixes the idempotency key of a request''s link, and the account that it is created through (p_account: the tenant''s credential, null for the platform''s account), before Stripe is asked. p_new_key: true if the key cannot be used any more, to take the next one. OP009 if the request does not exist.';

revoke execute on function brainops_internal.begin_payment_link(uuid, uuid, boolean) from public;
grant execute on function brainops_internal.begin_payment_link(uuid, uuid, boolean) to brainops_worker, brainops_system;

create or replace function brainops_internal.gate_payment_request(p_ids uuid[])
returns setof brainops.verdict
language sql
stable
set search_path = ''
as $$
  select
    r.id,
    'skip',
    null::timestamptz,
    case
      when r.paid_at is not null then 'the request is already paid'
      else 'the request expired before its link was created'
    end
  from public.payment_requests as r
  where r.id = any (p_ids) and (r.paid_at is not null or r.expires_at <= brainops.now());
$$;

comment on function brainops_internal.gate_payment_request(uuid[]) is
  'Gate of payment_requests: skips requests that are paid or past expires_at.';

revoke execute on function brainops_internal.gate_payment_request(uuid[]) from public;
grant execute on function brainops_internal.gate_payment_request(uuid[]) to brainops_worker, brainops_system;

-- Uses the tenant's template payment_link, if it has one. The link must not be lost because a message about it is
-- refused: that becomes a notification. Transient errors are raised, so that the transaction is retried.
create or replace function brainops_internal.deliver_payment_link(p_request public.payment_requests)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_key text := 'payment_link:' || (p_request).id || ':' || (p_request).key_generation;
  v_template public.ai_campaign_templates;
  v_metadata jsonb := jsonb_build_object(
    'type', 'payment_link',
    'transactional', true,
    'payment', jsonb_build_object(
      'request_id', (p_request).id,
      'url', (p_request).payment_url,
      'plan', (p_request).plan_name,
      'amount', brainops_internal.format_payment((p_request).amount_minor, (p_request).currency),
      'interval', (p_request).interval,
      'expires_at', (p_request).expires_at
    )
  );
begin
  select * into v_template
    from public.ai_campaign_templates
    where tenant_id = (p_request).tenant_id and name = 'payment_link' and channel = (p_request).deliver_by
    order by version desc
    limit 1;
  if (p_request).deliver_by = 'email' then
    insert into public.ai_email_queue (tenant_id, recipient, subject, body, metadata, idempotency_key, scheduled_for)
    values (
      (p_request).tenant_id,
      (p_request).lead_id::text,
      coalesce(v_template.subject, 'Your payment for {{ payment.plan }}'),
      coalesce(
        v_template.body,
        '<p>Hello{% if lead.contact_name %} {{ lead.contact_name }}{% endif %},</p>'
          || '<p>please pay {{ payment.amount }} for {{ payment.plan }} here:</p>'
          || '<p><a href="{{ payment.url }}">{{ payment.url }}</a></p>'
          || '<p>The link takes one payment.</p><p>{{ tenant.name }}</p>'
      ),
      v_metadata,
      v_key,
      brainops.now()
    )
    on conflict (tenant_id, idempotency_key) where idempotency_key is not null do nothing;
  else
    insert into public.ai_sms_queue (tenant_id, recipient, body, metadata, idempotency_key, scheduled_for)
    values (
      (p_request).tenant_id,
      (p_request).lead_id::text,
      coalesce(v_template.body, '{{ tenant.name }}: please pay {{ payment.amount }} for {{ payment.plan }} at {{ payment.url }}'),
      v_metadata,
      v_key,
      brainops.now()
    )
    on conflict (tenant_id, idempotency_key) where idempotency_key is not null do nothing;
  end if;
exception
  when serialization_failure or deadlock_detected or lock_not_available then
    raise;
  when others then
    perform brainops.notify(
      (p_request).tenant_id, 'A payment link could not be sent: ' || (p_request).plan_name,
      'Payment request ' || (p_request).id || ' has a link, ' || (p_request).payment_url || ', which could not be sent by '
        || (p_request).deliver_by || ': ' || sqlerrm,
      v_key, (p_request).lead_id
    );
end;
$$;

comment on function brainops_internal.deliver_payment_link(public.payment_requests) is
  'Queues a message with the link to the lead, by deliver_by, once per link.';

revoke execute on function brainops_internal.deliver_payment_link(public.payment_requests) from public;
grant execute on function brainops_internal.deliver_payment_link(public.payment_requests) to brainops_system;

-- The closure is due at expires_at, or now if the request is paid or cancelled: once it is paid, no other payment must
-- come in through this link or an older one, which has its own closure already.
create or replace function brainops_internal.schedule_payment_closure(p_request public.payment_requests)
returns void
language sql
set search_path = ''
as $$
  insert into public.payment_link_closures as c (
    tenant_id,
    payment_request_id,
    key_generation,
    stripe_payment_link_id,
    account,
    reason,
    scheduled_for
  )
  select
    (p_request).tenant_id,
    (p_request).id,
    (p_request).key_generation,
    (p_request).stripe_payment_link_id,
    (p_request).key_account,
    w.reason,
    case
      when w.reason = 'expired' then (p_request).expires_at
      when (p_request).stripe_payment_link_id is not null then brainops.now()
      -- The link may be about to be created, or Stripe's answer was lost.
      else brainops.now() + interval '10 minutes'
    end
  from
    (
      select
        case
          when (p_request).paid_at is not null then 'paid'
          when (p_request).cancelled_at is not null then 'cancelled'
          else 'expired'
        end as reason
    ) as w
  where (p_request).stripe_payment_link_id is not null or w.reason <> 'expired'
  on conflict (tenant_id, payment_request_id, key_generation) do update
    set
      stripe_payment_link_id = coalesce(excluded.stripe_payment_link_id, c.stripe_payment_link_id),
      reason = excluded.reason,
      scheduled_for = excluded.scheduled_for,
      status = case
        when c.status = 'processing' then c.status
        else 'pending'
      end
    -- A closed link stays closed.
    where c.status <> 'completed' or c.stripe_payment_link_id is distinct from excluded.stripe_payment_link_id;
$$;

comment on function brainops_internal.schedule_payment_closure(public.payment_requests) is
  'Creates or moves the closure of the request''s current link.';

revoke execute on function brainops_internal.schedule_payment_closure(public.payment_requests) from public;
grant execute on function brainops_internal.schedule_payment_closure(public.payment_requests) to brainops_system;

create or replace function brainops_internal.gate_payment_closure(p_ids uuid[])
returns setof brainops.verdict
language sql
stable
set search_path = ''
as $$
  select c.id, 'defer', r.expires_at, 'the request expires later'
  from
    public.payment_link_closures as c
    inner join public.payment_requests as r on r.tenant_id = c.tenant_id and r.id = c.payment_request_id
  where
    c.id = any (p_ids)
    and c.reason = 'expired'
    -- A link that was replaced by another one is closed at the latest when its own closure is due.
    and r.key_generation = c.key_generation
    and r.paid_at is null
    and r.cancelled_at is null
    and r.expires_at > brainops.now();
$$;

comment on function brainops_internal.gate_payment_closure(uuid[]) is
  'Gate of payment_link_closures: defers the closure of links whose request now expires later.';

revoke execute on function brainops_internal.gate_payment_closure(uuid[]) from public;
grant execute on function brainops_internal.gate_payment_closure(uuid[]) to brainops_worker, brainops_system;

create or replace function brainops_internal.after_payment_closure()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  update public.payment_requests
  set expired_at = brainops.now()
  where tenant_id = new.tenant_id
    and id = new.payment_request_id
    and key_generation = new.key_generation
    and expired_at is null
    and cancelled_at is null
    and new.reason = 'expired';
  return null;
end;
$$;

comment on function brainops_internal.after_payment_closure is
  'Trigger: marks the request as expired when its current link was closed because it expired.';

alter function brainops_internal.after_payment_closure() owner to brainops_system;
revoke execute on function brainops_internal.after_payment_closure() from public;
