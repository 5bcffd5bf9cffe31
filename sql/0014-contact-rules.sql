-- Who may be written to, and when: consent, quiet hours, frequency caps, warm-up, holds. All of it
-- is asked by one function, brainops.contact_verdicts, inside the claiming transaction, for mail
-- and texts alike; so what it says is true at the moment it counts.
--
-- The order: no address (fail) · suppressed (skip) · consent (skip) · left its campaign (skip) ·
-- expired (skip) · no postal address (fail) · marketing on hold (defer) · quiet hours (defer) ·
-- frequency cap (defer) · hourly limit (defer). Deferred, never dropped: a row is written a new
-- scheduled_for and its reason, and is asked again then; what has waited longer than
-- contact_policies.expires_after is skipped as expired.
--
-- Transactional messages pass suppression (and metadata.expires_at) alone.
--
-- Lock order: job rows (brainops.claim), the tenant's key, persons' keys in order, hourly counters,
-- then what claim takes after its gate (rate limits, breakers).
--
-- Adding the generated column rewrites ai_email_queue: on a large queue run it in a quiet hour.
-- Old workers go on: they see a gate that says more.
set local lock_timeout = '2s';

------------------------------------------------------------------------------------------------
-- What a message is

alter table public.ai_email_queue
add column enrolment_id uuid,
add column touch_id uuid,
add column broadcast_id uuid,
add column first_due_at timestamptz,
-- Stored, because row level security lets no index on lower(recipient) be used: lower() might leak.
add column recipient_key text not null generated always as (lower(recipient)) stored,
add column is_marketing boolean not null generated always as (
  coalesce(metadata ->> 'marketing', '') = 'true'
  or coalesce(metadata ->> 'type', '') = 'marketing'
  or enrolment_id is not null
  or broadcast_id is not null
) stored;

comment on column public.ai_email_queue.enrolment_id is
  'Row of ai_nurture_campaigns that the mail belongs to; null for none. No foreign key: mails outlive enrolments.';
comment on column public.ai_email_queue.touch_id is 'Row of ai_campaign_touches that made the mail; null for none.';
comment on column public.ai_email_queue.first_due_at is
  'When the mail was due before the engine first put it off; null while it never did. A move by a client, or running it again, starts anew.';
comment on column public.ai_email_queue.recipient_key is
  'The recipient in lower case, as a column: behind row level security an index on lower(recipient) is not used.';
comment on column public.ai_email_queue.is_marketing is
  'Whether the rules for marketing hold: metadata.marketing true, metadata.type marketing, or a mail of a campaign or broadcast.';
comment on column public.ai_email_queue.metadata is
  'Variables for Liquid, and: marketing true (the rules for marketing, unsubscribe headers), expires_at (not to be sent later), priority high, lead_id, reply_to, category.';

grant insert (enrolment_id, touch_id), update (enrolment_id, touch_id)
on public.ai_email_queue
to brainops_tenant, brainops_service;

-- What counts against a cap: marketing that went, or may have gone.
create index ai_email_queue_contacted_lead on public.ai_email_queue (tenant_id, lead_id, started_at)
where is_marketing and lead_id is not null and status in ('processing', 'completed', 'unconfirmed');
create index ai_email_queue_contacted_address on public.ai_email_queue (tenant_id, recipient_key, started_at)
where is_marketing and status in ('processing', 'completed', 'unconfirmed');

-- Whoever puts a message off decides what its first due time is: the engine keeps it, a client who
-- moves the row sets a new one, and so does running it again.
create function brainops.keep_first_due()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  new.first_due_at := case
    when old.status not in ('pending', 'processing') then greatest(new.scheduled_for, brainops.now())
    when current_user = 'brainops_worker' or current_setting('brainops.spreading', true) = 'on'
      then coalesce(old.first_due_at, old.scheduled_for)
  end;
  return new;
end;
$$;

create trigger b2_keep_first_due
before update of scheduled_for, status on public.ai_email_queue
for each row
when
  (
    old.is_marketing
    and new.status = 'pending'
    and (old.scheduled_for is distinct from new.scheduled_for or old.status not in ('pending', 'processing'))
  )
execute function brainops.keep_first_due();

------------------------------------------------------------------------------------------------
-- Consent

create table public.contact_consents (
  id uuid primary key default gen_random_uuid(),
  tenant_id uuid not null references public.tenants (id),
  lead_id uuid,
  channel text not null,
  address text not null,
  address_key text not null generated always as (lower(btrim(address))) stored,
  state text not null,
  source text not null default 'client',
  evidence jsonb not null default '{}',
  occurred_at timestamptz not null default brainops.now(),
  created_at timestamptz not null default now(),
  constraint contact_consents_lead
    foreign key (tenant_id, lead_id) references public.revenue_leads (tenant_id, id)
      on delete set null (lead_id),
  constraint contact_consents_channel_known check (channel in ('email', 'sms')),
  constraint contact_consents_state_known check (state in ('granted', 'denied', 'pending')),
  constraint contact_consents_address_given check (btrim(address) <> ''),
  constraint contact_consents_evidence_is_object check (jsonb_typeof(evidence) = 'object')
);

create index contact_consents_last_word on public.contact_consents (tenant_id, channel, address_key, occurred_at desc);
create index contact_consents_lead_id on public.contact_consents (tenant_id, lead_id) where lead_id is not null;

comment on table public.contact_consents is
  'What people said about being written to, append only: the last word about an address counts.';
comment on column public.contact_consents.address is
  'An e-mail address, or a number in E.164 such as +13035550100; compared without regard to case.';
comment on column public.contact_consents.state is
  'granted, denied, or pending: asked to confirm (double opt-in) and not answered yet.';
comment on column public.contact_consents.source is
  'Where it was said: form, import, inbound_sms, double_opt_in, client, ….';
comment on column public.contact_consents.evidence is
  'What shows it: words, page, ip, …. confirmed_at marks a granted word as confirmed by the person (double opt-in).';
comment on column public.contact_consents.occurred_at is 'When it was said. Of two words at one instant denied counts.';

select brainops.protect_table('public.contact_consents');

-- Append only by rights; the engine itself may forget a person, and move what was said to the lead
-- that another was merged into.
revoke update, delete
on public.contact_consents
from brainops_tenant, brainops_service, brainops_worker, brainops_admin;

create trigger a0_resolve_lead_id
before insert on public.contact_consents
for each row
when (new.lead_id is not null)
execute function brainops.resolve_lead_id();

create function brainops.refuse_consent_change()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  -- The generated address_key is not there yet in new.
  if to_jsonb(new) - '{lead_id,address_key}'::text[] = to_jsonb(old) - '{lead_id,address_key}'::text[] then
    return new;
  end if;
  raise exception 'contact_consents is append only: update is refused'
    using errcode = 'insufficient_privilege', hint = 'Insert a new row: the last word about an address counts.';
end;
$$;

create trigger append_only
before update on public.contact_consents
for each row
execute function brainops.refuse_consent_change();

create function brainops.consent_state(p_tenant_id uuid, p_channel text, p_address text)
returns text
language sql
stable
set search_path = ''
as $$
  select state
  from public.contact_consents
  where tenant_id = p_tenant_id and channel = p_channel and address_key = lower(btrim(p_address))
  order by occurred_at desc, state = 'denied' desc, created_at desc
  limit 1;
$$;

comment on function brainops.consent_state(uuid, text, text) is
  'The last word about an address: granted, denied, pending; null for none.';

------------------------------------------------------------------------------------------------
-- A tenant's own rules

create table public.contact_policies (
  id uuid primary key default gen_random_uuid(),
  tenant_id uuid not null references public.tenants (id),
  channel text not null,
  window_start time,
  window_end time,
  weekdays int[],
  cap int,
  cap_window interval,
  consent text,
  spread interval,
  hourly_limit int,
  expires_after interval,
  constraint contact_policies_once unique (tenant_id, channel),
  constraint contact_policies_channel_known check (channel in ('email', 'sms')),
  constraint contact_policies_window_whole check ((window_start is null) = (window_end is null)),
  -- The law's hours for texts never do, and the two are intersected day by day.
  constraint contact_policies_sms_window_within_day check (channel <> 'sms' or window_start < window_end),
  constraint contact_policies_weekdays_known
    check (weekdays <@ array[1, 2, 3, 4, 5, 6, 7] and cardinality(weekdays) > 0),
  constraint contact_policies_cap_range check (cap between 1 and 10000),
  constraint contact_policies_cap_window_range check (cap_window between '1 hour' and '28 days'),
  constraint contact_policies_consent_known check (consent in ('opt_out', 'opt_in', 'double_opt_in')),
  constraint contact_policies_spread_range check (spread between '0' and '6 hours'),
  constraint contact_policies_hourly_limit_positive check (hourly_limit > 0),
  constraint contact_policies_expires_after_range check (expires_after between '1 hour' and '90 days')
);

comment on table public.contact_policies is
  'How a tenant may write to people, one row for each channel; without one, and where a column is null, the defaults of brainops.contact_policy().';
comment on column public.contact_policies.window_start is
  'Recipient''s wall clock from when marketing may go. Null: 08:00.';
