-- Takes the price from the plan, and refuses any other. With its owner's rights, because a service
-- that names no tenant sees no plans; so it first makes sure that the row is the caller's to write,
-- and tells nobody what others sell.
create or replace function brainops_internal.check_payment_request()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_plan public.plans;
  v_named text := coalesce(new.plan_id::text, nullif(btrim(new.plan_code), ''), nullif(btrim(new.product_service), ''));
  v_key text := lower(btrim(coalesce(nullif(btrim(new.plan_code), ''), new.product_service)));
  v_settings jsonb;
begin
  if new.tenant_id is distinct from brainops.current_tenant_id()
    and not brainops.may_name_tenant()
    and not pg_catalog.pg_has_role(session_user, 'brainops_admin', 'member')
    and not pg_catalog.pg_has_role(session_user, 'brainops_system', 'member')
  then
    raise exception 'tenant_id: payment requests of % are not yours to write', new.tenant_id
      using errcode = 'insufficient_privilege', hint = 'Leave tenant_id out.';
  end if;

  select * into v_plan
    from public.plans as p
    where (p.tenant_id = new.tenant_id or p.tenant_id is null)
      and (p.lead_id is null or p.lead_id = new.lead_id)
      and case
        when new.plan_id is not null then p.id = new.plan_id
        when coalesce(btrim(new.plan_code), '') <> '' then p.code = v_key
        else p.code = v_key or lower(btrim(p.name)) = v_key
      end
    -- One's own before the common one, the lead's before everybody's, a code before a name.
    order by p.tenant_id nulls last, p.lead_id nulls last, p.active desc, p.code = v_key desc, p.id
    limit 1;
  if not found or not v_plan.active then
    raise exception 'product_service: % is no plan%', coalesce(quote_literal(left(v_named, 120)), 'null'),
      case when v_plan.id is null then '' else ' that is active' end
      using errcode = 'OP025', column = 'product_service',
        hint = 'Prices come from plans alone: name one by plan_id, plan_code or product_service, or insert one. There are: '
          || coalesce(
            (
              select string_agg(code, ', ' order by code)
              from (
                select distinct code from public.plans
                where active and (tenant_id = new.tenant_id or tenant_id is null) and (lead_id is null or lead_id = new.lead_id)
                order by code limit 20
              ) as known
            ),
            'none yet'
          ) || '.';
  end if;
  if new.amount <> v_plan.amount or lower(btrim(new.currency)) <> v_plan.currency then
    raise exception 'amount: the request says % %, but plan % costs % %',
      coalesce(trim_scale(new.amount)::text, trim_scale(v_plan.amount)::text), coalesce(lower(btrim(new.currency)), v_plan.currency),
      v_plan.code, trim_scale(v_plan.amount), v_plan.currency
      using errcode = 'OP026', column = 'amount',
        hint = 'Leave amount and currency out, or insert a plan with this price (with lead_id, for this lead alone) and name it.';
  end if;
  if coalesce(new.payment_status, 'open') <> 'open' then
    raise exception 'payment_status: a request cannot be inserted as %', quote_literal(left(new.payment_status, 40))
      using errcode = 'OP029', column = 'payment_status', hint = 'Leave it out: what Stripe reports makes it paid.';
  end if;

  new.deliver_by := nullif(lower(btrim(new.deliver_by)), '');
  if new.deliver_by not in ('email', 'sms') then
    raise exception 'deliver_by: nothing is sent by %', quote_literal(left(new.deliver_by, 40))
      using errcode = 'OP007', column = 'deliver_by', hint = 'Write email or sms, or leave it out and send payment_url yourself.';
  end if;
  if new.deliver_by is not null and new.lead_id is null then
    raise exception 'deliver_by: a link without lead_id has nobody to be sent to'
      using errcode = 'OP004', column = 'deliver_by', hint = 'Give lead_id, or leave deliver_by out and send payment_url yourself.';
  end if;

  select settings into v_settings from public.tenants where id = new.tenant_id;
  new.plan_id := v_plan.id;
  new.plan_code := v_plan.code;
  new.plan_name := v_plan.name;
  new.product_service := coalesce(nullif(btrim(new.product_service), ''), v_plan.name);
  new.amount := v_plan.amount;
  new.currency := v_plan.currency;
  new.amount_minor := v_plan.amount_minor;
  new.interval := v_plan.interval;
  new.payment_status := 'open';
  new.metadata := coalesce(nullif(new.metadata, 'null'), '{}');
  new.success_url := coalesce(new.success_url, substring(v_settings ->> 'payment_success_url' from '^https?://.+$'));
  new.expires_at := coalesce(
    new.expires_at,
    brainops.now() + make_interval(days => coalesce(substring(v_settings ->> 'payment_link_days' from '^[1-9][0-9]{0,3}$')::int, 30))
  );
  return new;
