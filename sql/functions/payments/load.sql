-- What a worker reads in addition to claimed payment requests and closures of payment links.
--
-- Compatibility: a contract between workers and database; functions/email/load.sql has its rules, and the reasons for the
-- settings.
create or replace function brainops_internal.load_payment_requests(p_ids uuid[])
returns table (
  id uuid,
  tenant_id uuid,
  attempts int,
  max_attempts int,
  plan_name text,
  amount_minor text,
  currency text,
  "interval" text,
  success_url text,
  own_account jsonb,
  own_account_id uuid
)
language plpgsql
stable
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
#variable_conflict use_column
begin
  return query
    select
      r.id,
      r.tenant_id,
      r.attempts,
      r.max_attempts,
      r.plan_name,
      r.amount_minor::text,
      r.currency,
      r.interval,
      r.success_url,
      o.sealed,
      o.id
    from public.payment_requests as r
    left join lateral brainops_internal.tenant_account(r.tenant_id, 'stripe') as o on true
    where r.id = any (p_ids) and r.lease is not null;
end;
$$;

comment on function brainops_internal.load_payment_requests(uuid[]) is
  'The claimed payment requests among p_ids, with the tenant''s own Stripe account (null: the platform''s account). amount_minor is a bigint as text, which JavaScript reads exactly.';

revoke execute on function brainops_internal.load_payment_requests(uuid[]) from public;
grant execute on function brainops_internal.load_payment_requests(uuid[]) to brainops_worker;

create or replace function brainops_internal.load_payment_link_closures(p_ids uuid[])
returns table (
  id uuid,
  tenant_id uuid,
  attempts int,
  max_attempts int,
  payment_request_id uuid,
  key_generation int,
  stripe_payment_link_id text,
  made_through uuid,
  made_through_sealed jsonb,
  own_account jsonb,
  own_account_id uuid
)
language plpgsql
stable
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
#variable_conflict use_column
begin
  return query
    select
      l.id,
      l.tenant_id,
      l.attempts,
      l.max_attempts,
      l.payment_request_id,
      l.key_generation,
      l.stripe_payment_link_id,
      l.account,
      -- Active or not.
      (
        select brainops_internal.sealed_credential(c, k)
        from public.provider_credentials as c
        inner join public.tenant_keys as k on k.tenant_id = c.tenant_id
        where c.id = l.account and c.tenant_id = l.tenant_id
      ),
      o.sealed,
      o.id
    from public.payment_link_closures as l
    left join lateral brainops_internal.tenant_account(l.tenant_id, 'stripe') as o on true
    where l.id = any (p_ids) and l.lease is not null;
end;
$$;

comment on function brainops_internal.load_payment_link_closures(uuid[]) is
  'The claimed closures among p_ids. made_through: the id of the credential that the link was created with (null: the platform''s account). made_through_sealed: that credential, active or not; null if it was erased. own_account: the tenant''s current credential.';

revoke execute on function brainops_internal.load_payment_link_closures(uuid[]) from public;
grant execute on function brainops_internal.load_payment_link_closures(uuid[]) to brainops_worker;
