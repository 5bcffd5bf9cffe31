-- What each lead paid.
drop view if exists public.payments_by_lead;

create view public.payments_by_lead
with (security_invoker = true)
as
  select
    r.tenant_id,
    r.lead_id,
    l.currency,
    count(distinct r.id) as requests,
    brainops_internal.major_units(
      coalesce(sum(l.amount_minor) filter (where l.kind = 'payment'), 0)::bigint,
      l.currency
    ) as paid,
    brainops_internal.major_units(
      coalesce(-sum(l.amount_minor) filter (where l.kind like 'refund%'), 0)::bigint,
      l.currency
    ) as refunded,
    brainops_internal.major_units(
      coalesce(-sum(l.amount_minor) filter (where l.kind like 'dispute%'), 0)::bigint,
      l.currency
    ) as disputed,
    brainops_internal.major_units(sum(l.amount_minor)::bigint, l.currency) as net,
    max(l.occurred_at) as last_movement_at
  from
    public.payment_ledger as l
    inner join public.payment_requests as r on r.tenant_id = l.tenant_id and r.id = l.payment_request_id
  group by r.tenant_id, r.lead_id, l.currency;

comment on view public.payments_by_lead is
  'What each lead paid, by currency and in units of the currency, from the ledger, test mode included. refunded and disputed are positive; net is paid less both. lead_id null: requests without a known lead.';

grant select
on public.payments_by_lead
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;
