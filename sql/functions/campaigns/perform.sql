-- What a worker calls for a touch that it has claimed. All of it in the caller's transaction: the
-- touch is marked, what the step makes is inserted, and the next touch. Nothing where the lease does
-- not hold any more; completed where it was performed before.
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
    return query select 'skip', 'the touch is another''s by now', null::timestamptz;
    return;
  elsif v_touch.performed_at is not null then
    return query select 'completed', v_touch.outcome, null::timestamptz;
    return;
  elsif v_enrolment.status not in ('active', 'paused') and not (v_enrolment.status = 'completed' and v_touch.step_key is null) then
    return query select 'skip', 'the enrolment is ' || v_enrolment.status || coalesce(': ' || v_enrolment.exit_reason, ''), null::timestamptz;
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
  'Performs a touch that was claimed under this lease, and makes the next one; performed twice is as once. outcome: completed, skip, defer (until run_at) or fail, with the reason.';

alter function brainops_internal.perform_touch(uuid, uuid) owner to brainops_system;
revoke execute on function brainops_internal.perform_touch(uuid, uuid) from public;
grant execute on function brainops_internal.perform_touch(uuid, uuid) to brainops_worker;

-- Does what a step does. to_number: the step that it leads to, where that is not the usual next one;
-- failed: why it cannot be done as things stand.
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
      said := case when p_touch.woken_at is null then 'timed out: no ' else 'came: ' end || (p_step.config ->> 'event');
      to_number := (p_step.config ->> case when p_touch.woken_at is null then 'else' else 'then' end)::int;
    when 'branch' then
      select w into v_item
        from jsonb_array_elements(p_step.config -> 'when') with ordinality as b (w, n)
        where brainops_internal.condition_holds(w -> 'if', p_lead, p_enrolment.enrolled_at)
        order by n
        limit 1;
      to_number := coalesce((v_item ->> 'to')::int, (p_step.config ->> 'else')::int);
      said := coalesce('true: ' || (v_item ->> 'if'), 'none is true');
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
      said := 'task made';
    when 'notify' then
      perform brainops.notify(
        p_touch.tenant_id,
        (p_step.config ->> 'subject') || ': ' || coalesce(p_lead.contact_name, p_lead.company_name, p_lead.email, p_lead.phone, 'a lead'),
        concat_ws(E'\n\n', p_step.config ->> 'body', brainops_internal.lead_variable(p_lead)),
        'touch:' || p_touch.id,
        p_lead.id
      );
      said := 'told';
    when 'exit' then
      said := coalesce(p_step.config ->> 'reason', 'ended here');
  end case;
end;
$$;

revoke execute
on function brainops_internal.perform_step(ai_nurture_campaigns, ai_campaign_touches, campaign_steps, revenue_leads)
from public;
grant execute
on function brainops_internal.perform_step(ai_nurture_campaigns, ai_campaign_touches, campaign_steps, revenue_leads)
to brainops_system;

-- A campaign's mail is its template as it stands. What the law wants below it is put there when the
-- mail is made, as with every other marketing mail: for what a template leaves out, and no more.
--
-- Puts the message of a touch into its queue, under a key of its own: twice is as once. said is
-- what came of it, failed why it cannot be made as things stand.
create or replace function brainops_internal.queue_touch(
  p_enrolment public.ai_nurture_campaigns,
  p_touch public.ai_campaign_touches,
  p_step public.campaign_steps,
  p_lead public.revenue_leads,
  out message_id uuid,
  out template_version int,
  out said text,
  out failed text
)
language plpgsql
set search_path = ''
as $$
declare
  v_template public.ai_campaign_templates;
  v_transactional boolean := coalesce((p_step.config -> 'transactional')::boolean, false);
  v_priority smallint := case
    when p_step.config ? 'high_priority_when'
      and brainops_internal.condition_holds(p_step.config -> 'high_priority_when', p_lead, p_enrolment.enrolled_at) then -10
    else 0
  end;
  v_metadata jsonb;
