-- Signatures that a release replaced or removed. Applied before all other functions, in the same transaction:
--
--   drop function if exists brainops_internal.old_name(text, uuid); -- 0.3.0: new_name takes the row
--
-- `create or replace` cannot change a function's argument names, OUT columns or result type, and another list of
-- argument types creates a second function. So the old signature is dropped here, in the release that stops using it.
-- Where workers of the release before still call it, keep it as a wrapper for one release. Lines are removed after the
-- next major release.
--
-- Postgres refuses to drop what is in use. A function with a begin atomic body uses those that it calls, so it is dropped
-- first, and its own file creates it again. Triggers use their function, also on people's own tables, which no file here
-- names: a trigger function keeps its name.

drop function if exists brainops_internal.enqueue(text, uuid[], uuid[], timestamptz[], smallint[]); -- 0.2.0: with p_key_suffix
drop function if exists brainops_internal.record_breaker_result(text, int, int, text); -- 0.2.0: with p_note
drop function if exists brainops_internal.pause_account(text, boolean, text); -- 0.2.0: with p_account
drop function if exists brainops_internal.lock_persons(uuid, text[]); -- 0.2.0: lock_keys
drop function if exists brainops_internal.lock_stripe_account(text); -- 0.2.0: no lock
drop function if exists brainops_internal.claim(text, uuid[], uuid, uuid, text, text, boolean); -- 0.2.0: with p_alone
drop function if exists brainops_internal.settled_columns(text, text, text, text); -- 0.2.0: with p_worker_deaths
drop function if exists brainops_internal.settle_abandoned_rows(brainops.job_tables, uuid, interval, text); -- 0.2.0: settle_rows_of_dead_worker
drop function if exists brainops_internal.find_email(jsonb); -- 0.2.0: with p_tenant_id
drop function if exists brainops_internal.find_sms(uuid, text); -- 0.2.0: with p_tenant_id
drop function if exists brainops_internal.preference_phones(uuid, text); -- 0.2.0: returns person too
