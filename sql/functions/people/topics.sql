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
  'Whether the person does not want this topic, or the topic that this campaign belongs to.';

revoke execute on function brainops_internal.topic_opted_out(uuid, text, text) from public;
grant execute
on function brainops_internal.topic_opted_out(uuid, text, text)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

-- Running enrolments of the topic's campaigns end; those that begin later do so as ended, with the
-- reason to be seen (brainops_internal.enter_campaign).
create or replace function brainops_internal.after_topic_optout()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  -- Whoever is being enrolled right now is in and leaves, or comes after this and does not enter.
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

alter function brainops_internal.after_topic_optout() owner to brainops_system;
revoke execute on function brainops_internal.after_topic_optout() from public;
