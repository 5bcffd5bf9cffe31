-- The engine, third part: tenants' own accounts with their own breakers, and effects that carry
-- many rows at once.
--
-- Rows that share a batch (job_tables.batch_column) may go out in one call: a claim of one brings
-- along what else of its batch is due. Each stays a row of its own, with its own verdict of the
-- gate, outcome and events. Old workers go on with what they know; they fail rows of broadcasts,
-- so let them stop before the first one is launched.
--
-- Lock order as ever: job rows (skip locked), the gate's keys, graphile-worker's jobs.
set local lock_timeout = '2s';

-- The circuit breaker that a tenant's rows go through: the installation's account is known by the
-- sender's name alone, a tenant's own by sender:tenant. One tenant's trouble holds up no other.
create function brainops.sender_of(p_sender text, p_tenant_id uuid)
returns text
language sql
stable
set search_path = ''
as $$
  select
    case
      when exists (
        select
        from public.provider_credentials as c
        where c.tenant_id = p_tenant_id and c.provider = p_sender and c.name = 'default' and c.active
      ) then p_sender || ':' || p_tenant_id
      else p_sender
    end;
$$;

comment on function brainops.sender_of(text, uuid) is
  'Which account a tenant''s rows go through, as brainops.breakers names it: sender for the installation''s, sender:tenant_id for the tenant''s own.';

alter table brainops.job_tables
add column batch_column text,
add column batch_most int not null default 1000,
-- A claim may name up to 250 rows itself.
add constraint job_tables_batch_most_range check (batch_most between 250 and 5000);

comment on column brainops.job_tables.batch_column is
  'Column (uuid) that rows have in common which may go out in one call; null where each goes alone.';
comment on column brainops.job_tables.batch_most is 'How many rows of a batch a claim takes at most.';

grant update (batch_most) on brainops.job_tables to brainops_admin;

create function brainops.define_batches(p_table text, p_column text)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_job brainops.job_tables;
begin
  update brainops.job_tables set batch_column = p_column where table_name = p_table returning * into strict v_job;
  execute format(
    'create index on %1$s (tenant_id, %2$I, status, scheduled_for) where %2$I is not null',
    v_job.relation, p_column
  );
end;
$$;

comment on function brainops.define_batches(text, text) is
  'Lets rows of a job table that share a value of the column (uuid) go out in one call; for the table''s owner. The task says how, by `batch` in defineJob.';

-- The jobs of rows that a claim brought along: their alarm clocks have nothing left to ring for.
-- Rows of the current tenant alone.
create function brainops.dequeue_rows(p_table text, p_ids uuid[])
returns void
language sql
security definer
set search_path = ''
as $$
  select
    brainops.dequeue(
      array(
        select t.id || ':' || p_table || ':' || i
        from
          (select brainops.current_tenant_id() as id offset 0) as t
          cross join unnest(p_ids) as i
      )
    );
$$;

comment on function brainops.dequeue_rows(text, uuid[]) is
  'Takes the jobs of rows of the current tenant away, which a claim brought along.';

alter function brainops.dequeue_rows(text, uuid[]) owner to brainops_system;

drop function brainops.claim(text, uuid[], uuid, uuid);

-- Locks what else is due of the batches that p_ids (locked already) belong to, up to batch_most in
-- all. In the order in which they were due: who waits longest goes first.
create function brainops.lock_batches(
  p_job brainops.job_tables,
  p_tenant_id uuid,
  p_ids uuid[],
  p_now timestamptz,
  p_slot_kept interval,
  out ids uuid[],
  out in_slot uuid[]
)
returns record
language plpgsql
set search_path = ''
as $$
declare
  v_batch uuid;
  v_ids uuid[];
  v_in_slot uuid[];
begin
  ids := '{}';
  in_slot := '{}';
  for v_batch in
    execute format('select distinct %1$I from %2$s where id = any ($1) and %1$I is not null', p_job.batch_column, p_job.relation)
    using p_ids
  loop
    execute format(
      'select coalesce(array_agg(s.id), ''{}''),
         coalesce(array_agg(s.id) filter (where s.rate_slot between $3 - $6 and $3), ''{}'')
       from (
         select id, rate_slot from %s
         where tenant_id = $1 and %I = $2 and status = ''pending'' and scheduled_for <= $3 and id <> all ($4)
         order by scheduled_for
         limit $5
         for update skip locked
       ) as s',
      p_job.relation, p_job.batch_column
    )
      into v_ids, v_in_slot
      using p_tenant_id, v_batch, p_now, p_ids, greatest(p_job.batch_most - cardinality(p_ids), 0), p_slot_kept;
    ids := ids || v_ids;
    in_slot := in_slot || v_in_slot;
  end loop;
end;
$$;

