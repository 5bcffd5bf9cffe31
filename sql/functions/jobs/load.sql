-- What a worker reads when it starts.
--
-- Compatibility: a contract between workers and database; functions/email/load.sql has its rules.
create or replace function brainops_internal.load_job_tables()
returns table (
  table_name text,
  task_identifier text,
  effect_is_idempotent boolean,
  time_limit_ms int,
  load text,
  missing_columns text[]
)
language sql
stable
set search_path = ''
as $$
  select
    j.table_name,
    j.task_identifier,
    j.effect_is_idempotent,
    (extract(epoch from j.time_limit) * 1000)::int,
    format(
      'select %s from %s where id = any ($1)',
      string_agg(quote_ident(a.attname), ', ' order by a.attnum),
      j.relation
    ),
    array(
      select c.name
      from brainops.job_columns as c
      where
        c.name not in (
          select p.attname
          from pg_catalog.pg_attribute as p
          where p.attrelid = j.relation::pg_catalog.regclass and not p.attisdropped
        )
      order by c.position
    )
    from
      brainops.job_tables as j
      inner join pg_catalog.pg_attribute as a
        on a.attrelid = j.relation::pg_catalog.regclass and a.attnum > 0 and not a.attisdropped
    where a.attname not in (select c.name from brainops.job_columns as c where not c.is_loaded)
    group by j.table_name;
$$;

comment on function brainops_internal.load_job_tables is
  'The job tables. load: the query that reads claimed rows ($1 is uuid[]) for a task that has no query of its own. It returns id, tenant_id, attempts and the table''s own columns, without the engine''s bookkeeping, whose many timestamps node-postgres would parse for nothing. missing_columns: columns of brainops.job_columns that the table lacks.';

revoke execute on function brainops_internal.load_job_tables() from public;
grant execute on function brainops_internal.load_job_tables() to brainops_worker, brainops_system;
