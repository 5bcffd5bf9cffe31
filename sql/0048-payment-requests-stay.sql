-- A payment request could be deleted while its link was live. What closes the link and what tells whose a payment is
-- (payment_link_closures, stripe_objects) went with it: the link stayed payable, and what was paid by it was nobody's.
-- Now a request that ever had a link stays. forget has never deleted one: it takes the name out, and cancels.
-- Old workers go on meanwhile: none of them deletes requests. The table is locked for a moment.
set local lock_timeout = '2s';

create function brainops.before_payment_delete()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  -- Whoever removes a tenant has ended it first, by name.
  if pg_catalog.pg_has_role(session_user, 'brainops_admin', 'member')
    and exists (select from public.tenants as t where t.id = old.tenant_id and t.status = 'suspended')
  then
    return old;
  end if;
  raise exception 'payment request %: a link was made for it or may have been, so that a payment may still come', old.id
    using errcode = 'OP010',
      hint = 'Set payment_status to cancelled: the link is switched off. The row stays; only an admin deletes it, with a tenant that is suspended.';
end;
$$;

comment on function brainops.before_payment_delete is
  'Keeps a payment request that has had a link, for the payments that may come by it.';

revoke execute on function brainops.before_payment_delete() from public;
grant execute on function brainops.before_payment_delete() to brainops_system;

-- Also an older link than the present one may be open yet, and so may one that is switched off have been paid
-- a moment before.
create trigger a2_before_payment_delete
before delete on public.payment_requests
for each row
when (old.key_started_at is not null or old.stripe_payment_link_id is not null or old.key_generation > 0)
execute function brainops.before_payment_delete();
