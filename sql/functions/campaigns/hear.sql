-- The enrolments of the people concerned are locked first: a step that is being performed ends
-- before, and so has either not begun to wait or is waiting.
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
    -- The touch that is named; or else the one that the person was sent last.
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
      -- Providers tell seconds.
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
      -- Where time stands still, it goes on from there.
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

alter function brainops_internal.after_lead_events_campaigns() owner to brainops_system;
revoke execute on function brainops_internal.after_lead_events_campaigns() from public;

-- What became of a touch's message.
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

alter function brainops_internal.after_touch_message() owner to brainops_system;
revoke execute on function brainops_internal.after_touch_message() from public;
