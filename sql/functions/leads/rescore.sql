-- When scores are computed again. A request is a mark on the lead (rescore_requested_at): request_rescore sets it,
-- the triggers on revenue_leads queue a lead__score job for each new mark, and score_leads (score.sql) clears it.
-- rescore_stale runs every night and finds the scores that decayed.

-- The lock waits for a scoring in progress, which has not seen what this transaction writes.
create or replace function brainops_internal.request_rescore(p_lead_ids uuid[])
returns void
language plpgsql
security definer
set search_path = ''
as $$
begin
  perform from public.revenue_leads where id = any (p_lead_ids) order by id for no key update;
  update public.revenue_leads set rescore_requested_at = brainops.now()
  where id = any (p_lead_ids) and rescore_requested_at is null;
end;
$$;

comment on function brainops_internal.request_rescore(uuid[]) is 'Marks leads whose score is to be computed again.';

alter function brainops_internal.request_rescore(uuid[]) owner to brainops_system;
revoke execute on function brainops_internal.request_rescore(uuid[]) from public;

-- 500 leads per job: enough that the job's own cost is negligible, and few enough that several workers share a large
-- import.
create or replace function brainops_internal.enqueue_rescores(p_lead_ids uuid[])
returns void
language plpgsql
security definer
set search_path = ''
as $$
declare
  c_per_job constant int := 500;
begin
  -- import_leads queues the jobs once for all of its rows (release_rescores).
  if current_setting('brainops.hold_rescores', true) = 'on' then
    return;
  end if;
  for i in 1..coalesce(cardinality(p_lead_ids), 0) by c_per_job
  loop
    perform graphile_worker.add_job('lead__score', json_build_object('ids', p_lead_ids[i:i + c_per_job - 1]), priority => 100);
  end loop;
end;
$$;

comment on function brainops_internal.enqueue_rescores(uuid[]) is
  'Queues jobs that compute the scores of these leads. Null or an empty array queues nothing.';

alter function brainops_internal.enqueue_rescores(uuid[]) owner to brainops_system;
revoke execute on function brainops_internal.enqueue_rescores(uuid[]) from public;

create or replace function brainops_internal.release_rescores(p_tenant_id uuid, p_lead_ids uuid[])
returns void
language sql
security definer
set search_path = ''
as $$
  select brainops_internal.enqueue_rescores(array_agg(l.id))
  from public.revenue_leads as l
  where
    l.tenant_id = p_tenant_id
    and l.id = any (p_lead_ids)
    and l.rescore_requested_at is not null
    and (
      p_tenant_id = brainops.current_tenant_id()
      or brainops.may_name_tenant()
      or pg_catalog.pg_has_role(session_user, 'brainops_admin', 'member')
    );
$$;

comment on function brainops_internal.release_rescores(uuid, uuid[]) is
  'Queues jobs for those of these leads that are marked for a rescore. An extra job changes nothing.';

alter function brainops_internal.release_rescores(uuid, uuid[]) owner to brainops_system;
revoke execute on function brainops_internal.release_rescores(uuid, uuid[]) from public;
grant execute
on function brainops_internal.release_rescores(uuid, uuid[])
to brainops_tenant, brainops_worker, brainops_service, brainops_admin;

create or replace function brainops_internal.after_lead_score_events()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  perform brainops_internal.request_rescore((select array_agg(distinct lead_id) from inserted));
  return null;
end;
$$;

comment on function brainops_internal.after_lead_score_events is
  'Trigger after insert on lead_score_events: requests a rescore.';

alter function brainops_internal.after_lead_score_events() owner to brainops_system;
revoke execute on function brainops_internal.after_lead_score_events() from public;

create or replace function brainops_internal.after_lead_score_update()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  perform brainops_internal.set_score(new.tenant_id, new.id, new.score, 'set_by_client');
  return null;
end;
$$;

comment on function brainops_internal.after_lead_score_update is
  'Trigger after update on revenue_leads: if a client changes the score of a scored lead, records the difference with the reason set_by_client.';

alter function brainops_internal.after_lead_score_update() owner to brainops_system;
revoke execute on function brainops_internal.after_lead_score_update() from public;

-- Points decay without any write, so the nightly run of lead__score calls this page by page. It also takes
-- requests that are older than 10 minutes, whose job was lost.
create or replace function brainops_internal.rescore_stale(p_after uuid default null, p_limit int default 5000)
returns table (last_id uuid, rescored int)
language plpgsql
security definer
set search_path = ''
set lock_timeout = '1s'
as $$
declare
  v_ids uuid[];
  v_scanned int;
begin
  with page as (
    select l.id, l.tenant_id, l.score, l.rescore_requested_at
    from public.revenue_leads as l
    where p_after is null or l.id > p_after
    order by l.id
    limit p_limit
  ),
  due as (
    select p.id
    from page as p
    left join public.lead_score_events as e on e.tenant_id = p.tenant_id and e.lead_id = p.id
    group by p.id, p.score, p.rescore_requested_at
    having p.rescore_requested_at < brainops.now() - interval '10 minutes'
      or (
        p.rescore_requested_at is null
        and bool_or(e.half_life is not null)
        and p.score <> brainops_internal.clamp_score(sum(brainops_internal.decayed(e.points, e.half_life, e.occurred_at, brainops.now())))
      )
  )
  select (select array_agg(d.id) from due as d), (select max(p.id::text)::uuid from page as p), (select count(*)::int from page)
    into v_ids, last_id, v_scanned;
  rescored := coalesce(cardinality(v_ids), 0);
  if v_ids is not null then
    begin
      perform brainops_internal.score_leads(v_ids);
    exception
      -- A new score enrols a lead, for example, and waits for what the tenant has locked. Each tenant gets a job of its
      -- own then.
      when lock_not_available then
        perform brainops_internal.enqueue_rescores(l.ids)
        from (select array_agg(id) as ids from public.revenue_leads where id = any (v_ids) group by tenant_id) as l;
    end;
  end if;
  if v_scanned < p_limit then
    last_id := null;
  end if;
  return next;
end;
$$;

comment on function brainops_internal.rescore_stale(uuid, int) is
  'Computes scores again, among the p_limit leads after p_after by id, where decay changed the score or a request was lost. Returns the last id of the page (null at the end) and the number of leads.';

alter function brainops_internal.rescore_stale(uuid, int) owner to brainops_system;
revoke execute on function brainops_internal.rescore_stale(uuid, int) from public;
