-- A tenant's own Stripe account that was taken away left its cancelled links open for good: the row was gone, and with it
-- the key that switches links off, and the endpoint that the account's refunds are told to. Now it is switched off, and
-- only an admin deletes it. Clients that delete one are refused; they set active to false.
--
-- Closures that wait for the account, or gave it up, go on when a credential comes. Old workers give up as they did.
create or replace function brainops_internal.after_credential_change()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  if new.provider = 'stripe' and new.active then
    -- What failed as well: with another key Stripe may say otherwise, and a link that stays open takes money. One that
    -- somebody else has in hand is moved there, or asks again within the hour.
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

alter function brainops_internal.after_credential_change() owner to brainops_system;
revoke execute on function brainops_internal.after_credential_change() from public;
