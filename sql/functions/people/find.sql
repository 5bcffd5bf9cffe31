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
    brainops_internal.sms_number(p_address, brainops_internal.tenant_country((select settings from public.tenants where id = p_tenant_id)))
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
  'Who has this e-mail address or phone number: the leads, their other addresses, and the rows about them.';

revoke execute on function brainops_internal.find_person(uuid, text) from public;
grant execute on function brainops_internal.find_person(uuid, text) to brainops_system;

-- forget and export took other people's notifications along: an address was looked for as any part of the words, so
-- that forgetting ann@example.net erased what was said of joann@example.net, and forgetting "l" nearly everything. An
-- archived notification, and its mail, were found by the lead alone and so outlived the person. Now addresses are
-- matched whole, what is no address is refused, and the archive is asked as the live tables are.
-- And a stop of texts by the preference page, where an older one had run out, kept the older one's source: it could not
-- be taken back on the page.
create or replace function brainops_internal.address_pattern(p_address text)
returns text
language sql
immutable
set search_path = ''
as $$
  select
    case
      -- A longer address that ends or begins so is somebody else's; a full stop may end a sentence.
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
  'The regular expression that finds an address (e-mail in lower case, number in E.164) whole in a text in lower case; null for what is no address.';

revoke execute on function brainops_internal.address_pattern(text) from public;
grant execute on function brainops_internal.address_pattern(text) to brainops_system;

