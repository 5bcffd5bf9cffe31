-- What a worker reads in addition to claimed notifications of tenants.
--
-- Compatibility: a contract between workers and database; functions/email/load.sql has its rules, and the reasons for the
-- settings.
create or replace function brainops_internal.load_tenant_notifications(p_ids uuid[])
returns table (
  id uuid,
  tenant_id uuid,
  attempts int,
  max_attempts int,
  subject text,
  body text,
  notify_email text,
  credential jsonb
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
      n.id,
      n.tenant_id,
      n.attempts,
      n.max_attempts,
      n.subject,
      n.body,
      nullif(btrim(t.settings ->> 'notify_email'), ''),
      (select o.sealed from brainops_internal.tenant_account(n.tenant_id, 'slack') as o)
    from public.tenant_notifications as n
    inner join public.tenants as t on t.id = n.tenant_id
    where n.id = any (p_ids) and n.lease is not null;
end;
$$;

comment on function brainops_internal.load_tenant_notifications(uuid[]) is
  'The claimed notifications among p_ids, with the tenant''s Slack credential and settings.notify_email; null for none.';

revoke execute on function brainops_internal.load_tenant_notifications(uuid[]) from public;
grant execute on function brainops_internal.load_tenant_notifications(uuid[]) to brainops_worker;
