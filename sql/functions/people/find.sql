-- Finding a person by an address: the leads that have it, their other addresses, and the ids of all rows about them.
-- Start at find_person.

create or replace function brainops_internal.find_person(p_tenant_id uuid, p_address text)
returns brainops.person
language plpgsql
stable
set search_path = ''
as $$
declare
  v_person brainops.person;
  v_given text := coalesce(
    brainops_internal.email_key(p_address),
    brainops_internal.sms_number(p_address, brainops.tenant_country(p_tenant_id))
  );
  v_patterns text[];
  v_notified uuid[];
begin
  if v_given is null then
    raise exception 'address: %',
      coalesce(quote_literal(left(nullif(btrim(p_address), ''), 120)) || ' is neither an e-mail address nor a phone number', 'is empty')
      using errcode = 'OP032', hint = 'Give an e-mail address, or a phone number with its country code.';
  end if;
  v_person.tenant_id := p_tenant_id;
  v_person.lead_ids := array(
    select l.id from public.revenue_leads as l
    where l.tenant_id = p_tenant_id and (lower(btrim(l.email)) = v_given or l.phone_e164 = v_given)
  );
  -- An address that other leads have too, such as an office's number, is left out: rows with it may be about them.
  v_person.addresses := array(
    select v_given
    union
    select a.address
    from public.revenue_leads as l
    cross join lateral (values (lower(btrim(l.email))), (l.phone_e164)) as a (address)
    where l.tenant_id = p_tenant_id and l.id = any (v_person.lead_ids) and a.address is not null
      and not exists (
        select from public.revenue_leads as o
        where o.tenant_id = p_tenant_id and o.id <> all (v_person.lead_ids)
          and (lower(btrim(o.email)) = a.address or o.phone_e164 = a.address)
      )
  );
  v_person.enrolment_ids := array(
    select e.id from public.ai_nurture_campaigns as e where e.tenant_id = p_tenant_id and e.lead_id = any (v_person.lead_ids)
  );
  v_person.workflow_ids := array(
    select w.id from public.ai_onboarding_workflows as w where w.tenant_id = p_tenant_id and w.lead_id = any (v_person.lead_ids)
  );
  v_person.payment_ids := array(
    select r.id from public.payment_requests as r where r.tenant_id = p_tenant_id and r.lead_id = any (v_person.lead_ids)
  );
  v_person.stripe_ids := array(
    select o.object_id from public.stripe_objects as o
    where o.tenant_id = p_tenant_id and o.payment_request_id = any (v_person.payment_ids)
  );
  v_patterns := array(
    select p.pattern from unnest(v_person.addresses) as a cross join lateral brainops_internal.address_pattern(a) as p (pattern)
    where p.pattern is not null
  );
  v_notified := array(
    select n.id from public.tenant_notifications as n
    where n.tenant_id = p_tenant_id
      and (n.lead_id = any (v_person.lead_ids) or lower(n.subject || ' ' || n.body) ~ any (v_patterns))
    union all
    select a.row_id from brainops.job_archive as a
    where a.tenant_id = p_tenant_id and a.table_name = 'tenant_notifications'
      and (
        brainops_internal.uuid_or_null(a.job_row ->> 'lead_id') = any (v_person.lead_ids)
        or lower((a.job_row ->> 'subject') || ' ' || (a.job_row ->> 'body')) ~ any (v_patterns)
      )
  );
  v_person.row_ids := v_person.payment_ids || v_notified || array(
    select q.id from public.ai_email_queue as q
    where q.tenant_id = p_tenant_id
      and (
        lower(q.recipient) = any (v_person.addresses)
        or q.lead_id = any (v_person.lead_ids)
        or brainops_internal.uuid_or_null(q.metadata ->> 'onboarding_workflow_id') = any (v_person.workflow_ids)
        or brainops_internal.uuid_or_null(q.metadata #>> '{notification,id}') = any (v_notified)
      )
    union all
    select q.id from public.ai_sms_queue as q
    where q.tenant_id = p_tenant_id
      and (q.recipient = any (v_person.addresses) or q.to_number = any (v_person.addresses) or q.lead_id = any (v_person.lead_ids))
    union all
    select t.id from public.ai_campaign_touches as t
    where t.tenant_id = p_tenant_id and t.campaign_id = any (v_person.enrolment_ids)
    union all
    select r.id from public.onboarding_reminders as r
    where r.tenant_id = p_tenant_id and r.workflow_id = any (v_person.workflow_ids)
    union all
    select a.row_id from brainops.job_archive as a
    where a.tenant_id = p_tenant_id
      and (
        lower(a.job_row ->> 'recipient') = any (v_person.addresses)
        or a.job_row ->> 'to_number' = any (v_person.addresses)
        or brainops_internal.uuid_or_null(a.job_row ->> 'lead_id') = any (v_person.lead_ids)
        or brainops_internal.uuid_or_null(a.job_row ->> 'campaign_id') = any (v_person.enrolment_ids)
        or brainops_internal.uuid_or_null(a.job_row ->> 'workflow_id') = any (v_person.workflow_ids)
        or brainops_internal.uuid_or_null(a.job_row #>> '{metadata,onboarding_workflow_id}') = any (v_person.workflow_ids)
        or brainops_internal.uuid_or_null(a.job_row #>> '{metadata,notification,id}') = any (v_notified)
      )
  );
  return v_person;
end;
$$;

comment on function brainops_internal.find_person(uuid, text) is
  'The person with this e-mail address or phone number: leads, their other addresses, and ids of the rows about them. OP032 for an address that cannot be read.';

revoke execute on function brainops_internal.find_person(uuid, text) from public;
grant execute on function brainops_internal.find_person(uuid, text) to brainops_system;

-- Matches whole addresses only: not ann@example.net within joann@example.net.
create or replace function brainops_internal.address_pattern(p_address text)
returns text
language sql
immutable
set search_path = ''
as $$
  select
    case
      -- Does not match within a longer address. A full stop after the address may be the end of a sentence.
      when brainops_internal.email_key(p_address) is not null then '(?<![a-z0-9._%+-])' || regexp_replace(
        p_address,
        '[][\\^$.|?*+(){}]',
        '\\\&',
        'g'
      ) || '(?!\.?[a-z0-9-])'
      when p_address ~ '^\+[0-9]+$' then '\' || p_address || '(?![0-9])'
    end;
$$;

comment on function brainops_internal.address_pattern(text) is
  'A regular expression that finds the whole address (e-mail in lower case, or number in E.164) in a text in lower case; null if p_address is not an address.';

revoke execute on function brainops_internal.address_pattern(text) from public;
grant execute on function brainops_internal.address_pattern(text) to brainops_system;
