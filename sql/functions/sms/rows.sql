-- Refuses what can never be sent, naming the column, the value and the remedy. Runs before the
-- tenant is filled in, which may come from the lead.
create or replace function brainops_internal.check_sms_row()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_lead_id uuid;
begin
  new.recipient := btrim(new.recipient, E' \t\r\n');
  -- Clients write the JSON null where they mean none.
  new.metadata := coalesce(nullif(new.metadata, 'null'), '{}');
  v_lead_id := brainops_internal.uuid_or_null(new.recipient);

  if coalesce(new.recipient, '') = '' then
    raise exception 'recipient: is empty'
      using errcode = 'OP017', column = 'recipient', hint = 'Give one phone number, or the id of a lead.';
  end if;
  if v_lead_id is null then
    if regexp_replace(new.recipient, '[[:space:]().\-/' || U&'\00A0' || ']', '', 'g') !~ '^\+?[0-9]{5,15}$' or new.recipient ~ '^\+0' then
      raise exception 'recipient: % is not a phone number', quote_literal(left(new.recipient, 120))
        using errcode = 'OP017', column = 'recipient',
          hint = 'Give one number with its country code such as +13035550100 (without an extension), or the id of a lead.';
    end if;
    if new.recipient ~ '^\+' and brainops_internal.sms_number(new.recipient, null) is null then
      raise exception 'recipient: % has not as many digits as a phone number', quote_literal(left(new.recipient, 120))
        using errcode = 'OP017', column = 'recipient',
          hint = 'Give one number with its country code such as +13035550100, or the id of a lead.';
    end if;
    new.recipient := coalesce(brainops_internal.sms_number(new.recipient, null), new.recipient);
  end if;
  if coalesce(btrim(new.body, E' \t\r\n'), '') = '' then
    raise exception 'body: is empty'
      using errcode = 'OP005', column = 'body', hint = 'Give the text.';
  end if;
  -- With Liquid in it, it may become shorter.
  if length(new.body) > 1600 and (new.body !~ '\{[{%]' or length(new.body) > 32768) then
    raise exception 'body: has % characters, at most 1600 are allowed', length(new.body)
      using errcode = 'OP005', column = 'body', hint = 'Shorten it: Twilio takes no longer text.';
  end if;
  if jsonb_typeof(new.metadata) <> 'object' then
    raise exception 'metadata: % is no JSON object', quote_literal(left(new.metadata::text, 120))
      using errcode = 'OP006', column = 'metadata', hint = 'Give an object such as {"first_name": "Ann"}; {} or null for none.';
  end if;

  if tg_op = 'INSERT' then
    if new.metadata ->> 'priority' = 'high' and new.job_priority = 0 then
      new.job_priority := -10;
    end if;
    if v_lead_id is null and new.lead_id is null and new.metadata ? 'lead_id' then
      new.lead_id := brainops_internal.find_lead(brainops_internal.uuid_or_null(new.metadata ->> 'lead_id'), new.tenant_id);
    end if;
  elsif new.recipient = old.recipient then
    -- The lead may be gone by now: the gate says so when the text is due.
    return new;
  end if;
  if v_lead_id is not null then
    new.lead_id := brainops_internal.find_lead(v_lead_id, new.tenant_id);
    if new.lead_id is null then
      raise exception 'recipient: % is no lead of this tenant', new.recipient
        using errcode = 'OP017', column = 'recipient', hint = 'Give a phone number, or the id of a row in revenue_leads.';
    end if;
  end if;
  return new;
end;
$$;

alter function brainops_internal.check_sms_row() owner to brainops_system;
revoke execute on function brainops_internal.check_sms_row() from public;
grant execute on function brainops_internal.check_sms_row() to brainops_system;

-- A national number, once it is known whose country it is of.
create or replace function brainops_internal.read_national_number()
returns trigger
language plpgsql
-- A service that has named no tenant does not see the tenant's row.
security definer
set search_path = ''
as $$
begin
  select coalesce(brainops_internal.sms_number(new.recipient, brainops_internal.tenant_country(t.settings)), new.recipient)
    into new.recipient
    from public.tenants as t
    where t.id = new.tenant_id;
  return new;
end;
$$;

alter function brainops_internal.read_national_number() owner to brainops_system;
revoke execute on function brainops_internal.read_national_number() from public;

