-- Topics that people do not want. The trigger ends the enrolments that an opt-out is about.
select brainops.protect_table('public.contact_topic_optouts');

revoke insert, update on public.contact_topic_optouts from brainops_tenant, brainops_service;
grant
  insert (id, tenant_id, topic_id, address_key, created_at),
  update (id, tenant_id, topic_id, address_key, created_at)
on public.contact_topic_optouts
to brainops_tenant, brainops_service;

-- Also when the topic is deleted, which would delete its opt-outs.
create or replace trigger b0_keep_persons_choice
before update or delete on public.contact_topic_optouts
for each row
when (brainops_internal.is_persons_source(old.source))
execute function brainops_internal.keep_persons_choice();

create or replace trigger d0_after_topic_optout
after insert on public.contact_topic_optouts
for each row
execute function brainops_internal.after_topic_optout();