comment on function brainops.lock_batches(brainops.job_tables, uuid, uuid[], timestamptz, interval) is
  'Locks what else is due of the batches of rows that a claim names; in_slot: those that come back to the slot of a rate limit.';

-- Locks what of p_ids is due, asks the gates, and writes processing, a fresh lease and
-- attempts + 1 on the rows that go. Rows that another claim holds, or that are not due any more,
-- are left out of the answer.
create function brainops.claim(
  p_table text,
  p_ids uuid[],
  p_worker_id uuid,
  p_lease uuid default gen_random_uuid(),
  p_lacks_platform text default null,
  p_lacks_own text default null,
  p_batches boolean default false
)
returns table (id uuid, outcome text, lease uuid, attempt int, reason text, sender text, batch uuid)
language plpgsql
set search_path = ''
set random_page_cost = 1 -- as in brainops.settle
as $$
declare
  -- A slot that was not used within this time is void. So what has stood still (a pause, no
  -- worker) bursts with five seconds' worth of its rate at most; a worker that is late by more
  -- makes the row wait for another slot.
  c_slot_kept constant interval := '5 seconds';
  v_job brainops.job_tables;
  v_tenant_id uuid;
  v_ids uuid[];
  v_now timestamptz := brainops.now();
  v_in_slot uuid[];
  v_rest uuid[];
  v_slots timestamptz[];
  v_sender text;
  v_reason text;
  v_allowed int;
  v_ask_at timestamptz;
  v_verdicts brainops.verdict[] := '{}';
  v_more brainops.verdict[];
  v_batch text;
  v_brought uuid[] := '{}';
  v_more_in_slot uuid[];
begin
  select * into strict v_job from brainops.job_tables as j where j.table_name = p_table;
  v_tenant_id := brainops.current_tenant_id();
  v_batch := case when v_job.batch_column is null then 'null::uuid' else format('t.%I', v_job.batch_column) end;

  execute format(
    'select
       array_agg(s.id order by s.job_priority, s.scheduled_for, s.id),
       coalesce(array_agg(s.id) filter (where s.rate_slot between $2 - $3 and $2), ''{}'')
     from (
       select id, job_priority, scheduled_for, rate_slot from %s
       where id = any ($1) and status = ''pending'' and scheduled_for <= $2
       for update skip locked
     ) as s',
    v_job.relation
  )
    into v_ids, v_in_slot
    using p_ids, v_now, c_slot_kept;
  if v_ids is null then
    return;
  end if;

  -- A standstill comes first: nothing is decided about a row that may not move.
  v_sender := brainops.sender_of(v_job.sender, v_tenant_id);
  v_reason := coalesce(
    brainops.pause_reason(p_table, v_tenant_id),
    case when v_sender = v_job.sender then p_lacks_platform else p_lacks_own end
  );
  if v_reason is not null then
    select array_agg(row(i, 'hold', null, v_reason)::brainops.verdict) into v_verdicts from unnest(v_ids) as i;
    v_ids := '{}';
  end if;

  if p_batches and v_job.batch_column is not null and v_ids <> '{}' then
    select b.ids, b.in_slot into v_brought, v_more_in_slot
      from brainops.lock_batches(v_job, v_tenant_id, v_ids, v_now, c_slot_kept) as b;
    v_ids := v_ids || v_brought;
    v_in_slot := v_in_slot || v_more_in_slot;
  end if;

  if v_job.gate is not null and v_ids <> '{}' then
    execute format('select coalesce(array_agg(g), ''{}'') from %s($1) as g', v_job.gate)
      into v_more
      using v_ids;
    v_verdicts := v_verdicts || v_more;
    select coalesce(array_agg(i order by n), '{}') into v_ids
      from unnest(v_ids) with ordinality as u (i, n)
      where i not in (select (v).id from unnest(v_more) as v);
  end if;

  if v_ids <> '{}' and exists (select from brainops.rate_limits as r where r.table_name = p_table) then
    -- Rows that come back to the slot they were given pass; the others take one.
    select coalesce(array_agg(i order by n), '{}') into v_rest
      from unnest(v_ids) with ordinality as u (i, n)
      where i <> all (v_in_slot);
    v_slots := case when v_rest <> '{}' then brainops.take_rate_slots(p_table, v_tenant_id, cardinality(v_rest)) end;
    if v_slots is not null then
      select coalesce(array_agg(row(i, 'slot', v_slots[n], 'rate limit')::brainops.verdict), '{}') into v_more
        from unnest(v_rest) with ordinality as u (i, n)
        where v_slots[n] > v_now;
      v_verdicts := v_verdicts || v_more;
      select coalesce(array_agg(i order by n), '{}') into v_ids
        from unnest(v_ids) with ordinality as u (i, n)
        where i not in (select (v).id from unnest(v_more) as v);
    end if;
  end if;

  -- Last, because a probe that it allows must really go.
  if v_sender is not null and v_ids <> '{}' then
    select b.allowed, b.ask_at into v_allowed, v_ask_at
      from brainops.ask_breaker(v_sender, cardinality(v_ids), v_job.time_limit + interval '10 seconds') as b;
    if v_allowed < cardinality(v_ids) then
      select array_agg(row(i, 'defer', v_ask_at + random() * interval '2 seconds', 'circuit breaker of ' || v_sender || ' is open')::brainops.verdict)
        into v_more
        from unnest(v_ids[v_allowed + 1:]) as i;
      v_verdicts := v_verdicts || v_more;
      v_ids := v_ids[:v_allowed];
    end if;
  end if;

  if v_verdicts <> '{}' then
    return query execute format(
      'update %s as t
       set
         status = case v.outcome when ''skip'' then ''skipped'' when ''fail'' then ''failed'' else t.status end,
         scheduled_for = case when v.outcome in (''defer'', ''slot'') then v.until else t.scheduled_for end,
         rate_slot = case when v.outcome = ''slot'' then v.until end,
         finished_at = case when v.outcome in (''skip'', ''fail'') then $2 end,
         skip_reason = case when v.outcome = ''skip'' then v.reason end,
         last_error = case when v.outcome = ''skip'' then t.last_error else v.reason end
       from unnest($1) as v
       where t.id = v.id
       returning t.id, v.outcome, null::uuid, t.attempts, v.reason, $3, %s',
      v_job.relation, v_batch
    )
      using v_verdicts, v_now, v_sender;
  end if;

  if v_ids <> '{}' then
    return query execute format(
      'update %s as t
       set
         status = ''processing'',
         lease = $4,
         worker_id = $2,
         attempts = t.attempts + 1,
         started_at = $3
       where t.id = any ($1)
       returning t.id, ''go'', t.lease, t.attempts, null::text, $5, %s',
      v_job.relation, v_batch
    )
      using v_ids, p_worker_id, v_now, p_lease, v_sender;
    -- What was named is claimed by its own job, which is running; what was brought along is not.
    v_brought := array(select i from unnest(v_brought) as i where i = any (v_ids));
    if v_brought <> '{}' then
      perform brainops.dequeue_rows(p_table, v_brought);
    end if;
  end if;