comment on column public.contact_policies.window_end is
  'Until when, exclusive. Earlier than window_start (mail only): past midnight. The same as window_start: all day. Null: 21:00.';
comment on column public.contact_policies.weekdays is
  'Days on which the window may begin, 1 Monday to 7 Sunday. Null: every day.';
comment on column public.contact_policies.cap is
  'Marketing messages to one person, of all campaigns and both channels, within cap_window. Null: 3.';
comment on column public.contact_policies.cap_window is 'A sliding window of 1 hour to 28 days. Null: 7 days.';
comment on column public.contact_policies.consent is
  'opt_out: unless denied. opt_in: only when granted. double_opt_in: only when granted and confirmed. Null: opt_out for mail, opt_in for texts.';
comment on column public.contact_policies.spread is
  'Messages that wait for the window''s start go over this time after it (half of the window at most). Null: 1 hour.';
comment on column public.contact_policies.hourly_limit is
  'Marketing messages an hour. Null: no limit but the warm-up''s.';
comment on column public.contact_policies.expires_after is
  'Marketing that was put off for longer than this after it was first due is skipped. Null: 30 days.';

select brainops.protect_table('public.contact_policies');

create function brainops.contact_policy(p_tenant_id uuid, p_channel text)
returns public.contact_policies
language plpgsql
stable
set search_path = ''
as $$
declare
  v_policy public.contact_policies;
begin
  select * into v_policy from public.contact_policies where tenant_id = p_tenant_id and channel = p_channel;
  v_policy.tenant_id := p_tenant_id;
  v_policy.channel := p_channel;
  v_policy.window_start := coalesce(v_policy.window_start, '08:00');
  v_policy.window_end := coalesce(v_policy.window_end, '21:00');
  v_policy.weekdays := coalesce(v_policy.weekdays, '{1,2,3,4,5,6,7}');
  v_policy.cap := coalesce(v_policy.cap, 3);
  v_policy.cap_window := coalesce(v_policy.cap_window, '7 days');
  v_policy.consent := coalesce(v_policy.consent, case p_channel when 'sms' then 'opt_in' else 'opt_out' end);
  v_policy.spread := coalesce(v_policy.spread, '1 hour');
  v_policy.expires_after := coalesce(v_policy.expires_after, '30 days');
  return v_policy;
end;
$$;

comment on function brainops.contact_policy(uuid, text) is
  'A tenant''s rules for a channel, defaults filled in: 08:00 to 21:00 every day, 3 messages in 7 days, opt_out for mail and opt_in for texts.';

-- A cap can count only what the queue still holds.
create function brainops.check_cap_window()
returns trigger
language plpgsql
-- Tenants' windows are nobody else's to read, and job_tables is everybody's.
security definer
set search_path = ''
as $$
declare
  v_longest interval;
  v_kept interval;
begin
  if tg_table_name = 'contact_policies' then
    v_longest := new.cap_window;
    select min(archive_after) into v_kept from brainops.job_tables where channel in ('email', 'sms');
  else
    select greatest(max(cap_window), '7 days') into v_longest from public.contact_policies;
    v_kept := new.archive_after;
  end if;
  if v_longest > v_kept then
    raise exception 'cap_window: % is longer than the queue keeps what was sent (archive_after %)', v_longest, v_kept
      using errcode = 'OP014',
        hint = 'Keep rows longer (brainops.job_tables.archive_after), or count over a shorter window (contact_policies.cap_window).';
  end if;
  return new;
end;
$$;

alter function brainops.check_cap_window() owner to brainops_system;

create trigger b0_check_cap_window
before insert or update of cap_window on public.contact_policies
for each row
when (new.cap_window is not null)
execute function brainops.check_cap_window();
create trigger check_cap_window
before update of archive_after on brainops.job_tables
for each row
when (new.channel in ('email', 'sms'))
execute function brainops.check_cap_window();

------------------------------------------------------------------------------------------------
-- Where a person is: zones, and the law's hours

create table brainops.phone_zones (
  prefix text primary key,
  country text not null,
  state text,
  zones text[] not null,
  constraint phone_zones_prefix_is_digits check (prefix ~ '^[1-9][0-9]{0,6}$'),
  constraint phone_zones_country_is_code check (country ~ '^[A-Z]{2}$'),
  constraint phone_zones_state_is_code check (state ~ '^[A-Z]{2}$'),
  constraint phone_zones_has_zones check (cardinality(zones) > 0)
);

create index phone_zones_state on brainops.phone_zones (country, state);

comment on table brainops.phone_zones is
  'Time zones that a number may lie in, by its longest prefix here; filled by sql/0022. Admins may edit it.';
comment on column brainops.phone_zones.prefix is 'Leading digits of the number in E.164, without +.';
comment on column brainops.phone_zones.country is
  'ISO 3166 code of the country whose rules hold; US for its territories too, and for numbers that may be anywhere in it.';
comment on column brainops.phone_zones.state is
  'State, territory or province of the US and Canada; null for elsewhere, and where it is not known.';
comment on column brainops.phone_zones.zones is
  'IANA names, the most populous first. Zones with the same rules from 2026 on stand there once.';

create table brainops.contact_windows (
  id uuid primary key default gen_random_uuid(),
  country text not null,
  state text,
  channel text not null,
  weekdays int[] not null default '{1,2,3,4,5,6,7}',
  window_from time not null,
  window_to time not null,
  source text not null,
  constraint contact_windows_channel_known check (channel in ('email', 'sms')),
  constraint contact_windows_weekdays_known
    check (weekdays <@ array[1, 2, 3, 4, 5, 6, 7] and cardinality(weekdays) > 0),
  constraint contact_windows_within_day check (window_from < window_to)
);

create index contact_windows_country on brainops.contact_windows (country, channel, state);

comment on table brainops.contact_windows is
  'Hours in which the law lets a business contact people, by the recipient''s wall clock. The country''s and the state''s hold together, and the tenant''s own; state not known: every state''s. Admins may edit it.';
comment on column brainops.contact_windows.state is 'Null: the whole country.';
comment on column brainops.contact_windows.weekdays is
  '1 Monday to 7 Sunday. A state with rows, but none for a day, is closed on that day.';
comment on column brainops.contact_windows.source is 'Where the rule is written.';

insert into brainops.contact_windows (country, state, channel, weekdays, window_from, window_to, source)
values
  ('US', null, 'sms', '{1,2,3,4,5,6,7}', '08:00', '21:00', '47 CFR 64.1200(c)(1)'),
  ('US', 'FL', 'sms', '{1,2,3,4,5,6,7}', '08:00', '20:00', 'Fla. Stat. 501.616(6)'),
  ('US', 'OK', 'sms', '{1,2,3,4,5,6,7}', '08:00', '20:00', 'Oklahoma Telephone Solicitation Act of 2022'),
  ('US', 'MD', 'sms', '{1,2,3,4,5,6,7}', '08:00', '20:00', 'Maryland Stop the Spam Calls Act of 2023'),
  ('US', 'MS', 'sms', '{1,2,3,4,5,6,7}', '08:00', '20:00', 'Mississippi Telephone Solicitation Act'),
  ('US', 'NJ', 'sms', '{1,2,3,4,5,6,7}', '08:00', '20:00', 'New Jersey telemarketing law'),
  ('US', 'CT', 'sms', '{1,2,3,4,5,6,7}', '09:00', '20:00', 'Conn. Gen. Stat. 42-288a'),
  ('US', 'TX', 'sms', '{1,2,3,4,5,6}', '09:00', '21:00', 'Tex. Bus. & Com. Code 301.051'),
  ('US', 'TX', 'sms', '{7}', '12:00', '21:00', 'Tex. Bus. & Com. Code 301.051'),
  ('US', 'RI', 'sms', '{1,2,3,4,5}', '09:00', '18:00', 'Rhode Island telephone sales law'),
  ('US', 'RI', 'sms', '{6,7}', '10:00', '17:00', 'Rhode Island telephone sales law');

create table brainops.contact_caps (
  id uuid primary key default gen_random_uuid(),
  country text not null,
  state text,
  channel text not null,
  cap int not null,
  cap_window interval not null,
  source text not null,
  constraint contact_caps_channel_known check (channel in ('email', 'sms')),
  constraint contact_caps_cap_positive check (cap > 0),
  constraint contact_caps_window_range check (cap_window between '1 hour' and '28 days')
);

create index contact_caps_country on brainops.contact_caps (country, channel, state);

comment on table brainops.contact_caps is
  'How often the law lets a business contact one person on a channel; state null: the whole country. State not known: every state''s. Admins may edit it.';

insert into brainops.contact_caps (country, state, channel, cap, cap_window, source)
values ('US', 'FL', 'sms', 3, '24 hours', 'Fla. Stat. 501.616(6)');

grant select
on brainops.phone_zones, brainops.contact_windows, brainops.contact_caps
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;
grant insert, update, delete on brainops.phone_zones, brainops.contact_windows, brainops.contact_caps to brainops_admin;

