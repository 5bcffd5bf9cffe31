select brainops.protect_table('public.email_bounces');

-- Reports are the provider's to write, links the worker's.
revoke insert, update, delete on public.email_bounces from brainops_tenant, brainops_service;

create or replace trigger d0_after_delivery_report
after insert on public.email_bounces
for each row
when (new.bounce_type = 'hard')
execute function brainops_internal.after_delivery_report();
