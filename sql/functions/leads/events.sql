-- Events of leads. lead_events is the append-only history that scores, campaigns and onboarding read.
-- record_lead_event writes to it; the triggers turn provider reports into events, and events into rescores.

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
  'Records an event of a lead, once for each p_source_key. Null p_occurred_at means now; null p_source_key means a random key, so the event is always recorded.';

revoke execute
on function brainops_internal.record_lead_event(uuid, uuid, text, text, timestamptz, text, jsonb)
from public;
grant execute
on function brainops_internal.record_lead_event(uuid, uuid, text, text, timestamptz, text, jsonb)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

-- For clients that receive the replies to our mails themselves, because SendGrid does not see them.
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
    raise exception 'lead_id: % is not a lead, or it belongs to another tenant', coalesce(p_lead_id::text, 'null')
      using errcode = 'OP009', hint = 'Give the id of one of your leads: select id, email from revenue_leads.';
  end if;
  if p_channel is null or p_channel not in ('email', 'sms') then
    raise exception 'channel: unknown channel %, expected email or sms', coalesce(quote_literal(left(p_channel, 80)), 'null')
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
  'Records that a lead replied. It counts for the score, and ends campaigns that end on a reply. p_channel: email or sms. p_text: the reply, of which the first 10,000 characters are kept; null if not known. Returns the id of the event in lead_events. OP009 if the lead does not exist or belongs to another tenant, OP007 for another channel.';

alter function brainops.record_reply(uuid, text, text) owner to brainops_system;
revoke execute on function brainops.record_reply(uuid, text, text) from public;
grant execute
on function brainops.record_reply(uuid, text, text)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin;

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

comment on function brainops_internal.after_lead_events is
  'Trigger after insert on lead_events: requests a rescore of leads with an event that scores (brainops.score_reasons).';

alter function brainops_internal.after_lead_events() owner to brainops_system;
revoke execute on function brainops_internal.after_lead_events() from public;

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
  -- The mail names an address, not a lead, but a lead may have that address.
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

comment on function brainops_internal.after_delivery_report is
  'Trigger after insert on email_deliveries and email_bounces: records the report as an event of the lead that the mail went to.';

alter function brainops_internal.after_delivery_report() owner to brainops_system;
revoke execute on function brainops_internal.after_delivery_report() from public;