-- The hours of each weekday in which both the tenant and the law allow it; null for a day without.
-- Where the two have no hour in common at all, the law's stand alone.
create function brainops.contact_hours(
  p_policy public.contact_policies,
  p_country text,
  p_state text,
  out opens time[],
  out closes time[]
)
returns record
language plpgsql
stable
set search_path = ''
as $$
declare
  v_law_from time[];
  v_law_to time[];
  v_wraps boolean := p_policy.window_end <= p_policy.window_start;
begin
  select array_agg(case when d = any (p_policy.weekdays) then p_policy.window_start end order by d),
    array_agg(case when d = any (p_policy.weekdays) then p_policy.window_end end order by d)
    into opens, closes
    from generate_series(1, 7) as d;
  if p_country is null or not exists (
    select from brainops.contact_windows as w where w.country = p_country and w.channel = p_policy.channel
  ) then
    return;
  end if;

  -- Whole country and state are a group each, and every group must agree.
  select array_agg(case when not closed then law_from end order by d), array_agg(case when not closed then law_to end order by d)
    into v_law_from, v_law_to
    from (
      select d, max(w.window_from) as law_from, min(w.window_to) as law_to,
        bool_or(w.id is null) or max(w.window_from) >= min(w.window_to) as closed
      from generate_series(1, 7) as d
      cross join (
        select distinct c.state
        from brainops.contact_windows as c
        where c.country = p_country and c.channel = p_policy.channel
          and (c.state is null or p_state is null or c.state = p_state)
      ) as g
      left join brainops.contact_windows as w
        on w.country = p_country and w.channel = p_policy.channel
        and w.state is not distinct from g.state and d = any (w.weekdays)
      group by d
    ) as days;
  if v_law_from is null then
    return;
  end if;
  if not v_wraps then
    select array_agg(case when f < t then f end order by d), array_agg(case when f < t then t end order by d)
      into opens, closes
      from (
        select d,
          case when opens[d] is not null then greatest(opens[d], v_law_from[d]) end as f,
          case when v_law_to[d] is not null then least(closes[d], v_law_to[d]) end as t
        from generate_series(1, 7) as d
      ) as both_allow;
  end if;
  if v_wraps or array_remove(opens, null) = '{}' then
    opens := v_law_from;
    closes := v_law_to;
  end if;
end;
$$;

------------------------------------------------------------------------------------------------
-- The clock on the wall

-- The instant in (p_from, p_to] at which the zone's offset changes, given that it differs between
-- the two. Offsets change on whole seconds, and never twice within a day.
create function brainops.offset_change(p_from timestamptz, p_to timestamptz, p_zone text)
returns timestamptz
language plpgsql
stable
parallel safe
set search_path = ''
set timezone = 'UTC'
as $$
declare
  v_before bigint := floor(extract(epoch from p_from));
  v_after bigint := floor(extract(epoch from p_to));
  v_offset constant interval := (p_from at time zone p_zone) - (p_from at time zone 'UTC');
  v_middle bigint;
begin
  while v_after - v_before > 1 loop
    v_middle := (v_before + v_after) / 2;
    if (to_timestamp(v_middle) at time zone p_zone) - (to_timestamp(v_middle) at time zone 'UTC') = v_offset then
      v_before := v_middle;
    else
      v_after := v_middle;
    end if;
  end loop;
  return to_timestamp(v_after);
end;
$$;

-- From when, at or after p_at, the zone's wall clock stands inside the hours, and until when at
-- least; upper is no later than the next change of the zone's offset. Goes from instant to instant
-- with the offset that holds there, so an hour that is skipped or comes twice is what people see
-- on their clocks. Null where the hours are empty.
create function brainops.zone_opening(p_at timestamptz, p_zone text, p_opens time[], p_closes time[])
returns tstzrange
language plpgsql
stable
parallel safe
set search_path = ''
set timezone = 'UTC' -- an interval of one day is 24 hours
as $$
declare
  v_at timestamptz := p_at;
  v_wall timestamp;
  v_start timestamp;
  v_end timestamp;
  v_to timestamptz;
  v_day int;
begin
  -- Each turn ends in an open hour, or goes on by up to a day.
  for i in 1..40 loop
    v_wall := v_at at time zone p_zone;
    v_start := null;
    -- A window that began yesterday may still be open.
    for d in -1..7 loop
      v_day := extract(isodow from v_wall::date + d);
      continue when p_opens[v_day] is null;
      v_end := v_wall::date + d + p_closes[v_day]
        + case when p_closes[v_day] <= p_opens[v_day] then interval '1 day' else '0' end;
      if v_end > v_wall then
        v_start := v_wall::date + d + p_opens[v_day];
        exit;
      end if;
    end loop;
    if v_start is null then
      return null;
    end if;

    v_to := v_at + least(case when v_start <= v_wall then v_end - v_wall else v_start - v_wall end, '1 day');
    if (v_to at time zone p_zone) - v_wall <> v_to - v_at then
      v_to := brainops.offset_change(v_at, v_to, p_zone);
    end if;
    if v_start <= v_wall then
      return tstzrange(v_at, v_to);
    end if;
    v_at := v_to;
  end loop;
  return null;
end;
$$;

-- The same for several zones at once. Where they have no instant in common within 14 days, the
-- first zone alone decides: it is the most populous one that a number may lie in.
create function brainops.contact_opening(p_at timestamptz, p_zones text[], p_opens time[], p_closes time[])
returns tstzrange
language plpgsql
stable
parallel safe
set search_path = ''
as $$
declare
  v_at timestamptz := p_at;
  v_common tstzrange;
  v_open tstzrange;
begin
  while v_at <= p_at + interval '336 hours' loop
    v_common := tstzrange(v_at, null);
    for i in 1..cardinality(p_zones) loop
      v_open := brainops.zone_opening(v_at, p_zones[i], p_opens, p_closes);
      exit when v_open is null or lower(v_open) > v_at;
      v_common := v_common * v_open;
    end loop;
    exit when v_open is null;
    if lower(v_open) = v_at then
      return v_common;
    end if;
    -- No earlier instant is open in that zone.
    v_at := lower(v_open);
  end loop;
  return brainops.zone_opening(p_at, p_zones[1], p_opens, p_closes);
end;
$$;

create function brainops.next_contact_time(
  p_at timestamptz,
  p_zones text[],
  p_from time,
  p_to time,
  p_weekdays int[] default null
)
returns timestamptz
language plpgsql
stable
parallel safe
set search_path = ''
as $$
declare
  v_opens time[];
  v_closes time[];
begin
  if coalesce(cardinality(p_zones), 0) = 0 or array_position(p_zones, null) is not null or not isfinite(p_at) then
    raise exception 'zones: % at % names no place and time', coalesce(p_zones::text, 'null'), coalesce(p_at::text, 'null')
      using errcode = 'OP015', hint = 'Give at least one IANA time zone, e.g. America/Denver, and a finite instant.';
  end if;
  select array_agg(case when p_weekdays is null or d = any (p_weekdays) then p_from end order by d),
    array_agg(case when p_weekdays is null or d = any (p_weekdays) then p_to end order by d)
    into v_opens, v_closes
    from generate_series(1, 7) as d;
  return lower(brainops.contact_opening(p_at, p_zones, v_opens, v_closes));
end;
$$;

comment on function brainops.next_contact_time(timestamptz, text[], time, time, int[]) is
  'The first instant at or after p_at at which the wall clock stands in [from, to) in every zone, on a weekday (1 Monday to 7 Sunday, null: any) on which the window begins. to before from: past midnight; the same: 24 hours. No common instant within 14 days: the first zone''s alone. Null: no weekday.';

-- When a message that may not go at p_at may: at p_at itself if that is open, else over the first
-- part of the next open hours, so that a morning does not burst.
create function brainops.spread_contact_time(
  p_at timestamptz,
  p_zones text[],
  p_opens time[],
  p_closes time[],
  p_spread interval
)
returns timestamptz
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_open tstzrange := brainops.contact_opening(p_at, p_zones, p_opens, p_closes);
begin
  return case
    when lower(v_open) <= p_at then p_at
    -- No hour is open at all: the rules may be mended by tomorrow.
    else coalesce(
      lower(v_open) + random() * least(p_spread, (upper(v_open) - lower(v_open)) / 2),
      p_at + interval '24 hours'
    )
  end;
end;
$$;

------------------------------------------------------------------------------------------------
-- Warm-up, hourly limits, holds

create table public.sender_warmups (
  id uuid primary key default gen_random_uuid(),
  tenant_id uuid not null references public.tenants (id),
  channel text not null,
  started_on date not null,
  plan int[] not null,
  constraint sender_warmups_once unique (tenant_id, channel),
  constraint sender_warmups_channel_known check (channel in ('email', 'sms')),
  constraint sender_warmups_plan_given check (cardinality(plan) > 0 and 0 < all (plan))
);

comment on table public.sender_warmups is
  'New senders begin slowly: marketing messages an hour, by day. Written by brainops.start_warmup; past the plan''s last day there is no limit.';
comment on column public.sender_warmups.started_on is 'The plan''s first day, in the tenant''s zone.';
comment on column public.sender_warmups.plan is 'Messages an hour on the first day, the second, ….';

