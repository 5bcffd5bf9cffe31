-- Changes of an enrolment's status, by clients (update ai_nurture_campaigns set status = …) and by the engine.
-- before_enrolment_update decides what may follow what; after_enrolment_update then holds, releases or closes the
-- enrolment.

-- An enrolment that is completed, exited or cancelled never runs again; the lead enters again as a new row.
create or replace function brainops_internal.before_enrolment_update()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_status text := brainops_internal.normal_enrolment_status(new.status);
begin
  if v_status is null then
    raise exception 'status: % is not a status of an enrolment', quote_literal(left(new.status, 80))
      using errcode = 'OP002', hint = 'Write active, paused, completed, exited or cancelled.';
  end if;
  new.status := v_status;
  if new.lead_id is null or old.status = new.status then
    return new;
  end if;
  if old.status not in ('active', 'paused') then
    raise exception 'status: enrolment % has been % since %, so it cannot be set to %', old.id, old.status, old.ended_at, quote_literal(v_status)
      using errcode = 'OP023',
        hint = 'Enrol the lead again with brainops.enrol; campaigns.reentry says whether a lead may enter more than once.';
  end if;
  if v_status = 'paused' then
    new.held_since := coalesce(old.held_since, brainops.now());
  elsif v_status in ('completed', 'exited', 'cancelled') then
    new.ended_at := brainops.now();
    new.next_touch_date := null;
    new.held_since := null;
    new.exit_reason := coalesce(new.exit_reason, case when v_status <> 'completed' then 'set by ' || session_user end);
  end if;
  return new;
end;
$$;

comment on function brainops_internal.before_enrolment_update is
  'Trigger of ai_nurture_campaigns before its status changes: sets held_since, ended_at and exit_reason. OP002: unknown status. OP023: the enrolment has ended.';

alter function brainops_internal.before_enrolment_update() owner to brainops_system;
revoke execute on function brainops_internal.before_enrolment_update() from public;
grant execute on function brainops_internal.before_enrolment_update() to brainops_system;

create or replace function brainops_internal.after_enrolment_update()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  if new.status = 'paused' then
    perform brainops_internal.hold_enrolments(new.tenant_id, array[new.id]);
  elsif new.status = 'active' then
    if brainops_internal.release_enrolments(new.tenant_id, array[new.id]) = 0 then
      -- Its campaign still holds it: stores that reason.
      perform brainops_internal.hold_enrolments(new.tenant_id, array[new.id]);
    end if;
  else
    perform brainops_internal.close_enrolment(new);
  end if;
  return null;
end;
$$;

comment on function brainops_internal.after_enrolment_update is
  'Trigger of ai_nurture_campaigns after its status changed: holds a paused enrolment, releases an active one, closes one that has ended.';

alter function brainops_internal.after_enrolment_update() owner to brainops_system;
revoke execute on function brainops_internal.after_enrolment_update() from public;

create or replace function brainops_internal.after_enrolment_moves()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  perform brainops.exit_enrolment(new.id, r.reason)
  from public.campaigns as c
  inner join public.revenue_leads as l on l.tenant_id = c.tenant_id
  cross join lateral (select brainops_internal.entry_refusal(c, l) as reason) as r
  where c.tenant_id = new.tenant_id and c.id = new.campaign_id and l.id = new.lead_id and r.reason is not null;
  return null;
end;
$$;

comment on function brainops_internal.after_enrolment_moves is
  'Trigger of ai_nurture_campaigns after two leads were merged: ends an enrolment that the remaining lead could not have entered.';

alter function brainops_internal.after_enrolment_moves() owner to brainops_system;
revoke execute on function brainops_internal.after_enrolment_moves() from public;

create or replace function brainops_internal.normal_enrolment_status(p_word text)
returns text
language sql
immutable
parallel safe
set search_path = ''
as $$
  select
    case lower(btrim(p_word))
      when 'active' then 'active'
      when 'pending' then 'active'
      when 'new' then 'active'
      when 'enrolled' then 'active'
      when 'running' then 'active'
      when 'in_progress' then 'active'
      when 'paused' then 'paused'
      when 'completed' then 'completed'
      when 'exited' then 'exited'
      when 'cancelled' then 'cancelled'
      when 'canceled' then 'cancelled'
      when 'stopped' then 'cancelled'
    end;
$$;

comment on function brainops_internal.normal_enrolment_status(text) is
  'The enrolment status that a client''s value stands for (pending, new, enrolled, running, in_progress: active; canceled, stopped: cancelled); null if it is unknown.';

revoke execute on function brainops_internal.normal_enrolment_status(text) from public;
grant execute
on function brainops_internal.normal_enrolment_status(text)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;
