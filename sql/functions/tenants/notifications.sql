-- Messages to a tenant itself (tenant_notifications), by its Slack or by mail. Start at brainops.notify; a row may
-- also be inserted directly. The task tenant_notification__send delivers them.

create or replace function brainops.notify(p_tenant_id uuid, p_subject text, p_body text, p_key text default null)
returns uuid
language sql
set search_path = ''
as $$
  select brainops.notify(p_tenant_id, p_subject, p_body, p_key, null);
$$;

comment on function brainops.notify(uuid, text, text, text) is
  'Sends tenant p_tenant_id a message, like the function with five parameters, but not about a lead. p_key null: sent each time.';

revoke execute on function brainops.notify(uuid, text, text, text) from public;
grant execute
on function brainops.notify(uuid, text, text, text)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

create or replace function brainops.notify(p_tenant_id uuid, p_subject text, p_body text, p_key text, p_lead_id uuid)
returns uuid
language plpgsql
-- Called from triggers under every role; a service that names no tenant would not see the row that it inserted.
security definer
set search_path = ''
as $$
declare
  v_id uuid;
begin
  if not brainops_internal.may_act_for(p_tenant_id) then
    raise exception 'tenant_id: % is not your tenant', coalesce(p_tenant_id::text, 'null')
      using errcode = 'insufficient_privilege', hint = 'Give the id of your own tenant: select id from tenants.';
  end if;
  insert into public.tenant_notifications as n (tenant_id, subject, body, idempotency_key, lead_id, scheduled_for)
  values (
    p_tenant_id,
    left(regexp_replace(btrim(p_subject), '\s+', ' ', 'g'), 300),
    left(p_body, 20000),
    p_key,
    p_lead_id,
    brainops.now()
  )
  on conflict (tenant_id, idempotency_key) where idempotency_key is not null do nothing
  returning n.id into v_id;
  if v_id is null then
    select n.id into v_id
      from public.tenant_notifications as n
      where n.tenant_id = p_tenant_id and n.idempotency_key = p_key;
  end if;
  return v_id;
end;
$$;

comment on function brainops.notify(uuid, text, text, text, uuid) is
  'Sends tenant p_tenant_id a message, by its Slack or by mail. p_subject and p_body: plain text, cut to 300 and 20,000 characters. p_key: the message is sent once per key; null: each time. p_lead_id: the lead that the message is about; forget erases the message with the lead; null: none. Returns the id of the row in tenant_notifications, the existing one if the key was used before. 42501: it is not the caller''s tenant.';

alter function brainops.notify(uuid, text, text, text, uuid) owner to brainops_system;
revoke execute on function brainops.notify(uuid, text, text, text, uuid) from public;
grant execute
on function brainops.notify(uuid, text, text, text, uuid)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin;

-- Used if the tenant has no Slack, or Slack refuses the message. Subject and body are passed as values, so that they
-- are not read as Liquid.
create or replace function brainops_internal.mail_notification(p_id uuid)
returns uuid
language sql
set search_path = ''
as $$
  insert into public.ai_email_queue
    (tenant_id, recipient, subject, body, metadata, idempotency_key, scheduled_for)
  select
    n.tenant_id,
    t.settings ->> 'notify_email',
    '{{ notification.subject }}',
    '{{ notification.body }}',
    jsonb_build_object(
      'type',
      'notification',
      'notification',
      jsonb_build_object('id', n.id, 'subject', n.subject, 'body', n.body)
    ),
    'notification:' || n.id,
    brainops.now()
  from
    public.tenant_notifications as n
    inner join public.tenants as t on t.id = n.tenant_id
  where n.id = p_id
  on conflict (tenant_id, idempotency_key) where idempotency_key is not null do nothing
  returning id;
$$;

comment on function brainops_internal.mail_notification(uuid) is
  'Queues the mail of a notification to settings.notify_email, and returns the mail''s id; null if it was queued before.';

revoke execute on function brainops_internal.mail_notification(uuid) from public;
grant execute on function brainops_internal.mail_notification(uuid) to brainops_worker, brainops_system;

-- Notifications that wait for a setting are due again as soon as the setting changes.
create or replace function brainops_internal.wake_notifications()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_tenant_id uuid := case when tg_table_name = 'tenants' then to_jsonb(new) ->> 'id' else to_jsonb(new) ->> 'tenant_id' end;
begin
  update public.tenant_notifications
  set scheduled_for = brainops.now()
  where tenant_id = v_tenant_id and status = 'pending' and last_error like 'waiting:%';
  return null;
end;
$$;

comment on function brainops_internal.wake_notifications is
  'Trigger on tenants and provider_credentials: makes the tenant''s waiting notifications due now.';

alter function brainops_internal.wake_notifications() owner to brainops_system;
revoke execute on function brainops_internal.wake_notifications() from public;

-- If the tenant cannot be reached, the row waits, and its last_error names the missing setting.
create or replace function brainops_internal.gate_tenant_notification(p_ids uuid[])
returns setof brainops.verdict
language sql
stable
set search_path = ''
as $$
  select
    n.id,
    'defer',
    brainops.now() + interval '10 minutes',
    'waiting: the tenant has no active Slack credential, and its settings.notify_email is not set'
  from
    public.tenant_notifications as n
    inner join public.tenants as t on t.id = n.tenant_id
  where
    n.id = any (p_ids)
    and coalesce(btrim(t.settings ->> 'notify_email'), '') = ''
    and not exists (
      select
      from brainops_internal.tenant_account(n.tenant_id, 'slack')
    );
$$;

comment on function brainops_internal.gate_tenant_notification(uuid[]) is
  'Defers notifications of tenants that have neither an active Slack credential nor settings.notify_email, by 10 minutes.';

revoke execute on function brainops_internal.gate_tenant_notification(uuid[]) from public;
grant execute on function brainops_internal.gate_tenant_notification(uuid[]) to brainops_worker, brainops_system;
