-- Topics that people do not want mail about. Start at topic_opted_out, which is asked when an enrolment begins; the
-- trigger after_topic_optout ends those that run.

create or replace function brainops_internal.topic_opted_out(p_tenant_id uuid, p_address text, p_topic text)
returns boolean
language sql
stable
set search_path = ''
as $$
  select
    exists (
      select
      from
        public.contact_topic_optouts as o
        inner join public.contact_topics as t on t.tenant_id = o.tenant_id and t.id = o.topic_id
      where
        o.tenant_id = p_tenant_id
        and o.address_key = lower(btrim(p_address))
        and (t.code = p_topic or p_topic = any (t.campaign_codes))
    );
$$;

comment on function brainops_internal.topic_opted_out(uuid, text, text) is
  'Whether the person with this e-mail address does not want the topic with the code p_topic, or the topic that the campaign with this code belongs to.';

revoke execute on function brainops_internal.topic_opted_out(uuid, text, text) from public;
grant execute
on function brainops_internal.topic_opted_out(uuid, text, text)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

-- Ends running enrolments in the topic's campaigns. Later enrolments are stored as ended, so that the reason can be
-- seen (brainops_internal.enter_campaign).
create or replace function brainops_internal.after_topic_optout()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  -- Waits for an enrolment in progress, which is then ended below; one that begins later sees the opt-out.
  perform from public.revenue_leads as l
  where l.tenant_id = new.tenant_id and lower(l.email) = new.address_key
  order by l.id
  for no key update;
  perform brainops.exit_enrolment(e.id, 'topic_not_wanted')
  from public.ai_nurture_campaigns as e
  inner join public.revenue_leads as l on l.tenant_id = e.tenant_id and l.id = e.lead_id
  where e.tenant_id = new.tenant_id
    and e.status in ('active', 'paused')
    and lower(l.email) = new.address_key
    and brainops_internal.topic_opted_out(e.tenant_id, l.email, e.campaign_type);
  return null;
end;
$$;

comment on function brainops_internal.after_topic_optout is
  'Trigger: ends the person''s running enrolments in campaigns of a topic that is no longer wanted.';

alter function brainops_internal.after_topic_optout() owner to brainops_system;
revoke execute on function brainops_internal.after_topic_optout() from public;
