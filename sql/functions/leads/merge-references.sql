-- Merging, second part: the rows that refer to a merged lead. merge_lead_into (merge.sql) first calls
-- skip_second_recipients and renumber_entrances, for the two tables in which both leads' rows would clash, and
-- then move_lead_rows for all tables.

create or replace function brainops_internal.move_lead_rows(p_tenant_id uuid, p_into uuid, p_from uuid)
returns jsonb
language plpgsql
set search_path = ''
as $$
declare
  v_child record;
  v_id uuid;
  v_kept jsonb := '[]';
begin
  for v_child in
    select r.relation, r.column_name from brainops_internal.references_to('public.revenue_leads') as r
  loop
    begin
      execute format('update %s set %I = $1 where tenant_id = $2 and %2$I = $3', v_child.relation, v_child.column_name)
        using p_into, p_tenant_id, p_from;
    exception
      when unique_violation then
        for v_id in
          execute format('select id from %s where tenant_id = $1 and %I = $2', v_child.relation, v_child.column_name)
            using p_tenant_id, p_from
        loop
          begin
            execute format('update %s set %I = $1 where tenant_id = $2 and id = $3', v_child.relation, v_child.column_name)
              using p_into, p_tenant_id, v_id;
          exception
            when unique_violation then
              v_kept := v_kept || jsonb_build_array(brainops_internal.delete_row_as_json(v_child.relation, p_tenant_id, v_id));
          end;
        end loop;
    end;
  end loop;
  return v_kept;
end;
$$;

comment on function brainops_internal.move_lead_rows(uuid, uuid, uuid) is
  'Changes references to lead p_from into references to p_into, in every table with a foreign key to leads. Rows that a unique key does not allow are deleted, and returned as JSON.';

revoke execute on function brainops_internal.move_lead_rows(uuid, uuid, uuid) from public;
grant execute on function brainops_internal.move_lead_rows(uuid, uuid, uuid) to brainops_system;

create or replace function brainops_internal.delete_row_as_json(p_table regclass, p_tenant_id uuid, p_id uuid)
returns jsonb
language plpgsql
set search_path = ''
as $$
declare
  v_child record;
  v_id uuid;
  v_row jsonb;
  v_below jsonb := '[]';
begin
  for v_child in
    -- Rows whose foreign key sets the reference to null are kept.
    select r.relation, r.column_name from brainops_internal.references_to(p_table) as r where r.keeps_row is not true
  loop
    for v_id in
      execute format('select id from %s where tenant_id = $1 and %I = $2', v_child.relation, v_child.column_name)
        using p_tenant_id, p_id
    loop
      v_below := v_below || jsonb_build_array(brainops_internal.delete_row_as_json(v_child.relation, p_tenant_id, v_id));
    end loop;
  end loop;
  execute format('delete from %s as t where tenant_id = $1 and id = $2 returning to_jsonb(t)', p_table)
    into v_row
    using p_tenant_id, p_id;
  return jsonb_build_object('table', p_table::text, 'row', v_row)
    || case when v_below <> '[]' then jsonb_build_object('rows', v_below) else '{}' end;
end;
$$;

comment on function brainops_internal.delete_row_as_json(regclass, uuid, uuid) is
  'Deletes a row and its dependents, and returns them as JSON {table, row, rows}.';

revoke execute on function brainops_internal.delete_row_as_json(regclass, uuid, uuid) from public;
grant execute on function brainops_internal.delete_row_as_json(regclass, uuid, uuid) to brainops_system;

create or replace function brainops_internal.references_to(p_table regclass)
returns table (relation regclass, column_name name, keeps_row boolean)
language sql
stable
set search_path = ''
as $$
  select
    c.conrelid::regclass,
    a.attname,
    c.confdeltype in ('n', 'd')
  from
    pg_catalog.pg_constraint as c
    inner join pg_catalog.pg_attribute as f on f.attrelid = c.confrelid and f.attname = 'id'
    inner join pg_catalog.pg_attribute as a
      on a.attrelid = c.conrelid and a.attnum = c.conkey[array_position(c.confkey, f.attnum)]
  where c.confrelid = p_table and c.contype = 'f' and c.conparentid = 0
  order by c.conrelid::regclass::text;
$$;

comment on function brainops_internal.references_to(regclass) is
  'The columns with a foreign key to the id of a table. keeps_row: true if the referring row outlives what it refers to (on delete set null or set default).';

revoke execute on function brainops_internal.references_to(regclass) from public;
grant execute on function brainops_internal.references_to(regclass) to brainops_system;