create table brainops.contact_counts (
  tenant_id uuid not null references public.tenants (id)
    on delete cascade,
  channel text not null,
  hour timestamptz not null,
  taken int not null default 0,
  promised int not null default 0,
  primary key (tenant_id, channel, hour)
);

comment on table brainops.contact_counts is
  'Marketing messages let through under an hourly limit or a warm-up, by hour; its row is the lock. Kept for 3 days.';
comment on column brainops.contact_counts.promised is
  'Rows put off to this hour, so that a backlog is spread over the hours that it needs.';

create table public.marketing_holds (
  id uuid primary key default gen_random_uuid(),
  tenant_id uuid not null references public.tenants (id),
  channel text not null,
  reason text not null,
  since timestamptz not null default brainops.now(),
  held_by name not null default session_user,
  lifted_at timestamptz,
  constraint marketing_holds_channel_known check (channel in ('email', 'sms')),
  constraint marketing_holds_reason_given check (btrim(reason) <> '')
);

create unique index marketing_holds_once on public.marketing_holds (tenant_id, channel) where lifted_at is null;

comment on table public.marketing_holds is
  'Marketing at a standstill, for a tenant and channel; what is transactional goes on. brainops.lift_marketing_hold() ends it.';
comment on column public.marketing_holds.lifted_at is 'Null while it holds.';

select brainops.protect_table(t)
from unnest(array['public.sender_warmups', 'brainops.contact_counts', 'public.marketing_holds']::regclass[]) as t;

-- What protects a sender's name is not the tenant's to take away.
revoke insert, update, delete
on public.sender_warmups, brainops.contact_counts, public.marketing_holds
from brainops_tenant, brainops_service, brainops_worker;

create function brainops.start_warmup(p_tenant text, p_channel text, p_plan int[] default null)
returns void
language sql
set search_path = ''
as $$
  insert into public.sender_warmups as w (tenant_id, channel, started_on, plan)
  select
    t.id,
    p_channel,
    (brainops.now() at time zone t.time_zone)::date,
    -- SendGrid's automatic warm-up of an IP address, messages an hour by day.
    coalesce(
      p_plan,
      '{20,28,39,55,77,108,151,211,295,413,579,810,1000,1587,2222,3111,4356,6098,8583,11953,16734,23427,32798,45917,64284,89998,125997,176395,246953,345735,484029,677640,948696,1328175,1859444,2603222}'
    )
  from public.tenants as t
  where t.id = brainops.tenant_id_of(p_tenant)
  on conflict (tenant_id, channel) do update
    set
      started_on = excluded.started_on,
      plan = excluded.plan;
$$;

comment on function brainops.start_warmup(text, text, int[]) is
  'Begins a warm-up today: marketing of the tenant (slug or id) on the channel is limited by hour, more each day. Plan null: SendGrid''s, 36 days from 20 an hour. Deleting the row of sender_warmups ends it.';

-- How many marketing messages may go in the hour of p_at; null for no limit.
create function brainops.hourly_limit(p_tenant_id uuid, p_channel text, p_at timestamptz)
returns int
language sql
stable
set search_path = ''
as $$
  select least(p.hourly_limit, w.plan[greatest((p_at at time zone t.time_zone)::date - w.started_on, 0) + 1])
  from
    public.tenants as t
    left join public.contact_policies as p on p.tenant_id = t.id and p.channel = p_channel
    left join public.sender_warmups as w on w.tenant_id = t.id and w.channel = p_channel
  where t.id = p_tenant_id;
$$;

comment on function brainops.hourly_limit(uuid, text, timestamptz) is
  'Marketing messages that may go in the hour of an instant: the lower of the warm-up''s and the policy''s; null for no limit.';

-- Takes places in this hour for up to p_n messages. Answers with an instant for each: null may go
-- now, the others are put off to hours that have room for them.
create function brainops.take_hourly_places(p_tenant_id uuid, p_channel text, p_n int)
returns timestamptz[]
language plpgsql
security definer
set search_path = ''
set timezone = 'UTC'
as $$
declare
  c_ahead constant int := 14 * 24;
  v_now constant timestamptz := brainops.now();
  v_hour timestamptz := date_trunc('hour', v_now);
  v_limit int := brainops.hourly_limit(p_tenant_id, p_channel, v_now);
  v_room int;
  v_take int;
  v_places timestamptz[] := '{}';
begin
  -- While the sender is out of reach nothing but a probe goes: that takes no places.
  if v_limit is null or exists (
    select
    from brainops.circuit_breakers as b
    inner join brainops.job_tables as j on b.sender in (j.sender, j.sender || ':' || p_tenant_id)
    where j.channel = p_channel and b.opened_at is not null
  ) then
    return array_fill(null::timestamptz, array[p_n]);
  end if;

  insert into brainops.contact_counts as c (tenant_id, channel, hour)
  values (p_tenant_id, p_channel, v_hour)
  on conflict (tenant_id, channel, hour) do update set taken = c.taken
  returning v_limit - c.taken into v_room;
  v_take := greatest(least(p_n, v_room), 0);
  if v_take > 0 then
    update brainops.contact_counts set taken = taken + v_take
    where tenant_id = p_tenant_id and channel = p_channel and hour = v_hour;
    v_places := array_fill(null::timestamptz, array[v_take]);
  end if;

  for i in 1..c_ahead loop
    exit when cardinality(v_places) = p_n;
    v_hour := v_hour + interval '1 hour';
    v_limit := coalesce(brainops.hourly_limit(p_tenant_id, p_channel, v_hour), p_n);
    insert into brainops.contact_counts as c (tenant_id, channel, hour)
    values (p_tenant_id, p_channel, v_hour)
    on conflict (tenant_id, channel, hour) do update set taken = c.taken
    returning v_limit - c.promised into v_room;
    v_take := case when i = c_ahead then p_n - cardinality(v_places) else least(p_n - cardinality(v_places), v_room) end;
    continue when v_take <= 0;
    update brainops.contact_counts set promised = promised + v_take
    where tenant_id = p_tenant_id and channel = p_channel and hour = v_hour;
    v_places := v_places || (select array_agg(v_hour + random() * interval '55 minutes') from generate_series(1, v_take));
  end loop;
  delete from brainops.contact_counts
  where tenant_id = p_tenant_id and channel = p_channel and hour < v_now - interval '3 days';
  return v_places;
end;
$$;

alter function brainops.take_hourly_places(uuid, text, int) owner to brainops_system;

comment on function brainops.take_hourly_places(uuid, text, int) is
  'Places for n marketing messages under the hourly limit: null may go now, an instant is when to ask again.';

------------------------------------------------------------------------------------------------
-- The gate

create type brainops.contact as (
  id uuid,
  tenant_id uuid,
  lead_id uuid,
  address text,
  is_marketing boolean,
  enrolment_id uuid,
  recipient text,
  first_due_at timestamptz,
  expires_at text
);

comment on type brainops.contact is
  'A message that asks whether it may go. address: null where the lead is gone or has none; recipient: what the row says. expires_at: as in its metadata.';

