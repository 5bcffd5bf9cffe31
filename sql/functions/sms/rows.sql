-- Rows of ai_sms_queue and sms_numbers: what is accepted, how phone numbers are read, and whether a text may go now.
-- Start at check_sms_row (insert and update) and gate_sms (claim).

-- Refuses what can never be sent, with the column, the value and what to do. Runs before the tenant is filled in,
-- because the tenant may come from the lead.
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
  -- Some clients write the JSON null for no metadata.
  new.metadata := coalesce(nullif(new.metadata, 'null'), '{}');
  v_lead_id := brainops_internal.uuid_or_null(new.recipient);

  if coalesce(new.recipient, '') = '' then
    raise exception 'recipient: is empty'
      using errcode = 'OP017', column = 'recipient', hint = 'Give one phone number with its country code, or the id of a lead.';
  end if;
  if v_lead_id is null then
    if regexp_replace(new.recipient, '[[:space:]().\-/' || U&'\00A0' || ']', '', 'g') !~ '^\+?[0-9]{5,15}$' or new.recipient ~ '^\+0' then
      raise exception 'recipient: % is not a phone number', quote_literal(left(new.recipient, 120))
        using errcode = 'OP017', column = 'recipient',
          hint = 'Give one phone number with its country code, such as +13035550100, without an extension; or the id of a lead.';
    end if;
    if new.recipient ~ '^\+' and brainops_internal.sms_number(new.recipient, null) is null then
      raise exception 'recipient: % has the wrong number of digits for a phone number', quote_literal(left(new.recipient, 120))
        using errcode = 'OP017', column = 'recipient',
          hint = 'Give one phone number with its country code, such as +13035550100; or the id of a lead.';
    end if;
    new.recipient := coalesce(brainops_internal.sms_number(new.recipient, null), new.recipient);
  end if;
  if coalesce(btrim(new.body, E' \t\r\n'), '') = '' then
    raise exception 'body: is empty'
      using errcode = 'OP005', column = 'body', hint = 'Give the text of the message.';
  end if;
  -- A Liquid template may become shorter when it is rendered.
  if length(new.body) > 1600 and (new.body !~ '\{[{%]' or length(new.body) > 32768) then
    raise exception 'body: has % characters, at most 1600 are allowed', length(new.body)
      using errcode = 'OP005', column = 'body',
        hint = 'Shorten it. Twilio accepts at most 1600 characters; a Liquid template may have up to 32768 before it is rendered.';
  end if;
  if jsonb_typeof(new.metadata) <> 'object' then
    raise exception 'metadata: % is not a JSON object', quote_literal(left(new.metadata::text, 120))
      using errcode = 'OP006', column = 'metadata',
        hint = 'Give an object such as {"first_name": "Ann"}; use {} or null for no values.';
  end if;

  if tg_op = 'INSERT' then
    if new.metadata ->> 'priority' = 'high' and new.job_priority = 0 then
      new.job_priority := -10;
    end if;
    if v_lead_id is null and new.lead_id is null and new.metadata ? 'lead_id' then
      new.lead_id := brainops_internal.find_lead(brainops_internal.uuid_or_null(new.metadata ->> 'lead_id'), new.tenant_id);
    end if;
  elsif new.recipient = old.recipient then
    -- The lead may have been deleted since; the gate reports that when the text is due.
    return new;
  end if;
  if v_lead_id is not null then
    new.lead_id := brainops_internal.find_lead(v_lead_id, new.tenant_id);
    if new.lead_id is null then
      raise exception 'recipient: % is not a lead of this tenant', new.recipient
        using errcode = 'OP017', column = 'recipient',
          hint = 'Give a phone number, or the id of one of the tenant''s rows in revenue_leads.';
    end if;
  end if;
  return new;
end;
$$;

comment on function brainops_internal.check_sms_row is
  'Trigger: checks and normalizes recipient, body and metadata. OP017 for the recipient, OP005 for the body, OP006 for metadata.';

alter function brainops_internal.check_sms_row() owner to brainops_system;
revoke execute on function brainops_internal.check_sms_row() from public;
grant execute on function brainops_internal.check_sms_row() to brainops_system;

-- Runs once the tenant is known, because its country decides how a national number is read.
create or replace function brainops_internal.read_national_number()
returns trigger
language plpgsql
-- A service that names no tenant cannot see the tenant's row.
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

comment on function brainops_internal.read_national_number is
  'Trigger: rewrites a national number to E.164 by the tenant''s country, if SQL can read it.';

alter function brainops_internal.read_national_number() owner to brainops_system;
revoke execute on function brainops_internal.read_national_number() from public;

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
  'Gate of ai_sms_queue: which of the texts may not go now, and why, by the rules of brainops_internal.contact_verdicts.';

revoke execute on function brainops_internal.gate_sms(uuid[]) from public;
grant execute on function brainops_internal.gate_sms(uuid[]) to brainops_worker;

-- Looks the number up at the time of the call, so a lead's new number counts.
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
  'The number that a text would go to now: its recipient, or the number of the lead that recipient names. In E.164, or as written if SQL cannot read it; null if the lead is gone or has no number.';

revoke execute on function brainops_internal.sms_address(public.ai_sms_queue) from public;
grant execute
on function brainops_internal.sms_address(public.ai_sms_queue)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

-- SQL reads E.164 with any punctuation, and national numbers of countries that dial +1. Other numbers wait for
-- libphonenumber in the worker, which writes back what it read (address_sms). So the gate always checks a number in
-- E.164.
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
  'A phone number in E.164 (+13035550100) if SQL can read it: with + and any punctuation, or national in a country that dials +1. Null otherwise. p_country: ISO 3166, two letters; null reads numbers with + only.';

revoke execute on function brainops_internal.sms_number(text, text) from public;
grant execute
on function brainops_internal.sms_number(text, text)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

-- A number belongs to one tenant. A unique index would let tenants learn of each other's numbers; this error reaches
-- admins only, because only they may write the table. They wait for each other at the row of the texts' job table, which
-- tenants cannot lock: otherwise two concurrent inserts of one number would not see each other.
create or replace function brainops_internal.check_sms_number()
returns trigger
language plpgsql
set search_path = ''
as $$
declare
  v_other text;
begin
  perform from brainops.job_tables where table_name = 'ai_sms_queue' for no key update;
  select t.slug into v_other
    from public.sms_numbers as n
    inner join public.tenants as t on t.id = n.tenant_id
    where n.number = new.number and n.tenant_id <> new.tenant_id;
  if found then
    raise exception 'number: % belongs to tenant %', new.number, v_other
      using errcode = 'OP018', column = 'number',
        hint = 'Delete that tenant''s row first. Tenants that share a number use TWILIO_FROM and have no row for it.';
  end if;
  return new;
end;
$$;

comment on function brainops_internal.check_sms_number is
  'Trigger: refuses a number that belongs to another tenant (OP018).';

revoke execute on function brainops_internal.check_sms_number() from public;
grant execute on function brainops_internal.check_sms_number() to brainops_system;
