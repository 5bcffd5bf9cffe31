-- Performing a touch. Start at perform_touch, which a worker calls for a touch that it has claimed; perform_step does
-- what each kind of step does.

-- Everything happens in the caller's transaction: the touch is marked as performed, what its step creates is inserted,
-- and so is the next touch. Without a valid lease nothing happens (skip); a touch that was performed before is
-- completed.
--
-- Lock order: lead (key share), enrolment, touch.
create or replace function brainops_internal.perform_touch(p_touch_id uuid, p_lease uuid)
returns table (outcome text, reason text, run_at timestamptz)
language plpgsql
security definer
set search_path = ''
as $$
declare
  c_tenant_id constant uuid := brainops.current_tenant_id();
  v_now constant timestamptz := brainops.now();
  v_touch public.ai_campaign_touches;
  v_enrolment public.ai_nurture_campaigns;
  v_campaign public.campaigns;
  v_lead public.revenue_leads;
  v_step public.campaign_steps;
  v_done record;
begin
  select e.* into v_enrolment
    from public.ai_campaign_touches as t
    inner join public.ai_nurture_campaigns as e on e.tenant_id = t.tenant_id and e.id = t.campaign_id
    where t.tenant_id = c_tenant_id and t.id = p_touch_id;
  perform from public.revenue_leads where tenant_id = c_tenant_id and id = v_enrolment.lead_id for key share;
  select * into v_enrolment from public.ai_nurture_campaigns where tenant_id = c_tenant_id and id = v_enrolment.id for no key update;
  select * into v_touch
    from public.ai_campaign_touches
    where tenant_id = c_tenant_id and id = p_touch_id and status = 'processing' and lease = p_lease
    for no key update;
  if not found then
    return query select 'skip', 'the lease is no longer valid: another worker may have the touch', null::timestamptz;
    return;
  elsif v_touch.performed_at is not null then
    return query select 'completed', v_touch.outcome, null::timestamptz;
    return;
  elsif v_enrolment.status not in ('active', 'paused') and not (v_enrolment.status = 'completed' and v_touch.step_key is null) then
    return query select 'skip', 'enrolment ' || v_enrolment.status || coalesce(': ' || v_enrolment.exit_reason, ''), null::timestamptz;
    return;
  end if;
  select * into v_campaign from public.campaigns where tenant_id = c_tenant_id and id = v_enrolment.campaign_id;
  if v_enrolment.status <> 'completed' and brainops_internal.enrolment_hold_reason(v_enrolment, v_campaign) is not null then
    return query select 'defer', brainops_internal.enrolment_hold_reason(v_enrolment, v_campaign), v_now + interval '1 hour';
    return;
  end if;
  select * into v_lead from public.revenue_leads where tenant_id = c_tenant_id and id = v_enrolment.lead_id;
  select * into v_step
    from public.campaign_steps
    where tenant_id = c_tenant_id and campaign_id = v_enrolment.campaign_id and version = v_enrolment.version and step_key = v_touch.step_key;

  v_done := brainops_internal.perform_step(v_enrolment, v_touch, v_step, v_lead);
  if v_done.failed is not null then
    return query select 'fail', v_done.failed, null::timestamptz;
    return;
  end if;
  update public.ai_campaign_touches as t
  set
    performed_at = v_now,
    outcome = v_done.said,
    message_id = v_done.message_id,
    template_version = v_done.template_version,
    split_key = v_done.split_key,
    variant = v_done.variant
  where t.id = v_touch.id;
  update public.ai_nurture_campaigns as e
  set
    touch_count = e.touch_count + (v_done.message_id is not null)::int,
    split_key = v_done.split_key,
    variant = v_done.variant,
    exit_reason = case when v_touch.touch_type = 'exit' then v_done.said else e.exit_reason end
  where e.id = v_enrolment.id
  returning * into v_enrolment;
  perform brainops_internal.schedule_next_step(v_enrolment, v_touch, v_step, v_done.to_number);
  return query select 'completed', v_done.said, null::timestamptz;
end;
$$;

comment on function brainops_internal.perform_touch(uuid, uuid) is
  'Performs a touch that was claimed under this lease, and creates the next one; idempotent. outcome: completed, skip, defer (until run_at, else null) or fail; reason: what the step did, or why it did not.';

alter function brainops_internal.perform_touch(uuid, uuid) owner to brainops_system;
revoke execute on function brainops_internal.perform_touch(uuid, uuid) from public;
grant execute on function brainops_internal.perform_touch(uuid, uuid) to brainops_worker;

-- said: the outcome of the touch. failed: why the step cannot be performed, else null. to_number: the step that it
-- leads to; null for the usual next one. message_id and template_version: of the message, null if none was queued.
-- split_key and variant: of the enrolment from now on.
create or replace function brainops_internal.perform_step(
  p_enrolment public.ai_nurture_campaigns,
  p_touch public.ai_campaign_touches,
  p_step public.campaign_steps,
  p_lead public.revenue_leads,
  out said text,
  out failed text,
  out to_number int,
  out message_id uuid,
  out template_version int,
  out split_key text,
  out variant text
)
language plpgsql
set search_path = ''
as $$
declare
  v_message record;
  v_item jsonb;