end;
$$;

comment on function brainops.claim(text, uuid[], uuid, uuid, text, text, boolean) is
  'Claims the due rows among the ids for a worker. outcome: go (with a lease), skip, fail, defer, slot or hold; a row that is not due or held elsewhere is left out. p_batches: rows of the same batch that are due come along. p_lacks_platform, p_lacks_own: why the worker cannot use the installation''s account, or a tenant''s own; null where it can.';

-- By the lease alone: nobody heard which rows the lost claim brought along.
create or replace function brainops.unclaim(p_table text, p_ids uuid[], p_lease uuid)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_job brainops.job_tables;
begin
  select * into strict v_job from brainops.job_tables as j where j.table_name = p_table;
  -- First the lock: the lost claim's commit may still be under way, and its outcome decides.
  execute format('select from %s where id = any ($1) order by id for update', v_job.relation) using p_ids;
  execute format(
    'update %s set status = ''pending'', attempts = attempts - 1, lease = null, worker_id = null
     where status = ''processing'' and lease = $1',
    v_job.relation
  )
    using p_lease;
end;
$$;

comment on type brainops.settlement is
  'How an effect ended. outcome: completed, retry (run_at null: by brainops.retry_delay), defer (the provider said later; costs no attempt), hold (as it was before the claim; what stands in the way is written beside it), fail, skip or unconfirmed. result fills the table''s result_columns.';

-- Writes results where the lease still holds, and returns those rows with the status they got.
create or replace function brainops.settle(p_table text, p_settlements brainops.settlement[])
returns table (id uuid, status text)
language plpgsql
set search_path = ''
-- Each row by its key: at the default of 4 the planner would rather read the whole table for 250.
set random_page_cost = 1
as $$
declare
  -- Spelled once, used in each assignment below.
  c_status constant text := $sql$
    case
      when s.outcome = 'completed' then 'completed'
      when s.outcome = 'fail' then 'failed'
      when s.outcome = 'skip' then 'skipped'
      when s.outcome = 'unconfirmed' then 'unconfirmed'
      when t.cancel_requested_at is not null then 'cancelled'
      when s.outcome = 'retry' and t.attempts >= t.max_attempts then 'failed'
      when s.outcome = 'defer' and t.deferrals >= $3 then 'failed'
      else 'pending'
    end
  $sql$;
  v_job brainops.job_tables;
  v_results text;
