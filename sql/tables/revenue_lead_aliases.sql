-- Ids of merged leads. Only the engine writes them.
select brainops.protect_table('public.revenue_lead_aliases');

revoke insert, update, delete
on public.revenue_lead_aliases
from brainops_tenant, brainops_service, brainops_worker, brainops_admin;
