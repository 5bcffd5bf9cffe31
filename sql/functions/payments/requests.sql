-- Rows of payment_requests: the price, which comes from a plan, what clients may change, and payment_status. Start at
-- check_payment_request (insert) and before_payment_update (update); what a change leads to is in after_payment_update.

-- Takes the price from the plan, and refuses any other. Runs with its owner's rights, because a service that names no
-- tenant sees no plans. So it first makes sure that the caller may write rows of this tenant; otherwise its errors
-- would reveal what other tenants sell.
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
    raise exception 'tenant_id: you may not write payment requests of tenant %', new.tenant_id
      using errcode = 'insufficient_privilege', hint = 'Leave tenant_id out; your own tenant is filled in.';
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
    -- Order of precedence: the tenant's own plan before one for every tenant, one for this lead before one for every
    -- lead, a code before a name.
    order by p.tenant_id nulls last, p.lead_id nulls last, p.active desc, p.code = v_key desc, p.id
    limit 1;
  if not found or not v_plan.active then
    raise exception 'product_service: % is not a plan%', coalesce(quote_literal(left(v_named, 120)), 'null'),
      case when v_plan.id is null then '' else ' that is active' end
      using errcode = 'OP025', column = 'product_service',
        hint = 'Prices come from plans only. Name one by plan_id, plan_code or product_service, or insert one. Active plans: '
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
    raise exception 'amount: the request has % %, but plan % costs % %',
      coalesce(trim_scale(new.amount)::text, trim_scale(v_plan.amount)::text), coalesce(lower(btrim(new.currency)), v_plan.currency),
      v_plan.code, trim_scale(v_plan.amount), v_plan.currency
      using errcode = 'OP026', column = 'amount',
        hint = 'Leave amount and currency out. For another price, insert a plan (with lead_id, for this lead only) and name it.';
  end if;
  if coalesce(new.payment_status, 'open') <> 'open' then
    raise exception 'payment_status: a request cannot be inserted as %', quote_literal(left(new.payment_status, 40))
      using errcode = 'OP029', column = 'payment_status',
        hint = 'Leave payment_status out; it becomes paid when Stripe reports the payment.';
  end if;

  new.deliver_by := nullif(lower(btrim(new.deliver_by)), '');
  if new.deliver_by not in ('email', 'sms') then
    raise exception 'deliver_by: % is not a way to send a link', quote_literal(left(new.deliver_by, 40))
      using errcode = 'OP007', column = 'deliver_by',
        hint = 'Write email or sms, or leave deliver_by out and send payment_url yourself.';
  end if;
  if new.deliver_by is not null and new.lead_id is null then
    raise exception 'deliver_by: lead_id is null, so there is no one to send the link to'
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

comment on function brainops_internal.check_payment_request is
  'Trigger: fills in plan, price and defaults of a new request. OP025 without an active plan, OP026 for another price than the plan''s, OP029 for a payment_status, OP007 or OP004 for deliver_by, 42501 for another tenant.';

alter function brainops_internal.check_payment_request() owner to brainops_system;
revoke execute on function brainops_internal.check_payment_request() from public;

-- A client that writes payment_status asks for something: cancelled, open and paid are turned into facts (cancelled_at,
-- a new link, paid_at). payment_status is then computed from the facts. The price never changes.
create or replace function brainops_internal.before_payment_update()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_requested text := case
    when new.payment_status is distinct from old.payment_status then replace(lower(btrim(new.payment_status)), 'canceled', 'cancelled')
  end;
  v_status text := brainops_internal.normal_status(new.status);
