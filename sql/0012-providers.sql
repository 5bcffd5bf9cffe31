-- Accounts of tenants' own with the providers, and one ledger for the webhooks of all of them.
--
-- A credential is encrypted before it gets here: AES-256-GCM under a key of the tenant's own, which
-- is itself encrypted under BRAINOPS_SECRET_KEY (src/revenue/credentials). A dump of the database
-- gives nothing away, and one tenant's key opens no other tenant's credentials.
set local lock_timeout = '2s';

create table public.tenant_keys (
  id uuid primary key default gen_random_uuid(),
  tenant_id uuid not null references public.tenants (id),
  wrapped_key bytea not null,
  secret_key_id text not null,
  created_at timestamptz not null default now(),
  constraint tenant_keys_once unique (tenant_id)
);

comment on table public.tenant_keys is
  'The key that a tenant''s credentials are encrypted with, itself encrypted with BRAINOPS_SECRET_KEY. No client reads it.';
comment on column public.tenant_keys.wrapped_key is
  'Initialisation vector (12 bytes), tag (16), AES-256-GCM of the 32-byte key; the tenant''s id is authenticated with it.';
comment on column public.tenant_keys.secret_key_id is
  'Which BRAINOPS_SECRET_KEY it needs: the first 16 hexadecimal digits of that key''s sha256.';

create table public.provider_credentials (
  id uuid primary key default gen_random_uuid(),
  tenant_id uuid not null references public.tenants (id),
  provider text not null,
  name text not null default 'default',
  sealed bytea not null,
  hint text not null default '',
  active boolean not null default true,
  -- 244 random bits; two uuids, because Postgres has no other generator without an extension.
  endpoint_token text not null default replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''),
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint provider_credentials_once unique (tenant_id, provider, name),
  constraint provider_credentials_provider_known check (provider in ('sendgrid', 'twilio', 'stripe', 'slack', 'form')),
  constraint provider_credentials_name_short check (length(name) between 1 and 63)
);

create index provider_credentials_endpoint on public.provider_credentials (endpoint_token);

comment on table public.provider_credentials is
  'A tenant''s own accounts with providers. Written by `brainops tenant credential`; where there is an active one, the tenant''s rows go through it and not through the installation''s account.';
comment on column public.provider_credentials.provider is
  'sendgrid, twilio, stripe, slack (an incoming webhook), or form (the secret that signs a lead form).';
comment on column public.provider_credentials.name is
  'default for the account that is used; a form''s secret has the form''s name.';
comment on column public.provider_credentials.sealed is
  'The credential as JSON: initialisation vector (12 bytes), tag (16), AES-256-GCM under the tenant''s key; tenant, provider and name are authenticated with it.';
comment on column public.provider_credentials.hint is
  'What a person recognises the credential by: the last characters of its key.';
comment on column public.provider_credentials.endpoint_token is
  'Where the account posts its webhooks: /webhooks/<provider>[/…]/<endpoint_token>.';

select brainops.protect_table(t)
from unnest(array['public.tenant_keys', 'public.provider_credentials']::regclass[]) as t;

-- What is secret is for workers alone; a tenant sees that there is one, and may switch it off.
revoke all on public.tenant_keys, public.provider_credentials from brainops_tenant, brainops_service;
grant select (id, tenant_id, provider, name, hint, active, endpoint_token, created_at, updated_at)
on public.provider_credentials
to brainops_tenant, brainops_service;
grant update (active), delete on public.provider_credentials to brainops_tenant, brainops_service;

create trigger touch_updated_at
before update on public.provider_credentials
for each row
execute function brainops.touch_updated_at();

-- What an event is known by: the provider's id of it, and where it has none, its contents.
create function brainops.webhook_event_id(p_provider text, p_event jsonb)
returns text
language sql
immutable
set search_path = ''
as $$
  select
    case
      -- Ids have at most 100 characters; a longer one would not fit into the index, and would take
      -- the whole batch with it.
      when length(e.id) between 1 and 200 then e.id
      else 'md5:' || md5(p_event::text)
    end
  from
    (
      select
        p_event ->> case p_provider
          when 'sendgrid' then 'sg_event_id'
          when 'stripe' then 'id'
          else 'event_id'
        end as id
    ) as e;
$$;

comment on function brainops.webhook_event_id(text, jsonb) is
  'What an event is known by: sg_event_id, Stripe''s id, event_id (made by our own route for Twilio), else md5: of its contents.';

-- By our own id alone, which travels in SendGrid's custom arguments and in Twilio's callback URL:
-- it is what makes the same event the same row each time.
create function brainops.webhook_event_row(p_provider text, p_event jsonb)
returns uuid
language sql
immutable
set search_path = ''
as $$
  select
    brainops.uuid_or_null(
      p_event ->> case p_provider
        when 'sendgrid' then 'bo_msg'
        when 'twilio' then 'row'
      end
    );
$$;

comment on function brainops.webhook_event_row(text, jsonb) is
  'The id of the job row that an event says it is about; null where it says none.';

drop function brainops.record_webhook_events(text, jsonb);

