-- Broadcasts: one mail to many people. broadcast_to_leads adds recipients, which are rows of ai_email_queue; the
-- triggers let recipients follow the status of their broadcast.

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
-- Runs with the rights of the caller, because the condition is the caller's own SQL.
set search_path = ''
as $$
declare
  v_tenant_id uuid;
  v_lead_ids uuid[];
begin
  select tenant_id into v_tenant_id from public.ai_broadcasts where id = p_broadcast_id;
  if not found then
    raise exception 'broadcast % does not exist, or belongs to another tenant', p_broadcast_id
      using errcode = 'OP009', hint = 'Give the id of one of your broadcasts: select id, subject, status from ai_broadcasts.';
  end if;
  -- The foreign key of the new rows would take the same lock later. Taking it here waits for a merge in progress, so
  -- that the next statement sees the rows that the merge moved.
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
  -- Dynamic, so that every call gets a new plan: the table may have grown a hundredfold since the last page. With
  -- "offset 0" Postgres searches the few rows of the lead, not the million rows of the broadcast.
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
  'Adds leads with an e-mail address as recipients of a broadcast, each once however often it is called. p_where: a condition in SQL over revenue_leads as l. p_after and p_most: a page of the leads, in the order of their ids; p_after null: from the start. Returns how many recipients were added, and the last id of the page, which is the next p_after (null when the page is empty: the end). OP009 if the broadcast does not exist or belongs to another tenant.';

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
  -- Row level security refuses a row of another tenant after this trigger; until then nothing of that tenant is read.
  if not brainops_internal.may_act_for(new.tenant_id) then
    return new;
  end if;
  if tg_op = 'UPDATE' and old.status <> new.status and (old.status = 'cancelled' or new.status = 'draft') then
    raise exception 'status: broadcast % is %, so it cannot be set to %', old.id, old.status, quote_literal(new.status)
      using errcode = 'OP038', column = 'status',
        hint = 'A draft may become active, an active broadcast paused, and a paused one active again. Any may become cancelled, which is final: then insert a new broadcast.';
  end if;
  if tg_op = 'UPDATE' and old.launched_at is not null
    and (old.subject, old.body, old.metadata, old.template) is distinct from (new.subject, new.body, new.metadata, new.template)
  then
    raise exception 'broadcast % was launched at %, so its content is fixed', old.id, old.launched_at
      using errcode = 'OP038', hint = 'Cancel it and insert a new broadcast: all recipients of a broadcast get the same content.';
  end if;

  if new.template is not null and (tg_op = 'INSERT' or old.template is distinct from new.template) then
    select * into v_template
      from public.ai_campaign_templates
      where tenant_id = new.tenant_id and name = new.template and channel = 'email'
      order by version desc
      limit 1;
    if not found then
      raise exception 'template: % is not an e-mail template of this tenant', quote_literal(left(new.template, 120))
        using errcode = 'OP007', column = 'template',
          hint = 'select distinct name from ai_campaign_templates where channel = ''email''';
    end if;
    new.subject := coalesce(case when tg_op = 'INSERT' then new.subject end, v_template.subject);
    new.body := coalesce(case when tg_op = 'INSERT' then new.body end, v_template.body);
  end if;
  perform brainops_internal.check_mail_text(new.subject, new.body);
  perform brainops_internal.check_mail_headers(new.metadata);
  if new.status = 'active' and new.launched_at is null then
    perform brainops_internal.refuse_launch(new.tenant_id, 'email');
    new.launched_at := brainops.now();
  end if;
  return new;
end;
$$;

comment on function brainops_internal.check_broadcast is
  'Trigger before insert or update on ai_broadcasts: checks changes of the status and of a launched broadcast''s content (OP038), copies the template''s subject and body, and checks at the launch that the tenant may send marketing (OP031).';

alter function brainops_internal.check_broadcast() owner to brainops_system;
revoke execute on function brainops_internal.check_broadcast() from public;

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

comment on function brainops_internal.after_broadcast_status is
  'Trigger after update on ai_broadcasts: releases, holds or cancels the recipients when a broadcast is launched, paused or cancelled. Mails in flight finish.';

alter function brainops_internal.after_broadcast_status() owner to brainops_system;
revoke execute on function brainops_internal.after_broadcast_status() from public;

-- Also applies to a recipient that returns to pending, because of a retry or a late answer of the provider, after its
-- broadcast was paused or cancelled.
create or replace function brainops_internal.before_broadcast_recipient()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  -- "<id> <status>" of the broadcast that this transaction locked last, so that 10,000 rows lock it once. The lock
  -- keeps other transactions from changing the status; a change by this one clears the setting
  -- (after_broadcast_status).
  v_locked text := current_setting('brainops.followed_broadcast', true);
  v_status text := case when v_locked like new.broadcast_id || ' %' then split_part(v_locked, ' ', 2) end;
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
      using errcode = 'OP038', column = 'broadcast_id', hint = 'Insert a new broadcast, and the recipients for that one.';
  end if;
  -- If the broadcast does not exist, the foreign key refuses the row.
  return new;
end;
$$;

comment on function brainops_internal.before_broadcast_recipient is
  'Trigger before insert or update on ai_email_queue: a recipient of a broadcast that is not active is held (awaiting_approval) or cancelled; a new recipient of a cancelled broadcast is refused (OP038).';

alter function brainops_internal.before_broadcast_recipient() owner to brainops_system;
revoke execute on function brainops_internal.before_broadcast_recipient() from public;

-- The lock orders a recipient's insert against a pause of the broadcast: either the pause sees the recipient, or the
-- insert sees the pause.
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
    -- Every login that inserts mails may call this function, so the tenant is checked; only the engine may ask about
    -- any tenant.
    and (
      brainops_internal.may_act_for(p_tenant_id)
      or pg_catalog.pg_has_role(session_user, 'brainops_system', 'member')
    )
  for share;
$$;

comment on function brainops_internal.lock_broadcast(uuid, uuid) is
  'The status of a broadcast, locked until the end of the transaction. Null if the broadcast does not exist, or belongs to another tenant than the caller''s.';

alter function brainops_internal.lock_broadcast(uuid, uuid) owner to brainops_system;
revoke execute on function brainops_internal.lock_broadcast(uuid, uuid) from public;
grant execute
on function brainops_internal.lock_broadcast(uuid, uuid)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin;