-- Who and where each message's recipient is. A person is the lead that the row names, else the one
-- with the address; and every other lead with that address or number, since one pair of eyes reads
-- it. Laterals with a limit look rows up one by one through an index, however many a tenant has.
create function brainops.contact_places(p_channel text, p_rows brainops.contact[])
returns table (
  place int,
  id uuid,
  lead_ids uuid[],
  emails text[],
  phones text[],
  zones text[],
  country text,
  state text
)
language plpgsql
stable
set search_path = ''
as $$
begin
  return query
    with
      asked as materialized (
        select r.n::int as n, r.id, r.tenant_id, r.lead_id,
          case when p_channel = 'email' then lower(r.address) end as email,
          case when p_channel = 'sms' then coalesce(brainops.phone_e164(r.address), r.address) end as phone
        from unnest(p_rows) with ordinality
          as r (id, tenant_id, lead_id, address, is_marketing, enrolment_id, recipient, first_due_at, expires_at, n)
      ),
      known as materialized (
        select a.*, l.id as known_id, l.email_key, l.phone_e164, l.time_zone, l.lead_state
        from asked as a
        left join lateral (
          select f.* from (
            (
              select i.id, i.email_key, i.phone_e164, i.time_zone, i.state as lead_state from public.revenue_leads as i
              where i.tenant_id = a.tenant_id and i.id = a.lead_id
              limit 1
            )
            union all
            (
              select i.id, i.email_key, i.phone_e164, i.time_zone, i.state from public.revenue_leads as i
              where a.lead_id is null and i.tenant_id = a.tenant_id and i.email_key = a.email
              limit 1
            )
            union all
            (
              select i.id, i.email_key, i.phone_e164, i.time_zone, i.state from public.revenue_leads as i
              where a.lead_id is null and i.tenant_id = a.tenant_id and i.phone_e164 = a.phone
              order by i.created_at, i.id
              limit 1
            )
          ) as f
          limit 1
        ) as l on true
      ),
      others as (
        select k.n, array_agg(o.id) as ids, array_agg(o.email_key) as emails, array_agg(o.phone_e164) as phones
        from known as k
        cross join lateral (
          (
            select i.id, i.email_key, i.phone_e164 from public.revenue_leads as i
            where i.tenant_id = k.tenant_id and i.phone_e164 = k.phone_e164 and i.id <> k.known_id
            limit 100
          )
          union all
          (
            -- The row's address may be another than its lead's.
            select i.id, i.email_key, i.phone_e164 from public.revenue_leads as i
            where k.email <> k.email_key and i.tenant_id = k.tenant_id and i.email_key = k.email
            limit 1
          )
          union all
          (
            select i.id, i.email_key, i.phone_e164 from public.revenue_leads as i
            where i.tenant_id = k.tenant_id and i.phone_e164 = k.phone and k.phone is distinct from k.phone_e164
              and i.id is distinct from k.known_id
            limit 100
          )
        ) as o
        group by k.n
      ),
      zoned as (
        -- The longest prefix that is known.
        select distinct on (k.n) k.n, pz.zones, pz.country, pz.state
        from known as k
        cross join generate_series(1, 7) as digits
        inner join brainops.phone_zones as pz on pz.prefix = substr(coalesce(k.phone, k.phone_e164), 2, digits)
        where p_channel = 'sms' or k.time_zone is null
        order by k.n, length(pz.prefix) desc
      )
    select
      k.n,
      k.id,
      array_remove(array[coalesce(k.known_id, k.lead_id)] || o.ids, null),
      array_remove(array[coalesce(k.email, k.email_key), case when k.email <> k.email_key then k.email_key end] || o.emails, null),
      array_remove(array[coalesce(k.phone, k.phone_e164), case when k.phone <> k.phone_e164 then k.phone_e164 end] || o.phones, null),
      case when k.time_zone is not null then array[k.time_zone] else coalesce(z.zones, array[t.time_zone]) end,
      case when p_channel = 'sms' then z.country end,
      case when p_channel = 'sms' then coalesce(
        (select pz.state from brainops.phone_zones as pz where pz.country = z.country and pz.state = upper(btrim(k.lead_state)) limit 1),
        z.state
      ) end
    from known as k
    inner join public.tenants as t on t.id = k.tenant_id
    left join others as o on o.n = k.n
    left join zoned as z on z.n = k.n;
end;
$$;

-- Two claims that concern one person wait for each other here, whichever channel they are for;
-- what comes after sees what the other has written. For many persons one key of the tenant stands
-- for all of them: a claim of 1,000 rows does not fill the table of locks.
create function brainops.lock_persons(p_tenant_id uuid, p_keys text[])
returns void
language plpgsql
set search_path = ''
as $$
declare
  c_most constant int := 64;
  v_key bigint;
begin
  if cardinality(p_keys) > c_most then
    perform pg_advisory_xact_lock(hashtextextended('brainops persons of ' || p_tenant_id, 0));
    return;
  end if;
  perform pg_advisory_xact_lock_shared(hashtextextended('brainops persons of ' || p_tenant_id, 0));
  for v_key in
    select distinct hashtextextended('brainops person ' || p_tenant_id || ' ' || k, 0) from unnest(p_keys) as k order by 1
  loop
    perform pg_advisory_xact_lock(v_key);
  end loop;
end;
$$;

create function brainops.timestamptz_or_null(p_text text)
returns timestamptz
language plpgsql
stable
set search_path = ''
set timezone = 'UTC'
as $$
begin
  return p_text::timestamptz;
exception
  when others then return null;
end;
$$;

comment on function brainops.timestamptz_or_null(text) is
  'The instant that a text spells (UTC where it names no zone), or null: never an error.';

-- Where a message stands on its way through the rules for marketing.
create type brainops.contact_place as (
  id uuid,
  lead_ids uuid[],
  emails text[],
  phones text[],
  zones text[],
  country text,
  state text,
  opens time[],
  closes time[],
  goes_at timestamptz
);

-- Consent, and what else ends or fails a message for good; a hold, which does not.
create function brainops.consent_verdicts(p_policy public.contact_policies, p_rows brainops.contact[])
returns setof brainops.verdict
language plpgsql
stable
set search_path = ''
as $$
declare
  -- brainops.lift_marketing_hold brings the rows forward.
  c_ask_held_again constant interval := '6 hours';
  c_ask_paused_again constant interval := '1 hour';
  v_now constant timestamptz := brainops.now();
  v_exits jsonb := '{}';
  v_pauses jsonb := '{}';
  v_settings jsonb := (select settings from public.tenants where id = p_policy.tenant_id);
  v_hold text := (
    select reason from public.marketing_holds
    where tenant_id = p_policy.tenant_id and channel = p_policy.channel and lifted_at is null
  );
begin
  if exists (select from unnest(p_rows) as r where r.enrolment_id is not null) then
    select jsonb_object_agg(e.id, brainops.enrolment_exit_reason(e.id)), jsonb_object_agg(e.id, brainops.enrolment_pause_reason(e.id))
      into v_exits, v_pauses
      from (select distinct enrolment_id from unnest(p_rows) where enrolment_id is not null) as e (id);
  end if;
  return query
    select
      d.id,
      case
        when d.skip is not null then 'skip'
        when d.fail is not null then 'fail'
        else 'defer'
      end,
      case
        when d.skip is not null or d.fail is not null then null
        when v_hold is null then v_now + c_ask_paused_again
        else v_now + c_ask_held_again * (1 + random())
      end,
      coalesce(d.skip, d.fail, 'marketing on hold: ' || v_hold, d.paused)
    from (
      select
        r.id,
        case
          when c.state = 'denied' then 'consent denied'
          when p_policy.consent <> 'opt_out' and c.state is null then 'no consent for ' || p_policy.channel
          when p_policy.consent <> 'opt_out' and (c.state = 'pending' or p_policy.consent = 'double_opt_in' and not c.confirmed)
            then 'double opt-in not confirmed'
          when v_exits ->> r.enrolment_id::text is not null then 'left the campaign: ' || (v_exits ->> r.enrolment_id::text)
          when r.first_due_at < v_now - p_policy.expires_after
            then format('expired: it was due at %s and could not go within %s', r.first_due_at, p_policy.expires_after)
        end as skip,
        case
          when p_policy.channel = 'email' and coalesce(btrim(v_settings ->> 'postal_address'), '') = ''
            then 'the law wants a postal address in marketing mail: give tenants.settings a postal_address, and set status to pending'
        end as fail,
        v_pauses ->> r.enrolment_id::text as paused
      from (select u.*, lower(btrim(u.address)) as key from unnest(p_rows) as u offset 0) as r
      left join lateral (
        select w.state,
          w.evidence ? 'confirmed_at' or exists (
            select from public.contact_consents as asked
            where asked.tenant_id = w.tenant_id and asked.channel = w.channel and asked.address_key = w.address_key
              and asked.state = 'pending' and asked.occurred_at <= w.occurred_at
          ) as confirmed
        from public.contact_consents as w
        where w.tenant_id = r.tenant_id and w.channel = p_policy.channel and w.address_key = r.key
        order by w.occurred_at desc, w.state = 'denied' desc, w.created_at desc
        limit 1
      ) as c on true
    ) as d
    where d.skip is not null or d.fail is not null or v_hold is not null or d.paused is not null;
end;
$$;

-- When marketing went, or may have gone, to the person of each place since p_since, newest first and
-- no more than p_most; own: on the channel that asks. Places without any are left out. A person is
-- found by each lead and each address.
create function brainops.contact_history(
  p_tenant_id uuid,
  p_channel text,
  p_places brainops.contact_place[],
  p_since timestamptz,
  p_most int
)
returns table (place int, every timestamptz[], own timestamptz[])
language plpgsql
-- Volatile: it must see what another claim has committed while this one waited for a person.
volatile
set search_path = ''
as $$
begin
  return query
    with
      places as materialized (
        select n::int as n, p.lead_ids, p.emails, p.phones
        from unnest(p_places) with ordinality
          as p (id, lead_ids, emails, phones, zones, country, state, opens, closes, goes_at, n)
      )
    select
      h.n,
      array_agg(h.started_at order by h.started_at desc),
      coalesce(array_agg(h.started_at order by h.started_at desc) filter (where h.channel = p_channel), '{}')
    from (
      select k.n, 'email' as channel, m.id, m.started_at
      from (select n, unnest(lead_ids) as lead_id from places) as k
      cross join lateral (
        select q.id, q.started_at from public.ai_email_queue as q
        where q.tenant_id = p_tenant_id and q.lead_id = k.lead_id and q.started_at > p_since
          and q.is_marketing and q.status in ('processing', 'completed', 'unconfirmed')
        order by q.started_at desc
        limit p_most
      ) as m
      union
      select k.n, 'email', m.id, m.started_at
      from (select n, unnest(emails) as email from places) as k
      cross join lateral (
        select q.id, q.started_at from public.ai_email_queue as q
        where q.tenant_id = p_tenant_id and q.recipient_key = k.email and q.started_at > p_since
          and q.is_marketing and q.status in ('processing', 'completed', 'unconfirmed')
        order by q.started_at desc
        limit p_most
      ) as m
      union
      select k.n, 'sms', m.id, m.started_at
      from (select n, unnest(lead_ids) as lead_id from places) as k
      cross join lateral (
        select q.id, q.started_at from public.ai_sms_queue as q
        where q.tenant_id = p_tenant_id and q.lead_id = k.lead_id and q.started_at > p_since
          and q.is_marketing and q.status in ('processing', 'completed', 'unconfirmed')
        order by q.started_at desc
        limit p_most
      ) as m
      union
      select k.n, 'sms', m.id, m.started_at
      from (select n, unnest(phones) as phone from places) as k
      cross join lateral (
        select q.id, q.started_at from public.ai_sms_queue as q
        where q.tenant_id = p_tenant_id and q.recipient = k.phone and q.started_at > p_since
          and q.is_marketing and q.status in ('processing', 'completed', 'unconfirmed')
        order by q.started_at desc
        limit p_most
      ) as m
    ) as h
    group by h.n;
