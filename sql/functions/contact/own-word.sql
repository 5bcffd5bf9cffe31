-- A person's own word: an unsubscribe, a STOP, a complaint, a choice on the preference page, an erasure. Only the person
-- lifts it (the preference page, a confirmed opt-in, START), or an admin with a recorded reason (lift_opt_out). A tenant
-- or a service may add stops of its own, and lift those.
--
-- The rule is in triggers, which decide by the session's login: tenants also reach these tables through functions that
-- run with the engine's rights. A login of the engine (a member of brainops_system) acts for the person.

create or replace function brainops_internal.is_persons_stop(p_source text, p_reason text)
returns boolean
language sql
immutable
parallel safe
set search_path = ''
as $$
  select
    p_source in ('unsubscribe_link', 'preference_page', 'forget')
    or p_source in ('sendgrid', 'twilio')
    and p_reason in ('unsubscribed', 'complained');
$$;

comment on function brainops_internal.is_persons_stop(text, text) is
  'Whether a suppression with this source and reason is the person''s own word; a bounce, for example, is not.';

revoke execute on function brainops_internal.is_persons_stop(text, text) from public;
grant execute on function brainops_internal.is_persons_stop(text, text) to brainops_system;

create or replace function brainops_internal.speaks_for_persons()
returns boolean
language sql
stable
set search_path = ''
as $$
  select pg_catalog.pg_has_role(session_user, 'brainops_system', 'member');
$$;

comment on function brainops_internal.speaks_for_persons is
  'Whether the session is the engine''s: only its workers and servers write what a person said.';

revoke execute on function brainops_internal.speaks_for_persons() from public;
grant execute on function brainops_internal.speaks_for_persons() to brainops_system;

-- Two rows can take the place of a person's stop: the digest of a person who was forgotten, which stops the address for
-- good, and the consent that an admin's lift_opt_out records. Tenants can write the first, which lifts nothing, and
-- not the second.
create or replace function brainops_internal.stop_is_replaced(p_stop public.contact_suppressions)
returns boolean
language sql
stable
set search_path = ''
as $$
  select
    exists (
      select
      from public.contact_suppressions as s
      where
        s.tenant_id = p_stop.tenant_id
        and s.channel = p_stop.channel
        and s.address_key = brainops_internal.address_digest(p_stop.address_key)
        and s.person_source = 'forget'
        and s.expires_at is null
        and s.id <> p_stop.id
    )
    or exists (
      select
      from public.contact_consents as c
      where
        c.tenant_id = p_stop.tenant_id
        and c.channel = p_stop.channel
        and c.address_key = p_stop.address_key
        and c.source = 'admin'
        and c.state = 'granted'
        and c.created_at >= p_stop.person_at
    );
$$;

comment on function brainops_internal.stop_is_replaced(public.contact_suppressions) is
  'Whether a person''s stop may go: the person was forgotten, which stops the address by its digest, or an admin lifted it.';

revoke execute on function brainops_internal.stop_is_replaced(public.contact_suppressions) from public;
grant execute on function brainops_internal.stop_is_replaced(public.contact_suppressions) to brainops_system;

