-- Who a lead is: the keys by which a person is recognised (lead_keys), the ids of merged leads
-- (revenue_lead_aliases), and lookups by both. Other subjects call find_lead, and put resolve_lead_id on their
-- tables.

-- A caller may refer to the leads of its own tenant. Admins, and services that have not named a tenant, may refer
-- to any lead.
create or replace function brainops_internal.find_lead(p_lead_id uuid, p_tenant_id uuid)
returns uuid
language sql
stable
security definer
set search_path = ''
as $$
  select l.id
  from public.revenue_leads as l
  where
    l.id = coalesce((select a.lead_id from public.revenue_lead_aliases as a where a.id = p_lead_id), p_lead_id)
    and (p_tenant_id is null or l.tenant_id = p_tenant_id)
    and (
      l.tenant_id = (select brainops.current_tenant_id())
      or brainops.may_name_tenant()
      or pg_catalog.pg_has_role(session_user, 'brainops_admin', 'member')
    );
$$;

comment on function brainops_internal.find_lead(uuid, uuid) is
  'The id of the lead that an id refers to: itself, or the lead that it was merged into. Null if it does not exist, is not of tenant p_tenant_id (null: any tenant), or the caller may not refer to it.';

alter function brainops_internal.find_lead(uuid, uuid) owner to brainops_system;
revoke execute on function brainops_internal.find_lead(uuid, uuid) from public;
grant execute
on function brainops_internal.find_lead(uuid, uuid)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin;

create or replace function brainops_internal.lead_alias(p_lead_id uuid, p_tenant_id uuid default null)
returns uuid
language plpgsql
stable
security definer
set search_path = ''
as $$
begin
  return (
    select a.lead_id
    from public.revenue_lead_aliases as a
    where a.id = p_lead_id and (p_tenant_id is null or a.tenant_id = p_tenant_id)
  );
end;
$$;

comment on function brainops_internal.lead_alias(uuid, uuid) is
  'The lead that a lead was merged into; null if the id is not an alias, or not of tenant p_tenant_id (null: any tenant).';

alter function brainops_internal.lead_alias(uuid, uuid) owner to brainops_system;
revoke execute on function brainops_internal.lead_alias(uuid, uuid) from public;

-- On every table with a lead_id, as trigger a0_resolve_lead_id before insert, before the tenant is filled in. The
-- foreign key would take the same lock later. Taking it here waits for a merge in progress, so that the alias is
-- visible. Not on a lead of another tenant: the insert would wait for that tenant's
-- transactions, and hold up its deletes and merges.
create or replace function brainops_internal.resolve_lead_id()
returns trigger
language plpgsql
-- The lead may belong to a tenant that the calling service has not named yet.
security definer
set search_path = ''
as $$
declare
  v_lead_id uuid;
begin
  perform from public.revenue_leads
    where id = new.lead_id
      and (new.tenant_id is null or tenant_id = new.tenant_id)
      and brainops_internal.may_write_for(tenant_id)
    for key share;
  if not found then
    select a.lead_id into v_lead_id
      from public.revenue_lead_aliases as a
      where a.id = new.lead_id and (new.tenant_id is null or a.tenant_id = new.tenant_id);
    new.lead_id := coalesce(v_lead_id, new.lead_id);
  end if;
  return new;
end;
$$;

comment on function brainops_internal.resolve_lead_id is
  'Trigger before insert on tables that refer to leads: replaces the id of a merged lead by that of the lead it was merged into.';

alter function brainops_internal.resolve_lead_id() owner to brainops_system;
revoke execute on function brainops_internal.resolve_lead_id() from public;
grant execute on function brainops_internal.resolve_lead_id() to brainops_admin;

create or replace function brainops_internal.known_lead(p_lead public.revenue_leads)
returns uuid
language plpgsql
stable
set search_path = ''
as $$
declare
  v_email text := 'email:' || brainops_internal.email_key(p_lead.email);
  v_phone text := 'phone:' || p_lead.phone_e164;
  v_lead_id uuid;
begin
  select l.id into v_lead_id
    from (
      select min(k.lead_id::text)::uuid as lead_id, count(*) as keys, count(distinct k.lead_id) as leads
      from brainops.lead_keys as k
      where k.tenant_id = p_lead.tenant_id and k.key in (v_email, v_phone)
    ) as k
    inner join public.revenue_leads as l on l.tenant_id = p_lead.tenant_id and l.id = k.lead_id
    where k.leads = 1 and k.keys = (v_email is not null)::int + (v_phone is not null)::int;
  return v_lead_id;
end;
$$;

comment on function brainops_internal.known_lead(public.revenue_leads) is
  'The lead that has every address of the row; null if no single lead has all of them, because the person is new or several leads have one each. Then only an insert can decide.';

revoke execute on function brainops_internal.known_lead(public.revenue_leads) from public;
grant execute on function brainops_internal.known_lead(public.revenue_leads) to brainops_system;

