-- Payments: what things cost (plans), whom we ask for money (payment_requests), what moved (the
-- ledger), and what Stripe says about it.
--
-- Two states stand side by side in a payment request: `status` is the job of making a link,
-- `payment_status` is the money. The second is never written, it is computed from facts, and facts
-- only grow: so events may come in any order and any number of times.
--
--                        ┌─────────────▶ payment_failed ──┐
--   open ──deactivated──▶ cancelled | expired ──'open' / 'pending' again: a new link──▶ open
--     └──── a matching payment, whatever was before ────▶ paid ─▶ partially_refunded ─▶ refunded
--                                                          └─────▶ disputed (while one is open or lost)
--
-- Whose an event is, is told by the ids that we stored ourselves (stripe_objects): first that of the
-- link we made, then whatever a known object names. Never by metadata, which travels through hands
-- that are not ours, and never across accounts: what came in signed by a tenant's own Stripe account
-- can only concern what was made through that account.
--
-- Lock order: the account's advisory lock, then payment request, then closure, then lead.
set local lock_timeout = '2s';

create table brainops.currencies (
  code text primary key,
  exponent smallint not null,
  stripe_exponent smallint not null,
  stripe_multiple int not null default 1,
  constraint currencies_code_lower_case check (code ~ '^[a-z]{3}$'),
  constraint currencies_exponent_range check (exponent between 0 and 4 and stripe_exponent between 0 and 4),
  constraint currencies_multiple_positive check (stripe_multiple >= 1)
);

comment on table brainops.currencies is
  'How many decimals a currency has: by ISO 4217, and in what Stripe takes and reports, which is what amount_minor counts in.';
comment on column brainops.currencies.exponent is 'Digits after the point by ISO 4217.';
comment on column brainops.currencies.stripe_exponent is
  'Amount times 10 to this power is what Stripe calls the amount. Differs from ISO 4217 for isk and ugx (0 by ISO, sent as if 2) and mga (2 by ISO, sent as 0).';
comment on column brainops.currencies.stripe_multiple is
  'Stripe takes only multiples: 100 where the currency has no decimals but is sent with two, 10 where it has three.';

insert into brainops.currencies (code, exponent, stripe_exponent, stripe_multiple)
select code, exponent, stripe_exponent, stripe_multiple
from
  (
    values
      ('aed afn all amd ang aud awg azn bam bbd bdt bgn bmd bnd bob brl bsd bwp byn bzd cad cdf chf cny cop', 2, 2, 1),
      ('crc cve czk dkk dop dzd egp etb eur fjd fkp gbp gel gip gmd gtq gyd hkd hnl htg huf idr ils inr jmd', 2, 2, 1),
      ('kes kgs khr kyd kzt lak lbp lkr lrd lsl mad mdl mkd mmk mnt mop mur mvr mwk mxn myr mzn nad ngn nio', 2, 2, 1),
      ('nok npr nzd pab pen pgk php pkr pln qar ron rsd rub sar sbd scr sek sgd shp sle sos srd std szl thb', 2, 2, 1),
      ('tjs top try ttd twd tzs uah usd uyu uzs wst xcd xcg yer zar zmw', 2, 2, 1),
      ('bif clp djf gnf jpy kmf krw pyg rwf vnd vuv xaf xof xpf', 0, 0, 1),
      ('isk ugx', 0, 2, 100),
      ('mga', 2, 0, 1),
      ('bhd jod kwd omr tnd', 3, 3, 10)
  ) as c (codes, exponent, stripe_exponent, stripe_multiple)
  cross join lateral string_to_table(c.codes, ' ') as code;

alter table brainops.currencies enable row level security;
alter table brainops.currencies force row level security;
create policy everyone_reads on brainops.currencies
for select
to brainops_tenant, brainops_worker, brainops_service
using (true);
create policy every_row on brainops.currencies
for all
to brainops_admin, brainops_system
using (true)
with check (true);
grant select on brainops.currencies to brainops_tenant, brainops_worker, brainops_service;
grant select, insert, update, delete on brainops.currencies to brainops_admin, brainops_system;

-- Exactly, or not at all: nothing is rounded.
create function brainops.minor_units(p_amount numeric, p_currency text)
returns bigint
language plpgsql
stable
set search_path = ''
as $$
declare
  v_currency brainops.currencies;
  v_minor numeric;
begin
  select * into v_currency from brainops.currencies where code = lower(btrim(p_currency));
  if not found then
    raise exception 'currency: nobody knows %', coalesce(quote_literal(left(p_currency, 20)), 'null')
      using errcode = 'OP028', column = 'currency', hint = 'Give a code of ISO 4217 such as usd: select code from brainops.currencies.';
  end if;
  -- NaN is greater than every number, so it falls here too.
  if p_amount is null or not (p_amount > 0 and p_amount < 1e12) then
    raise exception 'amount: % is no amount of money', coalesce(p_amount::text, 'null')
      using errcode = 'OP027', column = 'amount', hint = 'Give an amount above zero, in units of the currency (12.50, not 1250).';
  end if;
  v_minor := p_amount * 10::numeric ^ v_currency.stripe_exponent::int;
  if v_minor <> trunc(v_minor) or v_minor % v_currency.stripe_multiple <> 0 then
    raise exception 'amount: % cannot be paid in %, whose smallest amount at Stripe is %',
      trim_scale(p_amount), v_currency.code,
      trim_scale(v_currency.stripe_multiple / 10::numeric ^ v_currency.stripe_exponent::int)
      using errcode = 'OP027', column = 'amount', hint = 'Round it to a multiple of the smallest amount.';
  end if;
  return v_minor::bigint;
end;
$$;

comment on function brainops.minor_units(numeric, text) is
  'The amount in Stripe''s units of the currency. OP028 for an unknown currency, OP027 for an amount that does not come out even; never rounded.';

create function brainops.major_units(p_minor bigint, p_currency text)
returns numeric
language sql
stable
set search_path = ''
as $$
  select trim_scale(p_minor / 10::numeric ^ c.stripe_exponent::int)
  from brainops.currencies as c
  where c.code = p_currency;
$$;

comment on function brainops.major_units(bigint, text) is
  'What the amount in Stripe''s units is in units of the currency; null for an unknown currency.';

