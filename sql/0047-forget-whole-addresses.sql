-- forget and export took other people's notifications along: an address was looked for as any part of the words, so
-- that forgetting ann@example.net erased what was said of joann@example.net, and forgetting "l" nearly everything. An
-- archived notification, and its mail, were found by the lead alone and so outlived the person. Now addresses are
-- matched whole, what is no address is refused, and the archive is asked as the live tables are.
-- And a stop of texts by the preference page, where an older one had run out, kept the older one's source: it could not
-- be taken back on the page.
-- Old workers go on meanwhile: nothing but these functions changes.
set local lock_timeout = '2s';

create function brainops.address_pattern(p_address text)
returns text
language sql
immutable
set search_path = ''
as $$
  select
    case
      -- A longer address that ends or begins so is somebody else's; a full stop may end a sentence.
      when brainops.email_key(p_address) is not null then '(?<![a-z0-9._%+-])' || regexp_replace(
        p_address,
        '[][\\^$.|?*+(){}]',
        '\\\&',
        'g'
      ) || '(?!\.?[a-z0-9-])'
      when p_address ~ '^\+[0-9]+$' then '\' || p_address || '(?![0-9])'
    end;
$$;

comment on function brainops.address_pattern(text) is
  'The regular expression that finds an address (e-mail in lower case, number in E.164) whole in a text in lower case; null for what is no address.';

revoke execute on function brainops.address_pattern(text) from public;
grant execute on function brainops.address_pattern(text) to brainops_system;

create or replace function brainops.find_person(p_tenant_id uuid, p_address text)
returns brainops.person
language plpgsql
stable
set search_path = ''
as $$
declare
  v_person brainops.person;
  v_given text := coalesce(
    brainops.email_key(p_address),
    brainops.sms_number(p_address, brainops.tenant_country((select settings from public.tenants where id = p_tenant_id)))
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
  -- What somebody else is reached by too (an office's number) is not this person's alone.
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
    select p.pattern from unnest(v_person.addresses) as a cross join lateral brainops.address_pattern(a) as p (pattern)
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
        brainops.uuid_or_null(a.job_row ->> 'lead_id') = any (v_person.lead_ids)
        or lower((a.job_row ->> 'subject') || ' ' || (a.job_row ->> 'body')) ~ any (v_patterns)
      )
  );
  v_person.row_ids := v_person.payment_ids || v_notified || array(
    select q.id from public.ai_email_queue as q
    where q.tenant_id = p_tenant_id
      and (
        lower(q.recipient) = any (v_person.addresses)
        or q.lead_id = any (v_person.lead_ids)
        or brainops.uuid_or_null(q.metadata ->> 'onboarding_workflow_id') = any (v_person.workflow_ids)
        or brainops.uuid_or_null(q.metadata #>> '{notification,id}') = any (v_notified)
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
        or brainops.uuid_or_null(a.job_row ->> 'lead_id') = any (v_person.lead_ids)
        or brainops.uuid_or_null(a.job_row ->> 'campaign_id') = any (v_person.enrolment_ids)
        or brainops.uuid_or_null(a.job_row ->> 'workflow_id') = any (v_person.workflow_ids)
        or brainops.uuid_or_null(a.job_row #>> '{metadata,onboarding_workflow_id}') = any (v_person.workflow_ids)
        or brainops.uuid_or_null(a.job_row #>> '{metadata,notification,id}') = any (v_notified)
      )
  );
  return v_person;
end;
$$;

create or replace function brainops.save_preferences(p_token text, p_choices jsonb)
returns boolean
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_link public.email_unsubscribe_links;
  v_now jsonb;
  v_topic public.contact_topics;
  v_phone record;
  v_wanted boolean;
begin
  select * into v_link from public.email_unsubscribe_links where token = p_token for no key update;
  if not found then
    return false;
  end if;
  v_now := brainops.preferences(p_token);
  v_wanted := (p_choices ->> 'email')::boolean;
  if not v_wanted then
    perform brainops.stop_mail(v_link.tenant_id, v_link.address_key, 'preference_page');
  elsif v_wanted and not (v_now ->> 'email')::boolean then
    perform brainops.resume_mail(v_link.tenant_id, v_link.address_key, 'preference_page', '{}');
  end if;

  for v_topic in select * from public.contact_topics as t where t.tenant_id = v_link.tenant_id order by t.code
  loop
    v_wanted := (p_choices -> 'topics' ->> v_topic.code)::boolean;
    if v_wanted then
      delete from public.contact_topic_optouts
      where tenant_id = v_link.tenant_id and topic_id = v_topic.id and address_key = v_link.address_key;
    elsif not v_wanted then
      insert into public.contact_topic_optouts (tenant_id, topic_id, address_key)
      values (v_link.tenant_id, v_topic.id, v_link.address_key)
      on conflict do nothing;
    end if;
  end loop;

  v_wanted := (p_choices ->> 'sms')::boolean;
  for v_phone in select * from brainops.preference_phones(v_link.tenant_id, v_link.address_key)
  loop
    if not v_wanted and v_phone.stopped is null then
      insert into public.contact_suppressions as s (tenant_id, channel, address, reason, source)
      values (v_link.tenant_id, 'sms', v_phone.phone, 'unsubscribed', 'preference_page')
      on conflict (tenant_id, channel, address_key) do update
        set
          expires_at = null,
          -- What was for a while is over, and this is the person's word; a STOP of this very moment stays what it is.
          reason = case when s.expires_at is null then s.reason else excluded.reason end,
          source = case when s.expires_at is null then s.source else excluded.source end;
      perform brainops.record_choice(v_link.tenant_id, 'sms', v_phone.phone, false, 'preference_page');
    elsif v_wanted and v_phone.stopped = 'preference_page' then
      delete from public.contact_suppressions
      where tenant_id = v_link.tenant_id and channel = 'sms' and address_key = v_phone.phone and source = 'preference_page';
      perform brainops.record_choice(v_link.tenant_id, 'sms', v_phone.phone, true, 'preference_page');
    end if;
  end loop;
  return true;
end;
$$;
