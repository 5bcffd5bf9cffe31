-- Rights of people: what they want to get, that they asked for it, what is held on them, and to be
-- forgotten. And what a sender owes them before it writes to many.
set local lock_timeout = '2s';

-- What the installation is, as far as only its processes know ------------------------------------
create table brainops.installation (
  only_row boolean primary key default true,
  public_url text,
  announced_at timestamptz not null default brainops.now(),
  constraint installation_one_row check (only_row),
  constraint installation_public_url_is_url check (public_url ~ '^https?://')
);

comment on table brainops.installation is
  'What web servers and workers say of themselves when they start, so that SQL can refuse what could not work.';
comment on column brainops.installation.public_url is 'PUBLIC_URL of the last process that had one; null: none had.';

grant select on brainops.installation to brainops_tenant, brainops_worker, brainops_service, brainops_admin;
grant select, insert, update, delete on brainops.installation to brainops_system;

create function brainops.launch_problems(p_tenant_id uuid, p_channel text default 'email')
returns setof text
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
  v_settings jsonb := (select settings from public.tenants where id = p_tenant_id);
  v_provider text := case p_channel when 'sms' then 'twilio' when 'email' then 'sendgrid' end;
  v_task text := case when p_channel = 'sms' then 'sms__send' else 'email__send' end;
begin
  if not brainops.may_act_for(p_tenant_id) then
    raise exception 'tenant_id: % is not yours', coalesce(p_tenant_id::text, 'null')
      using errcode = 'insufficient_privilege', hint = 'Give your own: select id from tenants.';
  end if;
  if v_provider is null then
    raise exception 'channel: % is none', coalesce(quote_literal(p_channel), 'null')
      using errcode = 'OP007', hint = 'Channels: email, sms.';
  end if;
  if p_channel = 'email' then
    if coalesce(btrim(v_settings ->> 'postal_address'), '') = '' then
      return next 'settings.postal_address is missing: marketing mail must carry the sender''s postal address. '
        || 'update tenants set settings = settings || ''{"postal_address": "…"}''';
    end if;
    if not exists (select from brainops.installation where public_url is not null) then
      return next 'PUBLIC_URL is missing: marketing mail must carry an unsubscribe link. '
        || 'Start the web server (brainops serve or up) with PUBLIC_URL set';
    end if;
  end if;
  -- Workers say which tasks they can do; where none is alive, nobody knows.
  if exists (select from brainops.worker_processes as w where brainops.worker_is_alive(w.number, w.backend_pid))
    and not exists (
      select from brainops.worker_processes as w
      where v_task = any (w.tasks) and brainops.worker_is_alive(w.number, w.backend_pid)
    )
    and not exists (
      select from public.provider_credentials as c
      where c.tenant_id = p_tenant_id and c.provider = v_provider and c.name = 'default' and c.active
    )
  then
    return next case p_channel
      when 'sms' then 'there is no sender: no worker has TWILIO_ACCOUNT_SID, TWILIO_AUTH_TOKEN and TWILIO_FROM, and the tenant has no Twilio credential of its own'
      else 'there is no sender: no worker has SENDGRID_API_KEY and MAIL_FROM, and the tenant has no SendGrid credential of its own'
    end;
  end if;
end;
$$;

comment on function brainops.launch_problems(uuid, text) is
  'What keeps the tenant from sending marketing by email or sms, one sentence each with its remedy; empty when nothing does.';

create function brainops.refuse_launch(p_tenant_id uuid, p_channel text default 'email')
returns void
language plpgsql
stable
set search_path = ''
as $$
declare
  v_problems text[] := array(select brainops.launch_problems(p_tenant_id, p_channel));
begin
  if v_problems <> '{}' then
    raise exception 'marketing by % cannot be launched: %', p_channel, array_to_string(v_problems, '; ')
      using errcode = 'OP031', hint = 'Mend all of it, then launch again. select * from brainops.launch_problems(tenant_id, channel) lists it.';
  end if;
end;
$$;

comment on function brainops.refuse_launch(uuid, text) is
  'Raises OP031 with everything that launch_problems finds; asked when a campaign or a broadcast becomes active.';

comment on column public.tenants.settings is
  'Options: mail_from, postal_address (in every marketing mail), notify_email (where the tenant itself is told things), country (how numbers without + are read).';