end;
$$;

-- The frequency caps: the tenant's, over both channels, and the law's, over the channel alone.
-- Messages of one batch count for each other, in order. A row that is over waits until the
-- message goes out of the window in whose place it comes, and until the hours allow it.
create function brainops.cap_verdicts(p_policy public.contact_policies, p_places brainops.contact_place[])
returns setof brainops.verdict
language plpgsql
volatile
set search_path = ''
set timezone = 'UTC' -- a day is 24 hours, in the count and in when it ends
as $$
declare
  v_now constant timestamptz := brainops.now();
  v_law record;
  v_keys text[];
  v_shared text[];
  v_place brainops.contact_place;
  v_asked record;
  v_going brainops.contact_place[] := '{}';
  v_waiting brainops.contact_place[] := '{}';
  v_same int;
  v_ahead int;
  v_frees timestamptz;
begin
  select array_agg(k.key), array_agg(k.key) filter (where k.times > 1) into v_keys, v_shared
    from (
      select key, count(*) as times
      from unnest(p_places) as p
      cross join unnest(p.lead_ids::text[] || p.emails || p.phones) as key
      group by key
    ) as k;
  perform brainops.lock_persons(p_policy.tenant_id, v_keys);

  select max(cap) as cap, max(cap_window) as cap_window into v_law
    from brainops.contact_caps where channel = p_policy.channel;
  -- Who was not written to yet, and is there once, may be written to: no cap is below 1.
  for v_asked in
    select row(p.id, p.lead_ids, p.emails, p.phones, p.zones, p.country, p.state, p.opens, p.closes, p.goes_at)::brainops.contact_place as place, coalesce(h.every, '{}') as every, coalesce(h.own, '{}') as own, law.cap, law.cap_window
    from unnest(p_places) with ordinality
      as p (id, lead_ids, emails, phones, zones, country, state, opens, closes, goes_at, n)
    left join brainops.contact_history(
      p_policy.tenant_id, p_policy.channel, p_places, v_now - greatest(p_policy.cap_window, v_law.cap_window),
      greatest(p_policy.cap, v_law.cap)
    ) as h on h.place = p.n
    left join lateral (
      select min(c.cap) as cap, max(c.cap_window) as cap_window
      from brainops.contact_caps as c
      where c.country = p.country and c.channel = p_policy.channel
        and (c.state is null or p.state is null or c.state = p.state)
    ) as law on p.country is not null
    where h.place is not null or p.lead_ids::text[] || p.emails || p.phones && v_shared
    order by p.n
  loop
    v_place := v_asked.place;
    v_same := 0;
    v_ahead := 0;
    if v_shared is not null then
      select count(*) into v_same from unnest(v_going) as g
        where g.lead_ids && v_place.lead_ids or g.emails && v_place.emails or g.phones && v_place.phones;
      select count(*) into v_ahead from unnest(v_waiting) as w
        where w.lead_ids && v_place.lead_ids or w.emails && v_place.emails or w.phones && v_place.phones;
    end if;
    v_frees := greatest(
      brainops.cap_frees_at(v_now, v_same, v_ahead, v_asked.every, p_policy.cap, p_policy.cap_window),
      brainops.cap_frees_at(v_now, v_same, v_ahead, v_asked.own, v_asked.cap, v_asked.cap_window)
    );
    if v_frees is null then
      if v_shared is not null then
        v_going := v_going || v_place;
      end if;
    else
      if v_shared is not null then
        v_waiting := v_waiting || v_place;
      end if;
      return next row(
        v_place.id,
        'defer',
        brainops.spread_contact_time(v_frees, v_place.zones, v_place.opens, v_place.closes, p_policy.spread),
        'frequency cap: this person was written to as often as is allowed; a place is free from ' || v_frees
      )::brainops.verdict;
    end if;
  end loop;
end;
$$;

-- When a place under a cap is free: null for now. p_times are messages within any window, newest
-- first; p_same rows of this batch go before, p_ahead others wait already, each for its own place.
create function brainops.cap_frees_at(
  p_now timestamptz,
  p_same int,
  p_ahead int,
  p_times timestamptz[],
  p_cap int,
  p_window interval
)
returns timestamptz
language plpgsql
stable
set search_path = ''
as $$
declare
  v_times timestamptz[] := array_fill(p_now, array[p_same])
    || array(select t from unnest(p_times) as t where t > p_now - p_window order by t desc);
begin
  return case when cardinality(v_times) >= p_cap then v_times[greatest(p_cap - p_ahead, 1)] + p_window end;
end;
$$;

-- Everything that is asked of marketing, for rows of one tenant.
create function brainops.marketing_verdicts(p_tenant_id uuid, p_channel text, p_rows brainops.contact[])
returns setof brainops.verdict
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_now constant timestamptz := brainops.now();
  v_policy public.contact_policies := brainops.contact_policy(p_tenant_id, p_channel);
  v_rows brainops.contact[];
  v_places brainops.contact_place[];
  v_verdicts brainops.verdict[];
begin
  v_verdicts := array(select v from brainops.consent_verdicts(v_policy, p_rows) as v);
  return query select * from unnest(v_verdicts);
  -- Unnest keeps the order: who comes first has the first claim to a place.
  select array_agg(r) into v_rows
    from unnest(p_rows) as r
    where r.id not in (select v.id from unnest(v_verdicts) as v);
  if v_rows is null then
    return;
  end if;

  -- Reckoned once for each set of zones and laws, not for each row.
  with
    asked as materialized (
      select * from brainops.contact_places(p_channel, v_rows)
    ),
    hours as materialized (
      select g.*, h.opens, h.closes, brainops.contact_opening(v_now, g.zones, h.opens, h.closes) as open
      from (select distinct zones, country, state from asked) as g
      cross join lateral brainops.contact_hours(v_policy, g.country, g.state) as h
    )
  select array_agg(
    row(
      a.id, a.lead_ids, a.emails, a.phones, a.zones, a.country, a.state, h.opens, h.closes,
      case
        when lower(h.open) <= v_now then v_now
        -- No hour is open at all: the rules may be mended by tomorrow.
        else coalesce(
          lower(h.open) + random() * least(v_policy.spread, (upper(h.open) - lower(h.open)) / 2),
          v_now + interval '24 hours'
        )
      end
    )::brainops.contact_place
    order by a.place
  )
    into v_places
    from asked as a
    inner join hours as h on h.zones = a.zones and h.country is not distinct from a.country and h.state is not distinct from a.state;
  -- A message that got lost on the way here would go unasked.
  assert cardinality(v_places) = cardinality(v_rows), 'contact_places left out a message';
  return query
    select p.id, 'defer', p.goes_at, 'quiet hours in ' || array_to_string(p.zones, ', ')
    from unnest(v_places) as p
    where p.goes_at > v_now;
  select array_agg(p) into v_places from unnest(v_places) as p where p.goes_at <= v_now;
  if v_places is null then
    return;
  end if;

  v_verdicts := array(select v from brainops.cap_verdicts(v_policy, v_places) as v);
  return query select * from unnest(v_verdicts);
  -- What waits for the slot of a rate limit asks again then, and takes another place: of both limits
  -- neither is exceeded, at the price of places that nobody used.
  select array_agg(p) into v_places from unnest(v_places) as p where p.id not in (select v.id from unnest(v_verdicts) as v);
  if v_places is not null then
    return query select * from brainops.hourly_verdicts(v_policy, v_places);
  end if;
end;
$$;

create function brainops.hourly_verdicts(p_policy public.contact_policies, p_places brainops.contact_place[])
returns setof brainops.verdict
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_times timestamptz[] := brainops.take_hourly_places(p_policy.tenant_id, p_policy.channel, cardinality(p_places));
begin
  return query
    select
      p.id,
      'defer',
      brainops.spread_contact_time(t.until, p.zones, p.opens, p.closes, p_policy.spread),
      'hourly limit: as many messages as the warm-up or hourly_limit allows have gone in this hour'
    from unnest(p_places) with ordinality
      as p (id, lead_ids, emails, phones, zones, country, state, opens, closes, goes_at, n)
    inner join unnest(v_times) with ordinality as t (until, n) on t.n = p.n
    where t.until is not null;
