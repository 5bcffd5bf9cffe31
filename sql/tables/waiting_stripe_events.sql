-- Stripe events whose object is not known yet; only the engine and admins see them.
alter table brainops.waiting_stripe_events enable row level security;
alter table brainops.waiting_stripe_events force row level security;

drop policy if exists every_row on brainops.waiting_stripe_events;
create policy every_row on brainops.waiting_stripe_events
for all
to brainops_admin, brainops_system
using (true)
with check (true);

grant select, insert, update, delete on brainops.waiting_stripe_events to brainops_admin, brainops_system;
