create or replace function brainops.notify(p_tenant_id uuid, p_subject text, p_body text, p_key text default null)
returns uuid
language sql
set search_path = ''
as $$
  select brainops.notify(p_tenant_id, p_subject, p_body, p_key, null);
$$;

comment on function brainops.notify(uuid, text, text, text) is 'The same about nobody in particular.';

revoke execute on function brainops.notify(uuid, text, text, text) from public;
grant execute
on function brainops.notify(uuid, text, text, text)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

create or replace function brainops.notify(p_tenant_id uuid, p_subject text, p_body text, p_key text, p_lead_id uuid)
returns uuid
language plpgsql
-- Called from triggers of every seat; a service that names nobody would not see the row again.
security definer
set search_path = ''
as $$
declare
  v_id uuid;
begin
  if not brainops_internal.may_act_for(p_tenant_id) then
    raise exception 'tenant_id: % is not yours', coalesce(p_tenant_id::text, 'null')
      using errcode = 'insufficient_privilege', hint = 'Give your own: select id from tenants.';
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
  'Tells the tenant something, once for each key (null: always), about a lead (null: none); returns the row of tenant_notifications.';

alter function brainops.notify(uuid, text, text, text, uuid) owner to brainops_system;
revoke execute on function brainops.notify(uuid, text, text, text, uuid) from public;
grant execute
on function brainops.notify(uuid, text, text, text, uuid)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin;

-- By mail, where there is no Slack (or none that takes it). The words go in as values: they are
-- no Liquid.
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
  'Queues the mail of a notification to settings.notify_email, once; null where it is queued already.';

revoke execute on function brainops_internal.mail_notification(uuid) from public;
grant execute on function brainops_internal.mail_notification(uuid) to brainops_worker, brainops_system;

-- What waited for a setting goes on as soon as it is there.
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

alter function brainops_internal.wake_notifications() owner to brainops_system;
revoke execute on function brainops_internal.wake_notifications() from public;

-- Where nobody can be told, the row waits and says which setting is missing.
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
      from public.provider_credentials as c
      where c.tenant_id = n.tenant_id and c.provider = 'slack' and c.name = 'default' and c.active
    );
$$;

comment on function brainops_internal.gate_tenant_notification(uuid[]) is
  'Holds the notifications of tenants that have neither a Slack credential nor settings.notify_email.';

revoke execute on function brainops_internal.gate_tenant_notification(uuid[]) from public;
grant execute on function brainops_internal.gate_tenant_notification(uuid[]) to brainops_worker, brainops_system;