-- A row may hold two stops of one address, the tenant's (reason, source) and the person's (person_source): lifting one
-- leaves the other. So a tenant may change its own reason of a row, but not weaken the row.
create or replace function brainops_internal.keep_persons_stop()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_engine constant boolean := brainops_internal.speaks_for_persons();
begin
  if tg_op = 'INSERT' then
    new.person_source := case when brainops_internal.is_persons_stop(new.source, new.reason) then new.source end;
    new.person_at := case when new.person_source is not null then now() end;
    return new;
  end if;
  if tg_op = 'UPDATE' and v_engine then
    new.person_at := case
      when new.person_source is null then null
      when new.person_source is distinct from old.person_source then now()
      else old.person_at
    end;
    return new;
  end if;
  if tg_op = 'UPDATE' then
    if old.person_source is null then
      new.person_source := case when brainops_internal.is_persons_stop(new.source, new.reason) then new.source end;
      new.person_at := case when new.person_source is not null then now() end;
      return new;
    end if;
    if new.person_source is null and brainops_internal.stop_is_replaced(old) then
      new.person_at := null;
      return new;
    end if;
    -- address_key is a generated column, which new does not have yet.
    if (new.tenant_id, new.channel, lower(btrim(new.address))) = (old.tenant_id, old.channel, old.address_key)
      and new.expires_at is null and old.expires_at is null
    then
      new.person_source := old.person_source;
      new.person_at := old.person_at;
      return new;
    end if;
  elsif v_engine or old.person_source is null or brainops_internal.stop_is_replaced(old) then
    return old;
  end if;
  raise exception 'contact_suppressions: % is suppressed by the person''s own word (%), which only the person can lift', quote_literal(left(old.address, 120)), old.person_source
    using errcode = 'insufficient_privilege', column = 'person_source',
      hint = 'The person lifts it on the preference page, by a confirmed opt-in or by the text START; an admin with brainops.lift_opt_out, which records the reason.';
end;
$$;

comment on function brainops_internal.keep_persons_stop is
  'Trigger on contact_suppressions: fills person_source and person_at; 42501 if a login that is not the engine''s would delete, move or limit a suppression that is the person''s own word.';

alter function brainops_internal.keep_persons_stop() owner to brainops_system;
revoke execute on function brainops_internal.keep_persons_stop() from public;

create or replace function brainops_internal.person_denies(p_tenant_id uuid, p_channel text, p_address_key text)
returns boolean
language sql
stable
set search_path = ''
as $$
  select
    coalesce(
      (
        select state = 'denied'
        from public.contact_consents
        where
          tenant_id = p_tenant_id
          and channel = p_channel
          and address_key = p_address_key
          and by_person
          and state <> 'pending'
        order by occurred_at desc, state = 'denied' desc, created_at desc
        limit 1
      ),
      false
    );
$$;

comment on function brainops_internal.person_denies(uuid, text, text) is
  'Whether the last of the person''s own entries in contact_consents is a denial. p_address_key: as in contact_consents.';

revoke execute on function brainops_internal.person_denies(uuid, text, text) from public;
grant execute on function brainops_internal.person_denies(uuid, text, text) to brainops_system;

-- consent_state does not count such a grant anyway, whatever its time; the error says so.
create or replace function brainops_internal.keep_persons_denial()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  -- Row level security will refuse a row of another tenant; until then, nothing of that tenant may be read.
  if brainops_internal.speaks_for_persons() or not brainops_internal.may_act_for(new.tenant_id) then
    return new;
  end if;
  if new.source = 'admin' and pg_has_role(session_user, 'brainops_admin', 'member')
    and btrim(coalesce(new.evidence ->> 'reason', '')) <> ''
  then
    return new;
  end if;
  if brainops_internal.is_persons_source(new.source) then
    raise exception 'source: % is for what the person said to BrainOps itself', quote_literal(new.source)
      using errcode = 'insufficient_privilege', column = 'source',
        hint = 'Leave source out, or write where your entry comes from, such as crm.';
  end if;
  if brainops_internal.person_denies(new.tenant_id, new.channel, lower(btrim(new.address))) then
    raise exception 'contact_consents: the person at % has withdrawn consent, and only the person can give it again', quote_literal(left(new.address, 120))
      using errcode = 'insufficient_privilege', column = 'state',
        hint = 'The person gives it on the preference page, by a confirmed opt-in or by the text START; an admin records it with brainops.lift_opt_out.';
  end if;
  return new;
end;
$$;

comment on function brainops_internal.keep_persons_denial is
  'Trigger on contact_consents, before a grant: 42501 for a login that is not the engine''s, if the source stands for the person''s own word, or the person has denied.';

alter function brainops_internal.keep_persons_denial() owner to brainops_system;
revoke execute on function brainops_internal.keep_persons_denial() from public;

