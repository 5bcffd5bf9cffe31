-- Double opt-in: a person is asked by mail or text to confirm a consent that anyone could have entered. Start at
-- ask_for_opt_in and ask_for_opt_in_by_text, triggers on contact_consents; the answer is confirm_opt_in, or a YES by
-- text (sms/inbound.sql).

-- A form that anyone could have filled in does not prove that the address's owner wants mail. At most one mail a day
-- asks, however often the form is sent, and none goes to a suppressed address. Of several consents for one address at the
-- same moment only one asks: the others find the same request as the latest, and so have the same unique key.
create or replace function brainops_internal.ask_for_opt_in()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_key text := lower(btrim(new.address));
  v_previous_at timestamptz;
  v_id uuid;
begin
  if not (new.state = 'pending' and coalesce(new.evidence ->> 'double_opt_in', '') = 'true')
    and (brainops.contact_policy(new.tenant_id, 'email')).consent <> 'double_opt_in'
  then
    return null;
  end if;
  select max(created_at) into v_previous_at
    from public.opt_in_requests
    where tenant_id = new.tenant_id and address_key = v_key;
  if v_previous_at > brainops.now() - interval '1 day' or exists (
    select from public.contact_suppressions
    where tenant_id = new.tenant_id and channel = 'email'
      and address_key in (v_key, brainops_internal.address_digest(v_key))
      and (expires_at is null or expires_at > brainops.now())
  ) then
    return null;
  end if;
  insert into public.opt_in_requests (tenant_id, lead_id, address, previous_at)
  values (new.tenant_id, new.lead_id, new.address, coalesce(v_previous_at, '-infinity'))
  on conflict on constraint opt_in_requests_once do nothing
  returning id into v_id;
  perform brainops_internal.mail_opt_in(v_id);
  return null;
exception
  -- The consent is kept, even for an address that no mail can go to.
  when sqlstate 'OP004' then return null;
end;
$$;

comment on function brainops_internal.ask_for_opt_in is
  'Trigger: mails a request to confirm, if the tenant''s policy or the consent''s evidence (double_opt_in) asks for double opt-in.';

alter function brainops_internal.ask_for_opt_in() owner to brainops_system;
revoke execute on function brainops_internal.ask_for_opt_in() from public;

create or replace function brainops_internal.mail_opt_in(p_id uuid)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_url text := (select public_url from brainops.installation);
  v_request public.opt_in_requests;
begin
  if v_url is null then
    return;
  end if;
  update public.opt_in_requests
  set email_id = gen_random_uuid(), expires_at = brainops.now() + interval '7 days'
  where id = p_id and email_id is null
  returning * into v_request;
  insert into public.ai_email_queue (id, tenant_id, recipient, lead_id, subject, body, metadata, idempotency_key, scheduled_for)
  select
    v_request.email_id, v_request.tenant_id, v_request.address, v_request.lead_id,
    'Please confirm: news from {{ tenant.name }}',
    '<p>Someone, probably you, asked for mail from {{ tenant.name }} to this address.</p>'
      || '<p><a href="{{ confirm_url }}">Yes, I want it</a></p>'
      || '<p>If it was not you, ignore this mail: you will get no more mail about this. The link works until {{ expires }}.</p>',
    jsonb_build_object(
      'type', 'opt_in',
      'expires', to_char(v_request.expires_at at time zone t.time_zone, 'FMDD FMMonth YYYY, HH24:MI')
    ),
    'opt_in:' || v_request.id, brainops.now()
  from public.tenants as t
  where t.id = v_request.tenant_id;
end;
$$;

comment on function brainops_internal.mail_opt_in(uuid) is
  'Queues the mail of an opt-in request, once. Does nothing until PUBLIC_URL is known; brainops.announce_public_url calls it then.';

revoke execute on function brainops_internal.mail_opt_in(uuid) from public;
grant execute on function brainops_internal.mail_opt_in(uuid) to brainops_system;

-- The token exists in the mail only: not in the mail's row, which the tenant can read and could confirm with, nor in a
-- dump. So it is made when a worker loads the mail. If a mail is sent again, its new link replaces the first. An address
-- that the tenant wrote into the mail instead gets no link.
create or replace function brainops_internal.opt_in_link(p_tenant_id uuid, p_email_id uuid, p_address text)
returns text
language plpgsql
security definer
set search_path = ''
as $$
declare
  -- 244 random bits, as in email_unsubscribe_links.
  v_token text := replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', '');