begin
  select * into v_template
    from public.ai_campaign_templates as t
    where t.tenant_id = p_touch.tenant_id and t.name = p_touch.content_template and t.channel = p_touch.touch_type
    order by t.version desc
    limit 1;
  if not found then
    failed := format(
      'content_template: %s is no %s template of ai_campaign_templates; insert it, then set status to pending',
      coalesce(quote_literal(left(p_touch.content_template, 120)), 'null'), p_touch.touch_type
    );
    return;
  end if;
  if coalesce(btrim(case p_touch.touch_type when 'email' then p_lead.email else coalesce(p_lead.phone_e164, p_lead.phone) end), '') = '' then
    said := 'left out: the lead has no ' || case p_touch.touch_type when 'email' then 'e-mail address' else 'phone number' end;
    return;
  end if;

  template_version := v_template.version;
  v_metadata := coalesce(p_step.config -> 'variables', '{}') || jsonb_strip_nulls(jsonb_build_object(
    'first_name', coalesce(nullif(split_part(btrim(p_lead.contact_name), ' ', 1), ''), 'there'),
    'postal_address', (select t.settings ->> 'postal_address' from public.tenants as t where t.id = p_touch.tenant_id),
    'campaign', p_enrolment.campaign_type,
    'step', p_touch.step_key,
    'category', p_enrolment.campaign_type,
    'marketing', case when p_touch.touch_type = 'email' and not v_transactional then true end,
    'transactional', case when v_transactional then true end
  ));
  if p_touch.touch_type = 'email' then
    insert into public.ai_email_queue as q
      (tenant_id, recipient, subject, body, scheduled_for, metadata, lead_id, enrolment_id, touch_id, idempotency_key, job_priority)
    values (
      p_touch.tenant_id, p_lead.id, v_template.subject, v_template.body, brainops.now(), v_metadata, p_lead.id,
      -- An enrolment makes a mail marketing.
      case when not v_transactional then p_enrolment.id end,
      p_touch.id, 'touch:' || p_touch.id, v_priority
    )
    on conflict (tenant_id, idempotency_key) where idempotency_key is not null do nothing
    returning q.id into message_id;
  else
    insert into public.ai_sms_queue as q
      (tenant_id, recipient, body, scheduled_for, metadata, lead_id, enrolment_id, touch_id, idempotency_key, job_priority)
    values (
      p_touch.tenant_id, p_lead.id, v_template.body, brainops.now(), v_metadata, p_lead.id, p_enrolment.id,
      p_touch.id, 'touch:' || p_touch.id, v_priority
    )
    on conflict (tenant_id, idempotency_key) where idempotency_key is not null do nothing
    returning q.id into message_id;
  end if;
  said := 'queued';
end;
$$;

revoke execute
on function brainops_internal.queue_touch(ai_nurture_campaigns, ai_campaign_touches, campaign_steps, revenue_leads)
from public;
grant execute
on function brainops_internal.queue_touch(ai_nurture_campaigns, ai_campaign_touches, campaign_steps, revenue_leads)
to brainops_system;

-- The winner, once there is one; before that by chance of the weights, but the same each time.
create or replace function brainops_internal.choose_variant(
  p_enrolment public.ai_nurture_campaigns,
  p_step public.campaign_steps
)
returns jsonb
language plpgsql
set search_path = ''
as $$
declare
  v_variants constant jsonb := p_step.config -> 'variants';
  v_name text;
  v_leader record;
  v_total int := (select sum((v ->> 'weight')::int) from jsonb_array_elements(v_variants) as v);
  v_draw int;
