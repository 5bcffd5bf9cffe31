-- Capture: what happens to a row that is inserted into revenue_leads. Start at before_lead_insert.
-- sql/0003-leads.sql draws the path and has the lock order; merge.sql fills the existing lead, updates.sql has the
-- triggers of updates.

-- Before insert on revenue_leads. If the person is already a lead, this fills that lead from the row, makes the
-- row's id an alias of it, and sets merged_into, so that drop_merged_lead deletes the row after the insert.
-- Otherwise the row becomes a lead, and holds its e-mail address and phone number in lead_keys.
--
-- A key that a concurrent insert claims makes this one wait for it (claim_lead_key). The loop repeats if the lead
-- that was found is deleted in the meantime.
create or replace function brainops_internal.before_lead_insert()
returns trigger
language plpgsql
-- A service that names its tenant only in the row cannot see that tenant's leads.
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
  -- Row level security refuses a row of another tenant after this trigger; until then nothing of that tenant is touched.
  if not brainops_internal.may_write_for(new.tenant_id) then
    return new;
  end if;
  if v_stage is null then
    raise exception 'stage: unknown stage %', quote_literal(left(new.stage, 80))
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
  -- If a lead has this id, the primary key or the client's "on conflict" decides.
  if exists (select from public.revenue_leads where id = new.id) then
    return new;
  end if;
  loop
    if v_into is null and v_email is not null then
      v_into := nullif(brainops_internal.claim_lead_key(new.tenant_id, v_email, new.id), new.id);
    end if;
    if v_phone is not null then
      v_other := nullif(brainops_internal.claim_lead_key(new.tenant_id, v_phone, coalesce(v_into, new.id)), coalesce(v_into, new.id));
      -- Two people with different e-mail addresses may share a phone number.
      if exists (select from public.revenue_leads where id = v_other and (v_email is null or email_key is null)) then
        -- One lead has the address and another the number: this row shows that they are the same person.
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
    v_into := null; -- deleted in the meantime: look again
  end loop;
  -- The inserts above reset this setting (remember_tenant), and the policy for RETURNING reads it.
  perform set_config('brainops.inserted_tenant', coalesce(v_returning, ''), true);
  return new;
end;
$$;

comment on function brainops_internal.before_lead_insert is
  'Trigger before insert on revenue_leads: normalises the row, and merges it into the lead that the person already is. OP011 for an unknown stage.';

alter function brainops_internal.before_lead_insert() owner to brainops_system;
revoke execute on function brainops_internal.before_lead_insert() from public;

create or replace function brainops_internal.normal_lead(p_lead public.revenue_leads)
returns public.revenue_leads
language plpgsql
stable
set search_path = ''
as $$
begin
  p_lead.email := nullif(btrim(p_lead.email, E' \t\r\n'), '');
  p_lead.phone := nullif(btrim(p_lead.phone, E' \t\r\n'), '');
  -- Clients write the JSON null for "no metadata".
  p_lead.metadata := coalesce(nullif(p_lead.metadata, 'null'), '{}');
  p_lead.score := case
    when p_lead.score is null then 0
    -- Some clients score from 0 to 1. Exactly 1 means 1 of 100.
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
        else brainops.tenant_country(p_lead.tenant_id)
      end
    );
  end if;
  return p_lead;
end;
$$;

comment on function brainops_internal.normal_lead(public.revenue_leads) is
  'Normalises a lead''s row: trims addresses, scales a score between 0 and 1 to 100, and fills phone_e164 if the phone number can be read.';

revoke execute on function brainops_internal.normal_lead(public.revenue_leads) from public;
grant execute
on function brainops_internal.normal_lead(public.revenue_leads)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

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

comment on function brainops_internal.drop_merged_lead is
  'Trigger after insert on revenue_leads: deletes a row that before_lead_insert merged into another lead.';

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

comment on function brainops_internal.after_lead_insert is
  'Trigger after insert on revenue_leads: records the event captured, and queues the first scoring.';

alter function brainops_internal.after_lead_insert() owner to brainops_system;
revoke execute on function brainops_internal.after_lead_insert() from public;
