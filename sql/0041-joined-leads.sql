-- What two leads that are made one may be in twice: a broadcast, and a campaign.
--
-- A broadcast went twice to a person whose leads were merged: its recipients are told apart by the id that the lead had
-- (idempotency_key), and the merge moves lead_id alone. Now broadcast_to_leads asks for lead_id too, and a merge skips
-- what waits for the one lead where the other has a row.
--
-- A campaign ended for a person because an old enrolment was in the way: both leads' first ones are entrance 1, so the
-- merge took the one that came along out, also where it ran and the other was over. Now they are numbered through.
--
-- Old workers go on meanwhile. Lock order: leads by id, their broadcasts, then what refers to the leads.
set local lock_timeout = '2s';

create or replace function brainops.broadcast_to_leads(
  p_broadcast_id uuid,
  p_where text default 'true',
  p_after uuid default null,
  p_most int default 10000,
  out added int,
  out last_id uuid
)
returns record
language plpgsql
-- With the caller's rights: the condition is the caller's own SQL.
set search_path = ''
as $$
declare
  v_tenant_id uuid;
  v_lead_ids uuid[];
begin
  select tenant_id into v_tenant_id from public.ai_broadcasts where id = p_broadcast_id;
  if not found then
    raise exception 'ai_broadcasts has no row %', p_broadcast_id
      using errcode = 'OP009', hint = 'select id, subject, status from ai_broadcasts';
  end if;
  -- The lock is the one that the rows' foreign key takes a moment later: taken here, it waits for a merge that is under
  -- way, and the next statement sees which rows that moved.
  execute format(
    $sql$
    select array_agg(p.id order by p.id)
    from (
      select l.id from public.revenue_leads as l
      where l.tenant_id = $1 and ($2 is null or l.id > $2) and btrim(l.email) <> '' and (%s)
      order by l.id
      limit $3
      for key share of l
    ) as p
    $sql$,
    p_where
  )
    into v_lead_ids
    using v_tenant_id, p_after, p_most;
  last_id := v_lead_ids[cardinality(v_lead_ids)];
  update public.ai_broadcasts set audience = p_where where id = p_broadcast_id and audience is null;
  -- Planned anew each time: the table may have grown a hundredfold since the last page. What a lead was sent is looked
  -- for by the lead (offset 0), as it is little; a broadcast has a million rows.
  execute $sql$
    with inserted as (
      insert into public.ai_email_queue (tenant_id, broadcast_id, recipient, idempotency_key)
      select $1, $2, p.id, 'broadcast:' || $2 || ':' || p.id
      from unnest($3) as p (id)
      where not exists (
        select from (
          select q.broadcast_id from public.ai_email_queue as q where q.tenant_id = $1 and q.lead_id = p.id offset 0
        ) as q
        where q.broadcast_id = $2
      )
      on conflict (tenant_id, idempotency_key) where idempotency_key is not null do nothing
      returning 1
    )
    select count(*) from inserted
    $sql$
    into added
    using v_tenant_id, p_broadcast_id, v_lead_ids;
end;
$$;

create function brainops.skip_second_recipients(p_tenant_id uuid, p_into uuid, p_from uuid)
returns void
language plpgsql
set search_path = ''
as $$
begin
  -- No launch, pause or cancellation of the same rows at the same time, which takes them in another order.
  perform
  from public.ai_broadcasts as b
  where b.tenant_id = p_tenant_id
    and b.id in (
      select q.broadcast_id from public.ai_email_queue as q
      where q.tenant_id = p_tenant_id and q.lead_id in (p_into, p_from) and q.broadcast_id is not null
    )
  order by b.id
  for share;
  -- A worker either has claimed a row by now, which counts below, or finds it taken.
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
            -- Somebody stopped it for this person; a merge does not set it going.
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
      -- Why the one was skipped need not hold for the other: its gate asks when it is due.
      and q.status <> 'skipped'
  )
  update public.ai_email_queue as q
  set status = 'skipped', skip_reason = 'another lead of the same person is a recipient of this broadcast'
  from recipients as r
  -- One lead's own rows, at two addresses say, are as somebody wanted them. A failed one would be tried again by retry_failed.
  where q.id = r.id and r.lead_id <> r.kept_lead_id and q.status in ('pending', 'awaiting_approval', 'failed');