begin
  if exists (
    select from unnest(p_settlements) as s
    where s.outcome is null or s.outcome not in ('completed', 'retry', 'defer', 'hold', 'fail', 'skip', 'unconfirmed')
  ) then
    raise exception 'outcome: expected completed, retry, defer, hold, fail, skip or unconfirmed'
      using errcode = 'invalid_parameter_value', hint = 'See the comment on type brainops.settlement.';
  end if;
  select * into strict v_job from brainops.job_tables as j where j.table_name = p_table;
  select string_agg(
    format(', %1$I = case when s.result ? %1$L then (s.result ->> %1$L)::%2$s else t.%1$I end', a.attname, format_type(a.atttypid, a.atttypmod)),
    ''
  )
    into v_results
    from pg_catalog.pg_attribute as a
    where a.attrelid = v_job.relation::regclass and a.attname = any (v_job.result_columns);

  return query execute format(
    $sql$
    update %1$s as t
    set
      status = %2$s,
      scheduled_for = case
        when s.outcome = 'hold' or %2$s <> 'pending' then t.scheduled_for
        else coalesce(s.run_at, $2 + brainops.retry_delay(t.attempts))
      end,
      attempts = t.attempts - (s.outcome in ('defer', 'hold'))::int,
      deferrals = t.deferrals + (s.outcome = 'defer')::int,
      finished_at = case when %2$s in ('completed', 'failed', 'skipped', 'cancelled') then $2 end,
      skip_reason = case when s.outcome = 'skip' then coalesce(s.reason, 'no reason given') end,
      last_error = case when s.outcome in ('completed', 'skip') then null else coalesce(s.reason, t.last_error) end,
      lease = null,
      worker_id = null,
      rate_slot = null%3$s
    from unnest($1) as s
    -- Not by the status, which the lease implies: the index of rows in processing is small in the
    -- planner's eyes, and full of what was there before.
    where t.id = s.id and t.lease = s.lease
    returning t.id, t.status
    $sql$,
    v_job.relation, c_status, coalesce(v_results, '')
  )
    using p_settlements, brainops.now(), v_job.max_deferrals;
end;
$$;

-- Gives due rows their jobs that have none: of one tenant, or of all that nothing stands in the
-- way of. At most p_most; returns how many.
create function brainops.requeue(p_job brainops.job_tables, p_tenant_id uuid, p_most int)
returns int
language plpgsql
set search_path = ''
as $$
declare
  v_ids uuid[];
  v_tenant_ids uuid[];
  v_run_ats timestamptz[];
  v_priorities smallint[];
  v_count int;
begin
  execute format(
    $sql$
    with open_tenants as materialized (
      select id from public.tenants where ($4 is null or id = $4) and brainops.pause_reason($2, id) is null
    )
    select array_agg(id), array_agg(tenant_id), array_agg(scheduled_for), array_agg(job_priority), count(*)
    from (
      select t.id, t.tenant_id, t.scheduled_for, t.job_priority
      from %s as t
      inner join open_tenants as o on o.id = t.tenant_id
      where t.status = 'pending'
        and t.scheduled_for <= $1
        and not exists (
          select from graphile_worker.jobs as j
          where j.key = t.tenant_id || ':' || $2 || ':' || t.id and j.attempts < j.max_attempts
        )
      limit $3
    ) as s
    $sql$,
    p_job.relation
  )
    into v_ids, v_tenant_ids, v_run_ats, v_priorities, v_count
    using brainops.now(), p_job.table_name, p_most, p_tenant_id;
  if v_count > 0 then
    perform brainops.enqueue(p_job.table_name, v_ids, v_tenant_ids, v_run_ats, v_priorities);
  end if;
  return v_count;
end;
$$;

comment on function brainops.requeue(brainops.job_tables, uuid, int) is
  'Jobs for due rows that have none, at most p_most: of one tenant, or (null) of all; returns how many.';

create or replace function brainops.sweep(p_most int default 10000)
returns table (table_name text, requeued int, timed_out int)
language plpgsql
set search_path = ''
as $$
declare
  v_job brainops.job_tables;
  v_orphans text[];
begin
  select array_agg(distinct j.locked_by) into v_orphans
    from graphile_worker.jobs as j
    where j.locked_by is not null
      and j.locked_at < now() - interval '30 seconds'
      and not exists (select from brainops.worker_processes as w where j.locked_by = any (w.pool_ids));
  if v_orphans is not null then
    perform graphile_worker.force_unlock_workers(v_orphans);
  end if;

  for v_job in select * from brainops.job_tables as j order by j.table_name
  loop
    table_name := v_job.table_name;
    timed_out := brainops.abandon(v_job, null, v_job.time_limit + interval '2 minutes', 'its worker never settled it within the time limit');
    requeued := brainops.requeue(v_job, null, p_most);
    return next;
  end loop;
end;
$$;

