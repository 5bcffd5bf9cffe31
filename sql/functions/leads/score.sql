-- Scores. A score is the sum of a lead's reasons in lead_score_events, each decaying over its half-life.
-- score_leads computes scores, from the facts in the row (facts.sql), the lead's events, and what clients wrote;
-- rescore.sql decides when.

-- Never waits: leads that another transaction has locked get a job of their own, two seconds later.
create or replace function brainops_internal.score_leads(p_lead_ids uuid[])
returns int
language plpgsql
security definer
set search_path = ''
as $$
declare
  c_qualified_from constant int := 70;
  v_now timestamptz := brainops.now();
  v_ids uuid[];
  v_rest uuid[];
  v_changed int;
begin
  select coalesce(array_agg(s.id), '{}') into v_ids
    from (
      select id from public.revenue_leads where id = any (p_lead_ids) order by id for no key update skip locked
    ) as s;
  select array_agg(id) into v_rest
    from public.revenue_leads
    where id = any (p_lead_ids) and id <> all (v_ids);
  if v_rest is not null then
    perform graphile_worker.add_job(
      'lead__score', json_build_object('ids', v_rest), run_at => pg_catalog.now() + interval '2 seconds', priority => 100
    );
  end if;

  -- For facts that changed, records the difference to the points recorded so far.
  insert into public.lead_score_events (tenant_id, lead_id, reason, points, occurred_at)
  select w.tenant_id, w.lead_id, w.reason, w.points, v_now
  from (
    select
      coalesce(f.tenant_id, h.tenant_id) as tenant_id,
      coalesce(f.lead_id, h.lead_id) as lead_id,
      coalesce(f.reason, h.reason) as reason,
      coalesce(f.points, 0) - coalesce(h.points, 0) as points
    from (
      select l.tenant_id, l.id as lead_id, t.reason, t.times * r.points as points
      from public.revenue_leads as l
      cross join lateral brainops_internal.lead_facts(l) as t
      inner join brainops.score_reasons as r on r.reason = t.reason and r.kind = 'fact'
      where l.id = any (v_ids)
    ) as f
    full join (
      select e.tenant_id, e.lead_id, e.reason, sum(e.points) as points
      from public.revenue_leads as l
      inner join public.lead_score_events as e on e.tenant_id = l.tenant_id and e.lead_id = l.id
      inner join brainops.score_reasons as r on r.reason = e.reason and r.kind = 'fact'
      where l.id = any (v_ids)
      group by e.tenant_id, e.lead_id, e.reason
    ) as h on h.lead_id = f.lead_id and h.reason = f.reason
  ) as w
  where w.points <> 0;

  -- Events. The opens and the clicks of a mail count once each, at the earliest time, in any order of the reports. This
  -- is the only case in which an existing reason is changed.
  insert into public.lead_score_events as s (tenant_id, lead_id, reason, points, half_life, occurred_at, source_key)
  select e.tenant_id, e.lead_id, e.event, r.points, r.half_life, min(e.occurred_at), k.source_key
  from public.revenue_leads as l
  inner join public.lead_events as e on e.tenant_id = l.tenant_id and e.lead_id = l.id
  inner join brainops.score_reasons as r on r.reason = e.event and r.kind = 'event'
  cross join lateral (
    select
      case
        when e.event in ('email_opened', 'email_clicked') then coalesce(e.metadata ->> 'email_id', e.source_key)
        else e.source_key
      end as source_key
  ) as k
  where l.id = any (v_ids)
  group by e.tenant_id, e.lead_id, e.event, r.points, r.half_life, k.source_key
  on conflict (tenant_id, lead_id, reason, source_key) do update
    set occurred_at = excluded.occurred_at
    where excluded.occurred_at < s.occurred_at;

  -- A score that the client gave at insert is kept: the difference becomes a reason.
  insert into public.lead_score_events (tenant_id, lead_id, reason, points, occurred_at)
  select l.tenant_id, l.id, 'set_by_client', greatest(least(l.score - brainops_internal.score_total(l.tenant_id, l.id), 1000000), -1000000), v_now
  from public.revenue_leads as l
  where l.id = any (v_ids) and l.scored_at is null and l.score > 0;

  with totals as (
    select l.id, l.score as old_score, brainops_internal.clamp_score(coalesce(sum(brainops_internal.decayed(e.points, e.half_life, e.occurred_at, v_now)), 0)) as score
    from public.revenue_leads as l
    left join public.lead_score_events as e on e.tenant_id = l.tenant_id and e.lead_id = l.id
    where l.id = any (v_ids)
    group by l.id, l.score
  ),
  written as (
    update public.revenue_leads as l
    set
      score = t.score,
      scored_at = v_now,
      rescore_requested_at = null,
      stage = case when l.stage = 'new' and t.score >= c_qualified_from then 'qualified' else l.stage end
    from totals as t
    where l.id = t.id
      and (l.score <> t.score or l.rescore_requested_at is not null or l.scored_at is null)
    returning t.old_score <> l.score as changed
  )
  select count(*) filter (where changed) into v_changed from written;
  return v_changed;