begin
  if (new.plan_id, new.plan_code, new.plan_name, new.amount, new.currency, new.amount_minor, new.interval, new.success_url)
    is distinct from (old.plan_id, old.plan_code, old.plan_name, old.amount, old.currency, old.amount_minor, old.interval, old.success_url)
  then
    raise exception 'amount: request % is for % % (plan %); its plan, price and success_url cannot be changed', old.id, trim_scale(old.amount), old.currency, old.plan_code
      using errcode = 'OP026', hint = 'Set payment_status to cancelled, and insert a new request.';
  end if;

  if v_requested = 'cancelled' and old.paid_at is null then
    new.cancelled_at := coalesce(new.cancelled_at, brainops.now());
    -- Before the link exists, this stops its creation; a link that is being created is closed once it is known.
    if old.status in ('pending', 'awaiting_approval', 'processing') then
      new.status := 'cancelled';
    end if;
  elsif v_requested = 'paid' and old.paid_at is null and exists (
    select from public.payment_ledger
    where tenant_id = old.tenant_id and payment_request_id = old.id and kind = 'payment'
  ) then
    new.paid_at := brainops.now();
    -- If nothing was paid in the request's currency, the accepted payment counts as the amount requested.
    new.paid_minor := coalesce(nullif(old.paid_minor, 0), old.amount_minor);
  elsif v_requested = 'open' and old.payment_status in ('cancelled', 'expired', 'payment_failed') and old.status not in ('pending', 'processing') then
    new.status := 'pending';
    v_status := 'pending';
  elsif v_requested is not null then
    raise exception 'payment_status: request % is %, so it cannot be set to %', old.id, old.payment_status, quote_literal(left(v_requested, 40))
      using errcode = 'OP029', column = 'payment_status',
        hint = 'Write cancelled before it is paid; open after it was cancelled, expired or failed; paid to accept a payment of another amount. Make refunds at Stripe.';
  end if;

  if v_status = 'cancelled' and old.status not in ('cancelled', 'completed') and old.paid_at is null then
    new.cancelled_at := coalesce(new.cancelled_at, brainops.now());
  elsif v_status = 'skipped' and old.status = 'pending' and old.paid_at is null and old.expires_at <= brainops.now() then
    new.expired_at := coalesce(new.expired_at, brainops.now());
  elsif v_status = 'pending' and old.status not in ('pending', 'processing') and old.payment_status in ('cancelled', 'expired', 'payment_failed') then
    -- A new link. The old one stays closed; a payment through it, made in time, still counts.
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

comment on function brainops_internal.before_payment_update is
  'Trigger: turns a written payment_status into facts, and computes payment_status. OP026 for a change of plan, price or success_url; OP029 for a payment_status that cannot be written now.';

alter function brainops_internal.before_payment_update() owner to brainops_system;
revoke execute on function brainops_internal.before_payment_update() from public;
grant execute on function brainops_internal.before_payment_update() to brainops_system;

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
  'payment_status as it follows from the other columns of the request.';

revoke execute on function brainops_internal.payment_state(public.payment_requests) from public;
grant execute
on function brainops_internal.payment_state(public.payment_requests)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

-- A request that has or may have had a link stays: payments may still arrive through the link, and
-- payment_link_closures (which closes it) and stripe_objects (which attributes its payments) would be deleted with the
-- request. brainops.forget does not delete requests either: it removes the person and cancels.
create or replace function brainops_internal.before_payment_delete()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  -- Admins may delete it once the tenant is suspended, in order to remove the tenant.
  if pg_catalog.pg_has_role(session_user, 'brainops_admin', 'member')
    and exists (select from public.tenants as t where t.id = old.tenant_id and t.status = 'suspended')
  then
    return old;
  end if;
  raise exception 'payment request %: it has or may have a payment link, so a payment may still arrive', old.id
    using errcode = 'OP010',
      hint = 'Set payment_status to cancelled: that deactivates the link and keeps the row. Only an admin may delete it, once the tenant is suspended.';
end;
$$;

comment on function brainops_internal.before_payment_delete is
  'Trigger: refuses to delete a request that has or may have had a link (OP010); an admin may, once the tenant is suspended.';

revoke execute on function brainops_internal.before_payment_delete() from public;
grant execute on function brainops_internal.before_payment_delete() to brainops_system;

-- What follows from a change: a new link is recorded, so that events find it, gets its closure and is sent to the lead;
-- the links of a cancelled or paid request are closed now; a paid request moves its lead to won.
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
    v_known.tenant_id := new.tenant_id;
    v_known.own_account := new.key_account is not null;
    v_known.payment_request_id := new.id;
    v_known.key_generation := new.key_generation;
    perform brainops_internal.record_stripe_objects(v_known, array[new.stripe_payment_link_id]);
    -- Events about the link may have arrived before its id was stored. For one that is applied at this moment, see
    -- wake_missed_stripe_events.
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

comment on function brainops_internal.after_payment_update is
  'Trigger: records a new link in stripe_objects, schedules its closure, sends it, and follows up a payment.';

alter function brainops_internal.after_payment_update() owner to brainops_system;
revoke execute on function brainops_internal.after_payment_update() from public;
