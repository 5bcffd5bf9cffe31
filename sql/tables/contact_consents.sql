-- Consents. Triggers store the address in the form that messages use, refuse updates, and start a double opt-in.
select brainops.protect_table('public.contact_consents');

revoke insert, update on public.contact_consents from brainops_tenant, brainops_service;
grant insert (id, tenant_id, lead_id, channel, address, state, source, evidence, occurred_at, created_at)
on public.contact_consents
to brainops_tenant, brainops_service;

-- Append only, by rights and by trigger. The engine itself may erase a person's entries, and move them to another lead
-- when leads are merged.
revoke update, delete
on public.contact_consents
from brainops_tenant, brainops_service, brainops_worker, brainops_admin;

create or replace trigger a0_resolve_lead_id
before insert on public.contact_consents
for each row
when (new.lead_id is not null)
execute function brainops_internal.resolve_lead_id();

create or replace trigger a2_keep_contact_address
before insert on public.contact_consents
for each row
when (new.channel = 'sms' and new.address !~ '^\+[1-9][0-9]{6,14}$' or new.address ~ '^[[:space:]]|[[:space:]]$')
execute function brainops_internal.keep_contact_address();

create or replace trigger a3_keep_persons_denial
before insert on public.contact_consents
for each row
when (new.state = 'granted')
execute function brainops_internal.keep_persons_denial();

create or replace trigger b1_keep_persons_choice
before delete on public.contact_consents
for each row
when (old.state = 'denied' and old.by_person)
execute function brainops_internal.keep_persons_choice();

create or replace trigger b0_append_only
before update on public.contact_consents
for each row
execute function brainops_internal.refuse_consent_change();

create or replace trigger d0_ask_for_opt_in
after insert on public.contact_consents
for each row
when (new.channel = 'email' and new.state in ('pending', 'granted') and not new.evidence ? 'confirmed_at')
execute function brainops_internal.ask_for_opt_in();

create or replace trigger d1_ask_for_opt_in_by_text
after insert on public.contact_consents
for each row
when (new.channel = 'sms' and new.state = 'pending')
execute function brainops_internal.ask_for_opt_in_by_text();
