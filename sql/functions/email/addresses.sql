-- Addresses of e-mail: what an address is (is_email_address), which address a mail goes to (email_address is the only
-- place that decides it), and what remains of a forgotten address (address_digest).

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
  'Whether a text is one e-mail address that mail can be sent to: ann@example.com, without a name, without white space, in ASCII (an international domain in punycode), with a domain of at least two labels. False for null.';

revoke execute on function brainops_internal.is_email_address(text) from public;
grant execute
on function brainops_internal.is_email_address(text)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

-- What a provider's client takes apart itself, or puts into a header. Direction marks would let a name hide the address
-- that follows it.
create or replace function brainops_internal.is_mailbox(p_text text)
returns boolean
language sql
immutable
parallel safe
set search_path = ''
as $$
  select
    coalesce(
      octet_length(p_text) <= 512
      and p_text !~ '[\x01-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]'
      and brainops_internal.is_email_address(
        coalesce(substring(p_text from '^ *"?[^"<>]*"? *<([^<>]+)> *$'), btrim(p_text))
      ),
      false
    );
$$;

comment on function brainops_internal.is_mailbox(text) is
  'Whether a text is an e-mail address with or without a name: ann@example.com, Ann <ann@example.com> or "Ann" <ann@example.com>; at most 512 bytes, without control characters and marks of the writing direction. False for null.';

revoke execute on function brainops_internal.is_mailbox(text) from public;
grant execute
on function brainops_internal.is_mailbox(text)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

-- A mail to a lead goes to the lead that its recipient names, or to the lead that this one was merged into, regardless
-- of lead_id.
--
-- Called for a thousand recipients at once, so it has to be inlined: in SQL, stable, returning rows, without a search_path.
-- The subqueries (offset 0) turn ids into plain columns, because behind row level security an index is used only for
-- plain columns.
create or replace function brainops_internal.email_address(p_tenant_id uuid, p_recipient text)
returns table (address text)
language sql
stable
rows 1
as $$
  select
    case
      when q.lead_id is null then p_recipient
      else (
        select nullif(pg_catalog.btrim(l.email), '')
        from public.revenue_leads as l
        where l.tenant_id operator(pg_catalog.=) p_tenant_id and l.id operator(pg_catalog.=) q.lead_id
      )
    end
  from
    (
      select
        case
          when n.named is not null then coalesce(
            (
              select a.lead_id
              from public.revenue_lead_aliases as a
              where a.tenant_id operator(pg_catalog.=) p_tenant_id and a.id operator(pg_catalog.=) n.named
            ),
            n.named
          )
        end as lead_id
      from (select brainops_internal.uuid_or_null(p_recipient) as named offset 0) as n
      offset 0
    ) as q;
$$;

comment on function brainops_internal.email_address(uuid, text) is
  'One row: the address that a mail to the recipient would go to now. It is the recipient itself, or the address of the lead that the recipient names; null if that lead does not exist or has no address.';

revoke execute on function brainops_internal.email_address(uuid, text) from public;
grant execute on function brainops_internal.email_address(uuid, text) to brainops_worker;

-- The messages that the gate passes to the contact rules. A function of its own, so that its settings do not apply to
-- the plans of the rules; email/load.sql explains the settings.
create or replace function brainops_internal.email_contacts(p_ids uuid[])
returns brainops.contact[]
language plpgsql
stable
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
begin
  return (
    select array_agg(
      row(
        e.id, e.tenant_id, e.lead_id, a.address, e.is_marketing, e.enrolment_id, e.recipient,
        coalesce(e.first_due_at, e.scheduled_for), e.metadata ->> 'expires_at'
      )::brainops.contact
      order by e.job_priority, e.scheduled_for, e.id
    )
    from public.ai_email_queue as e
    cross join lateral brainops_internal.email_address(e.tenant_id, e.recipient) as a
    where e.id = any (p_ids)
  );
end;
$$;

comment on function brainops_internal.email_contacts(uuid[]) is
  'The mails as brainops.contact, in the order in which they are claimed; null for no rows.';

revoke execute on function brainops_internal.email_contacts(uuid[]) from public;
grant execute on function brainops_internal.email_contacts(uuid[]) to brainops_worker;

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
