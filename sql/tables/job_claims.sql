-- Workers record their claims with the rights of brainops_system.
alter table brainops.job_claims enable row level security;
alter table brainops.job_claims force row level security;
drop policy if exists every_row on brainops.job_claims;
create policy every_row on brainops.job_claims
for all
to brainops_admin, brainops_system
using (true)
with check (true);
grant select, insert, update, delete on brainops.job_claims to brainops_system;

grant select on brainops.job_claims to brainops_admin;
