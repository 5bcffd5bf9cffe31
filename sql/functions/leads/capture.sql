-- The row as it should be, before anybody looks for the person in it.
create or replace function brainops_internal.normal_lead(p_lead public.revenue_leads)
returns public.revenue_leads
language plpgsql
stable
set search_path = ''
as $$
begin
  p_lead.email := nullif(btrim(p_lead.email, E' \t\r\n'), '');
  p_lead.phone := nullif(btrim(p_lead.phone, E' \t\r\n'), '');
  -- Clients write the JSON null where they mean none.
  p_lead.metadata := coalesce(nullif(p_lead.metadata, 'null'), '{}');
  p_lead.score := case
    when p_lead.score is null then 0
    -- A share of 1, as some clients reckon. Exactly 1 is 1 of 100.
    when p_lead.score > 0 and p_lead.score < 1 then round(p_lead.score * 100)
    when p_lead.score between 0 and 100 then round(p_lead.score)
    else p_lead.score
  end;
  if p_lead.phone is null then
    p_lead.phone := p_lead.phone_e164;
  elsif p_lead.phone_e164 is null then
    p_lead.phone_e164 := brainops_internal.phone_e164(
      p_lead.phone,
      case
        when p_lead.phone ~ '^(\+|00)' then null
        else (select coalesce(t.settings ->> 'country', 'US') from public.tenants as t where t.id = p_lead.tenant_id)
      end
    );
  end if;
  return p_lead;
end;
$$;

comment on function brainops_internal.normal_lead(public.revenue_leads) is
  'The row as it is stored: addresses trimmed, a score of 0 to 1 as one of 100, the phone number in E.164 where that can be told.';

revoke execute on function brainops_internal.normal_lead(revenue_leads) from public;
grant execute
on function brainops_internal.normal_lead(revenue_leads)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

-- The points that it takes to get from what has been reckoned to this score.
create or replace function brainops_internal.set_score(p_tenant_id uuid, p_lead_id uuid, p_score numeric, p_reason text)
returns void
language sql
set search_path = ''
as $$
  insert into public.lead_score_events (tenant_id, lead_id, reason, points)
  values
    (
      p_tenant_id,
      p_lead_id,
      p_reason,
      greatest(least(p_score - brainops_internal.score_total(p_tenant_id, p_lead_id), 1000000), -1000000)
    );
  update public.revenue_leads
  set
    score = p_score,
    rescore_requested_at = brainops.now()
  where id = p_lead_id and (score <> p_score or rescore_requested_at is null);
$$;

revoke execute on function brainops_internal.set_score(uuid, uuid, numeric, text) from public;
grant execute on function brainops_internal.set_score(uuid, uuid, numeric, text) to brainops_system;

create or replace function brainops_internal.before_lead_insert()
returns trigger
language plpgsql
-- Looks for the person among leads that a service may not see yet.
security definer
set search_path = ''
as $$
declare
  v_stage text := brainops_internal.normal_stage(coalesce(new.stage, 'new'));
  v_email text;
  v_phone text;
  v_into uuid;
  v_other uuid;
  v_returning text := current_setting('brainops.inserted_tenant', true);
