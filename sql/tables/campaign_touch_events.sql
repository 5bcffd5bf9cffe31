-- What happened to each touch's message; written by the engine only.

select brainops.protect_table('public.campaign_touch_events');

revoke insert, update, delete on public.campaign_touch_events from brainops_tenant, brainops_service;
