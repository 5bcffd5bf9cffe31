-- A tenant's own onboarding steps.
select brainops.protect_table('public.onboarding_templates');

create or replace trigger z0_touch_updated_at
before update on public.onboarding_templates
for each row
execute function brainops_internal.touch_updated_at();
