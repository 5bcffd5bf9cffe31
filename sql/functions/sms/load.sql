-- What a worker reads in addition to claimed texts, and to texts whose outcome was lost.
--
-- Compatibility: a contract between workers and database; functions/email/load.sql has its rules, and the reasons for the
-- settings.
create or replace function brainops_internal.load_sms(p_ids uuid[])
returns table (
  id uuid,
  tenant_id uuid,
  attempts int,
  max_attempts int,
  lease uuid,
  body text,
  metadata jsonb,
  address text,
  lead jsonb,
  tenant jsonb,
  own_account jsonb,
  endpoint_token text,
  sender text,
  must_tell boolean
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
      e.id,
      e.tenant_id,
      e.attempts,
      e.max_attempts,
      e.lease,
      e.body,
      e.metadata,
      a.address,
      to_jsonb(l) - 'tenant_id',
      jsonb_build_object(
        'name', t.name, 'slug', t.slug, 'settings', t.settings, 'country', brainops_internal.tenant_country(t.settings)
      ),
      o.sealed,
      o.endpoint_token,
      s.sender,
      brainops_internal.sms_needs_opt_out_notice(e, a.address, case when o.id is null then s.sender else 'own' end)
    from public.ai_sms_queue as e
    inner join public.tenants as t on t.id = e.tenant_id
    left join public.revenue_leads as l on l.tenant_id = e.tenant_id and l.id = e.lead_id
    cross join lateral brainops_internal.sms_address(e) as a (address)
    left join lateral brainops_internal.tenant_account(e.tenant_id, 'twilio') as o on true
    cross join lateral (
      select case when o.id is null then brainops_internal.sms_sender(e.tenant_id, a.address) end
    ) as s (sender)
    where e.id = any (p_ids) and e.lease is not null;
end;
$$;

comment on function brainops_internal.load_sms(uuid[]) is
  'The claimed texts among p_ids, with what they need to be sent: the number, the lead, the tenant, its own Twilio account (null: the platform''s account) and the number to send from.';

revoke execute on function brainops_internal.load_sms(uuid[]) from public;
grant execute on function brainops_internal.load_sms(uuid[]) to brainops_worker;

-- For the task that reads Twilio's lists: it sees the texts of every tenant, so it runs as a member of brainops_system.
create or replace function brainops_internal.load_unconfirmed_sms(p_limit int)
returns table (account_sid text, number text, since timestamptz, own_accounts jsonb)
language plpgsql
set search_path = ''
as $$
#variable_conflict use_column
begin
  return query
    select
      u.account_sid,
      u.number,
      u.since,
      coalesce(
        (
          select jsonb_agg(o.sealed)
          from unnest(u.tenant_ids) as i (tenant_id)
          cross join lateral brainops_internal.tenant_account(i.tenant_id, 'twilio') as o
        ),
        '[]'
      )
    from brainops_internal.unconfirmed_sms(p_limit) as u;
end;
$$;

comment on function brainops_internal.load_unconfirmed_sms(int) is
  'The lists of brainops_internal.unconfirmed_sms, each with the current Twilio accounts of its tenants; [] for none.';

revoke execute on function brainops_internal.load_unconfirmed_sms(int) from public;
grant execute on function brainops_internal.load_unconfirmed_sms(int) to brainops_system;
