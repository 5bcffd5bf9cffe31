-- Topics that people do not want. The trigger ends the enrolments that an opt-out is about.
select brainops.protect_table('public.contact_topic_optouts');

create or replace trigger d0_after_topic_optout
after insert on public.contact_topic_optouts
for each row
execute function brainops_internal.after_topic_optout();
