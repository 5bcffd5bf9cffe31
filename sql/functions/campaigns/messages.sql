-- The message of a touch: queue_touch queues it when the touch is performed, and after_touch_message records how it
-- ended.

-- The message is the template as it stands. The footer that the law requires in marketing mail is added when the mail
-- is sent, if the template does not have it. The row has the touch's own idempotency key, so a touch never queues two
-- messages. said: the outcome of the touch. failed: why the message cannot be created.
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
      'content_template: %s does not exist in ai_campaign_templates for channel %s; insert it, then set status to pending',
      coalesce(quote_literal(left(p_touch.content_template, 120)), 'null'), p_touch.touch_type
    );
    return;
  end if;
  if coalesce(btrim(case p_touch.touch_type when 'email' then p_lead.email else coalesce(p_lead.phone_e164, p_lead.phone) end), '') = '' then
    said := 'skipped: the lead has no ' || case p_touch.touch_type when 'email' then 'e-mail address' else 'phone number' end;
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
      -- A mail with an enrolment is marketing.
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

comment on function brainops_internal.queue_touch(
  public.ai_nurture_campaigns,
  public.ai_campaign_touches,
  public.campaign_steps,
  revenue_leads
) is
  'Queues the message of a touch from the newest version of its template; without an address of the lead, the step is skipped.';

revoke execute
on function brainops_internal.queue_touch(
  public.ai_nurture_campaigns,
  public.ai_campaign_touches,
  public.campaign_steps,
  public.revenue_leads
)
from public;
grant execute
on function brainops_internal.queue_touch(
  public.ai_nurture_campaigns,
  public.ai_campaign_touches,
  public.campaign_steps,
  public.revenue_leads
)
to brainops_system;

create or replace function brainops_internal.after_touch_message()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  insert into public.campaign_touch_events (tenant_id, touch_id, event, occurred_at, detail)
  select t.tenant_id, t.id, case new.status when 'completed' then 'sent' else new.status end, brainops.now(),
    case when new.status <> 'completed' then coalesce(new.skip_reason, new.last_error) end
  from public.ai_campaign_touches as t
  where t.tenant_id = new.tenant_id and t.id = new.touch_id
  on conflict do nothing;
  return null;
end;
$$;

comment on function brainops_internal.after_touch_message is
  'Trigger of ai_email_queue and ai_sms_queue after the status of a touch''s message changed: records sent, skipped, failed or cancelled for the touch of the message.';

alter function brainops_internal.after_touch_message() owner to brainops_system;
revoke execute on function brainops_internal.after_touch_message() from public;