end;
$$;

alter function brainops_internal.check_payment_request() owner to brainops_system;
revoke execute on function brainops_internal.check_payment_request() from public;

create or replace function brainops_internal.payment_state(p_request public.payment_requests)
returns text
language sql
immutable
set search_path = ''
as $$
  select
    case
      when (p_request).paid_at is not null then case
        when (p_request).disputes_open > 0 then 'disputed'
        when (p_request).refunded_minor >= (p_request).paid_minor then 'refunded'
        when (p_request).refunded_minor > 0 then 'partially_refunded'
        else 'paid'
      end
      when (p_request).cancelled_at is not null then 'cancelled'
      when (p_request).expired_at is not null then 'expired'
      when (p_request).failed_generation >= (p_request).key_generation then 'payment_failed'
      when (p_request).link_inactive then 'cancelled'
      else 'open'
    end;
$$;

comment on function brainops_internal.payment_state(public.payment_requests) is
  'What payment_status is, by the facts of the row.';

revoke execute on function brainops_internal.payment_state(payment_requests) from public;
grant execute
on function brainops_internal.payment_state(payment_requests)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

-- Turns what clients wish into facts, and computes payment_status from them.
-- As in sql/0018, but that a payment in another currency can be accepted too.
create or replace function brainops_internal.before_payment_update()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_wish text := case
    when new.payment_status is distinct from old.payment_status then replace(lower(btrim(new.payment_status)), 'canceled', 'cancelled')
  end;
  v_status text := brainops_internal.normal_status(new.status);
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

  new.payment_status := brainops_internal.payment_state(new);
  return new;
end;
$$;

alter function brainops_internal.before_payment_update() owner to brainops_system;
revoke execute on function brainops_internal.before_payment_update() from public;
grant execute on function brainops_internal.before_payment_update() to brainops_system;

-- A payment request could be deleted while its link was live. What closes the link and what tells whose a payment is
-- (payment_link_closures, stripe_objects) went with it: the link stayed payable, and what was paid by it was nobody's.
-- Now a request that ever had a link stays. forget has never deleted one: it takes the name out, and cancels.
create or replace function brainops_internal.before_payment_delete()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  -- Whoever removes a tenant has ended it first, by name.
  if pg_catalog.pg_has_role(session_user, 'brainops_admin', 'member')
    and exists (select from public.tenants as t where t.id = old.tenant_id and t.status = 'suspended')
  then
    return old;
  end if;
  raise exception 'payment request %: a link was made for it or may have been, so that a payment may still come', old.id
    using errcode = 'OP010',
      hint = 'Set payment_status to cancelled: the link is switched off. The row stays; only an admin deletes it, with a tenant that is suspended.';
end;
$$;

comment on function brainops_internal.before_payment_delete is
  'Keeps a payment request that has had a link, for the payments that may come by it.';

revoke execute on function brainops_internal.before_payment_delete() from public;
grant execute on function brainops_internal.before_payment_delete() to brainops_system;