create table public.plans (
  id uuid primary key default gen_random_uuid(),
  tenant_id uuid references public.tenants (id),
  code text not null,
  name text not null,
  amount numeric not null,
  currency text not null default 'usd' references brainops.currencies (code),
  amount_minor bigint not null,
  interval text not null default 'one_time',
  lead_id uuid,
  active boolean not null default true,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint plans_code_is_short_name check (code ~ '^[a-z0-9][a-z0-9_.-]{0,62}$'),
  constraint plans_name_length check (length(btrim(name)) between 1 and 200),
  constraint plans_interval_known check (interval in ('one_time', 'month', 'year')),
  constraint plans_lead_has_tenant check (lead_id is null or tenant_id is not null),
  constraint plans_lead
    foreign key (tenant_id, lead_id) references public.revenue_leads (tenant_id, id)
      on delete cascade
);

create unique index plans_code on public.plans (tenant_id, code) nulls not distinct;
create unique index plans_name on public.plans (tenant_id, lead_id, lower(btrim(name)))
nulls not distinct
where active;
create index plans_lead_id on public.plans (tenant_id, lead_id) where lead_id is not null;
create index plans_currency on public.plans (currency);

comment on table public.plans is
  'The one source of every price. A payment request takes amount and currency from the plan it names; a price of its own is a plan of its own, for one lead where lead_id says so.';
comment on column public.plans.tenant_id is 'Null: for every tenant; admins write those.';
comment on column public.plans.code is
  'Short name for clients, in lower case. A tenant''s own plan goes before a common one of the same code.';
comment on column public.plans.name is 'What the payer reads.';
comment on column public.plans.amount is
  'In units of the currency, e.g. 12.50. A change is for requests that come later.';
comment on column public.plans.amount_minor is 'The same in Stripe''s units (brainops.currencies), filled in.';
comment on column public.plans.interval is 'one_time, or how often a subscription renews: month, year.';
comment on column public.plans.lead_id is 'Null: for every lead.';

create function brainops.check_plan()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  new.code := lower(btrim(new.code));
  new.currency := lower(btrim(new.currency));
  -- Without an amount there is nothing to reckon: the column's own rule refuses the row.
  new.amount_minor := case when new.amount is not null then brainops.minor_units(new.amount, new.currency) end;
  return new;
end;
$$;

-- Without a tenant, a plan is everyone's: what only an admin may say, and says by leaving it out.
create function brainops.fill_plan_tenant()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  if not pg_catalog.pg_has_role(session_user, 'brainops_admin', 'member') then
    new.tenant_id := brainops.resolve_tenant(tg_relid, to_jsonb(new));
  end if;
  return new;
end;
$$;

create trigger a0_remember_tenant
before insert on public.plans
for each statement
execute function brainops.remember_tenant();
alter table public.plans
alter column tenant_id set default nullif(current_setting('brainops.statement_tenant', true), '')::uuid;
create trigger a0_resolve_lead_id
before insert on public.plans
for each row
when (new.lead_id is not null)
execute function brainops.resolve_lead_id();
create trigger a1_fill_tenant
before insert on public.plans
for each row
when (new.tenant_id is null)
execute function brainops.fill_plan_tenant();
create trigger a2_check_plan
before insert or update on public.plans
for each row
execute function brainops.check_plan();
create trigger touch_updated_at
before update on public.plans
for each row
execute function brainops.touch_updated_at();

alter table public.plans enable row level security;
alter table public.plans force row level security;
create policy select_own_and_common on public.plans
for select
to brainops_tenant, brainops_worker, brainops_service
using (tenant_id is null or tenant_id = (select brainops.current_tenant_id()));
create policy insert_own on public.plans
for insert
to brainops_tenant, brainops_worker, brainops_service
with check (
  tenant_id = (select brainops.current_tenant_id())
  or (tenant_id is not null and (select brainops.may_name_tenant()))
);
create policy update_own on public.plans
for update
to brainops_tenant, brainops_worker, brainops_service
using (tenant_id = (select brainops.current_tenant_id()))
with check (tenant_id = (select brainops.current_tenant_id()));
create policy delete_own on public.plans
for delete
to brainops_tenant, brainops_worker, brainops_service
using (tenant_id = (select brainops.current_tenant_id()));
create policy every_row on public.plans
for all
to brainops_admin, brainops_system
using (true)
with check (true);
grant select, insert, update, delete
on public.plans
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

create table public.payment_requests (
  id uuid primary key default gen_random_uuid(),
  tenant_id uuid not null,
  lead_id uuid,
  product_service text,
  plan_id uuid,
  plan_code text not null,
  plan_name text not null,
  amount numeric not null,
  currency text not null,
  amount_minor bigint not null,
  interval text not null,
  payment_status text not null default 'open',
  expires_at timestamptz not null,
  success_url text,
  deliver_by text,
  payment_url text,
  stripe_payment_link_id text,
  paid_at timestamptz,
  attention text,
  metadata jsonb not null default '{}',
  -- What payment_status is computed from.
  paid_minor bigint not null default 0,
  refunded_minor bigint not null default 0,
  disputes_open int not null default 0,
  cancelled_at timestamptz,
  expired_at timestamptz,
  failed_generation int not null default -1,
  link_inactive boolean not null default false,
  link_told_at timestamptz,
  -- How the link is made at most once.
  key_generation int not null default 0,
  key_started_at timestamptz,
  key_account uuid,
  livemode boolean,
  constraint payment_requests_payment_status_known
    check (
      payment_status in (
        'open',
        'paid',
        'refunded',
        'partially_refunded',
        'disputed',
        'expired',
        'cancelled',
        'payment_failed'
      )
    ),
  constraint payment_requests_amount_positive check (amount_minor > 0),
  constraint payment_requests_deliver_by_known check (deliver_by in ('email', 'sms')),
  constraint payment_requests_metadata_is_object check (jsonb_typeof(metadata) = 'object'),
  constraint payment_requests_lead
    foreign key (tenant_id, lead_id) references public.revenue_leads (tenant_id, id)
      on delete set null (lead_id)
);