-- What people want to get ------------------------------------------------------------------------
create table public.contact_topics (
  id uuid primary key default gen_random_uuid(),
  tenant_id uuid not null references public.tenants (id),
  code text not null,
  name text not null,
  description text not null default '',
  campaign_codes text[] not null default '{}',
  created_at timestamptz not null default brainops.now(),
  constraint contact_topics_tenant_row unique (tenant_id, id),
  constraint contact_topics_code unique (tenant_id, code),
  constraint contact_topics_code_is_word check (code ~ '^[a-z][a-z0-9_]{0,62}$'),
  constraint contact_topics_name_length check (length(btrim(name)) between 1 and 100)
);

comment on table public.contact_topics is
  'What a person may choose on the preference page, beside all or nothing. Without rows the page offers just that.';
comment on column public.contact_topics.campaign_codes is
  'Campaigns that belong to the topic, beside the one that is called as the topic is.';

create table public.contact_topic_optouts (
  id uuid primary key default gen_random_uuid(),
  tenant_id uuid not null references public.tenants (id),
  topic_id uuid not null,
  address_key text not null,
  created_at timestamptz not null default brainops.now(),
  constraint contact_topic_optouts_once unique (tenant_id, address_key, topic_id),
  constraint contact_topic_optouts_topic
    foreign key (tenant_id, topic_id) references public.contact_topics (tenant_id, id)
      on delete cascade
);

create index contact_topic_optouts_topic_id on public.contact_topic_optouts (tenant_id, topic_id);

comment on table public.contact_topic_optouts is
  'Topics that a person does not want by e-mail. Ends running enrolments of the topic''s campaigns and keeps new ones from beginning.';

select brainops.protect_table(t)
from unnest(array['public.contact_topics', 'public.contact_topic_optouts']::regclass[]) as t;

create function brainops.topic_opted_out(p_tenant_id uuid, p_address text, p_topic text)
returns boolean
language sql
stable
set search_path = ''
as $$
  select
    exists (
      select
      from
        public.contact_topic_optouts as o
        inner join public.contact_topics as t on t.tenant_id = o.tenant_id and t.id = o.topic_id
      where
        o.tenant_id = p_tenant_id
        and o.address_key = lower(btrim(p_address))
        and (t.code = p_topic or p_topic = any (t.campaign_codes))
    );
$$;

comment on function brainops.topic_opted_out(uuid, text, text) is
  'Whether the person does not want this topic, or the topic that this campaign belongs to.';

-- Running enrolments of the topic's campaigns end; those that begin later do so as ended, with the
-- reason to be seen (brainops.enter_campaign).
create function brainops.topic_optout_exits()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  -- Whoever is being enrolled right now is in and leaves, or comes after this and does not enter.
  perform from public.revenue_leads as l
  where l.tenant_id = new.tenant_id and lower(l.email) = new.address_key
  order by l.id
  for no key update;
  perform brainops.exit_enrolment(e.id, 'topic_not_wanted')
  from public.ai_nurture_campaigns as e
  inner join public.revenue_leads as l on l.tenant_id = e.tenant_id and l.id = e.lead_id
  where e.tenant_id = new.tenant_id
    and e.status in ('active', 'paused')
    and lower(l.email) = new.address_key
    and brainops.topic_opted_out(e.tenant_id, l.email, e.campaign_type);
  return null;
end;
$$;

create trigger topic_optout_exits
after insert on public.contact_topic_optouts
for each row
execute function brainops.topic_optout_exits();

create function brainops.leads_at(p_tenant_id uuid, p_address text)
returns setof public.revenue_leads
language sql
stable
set search_path = ''
as $$
  select l.*
  from public.revenue_leads as l
  where l.tenant_id = p_tenant_id and lower(l.email) = lower(btrim(p_address));
$$;

comment on function brainops.leads_at(uuid, text) is 'The leads of a tenant with this e-mail address.';

create function brainops.record_choice(
  p_tenant_id uuid,
  p_channel text,
  p_address text,
  p_granted boolean,
  p_source text,
  p_evidence jsonb default '{}'
)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_key text := p_source || ':' || gen_random_uuid();
  v_lead_ids uuid[] := array(
    select l.id from public.revenue_leads as l
    where l.tenant_id = p_tenant_id
      and case p_channel when 'email' then lower(l.email) = lower(btrim(p_address)) else l.phone_e164 = p_address end
    order by l.id
  );