end;
$$;

comment on function brainops_internal.score_leads(uuid[]) is
  'Computes the current scores of leads; a new lead with a score of at least 70 becomes qualified. Returns how many scores changed.';

alter function brainops_internal.score_leads(uuid[]) owner to brainops_system;
revoke execute on function brainops_internal.score_leads(uuid[]) from public;

create or replace function brainops_internal.set_score(p_tenant_id uuid, p_lead_id uuid, p_score numeric, p_reason text)
returns void
language sql
set search_path = ''
as $$
  insert into public.lead_score_events (tenant_id, lead_id, reason, points)
  values
    (
      p_tenant_id,
      p_lead_id,
      p_reason,
      greatest(least(p_score - brainops_internal.score_total(p_tenant_id, p_lead_id), 1000000), -1000000)
    );
  update public.revenue_leads
  set
    score = p_score,
    rescore_requested_at = brainops.now()
  where id = p_lead_id and (score <> p_score or rescore_requested_at is null);
$$;

comment on function brainops_internal.set_score(uuid, uuid, numeric, text) is
  'Sets a lead''s score, recording the difference to the sum of its points under p_reason, and requests a rescore.';

revoke execute on function brainops_internal.set_score(uuid, uuid, numeric, text) from public;
grant execute on function brainops_internal.set_score(uuid, uuid, numeric, text) to brainops_system;

create or replace function brainops_internal.score_total(p_tenant_id uuid, p_lead_id uuid)
returns numeric
language sql
stable
set search_path = ''
as $$
  select coalesce(sum(brainops_internal.decayed(e.points, e.half_life, e.occurred_at, brainops.now())), 0)
  from public.lead_score_events as e
  where e.tenant_id = p_tenant_id and e.lead_id = p_lead_id;
$$;

comment on function brainops_internal.score_total(uuid, uuid) is
  'The current sum of a lead''s points. The score is this sum, rounded and limited to 0 to 100.';

revoke execute on function brainops_internal.score_total(uuid, uuid) from public;
grant execute
on function brainops_internal.score_total(uuid, uuid)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

create or replace function brainops_internal.clamp_score(p_total numeric)
returns numeric
language sql
immutable
parallel safe
as $$
  select greatest(0, least(100, pg_catalog.round(p_total)));
$$;

comment on function brainops_internal.clamp_score(numeric) is
  'A sum of points as a score: rounded, and limited to 0 to 100.';

revoke execute on function brainops_internal.clamp_score(numeric) from public;
grant execute
on function brainops_internal.clamp_score(numeric)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

-- Rounded here, before the terms are summed, so that the order of the rows does not change the sum.
create or replace function brainops_internal.decayed(
  p_points numeric,
  p_half_life interval,
  p_occurred_at timestamptz,
  p_now timestamptz
)
returns numeric
language sql
immutable
parallel safe
set search_path = ''
as $$
  select
    case
      when p_half_life is null then p_points
      else round(
        (
          p_points * power(
            0.5::float8,
            least(
              greatest(extract(epoch from p_now - p_occurred_at), 0) / extract(epoch from p_half_life),
              1000
            )::float8
          )
        )::numeric,
        6
      )
    end;
$$;

comment on function brainops_internal.decayed(numeric, interval, timestamptz, timestamptz) is
  'What remains of points at p_now: half of them after each half-life; all of them if the half-life is null, or the time is in the future.';

revoke execute on function brainops_internal.decayed(numeric, interval, timestamptz, timestamptz) from public;
grant execute
on function brainops_internal.decayed(numeric, interval, timestamptz, timestamptz)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;
