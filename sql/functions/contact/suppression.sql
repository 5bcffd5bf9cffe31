-- Suppresses for ever. Where the address is suppressed for ever already, the graver reason stays,
-- so that the order of events does not matter.
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
      reason = excluded.reason,
      source = excluded.source,
      expires_at = null
    where
      s.expires_at is not null
      or brainops_internal.suppression_rank(excluded.reason) < brainops_internal.suppression_rank(s.reason);
$$;

revoke execute on function brainops_internal.suppress(uuid, text, text, text, text) from public;
grant execute on function brainops_internal.suppress(uuid, text, text, text, text) to brainops_system;

-- From the gravest down. What clients wrote themselves ranks above unsubscribed, the one reason
-- that a later event may take back: their rows are not ours to delete.
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

revoke execute on function brainops_internal.suppression_rank(text) from public;
grant execute on function brainops_internal.suppression_rank(text) to brainops_system;

-- What a person said to SendGrid about our mails, by the time of each word and not by the order
-- they came in; at the same second the one that stops wins. Joining a group again takes back
-- leaving that group, nothing else: who left them all has to be asked.
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
            -- The provider's word for one that it heard earlier.
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
  end if;
end;
$$;

revoke execute on function brainops_internal.settle_consent(uuid, text) from public;
grant execute on function brainops_internal.settle_consent(uuid, text) to brainops_system;
