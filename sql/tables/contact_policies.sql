-- Tenants' contact rules. The trigger refuses a cap window for which the queues do not keep enough history.
select brainops.protect_table('public.contact_policies');

revoke insert, update on public.contact_policies from brainops_tenant, brainops_service;
grant
  insert (
    id,
    tenant_id,
    channel,
    window_start,
    window_end,
    weekdays,
    cap,
    cap_window,
    consent,
    spread,
    hourly_limit,
    expires_after
  ),
  update (
    id,
    tenant_id,
    channel,
    window_start,
    window_end,
    weekdays,
    cap,
    cap_window,
    consent,
    spread,
    hourly_limit,
    expires_after
  )
on public.contact_policies
to brainops_tenant, brainops_service;

create or replace trigger b0_check_cap_window
before insert or update of cap_window on public.contact_policies
for each row
when (new.cap_window is not null)
execute function brainops_internal.check_cap_window();
