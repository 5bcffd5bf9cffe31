-- From a touch that was performed to the touch of the next step. Start at schedule_next_step, which perform_touch
-- calls; advance_enrolment creates the next touch and decides when it is due.

-- The next step is p_to_number if the step chose a target, else its next_step, else the next number. Without one the
-- sequence ends; an exit step always ends it. A touch outside the sequence (step_key null, added by a client) has no
-- next step.
create or replace function brainops_internal.schedule_next_step(
  p_enrolment public.ai_nurture_campaigns,
  p_touch public.ai_campaign_touches,
  p_step public.campaign_steps,
  p_to_number int
)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_next public.campaign_steps;
begin
  if p_touch.step_key is null then
    return;
  end if;
  if p_touch.touch_type <> 'exit' then
    v_next := brainops_internal.step_from(p_enrolment, coalesce(p_to_number, p_step.next_step, p_step.step_number + 1));
    update public.ai_campaign_touches set next_key = v_next.step_key where id = p_touch.id;
  end if;
  perform brainops_internal.advance_enrolment(p_enrolment, v_next, p_touch.due_at);
end;
$$;

comment on function brainops_internal.schedule_next_step(
  public.ai_nurture_campaigns,
  public.ai_campaign_touches,
  public.campaign_steps,
  int
) is
  'Creates the touch that follows a performed one, or completes the enrolment. p_to_number: the step that the touch chose; null for the usual next one.';

revoke execute
on function brainops_internal.schedule_next_step(
  public.ai_nurture_campaigns,
  public.ai_campaign_touches,
  public.campaign_steps,
  int
)
from public;
grant execute
on function brainops_internal.schedule_next_step(
  public.ai_nurture_campaigns,
  public.ai_campaign_touches,
  public.campaign_steps,
  int
)
to brainops_system;

-- Creates the touch of p_step, after a touch that was due at p_due_at; a null p_step completes the enrolment. p_at:
-- the due time of the new touch, if the caller knows it. The caller holds the enrolment's lock.
--
-- The new touch is planned from p_due_at, not from now, so short delays do not add up. If the previous touch was late
-- by more than an hour, or by more than half of the gap to the new one, the new touch is planned from now, and
-- schedule_start moves by the delay: after an outage, no person gets two messages in a row.
create or replace function brainops_internal.advance_enrolment(
  p_enrolment public.ai_nurture_campaigns,
  p_step public.campaign_steps,
  p_due_at timestamptz,
  p_at timestamptz default null
)
returns void
language plpgsql
security definer
set search_path = ''
as $$
declare
  -- The clock of a held enrolment is stopped, so nothing becomes late.
  v_now constant timestamptz := coalesce(p_enrolment.held_since, brainops.now());
  v_zone constant text := brainops_internal.lead_time_zone(p_enrolment.tenant_id, p_enrolment.lead_id);
  v_late constant interval := brainops_internal.time_between(p_due_at, v_now);
  v_base timestamptz := p_due_at;
  v_due_at timestamptz := p_at;
  v_gap interval;
  v_hold text;
  v_woken_at timestamptz;