-- What a claim held back, for want of an account to go through, has lost its job.
create function brainops.wake_rows(p_table text, p_tenant_id uuid default null)
returns int
language plpgsql
set search_path = ''
as $$
declare
  v_job brainops.job_tables;
begin
  select * into strict v_job from brainops.job_tables as j where j.table_name = p_table;
  return brainops.requeue(v_job, p_tenant_id, 10000);
end;
$$;

comment on function brainops.wake_rows(text, uuid) is
  'Sets the due rows of a table going that waited for an account: of one tenant, or (null) of all. 10,000 at once; the sweep brings the rest.';

create function brainops.after_credential_change()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  perform brainops.wake_rows(j.table_name, coalesce(new.tenant_id, old.tenant_id))
    from brainops.job_tables as j
    where j.sender = coalesce(new.provider, old.provider);
  return null;
end;
$$;

alter function brainops.after_credential_change() owner to brainops_system;

create trigger wake_rows
after insert or update of active, sealed or delete on public.provider_credentials
for each row
execute function brainops.after_credential_change();

------------------------------------------------------------------------------------------------
-- Broadcasts: one content, many recipients, each a row of ai_email_queue

create table public.ai_broadcasts (
  id uuid primary key default gen_random_uuid(),
  tenant_id uuid not null references public.tenants (id),
  name text,
  audience text,
  template text,
  subject text not null,
  body text not null,
  metadata jsonb not null default '{}',
  status text not null default 'draft',
  created_at timestamptz not null default brainops.now(),
  launched_at timestamptz,
  constraint ai_broadcasts_tenant_row unique (tenant_id, id),
  constraint ai_broadcasts_status_known check (status in ('draft', 'active', 'paused', 'cancelled')),
  constraint ai_broadcasts_metadata_is_object check (jsonb_typeof(metadata) = 'object'),
  constraint ai_broadcasts_launched check (status <> 'active' or launched_at is not null)
);

comment on table public.ai_broadcasts is
  'One mail to many people. Recipients are rows of ai_email_queue with broadcast_id; up to 1,000 of them go out in one call. brainops.broadcast_results counts them.';
comment on column public.ai_broadcasts.name is 'For people; null for none.';
comment on column public.ai_broadcasts.audience is
  'Whom it is for, in words; brainops.broadcast_to_leads writes its condition here. Null for none.';
comment on column public.ai_broadcasts.template is
  'Name of a template of ai_campaign_templates: subject and body are copied from its newest version. Null for none.';
comment on column public.ai_broadcasts.subject is
  'Liquid, as in ai_email_queue; fixed once the broadcast was launched, as body and metadata are.';
comment on column public.ai_broadcasts.metadata is
  'Variables for Liquid, below those of each row; and reply_to, category.';
comment on column public.ai_broadcasts.status is
  'draft: recipients wait (awaiting_approval). active: they go. paused: they wait again. cancelled: those left are cancelled, for good.';
comment on column public.ai_broadcasts.launched_at is 'When it first became active; null before.';

select brainops.protect_table('public.ai_broadcasts');
revoke insert, update on public.ai_broadcasts from brainops_tenant, brainops_service;
grant
  insert (id, tenant_id, name, audience, template, subject, body, metadata, status),
  update (name, audience, template, subject, body, metadata, status)
on public.ai_broadcasts
to brainops_tenant, brainops_service;

-- What can never be sent is refused where it is written, naming the column, the value and the remedy.
create function brainops.check_mail_text(p_subject text, p_body text)
returns void
language plpgsql
immutable
set search_path = ''
as $$
begin
  if coalesce(btrim(p_subject), '') = '' then
    raise exception 'subject: is empty'
      using errcode = 'OP005', column = 'subject', hint = 'Give a subject of 1 to 998 characters.';
  end if;
  if length(p_subject) > 998 then
    raise exception 'subject: has % characters, at most 998 are allowed', length(p_subject)
      using errcode = 'OP005', column = 'subject', hint = 'Shorten it.';
  end if;
  if p_subject ~ '[\x01-\x1f\x7f]' then
    raise exception 'subject: % holds a control character', quote_literal(left(p_subject, 120))
      using errcode = 'OP005', column = 'subject', hint = 'Remove line breaks, tabs and other control characters.';
  end if;
  if coalesce(p_body, '') = '' then
    raise exception 'body: is empty'
      using errcode = 'OP005', column = 'body', hint = 'Give the mail''s text or HTML.';
  end if;
  if octet_length(p_body) > 1048576 then
    raise exception 'body: has % bytes, at most 1048576 (1 MiB) are allowed', octet_length(p_body)
      using errcode = 'OP005', column = 'body', hint = 'Link to large content instead of sending it.';
  end if;
end;
$$;

comment on function brainops.check_mail_text(text, text) is
  'Raises OP005 for a subject or body that can never be sent.';

