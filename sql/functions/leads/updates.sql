-- What happens to a lead that is updated or deleted. Start at before_lead_update, which holds the rules for the
-- stage.

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
    raise exception 'tenant_id: lead % cannot be moved to another tenant', old.id
      using errcode = 'insufficient_privilege', hint = 'Insert the lead for the other tenant instead.';
  end if;
  if new.stage is distinct from old.stage then
    v_stage := brainops_internal.normal_stage(new.stage);
    if v_stage is null then
      raise exception 'stage: unknown stage %', coalesce(quote_literal(left(new.stage, 80)), 'null')
        using errcode = 'OP011', column = 'stage',
          hint = format('From %s it may move to %s.', old.stage, array_to_string(brainops.next_stages(old.stage), ', '));
    end if;
    if v_stage <> lower(btrim(new.stage)) and v_stage not in ('lost', old.stage)
      and (brainops_internal.stage_rank(v_stage) < brainops_internal.stage_rank(old.stage) or v_stage <> all (brainops.next_stages(old.stage)))
    then
      -- A client's own name for an earlier stage ("replied" for a lead in negotiating) changes nothing.
      v_stage := old.stage;
    end if;
    if v_stage <> old.stage and v_stage <> all (brainops.next_stages(old.stage)) then
      raise exception 'stage: lead % cannot move from % to %', old.id, old.stage, quote_literal(left(new.stage, 80))
        using errcode = 'OP011', column = 'stage',
          hint = format('From %s it may move to %s.', old.stage, array_to_string(brainops.next_stages(old.stage), ', '));
    end if;
    new.stage := v_stage;
  end if;

  -- A rescore alone does not change updated_at.
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

comment on function brainops_internal.before_lead_update is
  'Trigger before update on revenue_leads: translates and checks the stage (OP011), normalises changed addresses and scores, sets updated_at, and requests a rescore if the row''s facts changed. A lead cannot change its tenant (42501).';

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

comment on function brainops_internal.after_lead_update is
  'Trigger after update on revenue_leads: records stage_changed, and queues scoring for leads whose rescore was requested.';

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

comment on function brainops_internal.after_lead_delete is
  'Trigger after delete on revenue_leads: deletes the keys of the deleted leads.';

alter function brainops_internal.after_lead_delete() owner to brainops_system;
revoke execute on function brainops_internal.after_lead_delete() from public;
