-- Merging. People call merge_leads; merge_lead_into does the work, also for an insert which shows that two leads
-- are the same person; merge_row_into_lead combines the columns. merge-references.sql moves the rows that refer to
-- a merged lead.

create or replace function brainops.merge_leads(p_into uuid, p_from uuid)
returns uuid
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_into uuid := brainops_internal.find_lead(p_into, null);
  v_from uuid := brainops_internal.find_lead(p_from, null);
  v_tenant_id uuid;
begin
  if v_into is null or v_from is null then
    raise exception 'lead: % is not a lead, or it belongs to another tenant', coalesce(case when v_into is null then p_into::text else p_from::text end, 'null')
      using errcode = 'OP009', hint = 'Give the ids of two of your leads: select id, email from revenue_leads.';
  end if;
  if v_into = v_from then
    return v_into;
  end if;
  select tenant_id into v_tenant_id from public.revenue_leads where id = v_into;
  if not exists (select from public.revenue_leads where id = v_from and tenant_id = v_tenant_id) then
    raise exception 'lead: % and % belong to different tenants', p_into, p_from
      using errcode = 'OP012', hint = 'Only leads of the same tenant can be merged.';
  end if;
  return brainops_internal.merge_lead_into(v_tenant_id, v_into, v_from);
end;
$$;

comment on function brainops.merge_leads(uuid, uuid) is
  'Merges two leads of one tenant: fills p_into from p_from, moves all rows that refer to p_from, and makes its id an alias of p_into. A row that cannot be moved, because p_into has one with the same unique key, is kept in the event merged. Returns the id of the remaining lead; idempotent. OP009 if a lead does not exist or belongs to another tenant than the caller''s, OP012 if the two belong to different tenants.';

alter function brainops.merge_leads(uuid, uuid) owner to brainops_system;
revoke execute on function brainops.merge_leads(uuid, uuid) from public;
grant execute
on function brainops.merge_leads(uuid, uuid)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin;

-- Locks both leads in the order of their ids. Points for what the person did are moved; points for facts are
-- computed again, because they depend on the row.
create or replace function brainops_internal.merge_lead_into(p_tenant_id uuid, p_into uuid, p_from uuid)
returns uuid
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_lead public.revenue_leads;
  v_kept jsonb;
begin
  perform from public.revenue_leads where tenant_id = p_tenant_id and id in (p_into, p_from) order by id for update;
  select * into v_lead from public.revenue_leads where tenant_id = p_tenant_id and id = p_from;
  if not found or not exists (select from public.revenue_leads where tenant_id = p_tenant_id and id = p_into) then
    -- One of them was merged or deleted while this transaction waited.
    return coalesce(brainops_internal.lead_alias(p_into, p_tenant_id), p_into);
  end if;

  update brainops.lead_keys set lead_id = p_into where tenant_id = p_tenant_id and lead_id = p_from;
  -- Makes its email_key null, so that the other lead can take the address.
  update public.revenue_leads set merged_into = p_into where id = p_from;
  perform brainops_internal.merge_row_into_lead(p_into, v_lead);

  with dropped as (
    delete from public.lead_score_events as e
    where e.tenant_id = p_tenant_id and e.lead_id = p_from
      and (e.reason in ('set_by_client', 'merged') or e.reason in (select reason from brainops.score_reasons where kind = 'fact'))
    returning e.reason, e.points
  )
  select coalesce(jsonb_agg(jsonb_build_object('table', 'public.lead_score_events', 'row', to_jsonb(d))), '[]') into v_kept
    from dropped as d;
  -- These two come before the rows are moved: afterwards nothing shows which lead a row came from.
  perform brainops_internal.skip_second_recipients(p_tenant_id, p_into, p_from);
  perform brainops_internal.renumber_entrances(p_tenant_id, p_into, p_from);
  v_kept := v_kept || brainops_internal.move_lead_rows(p_tenant_id, p_into, p_from);

  delete from public.revenue_leads where id = p_from;
  insert into public.revenue_lead_aliases (id, tenant_id, lead_id) values (p_from, p_tenant_id, p_into);
  perform brainops_internal.record_lead_event(
    p_tenant_id, p_into, 'merged', null, null, p_from::text, jsonb_build_object('id', p_from, 'kept', v_kept)
  );
  perform brainops_internal.score_leads(array[p_into]);
  -- A merge never lowers the score.
  perform brainops_internal.set_score(p_tenant_id, p_into, v_lead.score, 'merged')
  from public.revenue_leads
  where id = p_into and score < v_lead.score;
  return p_into;
end;
$$;

comment on function brainops_internal.merge_lead_into(uuid, uuid, uuid) is
  'Merges lead p_from into p_into, both of tenant p_tenant_id, and returns the id of the remaining lead. Does not check what the caller may do.';

alter function brainops_internal.merge_lead_into(uuid, uuid, uuid) owner to brainops_system;
revoke execute on function brainops_internal.merge_lead_into(uuid, uuid, uuid) from public;

-- Nulls are filled; the further stage, the higher score, the later last_contact and the earlier created_at are
-- kept. Values that differ are kept in metadata.merged, as long as metadata stays within its limit.
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
    v_other := v_other - 'phone'; -- the same number, formatted differently
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
    -- An old list must neither reopen a lost lead nor end a deal in progress.
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
  -- Kept once: a client that inserts its whole list every night must not make the row grow.
  if v_other <> '{}' and not exists (select from jsonb_array_elements(v_merged) as m where m -> 'values' = v_other) then
    v_merged := v_merged || jsonb_build_object('id', p_row.id, 'at', brainops.now(), 'values', v_other);
  end if;
  v_new.metadata := v_lead.metadata || v_more || case when v_merged <> '[]' then jsonb_build_object('merged', v_merged) else '{}' end;
  -- The column's limit: a form that anyone can send again must not make the lead unwritable. What no longer fits is left out.
  if pg_column_size(v_new.metadata) > 65536 then
    v_new.metadata := v_lead.metadata;
  end if;

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

comment on function brainops_internal.merge_row_into_lead(uuid, public.revenue_leads) is
  'Fills a lead from another row of the same person, and returns true; false if the lead does not exist any more.';

alter function brainops_internal.merge_row_into_lead(uuid, public.revenue_leads) owner to brainops_system;
revoke execute on function brainops_internal.merge_row_into_lead(uuid, public.revenue_leads) from public;
