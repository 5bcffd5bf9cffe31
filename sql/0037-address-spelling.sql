-- What people said counts however their address was written. A suppression or a word of consent for
-- "(303) 555-0101" was taken as it stood and never met a text to +13035550101; so did an e-mail address that came with the
-- carriage return of a file. From here on both are kept as messages are addressed, and what is there already is rewritten.
-- Old workers go on meanwhile.
set local lock_timeout = '2s';

create function brainops.contact_address(p_tenant_id uuid, p_channel text, p_address text)
returns text
language sql
stable
set search_path = ''
as $$
  select
    case
      -- A person who was forgotten.
      when a.address ~ '^sha256:' then a.address
      when p_channel = 'email' then a.address
      -- Short codes are as they are.
      when a.address ~ '^(\+[1-9][0-9]{6,14}|[0-9]{3,6})$' then a.address
      else coalesce(brainops.sms_number(a.address, t.country), brainops.phone_e164(a.address, t.country))
    end
  from
    (select regexp_replace(p_address, '^[[:space:]]+|[[:space:]]+$', '', 'g') as address) as a
    cross join lateral (
      select brainops.tenant_country((select t.settings from public.tenants as t where t.id = p_tenant_id)) as country
    ) as t;
$$;

comment on function brainops.contact_address(uuid, text, text) is
  'An address as messages to it are addressed: without white space around it, a number as E.164 (a national one by the tenant''s settings.country, else US). Null for a number that cannot be read.';

create function brainops.keep_contact_address()
returns trigger
language plpgsql
set search_path = ''
as $$
declare
  v_address constant text := brainops.contact_address(new.tenant_id, new.channel, new.address);
begin
  if v_address is null then
    -- A yes to a number that cannot be read reaches nobody, and a form or file with a bad number is not lost for it; but
    -- whoever writes a no by hand must know that it stops nothing.
    if tg_table_name = 'contact_consents' and (to_jsonb(new) ->> 'state' <> 'denied' or new.source <> 'client') then
      return new;
    end if;
    raise exception 'address: % is not a phone number', quote_literal(left(new.address, 120))
      using errcode = 'OP017', column = 'address', hint = 'Give one number with its country code such as +13035550100, without an extension.';
  end if;
  new.address := v_address;
  return new;
end;
$$;

create trigger a2_keep_contact_address
before insert or update of address, channel on public.contact_suppressions
for each row
when (new.channel = 'sms' and new.address !~ '^\+[1-9][0-9]{6,14}$' or new.address ~ '^[[:space:]]|[[:space:]]$')
execute function brainops.keep_contact_address();

create trigger a2_keep_contact_address
before insert on public.contact_consents
for each row
when (new.channel = 'sms' and new.address !~ '^\+[1-9][0-9]{6,14}$' or new.address ~ '^[[:space:]]|[[:space:]]$')
execute function brainops.keep_contact_address();

comment on column public.contact_suppressions.address is
  'An e-mail address, or a phone number; a number is kept as E.164, whichever way it was written.';
comment on column public.contact_consents.address is
  'An e-mail address, or a phone number; a number is kept as E.164, whichever way it was written.';

-- What is there: the stricter of two for one address stays. What cannot be read is left as it is.
with
  misspelt as (
    delete from public.contact_suppressions as c
    where
      (c.channel = 'sms' and c.address !~ '^\+[1-9][0-9]{6,14}$' or c.address ~ '^[[:space:]]|[[:space:]]$')
      and brainops.contact_address(c.tenant_id, c.channel, c.address) <> c.address
    returning *
  )
insert into public.contact_suppressions as kept (tenant_id, channel, address, reason, source, created_at, expires_at)
select distinct on (m.tenant_id, m.channel, lower(m.said))
  m.tenant_id,
  m.channel,
  m.said,
  m.reason,
  m.source,
  m.created_at,
  m.expires_at
from (select c.*, brainops.contact_address(c.tenant_id, c.channel, c.address) as said from misspelt as c) as m
order by m.tenant_id, m.channel, lower(m.said), m.expires_at desc nulls first
on conflict (tenant_id, channel, address_key) do update
  set
    reason = case
      when excluded.expires_at is null
      or excluded.expires_at > kept.expires_at then excluded.reason
      else kept.reason
    end,
    source = case
      when excluded.expires_at is null
      or excluded.expires_at > kept.expires_at then excluded.source
      else kept.source
    end,
    expires_at = case
      when excluded.expires_at is null
      or kept.expires_at is null then null
      else greatest(excluded.expires_at, kept.expires_at)
    end;

-- Words that ask for an answer ("pending", and "granted" by mail where a tenant has them confirmed) would ask again.
with
  misspelt as (
    delete from public.contact_consents as c
    where
      (c.channel = 'sms' and c.address !~ '^\+[1-9][0-9]{6,14}$' or c.address ~ '^[[:space:]]|[[:space:]]$')
      and brainops.contact_address(c.tenant_id, c.channel, c.address) <> c.address
      and (c.state = 'denied' or c.channel = 'sms' and c.state = 'granted')
    returning *
  )
insert into public.contact_consents
  (tenant_id, lead_id, channel, address, state, source, evidence, occurred_at, created_at)
select m.tenant_id, m.lead_id, m.channel, m.address, m.state, m.source, m.evidence, m.occurred_at, m.created_at
from misspelt as m;

revoke execute on function brainops.contact_address(uuid, text, text), brainops.keep_contact_address() from public;
grant execute
on function brainops.contact_address(uuid, text, text)
to brainops_tenant, brainops_service, brainops_worker, brainops_admin, brainops_system;
