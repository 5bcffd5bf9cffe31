-- The SQL interface for admins: everything that can be done to jobs and tenants, as functions and
-- views of the schema brainops. They run with the caller's rights; brainops_admin has those.
set local lock_timeout = '2s';

create function brainops.job_table(p_table text)
returns brainops.job_tables
language plpgsql
stable
set search_path = ''
as $$
declare
  v_job brainops.job_tables;
begin
  select * into v_job from brainops.job_tables where p_table in (table_name, relation);
  if not found then
    raise exception 'table: % is no job table', quote_literal(p_table)
      using errcode = 'OP007',
        hint = 'Job tables: ' || (select string_agg(table_name, ', ' order by table_name) from brainops.job_tables);
  end if;
  return v_job;
end;
$$;

comment on function brainops.job_table(text) is 'The entry of a job table by its name; OP007 lists the names.';

create function brainops.tenant_id_of(p_tenant text)
returns uuid
language plpgsql
stable
set search_path = ''
as $$
declare
  v_id uuid;
begin
  select id into v_id from public.tenants where slug = p_tenant or id = brainops.uuid_or_null(p_tenant);
  if not found then
    raise exception 'tenant: % is neither the slug nor the id of a tenant', quote_literal(p_tenant)
      using errcode = 'OP007', hint = 'select slug, id from tenants';
  end if;
  return v_id;
end;
$$;

comment on function brainops.tenant_id_of(text) is
  'The id of a tenant by its slug or id; OP007 where there is none that the caller may see.';

create function brainops.create_tenant(p_slug text, p_name text, p_time_zone text default 'UTC')
returns uuid
language sql
set search_path = ''
as $$
  insert into public.tenants (slug, name, time_zone) values (p_slug, p_name, p_time_zone) returning id;
$$;

comment on function brainops.create_tenant(text, text, text) is
  'A new tenant: slug (a-z, 0-9, -), name, IANA time zone. Returns its id.';

-- Runs with the caller's rights: to make a login one needs CREATEROLE, and we keep none in store.
create function brainops.create_login(p_tenant_slug text, p_role_name text, p_password text)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_tenant_id uuid := brainops.tenant_id_of(p_tenant_slug);
begin
  if coalesce(length(p_password), 0) < 12 then
    raise exception 'password: has fewer than 12 characters'
      using errcode = 'OP005', hint = 'Give 12 or more, or a SCRAM-SHA-256 verifier (brainops tenant login makes one, so that no log sees the password).';
  end if;
  execute format('create role %I login password %L connection limit 20 in role brainops_tenant', p_role_name, p_password);
  execute format('alter role %I set statement_timeout = %L', p_role_name, '60s');
  execute format('alter role %I set idle_in_transaction_session_timeout = %L', p_role_name, '60s');
  insert into brainops.tenant_logins (login, tenant_id) values (p_role_name, v_tenant_id);
end;
$$;

comment on function brainops.create_login(text, text, text) is
  'A database login that is the tenant: sees and writes its rows alone, whatever it sets. The password may be a SCRAM-SHA-256 verifier. Needs CREATEROLE.';

create function brainops.pause(
  p_table text,
  p_tenant text default null,
  p_channel text default null,
  p_reason text default 'no reason given'
)
returns void
language sql
set search_path = ''
as $$
  insert into brainops.pauses as p (table_name, tenant_id, channel, reason)
  values
    (
      (brainops.job_table(p_table)).table_name,
      case
        when p_tenant is not null then brainops.tenant_id_of(p_tenant)
      end,
      p_channel,
      p_reason
    )
  on conflict (tenant_id, table_name, channel) do update
    set
      reason = excluded.reason,
      paused_by = session_user,
      paused_at = now();
$$;

comment on function brainops.pause(text, text, text, text) is
  'Holds a job table: for one tenant (slug or id) or, with null, for all. Rows wait as pending; what is being processed ends.';

create function brainops.resume(p_table text, p_tenant text default null, p_channel text default null)
returns int
language plpgsql
set search_path = ''
as $$
declare
  v_job brainops.job_tables := brainops.job_table(p_table);
  v_tenant_id uuid := case when p_tenant is not null then brainops.tenant_id_of(p_tenant) end;
  v_count int;
begin
  delete from brainops.pauses
  where table_name = v_job.table_name
    and (p_tenant is null or tenant_id = v_tenant_id)
    and (p_channel is null or channel = p_channel);
  -- Their jobs are gone: a new time gives due rows new ones, through the trigger.
  execute format(
    'update %s set scheduled_for = $1, last_error = null
     where status = ''pending'' and scheduled_for < $1 and ($2 is null or tenant_id = $2)
       and brainops.pause_reason($3, tenant_id) is null',
    v_job.relation
  )
    using brainops.now(), v_tenant_id, v_job.table_name;
  get diagnostics v_count = row_count;
  return v_count;
end;
$$;

comment on function brainops.resume(text, text, text) is
  'Ends pauses; returns how many rows that were due go on. With tenant null: every pause of the table.';