begin
  -- First what is said, then what follows from it.
  insert into public.contact_consents (tenant_id, lead_id, channel, address, state, source, evidence)
  values (
    p_tenant_id, v_lead_ids[1], p_channel, p_address, case when p_granted then 'granted' else 'denied' end, p_source, p_evidence
  );
  perform brainops.record_lead_event(
    p_tenant_id, id,
    case when p_granted then 'opted_in' when p_channel = 'email' then 'email_unsubscribed' else 'opted_out' end,
    p_channel, brainops.now(), v_key, jsonb_build_object('source', p_source)
  )
  from unnest(v_lead_ids) as id;
end;
$$;

comment on function brainops.record_choice(uuid, text, text, boolean, text, jsonb) is
  'Writes what a person chose: a consent, and an event of each lead with the address.';

-- By whoever holds the token: no login, no tenant. Twice is as once.
create or replace function brainops.unsubscribe(p_token text)
returns boolean
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_link public.email_unsubscribe_links;
begin
  -- Two words at once are said one after the other.
  select * into v_link from public.email_unsubscribe_links where token = p_token for no key update;
  if not found then
    return false;
  end if;
  perform brainops.stop_mail(v_link.tenant_id, v_link.address_key, 'unsubscribe_link');
  return true;
end;
$$;

create function brainops.stop_mail(p_tenant_id uuid, p_address text, p_source text)
returns void
language plpgsql
set search_path = ''
as $$
begin
  insert into public.contact_suppressions as s (tenant_id, channel, address, reason, source)
  values (p_tenant_id, 'email', p_address, 'unsubscribed', p_source)
  on conflict (tenant_id, channel, address_key) do update
    set
      expires_at = null,
      -- The person's word outlasts what was for a while, and takes nothing away that is for good.
      reason = case when s.expires_at is null then s.reason else excluded.reason end,
      -- A word given to us; what SendGrid is told later does not take it back.
      source = case when s.expires_at is not null or s.reason = 'unsubscribed' then excluded.source else s.source end;
  if brainops.consent_state(p_tenant_id, 'email', p_address) is distinct from 'denied' then
    perform brainops.record_choice(p_tenant_id, 'email', p_address, false, p_source);
  end if;
end;
$$;

comment on function brainops.stop_mail(uuid, text, text) is
  'No more marketing mail to the address: suppression, consent denied, an event of its leads.';

-- Only what the person said here is taken back here: a bounce, a complaint or a word of the
-- tenant's own stays.
create function brainops.resume_mail(p_tenant_id uuid, p_address text, p_source text, p_evidence jsonb)
returns void
language plpgsql
set search_path = ''
as $$
begin
  delete from public.contact_suppressions
  where tenant_id = p_tenant_id and channel = 'email' and address_key = lower(btrim(p_address)) and reason = 'unsubscribed';
  -- Only who reads the address's mail has the link.
  perform brainops.record_choice(
    p_tenant_id, 'email', p_address, true, p_source, p_evidence || jsonb_build_object('confirmed_at', brainops.now())
  );
end;
$$;

comment on function brainops.resume_mail(uuid, text, text, jsonb) is
  'The person wants mail again: lifts what the person said, and nothing else.';

-- The phone numbers that the preference page is about: those of the leads with the link's address.
create function brainops.preference_phones(p_tenant_id uuid, p_address text)
returns table (phone text, stopped text)
language sql
stable
set search_path = ''
as $$
  select distinct l.phone_e164, s.source
  from
    brainops.leads_at(p_tenant_id, p_address) as l
    left join public.contact_suppressions as s
      on s.tenant_id = l.tenant_id
      and s.channel = 'sms'
      and s.address_key in (l.phone_e164, brainops.address_digest(l.phone_e164))
      and (s.expires_at is null or s.expires_at > brainops.now())
  where l.phone_e164 is not null;
$$;

comment on function brainops.preference_phones(uuid, text) is
  'Phone numbers of the leads with this address, and who stopped text messages to each (null: nobody).';

create function brainops.masked_address(p_address text)
returns text
language sql
immutable
set search_path = ''
as $$
  select
    case
      when p_address like '%@%' then left(p_address, 1) || '•••@' || split_part(p_address, '@', 2)
      else '•••' || right(p_address, 2)
    end;
$$;

comment on function brainops.masked_address(text) is
  'An address as a page shows it to whoever holds its link: enough to know it again.';

create function brainops.preferences(p_token text)
returns jsonb
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
  v_link public.email_unsubscribe_links;
