-- Touches as rows of a job table: the gate that each claim checks (gate_campaign_touch), and what clients may do with
-- touches: add one (adopt_touch), move one (move_touch), or cancel one (skip_cancelled_step). perform.sql performs
-- them.

create or replace function brainops_internal.gate_campaign_touch(p_ids uuid[])
returns setof brainops.verdict
language sql
stable
set search_path = ''
as $$
  select
    t.id,
    case
      when e.status in ('active', 'paused') then 'defer'
      else 'skip'
    end,
    case
      when e.status in ('active', 'paused') then brainops.now() + interval '1 hour'
    end,
    coalesce(
      brainops_internal.enrolment_hold_reason(e, c),
      'enrolment ' || e.status || coalesce(': ' || e.exit_reason, '')
    )
  from
    public.ai_campaign_touches as t
    inner join public.ai_nurture_campaigns as e on e.tenant_id = t.tenant_id and e.id = t.campaign_id
    left join public.campaigns as c on c.tenant_id = e.tenant_id and c.id = e.campaign_id
  where
    t.id = any (p_ids)
    and t.performed_at is null
    and (
      e.status not in ('active', 'paused', 'completed')
      or (e.status = 'completed' and t.step_key is not null)
      or (e.status <> 'completed' and brainops_internal.enrolment_hold_reason(e, c) is not null)
    );
$$;

comment on function brainops_internal.gate_campaign_touch(uuid[]) is
  'Which of these touches must not be performed now: those of an enrolment that has ended (skip) or is held (defer for an hour; its release moves the touch to its own time). Touches that may be performed are not returned.';

revoke execute on function brainops_internal.gate_campaign_touch(uuid[]) from public;
grant execute on function brainops_internal.gate_campaign_touch(uuid[]) to brainops_worker, brainops_system;

-- For rows without a step_key, which clients insert. If the sequence has a step with the same template and channel
-- whose touch is still waiting, the client's row takes its place, with its own id and time. If that touch is not
-- waiting, the client's row is skipped. Any other row is a touch outside the sequence.
create or replace function brainops_internal.adopt_touch()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_enrolment public.ai_nurture_campaigns;
  v_step public.campaign_steps;
  v_touch public.ai_campaign_touches;
begin
  new.touch_type := lower(btrim(new.touch_type));
  if new.touch_type not in ('email', 'sms') then
    raise exception 'touch_type: % is neither email nor sms', quote_literal(left(new.touch_type, 80))
      using errcode = 'OP024', column = 'touch_type', hint = 'Other kinds are steps of a campaign: insert them into campaign_steps.';
  end if;
  new.scheduled_for := coalesce(new.scheduled_for, brainops.now());
  new.due_at := new.scheduled_for;
  if not brainops_internal.may_write_for(new.tenant_id) then
    return new;
  end if;

  select * into v_enrolment
    from public.ai_nurture_campaigns
    where tenant_id = new.tenant_id and id = new.campaign_id
    for no key update;
  if not found or v_enrolment.lead_id is null then
    if coalesce(brainops_internal.normal_status(new.status), 'pending') in ('pending', 'awaiting_approval') and found then
      new.status := 'skipped';
      new.skip_reason := 'campaign_id names a row of ai_nurture_campaigns without a lead';
    end if;
    return new;
  end if;

  new.entrance := v_enrolment.entrance;
  select * into v_step
    from public.campaign_steps as s
    where s.tenant_id = new.tenant_id and s.campaign_id = v_enrolment.campaign_id and s.version = v_enrolment.version
      and s.template = new.content_template and brainops_internal.touch_type_of(s.kind) = new.touch_type
    order by
      not exists (
        select from public.ai_campaign_touches as t
        where t.tenant_id = new.tenant_id and t.campaign_id = new.campaign_id and t.step_key = s.step_key and t.performed_at is null
      ),
      s.step_number
    limit 1;
  if not found then
    return new;
  end if;

  delete from public.ai_campaign_touches
  where tenant_id = new.tenant_id
    and campaign_id = new.campaign_id
    and entrance = new.entrance
    and step_key = v_step.step_key
    and performed_at is null
    and status in ('pending', 'awaiting_approval')
  returning * into v_touch;
  if not found then
    new.status := 'skipped';
    new.skip_reason := 'the sequence creates this touch itself';
    return new;
  end if;
  new.step_key := v_touch.step_key;
  new.step_number := v_touch.step_number;
  new.version := v_touch.version;
  new.split_key := v_touch.split_key;
  new.variant := v_touch.variant;
  if v_touch.status = 'awaiting_approval' then
    new.status := v_touch.status;
    new.last_error := v_touch.last_error;
  end if;
  update public.ai_nurture_campaigns set next_touch_date = new.scheduled_for where id = v_enrolment.id;
  return new;