-- Sets one row's status; shared by the verbs below.
create function brainops.set_job_status(p_table text, p_id uuid, p_from text[], p_to text)
returns text
language plpgsql
set search_path = ''
as $$
declare
  v_job brainops.job_tables := brainops.job_table(p_table);
  v_status text;
begin
  execute format('select status from %s where id = $1 for update', v_job.relation) into v_status using p_id;
  if v_status is null then
    raise exception 'id: % has no row %', v_job.table_name, p_id
      using errcode = 'OP009', hint = 'select * from brainops.jobs where id = …; archived rows are in brainops.job_archive.';
  end if;
  if v_status <> all (p_from) then
    raise exception 'status: row % is %, and only % can become %', p_id, v_status, array_to_string(p_from, ', '), p_to
      using errcode = 'OP010', hint = 'select status, last_error from brainops.jobs where id = …';
  end if;
  execute format(
    'update %s set status = $2, scheduled_for = case when $2 = ''pending'' then least(scheduled_for, $3) else scheduled_for end
     where id = $1 returning status',
    v_job.relation
  )
    into v_status
    using p_id, p_to, brainops.now();
  return v_status;
end;
$$;

comment on function brainops.set_job_status(text, uuid, text[], text) is
  'Behind retry, cancel and confirm: OP009 for no such row, OP010 where its status is none of p_from.';

create function brainops.retry(p_table text, p_id uuid)
returns text
language sql
set search_path = ''
as $$
  select
    brainops.set_job_status(p_table, p_id, array['failed', 'cancelled', 'skipped', 'awaiting_approval'], 'pending');
$$;

comment on function brainops.retry(text, uuid) is
  'Runs a row again, now, with all its attempts. An unconfirmed one goes through confirm.';

create function brainops.retry_failed(p_table text, p_since timestamptz)
returns int
language plpgsql
set search_path = ''
as $$
declare
  v_count int;
begin
  execute format(
    'update %s set status = ''pending'' where status = ''failed'' and finished_at >= $1',
    (brainops.job_table(p_table)).relation
  )
    using p_since;
  get diagnostics v_count = row_count;
  return v_count;
end;
$$;

comment on function brainops.retry_failed(text, timestamptz) is
  'Runs again all rows that failed since then; returns how many.';

create function brainops.cancel(p_table text, p_id uuid)
returns text
language sql
set search_path = ''
as $$
  select
    brainops.set_job_status(
      p_table,
      p_id,
      array['pending', 'processing', 'failed', 'unconfirmed', 'awaiting_approval'],
      'cancelled'
    );
$$;

comment on function brainops.cancel(text, uuid) is
  'Stops a row. One in processing stays so until its effect is known (cancel_requested_at is set), and is not tried again.';

create function brainops.confirm(p_table text, p_id uuid, p_happened boolean)
returns text
language sql
set search_path = ''
as $$
  select
    brainops.set_job_status(
      p_table,
      p_id,
      array['unconfirmed'],
      case
        when p_happened then 'completed'
        else 'pending'
      end
    );
$$;

comment on function brainops.confirm(text, uuid, boolean) is
  'Settles an unconfirmed row: the effect happened (completed), or it did not (pending: it is done now).';

-- Erases a person of one tenant everywhere; leaves a digest of the address, so that nobody writes
-- to it again by mistake. Returns how many rows went, by table.
create function brainops.forget(p_tenant text, p_address text)
returns table (table_name text, erased bigint)
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_tenant_id uuid;
  v_key text := lower(btrim(p_address));
  v_lead_ids uuid[];
  v_email_ids uuid[];
  v_row_ids uuid[];
  v_table text;
