select brainops.protect_table('brainops.contact_counts');

-- What protects a sender's name is not the tenant's to take away.
revoke insert, update, delete on brainops.contact_counts from brainops_tenant, brainops_service, brainops_worker;
