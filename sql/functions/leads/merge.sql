create or replace function brainops.merge_leads(p_into uuid, p_from uuid)
returns uuid
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_into uuid := brainops_internal.find_lead(p_into, null);
  v_from uuid := brainops_internal.find_lead(p_from, null);
  v_tenant_id uuid;
begin
  if v_into is null or v_from is null then
    raise exception 'lead: % is no lead of yours', coalesce(case when v_into is null then p_into::text else p_from::text end, 'null')
      using errcode = 'OP009', hint = 'select id, email from revenue_leads';
  end if;
  if v_into = v_from then
    return v_into;
  end if;
  select tenant_id into v_tenant_id from public.revenue_leads where id = v_into;
  if not exists (select from public.revenue_leads where id = v_from and tenant_id = v_tenant_id) then
    raise exception 'lead: % and % are not of one tenant', p_into, p_from
      using errcode = 'OP012', hint = 'A person is one lead in each tenant; leads of two tenants stay two.';
  end if;
  return brainops_internal.merge_lead_into(v_tenant_id, v_into, v_from);
end;
$$;

comment on function brainops.merge_leads(uuid, uuid) is
  'Makes two leads of one tenant one: the first is filled from the second, everything that refers to the second is moved (what there is no room for is kept in the event merged), and its id goes on as an alias. Returns the id that is left; twice is as once.';

alter function brainops.merge_leads(uuid, uuid) owner to brainops_system;
revoke execute on function brainops.merge_leads(uuid, uuid) from public;
grant execute
on function brainops.merge_leads(uuid, uuid)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin;

-- Behind merge_leads, and behind an insert that tells that two leads are one person. Of what the row
-- scored by its facts nothing moves: they are reckoned anew; what the person did goes along.
-- As in sql/0013, but for broadcasts and entrances.
create or replace function brainops_internal.merge_lead_into(p_tenant_id uuid, p_into uuid, p_from uuid)
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
    return coalesce(brainops_internal.lead_alias(p_into, p_tenant_id), p_into);
  end if;

  update brainops.lead_keys set lead_id = p_into where tenant_id = p_tenant_id and lead_id = p_from;
  -- Its address is the other's to take from here on.
  update public.revenue_leads set merged_into = p_into where id = p_from;
  perform brainops_internal.merge_row_into_lead(p_into, v_lead);

  with dropped as (
    delete from public.lead_score_events as e
    where e.tenant_id = p_tenant_id and e.lead_id = p_from
      and (e.reason in ('set_by_client', 'merged') or e.reason in (select reason from brainops.score_reasons where kind = 'fact'))
    returning e.reason, e.points
  )
  select coalesce(jsonb_agg(jsonb_build_object('table', 'public.lead_score_events', 'row', to_jsonb(d))), '[]') into v_kept
    from dropped as d;
  -- While it can be told which row is whose.
  perform brainops_internal.skip_second_recipients(p_tenant_id, p_into, p_from);
  perform brainops_internal.renumber_entrances(p_tenant_id, p_into, p_from);
  v_kept := v_kept || brainops_internal.move_lead_rows(p_tenant_id, p_into, p_from);

  delete from public.revenue_leads where id = p_from;
  insert into public.revenue_lead_aliases (id, tenant_id, lead_id) values (p_from, p_tenant_id, p_into);
  perform brainops_internal.record_lead_event(
    p_tenant_id, p_into, 'merged', null, null, p_from::text, jsonb_build_object('id', p_from, 'kept', v_kept)
  );
  perform brainops_internal.score_leads(array[p_into]);
  -- Joining never cools a lead.
  perform brainops_internal.set_score(p_tenant_id, p_into, v_lead.score, 'merged')
  from public.revenue_leads
  where id = p_into and score < v_lead.score;
  return p_into;
end;
$$;

alter function brainops_internal.merge_lead_into(uuid, uuid, uuid) owner to brainops_system;
revoke execute on function brainops_internal.merge_lead_into(uuid, uuid, uuid) from public;

-- What refers to one lead refers to the other from then on, in every table with a foreign key to
-- leads. Returns the rows for which there was no room, because the other has the like (by a unique
-- key): they are out of their tables then.
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

revoke execute on function brainops_internal.move_lead_rows(uuid, uuid, uuid) from public;
grant execute on function brainops_internal.move_lead_rows(uuid, uuid, uuid) to brainops_system;

-- A row out of its table, with every row that hangs on it, as JSON.
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
    -- Rows whose reference is merely emptied stay where they are.
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

revoke execute on function brainops_internal.delete_row_as_json(regclass, uuid, uuid) from public;
grant execute on function brainops_internal.delete_row_as_json(regclass, uuid, uuid) to brainops_system;

-- Which columns refer to a table's rows, asked in one place: by a merge of leads, which moves what
-- refers to one of them, and by what takes a row away with everything that hangs on it.
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
  'The columns with a foreign key to the id of a table; keeps_row: whether a row outlives what it refers to, with the column emptied.';

revoke execute on function brainops_internal.references_to(regclass) from public;
grant execute on function brainops_internal.references_to(regclass) to brainops_system;

create or replace function brainops_internal.renumber_entrances(p_tenant_id uuid, p_into uuid, p_from uuid)
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

comment on function brainops_internal.renumber_entrances(uuid, uuid, uuid) is
  'Of two leads that are being made one: numbers their enrolments in each campaign that takes people again through, those of the second after those of the first, and last the one that runs. Where both run in it, or it takes nobody twice, they stay as they are.';

revoke execute on function brainops_internal.renumber_entrances(uuid, uuid, uuid) from public;
grant execute on function brainops_internal.renumber_entrances(uuid, uuid, uuid) to brainops_system;

-- What two leads that are made one may be in twice: a broadcast, and a campaign.
--
-- A broadcast went twice to a person whose leads were merged: its recipients are told apart by the id that the lead had
-- (idempotency_key), and the merge moves lead_id alone. Now broadcast_to_leads asks for lead_id too, and a merge skips
-- what waits for the one lead where the other has a row.
--
-- A campaign ended for a person because an old enrolment was in the way: both leads' first ones are entrance 1, so the
-- merge took the one that came along out, also where it ran and the other was over. Now they are numbered through.
create or replace function brainops_internal.skip_second_recipients(p_tenant_id uuid, p_into uuid, p_from uuid)
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

comment on function brainops_internal.skip_second_recipients(uuid, uuid, uuid) is
  'Of two leads that are being made one: skips what waits for the one in each broadcast that the other has a row in. What was sent, or may have been, stays; else the older row.';

revoke execute on function brainops_internal.skip_second_recipients(uuid, uuid, uuid) from public;
grant execute on function brainops_internal.skip_second_recipients(uuid, uuid, uuid) to brainops_system;