begin
  if pg_catalog.pg_has_role(session_user, 'brainops_admin', 'member') then
    v_tenant_id := brainops.tenant_id_of(p_tenant);
  else
    -- The same words for another tenant and for none: who exists is nobody's business.
    select id into v_tenant_id from public.tenants
      where id = brainops.current_tenant_id() and (slug = p_tenant or id = brainops.uuid_or_null(p_tenant));
    if not found then
      raise exception 'tenant: % is not yours', quote_literal(p_tenant)
        using errcode = 'insufficient_privilege', hint = 'Give your own slug: select slug from tenants.';
    end if;
  end if;
  insert into public.contact_suppressions (tenant_id, channel, address, reason, source)
  values (v_tenant_id, 'email', brainops.address_digest(v_key), 'forgotten', 'forget')
  on conflict (tenant_id, channel, address_key) do nothing;

  select array_agg(l.id) into v_lead_ids from public.revenue_leads as l where l.tenant_id = v_tenant_id and lower(btrim(l.email)) = v_key;
  select array_agg(q.id) into v_email_ids
    from public.ai_email_queue as q
    where q.tenant_id = v_tenant_id and (lower(q.recipient) = v_key or q.lead_id = any (v_lead_ids));

  select array_agg(a.row_id) || v_email_ids into v_row_ids
    from brainops.job_archive as a
    where a.tenant_id = v_tenant_id
      and (lower(a.job_row ->> 'recipient') = v_key or (a.job_row ->> 'lead_id')::uuid = any (v_lead_ids));
  update brainops.job_events set detail = 'erased'
  where tenant_id = v_tenant_id and detail is not null and row_id = any (v_row_ids);

  for v_table in
    select unnest(array[
      'public.webhook_events', 'public.email_deliveries', 'public.email_bounces', 'public.email_unsubscribe_links',
      'public.contact_suppressions', 'brainops.job_archive', 'public.ai_email_queue', 'public.revenue_leads'
    ])
  loop
    execute format(
      'delete from %s as t where %s',
      v_table,
      case v_table
        -- An event that names no mail of ours belongs to nobody, unless it can still be placed.
        when 'public.webhook_events' then
          'lower(btrim(t.payload ->> ''email'')) = $2
           and coalesce(t.tenant_id, (brainops.find_email(t.payload)).tenant_id, $1) = $1'
        else 't.tenant_id = $1 and '
      end || case v_table
        when 'public.webhook_events' then ''
        when 'public.email_deliveries' then '(t.recipient = $2 or t.email_id = any ($4))'
        when 'public.email_bounces' then '(lower(t.recipient) = $2 or t.email_id = any ($4))'
        when 'brainops.job_archive' then '(lower(t.job_row ->> ''recipient'') = $2 or (t.job_row ->> ''lead_id'')::uuid = any ($3))'
        when 'public.ai_email_queue' then 't.id = any ($4)'
        when 'public.revenue_leads' then 't.id = any ($3)'
        else 't.address_key = $2'
      end
    )
      using v_tenant_id, v_key, v_lead_ids, v_email_ids;
    get diagnostics erased = row_count;
    table_name := v_table;
    return next;
  end loop;
end;
$$;

alter function brainops.forget(text, text) owner to brainops_system;

comment on function brainops.forget(text, text) is
  'Erases a person (by address) of one tenant from every table and the archive; leaves a suppression under the address''s sha256. By admins, or by the tenant itself.';

create view brainops.queue_health
with (security_invoker = true)
as
  select
    table_name,
    tenant_id,
    count(*) filter (where status = 'pending' and scheduled_for <= brainops.now()) as due,
    count(*) filter (where status = 'pending' and scheduled_for > brainops.now()) as later,
    count(*) filter (where status = 'processing') as processing,
    count(*) filter (where status = 'unconfirmed') as unconfirmed,
    count(*) filter (where status = 'awaiting_approval') as awaiting_approval,
    count(*) filter (where status = 'failed') as failed,
    brainops.now() - min(scheduled_for) filter (
      where status = 'pending' and scheduled_for <= brainops.now()
    ) as oldest_due,
    max(last_error) filter (where status = 'pending') as waiting_for
  from brainops.jobs
  where status not in ('completed', 'cancelled', 'skipped')
  group by table_name, tenant_id;

comment on view brainops.queue_health is
  'For each job table and tenant: what waits, runs and failed, how late the oldest due row is, and one reason that rows wait for.';

create view brainops.dead_letters
with (security_invoker = true)
as
  select table_name, id, tenant_id, status, attempts, last_error, coalesce(finished_at, started_at) as since
  from brainops.jobs
  where status in ('failed', 'unconfirmed');

comment on view brainops.dead_letters is
  'Rows that need a person: failed (brainops.retry) and unconfirmed (brainops.confirm).';

grant select
on brainops.queue_health, brainops.dead_letters
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

revoke execute on all functions in schema brainops from public;

grant execute
on function brainops.now(),
brainops.is_time_zone(text),
brainops.uuid_or_null(text),
brainops.jwt_tenant_id(),
brainops.names_no_tenant(),
brainops.normal_status(text),
brainops.job_table_name(name, name),
brainops.email_address(public.ai_email_queue),
brainops.address_digest(text),
brainops.retry_delay(int),
brainops.job_table(text),
brainops.tenant_id_of(text),
brainops.set_job_status(text, uuid, text[], text),
brainops.retry(text, uuid),
brainops.retry_failed(text, timestamptz),
brainops.cancel(text, uuid),
brainops.confirm(text, uuid, boolean),
brainops.forget(text, text)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

-- brainops_system makes each month of the archive and the events, which takes over their triggers.
grant execute on function brainops.refuse_change() to brainops_system;

grant execute
on function brainops.create_tenant(text, text, text),
brainops.create_login(text, text, text),
brainops.pause(text, text, text, text),
brainops.resume(text, text, text),
-- Names other tenants: not for tenants, who find it in last_error of their own rows.
brainops.pause_reason(text, uuid),
brainops.worker_is_alive(int, int),
brainops.liveness_class(),
brainops.guard_obstacles(regclass),
brainops.guard_table(regclass, boolean),
-- Whoever makes a trigger must be allowed to call its function.
brainops.remember_tenant(),
brainops.fill_tenant(),
brainops.protect_table(regclass)
to brainops_admin, brainops_system;
