-- What a tenant needs before it can send marketing, and the announcement of PUBLIC_URL, which is one of these things.
-- Start at brainops.launch_problems.

create or replace function brainops.launch_problems(p_tenant_id uuid, p_channel text default 'email')
returns setof text
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
  v_settings jsonb := (select settings from public.tenants where id = p_tenant_id);
  v_provider text := case p_channel when 'sms' then 'twilio' when 'email' then 'sendgrid' end;
  v_task text := case when p_channel = 'sms' then 'sms__send' else 'email__send' end;
begin
  if not brainops_internal.may_act_for(p_tenant_id) then
    raise exception 'tenant_id: % is not your tenant', coalesce(p_tenant_id::text, 'null')
      using errcode = 'insufficient_privilege', hint = 'Give the id of your own tenant: select id from tenants.';
  end if;
  if v_provider is null then
    raise exception 'channel: % is not a channel', coalesce(quote_literal(p_channel), 'null')
      using errcode = 'OP007', hint = 'Give email or sms.';
  end if;
  if p_channel = 'email' then
    if coalesce(btrim(v_settings ->> 'postal_address'), '') = '' then
      return next 'settings.postal_address is missing: marketing mail must carry the sender''s postal address. '
        || 'update tenants set settings = settings || ''{"postal_address": "…"}''';
    end if;
    if not exists (select from brainops.installation where public_url is not null) then
      return next 'PUBLIC_URL is missing: marketing mail must carry an unsubscribe link. '
        || 'Start the web server (brainops serve or up) with PUBLIC_URL set';
    end if;
  end if;
  -- Live workers register the tasks that they can run. Without a live worker it is not known whether there is an
  -- account, so nothing is reported.
  if exists (select from brainops.worker_processes as w where brainops_internal.worker_is_alive(w.number, w.backend_pid))
    and not exists (
      select from brainops.worker_processes as w
      where v_task = any (w.tasks) and brainops_internal.worker_is_alive(w.number, w.backend_pid)
    )
    and not exists (
      select from brainops_internal.tenant_account(p_tenant_id, v_provider)
    )
  then
    return next case p_channel
      when 'sms' then 'a Twilio account is missing: no worker has TWILIO_ACCOUNT_SID, TWILIO_AUTH_TOKEN and TWILIO_FROM, and the tenant has no active Twilio credential of its own'
      else 'a SendGrid account is missing: no worker has SENDGRID_API_KEY and MAIL_FROM, and the tenant has no active SendGrid credential of its own'
    end;
  end if;
end;
$$;

comment on function brainops.launch_problems(uuid, text) is
  'What prevents tenant p_tenant_id from sending marketing by p_channel (email or sms), one text per problem with its remedy; no rows if nothing does. OP007: unknown channel. 42501: it is not the caller''s tenant.';

alter function brainops.launch_problems(uuid, text) owner to brainops_system;
revoke execute on function brainops.launch_problems(uuid, text) from public;
grant execute
on function brainops.launch_problems(uuid, text)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin;

create or replace function brainops_internal.refuse_launch(p_tenant_id uuid, p_channel text default 'email')
returns void
language plpgsql
stable
set search_path = ''
as $$
declare
  v_problems text[] := array(select brainops.launch_problems(p_tenant_id, p_channel));
begin
  if v_problems <> '{}' then
    raise exception 'marketing by % cannot be launched: %', p_channel, array_to_string(v_problems, '; ')
      using errcode = 'OP031', hint = 'Fix each of these problems, then launch again. To list them: select * from brainops.launch_problems(tenant_id, channel).';
  end if;
end;
$$;

comment on function brainops_internal.refuse_launch(uuid, text) is
  'Raises OP031 with all that brainops.launch_problems finds. Called when a campaign or a broadcast becomes active.';

revoke execute on function brainops_internal.refuse_launch(uuid, text) from public;
grant execute
on function brainops_internal.refuse_launch(uuid, text)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

-- Also mails the opt-in requests that were made before PUBLIC_URL was known. Each is queued in a subtransaction of
-- its own: in a single statement, one address that no mail can go to would undo the announcement for every tenant,
-- and no worker with PUBLIC_URL could start. The consent behind a request is kept even if nothing can be mailed to
-- its address.
create or replace function brainops.announce_public_url(p_public_url text)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_id uuid;
  v_tenant_id uuid;
  v_held uuid[] := '{}'; -- tenants that have locked what their requests need
begin
  insert into brainops.installation as i (public_url)
  values (p_public_url)
  on conflict (only_row) do update
    set
      public_url = excluded.public_url,
      announced_at = brainops.now()
    where i.public_url is distinct from excluded.public_url;
  for v_id, v_tenant_id in
    select r.id, r.tenant_id from public.opt_in_requests as r
    where r.email_id is null and r.expires_at is null and r.confirmed_at is null
    order by r.created_at, r.id
  loop
    continue when v_tenant_id = any (v_held);
    begin
      perform brainops_internal.mail_opt_in(v_id);
    exception
      -- Asked when a process starts next; the other tenants do not wait for it.
      when lock_not_available then v_held := v_held || v_tenant_id;
      when others then
        -- Rollbacks, resources, locks, operators, the system and internal errors say nothing about the request, so they
        -- are raised: the caller announces again.
        if left(sqlstate, 2) in ('40', '53', '55', '57', '58', 'XX') then
          raise;
        end if;
        -- Any other error: the mail queue refuses this request, and would refuse it again.
        update public.opt_in_requests set expires_at = brainops.now() where id = v_id;
    end;
  end loop;
end;
$$;

comment on function brainops.announce_public_url(text) is
  'Stores PUBLIC_URL, an http or https URL, and queues the opt-in mails that waited for it; a request that the mail queue refuses is closed. Servers and workers that have PUBLIC_URL call it when they start.';

revoke execute on function brainops.announce_public_url(text) from public;
grant execute on function brainops.announce_public_url(text) to brainops_system;
