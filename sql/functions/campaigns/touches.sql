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
      'the enrolment is ' || e.status || coalesce(': ' || e.exit_reason, '')
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
  'Which touches may not be performed: the enrolment is over (skip), or it, its campaign or the launch is waited for (defer; going on moves them to their time).';

revoke execute on function brainops_internal.gate_campaign_touch(uuid[]) from public;
grant execute on function brainops_internal.gate_campaign_touch(uuid[]) to brainops_worker, brainops_system;

create or replace function brainops_internal.enrolment_hold_reason(
  p_enrolment public.ai_nurture_campaigns,
  p_campaign public.campaigns
)
returns text
language sql
immutable
set search_path = ''
as $$
  select
    case
      when p_enrolment.status = 'paused' then 'held: the enrolment is paused; update ai_nurture_campaigns set status = ''active'' lets it go on'
      when p_campaign.status = 'paused' then 'held: campaign ' || p_campaign.code || ' is paused; brainops.resume_campaign lets it go on'
      when p_campaign.status = 'draft' then 'held: campaign ' || p_campaign.code || ' is not launched; update campaigns set status = ''active'' where code = ' || quote_literal(
        p_campaign.code
      )
      when p_enrolment.held_since is not null then 'held'
    end;
$$;

comment on function brainops_internal.enrolment_hold_reason(public.ai_nurture_campaigns, public.campaigns) is
  'What an enrolment waits for: its own pause, its campaign''s, or the launch; null when it runs.';

revoke execute on function brainops_internal.enrolment_hold_reason(ai_nurture_campaigns, campaigns) from public;
grant execute
on function brainops_internal.enrolment_hold_reason(ai_nurture_campaigns, campaigns)
to brainops_worker, brainops_system;

-- A client that inserts the sequence's next touch by itself gives that touch its id and time; what
-- the sequence has made already is not made again; anything else is a touch beside the sequence.
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
  if brainops.current_tenant_id() <> new.tenant_id then
    return new;
  end if;

  select * into v_enrolment
    from public.ai_nurture_campaigns
    where tenant_id = new.tenant_id and id = new.campaign_id
    for no key update;
  if not found or v_enrolment.lead_id is null then
    if coalesce(brainops_internal.normal_status(new.status), 'pending') in ('pending', 'awaiting_approval') and found then
      new.status := 'skipped';
      new.skip_reason := 'campaign_id is a definition without a lead';
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
    new.skip_reason := 'the sequence makes this touch itself';
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

alter function brainops_internal.adopt_touch() owner to brainops_system;
revoke execute on function brainops_internal.adopt_touch() from public;

-- A client that moves a touch plans it anew; what the engine puts off keeps its plan.
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

alter function brainops_internal.move_touch() owner to brainops_system;
revoke execute on function brainops_internal.move_touch() from public;
grant execute on function brainops_internal.move_touch() to brainops_system;

-- A step that somebody cancelled is left out, and the next one comes at its time. The touch is
-- locked before the enrolment here: where a release comes at the same moment, Postgres ends one.
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
  set performed_at = brainops.now(), outcome = 'left out: ' || new.status || ' by ' || session_user, next_key = v_next.step_key
  where id = new.id;
  perform brainops_internal.advance_enrolment(v_enrolment, v_next, new.due_at);
  return null;
end;
$$;

alter function brainops_internal.skip_cancelled_step() owner to brainops_system;
revoke execute on function brainops_internal.skip_cancelled_step() from public;

-- Not where somebody else holds the enrolment: whoever does writes the date himself.
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
  'Behind an update of ai_campaign_touches.scheduled_for.';

alter function brainops_internal.set_next_touch(uuid, timestamptz) owner to brainops_system;
revoke execute on function brainops_internal.set_next_touch(uuid, timestamptz) from public;
grant execute
on function brainops_internal.set_next_touch(uuid, timestamptz)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin;
