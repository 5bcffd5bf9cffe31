-- The variant that won a split; tenants may also decide and undo it by hand.

select brainops.protect_table('public.campaign_split_winners');

revoke insert, update on public.campaign_split_winners from brainops_tenant, brainops_service;
grant
  insert (id, tenant_id, campaign_id, version, step_key, variant, decided_at, figures),
  update (id, tenant_id, campaign_id, version, step_key, variant, decided_at, figures)
on public.campaign_split_winners
to brainops_tenant, brainops_service;
