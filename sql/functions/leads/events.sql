create or replace function brainops_internal.record_lead_event(
  p_tenant_id uuid,
  p_lead_id uuid,
  p_event text,
  p_channel text default null,
  p_occurred_at timestamptz default null,
  p_source_key text default null,
  p_metadata jsonb default '{}'
)
returns void
language sql
set search_path = ''
as $$
  insert into public.lead_events (tenant_id, lead_id, event, channel, occurred_at, source_key, metadata)
  values
    (
      p_tenant_id,
      p_lead_id,
      p_event,
      p_channel,
      coalesce(p_occurred_at, brainops.now()),
      coalesce(p_source_key, gen_random_uuid()::text),
      coalesce(p_metadata, '{}')
    )
  on conflict (tenant_id, lead_id, event, source_key) do nothing;
$$;

comment on function brainops_internal.record_lead_event(uuid, uuid, text, text, timestamptz, text, jsonb) is
  'Writes an event of a lead down; told again under the same source_key it stays one. Nulls: now, and a key made up.';

revoke execute
on function brainops_internal.record_lead_event(uuid, uuid, text, text, timestamptz, text, jsonb)
from public;
grant execute
on function brainops_internal.record_lead_event(uuid, uuid, text, text, timestamptz, text, jsonb)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

-- For clients who see the answers to our mails, which the provider does not.
create or replace function brainops.record_reply(
  p_lead_id uuid,
  p_channel text default 'email',
  p_text text default null
)
returns uuid
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_lead_id uuid := brainops_internal.find_lead(p_lead_id, null);
  v_event_id uuid;
begin
  if v_lead_id is null then
    raise exception 'lead_id: % is no lead of yours', coalesce(p_lead_id::text, 'null')
      using errcode = 'OP009', hint = 'select id, email from revenue_leads';
  end if;
  if p_channel is null or p_channel not in ('email', 'sms') then
    raise exception 'channel: % is none that people reply by', coalesce(quote_literal(left(p_channel, 80)), 'null')
      using errcode = 'OP007', hint = 'Give email or sms.';
  end if;
  insert into public.lead_events (tenant_id, lead_id, event, channel, metadata)
  select l.tenant_id, l.id, p_channel || '_replied', p_channel, jsonb_strip_nulls(jsonb_build_object('text', left(p_text, 10000)))
  from public.revenue_leads as l
  where l.id = v_lead_id
  returning id into v_event_id;
  update public.revenue_leads set last_contact = brainops.now() where id = v_lead_id;
  return v_event_id;
end;
$$;

comment on function brainops.record_reply(uuid, text, text) is
  'Tells that a lead replied, by email or sms: it is scored, and sequences that end on a reply end. Returns the event''s id.';

alter function brainops.record_reply(uuid, text, text) owner to brainops_system;
revoke execute on function brainops.record_reply(uuid, text, text) from public;
grant execute
on function brainops.record_reply(uuid, text, text)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin;

-- Behind the two tables that feed the score.
create or replace function brainops_internal.after_lead_events()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_ids uuid[];
begin
  select array_agg(distinct e.lead_id) into v_ids
    from inserted as e
    inner join brainops.score_reasons as r on r.reason = e.event and r.kind = 'event';
  if v_ids is not null then
    perform brainops_internal.request_rescore(v_ids);
  end if;
  return null;
end;
$$;

alter function brainops_internal.after_lead_events() owner to brainops_system;
revoke execute on function brainops_internal.after_lead_events() from public;

-- What the provider reported about a mail, as events of the lead that it went to.
create or replace function brainops_internal.after_delivery_report()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_event text;
  v_url text;
  v_lead_id uuid;
begin
  if tg_table_name = 'email_bounces' then
    v_event := 'email_bounced';
  else
    v_event := case new.event
      when 'open' then 'email_opened'
      when 'click' then 'email_clicked'
      when 'spamreport' then 'email_complained'
      else 'email_unsubscribed'
    end;
    v_url := new.metadata ->> 'url';
  end if;
  if new.email_id is not null then
    select lead_id into v_lead_id from public.ai_email_queue where tenant_id = new.tenant_id and id = new.email_id;
    if not found then
      select coalesce(brainops_internal.lead_alias(l.id, new.tenant_id), l.id) into v_lead_id
        from brainops.job_archive as a
        cross join lateral (select brainops_internal.uuid_or_null(a.job_row ->> 'lead_id') as id) as l
        where a.row_id = new.email_id and a.tenant_id = new.tenant_id and a.table_name = 'ai_email_queue'
        limit 1;
    end if;
  end if;
  -- A mail to an address and not to a lead: the lead may have that address.
  if v_lead_id is null then
    select id into v_lead_id
      from public.revenue_leads
      where tenant_id = new.tenant_id and email_key = lower(new.recipient);
  end if;
  if v_lead_id is not null and exists (select from public.revenue_leads where id = v_lead_id) then
    perform brainops_internal.record_lead_event(
      new.tenant_id, v_lead_id, v_event, 'email', new.occurred_at, new.id::text,
      jsonb_strip_nulls(jsonb_build_object('email_id', new.email_id, 'url', v_url))
    );
  end if;
  return null;
end;
$$;

alter function brainops_internal.after_delivery_report() owner to brainops_system;
revoke execute on function brainops_internal.after_delivery_report() from public;
