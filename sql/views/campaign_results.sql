-- Results of each step of a campaign, as counts.
drop view if exists brainops.campaign_results;

create view brainops.campaign_results
with (security_invoker = true)
as
  select
    t.tenant_id,
    c.code,
    t.version,
    t.step_number,
    t.step_key,
    t.touch_type,
    t.variant,
    count(distinct t.id) as reached,
    count(distinct t.id) filter (where t.performed_at is not null) as performed,
    count(*) filter (where e.event = 'sent') as sent,
    count(*) filter (where e.event = 'opened') as opened,
    count(*) filter (where e.event = 'clicked') as clicked,
    count(*) filter (where e.event = 'replied') as replied,
    count(*) filter (where e.event in ('skipped', 'failed', 'cancelled')) as not_sent,
    count(*) filter (where e.event = 'bounced') as bounced,
    count(*) filter (where e.event in ('unsubscribed', 'complained')) as unsubscribed
  from
    public.ai_campaign_touches as t
    inner join public.ai_nurture_campaigns as n on n.tenant_id = t.tenant_id and n.id = t.campaign_id
    inner join public.campaigns as c on c.tenant_id = n.tenant_id and c.id = n.campaign_id
    left join public.campaign_touch_events as e on e.tenant_id = t.tenant_id and e.touch_id = t.id
  where t.step_key is not null
  group by t.tenant_id, c.code, t.version, t.step_number, t.step_key, t.touch_type, t.variant;

comment on view brainops.campaign_results is
  'Results of each step of each campaign, by version and variant: how many enrolments reached it, how many performed or skipped it, and how many of its messages were sent, opened, clicked, replied to, not sent (skipped, failed or cancelled) and bounced, or led to an unsubscribe or a complaint.';

grant select on brainops.campaign_results to brainops_tenant, brainops_service, brainops_worker, brainops_admin;
