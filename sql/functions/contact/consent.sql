-- Consent: whether people agreed to be contacted (contact_consents), and the other reasons, apart from the time of day,
-- for which a marketing message is refused or held. Start at consent_verdicts. contact_address is how addresses are
-- stored in contact_consents and contact_suppressions.

-- If there are several reasons, skip comes before fail, and fail before defer: what can never go is not kept waiting.
-- The latest consents of all addresses are read in one query.
create or replace function brainops_internal.consent_verdicts(
  p_policy public.contact_policies,
  p_rows brainops.contact[]
)
returns setof brainops.verdict
language plpgsql
stable
set search_path = ''
as $$
declare
  -- A fallback: brainops.lift_marketing_hold releases the rows earlier.
  c_hold_recheck constant interval := '6 hours';
  c_pause_recheck constant interval := '1 hour';
  v_now constant timestamptz := brainops.now();
  v_exits jsonb := '{}';
  v_pauses jsonb := '{}';
  v_settings jsonb := (select settings from public.tenants where id = p_policy.tenant_id);
  v_hold text := (
    select reason from public.marketing_holds
    where tenant_id = p_policy.tenant_id and channel = p_policy.channel and lifted_at is null
  );
begin
  if exists (select from unnest(p_rows) as r where r.enrolment_id is not null) then
    select jsonb_object_agg(e.id, brainops_internal.enrolment_exit_reason(e.id)), jsonb_object_agg(e.id, brainops_internal.enrolment_pause_reason(e.id))
      into v_exits, v_pauses
      from (select distinct enrolment_id from unnest(p_rows) where enrolment_id is not null) as e (id);
  end if;
  return query
    with
      asked as materialized (
        select u.id, u.enrolment_id, u.first_due_at, lower(btrim(u.address)) as key from unnest(p_rows) as u
      )
    select
      d.id,
      case
        when d.skip is not null then 'skip'
        when d.fail is not null then 'fail'
        else 'defer'
      end,
      case
        when d.skip is not null or d.fail is not null then null
        when v_hold is null then v_now + c_pause_recheck
        else v_now + c_hold_recheck * (1 + random())
      end,
      coalesce(d.skip, d.fail, 'marketing on hold: ' || v_hold, d.paused)
    from (
      select
        r.id,
        case
          when c.state = 'denied' then 'consent denied'
          when p_policy.consent <> 'opt_out' and c.state is null then 'no consent for ' || p_policy.channel
          -- A grant is confirmed by its evidence, or by an earlier pending entry that it answers.
          when p_policy.consent <> 'opt_out' and (c.state = 'pending' or p_policy.consent = 'double_opt_in' and not (
            c.confirmed or exists (
              select from public.contact_consents as p
              where p.tenant_id = p_policy.tenant_id and p.channel = p_policy.channel and p.address_key = r.key
                and p.state = 'pending' and p.occurred_at <= c.occurred_at
            )
          ))
            then 'double opt-in not confirmed'
          when v_exits ->> r.enrolment_id::text is not null then 'left the campaign: ' || (v_exits ->> r.enrolment_id::text)
          when r.first_due_at < v_now - p_policy.expires_after
            then format('expired: it was due at %s and could not be sent within %s', r.first_due_at, p_policy.expires_after)
        end as skip,
        case
          when p_policy.channel = 'email' and coalesce(btrim(v_settings ->> 'postal_address'), '') = ''
            then 'settings.postal_address is missing: marketing mail must carry the sender''s postal address; set it in tenants.settings, then set status to pending'
        end as fail,
        v_pauses ->> r.enrolment_id::text as paused
      from asked as r
      left join brainops_internal.last_consents(p_policy.tenant_id, p_policy.channel, array(select key from asked)) as c on c.address_key = r.key
    ) as d
    where d.skip is not null or d.fail is not null or v_hold is not null or d.paused is not null;
end;
$$;

comment on function brainops_internal.consent_verdicts(public.contact_policies, brainops.contact[]) is
  'Marketing messages that may not go, for reasons other than the time: no consent, left the campaign, expired (skip), no postal address (fail), on hold or campaign paused (defer).';

revoke execute on function brainops_internal.consent_verdicts(public.contact_policies, brainops.contact[]) from public;
grant execute
on function brainops_internal.consent_verdicts(public.contact_policies, brainops.contact[])
to brainops_worker;

-- For many addresses at once; brainops.consent_state does the same for one address. For the planner settings, see
-- message_verdicts.
create or replace function brainops_internal.last_consents(p_tenant_id uuid, p_channel text, p_addresses text[])
returns table (address_key text, state text, occurred_at timestamptz, confirmed boolean)
language plpgsql
stable
rows 1000
set search_path = ''
set jit = off
set enable_seqscan = off
set enable_nestloop = off
as $$
begin
  return query
    select distinct on (l.address_key) l.address_key, l.state, l.occurred_at, l.confirmed
    from (
      select
        w.address_key, w.state, w.occurred_at, w.created_at, w.evidence ? 'confirmed_at' as confirmed,
        w.by_person,
        row_number() over (
          partition by w.address_key, w.by_person and w.state <> 'pending'
          order by w.occurred_at desc, w.state = 'denied' desc, w.created_at desc
        ) as place
      from public.contact_consents as w
      where w.tenant_id = p_tenant_id and w.channel = p_channel and w.address_key = any (p_addresses)
    ) as l
    where l.place = 1
    order by
      l.address_key, l.by_person and l.state = 'denied' desc, l.occurred_at desc, l.state = 'denied' desc, l.created_at desc;
