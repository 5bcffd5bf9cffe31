-- Statuses of workflows and steps, as clients write them.

-- A table without the status pending (workflows) takes it as in_progress.
create or replace function brainops_internal.onboarding_status(p_word text, p_known text[])
returns text
language plpgsql
immutable
set search_path = ''
as $$
declare
  v_status text := brainops_internal.normal_onboarding_status(p_word);
begin
  if v_status = 'pending' and v_status <> all (p_known) then
    v_status := 'in_progress';
  end if;
  if v_status is null or v_status <> all (p_known) then
    raise exception 'status: unknown status %', coalesce(quote_literal(left(p_word, 80)), 'null')
      using errcode = 'OP002', column = 'status', hint = 'Write one of ' || array_to_string(p_known, ', ') || '.';
  end if;
  return v_status;
end;
$$;

comment on function brainops_internal.onboarding_status(text, text[]) is
  'The status that a client''s value stands for, if it is one of p_known; OP002 for any other.';

revoke execute on function brainops_internal.onboarding_status(text, text[]) from public;
grant execute
on function brainops_internal.onboarding_status(text, text[])
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

create or replace function brainops_internal.normal_onboarding_status(p_word text)
returns text
language sql
immutable
parallel safe
set search_path = ''
as $$
  select
    case pg_catalog.lower(pg_catalog.btrim(p_word))
      when 'in_progress' then 'in_progress'
      when 'active' then 'in_progress'
      when 'started' then 'in_progress'
      when 'running' then 'in_progress'
      when 'reactivated' then 'in_progress'
      when 'pending' then 'pending'
      when 'not_started' then 'pending'
      when 'open' then 'pending'
      when 'new' then 'pending'
      when 'paused' then 'paused'
      when 'completed' then 'completed'
      when 'complete' then 'completed'
      when 'done' then 'completed'
      when 'skipped' then 'skipped'
      when 'cancelled' then 'cancelled'
      when 'canceled' then 'cancelled'
      when 'abandoned' then 'cancelled'
    end;
$$;

comment on function brainops_internal.normal_onboarding_status(text) is
  'The status of a workflow or step that a client''s value stands for (active: in_progress; done: completed; …); null if it is unknown.';

revoke execute on function brainops_internal.normal_onboarding_status(text) from public;
grant execute
on function brainops_internal.normal_onboarding_status(text)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;
