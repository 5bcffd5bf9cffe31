-- Addresses of e-mail: what an address is (is_email_address), which one a mail goes to (email_address), and what remains
-- of one that was forgotten (address_digest).

-- The only definition in SQL. Whether two leads are the same person is another question, which brainops_internal.email_key
-- answers.
--
-- The limits of SMTP: 64 characters before the @, 63 in each label of the domain, 254 in all. They are checked apart from
-- the expression: as bounds within it they made it ten times as slow (85 µs instead of 8). It sets no search_path, so that
-- Postgres inlines it.
create or replace function brainops_internal.is_email_address(p_text text)
returns boolean
language sql
immutable
parallel safe
as $$
  select
    coalesce(
      p_text operator(
        pg_catalog.~*
      ) '^[a-z0-9.!#$%&''*+/=?^_`{|}~-]+@([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z0-9-][a-z0-9-]+$'
      and pg_catalog.length(p_text) operator(pg_catalog.<=) 254
      and pg_catalog.strpos(p_text, '@') operator(pg_catalog.<=) 65
      and (
        pg_catalog.length(p_text) operator(pg_catalog.<=) 64
        or pg_catalog.split_part(p_text, '@', 2) operator(pg_catalog.!~) '[^.]{64}'
      ),
      false
    );
$$;

comment on function brainops_internal.is_email_address(text) is
  'Whether a text is one e-mail address that can be written to: ann@example.com, without a name, without white space, in ASCII (an international domain in punycode), with a domain of at least two labels. False for null.';

revoke execute on function brainops_internal.is_email_address(text) from public;
grant execute
on function brainops_internal.is_email_address(text)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

-- A mail whose recipient is a lead's id goes to that lead, whatever lead_id is, or to the lead that it was merged
-- into.
create or replace function brainops_internal.email_address(p_email public.ai_email_queue)
returns text
language sql
stable
set search_path = ''
as $$
  select
    case
      when brainops_internal.uuid_or_null(p_email.recipient) is null then p_email.recipient
      else (
        select nullif(btrim(l.email), '')
        from public.revenue_leads as l
        where
          l.tenant_id = p_email.tenant_id
          and l.id = coalesce(
            (
              select a.lead_id
              from public.revenue_lead_aliases as a
              where a.tenant_id = p_email.tenant_id and a.id = brainops_internal.uuid_or_null(p_email.recipient)
            ),
            brainops_internal.uuid_or_null(p_email.recipient)
          )
      )
    end;
$$;

comment on function brainops_internal.email_address(public.ai_email_queue) is
  'The address that a mail goes to as of now: its recipient, or the address of the lead that recipient names. Null if that lead does not exist or has no address.';

revoke execute on function brainops_internal.email_address(public.ai_email_queue) from public;
grant execute
on function brainops_internal.email_address(public.ai_email_queue)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

-- Computed for each message, so it must be inlined: it sets no search_path, and is stable because convert_to is.
-- Declared immutable, it would not be inlined.
create or replace function brainops_internal.address_digest(p_address text)
returns text
language sql
stable
parallel safe
as $$
  select
    pg_catalog.textcat(
      'sha256:',
      pg_catalog.encode(
        pg_catalog.sha256(pg_catalog.convert_to(pg_catalog.lower(pg_catalog.btrim(p_address)), 'UTF8')),
        'hex'
      )
    );
$$;

comment on function brainops_internal.address_digest(text) is
  'What remains of the address of a person who was forgotten: sha256:<hex>, of the address trimmed and in lower case.';

revoke execute on function brainops_internal.address_digest(text) from public;
grant execute
on function brainops_internal.address_digest(text)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;