begin
  split_key := p_enrolment.split_key;
  variant := p_enrolment.variant;
  case p_touch.touch_type
    when 'email', 'sms' then
      v_message := brainops_internal.queue_touch(p_enrolment, p_touch, p_step, p_lead);
      said := v_message.said;
      failed := v_message.failed;
      message_id := v_message.message_id;
      template_version := v_message.template_version;
    when 'wait' then
      said := 'waited';
    when 'wait_for' then
      said := case when p_touch.woken_at is null then 'timed out: no ' else 'event received: ' end || (p_step.config ->> 'event');
      to_number := (p_step.config ->> case when p_touch.woken_at is null then 'else' else 'then' end)::int;
    when 'branch' then
      select w into v_item
        from jsonb_array_elements(p_step.config -> 'when') with ordinality as b (w, n)
        where brainops_internal.condition_holds(w -> 'if', p_lead, p_enrolment.enrolled_at)
        order by n
        limit 1;
      to_number := coalesce((v_item ->> 'to')::int, (p_step.config ->> 'else')::int);
      said := coalesce('condition matched: ' || (v_item ->> 'if'), 'no condition matched');
    when 'split' then
      v_item := brainops_internal.choose_variant(p_enrolment, p_step);
      to_number := (v_item ->> 'to')::int;
      split_key := brainops_internal.split_key(p_step);
      variant := v_item ->> 'name';
      said := 'variant ' || variant;
    when 'task' then
      insert into public.lead_tasks (tenant_id, lead_id, title, description, priority, due_at, assigned_to, touch_id)
      values (
        p_touch.tenant_id, p_lead.id, p_step.config ->> 'title', p_step.config ->> 'description',
        coalesce(p_step.config ->> 'priority', 'normal'),
        brainops_internal.add_delay(brainops.now(), (p_step.config ->> 'due_in')::interval, brainops_internal.lead_time_zone(p_touch.tenant_id, p_lead.id)),
        coalesce(p_step.config ->> 'assigned_to', p_lead.owner_email), p_touch.id
      )
      on conflict (tenant_id, touch_id) where touch_id is not null do nothing;
      said := 'task created';
    when 'notify' then
      perform brainops.notify(
        p_touch.tenant_id,
        (p_step.config ->> 'subject') || ': ' || coalesce(p_lead.contact_name, p_lead.company_name, p_lead.email, p_lead.phone, 'a lead'),
        concat_ws(E'\n\n', p_step.config ->> 'body', brainops_internal.lead_variable(p_lead)),
        'touch:' || p_touch.id,
        p_lead.id
      );
      said := 'notified';
    when 'exit' then
      said := coalesce(p_step.config ->> 'reason', 'ended by an exit step');
  end case;
end;
$$;

comment on function brainops_internal.perform_step(
  public.ai_nurture_campaigns,
  public.ai_campaign_touches,
  public.campaign_steps,
  revenue_leads
) is
  'Does what a step does: queues a message, creates a task, notifies the tenant, or chooses where to go next.';

revoke execute
on function brainops_internal.perform_step(
  public.ai_nurture_campaigns,
  public.ai_campaign_touches,
  public.campaign_steps,
  public.revenue_leads
)
from public;
grant execute
on function brainops_internal.perform_step(
  public.ai_nurture_campaigns,
  public.ai_campaign_touches,
  public.campaign_steps,
  public.revenue_leads
)
to brainops_system;

create or replace function brainops_internal.lead_variable(p_lead public.revenue_leads)
returns text
language sql
stable
set search_path = ''
as $$
  select
    concat_ws(
      E'\n',
      nullif(concat_ws(', ', p_lead.contact_name, p_lead.company_name), ''),
      p_lead.email,
      coalesce(p_lead.phone_e164, p_lead.phone),
      'stage ' || p_lead.stage || ', score ' || p_lead.score,
      'lead ' || p_lead.id
    );
$$;

comment on function brainops_internal.lead_variable(public.revenue_leads) is
  'Describes a lead for a person to read: name, addresses, stage, score and id, one per line.';

revoke execute on function brainops_internal.lead_variable(public.revenue_leads) from public;
grant execute on function brainops_internal.lead_variable(public.revenue_leads) to brainops_system;

create or replace function brainops_internal.before_lead_task()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  new.done_at := case when new.status = 'done' then coalesce(new.done_at, brainops.now()) end;
  return new;
end;
$$;

comment on function brainops_internal.before_lead_task is
  'Trigger of lead_tasks: sets done_at of a task that is done, and clears it otherwise.';

revoke execute on function brainops_internal.before_lead_task() from public;
grant execute on function brainops_internal.before_lead_task() to brainops_system;
