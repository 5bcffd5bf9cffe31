-- What SendGrid reported: opens, clicks, complaints and unsubscribes become events of the lead.
select brainops.protect_table('public.email_deliveries');

-- Written only by the engine, from SendGrid's events.
revoke insert, update, delete on public.email_deliveries from brainops_tenant, brainops_service;

create or replace trigger d0_after_delivery_report
after insert on public.email_deliveries
for each row
when
  (
    new.event in ('open', 'click', 'spamreport', 'unsubscribe', 'group_unsubscribe')
    -- Apple's mail service loads every image, even if nobody reads the mail.
    and new.metadata ->> 'machine_open' is distinct from 'true'
  )
execute function brainops_internal.after_delivery_report();