create function brainops.check_broadcast()
returns trigger
language plpgsql
set search_path = ''
as $$
declare
  v_template public.ai_campaign_templates;
begin
  if tg_op = 'UPDATE' and old.status <> new.status and (old.status = 'cancelled' or new.status = 'draft') then
    raise exception 'status: broadcast % is %, so it cannot be set to %', old.id, old.status, quote_literal(new.status)
      using errcode = 'OP038', column = 'status',
        hint = 'A draft becomes active; active and paused ones become each other; any becomes cancelled, for good. Insert a new broadcast for another content.';
  end if;
  if tg_op = 'UPDATE' and old.launched_at is not null
    and (old.subject, old.body, old.metadata, old.template) is distinct from (new.subject, new.body, new.metadata, new.template)
  then
    raise exception 'broadcast % was launched at %, so its content is fixed', old.id, old.launched_at
      using errcode = 'OP038', hint = 'Cancel it and insert a new one: everybody who was written to got the same.';
  end if;

  if new.template is not null and (tg_op = 'INSERT' or old.template is distinct from new.template) then
    select * into v_template
      from public.ai_campaign_templates
      where tenant_id = new.tenant_id and name = new.template and channel = 'email'
      order by version desc
      limit 1;
    if not found then
      raise exception 'template: % is no e-mail template of this tenant', quote_literal(left(new.template, 120))
        using errcode = 'OP007', column = 'template',
          hint = 'select distinct name from ai_campaign_templates where channel = ''email''';
    end if;
    new.subject := coalesce(case when tg_op = 'INSERT' then new.subject end, v_template.subject);
    new.body := coalesce(case when tg_op = 'INSERT' then new.body end, v_template.body);
  end if;
  perform brainops.check_mail_text(new.subject, new.body);
  if new.status = 'active' and new.launched_at is null then
    perform brainops.refuse_launch(new.tenant_id, 'email');
    new.launched_at := brainops.now();
  end if;
  return new;
end;
$$;

create trigger b0_check_broadcast
before insert or update on public.ai_broadcasts
for each row
execute function brainops.check_broadcast();

-- Recipients follow their broadcast. What is under way ends as it ends.
create function brainops.after_broadcast_status()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  perform set_config('brainops.followed_broadcast', '', true);
  update public.ai_email_queue
  set status = case new.status when 'active' then 'pending' when 'paused' then 'awaiting_approval' else 'cancelled' end
  where tenant_id = new.tenant_id
    and broadcast_id = new.id
    and status = any (
      case new.status
        when 'active' then '{awaiting_approval}'
        when 'paused' then '{pending}'
        else '{awaiting_approval,pending,processing}'
      end::text[]
    );
  return null;
end;
$$;

alter function brainops.after_broadcast_status() owner to brainops_system;

create trigger c0_after_broadcast_status
after update of status on public.ai_broadcasts
for each row
when (old.status <> new.status)
execute function brainops.after_broadcast_status();

alter table public.ai_email_queue
alter column subject drop not null,
alter column body drop not null,
add constraint ai_email_queue_broadcast
  foreign key (tenant_id, broadcast_id) references public.ai_broadcasts (tenant_id, id),
add constraint ai_email_queue_content
  check (
    case
      when broadcast_id is null then subject is not null
      and body is not null
      else subject is null
      and body is null
    end
  );

grant insert (broadcast_id) on public.ai_email_queue to brainops_tenant, brainops_service;

comment on column public.ai_email_queue.broadcast_id is
  'The broadcast that the row is a recipient of; subject and body are the broadcast''s then, and null here.';

select brainops.define_batches('ai_email_queue', 'broadcast_id');

-- As in sql/0009, but for the text, which is its broadcast's where the row has one.
create or replace function brainops.check_email_row()
returns trigger
language plpgsql
set search_path = ''
as $$
declare
  -- The lengths apart: bounds within the expression made it fifteen times as slow.
  c_address constant text := '^[a-z0-9.!#$%&''*+/=?^_`{|}~-]+@([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z0-9-][a-z0-9-]+$';
  v_lead_id uuid;
