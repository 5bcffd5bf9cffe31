-- An event of SendGrid's that names no message of ours is about a mail that somebody else sent through
-- the installation's account: no tenant's to read, whosever address is in it. Whoever forgets the
-- address erases it all the same, since nobody else will.
set local lock_timeout = '2s';

create or replace function brainops.export_person(p_tenant text, p_address text)
returns table (table_name text, held jsonb)
language sql
stable
security definer
set search_path = ''
as $$
  -- A link's token is a key to act with, and a lease the engine's own.
  select r.table_name, r.held - '{token,lease,worker_id}'::text[]
  from brainops.person_rows(brainops.find_person(brainops.tenant_of_caller(p_tenant), p_address)) as r
  where
    r.table_name <> 'public.webhook_events'
    or r.held ->> 'provider' <> 'sendgrid'
    or r.held ->> 'tenant_id' is not null
    or (brainops.find_email(r.held -> 'payload')).tenant_id is not null
    or pg_catalog.pg_has_role(session_user, 'brainops_admin', 'member');
$$;

comment on function brainops.export_person(text, text) is
  'Everything that a tenant holds on a person, by e-mail address or phone number, a row each; for admins also what SendGrid said of the address that is about no tenant''s message. By admins, or by the tenant itself.';
