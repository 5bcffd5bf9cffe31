-- Reckons scores, from the facts, the events and what clients said. Returns how many changed. Leads
-- that somebody else has locked get a job of their own, so that nobody waits here.
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

  -- Facts that changed: the difference to what was written for them before.
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

  -- What they did. A mail's opens and clicks count once each, by the earliest, in whatever order
  -- they were told: the one case in which a row here changes.
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

  -- A score that came with the lead stays what it is: the difference is the client's word.
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
  'Reckons the scores of leads now; from 70 on a new lead is qualified. Returns how many changed.';

alter function brainops_internal.score_leads(uuid[]) owner to brainops_system;
revoke execute on function brainops_internal.score_leads(uuid[]) from public;

-- What the lead's own row says, as reasons: one row for each reason that holds.
create or replace function brainops_internal.lead_facts(p_lead public.revenue_leads)
returns table (reason text, times int)
language sql
stable
set search_path = ''
as $$
  select f.reason, f.times
  from
    (
      select
        -- Custom fields come in an object of their own, or beside the others.
        p_lead.metadata || coalesce(
          case
            when jsonb_typeof(p_lead.metadata -> 'custom_fields') = 'object' then p_lead.metadata -> 'custom_fields'
          end,
          '{}'
        ) as given,
        split_part(p_lead.email_key, '@', 2) as domain
    ) as m
    cross join lateral (
      select
        lower(btrim(m.given ->> 'budget')) as budget,
        case
          when btrim(m.given ->> 'budget') ~ '^[$€£]?\s*[0-9][0-9,]{0,14}(\.[0-9]{1,6})?$' then regexp_replace(
            m.given ->> 'budget',
            '[^0-9.]',
            '',
            'g'
          )::numeric
        end as amount,
        regexp_replace(lower(btrim(m.given ->> 'timeline')), '[\s-]+', '_', 'g') as timeline
    ) as b
    cross join lateral (
      values
        ('captured', 1),
        ('email_given', (p_lead.email_key is not null)::int),
        ('business_domain', (p_lead.email_key is not null and not brainops_internal.is_free_mail(m.domain))::int),
        ('phone_given', (coalesce(btrim(p_lead.phone), '') <> '')::int),
        ('company_given', (coalesce(btrim(p_lead.company_name), '') <> '')::int),
        (
          'custom_fields',
          (
            select least(count(*), 5)::int
            from jsonb_each_text(m.given) as k
            where
              btrim(k.value) <> ''
              and k.key <> all (
                '{custom_fields,merged,lead_id,source,type,campaign,is_test,is_demo,import,budget,timeline,decision_maker,property_owner,budget_approved}'::text[]
              )
          )
        ),
        ('budget_high', (b.budget = 'high' or b.amount > 10000)::int),
        ('budget_medium', (b.budget = 'medium' or b.amount > 5000 and b.amount <= 10000)::int),
        ('decision_maker', brainops_internal.is_yes(m.given ->> 'decision_maker')::int),
        (
          'timeline_now',
          (b.timeline in ('immediate', 'immediately', 'urgent', 'now', 'today', 'asap', 'this_week'))::int
        ),
        ('timeline_month', (b.timeline in ('this_month', 'month'))::int),
        ('property_owner', brainops_internal.is_yes(m.given ->> 'property_owner')::int),
        ('budget_approved', brainops_internal.is_yes(m.given ->> 'budget_approved')::int)
    ) as f (reason, times)
  where f.times > 0;
$$;

comment on function brainops_internal.lead_facts(public.revenue_leads) is
  'Which facts of a lead''s row score, and how many times; brainops.score_reasons has their points.';

revoke execute on function brainops_internal.lead_facts(revenue_leads) from public;
grant execute
on function brainops_internal.lead_facts(revenue_leads)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

-- The sum behind a score, of now. Each term is rounded before the sum, so that the order of the rows
-- does not matter.
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
  'What is left of points: half of them after each half-life; all of them where that is null or the time is yet to come.';

revoke execute on function brainops_internal.decayed(numeric, interval, timestamptz, timestamptz) from public;
grant execute
on function brainops_internal.decayed(numeric, interval, timestamptz, timestamptz)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

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
  'The sum of a lead''s points as of now; the score is this, rounded and kept within 0 to 100.';

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

comment on function brainops_internal.clamp_score(numeric) is 'A sum of points as a score: rounded, from 0 to 100.';

revoke execute on function brainops_internal.clamp_score(numeric) from public;
grant execute
on function brainops_internal.clamp_score(numeric)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

-- Points fade by themselves: the leads, from p_after on in the order of their ids, whose score would
-- be another one by now, and those whose request was lost. Returns where to go on, null at the end.
create or replace function brainops_internal.rescore_stale(p_after uuid default null, p_limit int default 5000)
returns table (last_id uuid, rescored int)
language plpgsql
security definer
set search_path = ''
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
    perform brainops_internal.score_leads(v_ids);
  end if;
  if v_scanned < p_limit then
    last_id := null;
  end if;
  return next;
end;
$$;

comment on function brainops_internal.rescore_stale(uuid, int) is
  'Reckons a page of leads whose points have faded since their score was written; the nightly run of lead__score.';

alter function brainops_internal.rescore_stale(uuid, int) owner to brainops_system;
revoke execute on function brainops_internal.rescore_stale(uuid, int) from public;

-- A reckoning is asked for by a mark on the lead; the mark sets the job (after_lead_update). The
-- lock makes a reckoning that is under way end first: it has not seen what is being written now.
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

comment on function brainops_internal.request_rescore(uuid[]) is 'Marks leads whose score is to be reckoned anew.';

alter function brainops_internal.request_rescore(uuid[]) owner to brainops_system;
revoke execute on function brainops_internal.request_rescore(uuid[]) from public;

-- One job for 500 leads: so many that its own cost does not count, so few that several workers share
-- a large import.
create or replace function brainops_internal.enqueue_rescores(p_lead_ids uuid[])
returns void
language plpgsql
security definer
set search_path = ''
as $$
declare
  c_per_job constant int := 500;
begin
  -- import_leads asks once for all of its rows.
  if current_setting('brainops.hold_rescores', true) = 'on' then
    return;
  end if;
  for i in 1..coalesce(cardinality(p_lead_ids), 0) by c_per_job
  loop
    perform graphile_worker.add_job('lead__score', json_build_object('ids', p_lead_ids[i:i + c_per_job - 1]), priority => 100);
  end loop;
end;
$$;

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
  'Sets the jobs that score those of these leads that wait for it; a job too many does nothing.';

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

alter function brainops_internal.after_lead_score_events() owner to brainops_system;
revoke execute on function brainops_internal.after_lead_score_events() from public;

-- A score that a client writes to a lead that has one already: what it takes to get there.
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

alter function brainops_internal.after_lead_score_update() owner to brainops_system;
revoke execute on function brainops_internal.after_lead_score_update() from public;
