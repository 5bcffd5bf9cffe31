-- Mails that bounced: a hard bounce becomes an event of the lead.
select brainops.protect_table('public.email_bounces');

-- Written only by the engine, from SendGrid's events.
revoke insert, update, delete on public.email_bounces from brainops_tenant, brainops_service;

create or replace trigger d0_after_delivery_report
after insert on public.email_bounces
for each row
when (new.bounce_type = 'hard')
execute function brainops_internal.after_delivery_report();
