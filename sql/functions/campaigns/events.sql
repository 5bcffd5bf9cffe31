-- What the events of a lead (lead_events) do to its enrolments: they end one, wake a step that waits, or count as the
-- result of a message.

-- Locks the running enrolments of the leads first, in the order of their ids. This waits for steps that are being
-- performed, so a wait_for either has not begun or is found waiting. Records the events of touches before enrolments
-- end.
create or replace function brainops_internal.after_lead_events_campaigns()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_now constant timestamptz := brainops.now();
  v_exit record;
begin
  if not exists (
    select from inserted as i
    inner join public.ai_nurture_campaigns as e on e.tenant_id = i.tenant_id and e.lead_id = i.lead_id
  ) then
    return null;
  end if;
  perform from (select distinct tenant_id, lead_id from inserted) as i
  inner join public.ai_nurture_campaigns as e on e.tenant_id = i.tenant_id and e.lead_id = i.lead_id
  where e.status in ('active', 'paused')
  order by e.id
  for no key update of e;

  insert into public.campaign_touch_events (tenant_id, touch_id, event, occurred_at)
  select i.tenant_id, t.id, w.word, min(i.occurred_at)
  from inserted as i
  cross join lateral (
    select case i.event
      when 'email_opened' then 'opened'
      when 'email_clicked' then 'clicked'
      when 'email_replied' then 'replied'
      when 'sms_replied' then 'replied'
      when 'email_bounced' then 'bounced'
      when 'email_unsubscribed' then 'unsubscribed'
      when 'opted_out' then 'unsubscribed'
      when 'email_complained' then 'complained'
    end as word
  ) as w
  cross join lateral (
    -- The touch that the event names, else the latest message of the 30 days before the event.
    select t.id
    from public.ai_nurture_campaigns as e
    inner join public.ai_campaign_touches as t on t.tenant_id = e.tenant_id and t.campaign_id = e.id
    where e.tenant_id = i.tenant_id and e.lead_id = i.lead_id and t.message_id is not null
      and case
        when i.metadata ? 'touch_id' then t.id::text = i.metadata ->> 'touch_id'
        when i.metadata ?| array['email_id', 'sms_id'] then t.message_id::text = coalesce(i.metadata ->> 'email_id', i.metadata ->> 'sms_id')
        else t.touch_type = coalesce(i.channel, t.touch_type) and t.performed_at between i.occurred_at - interval '30 days' and i.occurred_at
      end
    order by t.performed_at desc
    limit 1
  ) as t
  where w.word is not null
  group by 1, 2, 3
  on conflict do nothing;

  for v_exit in
    select distinct on (e.id) e.id, brainops_internal.exit_reason_of(c, i.event, i.channel, i.metadata) as reason
    from inserted as i
    inner join public.ai_nurture_campaigns as e on e.tenant_id = i.tenant_id and e.lead_id = i.lead_id
    inner join public.campaigns as c on c.tenant_id = e.tenant_id and c.id = e.campaign_id
    where e.status in ('active', 'paused')
      -- Providers report whole seconds.
      and i.occurred_at >= date_trunc('second', e.enrolled_at)
      and brainops_internal.exit_reason_of(c, i.event, i.channel, i.metadata) is not null
    order by e.id, i.occurred_at
  loop
    perform brainops.exit_enrolment(v_exit.id, v_exit.reason);
  end loop;

  with woken as (
    update public.ai_campaign_touches as t
    set
      woken_at = v_now,
      -- The clock of a held enrolment stands at held_since; its release adds the time since.
      due_at = coalesce(e.held_since, v_now),
      scheduled_for = case when t.status = 'pending' then coalesce(e.held_since, v_now) else t.scheduled_for end
    from inserted as i
    inner join public.ai_nurture_campaigns as e on e.tenant_id = i.tenant_id and e.lead_id = i.lead_id
    inner join public.campaign_steps as s
      on s.tenant_id = e.tenant_id and s.campaign_id = e.campaign_id and s.version = e.version
      and s.kind = 'wait_for' and s.config ->> 'event' = i.event
    where e.status in ('active', 'paused')
      and i.occurred_at >= date_trunc('second', e.enrolled_at)
      and t.tenant_id = e.tenant_id and t.campaign_id = e.id and t.step_key = s.step_key
      and t.performed_at is null and t.woken_at is null
    returning t.campaign_id, t.due_at
  )
  update public.ai_nurture_campaigns as e set next_touch_date = w.due_at from woken as w where e.id = w.campaign_id;
  return null;
end;
$$;

comment on function brainops_internal.after_lead_events_campaigns is
  'Trigger of lead_events after insert, once per statement: records what happened to a touch''s message, ends enrolments by goal_event and exit_on, and wakes steps that wait for the event.';

alter function brainops_internal.after_lead_events_campaigns() owner to brainops_system;
revoke execute on function brainops_internal.after_lead_events_campaigns() from public;