begin
  select * into v_link from public.email_unsubscribe_links where token = p_token;
  if not found then
    return null;
  end if;
  return jsonb_build_object(
    'sender', (select name from public.tenants where id = v_link.tenant_id),
    'address', brainops.masked_address(v_link.address_key),
    'email', not exists (
      select from public.contact_suppressions as s
      where s.tenant_id = v_link.tenant_id and s.channel = 'email'
        and s.address_key in (v_link.address_key, brainops.address_digest(v_link.address_key))
        and (s.expires_at is null or s.expires_at > brainops.now())
    ),
    'topics', coalesce((
      select jsonb_agg(
        jsonb_build_object(
          'code', t.code, 'name', t.name, 'description', t.description,
          'wanted', not brainops.topic_opted_out(t.tenant_id, v_link.address_key, t.code)
        ) order by t.name
      )
      from public.contact_topics as t
      where t.tenant_id = v_link.tenant_id
    ), '[]'),
    -- stopped by a text message: only one can take that back, because the carrier keeps it too
    'phones', coalesce((
      select jsonb_agg(
        jsonb_build_object(
          'phone', brainops.masked_address(p.phone), 'wanted', p.stopped is null,
          'here', p.stopped is null or p.stopped = 'preference_page'
        ) order by p.phone
      )
      from brainops.preference_phones(v_link.tenant_id, v_link.address_key) as p
    ), '[]')
  );
end;
$$;

comment on function brainops.preferences(text) is
  'What the holder of an unsubscribe link may choose, and has chosen; null for an unknown token.';

create function brainops.save_preferences(p_token text, p_choices jsonb)
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
      insert into public.contact_suppressions (tenant_id, channel, address, reason, source)
      values (v_link.tenant_id, 'sms', v_phone.phone, 'unsubscribed', 'preference_page')
      on conflict (tenant_id, channel, address_key) do update set expires_at = null;
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

comment on function brainops.save_preferences(text, jsonb) is
  'Writes the choices of the holder of an unsubscribe link: {"email": bool, "sms": bool, "topics": {code: bool}}; what is not named stays. False for an unknown token.';
-- Double opt-in ----------------------------------------------------------------------------------
create table public.opt_in_requests (
  id uuid primary key default gen_random_uuid(),
  tenant_id uuid not null references public.tenants (id),
  lead_id uuid,
  address text not null,
  address_key text not null generated always as (lower(btrim(address))) stored,
  token text not null default replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''),
  email_id uuid,
  created_at timestamptz not null default brainops.now(),
  expires_at timestamptz,
  confirmed_at timestamptz,
  constraint opt_in_requests_lead
    foreign key (tenant_id, lead_id) references public.revenue_leads (tenant_id, id)
      on delete set null (lead_id)
);

create index opt_in_requests_token on public.opt_in_requests (token);
create index opt_in_requests_address on public.opt_in_requests (tenant_id, address_key, created_at);
create index opt_in_requests_lead_id on public.opt_in_requests (tenant_id, lead_id) where lead_id is not null;
create index opt_in_requests_waiting on public.opt_in_requests (tenant_id) where email_id is null;

comment on table public.opt_in_requests is
  'Who was asked by mail whether marketing mail is really wanted (double opt-in). Made by a consent that is not confirmed, where the tenant asks for that.';
comment on column public.opt_in_requests.token is
  'In the link /confirm/<token>; opening it changes nothing, its button does.';
comment on column public.opt_in_requests.email_id is
  'The mail that asks; null until a process with PUBLIC_URL has started.';
comment on column public.opt_in_requests.expires_at is 'Seven days after the mail; then the person must ask anew.';

select brainops.protect_table('public.opt_in_requests');

-- Rows are made by what people say, and confirmed by them.
revoke insert, update, delete on public.opt_in_requests from brainops_tenant, brainops_service, brainops_worker;

create trigger a0_resolve_lead_id
before insert on public.opt_in_requests
for each row
when (new.lead_id is not null)
execute function brainops.resolve_lead_id();

create function brainops.mail_opt_in(p_id uuid)
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
    '<p>Somebody, probably you, asked for mail from {{ tenant.name }} to this address.</p>'
      || '<p><a href="{{ confirm_url }}">Yes, I want it</a></p>'
      || '<p>If it was not you, do nothing: you will get no more mail about this. The link works until {{ expires }}.</p>',
    jsonb_build_object(
      'type', 'opt_in',
      'confirm_url', rtrim(v_url, '/') || '/confirm/' || v_request.token,
      'expires', to_char(v_request.expires_at at time zone t.time_zone, 'FMDD FMMonth YYYY, HH24:MI')
    ),
    'opt_in:' || v_request.id, brainops.now()
  from public.tenants as t
  where t.id = v_request.tenant_id;