end;
$$;

comment on function brainops_internal.adopt_touch is
  'Trigger of ai_campaign_touches before a client''s insert: lets the row take the place of the sequence''s touch, or stay outside the sequence. OP024: touch_type is neither email nor sms.';

alter function brainops_internal.adopt_touch() owner to brainops_system;
revoke execute on function brainops_internal.adopt_touch() from public;

create or replace function brainops_internal.move_touch()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  new.due_at := new.scheduled_for;
  perform brainops_internal.set_next_touch(new.campaign_id, new.scheduled_for);
  return new;
end;
$$;

comment on function brainops_internal.move_touch is
  'Trigger of ai_campaign_touches before a client updates scheduled_for: plans the touch, and next_touch_date, for that time. Deferrals by the engine keep the plan.';

alter function brainops_internal.move_touch() owner to brainops_system;
revoke execute on function brainops_internal.move_touch() from public;
grant execute on function brainops_internal.move_touch() to brainops_system;

-- The touch is locked before the enrolment here, against the usual order: if a release comes at the same moment,
-- Postgres detects the deadlock and ends one of the two.
create or replace function brainops_internal.skip_cancelled_step()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_enrolment public.ai_nurture_campaigns;
  v_next public.campaign_steps;
begin
  select * into v_enrolment from public.ai_nurture_campaigns where id = new.campaign_id for no key update;
  if not found or v_enrolment.status not in ('active', 'paused') then
    return null;
  end if;
  v_next := brainops_internal.step_from(
    v_enrolment,
    coalesce(
      (
        select s.next_step
        from public.campaign_steps as s
        where s.tenant_id = v_enrolment.tenant_id and s.campaign_id = v_enrolment.campaign_id
          and s.version = v_enrolment.version and s.step_key = new.step_key
      ),
      new.step_number + 1
    )
  );
  update public.ai_campaign_touches
  set performed_at = brainops.now(), outcome = 'skipped: set to ' || new.status || ' by ' || session_user, next_key = v_next.step_key
  where id = new.id;
  perform brainops_internal.advance_enrolment(v_enrolment, v_next, new.due_at);
  return null;
end;
$$;

comment on function brainops_internal.skip_cancelled_step is
  'Trigger of ai_campaign_touches after a step was cancelled or skipped without being performed: the sequence continues with the next step, planned as if this one had been performed.';

alter function brainops_internal.skip_cancelled_step() owner to brainops_system;
revoke execute on function brainops_internal.skip_cancelled_step() from public;

-- Passes over an enrolment that another transaction has locked: that transaction writes the date itself.
create or replace function brainops_internal.set_next_touch(p_enrolment_id uuid, p_at timestamptz)
returns void
language sql
security definer
set search_path = ''
as $$
  update public.ai_nurture_campaigns as e
  set next_touch_date = p_at
  from (select id from public.ai_nurture_campaigns where id = p_enrolment_id for no key update skip locked) as o
  where e.id = o.id and e.tenant_id = brainops.current_tenant_id() and e.status in ('active', 'paused');
$$;

comment on function brainops_internal.set_next_touch(uuid, timestamptz) is
  'Sets next_touch_date of a running enrolment after a client moved its touch.';

alter function brainops_internal.set_next_touch(uuid, timestamptz) owner to brainops_system;
revoke execute on function brainops_internal.set_next_touch(uuid, timestamptz) from public;
grant execute
on function brainops_internal.set_next_touch(uuid, timestamptz)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin;

create or replace function brainops_internal.touch_type_of(p_kind text)
returns text
language sql
immutable
parallel safe
set search_path = ''
as $$
  select
    case p_kind
      when 'send_email' then 'email'
      when 'send_sms' then 'sms'
      else p_kind
    end;
$$;

comment on function brainops_internal.touch_type_of(text) is
  'The touch_type for a kind of step: email for send_email, sms for send_sms, else the kind itself.';

revoke execute on function brainops_internal.touch_type_of(text) from public;
grant execute
on function brainops_internal.touch_type_of(text)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;
