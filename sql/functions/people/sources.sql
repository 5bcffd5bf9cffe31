-- Where data about people is held: the one list that export and forget share. Start at brainops.person_sources.

-- A table with a foreign key to revenue_leads that is not named here is a source automatically. A tenant's table that
-- is neither a source nor excluded for a reason fails test/rights/catalog.test.ts.
create or replace function brainops.person_sources()
returns table (source text, condition text, on_forget text)
language sql
stable
set search_path = ''
as $$
  with
    named(position, source, condition, on_forget) as (
      values
        -- An event whose tenant cannot be determined counts as the calling tenant's. A text to the platform's account
        -- belongs to the tenant whose sms_inbound has it. Before it is there, no tenant may read or erase it: it may be
        -- a STOP that is still to be applied for other tenants.
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
                -- Compares only objects of the account that signed the event: a tenant could name any object in an
                -- event that it signs itself.
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
        -- Comes before its steps, which are deleted by cascade: deleting one step at a time would start the next one.
        (21, 'public.ai_onboarding_workflows', 't.id = any (p.workflow_ids)', 'delete'),
        (22, 'public.ai_onboarding_steps', 't.workflow_id = any (p.workflow_ids)', 'delete'),
        -- Payment records are kept, without the person.
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
  'Where data about a person may be held, in the order in which it is erased. source: the table; condition: SQL over its row t and a brainops.person p; on_forget: delete, keep, or the set list of an update.';

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
  'All rows about the person, as JSON, with the table of each.';

revoke execute on function brainops_internal.person_rows(brainops.person) from public;
grant execute on function brainops_internal.person_rows(brainops.person) to brainops_system;
