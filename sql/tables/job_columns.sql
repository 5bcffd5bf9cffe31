revoke all on brainops.job_columns from public;
grant select on brainops.job_columns to brainops_worker, brainops_admin, brainops_system;
