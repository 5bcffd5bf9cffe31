-- Most texts are told by their length, which spares them the regular expression.
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

comment on function brainops_internal.uuid_or_null(text) is 'The uuid that the text spells, or null: never an error.';

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
  'The instant that a text spells (UTC where it names no zone), or null: never an error.';

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

comment on function brainops_internal.text_array(jsonb) is 'A JSON list of texts as an array; null for anything else.';

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
      hint = 'Give a name such as America/Denver; an offset or an abbreviation does not know summer time.';
end;
$$;

revoke execute on function brainops_internal.refuse_time_zone() from public;

-- How much a mail may bring along in metadata. A claim of a thousand recipients holds all of theirs in
-- memory at once, so those get less than a mail of its own.
create or replace function brainops_internal.refuse_large_metadata()
returns trigger
language plpgsql
set search_path = ''
as $$
declare
  -- By table and kind of row; in a broadcast's own row is what all recipients share.
  c_of_recipient constant int := 32768;
  c_else constant int := 262144;
  v_bytes int := pg_column_size(new.metadata || '{}');
  v_most int := case when tg_table_name = 'ai_email_queue' and to_jsonb(new) ->> 'broadcast_id' is not null then c_of_recipient else c_else end;
begin
  if v_bytes > v_most then
    raise exception 'metadata: takes % bytes, at most % (% KiB) are allowed', v_bytes, v_most, v_most / 1024
      using errcode = 'OP006', column = 'metadata',
        hint = 'Give what the template needs; what all recipients share goes into ai_broadcasts.metadata.';
  end if;
  return new;
end;
$$;

comment on function brainops_internal.refuse_large_metadata is
  'metadata of a mail or broadcast takes 256 KiB at most, of a broadcast''s recipient 32 KiB, as jsonb before compression.';

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

revoke execute on function brainops_internal.touch_updated_at() from public;

create or replace function brainops_internal.refuse_change()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  -- The one exception: brainops.forget takes out of an event's words what may name a person.
  if tg_op = 'UPDATE' and current_user = 'brainops_system'
    and to_jsonb(new) = to_jsonb(old) || '{"detail": "erased"}' then
    return new;
  end if;
  raise exception '% is append only: % is refused', tg_relid::regclass, lower(tg_op)
    using errcode = 'insufficient_privilege', hint = 'Insert a new row; retention drops whole partitions.';
end;
$$;

revoke execute on function brainops_internal.refuse_change() from public;
grant execute on function brainops_internal.refuse_change() to brainops_system;
