-- A campaign's mail is its template as it stands. What the law wants below it is put there when the
-- mail is made, as with every other marketing mail: for what a template leaves out, and no more.
set local lock_timeout = '2s';

create or replace function brainops.queue_touch(
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
      and brainops.condition_holds(p_step.config -> 'high_priority_when', p_lead, p_enrolment.enrolled_at) then -10
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

drop function brainops.with_footer(text);
