drop view if exists brainops.breakers;

create view brainops.breakers
with (security_invoker = true)
as
  select
    b.account,
    case
      when b.opened_at is null then 'closed'
      when b.probe_expires_at > brainops.now() then 'half_open'
      else 'open'
    end as state,
    b.failures,
    b.opened_at,
    b.retry_at,
    b.last_error,
    (select t.slug from public.tenants as t where t.id = b.opened_by) as opened_by,
    array(
      select coalesce(t.slug, f.tenant_id::text)
      from
        brainops.breaker_tenants as f
        left join public.tenants as t on t.id = f.tenant_id
      where f.account = b.account and f.failing_since is not null
      order by f.failing_since
    ) as failing_tenants
  from brainops.circuit_breakers as b;

comment on view brainops.breakers is
  'The circuit breakers of provider accounts that have ever failed. account: sendgrid is the platform''s account, sendgrid:<tenant id> a tenant''s own. state: closed (rows go), open (no row before retry_at), half_open (one row is trying). failures: consecutive failures. opened_by: the only tenant whose failures keep the platform''s account open, for which alone retry_at applies; null: it applies to all. failing_tenants: tenants whose last call through the platform''s account failed, the longest first.';

grant select on brainops.breakers to brainops_admin, brainops_system;
