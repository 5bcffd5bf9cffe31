drop view if exists brainops.workers;

create view brainops.workers
with (security_invoker = true)
as
  select
    id,
    host,
    pid,
    login,
    tasks,
    case
      when brainops_internal.worker_is_alive(number, backend_pid) then 'alive'
      when suspect_since is not null then 'suspect'
      else 'unknown'
    end as state,
    started_at,
    last_seen_at
  from brainops.worker_processes;

comment on view brainops.workers is
  'Worker processes. state: alive (holds its advisory lock), suspect (lost it, and is removed if it stays lost for 3 s), unknown (does not hold it, and no other worker has noticed yet). tasks: what it can run.';

grant select on brainops.workers to brainops_admin, brainops_system;
