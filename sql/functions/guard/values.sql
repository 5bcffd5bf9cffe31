-- Small functions that convert and check values, and trigger functions that several tables share.

-- Most texts fail the test of the length, which is cheaper than the regular expression.
create or replace function brainops_internal.uuid_or_null(p_text text)
returns uuid
language sql
immutable
parallel safe
as $$
  select
    case
      when pg_catalog.octet_length(p_text) operator(pg_catalog.>=) 32
      and pg_catalog.octet_length(p_text) operator(pg_catalog.<=) 36
      and p_text operator(pg_catalog.~*) '^[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}$' then p_text::pg_catalog.uuid
    end;
$$;

comment on function brainops_internal.uuid_or_null(text) is
  'The text as a uuid; null if it is not one, and never an error.';

revoke execute on function brainops_internal.uuid_or_null(text) from public;
grant execute
on function brainops_internal.uuid_or_null(text)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

create or replace function brainops_internal.timestamptz_or_null(p_text text)
returns timestamptz
language plpgsql
stable
set search_path = ''
set timezone = 'UTC'
as $$
begin
  return p_text::timestamptz;
exception
  when others then return null;
end;
$$;

comment on function brainops_internal.timestamptz_or_null(text) is
  'The text as a timestamp, in UTC if it names no time zone; null if it is not one, and never an error.';

revoke execute on function brainops_internal.timestamptz_or_null(text) from public;
grant execute on function brainops_internal.timestamptz_or_null(text) to brainops_worker;

create or replace function brainops_internal.text_array(p_list jsonb)
returns text[]
language sql
immutable
parallel safe
set search_path = ''
as $$
  select
    case
      when jsonb_typeof(p_list) = 'array' then array(select jsonb_array_elements_text(p_list))
    end;
$$;

comment on function brainops_internal.text_array(jsonb) is
  'The elements of a JSON array as text; null for any other JSON value.';

revoke execute on function brainops_internal.text_array(jsonb) from public;
grant execute on function brainops_internal.text_array(jsonb) to brainops_system;

create or replace function brainops_internal.refuse_time_zone()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  raise exception 'time_zone: % is not the name of a time zone', quote_literal(left(new.time_zone, 60))
    using errcode = 'check_violation', column = 'time_zone', table = tg_table_name, constraint = tg_table_name || '_time_zone_known',
      hint = 'Give a name such as America/Denver; offsets and abbreviations do not follow daylight saving time.';
end;
$$;

comment on function brainops_internal.refuse_time_zone is
  'Trigger, for rows whose time_zone is not the name of a time zone: raises 23514 with a hint, before the check constraint raises it without one.';

revoke execute on function brainops_internal.refuse_time_zone() from public;

create or replace function brainops_internal.refuse_mail_from()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  raise exception 'settings.mail_from: % is not an e-mail address', quote_literal(left(new.settings ->> 'mail_from', 120))
    using errcode = 'check_violation', column = 'settings', table = tg_table_name,
      hint = 'Give one address, such as news@example.com or Acme <news@example.com>, without control characters and of at most 512 bytes.';
end;
$$;

comment on function brainops_internal.refuse_mail_from is
  'Trigger, for tenants whose settings.mail_from is not an address with or without a name: raises 23514.';

revoke execute on function brainops_internal.refuse_mail_from() from public;

-- For tables whose rows are all read when something happens to one lead or person: their number is part of what a
-- tenant costs the others. The lock on the tenant's row, which tenants cannot take, makes two transactions count one
-- after the other.
create or replace function brainops_internal.limit_rows()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_most constant int := tg_argv[0];
  v_tenants uuid[] := array(select distinct tenant_id from inserted order by tenant_id);
  v_over uuid;
begin
  perform from public.tenants where id = any (v_tenants) order by id for no key update;
  execute format('select tenant_id from %s where tenant_id = any ($1) group by tenant_id having count(*) > $2 limit 1', tg_relid::regclass)
    into v_over
    using v_tenants, v_most;
  if v_over is not null then
    raise exception '%: a tenant may have at most % rows', tg_relid::regclass, v_most
      using errcode = 'program_limit_exceeded', table = tg_table_name,
        hint = 'Delete rows that are no longer needed, then insert the new ones.';
  end if;
  return null;
end;
$$;

comment on function brainops_internal.limit_rows is
  'Trigger after insert, for each statement (transition table inserted): 54000 if a tenant has more rows in the table than the argument allows.';

alter function brainops_internal.limit_rows() owner to brainops_system;
revoke execute on function brainops_internal.limit_rows() from public;

-- A worker that claims a thousand recipients of a broadcast holds the metadata of all of them in memory, so a
-- recipient may have less than a single mail.
create or replace function brainops_internal.refuse_large_metadata()
returns trigger
language plpgsql
set search_path = ''
as $$
declare
  -- The broadcast's own row (ai_broadcasts) has what all recipients share, and the higher limit. A text has at most 1,600
  -- characters.
  c_of_recipient constant int := 32768;
  c_of_text constant int := 65536;
  c_else constant int := 262144;
  v_bytes int := pg_column_size(new.metadata || '{}');
  v_most int := case
    when tg_table_name = 'ai_sms_queue' then c_of_text
    -- to_jsonb of the whole row, because only one of the tables has the column.
    when tg_table_name = 'ai_email_queue' and to_jsonb(new) -> 'broadcast_id' <> 'null' then c_of_recipient
    else c_else
  end;
begin
  if v_bytes > v_most then
    raise exception 'metadata: has % bytes, and at most % (% KiB) are allowed', v_bytes, v_most, v_most / 1024
      using errcode = 'OP006', column = 'metadata',
        hint = 'Keep only the values that the template uses. Values that all recipients of a broadcast share belong in ai_broadcasts.metadata.';
  end if;
  return new;
end;
$$;

comment on function brainops_internal.refuse_large_metadata is
  'Trigger: limits metadata to 256 KiB for a mail or a broadcast, 64 KiB for a text and 32 KiB for a recipient of a broadcast, as jsonb before compression. OP006: larger.';

revoke execute on function brainops_internal.refuse_large_metadata() from public;

create or replace function brainops_internal.touch_updated_at()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  new.updated_at := brainops.now();
  return new;
end;
$$;

comment on function brainops_internal.touch_updated_at is 'Trigger: sets updated_at to now on each update.';

revoke execute on function brainops_internal.touch_updated_at() from public;

create or replace function brainops_internal.refuse_change()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  -- The only exception: brainops.forget erases the detail of an event, which may name a person.
  if tg_op = 'UPDATE' and current_user = 'brainops_system'
    and to_jsonb(new) = to_jsonb(old) || '{"detail": "erased"}' then
    return new;
  end if;
  raise exception '% is append only: % is refused', tg_relid::regclass, lower(tg_op)
    using errcode = 'insufficient_privilege', hint = 'Insert a new row; retention drops whole partitions.';
end;
$$;

comment on function brainops_internal.refuse_change is
  'Trigger, for append-only tables: raises 42501 on update, delete and truncate.';

revoke execute on function brainops_internal.refuse_change() from public;
grant execute on function brainops_internal.refuse_change() to brainops_system;
