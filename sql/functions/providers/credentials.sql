-- What follows when a tenant's credential is added, changed or removed: rows that waited for the account are woken.
--
-- A tenant deactivates a credential (active = false) and cannot delete it: its key still switches off payment links
-- that were created through the account, and its endpoint still receives the account's refunds. Only an admin deletes
-- one.
create or replace function brainops_internal.after_credential_change()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  if new.provider = 'stripe' and new.active then
    -- Includes failed closures: with another key Stripe may answer differently, and a link that stays open takes money.
    -- A closure that is locked is being changed elsewhere, or asks again within the hour.
    update public.payment_link_closures
    set status = 'pending', scheduled_for = brainops.now()
    where id in (
      select c.id from public.payment_link_closures as c
      where c.tenant_id = new.tenant_id
        and c.account is not null
        and (c.status = 'failed' or (c.status = 'pending' and c.last_error like 'waiting:%'))
      for update skip locked
    );
  end if;
  perform brainops_internal.wake_rows(j.table_name, coalesce(new.tenant_id, old.tenant_id))
    from brainops.job_tables as j
    where j.provider = coalesce(new.provider, old.provider);
  return null;
end;
$$;

comment on function brainops_internal.after_credential_change is
  'Trigger on provider_credentials: queues jobs for the tenant''s due rows that go through the provider, and for an active Stripe credential makes waiting and failed payment link closures due again.';

alter function brainops_internal.after_credential_change() owner to brainops_system;
revoke execute on function brainops_internal.after_credential_change() from public;
