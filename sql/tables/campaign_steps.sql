-- Steps of each version of a campaign: the triggers refuse changes to published versions.

select brainops.protect_table('public.campaign_steps');

create or replace trigger b0_before_campaign_step
before insert or delete on public.campaign_steps
for each row
execute function brainops_internal.before_campaign_step();

create or replace trigger b1_before_campaign_step
before update on public.campaign_steps
for each row
when (old is distinct from new)
execute function brainops_internal.before_campaign_step();