create index payment_requests_lead_id on public.payment_requests (tenant_id, lead_id) where lead_id is not null;
create index payment_requests_payment_status on public.payment_requests (tenant_id, payment_status);

comment on table public.payment_requests is
  'Insert a row: a Stripe payment link for one payment is made, and payment_url filled in. status is the making of the link, payment_status the money.';
comment on column public.payment_requests.lead_id is
  'Who is asked; becomes won with the payment. Null for nobody we know, or a person who was forgotten.';
comment on column public.payment_requests.product_service is
  'Where neither plan_id nor plan_code is given: a plan''s code or name. Otherwise what you like.';
comment on column public.payment_requests.plan_id is
  'The plan that priced it. No foreign key: the request keeps what it took from the plan, and the plan may go.';
comment on column public.payment_requests.amount is
  'The plan''s. May be given, and is refused (OP026) where it is another than the plan''s.';
comment on column public.payment_requests.amount_minor is 'The same in Stripe''s units: cents for usd, yen for jpy.';
comment on column public.payment_requests.payment_status is
  'open, paid, refunded, partially_refunded, disputed, expired, cancelled, payment_failed. Clients may write cancelled (the link is closed), open (a new link, after cancelled, expired or payment_failed) and paid (accepts what came though attention asks about it).';
comment on column public.payment_requests.expires_at is
  'When the link is closed. By default tenants.settings.payment_link_days from now, else 30 days.';
comment on column public.payment_requests.success_url is
  'Where the payer is led afterwards: tenants.settings.payment_success_url as of the insert; null for Stripe''s own page.';
comment on column public.payment_requests.deliver_by is
  'email or sms: the link is sent to the lead as soon as it is there, once, as a row of ai_email_queue or ai_sms_queue; in the words of the tenant''s template payment_link where it has one. Null: you send payment_url yourself.';
comment on column public.payment_requests.attention is
  'What a person should look at: another amount or currency than asked, paid twice, paid though cancelled. Null: nothing.';
comment on column public.payment_requests.paid_at is
  'When the first payment of just this amount and currency was made, or a person accepted another; null: not paid.';
comment on column public.payment_requests.paid_minor is 'Sum of the ledger''s payments in the request''s currency.';
comment on column public.payment_requests.refunded_minor is
  'What went back, as the ledger has it or as Stripe''s total of the charge says, whichever is more.';
comment on column public.payment_requests.disputes_open is 'Disputes that are open or lost.';
comment on column public.payment_requests.failed_generation is
  'The newest link whose delayed payment failed, by key_generation; -1: none.';
comment on column public.payment_requests.link_inactive is
  'Whether the link was switched off at Stripe, by someone else or us, without having been used.';
comment on column public.payment_requests.link_told_at is
  'When Stripe said so: the event''s time, older ones do not count.';
comment on column public.payment_requests.key_generation is
  'Which link it is: part of the idempotency key. Goes up for a new link, and when Stripe stored an error under the key.';
comment on column public.payment_requests.key_started_at is
  'When the key was first used; Stripe forgets it after 24 h. Null: nothing was asked of Stripe yet.';
comment on column public.payment_requests.key_account is
  'The tenant''s own credential that the link was made through; null for the installation''s account.';

select
  brainops.define_job_table(
    'public.payment_requests',
    p_task_identifier => 'payment_request__create_link',
    p_effect_is_idempotent => true, -- by the key
    p_channel => 'payment',
    p_gate => 'brainops.gate_payment_request',
    p_sender => 'stripe',
    p_result_columns => array['payment_url', 'stripe_payment_link_id', 'livemode'],
    p_time_limit => '60 seconds',
    p_max_attempts => 12
  );
-- What came of a request is asked for as long as its money can move.
update brainops.job_tables set archive_after = '100 years' where table_name = 'payment_requests';

-- Facts are the engine's to write, payment_status is a client's wish.
revoke
  insert (
    plan_name,
    amount_minor,
    interval,
    paid_at,
    attention,
    paid_minor,
    refunded_minor,
    disputes_open,
    cancelled_at,
    expired_at,
    failed_generation,
    link_inactive,
    link_told_at,
    key_generation,
    key_started_at,
    key_account
  ),
  update (
    plan_name,
    amount_minor,
    interval,
    paid_at,
    attention,
    paid_minor,
    refunded_minor,
    disputes_open,
    cancelled_at,
    expired_at,
    failed_generation,
    link_inactive,
    link_told_at,
    key_generation,
    key_started_at,
    key_account
  )
on public.payment_requests
from brainops_tenant, brainops_service;

create function brainops.payment_state(p_request public.payment_requests)
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

-- Takes the price from the plan, and refuses any other. With its owner's rights, because a service
-- that names no tenant sees no plans; so it first makes sure that the row is the caller's to write,
-- and tells nobody what others sell.
create function brainops.check_payment_request()
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

-- Turns what clients wish into facts, and computes payment_status from them.
create function brainops.before_payment_update()
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
  elsif v_wish = 'paid' and old.paid_at is null and old.paid_minor > 0 then
    new.paid_at := brainops.now();
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

create table public.payment_link_closures (
  id uuid primary key default gen_random_uuid(),
  tenant_id uuid not null,
  payment_request_id uuid not null,
  key_generation int not null,
  stripe_payment_link_id text,
  account uuid,
  reason text not null,
  constraint payment_link_closures_reason_known check (reason in ('expired', 'cancelled', 'paid')),
  constraint payment_link_closures_request
    foreign key (tenant_id, payment_request_id) references public.payment_requests (tenant_id, id)
      on delete cascade
);

create unique index payment_link_closures_once on public.payment_link_closures (
  tenant_id,
  payment_request_id,
  key_generation
);

comment on table public.payment_link_closures is
  'One row for each payment link: when it is due, the link is switched off. Made with the link, for its expires_at; moved to now when the request is cancelled, or paid by whichever of its links.';
comment on column public.payment_link_closures.key_generation is 'Which of the request''s links.';
comment on column public.payment_link_closures.stripe_payment_link_id is
  'Null: nobody knows whether there is one (its making was cut off); it is looked for.';
comment on column public.payment_link_closures.account is
  'The tenant''s own credential that the link was made through; null for the installation''s account.';

