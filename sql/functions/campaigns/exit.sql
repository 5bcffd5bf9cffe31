-- How an enrolment ends before all its steps are done. Events, rules, topics and merges call brainops.exit_enrolment
-- as well; close_enrolment then skips what is left of it.

create or replace function brainops.exit_enrolment(p_id uuid, p_reason text)
returns boolean
language plpgsql
set search_path = ''
as $$
begin
  update public.ai_nurture_campaigns
  set status = 'exited', exit_reason = coalesce(nullif(btrim(p_reason), ''), 'no reason given')
  where id = p_id and lead_id is not null and status in ('active', 'paused');
  return found;
end;
$$;

comment on function brainops.exit_enrolment(uuid, text) is
  'Ends a running enrolment, and skips its waiting touches and queued messages. p_id: the enrolment. p_reason: stored as exit_reason; null or blank means no reason given. Returns false if the enrolment does not exist or has ended.';

revoke execute on function brainops.exit_enrolment(uuid, text) from public;
grant execute
on function brainops.exit_enrolment(uuid, text)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

-- If all steps were done (completed), queued messages are still sent, and touches outside the sequence are still
-- performed. Rows that a claim has locked at this moment are passed over (skip locked); their gate refuses them.
create or replace function brainops_internal.close_enrolment(p_enrolment public.ai_nurture_campaigns)
returns void
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_left constant boolean := p_enrolment.status <> 'completed';
  v_reason constant text := p_enrolment.status || coalesce(': ' || p_enrolment.exit_reason, '');
begin
  update public.ai_campaign_touches as t
  set status = 'skipped', skip_reason = 'enrolment ' || v_reason
  from (
    select id from public.ai_campaign_touches
    where tenant_id = p_enrolment.tenant_id and campaign_id = p_enrolment.id and performed_at is null
      and status in ('pending', 'awaiting_approval') and (v_left or step_key is not null)
    for update skip locked
  ) as o
  where t.id = o.id;
  if not v_left then
    return;
  end if;
  update public.ai_email_queue as q
  set status = 'skipped', skip_reason = 'left the campaign: ' || v_reason
  from (
    select id from public.ai_email_queue
    where tenant_id = p_enrolment.tenant_id and enrolment_id = p_enrolment.id and status in ('pending', 'awaiting_approval')
    for update skip locked
  ) as o
  where q.id = o.id;
  update public.ai_sms_queue as q
  set status = 'skipped', skip_reason = 'left the campaign: ' || v_reason
  from (
    select id from public.ai_sms_queue
    where tenant_id = p_enrolment.tenant_id and enrolment_id = p_enrolment.id and status in ('pending', 'awaiting_approval')
    for update skip locked
  ) as o
  where q.id = o.id;
end;
$$;

comment on function brainops_internal.close_enrolment(public.ai_nurture_campaigns) is
  'Skips the waiting touches of an enrolment that has ended and, unless it is completed, its queued messages.';

alter function brainops_internal.close_enrolment(public.ai_nurture_campaigns) owner to brainops_system;
revoke execute on function brainops_internal.close_enrolment(public.ai_nurture_campaigns) from public;

create or replace function brainops_internal.exit_reason_of(
  p_campaign public.campaigns,
  p_event text,
  p_channel text,
  p_metadata jsonb
)
returns text
language sql
immutable
set search_path = ''
as $$
  select
    case
      when w.word = p_campaign.goal_event then 'goal: ' || w.word
      when w.word = any (p_campaign.exit_on)
      or w.word || ':' || p_channel = any (p_campaign.exit_on) then w.word
    end
  from
    (
      select
        case
          when p_event = 'stage_changed'
          and p_metadata ->> 'to' in ('won', 'lost') then p_metadata ->> 'to'
          else p_event
        end as word
    ) as w;
$$;

comment on function brainops_internal.exit_reason_of(public.campaigns, text, text, jsonb) is
  'The exit_reason if this event ends an enrolment in the campaign, by its goal_event or exit_on; null if it does not. stage_changed to won or lost counts as the event won or lost.';

revoke execute on function brainops_internal.exit_reason_of(public.campaigns, text, text, jsonb) from public;
grant execute on function brainops_internal.exit_reason_of(public.campaigns, text, text, jsonb) to brainops_system;

-- enrolment_id has no foreign key, so a message may name an enrolment of another tenant: that does not exist for it.
create or replace function brainops_internal.enrolment_exit_reason(p_enrolment_id uuid)
returns text
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
  v_enrolment public.ai_nurture_campaigns;
begin
  select * into v_enrolment from public.ai_nurture_campaigns where id = p_enrolment_id;
  if not found or not brainops_internal.may_act_for(v_enrolment.tenant_id) then
    return 'the enrolment is gone';
  elsif v_enrolment.status in ('exited', 'cancelled') then
    return v_enrolment.status || coalesce(': ' || v_enrolment.exit_reason, '');
  elsif v_enrolment.status <> 'completed' then
    -- An event ends a running enrolment in the event's own transaction. For a completed enrolment, events are looked up
    -- here.
    return null;
  end if;
  return (
    select brainops_internal.exit_reason_of(c, v.event, v.channel, v.metadata)
    from public.lead_events as v
    inner join public.campaigns as c on c.tenant_id = v.tenant_id and c.id = v_enrolment.campaign_id
    where v.tenant_id = v_enrolment.tenant_id and v.lead_id = v_enrolment.lead_id
      and v.occurred_at >= date_trunc('second', v_enrolment.enrolled_at)
      and brainops_internal.exit_reason_of(c, v.event, v.channel, v.metadata) is not null
    order by v.occurred_at
    limit 1
  );
end;
$$;

comment on function brainops_internal.enrolment_exit_reason(uuid) is
  'Why a message of this enrolment must not be sent any more; null if it may. Checked at each claim.';

alter function brainops_internal.enrolment_exit_reason(uuid) owner to brainops_system;
revoke execute on function brainops_internal.enrolment_exit_reason(uuid) from public;
grant execute on function brainops_internal.enrolment_exit_reason(uuid) to brainops_worker;
