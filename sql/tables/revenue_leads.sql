-- Leads: capture and merge on insert, stages and keys on update, then scores, campaigns and onboarding.
select brainops.protect_table('public.revenue_leads');

revoke insert, update on public.revenue_leads from brainops_tenant, brainops_service;
grant
  insert (
    id,
    tenant_id,
    company_name,
    contact_name,
    email,
    phone,
    website,
    stage,
    score,
    value_estimate,
    source,
    time_zone,
    metadata,
    created_at,
    updated_at,
    last_contact,
    next_action,
    next_action_date,
    merged_into,
    phone_e164,
    owner_email,
    state,
    scored_at,
    rescore_requested_at,
    location,
    industry,
    status,
    is_test,
    is_demo,
    assigned_agent_id,
    lead_id
  ),
  update (
    id,
    tenant_id,
    company_name,
    contact_name,
    email,
    phone,
    website,
    stage,
    score,
    value_estimate,
    source,
    time_zone,
    metadata,
    created_at,
    updated_at,
    last_contact,
    next_action,
    next_action_date,
    merged_into,
    phone_e164,
    owner_email,
    state,
    scored_at,
    rescore_requested_at,
    location,
    industry,
    status,
    is_test,
    is_demo,
    assigned_agent_id,
    lead_id
  )
on public.revenue_leads
to brainops_tenant, brainops_service;

create or replace trigger a2_capture_lead
before insert on public.revenue_leads
for each row
execute function brainops_internal.before_lead_insert();

create or replace trigger a2_check_lead
before update on public.revenue_leads
for each row
execute function brainops_internal.before_lead_update();

create or replace trigger a3_move_lead_keys
before update on public.revenue_leads
for each row
when (old.email is distinct from new.email or old.phone_e164 is distinct from new.phone_e164)
execute function brainops_internal.move_lead_keys();

create or replace trigger a3_refuse_time_zone
before insert or update of time_zone on public.revenue_leads
for each row
when (not brainops_internal.is_time_zone(new.time_zone))
execute function brainops_internal.refuse_time_zone();

-- A trigger's condition is evaluated with the rights of the statement, which distinguishes clients from the engine.
create or replace trigger d0_after_lead_score_update
after update on public.revenue_leads
for each row
when (old.score is distinct from new.score and new.scored_at is not null and current_user <> 'brainops_system')
execute function brainops_internal.after_lead_score_update();

create or replace trigger d0_drop_merged_lead
after insert on public.revenue_leads
for each row
when (new.merged_into is not null)
execute function brainops_internal.drop_merged_lead();

create or replace trigger d1_after_lead_tier
after insert on public.revenue_leads
for each row
when (new.merged_into is null)
execute function brainops_internal.after_lead_tier();

create or replace trigger d1_after_lead_tier_later
after update on public.revenue_leads
for each row
when
  (
    new.merged_into is null
    and (
      (old.score, old.stage, old.source, old.value_estimate, old.metadata) is distinct from (
        new.score,
        new.stage,
        new.source,
        new.value_estimate,
        new.metadata
      )
      or (old.company_name, old.contact_name, old.email, old.phone, old.website, old.time_zone) is distinct from (
        new.company_name,
        new.contact_name,
        new.email,
        new.phone,
        new.website,
        new.time_zone
      )
      or (old.scored_at is null and new.scored_at is not null)
    )
  )
execute function brainops_internal.after_lead_tier();

create or replace trigger d2_won_at_once_starts_onboarding
after insert on public.revenue_leads
for each row
when (new.stage = 'won' and new.merged_into is null and new.metadata ->> 'onboarding' is distinct from 'none')
execute function brainops_internal.after_lead_won();

-- In the transaction that wins the lead, so that every won lead has its onboarding. Not "update of stage", because
-- another trigger of the table may set the stage too.
create or replace trigger d2_after_lead_won
after update on public.revenue_leads
for each row
when (new.stage = 'won' and old.stage is distinct from 'won' and new.metadata ->> 'onboarding' is distinct from 'none')
execute function brainops_internal.after_lead_won();

create or replace trigger c0_after_lead_insert
after insert on public.revenue_leads
referencing new table as inserted
for each statement
execute function brainops_internal.after_lead_insert();

do $$
begin
  -- In a do block, because the formatter cannot parse a trigger with two transition tables.
  create or replace trigger c1_after_lead_update
  after update on public.revenue_leads
  referencing old table as before_rows new table as after_rows
  for each statement
  execute function brainops_internal.after_lead_update();
end;
$$;

create or replace trigger c2_after_lead_delete
after delete on public.revenue_leads
referencing old table as deleted
for each statement
execute function brainops_internal.after_lead_delete();