select
  brainops.define_job_table(
    'public.payment_link_closures',
    p_task_identifier => 'payment_link_closure__deactivate',
    p_effect_is_idempotent => true,
    p_channel => 'payment',
    p_gate => 'brainops.gate_payment_closure',
    p_sender => 'stripe',
    p_result_columns => array['stripe_payment_link_id'],
    p_time_limit => '60 seconds',
    p_max_attempts => 20
  );
-- Made by the engine; a client may only move, stop or repeat one.
revoke insert, delete on public.payment_link_closures from brainops_tenant, brainops_service;
revoke
  insert (
    payment_request_id,
    key_generation,
    account,
    reason,
    scheduled_for,
    status,
    job_priority,
    idempotency_key,
    max_attempts,
    id,
    tenant_id,
    created_at
  ),
  update (payment_request_id, key_generation, account, reason)
on public.payment_link_closures
from brainops_tenant, brainops_service;

create function brainops.gate_payment_request(p_ids uuid[])
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

comment on function brainops.gate_payment_request(uuid[]) is
  'Which of the requests need no link any more: those that are paid or past their time.';

create function brainops.gate_payment_closure(p_ids uuid[])
returns setof brainops.verdict
language sql
stable
set search_path = ''
as $$
  select c.id, 'defer', r.expires_at, 'it expires later'
  from
    public.payment_link_closures as c
    inner join public.payment_requests as r on r.tenant_id = c.tenant_id and r.id = c.payment_request_id
  where
    c.id = any (p_ids)
    and c.reason = 'expired'
    -- A link that another one took the place of is closed at its own time at the latest.
    and r.key_generation = c.key_generation
    and r.paid_at is null
    and r.cancelled_at is null
    and r.expires_at > brainops.now();
$$;

comment on function brainops.gate_payment_closure(uuid[]) is
  'Which of the links are kept open longer: those whose request expires later by now.';

-- Money is never edited: what went wrong is another row.
create table public.payment_ledger (
  id uuid primary key default gen_random_uuid(),
  tenant_id uuid not null references public.tenants (id),
  payment_request_id uuid,
  kind text not null,
  object_id text not null,
  charge_id text,
  amount_minor bigint not null,
  currency text not null,
  livemode boolean not null,
  occurred_at timestamptz not null,
  recorded_at timestamptz not null default now(),
  constraint payment_ledger_once unique (tenant_id, kind, object_id),
  constraint payment_ledger_kind_known
    check (kind in ('payment', 'refund', 'refund_reversal', 'dispute', 'dispute_reversal')),
  constraint payment_ledger_sign
    check (
      case
        when kind in ('payment', 'refund_reversal', 'dispute_reversal') then amount_minor > 0
        else amount_minor < 0
      end
    ),
  constraint payment_ledger_request
    foreign key (tenant_id, payment_request_id) references public.payment_requests (tenant_id, id)
);

create index payment_ledger_request on public.payment_ledger (tenant_id, payment_request_id);

comment on table public.payment_ledger is
  'Every movement of money, once, append only: payments in, refunds and disputes out, and what came back of those.';
comment on column public.payment_ledger.kind is
  'payment, refund, refund_reversal (a refund that failed), dispute (money withdrawn), dispute_reversal (given back).';
comment on column public.payment_ledger.object_id is
  'Stripe''s id of what moved it: payment intent, invoice (subscriptions), refund, dispute.';
comment on column public.payment_ledger.charge_id is 'The charge that a refund or dispute is about; null for payments.';
comment on column public.payment_ledger.amount_minor is
  'In Stripe''s units of the currency; below zero for what goes out.';
comment on column public.payment_ledger.livemode is 'False: Stripe''s test mode, no real money.';

create table public.payment_disputes (
  id uuid primary key default gen_random_uuid(),
  tenant_id uuid not null references public.tenants (id),
  payment_request_id uuid,
  stripe_dispute_id text not null,
  status text not null,
  reason text,
  amount_minor bigint not null,
  currency text not null,
  evidence_due_by timestamptz,
  opened_at timestamptz not null,
  -- Which event the row says: an older one changes nothing.
  told_at timestamptz not null,
  told_rank int not null,
  constraint payment_disputes_once unique (tenant_id, stripe_dispute_id),
  constraint payment_disputes_request
    foreign key (tenant_id, payment_request_id) references public.payment_requests (tenant_id, id)
);

create index payment_disputes_request on public.payment_disputes (tenant_id, payment_request_id);

comment on table public.payment_disputes is 'Payments that the payer''s bank took back or asks about.';
comment on column public.payment_disputes.status is
  'Stripe''s word: warning_needs_response, warning_under_review, warning_closed, needs_response, under_review, won, lost, prevented.';
comment on column public.payment_disputes.evidence_due_by is
  'Until when evidence must be handed in at Stripe; null for not said.';
comment on column public.payment_disputes.told_rank is
  'Orders events of one second: the later stage of a dispute wins.';

create table public.subscriptions (
  id uuid primary key default gen_random_uuid(),
  tenant_id uuid not null references public.tenants (id),
  payment_request_id uuid,
  stripe_subscription_id text not null,
  status text not null,
  current_period_start timestamptz,
  current_period_end timestamptz,
  cancel_at_period_end boolean not null default false,
  canceled_at timestamptz,
  ended_at timestamptz,
  livemode boolean not null,
  created_at timestamptz not null default now(),
  told_at timestamptz not null,
  told_rank int not null,
  told_by text not null,
  constraint subscriptions_once unique (tenant_id, stripe_subscription_id),
  constraint subscriptions_request
    foreign key (tenant_id, payment_request_id) references public.payment_requests (tenant_id, id)
);

create index subscriptions_request on public.subscriptions (tenant_id, payment_request_id);
create index subscriptions_status on public.subscriptions (tenant_id, status);

comment on table public.subscriptions is
  'Subscriptions that began with a payment request, as Stripe last reported them. What they brought in is in payment_ledger.';
comment on column public.subscriptions.status is
  'Stripe''s word: incomplete, incomplete_expired, trialing, active, past_due, canceled, unpaid, paused.';
comment on column public.subscriptions.told_at is
  'Time of the event that the row says. Stripe''s clock has seconds: told_rank (created, updated, deleted, then the later period and status) and told_by order what falls into one.';