end;
$$;

comment on function brainops.mail_opt_in(uuid) is
  'Queues the mail of an opt-in request, once; nothing while no process has said where /confirm is.';

-- A form that anybody could have filled in is no proof that the address wants it. One mail asks, and
-- not a second one within a day, whoever presses the button; none to who has said no.
create function brainops.ask_for_opt_in()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_key text := lower(btrim(new.address));
  v_id uuid;
begin
  if not (new.state = 'pending' and coalesce(new.evidence ->> 'double_opt_in', '') = 'true')
    and (brainops.contact_policy(new.tenant_id, 'email')).consent <> 'double_opt_in'
  then
    return null;
  end if;
  perform pg_advisory_xact_lock(hashtextextended('opt_in:' || new.tenant_id || ':' || v_key, 0));
  if exists (
    select from public.opt_in_requests
    where tenant_id = new.tenant_id and address_key = v_key and created_at > brainops.now() - interval '1 day'
  ) or exists (
    select from public.contact_suppressions
    where tenant_id = new.tenant_id and channel = 'email'
      and address_key in (v_key, brainops.address_digest(v_key))
      and (expires_at is null or expires_at > brainops.now())
  ) then
    return null;
  end if;
  insert into public.opt_in_requests (tenant_id, lead_id, address)
  values (new.tenant_id, new.lead_id, new.address)
  returning id into v_id;
  perform brainops.mail_opt_in(v_id);
  return null;
end;
$$;

create trigger ask_for_opt_in
after insert on public.contact_consents
for each row
when (new.channel = 'email' and new.state in ('pending', 'granted') and not new.evidence ? 'confirmed_at')
execute function brainops.ask_for_opt_in();

-- The same by text: YES is the answer that counts, and comes in as any text does.
create function brainops.ask_for_opt_in_by_text()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  if coalesce(new.evidence ->> 'double_opt_in', '') <> 'true'
    and (brainops.contact_policy(new.tenant_id, 'sms')).consent <> 'double_opt_in'
  then
    return null;
  end if;
  perform pg_advisory_xact_lock(hashtextextended('opt_in:' || new.tenant_id || ':' || new.address_key, 0));
  if exists (
    select from public.ai_sms_queue
    where tenant_id = new.tenant_id and recipient = new.address_key and metadata ->> 'type' = 'opt_in'
      and created_at > brainops.now() - interval '1 day'
  ) then
    return null;
  end if;
  insert into public.ai_sms_queue (tenant_id, recipient, lead_id, body, metadata, scheduled_for, created_at)
  values (
    new.tenant_id, new.address, new.lead_id,
    '{{ tenant.name }}: reply YES to get texts from us, STOP if it was not you. Msg & data rates may apply.',
    '{"type": "opt_in", "transactional": true}', brainops.now(), brainops.now()
  );
  return null;
exception
  -- What was said is kept, even of a number that no text can go to.
  when sqlstate 'OP017' then return null;
end;
$$;

create trigger ask_for_opt_in_by_text
after insert on public.contact_consents
for each row
when (new.channel = 'sms' and new.state = 'pending')
execute function brainops.ask_for_opt_in_by_text();

create function brainops.confirm_opt_in(p_token text, p_evidence jsonb default '{}')
returns text
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_request public.opt_in_requests;
begin
  select * into v_request from public.opt_in_requests where token = p_token for no key update;
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
  perform brainops.resume_mail(
    v_request.tenant_id, v_request.address, 'double_opt_in',
    p_evidence || jsonb_build_object('request_id', v_request.id, 'requested_at', v_request.created_at)
  );
  return 'confirmed';
end;
$$;

comment on function brainops.confirm_opt_in(text, jsonb) is
  'The button behind /confirm/<token>: consent granted, with its evidence. Returns confirmed (twice is as once), expired or unknown.';

create function brainops.announce_public_url(p_public_url text)
returns void
language sql
set search_path = ''
as $$
  insert into brainops.installation as i (public_url)
  values (p_public_url)
  on conflict (only_row) do update
    set
      public_url = excluded.public_url,
      announced_at = brainops.now()
    where i.public_url is distinct from excluded.public_url;
  select brainops.mail_opt_in(r.id)
  from public.opt_in_requests as r
  where r.email_id is null and r.confirmed_at is null;
