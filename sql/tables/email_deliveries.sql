select brainops.protect_table('public.email_deliveries');

-- Reports are the provider's to write, links the worker's.
revoke insert, update, delete on public.email_deliveries from brainops_tenant, brainops_service;

create or replace trigger d0_after_delivery_report
after insert on public.email_deliveries
for each row
when
  (
    new.event in ('open', 'click', 'spamreport', 'unsubscribe', 'group_unsubscribe')
    -- Apple's mail service fetches every picture, whether anybody reads the mail or not.
    and new.metadata ->> 'machine_open' is distinct from 'true'
  )
execute function brainops_internal.after_delivery_report();