begin
  if v_stage is null then
    raise exception 'stage: unknown word %', quote_literal(left(new.stage, 80))
      using errcode = 'OP011', column = 'stage',
        hint = 'Write new, contacted, qualified, proposal_sent, negotiating, won, lost or nurturing, or leave stage out.';
  end if;
  new := brainops_internal.normal_lead(new);
  new.stage := v_stage;
  new.merged_into := null;
  new.scored_at := null;
  new.rescore_requested_at := brainops.now();
  v_email := 'email:' || brainops_internal.email_key(new.email);
  v_phone := 'phone:' || new.phone_e164;

  select lead_id into v_into from public.revenue_lead_aliases where id = new.id and tenant_id = new.tenant_id;
  -- A second row with one id is the business of the primary key, or of the client's "on conflict".
  if exists (select from public.revenue_leads where id = new.id) then
    return new;
  end if;
  loop
    if v_into is null and v_email is not null then
      v_into := nullif(brainops_internal.claim_lead_key(new.tenant_id, v_email, new.id), new.id);
    end if;
    if v_phone is not null then
      v_other := nullif(brainops_internal.claim_lead_key(new.tenant_id, v_phone, coalesce(v_into, new.id)), coalesce(v_into, new.id));
      -- Two people with addresses of their own may share a telephone.
      if exists (select from public.revenue_leads where id = v_other and (v_email is null or email_key is null)) then
        -- One lead has the address and another the number: this row says that they are one person.
        v_into := case
          when v_into is null then v_other
          when exists (select from public.revenue_leads where id = v_other and email_key is null)
            then brainops_internal.merge_lead_into(new.tenant_id, v_into, v_other)
          else v_into
        end;
      end if;
    end if;
    exit when v_into is null;
    update brainops.lead_keys set lead_id = v_into where tenant_id = new.tenant_id and lead_id = new.id;
    if brainops_internal.merge_row_into_lead(v_into, new) then
      insert into public.revenue_lead_aliases (id, tenant_id, lead_id) values (new.id, new.tenant_id, v_into)
      on conflict (id) do nothing;
      perform brainops_internal.record_lead_event(
        new.tenant_id, v_into, 'merged', null, null, new.id::text,
        jsonb_strip_nulls(jsonb_build_object('id', new.id, 'source', new.source))
      );
      new.merged_into := v_into;
      exit;
    end if;
    v_into := null; -- deleted in between
  end loop;
  -- The inserts above forgot whose row this is, which RETURNING goes by (sql/0002, fill_tenant).
  perform set_config('brainops.inserted_tenant', coalesce(v_returning, ''), true);
  return new;
end;
$$;

alter function brainops_internal.before_lead_insert() owner to brainops_system;
revoke execute on function brainops_internal.before_lead_insert() from public;

-- Puts into a lead what another row of the same person says: nulls are filled, the further stage and
-- the higher score hold, and what differs is kept in metadata.merged, so that nothing is lost.
-- Returns false where the lead is gone.
create or replace function brainops_internal.merge_row_into_lead(p_into uuid, p_row public.revenue_leads)
returns boolean
language plpgsql
security definer
set search_path = ''
as $$
declare
  c_columns constant text[] := array[
    'company_name', 'contact_name', 'email', 'phone', 'website', 'value_estimate', 'source', 'time_zone', 'state',
    'location', 'industry', 'status', 'assigned_agent_id', 'lead_id', 'owner_email', 'next_action', 'next_action_date'
  ];
  v_lead public.revenue_leads;
  v_new public.revenue_leads;
  v_old jsonb;
  v_given jsonb := to_jsonb(p_row);
  v_other jsonb;
  v_more jsonb;
  v_other_metadata jsonb;
  v_merged jsonb;