$$;

comment on function brainops.announce_public_url(text) is
  'Said by a server or worker that has PUBLIC_URL, when it starts; opt-in mails that waited for it are queued.';

-- What is held on a person -----------------------------------------------------------------------
create type brainops.person as (
  tenant_id uuid,
  addresses text[],
  lead_ids uuid[],
  enrolment_ids uuid[],
  workflow_ids uuid[],
  payment_ids uuid[],
  stripe_ids text[],
  row_ids uuid[]
);

comment on type brainops.person is
  'What a person is known by in a tenant: addresses (e-mail in lower case, numbers in E.164), leads, and the rows that are about them; row_ids are those of job rows.';

create function brainops.tenant_of_caller(p_tenant text)
returns uuid
language plpgsql
stable
set search_path = ''
as $$
declare
  v_tenant_id uuid;
begin
  if pg_catalog.pg_has_role(session_user, 'brainops_admin', 'member') then
    return brainops.tenant_id_of(p_tenant);
  end if;
  -- The same words for another tenant and for none: who exists is nobody's business.
  select id into v_tenant_id from public.tenants
    where id = brainops.current_tenant_id() and (slug = p_tenant or id = brainops.uuid_or_null(p_tenant));
  if not found then
    raise exception 'tenant: % is not yours', coalesce(quote_literal(p_tenant), 'null')
      using errcode = 'insufficient_privilege', hint = 'Give your own slug: select slug from tenants.';
  end if;
  return v_tenant_id;
end;
$$;

comment on function brainops.tenant_of_caller(text) is
  'The tenant of this slug or id, where the caller is that tenant or an admin; refused otherwise.';

create function brainops.find_person(p_tenant_id uuid, p_address text)
returns brainops.person
language plpgsql
stable
set search_path = ''
as $$
declare
  v_person brainops.person;
  v_given text := lower(btrim(p_address));
  v_notified uuid[];
begin
  if coalesce(v_given, '') = '' then
    raise exception 'address: is empty'
      using errcode = 'OP032', hint = 'Give an e-mail address, or a phone number with its country code.';
  end if;
  if v_given not like '%@%' then
    v_given := coalesce(
      brainops.sms_number(p_address, brainops.tenant_country((select settings from public.tenants where id = p_tenant_id))), v_given
    );
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
  v_notified := array(
    select n.id from public.tenant_notifications as n
    where n.tenant_id = p_tenant_id
      and (
        n.lead_id = any (v_person.lead_ids)
        or exists (
          select from unnest(v_person.addresses) as a where position(a in lower(n.subject || ' ' || n.body)) > 0
        )
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
      )
  );
  return v_person;
end;
$$;

comment on function brainops.find_person(uuid, text) is
  'Who has this e-mail address or phone number: the leads, their other addresses, and the rows about them.';

