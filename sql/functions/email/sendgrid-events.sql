-- SendGrid's events about mails. For each event, process_webhook_events calls find_email, checks whose mail it is, and
-- calls apply_sendgrid_event. Events may come in any order and more than once; the result is the same.

create or replace function brainops_internal.apply_sendgrid_event(p_event jsonb, p_email brainops.email_reference)
returns text
language plpgsql
set search_path = ''
as $$
declare
  c_events constant text[] := array[
    'processed', 'deferred', 'delivered', 'bounce', 'dropped', 'open', 'click', 'spamreport',
    'unsubscribe', 'group_unsubscribe', 'group_resubscribe'
  ];
  v_event text := p_event ->> 'event';
  v_recipient text := lower(btrim(p_event ->> 'email'));
  v_at timestamptz;
  v_reason text := coalesce(p_event ->> 'reason', p_event ->> 'response');
  v_detail text := concat_ws(' ', p_event ->> 'url', (p_event -> 'url_offset')::text, p_event ->> 'attempt');
  v_classification text := lower(coalesce(p_event ->> 'bounce_classification', ''));
  v_hard boolean;
begin
  if jsonb_typeof(p_event) <> 'object' or v_event is null then
    return 'not an event: the field "event" is missing';
  end if;
  if v_event <> all (c_events) then
    return 'unknown event ' || quote_literal(left(v_event, 80));
  end if;
  if length(coalesce(v_recipient, '')) not between 1 and 320
    or coalesce(p_event ->> 'timestamp', '') !~ '^[0-9]{9,11}$'
  then
    return 'the fields "email" and "timestamp" are missing or malformed';
  end if;
  v_at := to_timestamp((p_event ->> 'timestamp')::bigint);
  if p_email.tenant_id is null then
    return 'the event is about no message that went through this account';
  end if;

  insert into public.email_deliveries (tenant_id, email_id, recipient, event, provider_message_id, occurred_at, detail, metadata)
  values (
    p_email.tenant_id,
    p_email.email_id,
    v_recipient,
    v_event,
    brainops_internal.sendgrid_message_id(p_event),
    v_at,
    -- A clicked URL may be longer than an index entry can be.
    case when length(v_detail) <= 500 then v_detail else left(v_detail, 400) || ' md5:' || md5(v_detail) end,
    jsonb_strip_nulls(jsonb_build_object(
      'reason', v_reason,
      'type', p_event -> 'type',
      'status', p_event -> 'status',
      'bounce_classification', p_event -> 'bounce_classification',
      'url', p_event -> 'url',
      'machine_open', p_event -> 'sg_machine_open',
      'asm_group_id', case when v_event like 'group_%' then p_event -> 'asm_group_id' end
    ))
  )
  on conflict do nothing;
  if not found then
    return null; -- reported before, under another event id
  end if;

  -- Checked first, because an update of no row still runs the queue's statement triggers.
  if exists (select from public.ai_email_queue where id = p_email.email_id and status = 'unconfirmed') then
    perform brainops_internal.settle_by_events(p_email.tenant_id, p_email.email_id);
  end if;

  if v_event = 'bounce' then
    -- "blocked" and the soft classes may be delivered another day; an address that does not exist will not.
    v_hard := coalesce(p_event ->> 'type', 'bounce') = 'bounce'
      and v_classification not in ('reputation', 'content', 'technical failure', 'frequency or volume too high')
      and (
        v_classification in ('invalid address', 'mailbox unavailable')
        or coalesce(p_event ->> 'status', '') like '5.%'
        or coalesce(v_reason, '') ~ '^5'
      );
    insert into public.email_bounces (tenant_id, recipient, bounce_type, reason, occurred_at, email_id)
    values (p_email.tenant_id, v_recipient, case when v_hard then 'hard' else 'soft' end, v_reason, v_at, p_email.email_id)
    on conflict do nothing;
    if v_hard then
      perform brainops_internal.suppress(p_email.tenant_id, 'email', v_recipient, 'bounced', 'sendgrid');
    end if;
  elsif v_event = 'spamreport' then
    perform brainops_internal.suppress(p_email.tenant_id, 'email', v_recipient, 'complained', 'sendgrid');
  elsif v_event in ('unsubscribe', 'group_unsubscribe', 'group_resubscribe') then
    perform brainops_internal.settle_consent(p_email.tenant_id, v_recipient);
  elsif v_event = 'dropped' then
    -- SendGrid has an earlier bounce, complaint or opt-out on record: record it here too.
    case lower(v_reason)
      when 'bounced address' then
        perform brainops_internal.suppress(p_email.tenant_id, 'email', v_recipient, 'bounced', 'sendgrid');
      when 'spam reporting address' then
        perform brainops_internal.suppress(p_email.tenant_id, 'email', v_recipient, 'complained', 'sendgrid');
      when 'unsubscribed address' then
        perform brainops_internal.settle_consent(p_email.tenant_id, v_recipient);
      else
        null; -- because of the mail, not the recipient
    end case;
  end if;
  return null;
end;
$$;

comment on function brainops_internal.apply_sendgrid_event(jsonb, brainops.email_reference) is
  'Applies one event, about the mail that brainops_internal.find_email found for it. Returns null, or why the event has no effect.';

revoke execute on function brainops_internal.apply_sendgrid_event(jsonb, brainops.email_reference) from public;
grant execute on function brainops_internal.apply_sendgrid_event(jsonb, brainops.email_reference) to brainops_system;

