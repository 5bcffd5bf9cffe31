-- Recipients: who a message goes to, and where that person may be. Start at recipient_contexts; brainops.address_zones
-- gives the zones for one address.

-- A person is the lead that the row names, else the lead with the address, and all other leads with that address or
-- number, because one person reads what is sent there. These leads are looked up one at a time with a limit: thousands
-- of leads may share a number. For the planner settings, see message_verdicts.
create or replace function brainops_internal.recipient_contexts(p_channel text, p_rows brainops.contact[])
returns table (
  place int,
  id uuid,
  lead_ids uuid[],
  emails text[],
  phones text[],
  zones text[],
  country text,
  state text
)
language plpgsql
stable
set search_path = ''
set jit = off
set enable_seqscan = off
set enable_nestloop = off
as $$
declare
  -- All rows are of one tenant.
  v_tenant_id constant uuid := (p_rows[1]).tenant_id;
  v_tenants_zone constant text := (select t.time_zone from public.tenants as t where t.id = v_tenant_id);
begin
  return query
    with
      asked as materialized (
        select r.n::int as n, r.id, r.lead_id,
          case when p_channel = 'email' then lower(r.address) end as email,
          case when p_channel = 'sms' then coalesce(brainops_internal.phone_e164(r.address), r.address) end as phone
        from unnest(p_rows) with ordinality
          as r (id, tenant_id, lead_id, address, is_marketing, enrolment_id, recipient, first_due_at, expires_at, n)
        where r.tenant_id = v_tenant_id and v_tenants_zone is not null
      ),
      named as materialized (
        select i.id, i.email_key, i.phone_e164, i.time_zone, i.state from public.revenue_leads as i
        where i.tenant_id = v_tenant_id and i.id = any (array(select a.lead_id from asked as a))
      ),
      addressed as materialized (
        select i.id, i.email_key, i.phone_e164, i.time_zone, i.state from public.revenue_leads as i
        where i.tenant_id = v_tenant_id
          and i.email_key = any (array(select a.email from asked as a where a.lead_id is null))
      ),
      called as materialized (
        select distinct on (i.phone_e164) i.id, i.email_key, i.phone_e164, i.time_zone, i.state
        from public.revenue_leads as i
        where i.tenant_id = v_tenant_id
          and i.phone_e164 = any (array(select a.phone from asked as a where a.lead_id is null))
        order by i.phone_e164, i.created_at, i.id
      ),
      known as materialized (
        select a.*,
          coalesce(l.id, e.id, c.id) as known_id,
          coalesce(l.email_key, e.email_key, c.email_key) as email_key,
          coalesce(l.phone_e164, e.phone_e164, c.phone_e164) as phone_e164,
          coalesce(l.time_zone, e.time_zone, c.time_zone) as time_zone,
          coalesce(l.state, e.state, c.state) as lead_state
        from asked as a
        left join named as l on l.id = a.lead_id
        left join addressed as e on a.lead_id is null and e.email_key = a.email
        left join called as c on a.lead_id is null and c.phone_e164 = a.phone
      ),
      others as (
        select k.n, array_agg(o.id) as ids, array_agg(o.email_key) as emails, array_agg(o.phone_e164) as phones
        from known as k
        cross join lateral (
          (
            select i.id, i.email_key, i.phone_e164 from public.revenue_leads as i
            where i.tenant_id = v_tenant_id and i.phone_e164 = k.phone_e164 and i.id <> k.known_id
            limit 100
          )
          union all
          (
            -- The row's address may differ from its lead's.
            select i.id, i.email_key, i.phone_e164 from public.revenue_leads as i
            where k.email <> k.email_key and i.tenant_id = v_tenant_id and i.email_key = k.email
            limit 1
          )
          union all
          (
            select i.id, i.email_key, i.phone_e164 from public.revenue_leads as i
            where i.tenant_id = v_tenant_id and i.phone_e164 = k.phone and k.phone is distinct from k.phone_e164
              and i.id is distinct from k.known_id
            limit 100
          )
        ) as o
        where k.phone_e164 is not null or k.phone is not null or k.email <> k.email_key
        group by k.n
      ),
      zoned as (
        -- The longest prefix that matches.
        select distinct on (d.n) d.n, pz.zones, pz.country, pz.state
        from (
          select k.n, coalesce(k.phone, k.phone_e164) as phone from known as k
          where p_channel = 'sms' or k.time_zone is null
        ) as d
        cross join generate_series(1, 7) as digits
        inner join brainops.phone_zones as pz on pz.prefix = substr(d.phone, 2, digits)
        where d.phone is not null
        order by d.n, length(pz.prefix) desc
      )
    select
      k.n,
      k.id,
      array_remove(array[coalesce(k.known_id, k.lead_id)] || o.ids, null),
      array_remove(array[coalesce(k.email, k.email_key), case when k.email <> k.email_key then k.email_key end] || o.emails, null),
      array_remove(array[coalesce(k.phone, k.phone_e164), case when k.phone <> k.phone_e164 then k.phone_e164 end] || o.phones, null),
      case when k.time_zone is not null then array[k.time_zone] else coalesce(z.zones, array[v_tenants_zone]) end,
      case when p_channel = 'sms' then z.country end,
      case when p_channel = 'sms' then coalesce(
        (select pz.state from brainops.phone_zones as pz where pz.country = z.country and pz.state = upper(btrim(k.lead_state)) limit 1),
        z.state
      ) end
    from known as k
    left join others as o on o.n = k.n
    left join zoned as z on z.n = k.n;
end;
$$;

comment on function brainops_internal.recipient_contexts(text, brainops.contact[]) is
  'Who the recipients of one tenant''s messages are (leads, addresses), and where (zones; for texts also country and state). place: position in p_rows.';

revoke execute on function brainops_internal.recipient_contexts(text, brainops.contact[]) from public;
grant execute
on function brainops_internal.recipient_contexts(text, brainops.contact[])
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

-- Runs with the engine's rights, because tenants may not call functions of brainops_internal; so it checks the tenant
-- itself.
create or replace function brainops.address_zones(p_tenant_id uuid, p_lead_id uuid, p_address text)
returns text[]
language sql
stable
security definer
set search_path = ''
as $$
  select p.zones
  from
    brainops_internal.recipient_contexts(
      case
        when p_address like '%@%' then 'email'
        else 'sms'
      end,
      array[row(null, p_tenant_id, p_lead_id, p_address, true, null, p_address, null, null)::brainops.contact]
    ) as p
  where brainops_internal.may_act_for(p_tenant_id);
$$;

comment on function brainops.address_zones(uuid, uuid, text) is
  'Time zones (IANA names) that a person may be in: the lead''s, else those of the phone number, else the tenant''s. p_lead_id null: the lead with p_address. Null for a tenant that does not exist or that the caller may not act for.';

alter function brainops.address_zones(uuid, uuid, text) owner to brainops_system;
revoke execute on function brainops.address_zones(uuid, uuid, text) from public;
grant execute
on function brainops.address_zones(uuid, uuid, text)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;