-- forget erases consents and topic opt-outs too, once the digest stops the address.
create or replace function brainops_internal.keep_persons_choice()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_key constant text := old.address_key;
begin
  if brainops_internal.speaks_for_persons() or exists (
    select from public.contact_suppressions as s
    where s.tenant_id = old.tenant_id and s.address_key = brainops_internal.address_digest(v_key)
      and s.person_source = 'forget' and s.expires_at is null
  ) then
    if tg_op = 'DELETE' then
      return old;
    end if;
    return new;
  end if;
  raise exception '%: what the person at % chose may not be changed or deleted', tg_relid::regclass, quote_literal(left(v_key, 120))
    using errcode = 'insufficient_privilege', column = 'source',
      hint = 'Only the person changes it, on the preference page. brainops.forget erases all data about a person.';
end;
$$;

comment on function brainops_internal.keep_persons_choice is
  'Trigger on contact_consents and contact_topic_optouts, for rows that are the person''s own word: 42501 for logins that are not the engine''s, unless the person was forgotten.';

alter function brainops_internal.keep_persons_choice() owner to brainops_system;
revoke execute on function brainops_internal.keep_persons_choice() from public;

-- The consent comes first: it is the record, and stop_is_replaced looks for it.
create or replace function brainops.lift_opt_out(p_tenant text, p_channel text, p_address text, p_reason text)
returns int
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_tenant_id uuid := brainops_internal.tenant_of_caller(p_tenant);
  v_address text := brainops_internal.contact_address(v_tenant_id, p_channel, p_address);
  v_keys text[];
  v_lifted jsonb;
begin
  if btrim(coalesce(p_reason, '')) = '' then
    raise exception 'p_reason: is empty'
      using errcode = 'invalid_parameter_value', hint = 'Give how the person asked for it, such as "by phone, 4 May".';
  end if;
  if v_address is null then
    raise exception 'p_address: % is not a phone number', coalesce(quote_literal(left(p_address, 120)), 'null')
      using errcode = 'OP017', hint = 'Give one phone number with its country code, such as +13035550100, without an extension.';
  end if;
  v_keys := array[lower(btrim(v_address)), brainops_internal.address_digest(v_address)];
  select coalesce(jsonb_agg(jsonb_build_object('key', s.address_key, 'source', s.person_source, 'reason', s.reason)), '[]')
    into v_lifted
    from public.contact_suppressions as s
    where s.tenant_id = v_tenant_id and s.channel = p_channel and s.address_key = any (v_keys) and s.person_source is not null;
  insert into public.contact_consents (tenant_id, channel, address, state, source, evidence)
  select
    v_tenant_id, p_channel, k, 'granted', 'admin',
    jsonb_build_object('reason', p_reason, 'recorded_by', session_user, 'lifted', v_lifted)
  from unnest(v_keys) as k
  where k = v_keys[1] or v_lifted @> jsonb_build_array(jsonb_build_object('key', k));
  delete from public.contact_suppressions as s
  where s.tenant_id = v_tenant_id and s.channel = p_channel and s.address_key = any (v_keys)
    and brainops_internal.is_persons_stop(s.source, s.reason);
  update public.contact_suppressions as s
  set person_source = null
  where s.tenant_id = v_tenant_id and s.channel = p_channel and s.address_key = any (v_keys) and s.person_source is not null;
  return jsonb_array_length(v_lifted);
end;
$$;

comment on function brainops.lift_opt_out(text, text, text, text) is
  'Lifts what a person said (unsubscribe, STOP, complaint, erasure), because the person asked the administrator for it: p_reason says how. p_tenant: slug or id; p_channel: email or sms. Recorded as a grant with source admin in contact_consents, with the reason, the login and what was lifted. The tenant''s own suppressions and bounces stay. Returns the number of suppressions lifted. 22023 without a reason, OP017 for a number that cannot be read, OP007 for an unknown tenant.';

alter function brainops.lift_opt_out(text, text, text, text) owner to brainops_system;
revoke execute on function brainops.lift_opt_out(text, text, text, text) from public;
grant execute on function brainops.lift_opt_out(text, text, text, text) to brainops_admin;
