-- Opt-in requests from before any process had said PUBLIC_URL were mailed in one statement: one address that no mail can
-- go to undid the announcement, for every tenant, and no worker with PUBLIC_URL could start. Each stands alone now.
-- And a yes is kept though nothing can be mailed to its address; it was refused once PUBLIC_URL was known.
-- Old workers go on meanwhile, and start again.
set local lock_timeout = '2s';

create or replace function brainops.announce_public_url(p_public_url text)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_id uuid;
begin
  insert into brainops.installation as i (public_url)
  values (p_public_url)
  on conflict (only_row) do update
    set
      public_url = excluded.public_url,
      announced_at = brainops.now()
    where i.public_url is distinct from excluded.public_url;
  for v_id in
    select r.id from public.opt_in_requests as r
    where r.email_id is null and r.expires_at is null and r.confirmed_at is null
    order by r.created_at, r.id
  loop
    begin
      perform brainops.mail_opt_in(v_id);
    exception
      when others then
        -- What the server lacks (rollbacks, resources, locks, operators, the system, its own faults) is
        -- nothing about the request: whoever announces tries again.
        if left(sqlstate, 2) in ('40', '53', '55', '57', '58', 'XX') then
          raise;
        end if;
        -- The mail queue refuses it, and will another time.
        update public.opt_in_requests set expires_at = brainops.now() where id = v_id;
    end;
  end loop;
end;
$$;

comment on function brainops.announce_public_url(text) is
  'Said by a server or worker that has PUBLIC_URL, when it starts; opt-in mails that waited for it are queued, and a request that the mail queue refuses is closed.';

comment on column public.opt_in_requests.expires_at is
  'Seven days after the mail; then the person must ask anew. Where email_id is null: when it was found that no mail can go to the address.';

-- A form that anybody could have filled in is no proof that the address wants it. One mail asks, and
-- not a second one within a day, whoever presses the button; none to who has said no.
create or replace function brainops.ask_for_opt_in()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_key text := lower(btrim(new.address));
  v_id uuid;
begin
  if not (new.state = 'pending' and coalesce(new.evidence ->> 'double_opt_in', '') = 'true')
    and (brainops.contact_policy(new.tenant_id, 'email')).consent <> 'double_opt_in'
  then
    return null;
  end if;
  perform pg_advisory_xact_lock(hashtextextended('opt_in:' || new.tenant_id || ':' || v_key, 0));
  if exists (
    select from public.opt_in_requests
    where tenant_id = new.tenant_id and address_key = v_key and created_at > brainops.now() - interval '1 day'
  ) or exists (
    select from public.contact_suppressions
    where tenant_id = new.tenant_id and channel = 'email'
      and address_key in (v_key, brainops.address_digest(v_key))
      and (expires_at is null or expires_at > brainops.now())
  ) then
    return null;
  end if;
  insert into public.opt_in_requests (tenant_id, lead_id, address)
  values (new.tenant_id, new.lead_id, new.address)
  returning id into v_id;
  perform brainops.mail_opt_in(v_id);
  return null;
exception
  -- What was said is kept, even of an address that no mail can go to.
  when sqlstate 'OP004' then return null;
end;
$$;