comment on column public.subscriptions.told_by is 'That event''s id.';

create table public.stripe_objects (
  id uuid primary key default gen_random_uuid(),
  tenant_id uuid not null references public.tenants (id),
  object_id text not null,
  own_account boolean not null,
  payment_request_id uuid not null,
  key_generation int not null,
  refunded_minor bigint not null default 0,
  created_at timestamptz not null default now(),
  constraint stripe_objects_once unique (tenant_id, object_id),
  constraint stripe_objects_request
    foreign key (tenant_id, payment_request_id) references public.payment_requests (tenant_id, id)
      on delete cascade
);

create index stripe_objects_object_id on public.stripe_objects (object_id);
create index stripe_objects_request on public.stripe_objects (tenant_id, payment_request_id);

comment on table public.stripe_objects is
  'Which of Stripe''s objects (link, session, intent, charge, invoice, subscription, refund, dispute) belongs to which payment request: what tells whose an event is.';
comment on column public.stripe_objects.own_account is
  'Whether it lives in the tenant''s own Stripe account: only events from there may concern it.';
comment on column public.stripe_objects.refunded_minor is
  'Of a charge: the most that Stripe said was refunded in all; 0 for anything else.';

select brainops.protect_table(t)
from
  unnest(
    array[
      'public.payment_ledger',
      'public.payment_disputes',
      'public.subscriptions',
      'public.stripe_objects'
    ]::regclass[]
  ) as t;
-- Reports are Stripe's to write.
revoke insert, update, delete
on public.payment_ledger, public.payment_disputes, public.subscriptions, public.stripe_objects
from brainops_tenant, brainops_service;

create trigger append_only
before update or delete on public.payment_ledger
for each row
execute function brainops.refuse_change();
create trigger append_only_truncate
before truncate on public.payment_ledger
for each statement
execute function brainops.refuse_change();

-- Events about objects that nobody knows yet. The event itself is in webhook_events.
create table brainops.waiting_stripe_events (
  account text not null,
  object_id text not null,
  event_id text not null,
  since timestamptz not null default now(),
  primary key (account, object_id, event_id)
);

create index waiting_stripe_events_since on brainops.waiting_stripe_events (since);

comment on table brainops.waiting_stripe_events is
  'Stripe events whose object is not known yet (a refund before its payment), by the ids that would make it known. Applied then; forgotten after 30 days.';
comment on column brainops.waiting_stripe_events.account is
  'The tenant''s id for an event of its own account, platform for one of the installation''s.';

alter table brainops.waiting_stripe_events enable row level security;
alter table brainops.waiting_stripe_events force row level security;
create policy every_row on brainops.waiting_stripe_events
for all
to brainops_admin, brainops_system
using (true)
with check (true);
grant select, insert, update, delete on brainops.waiting_stripe_events to brainops_admin, brainops_system;

create function brainops.stripe_account(p_tenant_id uuid)
returns text
language sql
immutable
set search_path = ''
as $$
  select coalesce(p_tenant_id::text, 'platform');
$$;

-- One at a time for each account, because an event that finds its object unknown and one that
-- makes it known must not miss each other.
create function brainops.lock_stripe_account(p_account text)
returns void
language sql
set search_path = ''
as $$
  select pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('stripe ' || p_account, 0));
$$;

-- Makes the ids known as belonging to the request; returns those that were not.
create function brainops.know_stripe_objects(p_known public.stripe_objects, p_ids text[])
returns text[]
language sql
set search_path = ''
as $$
  with
    new_ones as (
      insert into public.stripe_objects (tenant_id, object_id, own_account, payment_request_id, key_generation)
      select (p_known).tenant_id, i.id, (p_known).own_account, (p_known).payment_request_id, (p_known).key_generation
      from unnest(p_ids) as i (id)
      order by i.id
      on conflict do nothing
      returning object_id
    )
  select coalesce(array_agg(object_id), '{}')
  from new_ones;
$$;

-- What follows from a change of a request: a new link becomes known to events, gets its closure and
-- is sent; a cancelled one is closed now, and so is one that was paid, whose lead is won.
create function brainops.after_payment_update()
returns trigger
language plpgsql
-- Clients may cancel, but not write closures.
security definer
set search_path = ''
as $$
declare
  v_account text := brainops.stripe_account(case when new.key_account is not null then new.tenant_id end);
  v_known public.stripe_objects;
begin
  if new.stripe_payment_link_id is distinct from old.stripe_payment_link_id and new.stripe_payment_link_id is not null then
    -- The one place where a row is locked before its account: an event of just this moment may
    -- collide with it, and then one of the two is tried again.
    perform brainops.lock_stripe_account(v_account);
    v_known.tenant_id := new.tenant_id;
    v_known.own_account := new.key_account is not null;
    v_known.payment_request_id := new.id;
    v_known.key_generation := new.key_generation;
    perform brainops.know_stripe_objects(v_known, array[new.stripe_payment_link_id]);
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
    perform brainops.plan_payment_closure(new);
  end if;
  if old.paid_at is null and new.paid_at is not null then
    perform brainops.follow_payment(new);
  end if;
  if new.deliver_by is not null and old.payment_url is null and new.payment_url is not null
    and new.cancelled_at is null and new.paid_at is null
  then
    perform brainops.deliver_payment_link(new);
  end if;
  return null;
end;
$$;

-- When the request's present link is switched off. Once it is paid, no other payment may come in,
-- neither by this link nor by an older one, which have their closures already.
create function brainops.plan_payment_closure(p_request public.payment_requests)
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
      -- The link may still be in the making, its answer lost on the way.
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
    -- What is switched off stays so.
    where c.status <> 'completed' or c.stripe_payment_link_id is distinct from excluded.stripe_payment_link_id;
$$;

-- Sends the link to the lead. The words are the tenant's own where it has a template.
create function brainops.deliver_payment_link(p_request public.payment_requests)
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
      'amount', brainops.payment_words((p_request).amount_minor, (p_request).currency),
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

-- A link that was switched off because its time was over makes its request expired.
create function brainops.after_payment_closure()
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

