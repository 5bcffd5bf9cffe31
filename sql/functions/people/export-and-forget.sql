-- Export and erasure of all data about a person. Start at brainops.export_person and brainops.forget. Both find the
-- person through find.sql and search the places listed in sources.sql, so what export shows is what forget erases.

-- A SendGrid event that names no message of ours is about mail that another application sent through the same account.
-- No tenant may read it, even if it has an address of the tenant's leads; admins may. forget erases it nevertheless,
-- because nothing else would.
create or replace function brainops.export_person(p_tenant text, p_address text)
returns table (table_name text, held jsonb)
language sql
stable
security definer
set search_path = ''
as $$
  -- A link's token gives its holder rights, and its digest is of no use; lease and worker_id are internal to the engine.
  select r.table_name, r.held - '{token,token_digest,lease,worker_id}'::text[]
  from
    brainops_internal.person_rows(
      brainops_internal.find_person(brainops_internal.tenant_of_caller(p_tenant), p_address)
    ) as r
  where
    r.table_name <> 'public.webhook_events'
    or r.held ->> 'provider' <> 'sendgrid'
    or r.held ->> 'tenant_id' is not null
    or (brainops_internal.find_email(r.held -> 'payload')).tenant_id is not null
    or pg_catalog.pg_has_role(session_user, 'brainops_admin', 'member');
$$;

comment on function brainops.export_person(text, text) is
  'All data that a tenant (slug or id) holds about a person, one row each as JSON, without token, lease and worker_id. p_address: an e-mail address, or a phone number (a national one by the tenant''s settings.country). Empty for an unknown person. For admins also SendGrid events about the address that are about no tenant''s message. Errors: 42501 unless the caller is the tenant or an admin, OP007 for an unknown tenant, OP032 for an address that cannot be read.';

alter function brainops.export_person(text, text) owner to brainops_system;
revoke execute on function brainops.export_person(text, text) from public;
grant execute
on function brainops.export_person(text, text)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin;

-- Lock order: leads by id, then the rows that refer to them. Clients that write to a lead and then to its messages lock
-- in the same order; in the opposite order, forget and such a client would deadlock.
create or replace function brainops.forget(p_tenant text, p_address text)
returns table (table_name text, erased bigint)
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_tenant_id uuid := brainops_internal.tenant_of_caller(p_tenant);
  v_person brainops.person := brainops_internal.find_person(v_tenant_id, p_address);
  v_held jsonb;
  v_source record;
begin
  -- A transaction that has written to a lead may write to its messages next: wait for it here, before locking any.
  perform
  from public.revenue_leads as l
  where l.tenant_id = v_tenant_id and l.id = any (v_person.lead_ids)
  order by l.id
  for update;
  -- Again, because rows about the person may have been written during the wait.
  v_person := brainops_internal.find_person(v_tenant_id, p_address);

  -- The suppression comes before anything is erased, so that a message queued from now on is not sent.
  insert into public.contact_suppressions (tenant_id, channel, address, reason, source)
  select
    v_person.tenant_id, case when a like '%@%' then 'email' else 'sms' end, brainops_internal.address_digest(a), 'forgotten', 'forget'
  from (
    select unnest(v_person.addresses)
    union
    -- Addresses that the leads had earlier: their denials are erased too.
    select c.address_key from public.contact_consents as c
    where c.tenant_id = v_person.tenant_id and c.lead_id = any (v_person.lead_ids) and c.address_key !~ '^sha256:'
  ) as every (a)
  order by a
  on conflict (tenant_id, channel, address_key) do update
    set reason = excluded.reason, source = excluded.source, person_source = excluded.person_source, expires_at = null;

  -- Counted first, because some rows are deleted by cascade.
  select coalesce(jsonb_object_agg(c.source, c.number), '{}') into v_held
    from (select r.table_name as source, count(*) as number from brainops_internal.person_rows(v_person) as r group by r.table_name) as c;
  for v_source in select * from brainops.person_sources()
  loop
    continue when v_source.on_forget = 'keep';
    table_name := v_source.source;
    erased := coalesce((v_held ->> v_source.source)::bigint, 0);
    if erased > 0 then
      execute format(
        case v_source.on_forget
          when 'delete' then 'delete from %1$s as t using (select ($1).*) as p where %3$s (%4$s)'
          else 'update %1$s as t set %2$s from (select ($1).*) as p where %3$s (%4$s)'
        end,
        v_source.source,
        v_source.on_forget,
        case v_source.source when 'public.webhook_events' then '' else 't.tenant_id = p.tenant_id and' end,
        v_source.condition
      )
        using v_person;
    end if;
    return next;
  end loop;
end;
$$;

comment on function brainops.forget(text, text) is
  'Erases a person of one tenant (slug or id) from all tables and the archive. Returns each source that is not kept and how many of its rows were erased or, for payment requests and job events, cleared of the person. Payment records stay, without the person; a suppression under the sha256 digest of each address stops later messages. Idempotent. p_address and errors: the same as for brainops.export_person.';

alter function brainops.forget(text, text) owner to brainops_system;
revoke execute on function brainops.forget(text, text) from public;
grant execute
on function brainops.forget(text, text)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin;
