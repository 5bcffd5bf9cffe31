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

comment on function brainops.broadcast_to_leads(uuid, text, uuid, int) is
  'Adds leads with an address as recipients, each once however often it is called: those of the broadcast''s tenant for which p_where holds (SQL over revenue_leads as l), after p_after by id, p_most at a time. Returns how many are new, and the last id, null at the end: the next p_after.';

revoke execute on function brainops.broadcast_to_leads(uuid, text, uuid, int) from public;
grant execute
on function brainops.broadcast_to_leads(uuid, text, uuid, int)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

create or replace function brainops_internal.check_broadcast()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_template public.ai_campaign_templates;
begin
  -- Row level security refuses the row in a moment; until then nothing of the other tenant is read.
  if not brainops_internal.may_act_for(new.tenant_id) then
    return new;
  end if;
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
  perform brainops_internal.check_mail_text(new.subject, new.body);
  if new.status = 'active' and new.launched_at is null then
    perform brainops_internal.refuse_launch(new.tenant_id, 'email');
    new.launched_at := brainops.now();
  end if;
  return new;
end;
$$;

alter function brainops_internal.check_broadcast() owner to brainops_system;
revoke execute on function brainops_internal.check_broadcast() from public;

-- Recipients follow their broadcast. What is under way ends as it ends.
create or replace function brainops_internal.after_broadcast_status()
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

alter function brainops_internal.after_broadcast_status() owner to brainops_system;
revoke execute on function brainops_internal.after_broadcast_status() from public;

-- What is not to go now waits for a person; that holds too for what comes back to pending (a
-- provider said later, somebody retries) after its broadcast was paused or cancelled.
create or replace function brainops_internal.before_broadcast_recipient()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  -- Locked once for the transaction, not for each of 10,000 rows: until its end nobody else changes
  -- the status, and a change of our own forgets what was known.
  v_known text := current_setting('brainops.followed_broadcast', true);
  v_status text := case when v_known like new.broadcast_id || ' %' then split_part(v_known, ' ', 2) end;
begin
  if coalesce(new.status, 'pending') <> 'pending' and brainops_internal.normal_status(new.status) <> 'pending' then
    return new;
  end if;
  if v_status is null then
    v_status := brainops_internal.lock_broadcast(new.tenant_id, new.broadcast_id);
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

alter function brainops_internal.before_broadcast_recipient() owner to brainops_system;
revoke execute on function brainops_internal.before_broadcast_recipient() from public;

-- The broadcast's status as of now, and so until the end of the transaction: a recipient that is
-- inserted while somebody pauses is either seen by the pause, or sees it.
create or replace function brainops_internal.lock_broadcast(p_tenant_id uuid, p_broadcast_id uuid)
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
    and (
      brainops_internal.may_act_for(p_tenant_id)
      or pg_catalog.pg_has_role(session_user, 'brainops_system', 'member')
    )
  for share;
$$;

comment on function brainops_internal.lock_broadcast(uuid, uuid) is
  'The status of a broadcast, which stays so until the end of the transaction; null for an unknown one and for another tenant''s.';

alter function brainops_internal.lock_broadcast(uuid, uuid) owner to brainops_system;
revoke execute on function brainops_internal.lock_broadcast(uuid, uuid) from public;
grant execute
on function brainops_internal.lock_broadcast(uuid, uuid)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin;
