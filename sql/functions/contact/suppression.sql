-- Suppressions from providers' reports. Start at suppress. What people choose by an unsubscribe link or on the
-- preference page is in people/preferences.sql; opt-outs by text are in sms/opt-out.sql.

-- If the address is suppressed permanently already, the more serious reason stays, so that the order in which reports
-- arrive does not matter. What the person said is kept beside a reason of the tenant's (person_source).
create or replace function brainops_internal.suppress(
  p_tenant_id uuid,
  p_channel text,
  p_address text,
  p_reason text,
  p_source text
)
returns void
language sql
set search_path = ''
as $$
  insert into public.contact_suppressions as s (tenant_id, channel, address, reason, source)
  values (p_tenant_id, p_channel, p_address, p_reason, p_source)
  on conflict (tenant_id, channel, address_key) do update
    set
      (reason, source) = (
        select
          case
            when w.replaces then excluded.reason
            else s.reason
          end,
          case
            when w.replaces then excluded.source
            else s.source
          end
        from
          (
            select
              s.expires_at is not null
              or brainops_internal.suppression_rank(excluded.reason) < brainops_internal.suppression_rank(
                s.reason
              ) as replaces
          ) as w
      ),
      expires_at = null,
      person_source = coalesce(s.person_source, excluded.person_source)
    where
      s.expires_at is not null
      or brainops_internal.suppression_rank(excluded.reason) < brainops_internal.suppression_rank(s.reason)
      or s.person_source is null
      and excluded.person_source is not null;
$$;

comment on function brainops_internal.suppress(uuid, text, text, text, text) is
  'Suppresses an address permanently; a temporary suppression of it becomes permanent.';

revoke execute on function brainops_internal.suppress(uuid, text, text, text, text) from public;
grant execute on function brainops_internal.suppress(uuid, text, text, text, text) to brainops_system;

-- A tenant's own reasons rank above unsubscribed, which is the only reason that a later report may lift: the engine
-- must not delete tenants' own rows.
create or replace function brainops_internal.suppression_rank(p_reason text)
returns int
language sql
immutable
set search_path = ''
as $$
  select
    case p_reason
      when 'complained' then 1
      when 'bounced' then 2
      when 'unsubscribed' then 4
      else 3
    end;
$$;

comment on function brainops_internal.suppression_rank(text) is
  'The rank of a suppression''s reason, 1 the most serious.';

revoke execute on function brainops_internal.suppression_rank(text) from public;
grant execute on function brainops_internal.suppression_rank(text) to brainops_system;

-- The row of a person's stop is deleted with it; this is for the tenant's rows that the stop was added to.
create or replace function brainops_internal.lift_persons_stop(
  p_tenant_id uuid,
  p_channel text,
  p_address text,
  p_sources text[]
)
returns void
language sql
set search_path = ''
as $$
  update public.contact_suppressions
  set person_source = null
  where
    tenant_id = p_tenant_id
    and channel = p_channel
    and address_key = lower(btrim(p_address))
    and person_source = any (p_sources)
    and not brainops_internal.is_persons_stop(source, reason);
$$;

comment on function brainops_internal.lift_persons_stop(uuid, text, text, text[]) is
  'Lifts the person''s stop, if it came from one of p_sources, from a suppression that the tenant has its own reason for; that reason stays.';

revoke execute on function brainops_internal.lift_persons_stop(uuid, text, text, text[]) from public;
grant execute on function brainops_internal.lift_persons_stop(uuid, text, text, text[]) to brainops_system;

-- Unsubscribes and resubscribes at SendGrid count by the time of the event and not of its arrival; of two in the same
-- second, the unsubscribe counts. Rejoining a group undoes leaving that group and nothing else: a person who
-- unsubscribed from all mail must opt in again. Lifts only suppressions that SendGrid reported.
create or replace function brainops_internal.settle_consent(p_tenant_id uuid, p_address text)
returns void
language plpgsql
set search_path = ''
as $$
begin
  if exists (
    select
    from (
      select distinct on (w.topic) w.stops
      from (
        select
          case when event like 'group_%' then coalesce(metadata ->> 'asm_group_id', '') else 'every mail' end as topic,
          event <> 'group_resubscribe' as stops,
          occurred_at
        from public.email_deliveries
        where tenant_id = p_tenant_id
          and recipient = p_address
          and (
            event in ('unsubscribe', 'group_unsubscribe', 'group_resubscribe')
            -- Dropped for an unsubscribe that SendGrid received earlier.
            or (event = 'dropped' and lower(metadata ->> 'reason') = 'unsubscribed address')
          )
      ) as w
      order by w.topic, w.occurred_at desc, w.stops desc
    ) as last_consents
    where stops
  ) then
    perform brainops_internal.suppress(p_tenant_id, 'email', p_address, 'unsubscribed', 'sendgrid');
  else
    delete from public.contact_suppressions
    where tenant_id = p_tenant_id and channel = 'email' and address_key = p_address
      and reason = 'unsubscribed' and source = 'sendgrid';
    perform brainops_internal.lift_persons_stop(p_tenant_id, 'email', p_address, '{sendgrid}');
  end if;
end;
$$;

comment on function brainops_internal.settle_consent(uuid, text) is
  'Suppresses an e-mail address, or lifts that suppression, by the unsubscribes and resubscribes in email_deliveries.';

revoke execute on function brainops_internal.settle_consent(uuid, text) from public;
grant execute on function brainops_internal.settle_consent(uuid, text) to brainops_system;