begin
  new.recipient := btrim(new.recipient, E' \t\r\n');
  -- Clients write the JSON null where they mean none.
  new.metadata := coalesce(nullif(new.metadata, 'null'), '{}');
  v_lead_id := brainops.uuid_or_null(new.recipient);

  if coalesce(new.recipient, '') = '' then
    raise exception 'recipient: is empty'
      using errcode = 'OP004', column = 'recipient', hint = 'Give one e-mail address, or the id of a lead.';
  end if;
  if v_lead_id is null and (
    new.recipient !~* c_address
    or length(new.recipient) > 254
    or position('@' in new.recipient) > 65
    or length(new.recipient) > 64 and 63 < any (
      select length(label) from unnest(string_to_array(split_part(new.recipient, '@', 2), '.')) as label
    )
  ) then
    raise exception 'recipient: % is not an e-mail address', quote_literal(left(new.recipient, 120))
      using errcode = 'OP004', column = 'recipient',
        hint = 'Give one bare address such as ann@example.com (a domain with other letters in punycode), or the id of a lead.';
  end if;
  if new.broadcast_id is null then
    perform brainops.check_mail_text(new.subject, new.body);
  elsif new.subject is not null or new.body is not null then
    raise exception 'subject and body: are those of broadcast %', new.broadcast_id
      using errcode = 'OP005', hint = 'Leave both out, or insert a mail of its own without broadcast_id.';
  end if;
  if jsonb_typeof(new.metadata) <> 'object' then
    raise exception 'metadata: % is no JSON object', quote_literal(left(new.metadata::text, 120))
      using errcode = 'OP006', column = 'metadata', hint = 'Give an object such as {"first_name": "Ann"}; {} or null for none.';
  end if;

  if tg_op = 'INSERT' then
    if new.metadata ->> 'priority' = 'high' and new.job_priority = 0 then
      new.job_priority := -10;
    end if;
    if v_lead_id is null and new.lead_id is null and new.metadata ? 'lead_id' then
      new.lead_id := brainops.find_lead(brainops.uuid_or_null(new.metadata ->> 'lead_id'), new.tenant_id);
    end if;
  elsif new.recipient = old.recipient then
    -- The lead may be gone by now: the gate says so when the mail is due.
    return new;
  end if;
  if v_lead_id is not null then
    new.lead_id := brainops.find_lead(v_lead_id, new.tenant_id);
    if new.lead_id is null then
      raise exception 'recipient: % is no lead of this tenant', new.recipient
        using errcode = 'OP004', column = 'recipient', hint = 'Give an e-mail address, or the id of a row in revenue_leads.';
    end if;
  end if;
  return new;
end;
$$;

-- The broadcast's status as of now, and so until the end of the transaction: a recipient that is
-- inserted while somebody pauses is either seen by the pause, or sees it.
create function brainops.lock_broadcast(p_tenant_id uuid, p_broadcast_id uuid)
returns text
language sql
volatile
security definer
set search_path = ''
as $$
  select status
  from public.ai_broadcasts
  where
    tenant_id = p_tenant_id
    and id = p_broadcast_id
    -- Whoever inserts calls it, and could call it for anybody; the engine asks for every tenant.
    and (brainops.may_act_for(p_tenant_id) or pg_catalog.pg_has_role(session_user, 'brainops_system', 'member'))
  for share;
$$;

comment on function brainops.lock_broadcast(uuid, uuid) is
  'The status of a broadcast, which stays so until the end of the transaction; null for an unknown one and for another tenant''s.';

alter function brainops.lock_broadcast(uuid, uuid) owner to brainops_system;

-- What is not to go now waits for a person; that holds too for what comes back to pending (a
-- provider said later, somebody retries) after its broadcast was paused or cancelled.
create function brainops.follow_broadcast()
returns trigger
language plpgsql
set search_path = ''
as $$
declare
  -- Locked once for the transaction, not for each of 10,000 rows: until its end nobody else changes
  -- the status, and a change of our own forgets what was known.
  v_known text := current_setting('brainops.followed_broadcast', true);
  v_status text := case when v_known like new.broadcast_id || ' %' then split_part(v_known, ' ', 2) end;
begin
  if coalesce(new.status, 'pending') <> 'pending' and brainops.normal_status(new.status) <> 'pending' then
    return new;
  end if;
  if v_status is null then
    v_status := brainops.lock_broadcast(new.tenant_id, new.broadcast_id);
    perform set_config('brainops.followed_broadcast', coalesce(new.broadcast_id || ' ' || v_status, ''), true);
  end if;
  if v_status in ('draft', 'paused') then
    new.status := 'awaiting_approval';
  elsif v_status = 'cancelled' and tg_op = 'UPDATE' then
    new.status := 'cancelled';
    new.finished_at := brainops.now();
  elsif v_status = 'cancelled' then
    raise exception 'broadcast_id: broadcast % is cancelled', new.broadcast_id
      using errcode = 'OP038', column = 'broadcast_id', hint = 'Insert a new broadcast, and its recipients.';
  end if;
  -- An unknown one is left to the foreign key.
  return new;
end;
$$;

-- After the tenant is filled in, before the engine looks at the status.
create trigger a2_follow_broadcast
before insert on public.ai_email_queue
for each row
when (new.broadcast_id is not null)
execute function brainops.follow_broadcast();
create trigger b3_follow_broadcast
before update of status on public.ai_email_queue
for each row
when (new.broadcast_id is not null and new.status = 'pending' and old.status not in ('pending', 'awaiting_approval'))
execute function brainops.follow_broadcast();

