-- The ledger by month and currency.
drop view if exists public.revenue_summary;

create view public.revenue_summary
with (security_invoker = true)
as
  select
    l.tenant_id,
    l.livemode,
    l.currency,
    date_trunc('month', l.occurred_at at time zone 'UTC')::date as month,
    count(*) filter (where l.kind = 'payment') as payments,
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
    brainops_internal.major_units(sum(l.amount_minor)::bigint, l.currency) as net
  from public.payment_ledger as l
  group by 1, 2, 3, 4;

comment on view public.revenue_summary is
  'The ledger added up by month (UTC), currency and livemode, in units of the currency. refunded and disputed are positive; net is paid less both. livemode false: Stripe''s test mode.';

grant select
on public.revenue_summary
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;