begin
  if p_step.id is null then
    update public.ai_nurture_campaigns set status = 'completed' where id = p_enrolment.id;
    return;
  end if;

  if v_due_at is null then
    v_due_at := brainops_internal.step_due_at(p_enrolment, p_step, v_base, v_zone);
    v_gap := brainops_internal.time_between(p_due_at, v_due_at);
    if v_late > '1 hour' or (v_gap > '0' and v_late > v_gap / 2) then
      v_base := v_now;
      p_enrolment.schedule_start := p_enrolment.schedule_start + v_late;
      v_due_at := brainops_internal.step_due_at(p_enrolment, p_step, v_base, v_zone);
    end if;
  end if;
  -- The event may have come before this step was reached.
  if p_step.kind = 'wait_for' and p_step.config ->> 'since' = 'enrolment' and exists (
    select from public.lead_events as v
    where v.tenant_id = p_enrolment.tenant_id and v.lead_id = p_enrolment.lead_id
      and v.event = p_step.config ->> 'event' and v.occurred_at >= date_trunc('second', p_enrolment.enrolled_at)
  ) then
    v_woken_at := v_now;
    v_due_at := v_base;
  end if;

  select brainops_internal.enrolment_hold_reason(p_enrolment, c) into v_hold
    from public.campaigns as c
    where c.tenant_id = p_enrolment.tenant_id and c.id = p_enrolment.campaign_id;
  insert into public.ai_campaign_touches
    (tenant_id, campaign_id, touch_type, content_template, status, last_error, scheduled_for, due_at, woken_at, step_key, step_number, version, entrance, split_key, variant)
  values (
    p_enrolment.tenant_id,
    p_enrolment.id,
    brainops_internal.touch_type_of(p_step.kind),
    p_step.template,
    case when v_hold is null then 'pending' else 'awaiting_approval' end,
    v_hold,
    v_due_at,
    v_due_at,
    v_woken_at,
    p_step.step_key,
    p_step.step_number,
    p_step.version,
    p_enrolment.entrance,
    p_enrolment.split_key,
    p_enrolment.variant
  );
  update public.ai_nurture_campaigns
  set next_touch_date = v_due_at, schedule_start = p_enrolment.schedule_start
  where id = p_enrolment.id;
end;
$$;

comment on function brainops_internal.advance_enrolment(
  public.ai_nurture_campaigns,
  public.campaign_steps,
  timestamptz,
  timestamptz
) is
  'Creates the touch of a step, planned from p_due_at (or for p_at, if given); a null step completes the enrolment. The caller holds the enrolment''s lock.';

alter function brainops_internal.advance_enrolment(
  public.ai_nurture_campaigns,
  public.campaign_steps,
  timestamptz,
  timestamptz
)
owner to brainops_system;
revoke execute
on function brainops_internal.advance_enrolment(
  public.ai_nurture_campaigns,
  public.campaign_steps,
  timestamptz,
  timestamptz
)
from public;

-- A step that has a touch in the current entrance is never reached again, even if a version gives it another number.
create or replace function brainops_internal.step_from(p_enrolment public.ai_nurture_campaigns, p_number int)
returns public.campaign_steps
language sql
stable
set search_path = ''
as $$
  select s.*
  from public.campaign_steps as s
  where
    s.tenant_id = p_enrolment.tenant_id
    and s.campaign_id = p_enrolment.campaign_id
    and s.version = p_enrolment.version
    and s.step_number >= p_number
    and not exists (
      select
      from public.ai_campaign_touches as t
      where
        t.tenant_id = p_enrolment.tenant_id
        and t.campaign_id = p_enrolment.id
        and t.entrance = p_enrolment.entrance
        and t.step_key = s.step_key
    )
  order by s.step_number
  limit 1;
$$;

comment on function brainops_internal.step_from(public.ai_nurture_campaigns, int) is
  'The first step from this number on that the enrolment has not reached yet; null if none is left.';

revoke execute on function brainops_internal.step_from(public.ai_nurture_campaigns, int) from public;
grant execute on function brainops_internal.step_from(public.ai_nurture_campaigns, int) to brainops_system;

create or replace function brainops_internal.step_due_at(
  p_enrolment public.ai_nurture_campaigns,
  p_step public.campaign_steps,
  p_base timestamptz,
  p_zone text
)
returns timestamptz
language sql
stable
set search_path = ''
as $$
  select
    case p_step.delay_from
      when 'enrolment' then greatest(
        brainops_internal.add_delay(p_enrolment.schedule_start, p_step.delay, p_zone),
        p_base
      )
      else brainops_internal.add_delay(p_base, p_step.delay, p_zone)
    end;
$$;

comment on function brainops_internal.step_due_at(
  public.ai_nurture_campaigns,
  public.campaign_steps,
  timestamptz,
  text
) is
  'When a step is due: its delay after p_base, or, with delay_from = enrolment, after schedule_start, but not before p_base.';

revoke execute
on function brainops_internal.step_due_at(public.ai_nurture_campaigns, public.campaign_steps, timestamptz, text)
from public;
grant execute
on function brainops_internal.step_due_at(public.ai_nurture_campaigns, public.campaign_steps, timestamptz, text)
to brainops_system;