-- The one list that export and forget go by, so that what is shown is what goes. A table with a
-- foreign key to leads that is not named here is on it all the same; test/rights/catalog.test.ts asks
-- of every tenant table whether it is on the list, or why not.
create or replace function brainops.person_sources()
returns table (source text, condition text, on_forget text)
language sql
stable
set search_path = ''
as $$
  with
    named(position, source, condition, on_forget) as (
      values
        -- An event that names no message of ours belongs to nobody, unless it can still be placed. A text
        -- to the installation's account is whose sms_inbound has it: before it is there, it is nobody's to
        -- read or to erase, and so is a STOP that other tenants have yet to hear.
        (
          1,
          'public.webhook_events',
          $c$
            case
              when t.provider = 'twilio' and t.tenant_id is null and t.payload ->> 'kind' = 'inbound' then
                exists (
                  select
                  from public.sms_inbound as i
                  where
                    i.tenant_id = p.tenant_id
                    and i.message_sid = coalesce(t.payload ->> 'MessageSid', t.payload ->> 'SmsSid')
                )
              else coalesce(t.tenant_id, (brainops_internal.find_email(t.payload)).tenant_id, p.tenant_id) = p.tenant_id
            end
            and (
              lower(btrim(t.payload ->> 'email')) = any (p.addresses)
              or t.payload ->> 'From' = any (p.addresses)
              or t.payload ->> 'To' = any (p.addresses)
              or brainops_internal.webhook_event_row(t.provider, t.payload) = any (p.row_ids)
              or t.provider = 'stripe' and (
                -- By objects of the account that signed: in events of its own, a tenant may name any.
                exists (
                  select
                  from public.stripe_objects as o
                  where
                    o.tenant_id = p.tenant_id
                    and o.object_id = any (brainops_internal.stripe_ids(t.payload #> '{data,object}'))
                    and o.object_id = any (p.stripe_ids)
                    and o.own_account = (t.tenant_id is not null)
                )
                or t.tenant_id is not null and lower(t.payload #>> '{data,object,customer_details,email}') = any (p.addresses)
              )
            )
          $c$,
          'delete'
        ),
        (2, 'brainops.job_events', 't.row_id = any (p.row_ids) and t.detail is not null', $c$detail = 'erased'$c$),
        (3, 'brainops.job_archive', 't.row_id = any (p.row_ids)', 'delete'),
        (
          4,
          'public.email_deliveries',
          'lower(t.recipient) = any (p.addresses) or t.email_id = any (p.row_ids)',
          'delete'
        ),
        (5, 'public.email_bounces', 'lower(t.recipient) = any (p.addresses) or t.email_id = any (p.row_ids)', 'delete'),
        (6, 'public.sms_deliveries', 't.recipient = any (p.addresses) or t.sms_id = any (p.row_ids)', 'delete'),
        (7, 'public.sms_inbound', 't.from_number = any (p.addresses) or t.lead_id = any (p.lead_ids)', 'delete'),
        (8, 'public.sms_threads', 't.number = any (p.addresses)', 'delete'),
        (9, 'public.email_unsubscribe_links', 't.address_key = any (p.addresses)', 'delete'),
        (10, 'public.contact_suppressions', 't.address_key = any (p.addresses)', 'delete'),
        (11, 'public.contact_consents', 't.address_key = any (p.addresses) or t.lead_id = any (p.lead_ids)', 'delete'),
        (12, 'public.contact_topic_optouts', 't.address_key = any (p.addresses)', 'delete'),
        (13, 'public.opt_in_requests', 't.address_key = any (p.addresses) or t.lead_id = any (p.lead_ids)', 'delete'),
        (14, 'public.ai_email_queue', 't.id = any (p.row_ids)', 'delete'),
        (15, 'public.ai_sms_queue', 't.id = any (p.row_ids)', 'delete'),
        (16, 'public.tenant_notifications', 't.id = any (p.row_ids)', 'delete'),
        (17, 'public.campaign_touch_events', 't.touch_id = any (p.row_ids)', 'delete'),
        (18, 'public.ai_campaign_touches', 't.id = any (p.row_ids)', 'delete'),
        (19, 'public.ai_nurture_campaigns', 't.id = any (p.enrolment_ids)', 'delete'),
        (20, 'public.onboarding_reminders', 't.id = any (p.row_ids)', 'delete'),
        -- Its steps go with it: one by one they would begin each other.
        (21, 'public.ai_onboarding_workflows', 't.id = any (p.workflow_ids)', 'delete'),
        (22, 'public.ai_onboarding_steps', 't.workflow_id = any (p.workflow_ids)', 'delete'),
        -- The books are kept, without the name.
        (
          23,
          'public.payment_requests',
          't.id = any (p.payment_ids)',
          $c$
            lead_id = null, metadata = '{}', idempotency_key = null, product_service = t.plan_name, attention = null,
            payment_status = case t.payment_status when 'open' then 'cancelled' else t.payment_status end
          $c$
        ),
        (24, 'public.payment_ledger', 't.payment_request_id = any (p.payment_ids)', 'keep'),
        (25, 'public.payment_disputes', 't.payment_request_id = any (p.payment_ids)', 'keep'),
        (26, 'public.subscriptions', 't.payment_request_id = any (p.payment_ids)', 'keep'),
        (27, 'public.stripe_objects', 't.payment_request_id = any (p.payment_ids)', 'keep'),
        (
          98,
          'brainops.lead_keys',
          't.lead_id = any (p.lead_ids) or substr(t.key, strpos(t.key, '':'') + 1) = any (p.addresses)',
          'delete'
        ),
        (99, 'public.revenue_leads', 't.id = any (p.lead_ids)', 'delete')
    )
  select every.source, every.condition, every.on_forget
  from
    (
      select * from named
      union all
      select
        50,
        format('%I.%I', n.nspname, c.relname),
        format('t.%I = any (p.lead_ids)', a.attname),
        'delete'
      from
        pg_catalog.pg_constraint as f
        inner join pg_catalog.pg_class as c on c.oid = f.conrelid
        inner join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
        inner join pg_catalog.pg_attribute as l on l.attrelid = f.confrelid and l.attname = 'id'
        inner join pg_catalog.pg_attribute as a
          on a.attrelid = f.conrelid and a.attnum = f.conkey[array_position(f.confkey, l.attnum)]
      where
        f.contype = 'f'
        and f.confrelid = 'public.revenue_leads'::regclass
        and f.conparentid = 0
        and not exists (select from named where named.source = format('%I.%I', n.nspname, c.relname))
    ) as every
  order by every.position, every.source;
$$;

comment on function brainops.person_sources is
  'Where something may be held on a person, in the order in which it is erased. condition: over a row t and a brainops.person p. on_forget: delete, keep, or what is set instead.';

revoke execute on function brainops.person_sources() from public;
grant execute
on function brainops.person_sources()
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

create or replace function brainops_internal.person_rows(p_person brainops.person)
returns table (table_name text, held jsonb)
language plpgsql
stable
set search_path = ''
as $$
declare
  v_source record;
begin
  for v_source in select * from brainops.person_sources()
  loop
    table_name := v_source.source;
    for held in
      execute format(
        'select to_jsonb(t) from %s as t cross join (select ($1).*) as p where %s (%s)',
        v_source.source,
        case v_source.source when 'public.webhook_events' then '' else 't.tenant_id = p.tenant_id and' end,
        v_source.condition
      )
        using p_person
    loop
      return next;
    end loop;
  end loop;
end;
$$;

comment on function brainops_internal.person_rows(brainops.person) is
  'The rows of every source that are about the person.';

revoke execute on function brainops_internal.person_rows(brainops.person) from public;
grant execute on function brainops_internal.person_rows(brainops.person) to brainops_system;
