-- A campaign's status: launching, pausing, resuming and archiving it. pause_campaign and resume_campaign update
-- campaigns.status, as any client may. before_campaign checks a launch; after_campaign_status holds, releases or ends
-- the enrolments (hold-and-release.sql).

create or replace function brainops.pause_campaign(p_code text, p_tenant text default null)
returns void
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_campaign public.campaigns := brainops_internal.campaign_of(p_tenant, p_code);
begin
  update public.campaigns set status = 'paused' where id = v_campaign.id and status = 'active';
end;
$$;

comment on function brainops.pause_campaign(text, text) is
  'Pauses an active campaign: no step is performed, no message of it is sent, and the clock of its enrolments stops. Has no effect if the campaign is not active. p_code: its code. p_tenant: slug or id of the tenant; null for the caller''s. OP007: the tenant does not exist. OP020: the campaign does not exist.';

alter function brainops.pause_campaign(text, text) owner to brainops_system;
revoke execute on function brainops.pause_campaign(text, text) from public;
grant execute
on function brainops.pause_campaign(text, text)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

create or replace function brainops.resume_campaign(p_code text, p_tenant text default null)
returns void
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_campaign public.campaigns := brainops_internal.campaign_of(p_tenant, p_code);
begin
  update public.campaigns set status = 'active' where id = v_campaign.id and status = 'paused';
end;
$$;

comment on function brainops.resume_campaign(text, text) is
  'Resumes a paused campaign: everything in it is shifted by the length of the pause, and rows that are due at once are released at five a second, or faster if that would take more than an hour. Has no effect if the campaign is not paused. Parameters and errors are those of pause_campaign.';

alter function brainops.resume_campaign(text, text) owner to brainops_system;
revoke execute on function brainops.resume_campaign(text, text) from public;
grant execute
on function brainops.resume_campaign(text, text)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

create or replace function brainops_internal.before_campaign()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  if new.status <> 'active' or (tg_op = 'UPDATE' and old.status = 'active') then
    return new;
  end if;
  if new.version = 0 then
    raise exception 'campaigns: % has no published version, so it cannot be active', quote_literal(new.code)
      using errcode = 'OP022',
        hint = format('Insert it as a draft with its campaign_steps, publish it with brainops.publish_campaign(%L), then set status to active.', new.code);
  end if;
  perform brainops_internal.refuse_launch(new.tenant_id, s.channel)
  from (
    select distinct brainops_internal.touch_type_of(kind) as channel
    from public.campaign_steps
    where tenant_id = new.tenant_id and campaign_id = new.id and version = new.version and kind in ('send_email', 'send_sms')
    order by 1
  ) as s;
  new.launched_at := coalesce(new.launched_at, brainops.now());
  return new;
end;
$$;

comment on function brainops_internal.before_campaign is
  'Trigger of campaigns before insert or update: on a launch sets launched_at. OP022: the campaign has no published version. OP031: the tenant is not ready to send on a channel that the version uses.';

alter function brainops_internal.before_campaign() owner to brainops_system;
revoke execute on function brainops_internal.before_campaign() from public;

create or replace function brainops_internal.after_campaign_status()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_ids uuid[] := array(
    select e.id from public.ai_nurture_campaigns as e
    where e.tenant_id = new.tenant_id and e.campaign_id = new.id and e.status in ('active', 'paused')
    order by e.id
  );
begin
  if new.status <> 'archived' then
    -- Includes enrolments whose steps are all done but that still have a queued message.
    v_ids := v_ids || array(
      select e.id from public.ai_nurture_campaigns as e
      where e.tenant_id = new.tenant_id and e.campaign_id = new.id and e.status = 'completed'
        and (
          exists (
            select from public.ai_email_queue as q
            where q.tenant_id = e.tenant_id and q.enrolment_id = e.id and q.status in ('pending', 'awaiting_approval')
          )
          or exists (
            select from public.ai_sms_queue as q
            where q.tenant_id = e.tenant_id and q.enrolment_id = e.id and q.status in ('pending', 'awaiting_approval')
          )
        )
      order by e.id
    );
  end if;
  if new.status = 'active' then
    perform brainops_internal.release_enrolments(new.tenant_id, v_ids);
  elsif new.status = 'archived' then
    perform brainops.exit_enrolment(id, 'the campaign is archived') from unnest(v_ids) as id;
  else
    perform brainops_internal.hold_enrolments(new.tenant_id, v_ids);
  end if;
  return null;
end;
$$;

comment on function brainops_internal.after_campaign_status is
  'Trigger of campaigns after a change of status: releases (active), holds (paused, draft) or ends (archived) its enrolments.';

alter function brainops_internal.after_campaign_status() owner to brainops_system;
revoke execute on function brainops_internal.after_campaign_status() from public;
