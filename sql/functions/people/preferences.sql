-- The preference page and the unsubscribe link: what the holder of a link's token can choose, and how a choice is
-- recorded. Start at preferences, which shows the choices, and save_preferences, which writes them. The token is the
-- authorization: only a person who reads the address's mail has it.

create or replace function brainops_internal.preferences(p_token text)
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
    'address', brainops_internal.masked_address(v_link.address_key),
    'email', not exists (
      select from public.contact_suppressions as s
      where s.tenant_id = v_link.tenant_id and s.channel = 'email'
        and s.address_key in (v_link.address_key, brainops_internal.address_digest(v_link.address_key))
        and (s.expires_at is null or s.expires_at > brainops.now())
    ),
    'topics', coalesce((
      select jsonb_agg(
        jsonb_build_object(
          'code', t.code, 'name', t.name, 'description', t.description,
          'wanted', not brainops_internal.topic_opted_out(t.tenant_id, v_link.address_key, t.code)
        ) order by t.name
      )
      from public.contact_topics as t
      where t.tenant_id = v_link.tenant_id
    ), '[]'),
    -- here: a STOP by text cannot be undone on the page, because the carrier blocks the number too.
    'phones', coalesce((
      select jsonb_agg(
        jsonb_build_object(
          'phone', brainops_internal.masked_address(p.phone), 'wanted', p.stopped is null,
          'here', p.stopped is null or p.stopped = 'preference_page'
        ) order by p.phone
      )
      from brainops_internal.preference_phones(v_link.tenant_id, v_link.address_key) as p
    ), '[]')
  );
end;
$$;

comment on function brainops_internal.preferences(text) is
  'What the holder of an unsubscribe link can choose, and has chosen: sender, address (masked), email (whether mail is wanted), topics (code, name, description, wanted) and phones (phone, wanted, here: whether the page can change it). Null for an unknown token.';

alter function brainops_internal.preferences(text) owner to brainops_system;
revoke execute on function brainops_internal.preferences(text) from public;

-- Locks the link's row, so that two saves of one person run one after the other.
create or replace function brainops_internal.save_preferences(p_token text, p_choices jsonb)
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
  v_now := brainops_internal.preferences(p_token);
  v_wanted := (p_choices ->> 'email')::boolean;
  if not v_wanted then
    perform brainops_internal.stop_mail(v_link.tenant_id, v_link.address_key, 'preference_page');
  elsif v_wanted and not (v_now ->> 'email')::boolean then
    perform brainops_internal.resume_mail(v_link.tenant_id, v_link.address_key, 'preference_page', '{}');
  end if;

  for v_topic in select * from public.contact_topics as t where t.tenant_id = v_link.tenant_id order by t.code
  loop
    v_wanted := (p_choices -> 'topics' ->> v_topic.code)::boolean;
    if v_wanted then
      delete from public.contact_topic_optouts
      where tenant_id = v_link.tenant_id and topic_id = v_topic.id and address_key = v_link.address_key;
    elsif not v_wanted then
      insert into public.contact_topic_optouts (tenant_id, topic_id, address_key, source)
      values (v_link.tenant_id, v_topic.id, v_link.address_key, 'preference_page')
      on conflict (tenant_id, address_key, topic_id) do update
        set source = excluded.source;
    end if;
  end loop;

  v_wanted := (p_choices ->> 'sms')::boolean;
  for v_phone in select * from brainops_internal.preference_phones(v_link.tenant_id, v_link.address_key)
  loop
    if v_wanted then
      perform brainops_internal.lift_persons_stop(v_link.tenant_id, 'sms', v_phone.phone, '{preference_page}');
    end if;
    if not v_wanted and (v_phone.stopped is null or v_phone.person is null) then
      insert into public.contact_suppressions as s (tenant_id, channel, address, reason, source)
      values (v_link.tenant_id, 'sms', v_phone.phone, 'unsubscribed', 'preference_page')
      on conflict (tenant_id, channel, address_key) do update
        set
          expires_at = null,
          -- A temporary suppression becomes the person's own; a permanent one, such as a recent STOP, stays.
          reason = case when s.expires_at is null then s.reason else excluded.reason end,
          source = case when s.expires_at is null then s.source else excluded.source end,
          person_source = coalesce(s.person_source, excluded.person_source);
      perform brainops_internal.record_choice(v_link.tenant_id, 'sms', v_phone.phone, false, 'preference_page');
    elsif v_wanted and v_phone.stopped = 'preference_page' then
      delete from public.contact_suppressions
      where tenant_id = v_link.tenant_id and channel = 'sms' and address_key = v_phone.phone and source = 'preference_page';
      perform brainops_internal.record_choice(v_link.tenant_id, 'sms', v_phone.phone, true, 'preference_page');
    end if;
  end loop;
  return true;
end;
$$;

comment on function brainops_internal.save_preferences(text, jsonb) is
  'Writes the choices of the holder of an unsubscribe link: {"email": bool, "sms": bool, "topics": {code: bool}}; what is not named stays as it is. False for an unknown token.';