-- Recipients of a broadcast are unique by idempotency_key, which holds the lead's id at the time of the insert; a
-- merge changes only lead_id. Without this, a person whose two leads are recipients would get the broadcast twice.
create or replace function brainops_internal.skip_second_recipients(p_tenant_id uuid, p_into uuid, p_from uuid)
returns void
language plpgsql
set search_path = ''
as $$
begin
  -- Blocks a concurrent launch, pause or cancellation, which locks the same rows in another order.
  perform
  from public.ai_broadcasts as b
  where b.tenant_id = p_tenant_id
    and b.id in (
      select q.broadcast_id from public.ai_email_queue as q
      where q.tenant_id = p_tenant_id and q.lead_id in (p_into, p_from) and q.broadcast_id is not null
    )
  order by b.id
  for share;
  -- A worker has either claimed a row already, which counts below, or skips it because it is locked.
  perform
  from public.ai_email_queue as q
  where q.tenant_id = p_tenant_id and q.lead_id in (p_into, p_from) and q.broadcast_id is not null
    and q.status in ('pending', 'awaiting_approval', 'failed')
  order by q.id
  for no key update;

  with recipients as (
    select
      q.id,
      q.lead_id,
      first_value(q.lead_id) over (
        partition by q.broadcast_id
        order by
          case
            when q.status in ('completed', 'processing', 'unconfirmed') then 1
            -- The row of this person was cancelled, so the other lead's row must not go instead.
            when q.status = 'cancelled' then 2
            when q.status in ('pending', 'awaiting_approval') then 3
            else 4
          end,
          q.created_at,
          q.lead_id = p_from,
          q.id
      ) as kept_lead_id
    from public.ai_email_queue as q
    where q.tenant_id = p_tenant_id and q.lead_id in (p_into, p_from) and q.broadcast_id is not null
      -- The reason for the skip of one row may not apply to the other, whose gate is checked when it is due.
      and q.status <> 'skipped'
  )
  update public.ai_email_queue as q
  set status = 'skipped', skip_reason = 'another lead of the same person is a recipient of this broadcast'
  from recipients as r
  -- A lead may have several rows on purpose, for example for two addresses. Failed rows count: retry_failed would send
  -- them.
  where q.id = r.id and r.lead_id <> r.kept_lead_id and q.status in ('pending', 'awaiting_approval', 'failed');
end;
$$;

comment on function brainops_internal.skip_second_recipients(uuid, uuid, uuid) is
  'Before a merge: in each broadcast with rows of both leads, skips the waiting rows of one of them. Rows that were or may have been sent are kept; otherwise the older row is kept.';

revoke execute on function brainops_internal.skip_second_recipients(uuid, uuid, uuid) from public;
grant execute on function brainops_internal.skip_second_recipients(uuid, uuid, uuid) to brainops_system;

-- The entrances of each lead are numbered from 1 in each campaign. Without this, the merge would delete the second
-- lead's enrolments because their numbers are taken, even one that is running while the first lead's has ended.
create or replace function brainops_internal.renumber_entrances(p_tenant_id uuid, p_into uuid, p_from uuid)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_enrolment record;
begin
  -- Waits for a step in progress.
  perform from public.ai_nurture_campaigns
  where tenant_id = p_tenant_id and lead_id in (p_into, p_from)
  order by id
  for no key update;
  for v_enrolment in
    select
      r.id,
      case when r.runs then r.over_into + r.over_from + 1 else r.entrance + r.over_into end as entrance
    from (
      select
        e.id,
        e.lead_id,
        e.entrance,
        e.campaign_id,
        e.runs,
        count(*) filter (where e.runs) over campaign as running,
        coalesce(max(e.entrance) filter (where e.lead_id = p_into and not e.runs) over campaign, 0) as over_into,
        coalesce(max(e.entrance) filter (where e.lead_id = p_from and not e.runs) over campaign, 0) as over_from
      from (
        select n.*, n.status in ('active', 'paused') as runs
        from public.ai_nurture_campaigns as n
        where n.tenant_id = p_tenant_id and n.lead_id in (p_into, p_from)
      ) as e
      window campaign as (partition by e.campaign_type)
    ) as r
    inner join public.campaigns as c on c.tenant_id = p_tenant_id and c.id = r.campaign_id
    where (r.runs or r.lead_id = p_from)
      -- If both run, the remaining lead's enrolment continues. If the campaign takes each lead once, the person has
      -- been in it already, and the other lead's enrolment would not have started.
      and r.running <= 1
      and c.reentry = 'after_exit'
    -- The highest number first, so that an update does not collide with the next number of the same lead.
    order by 2 desc
  loop
    update public.ai_nurture_campaigns set entrance = v_enrolment.entrance
    where id = v_enrolment.id and entrance <> v_enrolment.entrance;
    update public.ai_campaign_touches set entrance = v_enrolment.entrance
    where tenant_id = p_tenant_id and campaign_id = v_enrolment.id and entrance <> v_enrolment.entrance;
  end loop;
end;
$$;

comment on function brainops_internal.renumber_entrances(uuid, uuid, uuid) is
  'Before a merge: in each campaign with reentry after_exit, numbers the enrolments of the second lead after those of the first, and the running one last. If both leads have a running enrolment, or the campaign takes each lead once, nothing changes.';

revoke execute on function brainops_internal.renumber_entrances(uuid, uuid, uuid) from public;
grant execute on function brainops_internal.renumber_entrances(uuid, uuid, uuid) to brainops_system;