begin
  select * into v_lead from public.revenue_leads where id = p_into and tenant_id = p_row.tenant_id for no key update;
  if not found then
    return false;
  end if;
  v_old := to_jsonb(v_lead);

  select
    coalesce(jsonb_object_agg(c, v_given -> c) filter (where v_old ->> c is null), '{}'),
    coalesce(jsonb_object_agg(c, v_given -> c) filter (where lower(btrim(v_old ->> c)) <> lower(btrim(v_given ->> c))), '{}')
    into v_more, v_other
    from unnest(c_columns) as c
    where v_given ->> c is not null;
  v_new := jsonb_populate_record(v_lead, v_more);
  if v_lead.phone is null or v_lead.phone_e164 is null and v_lead.phone = p_row.phone then
    v_new.phone_e164 := p_row.phone_e164;
  elsif v_lead.phone_e164 = p_row.phone_e164 then
    v_other := v_other - 'phone'; -- the same number, written in another way
  end if;

  select
    coalesce(jsonb_object_agg(k.key, k.value) filter (where coalesce(v_lead.metadata -> k.key, 'null') = 'null'), '{}'),
    coalesce(jsonb_object_agg(k.key, k.value) filter (where v_lead.metadata -> k.key not in (k.value, 'null')), '{}')
    into v_more, v_other_metadata
    from jsonb_each(p_row.metadata - 'merged') as k
    where k.value <> 'null';
  if v_other_metadata <> '{}' then
    v_other := v_other || jsonb_build_object('metadata', v_other_metadata);
  end if;

  if brainops_internal.stage_rank(p_row.stage) > brainops_internal.stage_rank(v_lead.stage)
    and p_row.stage = any (brainops.next_stages(v_lead.stage))
    -- A lost lead is not taken up again by mistake, nor a deal under way ended by an old list.
    and (p_row.stage <> 'lost' or v_lead.stage = 'new')
  then
    v_new.stage := p_row.stage;
  elsif p_row.stage not in ('new', v_lead.stage) then
    v_other := v_other || jsonb_build_object('stage', p_row.stage);
  end if;
  if p_row.score > v_lead.score and v_lead.scored_at is null then
    v_new.score := p_row.score;
  elsif p_row.score > 0 and p_row.score < v_lead.score then
    v_other := v_other || jsonb_build_object('score', p_row.score);
  end if;
  v_new.last_contact := greatest(v_lead.last_contact, p_row.last_contact);
  v_new.created_at := least(v_lead.created_at, p_row.created_at);

  v_merged := coalesce(case when jsonb_typeof(v_lead.metadata -> 'merged') = 'array' then v_lead.metadata -> 'merged' end, '[]')
    || coalesce(case when jsonb_typeof(p_row.metadata -> 'merged') = 'array' then p_row.metadata -> 'merged' end, '[]');
  -- Told again it is the same; a client that inserts its whole list each night must not fill the row.
  if v_other <> '{}' and not exists (select from jsonb_array_elements(v_merged) as m where m -> 'values' = v_other) then
    v_merged := v_merged || jsonb_build_object('id', p_row.id, 'at', brainops.now(), 'values', v_other);
  end if;
  v_new.metadata := v_lead.metadata || v_more || case when v_merged <> '[]' then jsonb_build_object('merged', v_merged) else '{}' end;

  if v_new is distinct from v_lead then
    update public.revenue_leads
    set
      company_name = v_new.company_name,
      contact_name = v_new.contact_name,
      email = v_new.email,
      phone = v_new.phone,
      phone_e164 = v_new.phone_e164,
      website = v_new.website,
      value_estimate = v_new.value_estimate,
      source = v_new.source,
      time_zone = v_new.time_zone,
      state = v_new.state,
      location = v_new.location,
      industry = v_new.industry,
      status = v_new.status,
      assigned_agent_id = v_new.assigned_agent_id,
      lead_id = v_new.lead_id,
      owner_email = v_new.owner_email,
      next_action = v_new.next_action,
      next_action_date = v_new.next_action_date,
      stage = v_new.stage,
      score = v_new.score,
      last_contact = v_new.last_contact,
      created_at = v_new.created_at,
      metadata = v_new.metadata
    where id = p_into;
  end if;
  if p_row.score > v_lead.score and v_lead.scored_at is not null then
    perform brainops_internal.set_score(v_lead.tenant_id, p_into, p_row.score, 'merged');
  end if;
  return true;
end;
$$;

alter function brainops_internal.merge_row_into_lead(uuid, revenue_leads) owner to brainops_system;
revoke execute on function brainops_internal.merge_row_into_lead(uuid, revenue_leads) from public;

create or replace function brainops_internal.drop_merged_lead()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  delete from public.revenue_leads where id = new.id;
  return null;
end;
$$;

alter function brainops_internal.drop_merged_lead() owner to brainops_system;
revoke execute on function brainops_internal.drop_merged_lead() from public;

create or replace function brainops_internal.after_lead_insert()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  insert into public.lead_events (tenant_id, lead_id, event, source_key, metadata)
  select tenant_id, id, 'captured', 'captured', jsonb_strip_nulls(jsonb_build_object('source', source))
  from inserted
  where merged_into is null;
  perform brainops_internal.enqueue_rescores((select array_agg(id) from inserted where merged_into is null));
  return null;
