-- An event of SendGrid's that names no message of ours is about a mail that somebody else sent through
-- the installation's account: no tenant's to read, whosever address is in it. Whoever forgets the
-- address erases it all the same, since nobody else will.
create or replace function brainops.export_person(p_tenant text, p_address text)
returns table (table_name text, held jsonb)
language sql
stable
security definer
set search_path = ''
as $$
  -- A link's token is a key to act with, and a lease the engine's own.
  select r.table_name, r.held - '{token,lease,worker_id}'::text[]
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
  'Everything that a tenant holds on a person, by e-mail address or phone number, a row each; for admins also what SendGrid said of the address that is about no tenant''s message. By admins, or by the tenant itself.';

alter function brainops.export_person(text, text) owner to brainops_system;
revoke execute on function brainops.export_person(text, text) from public;
grant execute
on function brainops.export_person(text, text)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin;

-- forget took a person's messages first and the lead last: beside a client that wrote of the lead and then of its
-- messages, one of the two ended as a deadlock. Now it keeps to the order of 0013: leads by id, then what refers to them.
--
-- Erases a person of one tenant everywhere; leaves a digest of the address, so that nobody writes
-- to it again by mistake. Returns how many rows went, by table.
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
  -- Who has written of a lead may want its messages next; forget waits here, where it has none of them yet.
  perform
  from public.revenue_leads as l
  where l.tenant_id = v_tenant_id and l.id = any (v_person.lead_ids)
  order by l.id
  for update;
  -- What was written of the person meanwhile is the person's too.
  v_person := brainops_internal.find_person(v_tenant_id, p_address);

  -- What stops new messages comes next: what is queued from now on is not sent.
  insert into public.contact_suppressions (tenant_id, channel, address, reason, source)
  select
    v_person.tenant_id, case when a like '%@%' then 'email' else 'sms' end, brainops_internal.address_digest(a), 'forgotten', 'forget'
  from unnest(v_person.addresses) as a
  order by a
  on conflict (tenant_id, channel, address_key) do nothing;

  -- Counted before, as some go with others.
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
  'Erases a person (by e-mail address or phone number) of one tenant from every table and the archive; leaves a suppression under the sha256 of each address, and the books without the name. By admins, or by the tenant itself.';

alter function brainops.forget(text, text) owner to brainops_system;
revoke execute on function brainops.forget(text, text) from public;
grant execute
on function brainops.forget(text, text)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin;