create function brainops.broadcast_to_leads(
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
begin
  select tenant_id into v_tenant_id from public.ai_broadcasts where id = p_broadcast_id;
  if not found then
    raise exception 'ai_broadcasts has no row %', p_broadcast_id
      using errcode = 'OP009', hint = 'select id, subject, status from ai_broadcasts';
  end if;
  update public.ai_broadcasts set audience = p_where where id = p_broadcast_id and audience is null;
  execute format(
    $sql$
    with page as materialized (
      select l.id from public.revenue_leads as l
      where l.tenant_id = $1 and ($3 is null or l.id > $3) and btrim(l.email) <> '' and (%s)
      order by l.id
      limit $4
    ),
    inserted as (
      insert into public.ai_email_queue (tenant_id, broadcast_id, recipient, idempotency_key)
      select $1, $2, p.id, 'broadcast:' || $2 || ':' || p.id from page as p
      on conflict (tenant_id, idempotency_key) where idempotency_key is not null do nothing
      returning 1
    )
    select (select count(*) from inserted), (select p.id from page as p order by p.id desc limit 1)
    $sql$,
    p_where
  )
    into added, last_id
    using v_tenant_id, p_broadcast_id, p_after, p_most;
end;
$$;

comment on function brainops.broadcast_to_leads(uuid, text, uuid, int) is
  'Adds leads with an address as recipients, each once however often it is called: those of the broadcast''s tenant for which p_where holds (SQL over revenue_leads as l), after p_after by id, p_most at a time. Returns how many are new, and the last id, null at the end: the next p_after.';

create view brainops.broadcast_results
with (security_invoker = true)
as
  select
    b.id,
    b.tenant_id,
    b.name,
    b.status,
    b.launched_at,
    coalesce(r.recipients, 0) as recipients,
    coalesce(r.waiting, 0) as waiting,
    coalesce(r.sent, 0) as sent,
    coalesce(r.skipped, 0) as skipped,
    coalesce(r.failed, 0) as failed,
    coalesce(r.unconfirmed, 0) as unconfirmed,
    coalesce(r.cancelled, 0) as cancelled
  from
    public.ai_broadcasts as b
    left join (
      select
        q.tenant_id,
        q.broadcast_id,
        count(*) as recipients,
        count(*) filter (where q.status in ('pending', 'processing', 'awaiting_approval')) as waiting,
        count(*) filter (where q.status = 'completed') as sent,
        count(*) filter (where q.status = 'skipped') as skipped,
        count(*) filter (where q.status = 'failed') as failed,
        count(*) filter (where q.status = 'unconfirmed') as unconfirmed,
        count(*) filter (where q.status = 'cancelled') as cancelled
      from public.ai_email_queue as q
      where q.broadcast_id is not null
      group by q.tenant_id, q.broadcast_id
    ) as r
      on r.tenant_id = b.tenant_id and r.broadcast_id = b.id;

comment on view brainops.broadcast_results is
  'How each broadcast goes, by the statuses of its recipients that are still in ai_email_queue.';

grant select
on brainops.broadcast_results
to brainops_tenant, brainops_service, brainops_worker, brainops_admin, brainops_system;

revoke execute
on function brainops.sender_of(text, uuid),
brainops.define_batches(text, text),
brainops.dequeue_rows(text, uuid[]),
brainops.lock_batches(brainops.job_tables, uuid, uuid[], timestamptz, interval),
brainops.claim(text, uuid[], uuid, uuid, text, text, boolean),
brainops.requeue(brainops.job_tables, uuid, int),
brainops.wake_rows(text, uuid),
brainops.after_credential_change(),
brainops.check_mail_text(text, text),
brainops.check_broadcast(),
brainops.after_broadcast_status(),
brainops.lock_broadcast(uuid, uuid),
brainops.follow_broadcast(),
brainops.broadcast_to_leads(uuid, text, uuid, int)
from public;

grant execute
on function brainops.claim(text, uuid[], uuid, uuid, text, text, boolean),
brainops.sender_of(text, uuid),
brainops.dequeue_rows(text, uuid[]),
brainops.lock_batches(brainops.job_tables, uuid, uuid[], timestamptz, interval)
to brainops_worker, brainops_system;
grant execute
on function brainops.requeue(brainops.job_tables, uuid, int), brainops.wake_rows(text, uuid)
to brainops_system;
-- What a trigger calls, it calls with the rights of whoever inserts.
grant execute
on function brainops.check_mail_text(text, text),
brainops.lock_broadcast(uuid, uuid),
brainops.broadcast_to_leads(uuid, text, uuid, int)
to brainops_tenant, brainops_service, brainops_worker, brainops_admin, brainops_system;