end;
$$;

comment on function brainops.skip_second_recipients(uuid, uuid, uuid) is
  'Of two leads that are being made one: skips what waits for the one in each broadcast that the other has a row in. What was sent, or may have been, stays; else the older row.';

create function brainops.renumber_entrances(p_tenant_id uuid, p_into uuid, p_from uuid)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_enrolment record;
begin
  -- A step that is being performed ends before.
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
      -- Where both run, the one of the lead that is left goes on. Where a lead enters once, having been there is what
      -- keeps it out: the person has been there, and what ran of the other lead would not have begun.
      and r.running <= 1
      and c.reentry = 'after_exit'
    -- From above, so that none meets the next of its own lead.
    order by 2 desc
  loop
    update public.ai_nurture_campaigns set entrance = v_enrolment.entrance
    where id = v_enrolment.id and entrance <> v_enrolment.entrance;
    update public.ai_campaign_touches set entrance = v_enrolment.entrance
    where tenant_id = p_tenant_id and campaign_id = v_enrolment.id and entrance <> v_enrolment.entrance;
  end loop;
end;
$$;

comment on function brainops.renumber_entrances(uuid, uuid, uuid) is
  'Of two leads that are being made one: numbers their enrolments in each campaign that takes people again through, those of the second after those of the first, and last the one that runs. Where both run in it, or it takes nobody twice, they stay as they are.';

-- As in sql/0013, but for broadcasts and entrances.
create or replace function brainops.join_leads(p_tenant_id uuid, p_into uuid, p_from uuid)
returns uuid
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_lead public.revenue_leads;
  v_kept jsonb;
begin
  perform from public.revenue_leads where tenant_id = p_tenant_id and id in (p_into, p_from) order by id for update;
  select * into v_lead from public.revenue_leads where tenant_id = p_tenant_id and id = p_from;
  if not found or not exists (select from public.revenue_leads where tenant_id = p_tenant_id and id = p_into) then
    -- Somebody else joined or deleted one of them while this waited.
    return coalesce(brainops.lead_alias(p_into, p_tenant_id), p_into);
  end if;

  update brainops.lead_keys set lead_id = p_into where tenant_id = p_tenant_id and lead_id = p_from;
  -- Its address is the other's to take from here on.
  update public.revenue_leads set merged_into = p_into where id = p_from;
  perform brainops.absorb_lead(p_into, v_lead);

  with dropped as (
    delete from public.lead_score_events as e
    where e.tenant_id = p_tenant_id and e.lead_id = p_from
      and (e.reason in ('set_by_client', 'merged') or e.reason in (select reason from brainops.score_reasons where kind = 'fact'))
    returning e.reason, e.points
  )
  select coalesce(jsonb_agg(jsonb_build_object('table', 'public.lead_score_events', 'row', to_jsonb(d))), '[]') into v_kept
    from dropped as d;
  -- While it can be told which row is whose.
  perform brainops.skip_second_recipients(p_tenant_id, p_into, p_from);
  perform brainops.renumber_entrances(p_tenant_id, p_into, p_from);
  v_kept := v_kept || brainops.move_lead_rows(p_tenant_id, p_into, p_from);

  delete from public.revenue_leads where id = p_from;
  insert into public.revenue_lead_aliases (id, tenant_id, lead_id) values (p_from, p_tenant_id, p_into);
  perform brainops.record_lead_event(
    p_tenant_id, p_into, 'merged', null, null, p_from::text, jsonb_build_object('id', p_from, 'kept', v_kept)
  );
  perform brainops.score_leads(array[p_into]);
  -- Joining never cools a lead.
  perform brainops.set_score(p_tenant_id, p_into, v_lead.score, 'merged')
  from public.revenue_leads
  where id = p_into and score < v_lead.score;
  return p_into;
end;
$$;

revoke execute
on function brainops.skip_second_recipients(uuid, uuid, uuid), brainops.renumber_entrances(uuid, uuid, uuid)
from public;
grant execute
on function brainops.skip_second_recipients(uuid, uuid, uuid), brainops.renumber_entrances(uuid, uuid, uuid)
to brainops_system;