-- How far SQL reads numbers: E.164 with any punctuation, and national numbers of countries that
-- dial +1. Others wait for libphonenumber in the worker, which writes back what it read, so that
-- the gate always judges a number in E.164.
create or replace function brainops_internal.sms_number(p_text text, p_country text)
returns text
language sql
immutable
parallel safe
set search_path = ''
as $$
  select
    case
      when n.digits ~ '^\+1[2-9][0-9]{9}$' then n.digits
      when n.digits ~ '^\+[2-9][0-9]{6,14}$' then n.digits
      when n.digits ~ '^1?[2-9][0-9]{9}$'
      and upper(p_country) = any (
        '{US,CA,AG,AI,AS,BB,BM,BS,DM,DO,GD,GU,JM,KN,KY,LC,MP,MS,PR,SX,TC,TT,VC,VG,VI}'
      ) then '+1' || right(n.digits, 10)
    end
  from (select regexp_replace(p_text, '[[:space:]().\-/' || U&'\00A0' || ']', '', 'g') as digits) as n;
$$;

comment on function brainops_internal.sms_number(text, text) is
  'A phone number in E.164 (+13035550100), where SQL can read it: with a + and any punctuation, or national in a country that dials +1. Null otherwise.';

revoke execute on function brainops_internal.sms_number(text, text) from public;
grant execute
on function brainops_internal.sms_number(text, text)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

create or replace function brainops_internal.tenant_country(p_settings jsonb)
returns text
language sql
immutable
parallel safe
set search_path = ''
as $$
  select
    case
      when p_settings ->> 'country' ~* '^[a-z]{2}$' then upper(p_settings ->> 'country')
      else 'US'
    end;
$$;

comment on function brainops_internal.tenant_country(jsonb) is
  'tenants.settings.country (ISO 3166, two letters): how numbers without + are read. US where there is none.';

revoke execute on function brainops_internal.tenant_country(jsonb) from public;
grant execute
on function brainops_internal.tenant_country(jsonb)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

-- One number, one tenant: a unique index would tell tenants of each other, so admins are told here.
create or replace function brainops_internal.check_sms_number()
returns trigger
language plpgsql
set search_path = ''
as $$
declare
  v_other text;
begin
  perform pg_advisory_xact_lock(hashtextextended('sms_numbers ' || new.number, 0));
  select t.slug into v_other
    from public.sms_numbers as n
    inner join public.tenants as t on t.id = n.tenant_id
    where n.number = new.number and n.tenant_id <> new.tenant_id;
  if found then
    raise exception 'number: % is that of tenant %', new.number, v_other
      using errcode = 'OP018', column = 'number', hint = 'Delete the other row first; two tenants that share a number use TWILIO_FROM.';
  end if;
  return new;
end;
$$;

revoke execute on function brainops_internal.check_sms_number() from public;
grant execute on function brainops_internal.check_sms_number() to brainops_system;

-- The number that a row is for, right now: its lead's, else its recipient. As it was written where
-- SQL can't read it; null for a lead that is gone or has none.
create or replace function brainops_internal.sms_address(p_sms public.ai_sms_queue)
returns text
language plpgsql
stable
set search_path = ''
as $$
declare
  v_lead_id uuid := brainops_internal.uuid_or_null(p_sms.recipient);
begin
  if v_lead_id is null then
    return p_sms.recipient;
  end if;
  return (
    select
      coalesce(
        l.phone_e164,
        brainops_internal.sms_number(l.phone, brainops_internal.tenant_country(t.settings)),
        nullif(btrim(l.phone), '')
      )
    from public.revenue_leads as l
    inner join public.tenants as t on t.id = l.tenant_id
    where l.tenant_id = p_sms.tenant_id and l.id in (v_lead_id, p_sms.lead_id)
    order by (l.id = v_lead_id) desc
    limit 1
  );
end;
$$;

comment on function brainops_internal.sms_address(public.ai_sms_queue) is
  'The number that a text goes to as things stand: its recipient, or that lead''s; null for a lead that is gone or has none.';

revoke execute on function brainops_internal.sms_address(ai_sms_queue) from public;
grant execute
on function brainops_internal.sms_address(ai_sms_queue)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

create or replace function brainops_internal.gate_sms(p_ids uuid[])
returns setof brainops.verdict
language sql
volatile
set search_path = ''
as $$
  select v.*
  from
    brainops_internal.contact_verdicts(
      'sms',
      (
        select
          array_agg(
            row(
              q.id,
              q.tenant_id,
              q.lead_id,
              brainops_internal.sms_address(q),
              q.is_marketing,
              q.enrolment_id,
              q.recipient,
              coalesce(q.first_due_at, q.scheduled_for),
              q.metadata ->> 'expires_at'
            )::brainops.contact
            order by q.job_priority, q.scheduled_for, q.id
          )
        from public.ai_sms_queue as q
        where q.id = any (p_ids)
      )
    ) as v;
$$;

comment on function brainops_internal.gate_sms(uuid[]) is
  'Which of the texts may not go now: the rules of brainops_internal.contact_verdicts.';

revoke execute on function brainops_internal.gate_sms(uuid[]) from public;
grant execute on function brainops_internal.gate_sms(uuid[]) to brainops_worker;
