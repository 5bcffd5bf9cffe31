-- How much a mail may bring along in metadata. A claim of a thousand recipients holds all of theirs in
-- memory at once, so those get less than a mail of its own.
set local lock_timeout = '2s';

create function brainops.refuse_large_metadata()
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

comment on function brainops.refuse_large_metadata is
  'metadata of a mail or broadcast takes 256 KiB at most, of a broadcast''s recipient 32 KiB, as jsonb before compression.';

revoke execute on function brainops.refuse_large_metadata() from public;

-- Nearly always a look at the size is all. Joined with nothing it is unpacked, as it will be when read.
create trigger a3_refuse_large_metadata
before insert or update of metadata on public.ai_email_queue
for each row
when (pg_column_size(new.metadata || '{}') > 32768)
execute function brainops.refuse_large_metadata();

create trigger a3_refuse_large_metadata
before insert or update of metadata on public.ai_broadcasts
for each row
when (pg_column_size(new.metadata || '{}') > 32768)
execute function brainops.refuse_large_metadata();

comment on column public.ai_email_queue.metadata is
  'Variables for Liquid, and: marketing true (the rules for marketing, unsubscribe headers), expires_at (not to be sent later), priority high, lead_id, reply_to, category. At most 256 KiB, as a recipient of a broadcast 32.';
comment on column public.ai_broadcasts.metadata is
  'Variables for Liquid, below those of each row; and reply_to, category. At most 256 KiB.';
