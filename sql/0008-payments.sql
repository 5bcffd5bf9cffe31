-- Payments: prices (plans), requests for money (payment_requests), movements of money (payment_ledger), and what Stripe
-- reports about them.
--
-- A payment request has two states: `status` is the job that creates the link, `payment_status` is the money.
-- payment_status is always computed from facts, and facts only accumulate (what a client writes becomes a fact). So
-- events may arrive in any order and any number of times.
--
--   open ── a delayed payment failed ──▶ payment_failed ──────┐
--   open ── the link was deactivated ──▶ cancelled | expired ─┴─ 'open' (or status 'pending') is written: a new link ──▶ open
--   any of these ── a payment of the amount requested ──▶ paid ──▶ partially_refunded ──▶ refunded
--                                                          └─────▶ disputed (while a dispute is open or lost)
--
-- Which request an event is about is decided by ids that we stored ourselves (stripe_objects): first the id of the link
-- that we created, then the ids that a known object names. Never by metadata, which others can write, and never across
-- accounts: an event that a tenant's own Stripe account signed can only concern what was created through that account.
--
-- Lock order: payment request, then stripe_objects and the ledger, then closure, then lead.
--
-- Compatibility: rolling; creates tables that no older program reads.
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
  'How many decimals a currency has: by ISO 4217, and in what Stripe takes and reports, which amount_minor counts in.';
comment on column brainops.currencies.code is 'ISO 4217, in lower case.';
comment on column brainops.currencies.exponent is 'Decimals by ISO 4217.';
comment on column brainops.currencies.stripe_exponent is
  'An amount times 10 to this power is Stripe''s amount. Differs from ISO 4217 for isk and ugx (0 by ISO, sent as if 2) and mga (2 by ISO, sent as 0).';
comment on column brainops.currencies.stripe_multiple is
  'Stripe accepts multiples of this only: 100 if the currency has no decimals but is sent with two, 10 if it has three, else 1.';

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
  'The only source of prices. A payment request takes amount and currency from the plan that it names; an individual price is a plan of its own, for one lead if lead_id is set.';
comment on column public.plans.tenant_id is 'Null: for every tenant; only admins write those.';
comment on column public.plans.code is
  'Short name for clients, in lower case. A tenant''s own plan takes precedence over one for every tenant with the same code.';
comment on column public.plans.name is 'What the payer reads.';
comment on column public.plans.amount is
  'In units of the currency, such as 12.50. A change applies to later requests only.';
comment on column public.plans.amount_minor is 'amount in Stripe''s units (brainops.currencies); computed.';
comment on column public.plans.interval is 'one_time, or how often a subscription renews: month, year.';
comment on column public.plans.lead_id is
  'Null: for every lead. Otherwise only requests with this lead_id can name the plan.';
comment on column public.plans.active is 'False: no request can name the plan.';

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
  -- How the link is created at most once.
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
      on delete set null (lead_id),
  constraint payment_requests_product_service_at_most_1000_bytes check (octet_length(product_service) <= 1000),
  constraint payment_requests_plan_code_at_most_300_bytes check (octet_length(plan_code) <= 300),
  constraint payment_requests_currency_at_most_30_bytes check (octet_length(currency) <= 30),
  constraint payment_requests_success_url_at_most_2048_bytes check (octet_length(success_url) <= 2048),
  constraint payment_requests_metadata_at_most_65536_bytes check (pg_column_size(metadata) <= 65536)
);

select brainops_internal.add_job_columns('public.payment_requests', p_max_attempts => 12);

create index payment_requests_lead_id on public.payment_requests (tenant_id, lead_id) where lead_id is not null;
create index payment_requests_payment_status on public.payment_requests (tenant_id, payment_status);

comment on table public.payment_requests is
  'Insert a row: a Stripe payment link for one payment is created, and payment_url filled in. status tracks creating the link, payment_status the money.';
comment on column public.payment_requests.lead_id is
  'Who is asked to pay; moves to won with the payment. Null: no known lead, or a person who was forgotten.';
comment on column public.payment_requests.product_service is
  'A plan''s code or name, if neither plan_id nor plan_code is given; otherwise any text. Filled in with the plan''s name.';
comment on column public.payment_requests.plan_id is
  'The plan that set the price. No foreign key: the request keeps what it took from the plan, and the plan may be deleted.';
comment on column public.payment_requests.plan_code is
  'On insert, the code of the plan to use; filled in from the plan.';