end;
$$;

comment on function brainops_internal.last_consents(uuid, text, text[]) is
  'The latest entry of each address (in lower case) on the channel; of two at the same instant, denied counts. A denial that is the person''s own word (by_person) counts until the person''s own grant, whatever others entered. confirmed: its evidence has confirmed_at. Addresses without an entry are left out.';

revoke execute on function brainops_internal.last_consents(uuid, text, text[]) from public;
grant execute on function brainops_internal.last_consents(uuid, text, text[]) to brainops_worker;

create or replace function brainops.consent_state(p_tenant_id uuid, p_channel text, p_address text)
returns text
language sql
stable
set search_path = ''
as $$
  select state
  from
    (
      select
        state,
        occurred_at,
        created_at,
        by_person,
        row_number() over (
          partition by by_person and state <> 'pending'
          order by occurred_at desc, state = 'denied' desc, created_at desc
        ) as place
      from public.contact_consents
      where tenant_id = p_tenant_id and channel = p_channel and address_key = lower(btrim(p_address))
    ) as l
  where place = 1
  order by by_person and state = 'denied' desc, occurred_at desc, state = 'denied' desc, created_at desc
  limit 1;
$$;

comment on function brainops.consent_state(uuid, text, text) is
  'The state of the latest consent entry of an address (p_channel: email or sms; a number as E.164): granted, denied or pending. A denial that is the person''s own word (unsubscribe, preference page, STOP) counts until the person''s own grant. Null without an entry, and for a tenant that the caller may not read.';

revoke execute on function brainops.consent_state(uuid, text, text) from public;
grant execute
on function brainops.consent_state(uuid, text, text)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

-- Entries must be found however their address was written: an opt-out of "(303) 555-0101" has to stop texts to
-- +13035550101, and an e-mail address from a file may end in a carriage return.
create or replace function brainops_internal.contact_address(p_tenant_id uuid, p_channel text, p_address text)
returns text
language sql
stable
set search_path = ''
as $$
  select
    case
      -- The digest of a person who was forgotten.
      when a.address ~ '^sha256:' then a.address
      when p_channel = 'email' then a.address
      -- E.164 already, or a short code.
      when a.address ~ '^(\+[1-9][0-9]{6,14}|[0-9]{3,6})$' then a.address
      else coalesce(
        brainops_internal.sms_number(a.address, t.country),
        brainops_internal.phone_e164(a.address, t.country)
      )
    end
  from
    (select regexp_replace(p_address, '^[[:space:]]+|[[:space:]]+$', '', 'g') as address) as a
    cross join lateral (select brainops.tenant_country(p_tenant_id) as country) as t;
$$;

comment on function brainops_internal.contact_address(uuid, text, text) is
  'An address in the form that messages use: without surrounding white space, a number as E.164 (a national one by the tenant''s settings.country, else US). Null for a number that cannot be read.';

revoke execute on function brainops_internal.contact_address(uuid, text, text) from public;
grant execute
on function brainops_internal.contact_address(uuid, text, text)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

create or replace function brainops_internal.keep_contact_address()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_address text;
begin
  -- Row level security will refuse this row; until then, nothing of the other tenant may be read.
  if not brainops_internal.may_act_for(new.tenant_id) then
    return new;
  end if;
  v_address := brainops_internal.contact_address(new.tenant_id, new.channel, new.address);
  if v_address is null then
    -- A grant for such a number has no effect, and must not make a form or an import fail. But a client that writes a
    -- denial or a suppression must learn that it would stop nothing.
    if tg_table_name = 'contact_consents' and (to_jsonb(new) ->> 'state' <> 'denied' or new.source <> 'client') then
      return new;
    end if;
    raise exception 'address: % is not a phone number', quote_literal(left(new.address, 120))
      using errcode = 'OP017', column = 'address', hint = 'Give one phone number with its country code, such as +13035550100, without an extension.';
  end if;
  new.address := v_address;
  return new;
end;
$$;

comment on function brainops_internal.keep_contact_address is
  'Trigger: stores the address as contact_address gives it. OP017 for a number that cannot be read in a suppression or in a denial that a client records.';

alter function brainops_internal.keep_contact_address() owner to brainops_system;
revoke execute on function brainops_internal.keep_contact_address() from public;

-- Applies to the owner and the engine too. lead_id may change: a lead is merged into another one, or deleted.
create or replace function brainops_internal.refuse_consent_change()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  -- address_key and by_person are left out of the comparison: they are generated columns, which new does not have yet.
  if to_jsonb(new) - '{lead_id,address_key,by_person}'::text[] = to_jsonb(old) - '{lead_id,address_key,by_person}'::text[] then
    return new;
  end if;
  raise exception 'contact_consents is append only: update is refused'
    using errcode = 'insufficient_privilege', hint = 'Insert a new row: the latest entry of an address counts.';
end;
$$;

comment on function brainops_internal.refuse_consent_change is
  'Trigger: refuses updates of contact_consents (42501), except of lead_id.';

revoke execute on function brainops_internal.refuse_consent_change() from public;
