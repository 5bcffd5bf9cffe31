-- Keys by which a person is recognised. Clients may not read them.
select brainops.protect_table('brainops.lead_keys');

revoke all on brainops.lead_keys from brainops_tenant, brainops_service, brainops_worker;