comment on column public.payment_requests.plan_name is 'What the payer reads; from the plan.';
comment on column public.payment_requests.amount is
  'The plan''s, in units of the currency. If given, it must be the plan''s (OP026).';
comment on column public.payment_requests.currency is
  'The plan''s, in lower case. If given, it must be the plan''s (OP026).';
comment on column public.payment_requests.amount_minor is 'amount in Stripe''s units: cents for usd, yen for jpy.';
comment on column public.payment_requests.interval is 'The plan''s: one_time, month or year.';
comment on column public.payment_requests.payment_status is
  'open, paid, refunded, partially_refunded, disputed, expired, cancelled or payment_failed; computed. Clients may write cancelled (closes the link), open (a new link, after cancelled, expired or payment_failed) and paid (accepts a payment that attention asks about).';
comment on column public.payment_requests.expires_at is
  'When the link is closed. By default tenants.settings.payment_link_days from now, else 30 days.';
comment on column public.payment_requests.success_url is
  'Where the payer is sent afterwards: tenants.settings.payment_success_url as of the insert; null: Stripe''s own page.';
comment on column public.payment_requests.deliver_by is
  'email or sms: the link is sent to the lead once it exists, as a row of ai_email_queue or ai_sms_queue, with the tenant''s template payment_link if it has one. Null: you send payment_url yourself.';
comment on column public.payment_requests.payment_url is 'The link; null until it exists.';
comment on column public.payment_requests.stripe_payment_link_id is 'Stripe''s id of the link; null until it exists.';
comment on column public.payment_requests.attention is
  'What a person should look at: another amount or currency than requested, several payments, a payment although cancelled or expired. Null: nothing.';
comment on column public.payment_requests.paid_at is
  'When the first payment of exactly this amount and currency was made, or a person accepted another one; null: not paid.';
comment on column public.payment_requests.paid_minor is
  'Sum of the ledger''s payments in the request''s currency. amount_minor if that sum is 0 and a person accepted a payment in another currency.';
comment on column public.payment_requests.refunded_minor is
  'What was refunded, in the request''s currency: by the ledger or by Stripe''s totals of the charges, whichever is more. A refund in another currency is prorated by the amount charged in it.';
comment on column public.payment_requests.disputes_open is 'Number of disputes that are open or lost.';
comment on column public.payment_requests.cancelled_at is
  'When the request was cancelled; null: not, or a new link was requested since.';
comment on column public.payment_requests.expired_at is
  'When the link was closed because its time was over; null: not, or a new link was requested since.';
comment on column public.payment_requests.failed_generation is
  'The newest link whose delayed payment failed, by key_generation; -1: none.';
comment on column public.payment_requests.link_inactive is
  'True if the link was deactivated at Stripe, by us or by others, without having been used.';
comment on column public.payment_requests.link_told_at is
  'Time of the event that link_inactive is from; older events are ignored. Null: no event yet.';
comment on column public.payment_requests.key_generation is
  'Number of the link, from 0; part of the idempotency key. Goes up for a new link, and when Stripe has stored an error under the key or forgotten it.';
comment on column public.payment_requests.key_started_at is
  'When the key was first used; Stripe forgets it after 24 hours. Null: Stripe was not asked yet.';
comment on column public.payment_requests.key_account is
  'The tenant''s own credential that the link is created through; null: the platform''s account.';
comment on column public.payment_requests.livemode is 'False: created in Stripe''s test mode. Null: no link yet.';

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

select brainops_internal.add_job_columns('public.payment_link_closures', p_max_attempts => 20);

create unique index payment_link_closures_once on public.payment_link_closures (
  tenant_id,
  payment_request_id,
  key_generation
);

comment on table public.payment_link_closures is
  'One row for each payment link: when it is due, the link is deactivated. Created with the link, for its expires_at; moved to now when the request is cancelled, or paid through any of its links.';
comment on column public.payment_link_closures.key_generation is 'Which of the request''s links.';
comment on column public.payment_link_closures.stripe_payment_link_id is
  'Null: it is unknown whether the link exists, because creating it was interrupted; the task looks for it at Stripe.';
comment on column public.payment_link_closures.account is
  'The tenant''s own credential that the link was created through; null: the platform''s account.';
comment on column public.payment_link_closures.reason is 'Why the link is closed: expired, cancelled or paid.';

-- Never edited: a correction is another row.
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
  'Every movement of money, once, append only: payments in, refunds and disputes out, and money that returned from those two.';
comment on column public.payment_ledger.kind is
  'payment, refund, refund_reversal (a refund that failed), dispute (money withdrawn) or dispute_reversal (money reinstated).';