begin
  update public.opt_in_requests
  set token_digest = sha256(convert_to(v_token, 'UTF8'))
  where email_id = p_email_id and tenant_id = p_tenant_id and address_key = lower(btrim(p_address));
  if not found then
    return null;
  end if;
  return (select rtrim(public_url, '/') || '/confirm/' || v_token from brainops.installation);
end;
$$;

comment on function brainops_internal.opt_in_link(uuid, uuid, text) is
  'A new link for the mail of an opt-in request; earlier ones no longer work. Null if the mail asks for no opt-in, or goes to another address than the request is about.';

alter function brainops_internal.opt_in_link(uuid, uuid, text) owner to brainops_system;
revoke execute on function brainops_internal.opt_in_link(uuid, uuid, text) from public;
grant execute on function brainops_internal.opt_in_link(uuid, uuid, text) to brainops_worker;

create or replace function brainops_internal.confirm_opt_in(p_token text, p_evidence jsonb default '{}')
returns text
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_request public.opt_in_requests;
begin
  select * into v_request
    from public.opt_in_requests
    where token_digest = sha256(convert_to(p_token, 'UTF8'))
    for no key update;
  if not found then
    return 'unknown';
  end if;
  if v_request.confirmed_at is not null then
    return 'confirmed';
  end if;
  if v_request.expires_at <= brainops.now() then
    return 'expired';
  end if;
  update public.opt_in_requests set confirmed_at = brainops.now() where id = v_request.id;
  perform brainops_internal.resume_mail(
    v_request.tenant_id, v_request.address, 'double_opt_in',
    p_evidence || jsonb_build_object('request_id', v_request.id, 'requested_at', v_request.created_at)
  );
  return 'confirmed';
end;
$$;

comment on function brainops_internal.confirm_opt_in(text, jsonb) is
  'The button of the page /confirm/<token>: records a confirmed grant with p_evidence. Returns confirmed (also if it was confirmed before), expired or unknown.';

alter function brainops_internal.confirm_opt_in(text, jsonb) owner to brainops_system;
revoke execute on function brainops_internal.confirm_opt_in(text, jsonb) from public;

-- At most one text a day, as in ask_for_opt_in; here the unique key is the text's idempotency key. The answer YES arrives
-- like any other text.
create or replace function brainops_internal.ask_for_opt_in_by_text()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_previous_at timestamptz;
begin
  if coalesce(new.evidence ->> 'double_opt_in', '') <> 'true'
    and (brainops.contact_policy(new.tenant_id, 'sms')).consent <> 'double_opt_in'
  then
    return null;
  end if;
  select max(created_at) into v_previous_at
    from public.ai_sms_queue
    where tenant_id = new.tenant_id and recipient = new.address_key and metadata ->> 'type' = 'opt_in';
  if v_previous_at > brainops.now() - interval '1 day' then
    return null;
  end if;
  insert into public.ai_sms_queue (tenant_id, recipient, lead_id, body, metadata, scheduled_for, created_at, idempotency_key)
  values (
    new.tenant_id, new.address, new.lead_id,
    '{{ tenant.name }}: reply YES to get texts from us, or STOP if you did not ask for them. Msg & data rates may apply.',
    '{"type": "opt_in", "transactional": true}', brainops.now(), brainops.now(),
    'opt_in:' || new.address_key || ':' || coalesce(extract(epoch from v_previous_at)::text, 'first')
  )
  on conflict (tenant_id, idempotency_key) where idempotency_key is not null do nothing;
  return null;
exception
  -- The consent is kept, even for a number that no text can go to.
  when sqlstate 'OP017' then return null;
end;
$$;

comment on function brainops_internal.ask_for_opt_in_by_text is
  'Trigger: texts a request to reply YES, if the tenant''s policy or the consent''s evidence (double_opt_in) asks for double opt-in.';

alter function brainops_internal.ask_for_opt_in_by_text() owner to brainops_system;
revoke execute on function brainops_internal.ask_for_opt_in_by_text() from public;