-- Waits for a concurrent transaction that claims the same key.
create or replace function brainops_internal.claim_lead_key(p_tenant_id uuid, p_key text, p_lead_id uuid)
returns uuid
language plpgsql
set search_path = ''
as $$
declare
  v_holder uuid;
begin
  loop
    insert into brainops.lead_keys (tenant_id, key, lead_id) values (p_tenant_id, p_key, p_lead_id) on conflict do nothing;
    if found then
      return p_lead_id;
    end if;
    select lead_id into v_holder from brainops.lead_keys where tenant_id = p_tenant_id and key = p_key;
    continue when not found;
    if v_holder = p_lead_id or exists (select from public.revenue_leads where tenant_id = p_tenant_id and id = v_holder) then
      return v_holder;
    end if;
    -- The insert that claimed it did not complete.
    update brainops.lead_keys set lead_id = p_lead_id
    where tenant_id = p_tenant_id and key = p_key and lead_id = v_holder;
    if found then
      return p_lead_id;
    end if;
  end loop;
end;
$$;

comment on function brainops_internal.claim_lead_key(uuid, text, uuid) is
  'Claims a key (email:… or phone:…) for p_lead_id, and returns the lead that holds it: p_lead_id, or the lead that had it before.';

revoke execute on function brainops_internal.claim_lead_key(uuid, text, uuid) from public;
grant execute on function brainops_internal.claim_lead_key(uuid, text, uuid) to brainops_system;

create or replace function brainops_internal.move_lead_keys()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_old text := 'email:' || brainops_internal.email_key(old.email);
  v_new text := 'email:' || brainops_internal.email_key(new.email);
  v_holder uuid;
begin
  if new.merged_into is not null then
    return new; -- the merge gives its keys to the other lead
  end if;
  if v_new is distinct from v_old then
    if v_new is not null then
      v_holder := brainops_internal.claim_lead_key(new.tenant_id, v_new, new.id);
      if v_holder <> new.id then
        raise exception 'email: % already belongs to lead %', quote_literal(left(new.email, 120)), v_holder
          using errcode = 'OP012', column = 'email',
            hint = format('If both are the same person, merge them: select brainops.merge_leads(%L, %L).', v_holder, new.id);
      end if;
    end if;
    delete from brainops.lead_keys where tenant_id = new.tenant_id and key = v_old and lead_id = new.id;
  end if;
  if new.phone_e164 is distinct from old.phone_e164 then
    if new.phone_e164 is not null then
      perform brainops_internal.claim_lead_key(new.tenant_id, 'phone:' || new.phone_e164, new.id);
    end if;
    delete from brainops.lead_keys where tenant_id = new.tenant_id and key = 'phone:' || old.phone_e164 and lead_id = new.id;
  end if;
  return new;
end;
$$;

comment on function brainops_internal.move_lead_keys is
  'Trigger before update on revenue_leads: moves the lead''s keys to its new addresses. OP012 if another lead has the new e-mail address.';

alter function brainops_internal.move_lead_keys() owner to brainops_system;
revoke execute on function brainops_internal.move_lead_keys() from public;

create or replace function brainops_internal.leads_at(p_tenant_id uuid, p_address text)
returns setof public.revenue_leads
language sql
stable
set search_path = ''
as $$
  select l.*
  from public.revenue_leads as l
  where l.tenant_id = p_tenant_id and lower(l.email) = lower(btrim(p_address));
$$;

comment on function brainops_internal.leads_at(uuid, text) is
  'The leads of a tenant with this e-mail address, in any case.';

revoke execute on function brainops_internal.leads_at(uuid, text) from public;
grant execute on function brainops_internal.leads_at(uuid, text) to brainops_system;

create or replace function brainops_internal.phone_e164(p_phone text, p_country text default 'US')
returns text
language sql
immutable
parallel safe
set search_path = ''
as $$
  select
    case
      -- International format: a leading +, or 00 as it is dialled in Europe.
      when p_phone ~ '^\s*(\+|00)'
      and d ~ '^[1-9][0-9]{6,14}$' then '+' || d
      -- North American numbering plan: ten digits, or eleven with a leading 1.
      when p_country in ('US', 'CA')
      and d ~ '^1?[2-9][0-9]{2}[2-9][0-9]{6}$' then '+1' || right(d, 10)
    end
  from
    (
      select regexp_replace(regexp_replace(p_phone, '(?i)\s*(ext|x|#).*$', ''), '^\s*00|\(0\)|\D', '', 'g') as d
      where length(p_phone) <= 60
    ) as s;
$$;

comment on function brainops_internal.phone_e164(text, text) is
  'A phone number in E.164 (+<country><number>), or null if it cannot be read. A number without + or 00 is read only if p_country is US or CA; `brainops leads import` knows the numbering plan of every country.';

revoke execute on function brainops_internal.phone_e164(text, text) from public;
grant execute
on function brainops_internal.phone_e164(text, text)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;
