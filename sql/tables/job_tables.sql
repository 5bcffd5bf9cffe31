-- Which tables are job tables. Everyone may read it, because claims and functions with the caller's rights do.
revoke all on brainops.job_tables from public;
grant select on brainops.job_tables to brainops_tenant, brainops_worker, brainops_service, brainops_system;
grant select on brainops.job_tables to brainops_admin;
-- Other columns are not granted: relation and gate, for example, are run as SQL with rights that admins do not have.
grant update (time_limit, max_deferrals, archive_after) on brainops.job_tables to brainops_admin;
grant update (bulk_max) on brainops.job_tables to brainops_admin;

create or replace trigger b0_check_cap_window
before update of archive_after on brainops.job_tables
for each row
when (new.channel in ('email', 'sms'))
execute function brainops_internal.check_cap_window();