alter function brainops_internal.save_preferences(text, jsonb) owner to brainops_system;
revoke execute on function brainops_internal.save_preferences(text, jsonb) from public;

create or replace function brainops_internal.stop_mail(p_tenant_id uuid, p_address text, p_source text)
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
      -- A temporary suppression becomes the person's own; a permanent one keeps its reason.
      reason = case when s.expires_at is null then s.reason else excluded.reason end,
      -- The person unsubscribed here, so a later report of SendGrid must not lift it.
      source = case when s.expires_at is not null or s.reason = 'unsubscribed' then excluded.source else s.source end,
      person_source = excluded.person_source;
  if brainops.consent_state(p_tenant_id, 'email', p_address) is distinct from 'denied' then
    perform brainops_internal.record_choice(p_tenant_id, 'email', p_address, false, p_source);
  end if;
end;
$$;

comment on function brainops_internal.stop_mail(uuid, text, text) is
  'Stops mail to an address: suppression, consent denied, an event of its leads.';

revoke execute on function brainops_internal.stop_mail(uuid, text, text) from public;
grant execute on function brainops_internal.stop_mail(uuid, text, text) to brainops_system;

-- Lifts only what the person chose: a bounce, a complaint, or a reason of the tenant's own stays.
create or replace function brainops_internal.resume_mail(
  p_tenant_id uuid,
  p_address text,
  p_source text,
  p_evidence jsonb
)
returns void
language plpgsql
set search_path = ''
as $$
begin
  delete from public.contact_suppressions
  where tenant_id = p_tenant_id and channel = 'email' and address_key = lower(btrim(p_address)) and reason = 'unsubscribed';
  perform brainops_internal.lift_persons_stop(p_tenant_id, 'email', p_address, '{unsubscribe_link,preference_page,sendgrid}');
  -- The link went to the address, so the grant counts as confirmed.
  perform brainops_internal.record_choice(
    p_tenant_id, 'email', p_address, true, p_source, p_evidence || jsonb_build_object('confirmed_at', brainops.now())
  );
end;
$$;

comment on function brainops_internal.resume_mail(uuid, text, text, jsonb) is
  'Resumes mail to an address: lifts an unsubscribe, and records a confirmed grant with p_evidence.';

revoke execute on function brainops_internal.resume_mail(uuid, text, text, jsonb) from public;
grant execute on function brainops_internal.resume_mail(uuid, text, text, jsonb) to brainops_system;

create or replace function brainops_internal.record_choice(
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
  -- The consent comes first, because triggers of the lead's event may read it.
  insert into public.contact_consents (tenant_id, lead_id, channel, address, state, source, evidence)
  values (
    p_tenant_id, v_lead_ids[1], p_channel, p_address, case when p_granted then 'granted' else 'denied' end, p_source, p_evidence
  );
  perform brainops_internal.record_lead_event(
    p_tenant_id, id,
    case when p_granted then 'opted_in' when p_channel = 'email' then 'email_unsubscribed' else 'opted_out' end,
    p_channel, brainops.now(), v_key, jsonb_build_object('source', p_source)
  )
  from unnest(v_lead_ids) as id;
end;
$$;

comment on function brainops_internal.record_choice(uuid, text, text, boolean, text, jsonb) is
  'Records a person''s choice about a channel: a consent, and an event of each lead with the address.';

revoke execute on function brainops_internal.record_choice(uuid, text, text, boolean, text, jsonb) from public;
grant execute on function brainops_internal.record_choice(uuid, text, text, boolean, text, jsonb) to brainops_system;

create or replace function brainops_internal.preference_phones(p_tenant_id uuid, p_address text)
returns table (phone text, stopped text, person text)
language sql
stable
set search_path = ''
as $$
  select distinct l.phone_e164, s.source, s.person_source
  from
    brainops_internal.leads_at(p_tenant_id, p_address) as l
    left join public.contact_suppressions as s
      on s.tenant_id = l.tenant_id
      and s.channel = 'sms'
      and s.address_key in (l.phone_e164, brainops_internal.address_digest(l.phone_e164))
      and (s.expires_at is null or s.expires_at > brainops.now())
  where l.phone_e164 is not null;
$$;

comment on function brainops_internal.preference_phones(uuid, text) is
  'Phone numbers of the leads with this e-mail address, which the preference page is about, and the suppression of texts to each: its source (stopped; null: not suppressed) and its person_source (person; null: not the person''s word).';

revoke execute on function brainops_internal.preference_phones(uuid, text) from public;
grant execute on function brainops_internal.preference_phones(uuid, text) to brainops_system;

create or replace function brainops_internal.masked_address(p_address text)
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

comment on function brainops_internal.masked_address(text) is
  'An address as the preference page shows it, such as a•••@example.com or •••47: enough for its owner to recognize it.';

revoke execute on function brainops_internal.masked_address(text) from public;
grant execute on function brainops_internal.masked_address(text) to brainops_system;