end;
$$;

-- Asked for each message: without a search_path, so that it is inlined.
create or replace function brainops.address_digest(p_address text)
returns text
language sql
immutable
parallel safe
as $$
  select
    pg_catalog.textcat(
      'sha256:',
      pg_catalog.encode(
        pg_catalog.sha256(pg_catalog.convert_to(pg_catalog.lower(pg_catalog.btrim(p_address)), 'UTF8')),
        'hex'
      )
    );
$$;

create function brainops.contact_verdicts(p_channel text, p_rows brainops.contact[])
returns setof brainops.verdict
language plpgsql
volatile
set search_path = ''
set jit = off -- compiling the look-ups of 1,000 rows takes longer than they do
as $$
declare
  v_now constant timestamptz := brainops.now();
  v_verdicts brainops.verdict[];
  v_tenant_id uuid;
  v_rows brainops.contact[];
begin
  -- What holds for every message, and all that is asked of a transactional one.
  select coalesce(
    array_agg(
      row(
        r.id,
        case when r.address is null then 'fail' else 'skip' end,
        null,
        case
          when r.address is null then format(
            'recipient: lead %s is gone or has no %s and set status to pending',
            r.recipient,
            case p_channel when 'sms' then 'phone number; give a number' else 'e-mail address; give an address' end
          )
          when s.id is not null then 'suppressed: ' || s.reason
          else 'expired: its expires_at was ' || r.expires_at
        end
      )::brainops.verdict
    ),
    '{}'
  )
    into v_verdicts
    -- Keys first, look-ups second: behind row level security an index serves no condition that calls
    -- a function such as lower() on a column.
    from (
      select u.*, lower(u.address) as key, brainops.address_digest(u.address) as digest
      from unnest(p_rows) as u
      offset 0
    ) as r
    left join lateral (
      select c.id, c.reason from public.contact_suppressions as c
      where c.tenant_id = r.tenant_id and c.channel = p_channel and c.address_key in (r.key, r.digest)
        and (c.expires_at is null or c.expires_at > v_now)
      limit 1
    ) as s on true
    where r.address is null
      or s.id is not null
      or (r.expires_at is not null and brainops.timestamptz_or_null(r.expires_at) <= v_now);
  return query select * from unnest(v_verdicts);

  for v_tenant_id in select distinct r.tenant_id from unnest(p_rows) as r where r.is_marketing
  loop
    select array_agg(r) into v_rows
      from unnest(p_rows) as r
      where r.tenant_id = v_tenant_id and r.is_marketing and r.id not in (select v.id from unnest(v_verdicts) as v);
    if v_rows is not null then
      return query select * from brainops.marketing_verdicts(v_tenant_id, p_channel, v_rows);
    end if;
  end loop;
end;
$$;

comment on function brainops.contact_verdicts(text, brainops.contact[]) is
  'Which messages may not go now, and until when: suppression for all; for marketing also consent, campaign exits, expiry, postal address, holds, quiet hours, caps and hourly limits. Asked inside a claim.';

-- The zones that a person may be in: the lead's own, else those of the phone number (the address,
-- or the lead's), else the tenant's.
create function brainops.address_zones(p_tenant_id uuid, p_lead_id uuid, p_address text)
returns text[]
language sql
stable
set search_path = ''
as $$
  select p.zones
  from
    brainops.contact_places(
      case
        when p_address like '%@%' then 'email'
        else 'sms'
      end,
      array[row(null, p_tenant_id, p_lead_id, p_address, true, null, p_address, null, null)::brainops.contact]
    ) as p;
$$;

comment on function brainops.address_zones(uuid, uuid, text) is
  'Time zones that a person may be in: the lead''s, else those of the phone number, else the tenant''s.';

create or replace function brainops.gate_email(p_ids uuid[])
returns setof brainops.verdict
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_rows brainops.contact[];
begin
  -- The address as brainops.email_address has it, for all rows at once.
  select array_agg(
    row(
      q.id, q.tenant_id, q.lead_id,
      case when q.named is null then q.recipient else l.email end,
      q.is_marketing, q.enrolment_id, q.recipient,
      coalesce(q.first_due_at, q.scheduled_for), q.metadata ->> 'expires_at'
    )::brainops.contact
    order by q.job_priority, q.scheduled_for, q.id
  )
    into v_rows
    from (
      select u.*, coalesce(
        (select a.lead_id from public.revenue_lead_aliases as a where a.tenant_id = u.tenant_id and a.id = u.named),
        u.named
      ) as lead_now
      from (
        select e.*, brainops.uuid_or_null(e.recipient) as named
        from public.ai_email_queue as e
        where e.id = any (p_ids)
        offset 0
      ) as u
      offset 0
    ) as q
    left join lateral (
      select nullif(btrim(i.email), '') as email from public.revenue_leads as i
      where i.tenant_id = q.tenant_id and i.id = q.lead_now
      limit 1
    ) as l on true;
  return query select * from brainops.contact_verdicts('email', v_rows);
end;
$$;

comment on function brainops.gate_email(uuid[]) is
  'Which of the mails may not go now: the rules of brainops.contact_verdicts.';

------------------------------------------------------------------------------------------------
-- Holds, and what sets them

create function brainops.hold_marketing(p_tenant text, p_channel text, p_reason text)
returns void
language sql
set search_path = ''
as $$
  insert into public.marketing_holds (tenant_id, channel, reason)
  values (brainops.tenant_id_of(p_tenant), p_channel, p_reason)
  on conflict (tenant_id, channel) where lifted_at is null do update set reason = excluded.reason;
$$;

comment on function brainops.hold_marketing(text, text, text) is
  'Holds marketing of a tenant (slug or id) on a channel; what is transactional goes on. brainops.lift_marketing_hold ends it.';