begin
  select w.variant into v_name
    from public.campaign_split_winners as w
    where w.tenant_id = p_step.tenant_id and w.campaign_id = p_step.campaign_id and w.version = p_step.version and w.step_key = p_step.step_key;
  if not found and p_step.config ? 'winner' then
    v_leader := brainops_internal.leading_variant(p_step);
    if v_leader.variant is not null then
      insert into public.campaign_split_winners as w (tenant_id, campaign_id, version, step_key, variant, decided_at, figures)
      values (p_step.tenant_id, p_step.campaign_id, p_step.version, p_step.step_key, v_leader.variant, brainops.now(), v_leader.figures)
      on conflict do nothing;
      select w.variant into v_name
        from public.campaign_split_winners as w
        where w.tenant_id = p_step.tenant_id and w.campaign_id = p_step.campaign_id and w.version = p_step.version and w.step_key = p_step.step_key;
    end if;
  end if;
  v_draw := ((hashtextextended(p_enrolment.id || p_step.step_key, 0) % v_total) + v_total) % v_total;
  return (
    select s.item
    from (
      select v.item, v.n, sum((v.item ->> 'weight')::int) over (order by v.n) as upto
      from jsonb_array_elements(v_variants) with ordinality as v (item, n)
    ) as s
    order by (s.item ->> 'name' = v_name) desc nulls last, v_draw >= s.upto, s.n
    limit 1
  );
end;
$$;

revoke execute on function brainops_internal.choose_variant(ai_nurture_campaigns, campaign_steps) from public;
grant execute on function brainops_internal.choose_variant(ai_nurture_campaigns, campaign_steps) to brainops_system;

-- The variant of a split that the figures speak for; null while they don't, or nothing came of any.
create or replace function brainops_internal.leading_variant(
  p_step public.campaign_steps,
  out variant text,
  out figures jsonb
)
language plpgsql
stable
set search_path = ''
as $$
declare
  v_winner constant jsonb := p_step.config -> 'winner';
  v_key constant text := brainops_internal.split_key(p_step);
  v_event constant text := case v_winner ->> 'by' when 'open' then 'opened' when 'click' then 'clicked' else 'replied' end;
  v_first timestamptz;
  v_least bigint;
  v_leader text;
begin
  select jsonb_object_agg(f.name, jsonb_build_object('touches', f.touches, 'hits', f.hits)), min(f.touches), min(f.first_at),
    (array_agg(f.name order by f.hits::numeric / nullif(f.touches, 0) desc nulls last, f.weight desc, f.n) filter (where f.hits > 0))[1]
    into figures, v_least, v_first, v_leader
    from (
      select v.item ->> 'name' as name, (v.item ->> 'weight')::int as weight, v.n,
        count(t.message_id) as touches,
        count(t.message_id) filter (
          where exists (
            select from public.campaign_touch_events as e
            where e.tenant_id = t.tenant_id and e.touch_id = t.id and e.event = v_event
          )
        ) as hits,
        min(t.performed_at) as first_at
      from jsonb_array_elements(p_step.config -> 'variants') with ordinality as v (item, n)
      left join public.ai_campaign_touches as t
        on t.tenant_id = p_step.tenant_id and t.split_key = v_key and t.variant = v.item ->> 'name' and t.performed_at is not null
      group by v.item, v.n
    ) as f;
  if v_least >= (v_winner ->> 'after_touches')::bigint or v_first + (v_winner ->> 'after')::interval <= brainops.now() then
    variant := v_leader;
  end if;
end;
$$;

revoke execute on function brainops_internal.leading_variant(campaign_steps) from public;
grant execute on function brainops_internal.leading_variant(campaign_steps) to brainops_system;

create or replace function brainops_internal.split_key(p_step public.campaign_steps)
returns text
language sql
immutable
set search_path = ''
as $$
  select p_step.campaign_id || '/' || p_step.version || '/' || p_step.step_key;
$$;

revoke execute on function brainops_internal.split_key(campaign_steps) from public;
grant execute on function brainops_internal.split_key(campaign_steps) to brainops_system;

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

comment on function brainops_internal.lead_variable(public.revenue_leads) is 'Who a lead is, for a person to read.';

revoke execute on function brainops_internal.lead_variable(revenue_leads) from public;
grant execute on function brainops_internal.lead_variable(revenue_leads) to brainops_system;

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

revoke execute on function brainops_internal.before_lead_task() from public;
grant execute on function brainops_internal.before_lead_task() to brainops_system;