-- Writes events down, each once, and sets jobs to process them. Returns how many were new.
create function brainops.record_webhook_events(p_provider text, p_events jsonb, p_tenant_id uuid default null)
returns int
language plpgsql
set search_path = ''
as $$
declare
  -- So many that the job's own cost does not count, so few that several workers share a large batch.
  c_per_job constant int := 500;
  v_ids uuid[];
begin
  with recorded as (
    insert into public.webhook_events (provider, provider_event_id, tenant_id, payload, signature_ok)
    select distinct on (i.event_id) p_provider, i.event_id, i.tenant_id, i.event, true
    from (
      select
        brainops.webhook_event_id(p_provider, e) as event_id,
        coalesce(p_tenant_id, q.tenant_id, s.tenant_id, a.tenant_id) as tenant_id,
        e as event
      from jsonb_array_elements(p_events) as e
      left join public.ai_email_queue as q
        on p_provider = 'sendgrid' and q.id = brainops.webhook_event_row(p_provider, e)
      left join lateral (
        select t.tenant_id from brainops.jobs as t
        where p_provider = 'twilio' and t.table_name = 'ai_sms_queue' and t.id = brainops.webhook_event_row(p_provider, e)
      ) as s on true
      left join lateral (
        select j.tenant_id from brainops.job_archive as j
        where q.id is null and s.tenant_id is null and j.row_id = brainops.webhook_event_row(p_provider, e)
        limit 1
      ) as a on true
    ) as i
    -- One order for everyone, so that two requests with the same events never wait for each other.
    order by i.event_id
    on conflict do nothing
    returning id
  )
  select array_agg(id) into v_ids from recorded;
  for i in 1..coalesce(cardinality(v_ids), 0) by c_per_job
  loop
    perform graphile_worker.add_job('webhook_event__process', json_build_object('ids', v_ids[i:i + c_per_job - 1]));
  end loop;
  return coalesce(cardinality(v_ids), 0);
end;
$$;

comment on function brainops.record_webhook_events(text, jsonb, uuid) is
  'Ledgers an array of verified events, each once, and sets a job to process them; returns how many were new. p_tenant_id: whose own account sent them, null for the installation''s.';

-- Each event stands alone: one that fails takes nothing with it, is tried three times in all, and
-- then stays as failed. apply_<provider>_event returns null, or why the event has no effect.
create or replace function brainops.process_webhook_events(p_ids uuid[])
returns table (status text, events int)
language plpgsql
set search_path = ''
as $$
declare
  c_attempts constant int := 3;
  v_row public.webhook_events;
  v_skip_reason text;
  v_error text;
begin
  for v_row in
    select * from public.webhook_events as w
    where w.id = any (p_ids) and w.status = 'pending'
    -- By person or object, for everyone who processes: two who have the same ones in hand (a
    -- repeated batch) never wait for each other crosswise.
    order by
      w.provider,
      lower(coalesce(w.payload ->> 'email', w.payload ->> 'From', w.payload #>> '{data,object,id}')),
      w.payload ->> 'event',
      w.payload ->> 'timestamp',
      w.id
    for update skip locked
  loop
    v_error := null;
    v_skip_reason := null;
    begin
      -- One statement each: a provider's function is looked for only when one of its events comes.
      case v_row.provider
        when 'sendgrid' then
          -- A tenant's own account may sign what it likes about its own mails, and no others.
          if v_row.tenant_id <> (brainops.find_email(v_row.payload)).tenant_id then
            v_skip_reason := 'it is about a message of another tenant';
          else
            v_skip_reason := brainops.apply_sendgrid_event(v_row.payload);
          end if;
        when 'twilio' then v_skip_reason := brainops.apply_twilio_event(v_row.payload, v_row.tenant_id);
        when 'stripe' then v_skip_reason := brainops.apply_stripe_event(v_row.payload, v_row.tenant_id);
        else v_skip_reason := 'nobody knows the provider ' || v_row.provider;
      end case;
    exception
      when others then v_error := sqlerrm;
    end;
    update public.webhook_events as w
    set
      attempts = w.attempts + 1,
      last_error = v_error,
      skip_reason = v_skip_reason,
      status = case
        when v_error is null and v_skip_reason is null then 'completed'
        when v_error is null then 'skipped'
        when w.attempts + 1 >= c_attempts then 'failed'
        else 'pending'
      end,
      processed_at = case when v_error is null or w.attempts + 1 >= c_attempts then brainops.now() end
    where w.id = v_row.id;
  end loop;
  perform pg_notify('brainops_jobs', 'webhook_events');
  return query
    select w.status, count(*)::int from public.webhook_events as w where w.id = any (p_ids) group by w.status;
end;
$$;

revoke execute
on function brainops.webhook_event_id(text, jsonb),
brainops.webhook_event_row(text, jsonb),
brainops.record_webhook_events(text, jsonb, uuid)
from public;
grant execute
on function brainops.webhook_event_id(text, jsonb),
brainops.webhook_event_row(text, jsonb),
brainops.record_webhook_events(text, jsonb, uuid)
to brainops_system;