create trigger a0_resolve_lead_id
before insert on public.payment_requests
for each row
when (new.lead_id is not null)
execute function brainops.resolve_lead_id();
create trigger a2_check_payment_request
before insert on public.payment_requests
for each row
execute function brainops.check_payment_request();
create trigger a2_before_payment_update
before update on public.payment_requests
for each row
execute function brainops.before_payment_update();
create trigger d0_after_payment_update
after update on public.payment_requests
for each row
when
  (
    new.stripe_payment_link_id is distinct from old.stripe_payment_link_id
    or new.cancelled_at is distinct from old.cancelled_at
    or new.paid_at is distinct from old.paid_at
    or new.expires_at <> old.expires_at
  )
execute function brainops.after_payment_update();
create trigger d0_after_payment_closure
after update on public.payment_link_closures
for each row
when (new.status = 'completed' and old.status <> 'completed')
execute function brainops.after_payment_closure();

-- The handler's first step, in a transaction of its own before anything is asked of Stripe: fixes
-- the key, and through which account. look_first: the key may be forgotten at Stripe, so whether the
-- link is there already must be looked up.
create function brainops.begin_payment_link(
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
    raise exception 'payment request %: no such row', p_id using errcode = 'OP009', hint = 'It was deleted meanwhile.';
  end if;
  look_first := v_row.key_started_at < brainops.now() - interval '23 hours';
  same_account := v_row.key_started_at is null or v_row.key_account is not distinct from p_account;
  if same_account and v_row.stripe_payment_link_id is null and (v_row.key_started_at is null or p_new_key) then
    update public.payment_requests as r
    set
      key_started_at = brainops.now(),
      key_account = p_account,
      -- Only a key that was used can be spoiled.
      key_generation = r.key_generation + (r.key_started_at is not null)::int
    where r.id = p_id
    returning * into v_row;
  end if;
  key_generation := v_row.key_generation;
  idempotency_key := 'brainops:' || v_row.id || ':' || v_row.key_generation;
  stripe_payment_link_id := v_row.stripe_payment_link_id;
end;
$$;

comment on function brainops.begin_payment_link(uuid, uuid, boolean) is
  'Fixes the idempotency key of a request''s link and the account it is made through (null: the installation''s) before Stripe is asked. p_new_key: the key is spoiled, take the next.';

create function brainops.payment_words(p_minor bigint, p_currency text)
returns text
language sql
stable
set search_path = ''
as $$
  select
    coalesce(
      (
        select round(p_minor / 10::numeric ^ c.stripe_exponent::int, c.exponent)::text
        from brainops.currencies as c
        where c.code = p_currency
      ),
      p_minor || ' minor units of'
    ) || ' ' || upper(p_currency);
$$;

-- Books a movement of money; true where it was not booked before.
create function brainops.book_payment(
  p_known public.stripe_objects,
  p_kind text,
  p_object_id text,
  p_charge_id text,
  p_minor bigint,
  p_currency text,
  p_livemode boolean,
  p_at timestamptz
)
returns boolean
language plpgsql
set search_path = ''
as $$
begin
  insert into public.payment_ledger (tenant_id, payment_request_id, kind, object_id, charge_id, amount_minor, currency, livemode, occurred_at)
  values ((p_known).tenant_id, (p_known).payment_request_id, p_kind, p_object_id, p_charge_id, p_minor, lower(p_currency), p_livemode, p_at)
  on conflict (tenant_id, kind, object_id) do nothing;
  return found;
end;
$$;

-- Computes a request's facts from what is on record. What follows from a payment follows from the
-- change of paid_at (after_payment_update), so it happens once.
create function brainops.settle_payment_request(p_tenant_id uuid, p_id uuid)
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
  v_refunded bigint;
  v_told_refunded bigint;
  v_disputes int;
begin
  select * into v_old from public.payment_requests where tenant_id = p_tenant_id and id = p_id for update;
  select
    coalesce(sum(amount_minor) filter (where kind = 'payment' and currency = v_old.currency), 0),
    count(*) filter (where kind = 'payment'),
    min(occurred_at) filter (where kind = 'payment' and currency = v_old.currency and amount_minor = v_old.amount_minor),
    string_agg(brainops.payment_words(amount_minor, currency), ', ' order by occurred_at, object_id)
      filter (where kind = 'payment' and (currency <> v_old.currency or amount_minor <> v_old.amount_minor)),
    coalesce(-sum(amount_minor) filter (where kind in ('refund', 'refund_reversal')), 0),
    -coalesce(sum(amount_minor) filter (where kind = 'refund_reversal'), 0)
    into v_paid, v_payments, v_matching, v_others, v_refunded, v_told_refunded
    from public.payment_ledger
    where tenant_id = p_tenant_id and payment_request_id = p_id;
  select v_told_refunded + coalesce(sum(refunded_minor), 0) into v_told_refunded
    from public.stripe_objects
    where tenant_id = p_tenant_id and payment_request_id = p_id;
  select count(*) into v_disputes
    from public.payment_disputes
    where tenant_id = p_tenant_id and payment_request_id = p_id and status not in ('won', 'warning_closed', 'prevented');

  update public.payment_requests as r
  set
    paid_minor = v_paid,
    refunded_minor = greatest(v_refunded, v_told_refunded),
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

comment on function brainops.settle_payment_request(uuid, uuid) is
  'Computes what payment_status comes from anew, from ledger, disputes and charges.';

-- A paid request: the person's history says so, and the lead is won, which starts the onboarding.
create function brainops.follow_payment(p_request public.payment_requests)
returns void
language plpgsql
set search_path = ''
as $$
begin
  if (p_request).lead_id is null then
    return;
  end if;
  perform brainops.record_payment_event(p_request, 'paid', (p_request).paid_at, (p_request).id::text, '{}');
  begin
    update public.revenue_leads set stage = 'won'
    where tenant_id = (p_request).tenant_id and id = (p_request).lead_id and stage <> 'won';
  exception
    when serialization_failure or deadlock_detected or lock_not_available then
      raise; -- may pass: the event is tried again
    -- The money is there, whatever the stages say.
    when others then
      perform brainops.notify(
        (p_request).tenant_id, 'A lead that paid could not be moved to won',
        'Lead ' || (p_request).lead_id || ': ' || sqlerrm, 'payment:' || (p_request).id || ':won',
        (p_request).lead_id
      );
  end;
end;
$$;

create function brainops.record_payment_event(
  p_request public.payment_requests,
  p_event text,
  p_at timestamptz,
  p_key text,
  p_metadata jsonb
)
returns void
language plpgsql
set search_path = ''
as $$
begin
  if (p_request).lead_id is not null then
    perform brainops.record_lead_event(
      (p_request).tenant_id, (p_request).lead_id, p_event, 'payment', p_at, p_key,
      p_metadata || jsonb_build_object(
        'payment_request_id', (p_request).id, 'plan', (p_request).plan_code,
        'amount', (p_request).amount, 'currency', (p_request).currency
      )
    );
  end if;
end;
$$;

-- An id, or the object that stands in its place where it was expanded.
create function brainops.stripe_id(p_value jsonb)
returns text
language sql
immutable
set search_path = ''
as $$
  select
    nullif(
      case jsonb_typeof(p_value)
        when 'string' then p_value #>> '{}'
        when 'object' then p_value ->> 'id'
      end,
      ''
    );
$$;

-- All that an object is known by: its own id, and those of the objects around the same payment. No
-- customer: one customer pays many requests.
create function brainops.stripe_ids(p_object jsonb)
returns text[]
language sql
immutable
set search_path = ''
as $$
  select coalesce(array_agg(distinct i.id order by i.id), '{}')
  from
    unnest(
      array[
        p_object ->> 'id',
        brainops.stripe_id(p_object -> 'payment_link'),
        brainops.stripe_id(p_object -> 'payment_intent'),
        brainops.stripe_id(p_object -> 'charge'),
        brainops.stripe_id(p_object -> 'invoice'),
        brainops.stripe_id(p_object -> 'subscription'),
        brainops.stripe_id(p_object #> '{parent,subscription_details,subscription}'),
        brainops.stripe_id(p_object #> '{payment,payment_intent}'),
        brainops.stripe_id(p_object #> '{payment,charge}')
      ]
    ) as i (id)
  where length(i.id) between 1 and 255;
$$;

create function brainops.stripe_time(p_value jsonb)
returns timestamptz
language sql
immutable
set search_path = ''
as $$
  select
    case
      when jsonb_typeof(p_value) = 'number' then to_timestamp((p_value #>> '{}')::float8)
    end;
$$;

create function brainops.apply_stripe_refund(
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
  if brainops.book_payment(
    p_known, 'refund', v_id, brainops.stripe_id(p_refund -> 'charge'), -v_minor, p_refund ->> 'currency', p_livemode,
    coalesce(brainops.stripe_time(p_refund -> 'created'), p_at)
  ) then
    perform brainops.record_payment_event(
      v_request, 'refunded', coalesce(brainops.stripe_time(p_refund -> 'created'), p_at), v_id, jsonb_build_object('refund', v_id)
    );
  end if;
  -- One that failed went out and came back, in whatever order we hear of it.
  if v_failed and brainops.book_payment(
    p_known, 'refund_reversal', v_id, brainops.stripe_id(p_refund -> 'charge'), v_minor, p_refund ->> 'currency', p_livemode, p_at
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

create function brainops.apply_stripe_dispute(p_known public.stripe_objects, p_event jsonb, p_at timestamptz)
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
  v_opened timestamptz := coalesce(brainops.stripe_time(v_dispute -> 'created'), p_at);
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
    brainops.stripe_time(v_dispute #> '{evidence_details,due_by}'), v_opened, p_at, v_rank
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
    perform brainops.book_payment(
      p_known, 'dispute', v_id, brainops.stripe_id(v_dispute -> 'charge'), -v_minor, v_dispute ->> 'currency', v_livemode, v_opened
    );
  end if;
  if v_type = 'charge.dispute.funds_reinstated' then
    perform brainops.book_payment(
      p_known, 'dispute_reversal', v_id, brainops.stripe_id(v_dispute -> 'charge'), v_minor, v_dispute ->> 'currency', v_livemode, p_at
    );
  end if;
  if v_is_new then
    perform brainops.record_payment_event(v_request, 'disputed', v_opened, v_id, jsonb_build_object('dispute', v_id));
    perform brainops.notify(
      (p_known).tenant_id, 'A payment is disputed: ' || v_request.plan_name,
      'Dispute ' || v_id || ' (' || coalesce(v_dispute ->> 'reason', 'no reason given') || ') of '
        || brainops.payment_words(v_minor, lower(v_dispute ->> 'currency')) || ', payment request ' || v_request.id
        || coalesce('. Evidence is due by ' || brainops.stripe_time(v_dispute #> '{evidence_details,due_by}'), '') || '.',
      'payment:' || v_request.id || ':dispute:' || v_id, v_request.lead_id
    );
  end if;
end;
$$;

create function brainops.apply_stripe_subscription(p_known public.stripe_objects, p_event jsonb, p_at timestamptz)
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
    brainops.stripe_time(coalesce(o.sub #> '{items,data,0,current_period_start}', o.sub -> 'current_period_start')),
    brainops.stripe_time(coalesce(o.sub #> '{items,data,0,current_period_end}', o.sub -> 'current_period_end')),
    coalesce((o.sub ->> 'cancel_at_period_end')::boolean, false),
    brainops.stripe_time(o.sub -> 'canceled_at'),
    brainops.stripe_time(o.sub -> 'ended_at'),
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

-- What one event means, for an object that is known. Returns null, or why nothing follows from it.
create function brainops.apply_known_stripe_event(p_event jsonb, p_known public.stripe_objects)
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
      set refunded_minor = greatest(refunded_minor, (v_object ->> 'amount_refunded')::bigint)
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

-- One Stripe event, of the tenant's own account or (p_tenant_id null) the installation's. Returns
-- null, or why it has no effect.
create function brainops.apply_stripe_event(p_event jsonb, p_tenant_id uuid)
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
  v_account text := brainops.stripe_account(p_tenant_id);
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
  if v_type like 'checkout.session.%' and brainops.stripe_id(v_object -> 'payment_link') is null then
    return 'it is about no payment request of ours';
  end if;

  perform brainops.lock_stripe_account(v_account);
  v_ids := brainops.stripe_ids(v_object);
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

  v_new := brainops.know_stripe_objects(v_known, v_ids);
  v_reason := brainops.apply_known_stripe_event(p_event, v_known);
  perform brainops.wake_stripe_events(v_account, p_tenant_id, v_new);
  return v_reason;
end;
$$;

comment on function brainops.apply_stripe_event(jsonb, uuid) is
  'Applies one verified Stripe event, whatever the order and however often; p_tenant_id: whose own account sent it, null for the installation''s. Returns null, or why nothing follows from it.';

-- Applies the events that waited for these ids; each stands alone.
create function brainops.wake_stripe_events(p_account text, p_tenant_id uuid, p_ids text[])
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
    update public.webhook_events
    set
      status = case when v_error is not null then 'failed' when v_reason is null then 'completed' else 'skipped' end,
      skip_reason = case when v_error is null then v_reason end,
      last_error = v_error,
      processed_at = brainops.now()
    where id = v_row.id;
  end loop;
end;
$$;

create view public.payments_by_lead
with (security_invoker = true)
as
  select
    r.tenant_id,
    r.lead_id,
    l.currency,
    count(distinct r.id) as requests,
    brainops.major_units(
      coalesce(sum(l.amount_minor) filter (where l.kind = 'payment'), 0)::bigint,
      l.currency
    ) as paid,
    brainops.major_units(
      coalesce(-sum(l.amount_minor) filter (where l.kind like 'refund%'), 0)::bigint,
      l.currency
    ) as refunded,
    brainops.major_units(
      coalesce(-sum(l.amount_minor) filter (where l.kind like 'dispute%'), 0)::bigint,
      l.currency
    ) as disputed,
    brainops.major_units(sum(l.amount_minor)::bigint, l.currency) as net,
    max(l.occurred_at) as last_movement_at
  from
    public.payment_ledger as l
    inner join public.payment_requests as r on r.tenant_id = l.tenant_id and r.id = l.payment_request_id
  group by r.tenant_id, r.lead_id, l.currency;

comment on view public.payments_by_lead is
  'What each lead paid, by currency, in its units: from the ledger, test mode included. lead_id null: nobody we know.';

create view public.revenue_summary
with (security_invoker = true)
as
  select
    l.tenant_id,
    l.livemode,
    l.currency,
    date_trunc('month', l.occurred_at at time zone 'UTC')::date as month,
    count(*) filter (where l.kind = 'payment') as payments,
    brainops.major_units(
      coalesce(sum(l.amount_minor) filter (where l.kind = 'payment'), 0)::bigint,
      l.currency
    ) as paid,
    brainops.major_units(
      coalesce(-sum(l.amount_minor) filter (where l.kind like 'refund%'), 0)::bigint,
      l.currency
    ) as refunded,
    brainops.major_units(
      coalesce(-sum(l.amount_minor) filter (where l.kind like 'dispute%'), 0)::bigint,
      l.currency
    ) as disputed,
    brainops.major_units(sum(l.amount_minor)::bigint, l.currency) as net
  from public.payment_ledger as l
  group by 1, 2, 3, 4;

comment on view public.revenue_summary is
  'The ledger added up by month (UTC) and currency, in its units; livemode false is Stripe''s test mode.';

grant select
on public.payments_by_lead, public.revenue_summary
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

do $$
declare
  v_function regprocedure;
begin
  foreach v_function in array array[
    'brainops.check_payment_request()',
    'brainops.after_payment_update()',
    'brainops.after_payment_closure()'
  ]::regprocedure[]
  loop
    execute format('alter function %s owner to brainops_system', v_function);
  end loop;

  foreach v_function in array array[
    'brainops.check_plan()',
    'brainops.fill_plan_tenant()',
    'brainops.check_payment_request()',
    'brainops.before_payment_update()',
    'brainops.after_payment_update()',
    'brainops.after_payment_closure()',
    'brainops.payment_state(public.payment_requests)',
    'brainops.plan_payment_closure(public.payment_requests)',
    'brainops.deliver_payment_link(public.payment_requests)',
    'brainops.minor_units(numeric, text)',
    'brainops.major_units(bigint, text)',
    'brainops.gate_payment_request(uuid[])',
    'brainops.gate_payment_closure(uuid[])',
    'brainops.begin_payment_link(uuid, uuid, boolean)',
    'brainops.stripe_account(uuid)',
    'brainops.lock_stripe_account(text)',
    'brainops.know_stripe_objects(public.stripe_objects, text[])',
    'brainops.payment_words(bigint, text)',
    'brainops.book_payment(public.stripe_objects, text, text, text, bigint, text, boolean, timestamptz)',
    'brainops.settle_payment_request(uuid, uuid)',
    'brainops.follow_payment(public.payment_requests)',
    'brainops.record_payment_event(public.payment_requests, text, timestamptz, text, jsonb)',
    'brainops.stripe_id(jsonb)',
    'brainops.stripe_ids(jsonb)',
    'brainops.stripe_time(jsonb)',
    'brainops.apply_stripe_refund(public.stripe_objects, jsonb, boolean, timestamptz)',
    'brainops.apply_stripe_dispute(public.stripe_objects, jsonb, timestamptz)',
    'brainops.apply_stripe_subscription(public.stripe_objects, jsonb, timestamptz)',
    'brainops.apply_known_stripe_event(jsonb, public.stripe_objects)',
    'brainops.apply_stripe_event(jsonb, uuid)',
    'brainops.wake_stripe_events(text, uuid, text[])'
  ]::regprocedure[]
  loop
    execute format('revoke execute on function %s from public', v_function);
    execute format('grant execute on function %s to brainops_system', v_function);
  end loop;
end;
$$;

comment on function brainops.payment_state(public.payment_requests) is
  'What payment_status is, by the facts of the row.';

-- The functions that run with the rights of whoever writes the row.
grant execute
on function brainops.payment_state(public.payment_requests),
brainops.minor_units(numeric, text),
brainops.major_units(bigint, text)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin;
grant execute
on function brainops.gate_payment_request(uuid[]),
brainops.gate_payment_closure(uuid[]),
brainops.begin_payment_link(uuid, uuid, boolean)
to brainops_worker;
