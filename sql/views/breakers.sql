drop view if exists brainops.breakers;

create view brainops.breakers
with (security_invoker = true)
as
  select
    account,
    case
      when opened_at is null then 'closed'
      when probe_expires_at > brainops.now() then 'half_open'
      else 'open'
    end as state,
    failures,
    opened_at,
    retry_at,
    last_error
  from brainops.circuit_breakers;

comment on view brainops.breakers is
  'The circuit breakers of provider accounts that have ever failed. account: sendgrid is the platform''s account, sendgrid:<tenant id> a tenant''s own. state: closed (rows go), open (no row before retry_at), half_open (one row is trying). failures: consecutive failures.';

grant select on brainops.breakers to brainops_admin, brainops_system;