-- The one list that export and forget go by, so that what is shown is what goes. A table with a
-- foreign key to leads that is not named here is on it all the same; test/rights/catalog.test.ts asks
-- of every tenant table whether it is on the list, or why not.
create function brainops.person_sources()
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
              else coalesce(t.tenant_id, (brainops.find_email(t.payload)).tenant_id, p.tenant_id) = p.tenant_id
            end
            and (
              lower(btrim(t.payload ->> 'email')) = any (p.addresses)
              or t.payload ->> 'From' = any (p.addresses)
              or t.payload ->> 'To' = any (p.addresses)
              or brainops.webhook_event_row(t.provider, t.payload) = any (p.row_ids)
              or t.provider = 'stripe' and (
                -- By objects of the account that signed: in events of its own, a tenant may name any.
                exists (
                  select
                  from public.stripe_objects as o
                  where
                    o.tenant_id = p.tenant_id
                    and o.object_id = any (brainops.stripe_ids(t.payload #> '{data,object}'))
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

create function brainops.person_rows(p_person brainops.person)
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

comment on function brainops.person_rows(brainops.person) is 'The rows of every source that are about the person.';

create function brainops.export_person(p_tenant text, p_address text)
returns table (table_name text, held jsonb)
language sql
stable
security definer
set search_path = ''
as $$
  -- A link's token is a key to act with, and a lease the engine's own.
  select r.table_name, r.held - '{token,lease,worker_id}'::text[]
  from brainops.person_rows(brainops.find_person(brainops.tenant_of_caller(p_tenant), p_address)) as r;
$$;

comment on function brainops.export_person(text, text) is
  'Everything that a tenant holds on a person, by e-mail address or phone number, a row each. By admins, or by the tenant itself.';

create or replace function brainops.forget(p_tenant text, p_address text)
returns table (table_name text, erased bigint)
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_person brainops.person := brainops.find_person(brainops.tenant_of_caller(p_tenant), p_address);
  v_held jsonb;
  v_source record;
begin
  -- What stops new messages comes first: what is queued from now on is not sent.
  insert into public.contact_suppressions (tenant_id, channel, address, reason, source)
  select
    v_person.tenant_id, case when a like '%@%' then 'email' else 'sms' end, brainops.address_digest(a), 'forgotten', 'forget'
  from unnest(v_person.addresses) as a
  order by a
  on conflict (tenant_id, channel, address_key) do nothing;

  -- Counted before, as some go with others.
  select coalesce(jsonb_object_agg(c.source, c.number), '{}') into v_held
    from (select r.table_name as source, count(*) as number from brainops.person_rows(v_person) as r group by r.table_name) as c;
  for v_source in select * from brainops.person_sources()
  loop
    continue when v_source.on_forget = 'keep';
    table_name := v_source.source;
    erased := coalesce((v_held ->> v_source.source)::bigint, 0);
    if erased > 0 then
      execute format(
        case v_source.on_forget
          when 'delete' then 'delete from %1$s as t using (select ($1).*) as p where %3$s (%4$s)'
          else 'update %1$s as t set %2$s from (select ($1).*) as p where %3$s (%4$s)'
        end,
        v_source.source,
        v_source.on_forget,
        case v_source.source when 'public.webhook_events' then '' else 't.tenant_id = p.tenant_id and' end,
        v_source.condition
      )
        using v_person;
    end if;
    return next;
  end loop;
end;
$$;

comment on function brainops.forget(text, text) is
  'Erases a person (by e-mail address or phone number) of one tenant from every table and the archive; leaves a suppression under the sha256 of each address, and the books without the name. By admins, or by the tenant itself.';

do $$
declare
  v_function regprocedure;
begin
  -- With the rights of the engine.
  foreach v_function in array array[
    'brainops.launch_problems(uuid, text)',
    'brainops.preferences(text)',
    'brainops.save_preferences(text, jsonb)',
    'brainops.topic_optout_exits()',
    'brainops.ask_for_opt_in()',
    'brainops.ask_for_opt_in_by_text()',
    'brainops.confirm_opt_in(text, jsonb)',
    'brainops.export_person(text, text)'
  ]::regprocedure[]
  loop
    execute format('alter function %s owner to brainops_system', v_function);
  end loop;
  foreach v_function in array array[
    'brainops.announce_public_url(text)',
    'brainops.launch_problems(uuid, text)',
    'brainops.refuse_launch(uuid, text)',
    'brainops.topic_opted_out(uuid, text, text)',
    'brainops.topic_optout_exits()',
    'brainops.leads_at(uuid, text)',
    'brainops.record_choice(uuid, text, text, boolean, text, jsonb)',
    'brainops.stop_mail(uuid, text, text)',
    'brainops.resume_mail(uuid, text, text, jsonb)',
    'brainops.preference_phones(uuid, text)',
    'brainops.masked_address(text)',
    'brainops.preferences(text)',
    'brainops.save_preferences(text, jsonb)',
    'brainops.mail_opt_in(uuid)',
    'brainops.ask_for_opt_in()',
    'brainops.ask_for_opt_in_by_text()',
    'brainops.confirm_opt_in(text, jsonb)',
    'brainops.tenant_of_caller(text)',
    'brainops.find_person(uuid, text)',
    'brainops.person_sources()',
    'brainops.person_rows(brainops.person)',
    'brainops.export_person(text, text)'
  ]::regprocedure[]
  loop
    execute format('revoke execute on function %s from public', v_function);
    execute format('grant execute on function %s to brainops_system', v_function);
  end loop;
end;
$$;

grant execute
on function brainops.launch_problems(uuid, text),
brainops.refuse_launch(uuid, text),
brainops.topic_opted_out(uuid, text, text),
brainops.person_sources(),
brainops.export_person(text, text)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin;
