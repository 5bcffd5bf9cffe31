select brainops.protect_table('public.contact_topic_optouts');

create or replace trigger d0_topic_optout_exits
after insert on public.contact_topic_optouts
for each row
execute function brainops.topic_optout_exits();