-- What follows from a change of a request: a new link becomes known to events, gets its closure and
-- is sent; a cancelled one is closed now, and so is one that was paid, whose lead is won.
create or replace function brainops_internal.after_payment_update()
returns trigger
language plpgsql
-- Clients may cancel, but not write closures.
security definer
set search_path = ''
as $$
declare
  v_account text := brainops_internal.stripe_account(case when new.key_account is not null then new.tenant_id end);
  v_known public.stripe_objects;
begin
  if new.stripe_payment_link_id is distinct from old.stripe_payment_link_id and new.stripe_payment_link_id is not null then
    -- The one place where a row is locked before its account: an event of just this moment may
    -- collide with it, and then one of the two is tried again.
    perform brainops_internal.lock_stripe_account(v_account);
    v_known.tenant_id := new.tenant_id;
    v_known.own_account := new.key_account is not null;
    v_known.payment_request_id := new.id;
    v_known.key_generation := new.key_generation;
    perform brainops_internal.record_stripe_objects(v_known, array[new.stripe_payment_link_id]);
    -- The payer, or Stripe, may have been faster than we.
    with woken as (
      delete from brainops.waiting_stripe_events
      where account = v_account and object_id = new.stripe_payment_link_id
      returning event_id
    )
    update public.webhook_events as w
    set status = 'pending'
    from woken
    where w.provider = 'stripe'
      and w.provider_event_id = woken.event_id
      and w.tenant_id is not distinct from case when new.key_account is not null then new.tenant_id end
      and w.status <> 'pending';
  end if;

  if new.key_started_at is not null then
    perform brainops_internal.schedule_payment_closure(new);
  end if;
  if old.paid_at is null and new.paid_at is not null then
    perform brainops_internal.follow_payment(new);
  end if;
  if new.deliver_by is not null and old.payment_url is null and new.payment_url is not null
    and new.cancelled_at is null and new.paid_at is null
  then
    perform brainops_internal.deliver_payment_link(new);
  end if;
  return null;
end;
$$;

alter function brainops_internal.after_payment_update() owner to brainops_system;
revoke execute on function brainops_internal.after_payment_update() from public;

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
      when r.paid_at is not null then 'it is paid already'
      else 'it expired before its link was made'
    end
  from public.payment_requests as r
  where r.id = any (p_ids) and (r.paid_at is not null or r.expires_at <= brainops.now());
$$;

comment on function brainops_internal.gate_payment_request(uuid[]) is
  'Which of the requests need no link any more: those that are paid or past their time.';

revoke execute on function brainops_internal.gate_payment_request(uuid[]) from public;
grant execute on function brainops_internal.gate_payment_request(uuid[]) to brainops_worker, brainops_system;

-- Sends the link to the lead. The words are the tenant's own where it has a template.
create or replace function brainops_internal.deliver_payment_link(p_request public.payment_requests)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_key text := 'payment_link:' || (p_request).id || ':' || (p_request).key_generation;
  v_template public.ai_campaign_templates;
  v_words jsonb := jsonb_build_object(
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
      v_words,
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
      v_words,
      v_key,
      brainops.now()
    )
    on conflict (tenant_id, idempotency_key) where idempotency_key is not null do nothing;
  end if;
exception
  when serialization_failure or deadlock_detected or lock_not_available then
    raise;
  -- The link is there, and must not be lost because a message about it is refused.
  when others then
    perform brainops.notify(
      (p_request).tenant_id, 'A payment link could not be sent: ' || (p_request).plan_name,
      'Payment request ' || (p_request).id || ' has its link, ' || (p_request).payment_url || ', but it was not sent by '
        || (p_request).deliver_by || ': ' || sqlerrm,
      v_key, (p_request).lead_id
    );
end;
$$;

revoke execute on function brainops_internal.deliver_payment_link(payment_requests) from public;
grant execute on function brainops_internal.deliver_payment_link(payment_requests) to brainops_system;
