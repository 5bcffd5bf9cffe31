-- What a worker reads in addition to claimed mails: the address, the lead, the tenant and its SendGrid account, and the
-- token of the unsubscribe link.
--
-- Compatibility: these functions are a contract between workers and database. A worker calls the signature of its own
-- release until it restarts, and reads columns by name. So keep the signature, and every column with its name and type.
-- To add a column, drop the function in functions/retired.sql; this file creates it again in the same transaction. No
-- column has a table's row type, so a new column of a table does not change the result of a prepared call.
--
-- They run as brainops_worker in the tenant's transaction and with the caller's rights, so row level security leaves
-- only the tenant's rows. They return only rows with a lease, because the gate may have held back some of p_ids.
--
-- In PL/pgSQL, which caches plans; up to Postgres 17, a function in SQL that is not inlined is planned at each call.
-- plan_cache_mode: a generic plan expects ten ids, so for a single id Postgres would plan the query again at each call,
-- which takes longer than the query. enable_seqscan: a plan that is made while the tables are small is used until the
-- next analyze.

-- Not stable, because it creates tokens. Unsubscribe tokens are collected in one object for each tenant: the planner
-- expects one mail, and would search all tokens for each of them.
create or replace function brainops_internal.load_emails(p_ids uuid[])
returns table (
  id uuid,
  tenant_id uuid,
  attempts int,
  max_attempts int,
  subject text,
  body text,
  metadata jsonb,
  address text,
  lead jsonb,
  tenant jsonb,
  credential jsonb,
  unsubscribe_token text
)
language plpgsql
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
#variable_conflict use_column
begin
  return query
    with
      mails as materialized (
        select e.*, a.address
        from public.ai_email_queue as e
        cross join lateral brainops_internal.email_address(e.tenant_id, e.recipient) as a
        where e.id = any (p_ids) and e.lease is not null and e.broadcast_id is null
      ),
      links as materialized (
        select m.tenant_id, (
          select jsonb_object_agg(t.address_key, t.token)
          from brainops_internal.unsubscribe_tokens(m.tenant_id, m.addresses) as t
        ) as tokens
        from (select tenant_id, array_agg(address) as addresses from mails where is_marketing group by tenant_id) as m
      )
    select
      e.id,
      e.tenant_id,
      e.attempts,
      e.max_attempts,
      e.subject,
      e.body,
      case
        when e.metadata ->> 'type' = 'opt_in' then e.metadata || jsonb_strip_nulls(
          jsonb_build_object('confirm_url', brainops_internal.opt_in_link(e.tenant_id, e.id, e.address))
        )
        else e.metadata
      end,
      e.address,
      to_jsonb(l) - 'tenant_id',
      jsonb_build_object('name', t.name, 'slug', t.slug, 'settings', t.settings),
      (select o.sealed from brainops_internal.tenant_account(e.tenant_id, 'sendgrid') as o),
      case when e.is_marketing then k.tokens ->> lower(btrim(e.address)) end
    from mails as e
    inner join public.tenants as t on t.id = e.tenant_id
    left join public.revenue_leads as l on l.tenant_id = e.tenant_id and l.id = e.lead_id
    left join links as k on k.tenant_id = e.tenant_id;
end;
$$;

comment on function brainops_internal.load_emails(uuid[]) is
  'The claimed mails among p_ids that belong to no broadcast, with what they need to be sent; creates missing unsubscribe tokens of marketing mails, and the link of a mail that asks for opt-in.';

revoke execute on function brainops_internal.load_emails(uuid[]) from public;
grant execute on function brainops_internal.load_emails(uuid[]) to brainops_worker;

-- For a thousand rows at once, so everything is read once for all rows or by an index, and a lead only if the row has
-- one. Not stable, because it creates unsubscribe tokens.
create or replace function brainops_internal.load_recipients(p_ids uuid[])
returns table (
  id uuid,
  tenant_id uuid,
  attempts int,
  max_attempts int,
  broadcast_id uuid,
  metadata jsonb,
  address text,
  lead jsonb,
  unsubscribe_token text
)
language plpgsql
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
#variable_conflict use_column
begin
  return query
    with
      recipients as materialized (
        select e.id, e.tenant_id, e.attempts, e.max_attempts, e.broadcast_id, e.metadata, e.lead_id, a.address
        from public.ai_email_queue as e
        cross join lateral brainops_internal.email_address(e.tenant_id, e.recipient) as a
        where e.id = any (p_ids) and e.lease is not null and e.broadcast_id is not null
      ),
      links as materialized (
        select r.tenant_id, t.address_key, t.token
        from (select tenant_id, array_agg(address) as addresses from recipients group by tenant_id) as r
        cross join lateral brainops_internal.unsubscribe_tokens(r.tenant_id, r.addresses) as t
      )
    select
      r.id,
      r.tenant_id,
      r.attempts,
      r.max_attempts,
      r.broadcast_id,
      r.metadata,
      r.address,
      case when r.lead_id is not null then (
        select to_jsonb(l) - 'tenant_id' from public.revenue_leads as l
        where l.tenant_id = r.tenant_id and l.id = r.lead_id
      ) end,
      k.token
    from recipients as r
    left join links as k on k.tenant_id = r.tenant_id and k.address_key = lower(btrim(r.address));
end;
$$;

comment on function brainops_internal.load_recipients(uuid[]) is
  'The claimed mails among p_ids that belong to a broadcast, with what differs between the recipients; creates missing unsubscribe tokens.';

revoke execute on function brainops_internal.load_recipients(uuid[]) from public;
grant execute on function brainops_internal.load_recipients(uuid[]) to brainops_worker;

create or replace function brainops_internal.load_broadcast(p_id uuid)
returns table (subject text, body text, metadata jsonb, tenant jsonb, credential jsonb)
language plpgsql
stable
rows 1
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
#variable_conflict use_column
begin
  return query
    select
      b.subject,
      b.body,
      b.metadata,
      jsonb_build_object('name', t.name, 'slug', t.slug, 'settings', t.settings),
      (select o.sealed from brainops_internal.tenant_account(b.tenant_id, 'sendgrid') as o)
    from public.ai_broadcasts as b
    inner join public.tenants as t on t.id = b.tenant_id
    where b.id = p_id;
end;
$$;

comment on function brainops_internal.load_broadcast(uuid) is
  'What all recipients of a broadcast share; no row if the broadcast does not exist.';

revoke execute on function brainops_internal.load_broadcast(uuid) from public;
grant execute on function brainops_internal.load_broadcast(uuid) to brainops_worker;
