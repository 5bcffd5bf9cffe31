-- Which columns refer to a table's rows, asked in one place: by a merge of leads, which moves what
-- refers to one of them, and by what takes a row away with everything that hangs on it.
set local lock_timeout = '2s';

create function brainops.references_to(p_table regclass)
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

comment on function brainops.references_to(regclass) is
  'The columns with a foreign key to the id of a table; keeps_row: whether a row outlives what it refers to, with the column emptied.';

-- A row out of its table, with every row that hangs on it, as JSON.
create or replace function brainops.take_row(p_table regclass, p_tenant_id uuid, p_id uuid)
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
    -- Rows whose reference is merely emptied stay where they are.
    select r.relation, r.column_name from brainops.references_to(p_table) as r where r.keeps_row is not true
  loop
    for v_id in
      execute format('select id from %s where tenant_id = $1 and %I = $2', v_child.relation, v_child.column_name)
        using p_tenant_id, p_id
    loop
      v_below := v_below || jsonb_build_array(brainops.take_row(v_child.relation, p_tenant_id, v_id));
    end loop;
  end loop;
  execute format('delete from %s as t where tenant_id = $1 and id = $2 returning to_jsonb(t)', p_table)
    into v_row
    using p_tenant_id, p_id;
  return jsonb_build_object('table', p_table::text, 'row', v_row)
    || case when v_below <> '[]' then jsonb_build_object('rows', v_below) else '{}' end;
end;
$$;

-- What refers to one lead refers to the other from then on, in every table with a foreign key to
-- leads. Returns the rows for which there was no room, because the other has the like (by a unique
-- key): they are out of their tables then.
create or replace function brainops.move_lead_rows(p_tenant_id uuid, p_into uuid, p_from uuid)
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
    select r.relation, r.column_name from brainops.references_to('public.revenue_leads') as r
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
              v_kept := v_kept || jsonb_build_array(brainops.take_row(v_child.relation, p_tenant_id, v_id));
          end;
        end loop;
    end;
  end loop;
  return v_kept;
end;
$$;

revoke execute on function brainops.references_to(regclass) from public;
grant execute on function brainops.references_to(regclass) to brainops_system;
