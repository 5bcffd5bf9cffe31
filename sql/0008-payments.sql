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

select brainops_internal.add_job_columns('public.payment_requests', p_max_attempts => 12);

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
comment on column public.payment_requests.paid_minor is
  'Sum of the ledger''s payments in the request''s currency. Where there are none, and a person accepted one in another currency: what was asked.';
comment on column public.payment_requests.refunded_minor is
  'What went back, as the ledger has it or as Stripe''s total of the charge says, whichever is more. In the request''s currency: what went back in another one counts as its share of what was charged in that.';
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
  'One row for each payment link: when it is due, the link is switched off. Made with the link, for its expires_at; moved to now when the request is cancelled, or paid by whichever of its links.';
comment on column public.payment_link_closures.key_generation is 'Which of the request''s links.';
comment on column public.payment_link_closures.stripe_payment_link_id is
  'Null: nobody knows whether there is one (its making was cut off); it is looked for.';
comment on column public.payment_link_closures.account is
  'The tenant''s own credential that the link was made through; null for the installation''s account.';

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
  'Which of Stripe''s objects (link, session, intent, charge, invoice, subscription, refund, dispute) belongs to which payment request: what tells whose an event is.';
comment on column public.stripe_objects.own_account is
  'Whether it lives in the tenant''s own Stripe account: only events from there may concern it.';
comment on column public.stripe_objects.refunded_minor is
  'Of a charge: the most that Stripe said was refunded in all; 0 for anything else.';
comment on column public.stripe_objects.charged_minor is
  'What the payer was charged, in currency: of a charge that was refunded, and of a payment that Stripe converted (the ledger has it in the request''s currency). Null for anything else.';
comment on column public.stripe_objects.currency is 'That of charged_minor and refunded_minor.';

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