comment on column public.payment_ledger.object_id is
  'Stripe''s id of what moved the money: payment intent (or checkout session), invoice (subscriptions), refund or dispute.';
comment on column public.payment_ledger.charge_id is 'The charge that a refund or dispute is about; null for payments.';
comment on column public.payment_ledger.amount_minor is
  'In Stripe''s units of the currency; negative for money that goes out.';
comment on column public.payment_ledger.livemode is 'False: Stripe''s test mode, not real money.';
comment on column public.payment_ledger.occurred_at is 'When the money moved, by Stripe''s clock.';
comment on column public.payment_ledger.recorded_at is 'When the row was written.';

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
  -- Which event the row is from: an older one changes nothing.
  told_at timestamptz not null,
  told_rank int not null,
  constraint payment_disputes_once unique (tenant_id, stripe_dispute_id),
  constraint payment_disputes_request
    foreign key (tenant_id, payment_request_id) references public.payment_requests (tenant_id, id)
);

create index payment_disputes_request on public.payment_disputes (tenant_id, payment_request_id);

comment on table public.payment_disputes is
  'Disputes: payments that the payer''s bank took back or inquires about. Each row has the last state that Stripe reported.';
comment on column public.payment_disputes.status is
  'Stripe''s: warning_needs_response, warning_under_review, warning_closed, needs_response, under_review, won, lost, prevented.';
comment on column public.payment_disputes.reason is 'Stripe''s, such as fraudulent; null: not given.';
comment on column public.payment_disputes.amount_minor is 'In Stripe''s units of the currency.';
comment on column public.payment_disputes.evidence_due_by is 'Until when Stripe accepts evidence; null: not given.';
comment on column public.payment_disputes.told_at is 'Time of the event that the row is from.';
comment on column public.payment_disputes.told_rank is
  'Orders events of the same second: the later stage of a dispute wins.';

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
  'Subscriptions that began with a payment request, in the last state that Stripe reported. Their payments are in payment_ledger.';
comment on column public.subscriptions.status is
  'Stripe''s: incomplete, incomplete_expired, trialing, active, past_due, canceled, unpaid, paused.';
comment on column public.subscriptions.livemode is 'False: Stripe''s test mode.';
comment on column public.subscriptions.told_at is
  'Time of the event that the row is from. Stripe''s clock has seconds: told_rank (created, updated, deleted, then the later period and status) and told_by order events of the same second.';
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
  currency text,
  charged_minor bigint,
  constraint stripe_objects_once unique (tenant_id, object_id),
  constraint stripe_objects_request
    foreign key (tenant_id, payment_request_id) references public.payment_requests (tenant_id, id)
      on delete cascade
);

create index stripe_objects_object_id on public.stripe_objects (object_id);
create index stripe_objects_request on public.stripe_objects (tenant_id, payment_request_id);

comment on table public.stripe_objects is
  'Which Stripe object (link, session, intent, charge, invoice, subscription, refund, dispute) belongs to which payment request. Decides which request an event is about.';
comment on column public.stripe_objects.own_account is
  'True: the object is in the tenant''s own Stripe account, and only events from there may concern it. False: in the platform''s account.';
comment on column public.stripe_objects.key_generation is
  'The number of the request''s link through which the object was created (key_generation).';
comment on column public.stripe_objects.refunded_minor is
  'For a charge, the largest refunded total that Stripe reported, in currency; 0 for other objects.';
comment on column public.stripe_objects.charged_minor is
  'The amount that the payer was charged, in currency. Set for charges that were refunded, and for payments that Stripe converted (the ledger has these in the request''s currency); else null.';
comment on column public.stripe_objects.currency is
  'The currency of charged_minor and refunded_minor; null for other objects.';

create table brainops.waiting_stripe_events (
  account text not null,
  object_id text not null,
  event_id text not null,
  since timestamptz not null default now(),
  primary key (account, object_id, event_id)
);

create index waiting_stripe_events_since on brainops.waiting_stripe_events (since);

comment on table brainops.waiting_stripe_events is
  'Stripe events whose object is not known yet (a refund before its payment), by the ids that would make it known. Applied when one of them becomes known, deleted after 30 days. The events are in webhook_events.';
comment on column brainops.waiting_stripe_events.account is
  'The tenant''s id if its own account sent the event; platform if the platform''s account did.';
comment on column brainops.waiting_stripe_events.event_id is 'Stripe''s id of the event.';