-- Brings waiting rows forward, one after the other instead of all at once: 20 a second (or what the
-- table's rate limit says), but all of them within the hour. Tenants take turns. p_waiting null:
-- rows that are due; else those whose last_error is like it.
create function brainops.spread_rows(p_job brainops.job_tables, p_tenant_id uuid, p_waiting text)
returns int
language plpgsql
set search_path = ''
as $$
declare
  c_step constant interval := interval '1 second' / 20;
  c_longest constant interval := '1 hour';
  v_per_second numeric := (
    select min(per_second) from brainops.rate_limits
    where table_name = p_job.table_name and (tenant_id is null or tenant_id = p_tenant_id)
  );
  v_count int;
begin
  -- Whoever resumes puts nothing off: what expires goes on counting from when it was first due.
  perform set_config('brainops.spreading', 'on', true);
  execute format(
    $sql$
    with
      open_tenants as materialized (
        select id from public.tenants where ($2 is null or id = $2) and brainops.pause_reason($3, id) is null
      ),
      waiting as (
        select t.id, t.job_priority, t.scheduled_for,
          row_number() over (partition by t.tenant_id order by t.job_priority, t.scheduled_for, t.id) as turn
        from %1$s as t
        inner join open_tenants as o on o.id = t.tenant_id
        where t.status = 'pending' and case when $4 is null then t.scheduled_for < $1 else t.last_error like $4 end
      ),
      places as (
        select id, row_number() over (order by turn, job_priority, scheduled_for, id) - 1 as n, count(*) over () as total
        from waiting
      )
    update %1$s as t
    set scheduled_for = $1 + p.n * least($5, $6 / p.total), last_error = null
    from places as p
    where t.id = p.id and t.status = 'pending'
    $sql$,
    p_job.relation
  )
    using brainops.now(), p_tenant_id, p_job.table_name, p_waiting,
      coalesce(interval '1 second' / v_per_second::float8, c_step), case when v_per_second is null then c_longest end;
  get diagnostics v_count = row_count;
  perform set_config('brainops.spreading', '', true);
  return v_count;
end;
$$;

comment on function brainops.spread_rows(brainops.job_tables, uuid, text) is
  'Lets waiting rows go on, spread over time; returns how many. Behind brainops.resume and brainops.lift_marketing_hold.';

create or replace function brainops.resume(p_table text, p_tenant text default null, p_channel text default null)
returns int
language plpgsql
set search_path = ''
as $$
declare
  v_job brainops.job_tables := brainops.job_table(p_table);
  v_tenant_id uuid := case when p_tenant is not null then brainops.tenant_id_of(p_tenant) end;
begin
  delete from brainops.pauses
  where table_name = v_job.table_name
    and (p_tenant is null or tenant_id = v_tenant_id)
    and (p_channel is null or channel = p_channel);
  -- Their jobs are gone: a new time gives due rows new ones, through the trigger.
  return brainops.spread_rows(v_job, v_tenant_id, null);
end;
$$;

comment on function brainops.resume(text, text, text) is
  'Ends pauses; returns how many rows that were due go on: spread at 20 a second (or the rate limit''s), within an hour. With tenant null: every pause of the table.';

create function brainops.lift_marketing_hold(p_tenant text, p_channel text)
returns int
language plpgsql
set search_path = ''
as $$
declare
  v_tenant_id uuid := brainops.tenant_id_of(p_tenant);
  v_job brainops.job_tables;
  v_count int := 0;
begin
  update public.marketing_holds set lifted_at = brainops.now()
  where tenant_id = v_tenant_id and channel = p_channel and lifted_at is null;
  for v_job in select * from brainops.job_tables where channel = p_channel
  loop
    v_count := v_count + brainops.spread_rows(v_job, v_tenant_id, 'marketing on hold: %');
  end loop;
  return v_count;
end;
$$;

comment on function brainops.lift_marketing_hold(text, text) is
  'Ends the hold on a tenant''s marketing; returns how many rows that waited for it go on, spread over time.';

create index email_deliveries_complaints on public.email_deliveries (tenant_id, occurred_at) where event = 'spamreport';
create index email_bounces_hard on public.email_bounces (tenant_id, occurred_at) where bounce_type = 'hard';

-- Mailbox providers take a sender down at 0.3 % of complaints (Gmail's bulk sender rules), and count
-- hard bounces as a sign of a bought list. Three complaints or ten bounces at least, so that the
-- first one of a small sender decides nothing.
create function brainops.guard_reputation()
returns int
language plpgsql
set search_path = ''
as $$
declare
  c_window constant interval := '7 days';
  c_warn constant numeric := 0.001;
  c_complaints constant numeric := 0.003;
  c_bounces constant numeric := 0.05;
  v_tenant record;
  v_sent int;
  v_reason text;
  v_count int := 0;
begin
  for v_tenant in
    select t.id, w.since, c.n as complaints, b.n as bounces
    from public.tenants as t
    cross join lateral (
      -- What a hold was lifted for counts no more.
      select greatest(brainops.now() - c_window, max(h.lifted_at)) as since
      from public.marketing_holds as h
      where h.tenant_id = t.id and h.channel = 'email'
    ) as w
    cross join lateral (
      select count(*)::int as n from public.email_deliveries as d
      where d.tenant_id = t.id and d.event = 'spamreport' and d.occurred_at > w.since
    ) as c
    cross join lateral (
      select count(*)::int as n from public.email_bounces as e
      where e.tenant_id = t.id and e.bounce_type = 'hard' and e.occurred_at > w.since
    ) as b
    where t.status = 'active' and (c.n >= 3 or b.n >= 10)
      and not exists (
        select from public.marketing_holds as h where h.tenant_id = t.id and h.channel = 'email' and h.lifted_at is null
      )
  loop
    -- No more need be counted than would make both shares small.
    select count(*) into v_sent
      from (
        select from public.ai_email_queue as q
        where q.tenant_id = v_tenant.id and q.status = 'completed' and q.finished_at > v_tenant.since
        limit greatest(v_tenant.complaints / c_warn, v_tenant.bounces / c_bounces)::int + 1
      ) as s;
    v_sent := greatest(v_sent, 1);
    v_reason := case
      when v_tenant.complaints >= 3 and v_tenant.complaints >= v_sent * c_complaints
        then format('%s of %s mails were reported as spam since %s; 0.3 %% is the most that mailbox providers bear', v_tenant.complaints, v_sent, v_tenant.since)
      when v_tenant.bounces >= 10 and v_tenant.bounces >= v_sent * c_bounces
        then format('%s of %s mails went to addresses that do not exist since %s; 5 %% is the most', v_tenant.bounces, v_sent, v_tenant.since)
    end;
    if v_reason is not null then
      insert into public.marketing_holds (tenant_id, channel, reason)
      values (v_tenant.id, 'email', v_reason)
      on conflict (tenant_id, channel) where lifted_at is null do nothing;
      perform brainops.notify(
        v_tenant.id, 'Marketing by e-mail is on hold', v_reason, 'marketing_hold:' || date_trunc('day', brainops.now())
      );
      v_count := v_count + 1;
    elsif v_tenant.complaints >= 3 and v_tenant.complaints >= v_sent * c_warn then
      perform brainops.notify(
        v_tenant.id,
        'Your mails are being reported as spam',
        format('%s of %s since %s. At 0.3 %% marketing is put on hold.', v_tenant.complaints, v_sent, v_tenant.since),
        'complaints:' || date_trunc('day', brainops.now())
      );
    end if;
  end loop;
  return v_count;
end;
$$;

comment on function brainops.guard_reputation is
  'Holds the marketing mail of tenants with 0.3 % of complaints or 5 % of hard bounces within 7 days, and warns at 0.1 %; returns how many it held. The sweep asks it.';

------------------------------------------------------------------------------------------------
-- Who may call what

comment on function brainops.contact_hours(public.contact_policies, text, text) is
  'The hours of each weekday, Monday first, in which the tenant and the law allow it; null for a day without.';
comment on function brainops.offset_change(timestamptz, timestamptz, text) is
  'The instant within (from, to] at which the zone''s offset changes.';
comment on function brainops.zone_opening(timestamptz, text, time[], time[]) is
  'From when, at or after an instant, one zone''s clock stands inside the hours, and until when at least.';
comment on function brainops.contact_opening(timestamptz, text[], time[], time[]) is
  'From when, at or after an instant, the clocks of all zones stand inside the hours, and until when at least.';
comment on function brainops.spread_contact_time(timestamptz, text[], time[], time[], interval) is
  'The instant itself where the hours are open, else one in the first part of the next open hours, by chance.';
comment on function brainops.contact_places(text, brainops.contact[]) is
  'Who the recipients are (leads, addresses) and where (zones, country, state).';
comment on function brainops.lock_persons(uuid, text[]) is
  'Makes claims that concern the same persons wait for each other, until the transaction ends.';
comment on function brainops.consent_verdicts(public.contact_policies, brainops.contact[]) is
  'Of marketing: no consent, left the campaign, expired (skip), no postal address (fail), on hold (defer).';
comment on function brainops.contact_history(uuid, text, brainops.contact_place[], timestamptz, int) is
  'When marketing went, or may have gone, to each person since an instant: on both channels, and on the one that asks.';
comment on function brainops.cap_verdicts(public.contact_policies, brainops.contact_place[]) is
  'Which messages are over the frequency cap, and until when. Locks the persons.';
comment on function brainops.cap_frees_at(timestamptz, int, int, timestamptz[], int, interval) is
  'When a place under a cap is free; null for now.';
comment on function brainops.marketing_verdicts(uuid, text, brainops.contact[]) is
  'All that is asked of one tenant''s marketing.';
comment on function brainops.hourly_verdicts(public.contact_policies, brainops.contact_place[]) is
  'Which messages are over the hourly limit, and until when.';

do $$
declare
  v_function regprocedure;
begin
  for v_function in
    select p.oid::regprocedure
    from pg_catalog.pg_proc as p
    where p.pronamespace = 'brainops'::regnamespace
      and p.proname = any (
        '{keep_first_due,refuse_consent_change,consent_state,contact_policy,check_cap_window,contact_hours,offset_change,zone_opening,contact_opening,next_contact_time,spread_contact_time,start_warmup,hourly_limit,take_hourly_places,contact_places,lock_persons,timestamptz_or_null,consent_verdicts,contact_history,cap_verdicts,cap_frees_at,marketing_verdicts,hourly_verdicts,contact_verdicts,address_zones,hold_marketing,spread_rows,lift_marketing_hold,guard_reputation}'::text[]
      )
  loop
    execute format('revoke execute on function %s from public', v_function);
  end loop;
end;
$$;

grant execute
on function brainops.consent_state(uuid, text, text),
brainops.contact_policy(uuid, text),
brainops.contact_hours(public.contact_policies, text, text),
brainops.offset_change(timestamptz, timestamptz, text),
brainops.zone_opening(timestamptz, text, time[], time[]),
brainops.contact_opening(timestamptz, text[], time[], time[]),
brainops.next_contact_time(timestamptz, text[], time, time, int[]),
brainops.spread_contact_time(timestamptz, text[], time[], time[], interval),
brainops.hourly_limit(uuid, text, timestamptz),
brainops.contact_places(text, brainops.contact[]),
brainops.address_zones(uuid, uuid, text)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;
grant execute
on function brainops.take_hourly_places(uuid, text, int),
brainops.lock_persons(uuid, text[]),
brainops.timestamptz_or_null(text),
brainops.consent_verdicts(public.contact_policies, brainops.contact[]),
brainops.contact_history(uuid, text, brainops.contact_place[], timestamptz, int),
brainops.cap_verdicts(public.contact_policies, brainops.contact_place[]),
brainops.cap_frees_at(timestamptz, int, int, timestamptz[], int, interval),
brainops.marketing_verdicts(uuid, text, brainops.contact[]),
brainops.hourly_verdicts(public.contact_policies, brainops.contact_place[]),
brainops.contact_verdicts(text, brainops.contact[])
to brainops_worker;
grant execute
on function brainops.start_warmup(text, text, int[]),
brainops.hold_marketing(text, text, text),
brainops.lift_marketing_hold(text, text),
brainops.spread_rows(brainops.job_tables, uuid, text),
brainops.guard_reputation()
to brainops_admin, brainops_system;