end;
$$;

alter function brainops_internal.after_lead_insert() owner to brainops_system;
revoke execute on function brainops_internal.after_lead_insert() from public;

-- With the rights of whoever updates, so that the engine's own writes are told from a client's.
create or replace function brainops_internal.before_lead_update()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_stage text;
begin
  if new.tenant_id <> old.tenant_id then
    raise exception 'tenant_id: lead % belongs to its tenant for good', old.id
      using errcode = 'insufficient_privilege', hint = 'Insert it for the other tenant.';
  end if;
  if new.stage is distinct from old.stage then
    v_stage := brainops_internal.normal_stage(new.stage);
    if v_stage is null then
      raise exception 'stage: unknown word %', coalesce(quote_literal(left(new.stage, 80)), 'null')
        using errcode = 'OP011', column = 'stage',
          hint = format('From %s it may go to %s.', old.stage, array_to_string(brainops.next_stages(old.stage), ', '));
    end if;
    if v_stage <> lower(btrim(new.stage)) and v_stage not in ('lost', old.stage)
      and (brainops_internal.stage_rank(v_stage) < brainops_internal.stage_rank(old.stage) or v_stage <> all (brainops.next_stages(old.stage)))
    then
      -- A client's own word that says less than is known ("replied" of a lead that negotiates).
      v_stage := old.stage;
    end if;
    if v_stage <> old.stage and v_stage <> all (brainops.next_stages(old.stage)) then
      raise exception 'stage: lead % cannot go from % to %', old.id, old.stage, quote_literal(left(new.stage, 80))
        using errcode = 'OP011', column = 'stage',
          hint = format('From %s it may go to %s.', old.stage, array_to_string(brainops.next_stages(old.stage), ', '));
    end if;
    new.stage := v_stage;
  end if;

  -- Bookkeeping alone does not make a row a newer one.
  if (new.scored_at, new.rescore_requested_at) is not distinct from (old.scored_at, old.rescore_requested_at)
    or new.stage <> old.stage
  then
    new.updated_at := brainops.now();
  end if;
  if new.score is distinct from old.score or new.metadata is distinct from old.metadata
    or new.email is distinct from old.email or new.phone is distinct from old.phone or new.phone_e164 is distinct from old.phone_e164
  then
    if new.phone is distinct from old.phone and new.phone_e164 is not distinct from old.phone_e164 then
      new.phone_e164 := null;
    end if;
    new := brainops_internal.normal_lead(new);
  end if;
  if new.company_name is distinct from old.company_name or new.metadata is distinct from old.metadata
    or new.email is distinct from old.email or new.phone is distinct from old.phone
  then
    new.rescore_requested_at := coalesce(new.rescore_requested_at, brainops.now());
  end if;
  return new;
end;
$$;

alter function brainops_internal.before_lead_update() owner to brainops_system;
revoke execute on function brainops_internal.before_lead_update() from public;
grant execute on function brainops_internal.before_lead_update() to brainops_system;

create or replace function brainops_internal.after_lead_update()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  insert into public.lead_events (tenant_id, lead_id, event, metadata)
  select n.tenant_id, n.id, 'stage_changed', jsonb_build_object('from', o.stage, 'to', n.stage)
  from after_rows as n
  inner join before_rows as o on o.id = n.id
  where o.stage <> n.stage;
  perform brainops_internal.enqueue_rescores(
    (
      select array_agg(n.id)
      from after_rows as n
      inner join before_rows as o on o.id = n.id
      where o.rescore_requested_at is null and n.rescore_requested_at is not null
    )
  );
  return null;
end;
$$;

alter function brainops_internal.after_lead_update() owner to brainops_system;
revoke execute on function brainops_internal.after_lead_update() from public;

create or replace function brainops_internal.after_lead_delete()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  delete from brainops.lead_keys as k using deleted as d where k.tenant_id = d.tenant_id and k.lead_id = d.id;
  return null;
end;
$$;

alter function brainops_internal.after_lead_delete() owner to brainops_system;
revoke execute on function brainops_internal.after_lead_delete() from public;