-- Found by our id in the event, else by SendGrid's message id. A bounce that came back as a mail of its own may carry
-- neither: then by the recent mails to its address, if all of them are of one tenant (email_id stays null if there are
-- several). Any other event without our ids is about a mail that another application sent through the same SendGrid
-- account.
--
-- A tenant can make its own account sign anything. So for such an event only the tenant's own mails are searched: what
-- is found among the mails of others would show whom they write to.
create or replace function brainops_internal.find_email(p_event jsonb, p_tenant_id uuid default null)
returns brainops.email_reference
language plpgsql
stable
set search_path = ''
as $$
declare
  v_id uuid := brainops_internal.uuid_or_null(p_event ->> 'bo_msg');
  v_message_id text := brainops_internal.sendgrid_message_id(p_event);
  v_address text := lower(btrim(p_event ->> 'email'));
  v_found brainops.email_reference;
begin
  if v_id is not null then
    select tenant_id, id into v_found from public.ai_email_queue where id = v_id and tenant_id = coalesce(p_tenant_id, tenant_id);
    if not found then
      select tenant_id, row_id into v_found
        from brainops.job_archive
        where row_id = v_id and table_name = 'ai_email_queue' and tenant_id = coalesce(p_tenant_id, tenant_id)
        limit 1;
    end if;
    return v_found;
  end if;
  if v_message_id is not null then
    -- A message with several recipients has one id: the address decides.
    select found.tenant_id, found.id into v_found
      from (
        select tenant_id, id, recipient_key from public.ai_email_queue
        where provider_message_id = v_message_id and broadcast_id is null and tenant_id = coalesce(p_tenant_id, tenant_id)
        union all
        select tenant_id, id, recipient_key from public.ai_email_queue
        where recipient_key = v_address and provider_message_id = v_message_id and broadcast_id is not null
          and tenant_id = coalesce(p_tenant_id, tenant_id)
      ) as found
      order by found.recipient_key = v_address desc
      limit 1;
    if found then
      return v_found;
    end if;
  end if;
  if p_event ->> 'event' = 'bounce' and coalesce(p_event ->> 'sg_message_id', '') = '' then
    select min(tenant_id::text)::uuid, case when count(*) = 1 then min(id::text)::uuid end
      into v_found.tenant_id, v_found.email_id
      from public.ai_email_queue
      where recipient_key = v_address and sent_at > brainops.now() - interval '7 days'
        and tenant_id = coalesce(p_tenant_id, tenant_id)
      having count(distinct tenant_id) = 1;
  end if;
  return v_found;
end;
$$;

comment on function brainops_internal.find_email(jsonb, uuid) is
  'The mail that an event is about, in ai_email_queue or the archive; tenant_id is null if it is not known. p_tenant_id: only mails of this tenant, whose own account sent the event; null: mails of all tenants.';

revoke execute on function brainops_internal.find_email(jsonb, uuid) from public;
grant execute on function brainops_internal.find_email(jsonb, uuid) to brainops_system;

-- SendGrid's X-Message-Id is the part of sg_message_id before the first dot. A bounce that came back as a mail of
-- its own lacks that field, but may have the id in smtp-id: <X-Message-Id@…>.
create or replace function brainops_internal.sendgrid_message_id(p_event jsonb)
returns text
language sql
immutable
set search_path = ''
as $$
  select coalesce(
    nullif(split_part(p_event ->> 'sg_message_id', '.', 1), ''),
    substring(p_event ->> 'smtp-id' from '^<([^@<>]+)@')
  )
$$;

comment on function brainops_internal.sendgrid_message_id(jsonb) is
  'The X-Message-Id of the mail that an event is about; null if the event has none.';

revoke execute on function brainops_internal.sendgrid_message_id(jsonb) from public;
grant execute on function brainops_internal.sendgrid_message_id(jsonb) to brainops_system;

-- An event about a mail whose outcome was lost shows that SendGrid accepted it. The result does not depend on the order
-- of the mail's events.
create or replace function brainops_internal.settle_by_events(p_tenant_id uuid, p_email_id uuid)
returns void
language sql
set search_path = ''
as $$
  update public.ai_email_queue as q
  set
    status = case
      when e.taken then 'completed'
      else 'failed'
    end,
    sent_at = case
      when e.taken then coalesce(q.sent_at, q.started_at, e.first_at)
      else q.sent_at
    end,
    provider_message_id = coalesce(q.provider_message_id, e.message_id),
    last_error = case
      when not e.taken then 'SendGrid dropped it: ' || coalesce(e.reason, 'no reason given')
    end
  from
    (
      select
        bool_or(event <> 'dropped') as taken,
        min(occurred_at) as first_at,
        min(provider_message_id) as message_id,
        min(metadata ->> 'reason') as reason
      from public.email_deliveries
      where tenant_id = p_tenant_id and email_id = p_email_id
    ) as e
  where q.tenant_id = p_tenant_id and q.id = p_email_id and q.status = 'unconfirmed' and e.taken is not null;
$$;

comment on function brainops_internal.settle_by_events(uuid, uuid) is
  'Settles an unconfirmed mail from the events that came about it: completed, or failed if SendGrid only dropped it.';

revoke execute on function brainops_internal.settle_by_events(uuid, uuid) from public;
grant execute on function brainops_internal.settle_by_events(uuid, uuid) to brainops_system;
