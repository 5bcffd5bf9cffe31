CREATE SCHEMA brainops;

COMMENT ON SCHEMA brainops IS 'BrainOps: the SQL interface for admins, and the engine''s own tables. Start at brainops.jobs and brainops.queue_health.';

CREATE SCHEMA brainops_internal;

COMMENT ON SCHEMA brainops_internal IS 'Functions of BrainOps that nobody calls by hand: behind triggers, policies, workers and the functions of schema brainops.';

CREATE SCHEMA public;

COMMENT ON SCHEMA public IS 'standard public schema';

CREATE TYPE brainops.contact AS (
	id uuid,
	tenant_id uuid,
	lead_id uuid,
	address text,
	is_marketing boolean,
	enrolment_id uuid,
	recipient text,
	first_due_at timestamp with time zone,
	expires_at text
);

COMMENT ON TYPE brainops.contact IS 'A message that asks whether it may go. address: null where the lead is gone or has none; recipient: what the row says. expires_at: as in its metadata.';

CREATE TYPE brainops.email_reference AS (
	tenant_id uuid,
	email_id uuid
);

CREATE TYPE brainops.onboarding_plan AS (
	step_number integer,
	step_name text,
	description text,
	duration interval,
	subject text,
	body text,
	advance_on text,
	remind text,
	remind_before interval,
	escalate_after interval
);

COMMENT ON TYPE brainops.onboarding_plan IS 'A step as a template has it; see public.onboarding_templates.';

CREATE TYPE brainops.person AS (
	tenant_id uuid,
	addresses text[],
	lead_ids uuid[],
	enrolment_ids uuid[],
	workflow_ids uuid[],
	payment_ids uuid[],
	stripe_ids text[],
	row_ids uuid[]
);

COMMENT ON TYPE brainops.person IS 'What a person is known by in a tenant: addresses (e-mail in lower case, numbers in E.164), leads, and the rows that are about them; row_ids are those of job rows.';

CREATE TYPE brainops.recipient_context AS (
	id uuid,
	lead_ids uuid[],
	emails text[],
	phones text[],
	zones text[],
	country text,
	state text,
	opens time without time zone[],
	closes time without time zone[],
	goes_at timestamp with time zone
);

CREATE TYPE brainops.settlement AS (
	id uuid,
	lease uuid,
	outcome text,
	run_at timestamp with time zone,
	reason text,
	result jsonb
);

COMMENT ON TYPE brainops.settlement IS 'How an effect ended. outcome: completed, retry (run_at null: by brainops_internal.retry_delay), defer (the provider said later; costs no attempt), hold (as it was before the claim; what stands in the way is written beside it), fail, skip or unconfirmed. result fills the table''s result_columns.';

CREATE TYPE brainops.sms_reference AS (
	tenant_id uuid,
	sms_id uuid,
	lead_id uuid,
	touch_id uuid,
	enrolment_id uuid,
	to_number text
);

CREATE TYPE brainops.verdict AS (
	id uuid,
	outcome text,
	until timestamp with time zone,
	reason text
);

COMMENT ON TYPE brainops.verdict IS 'A gate''s word on one row: defer (until), hold (until somebody resumes), skip (never, reason says why) or fail. A row without one goes.';

CREATE FUNCTION brainops.address_zones(p_tenant_id uuid, p_lead_id uuid, p_address text) RETURNS text[]
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO ''
    AS $$
  select p.zones
  from
    brainops_internal.recipient_contexts(
      case
        when p_address like '%@%' then 'email'
        else 'sms'
      end,
      array[row(null, p_tenant_id, p_lead_id, p_address, true, null, p_address, null, null)::brainops.contact]
    ) as p
  where brainops_internal.may_act_for(p_tenant_id);
$$;

COMMENT ON FUNCTION brainops.address_zones(p_tenant_id uuid, p_lead_id uuid, p_address text) IS 'Time zones that a person may be in: the lead''s, else those of the phone number, else the tenant''s.';

CREATE FUNCTION brainops.announce_public_url(p_public_url text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
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
      perform brainops_internal.mail_opt_in(v_id);
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

COMMENT ON FUNCTION brainops.announce_public_url(p_public_url text) IS 'Said by a server or worker that has PUBLIC_URL, when it starts; opt-in mails that waited for it are queued, and a request that the mail queue refuses is closed.';

CREATE FUNCTION brainops.archive_done(p_most integer DEFAULT 5000) RETURNS TABLE(table_name text, archived integer)
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $_$
declare
  v_job brainops.job_tables;
  v_oldest date;
begin
  for v_job in select * from brainops.job_tables as j order by j.table_name
  loop
    execute format('select (min(finished_at) at time zone ''UTC'')::date from %s where finished_at < $1', v_job.relation)
      into v_oldest
      using brainops.now() - v_job.archive_after;
    table_name := v_job.table_name;
    archived := 0;
    if v_oldest is not null then
      perform brainops_internal.ensure_partitions(
        'brainops.job_archive', v_oldest,
        (12 * extract(year from age(brainops.now(), v_oldest)) + extract(month from age(brainops.now(), v_oldest)))::int + 2
      );
      execute format(
        $sql$
        with gone as (
          delete from %1$s
          where id in (
            select id from %1$s where finished_at < $1 order by finished_at limit $2 for update skip locked
          )
          returning *
        )
        insert into brainops.job_archive (tenant_id, table_name, row_id, status, finished_at, job_row)
        select tenant_id, $3, id, status, finished_at, to_jsonb(gone) from gone
        $sql$,
        v_job.relation
      )
        using brainops.now() - v_job.archive_after, p_most, v_job.table_name;
      get diagnostics archived = row_count;
    end if;
    return next;
  end loop;
end;
$_$;

COMMENT ON FUNCTION brainops.archive_done(p_most integer) IS 'Moves done rows to brainops.job_archive, at most p_most a table. Run by the task maintenance__retain.';

CREATE FUNCTION brainops.broadcast_to_leads(p_broadcast_id uuid, p_where text DEFAULT 'true'::text, p_after uuid DEFAULT NULL::uuid, p_most integer DEFAULT 10000, OUT added integer, OUT last_id uuid) RETURNS record
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $_$
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
$_$;

COMMENT ON FUNCTION brainops.broadcast_to_leads(p_broadcast_id uuid, p_where text, p_after uuid, p_most integer, OUT added integer, OUT last_id uuid) IS 'Adds leads with an address as recipients, each once however often it is called: those of the broadcast''s tenant for which p_where holds (SQL over revenue_leads as l), after p_after by id, p_most at a time. Returns how many are new, and the last id, null at the end: the next p_after.';

CREATE TABLE brainops.job_tables (
    table_name text NOT NULL,
    relation text NOT NULL,
    task_identifier text NOT NULL,
    channel text,
    effect_is_idempotent boolean NOT NULL,
    gate text,
    sender text,
    result_columns text[] DEFAULT '{}'::text[] NOT NULL,
    time_limit interval DEFAULT '00:00:30'::interval NOT NULL,
    max_deferrals integer DEFAULT 500 NOT NULL,
    archive_after interval DEFAULT '30 days'::interval NOT NULL,
    bulk_column text,
    bulk_max integer DEFAULT 1000 NOT NULL,
    CONSTRAINT job_tables_archive_after_positive CHECK ((archive_after > '00:00:00'::interval)),
    CONSTRAINT job_tables_bulk_max_range CHECK (((bulk_max >= 250) AND (bulk_max <= 5000))),
    CONSTRAINT job_tables_time_limit_positive CHECK ((time_limit > '00:00:00'::interval))
);

COMMENT ON TABLE brainops.job_tables IS 'The job tables, written by brainops.define_job_table. time_limit, max_deferrals and archive_after may be edited.';

COMMENT ON COLUMN brainops.job_tables.table_name IS 'What people call it, e.g. ai_email_queue; with its schema where that is not public.';

COMMENT ON COLUMN brainops.job_tables.relation IS 'Schema and name, quoted where need be, e.g. public.ai_email_queue.';

COMMENT ON COLUMN brainops.job_tables.task_identifier IS 'The graphile-worker task: the name of a file in tasks/.';

COMMENT ON COLUMN brainops.job_tables.channel IS 'What brainops.pause() calls it: email, sms, …; null where the table has none.';

COMMENT ON COLUMN brainops.job_tables.effect_is_idempotent IS 'Whether the effect may be tried again after a crash. If not, the row becomes unconfirmed.';

COMMENT ON COLUMN brainops.job_tables.gate IS 'Function (uuid[]) returning setof brainops.verdict, asked while the rows are locked; null for none.';

COMMENT ON COLUMN brainops.job_tables.sender IS 'Name of the circuit breaker that the effect goes through; null for none.';

COMMENT ON COLUMN brainops.job_tables.result_columns IS 'Columns beyond the engine''s own that a handler may fill when it settles.';

COMMENT ON COLUMN brainops.job_tables.time_limit IS 'How long an effect may take; past it the handler''s signal is aborted.';

COMMENT ON COLUMN brainops.job_tables.max_deferrals IS 'How often a provider may say "later" before the row fails.';

COMMENT ON COLUMN brainops.job_tables.archive_after IS 'Rows done for this long move to brainops.job_archive.';

COMMENT ON COLUMN brainops.job_tables.bulk_column IS 'Column (uuid) that rows have in common which may go out in one call; null where each goes alone.';

COMMENT ON COLUMN brainops.job_tables.bulk_max IS 'How many rows of a batch a claim takes at most.';

CREATE FUNCTION brainops_internal.job_table(p_table text) RETURNS brainops.job_tables
    LANGUAGE plpgsql STABLE
    SET search_path TO ''
    AS $$
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

COMMENT ON FUNCTION brainops_internal.job_table(p_table text) IS 'The entry of a job table by its name; OP007 lists the names.';

CREATE FUNCTION brainops_internal.set_job_status(p_job brainops.job_tables, p_id uuid, p_from text[], p_to text) RETURNS text
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $_$
declare
  v_status text;
begin
  execute format('select status from %s where id = $1 for update', p_job.relation) into v_status using p_id;
  if v_status is null then
    raise exception 'id: % has no row %', p_job.table_name, p_id
      using errcode = 'OP009', hint = 'select * from brainops.jobs where id = …; archived rows are in brainops.job_archive.';
  end if;
  if v_status <> all (p_from) then
    raise exception 'status: row % is %, and only % can become %', p_id, v_status, array_to_string(p_from, ', '), p_to
      using errcode = 'OP010', hint = 'select status, last_error from brainops.jobs where id = …';
  end if;
  execute format(
    'update %s set status = $2, scheduled_for = case when $2 = ''pending'' then least(scheduled_for, $3) else scheduled_for end
     where id = $1 returning status',
    p_job.relation
  )
    into v_status
    using p_id, p_to, brainops.now();
  return v_status;
end;
$_$;

COMMENT ON FUNCTION brainops_internal.set_job_status(p_job brainops.job_tables, p_id uuid, p_from text[], p_to text) IS 'Behind retry, cancel and confirm: OP009 for no such row, OP010 where its status is none of p_from.';

CREATE FUNCTION brainops.cancel(p_table text, p_id uuid) RETURNS text
    LANGUAGE sql
    SET search_path TO ''
    BEGIN ATOMIC
 SELECT brainops_internal.set_job_status(brainops_internal.job_table(p_table), p_id, ARRAY['pending'::text, 'processing'::text, 'failed'::text, 'unconfirmed'::text, 'awaiting_approval'::text], 'cancelled'::text) AS set_job_status;
END;

COMMENT ON FUNCTION brainops.cancel(p_table text, p_id uuid) IS 'Stops a row. One in processing stays so until its effect is known (cancel_requested_at is set), and is not tried again.';

CREATE FUNCTION brainops.capture_lead(p_tenant_id uuid, p_lead jsonb, p_source text, p_evidence jsonb) RETURNS TABLE(lead_id uuid, is_new boolean)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  c_columns constant text[] := array[
    'company_name', 'contact_name', 'email', 'phone', 'phone_e164', 'website', 'stage', 'score', 'value_estimate', 'source',
    'time_zone', 'state', 'location', 'industry', 'status', 'owner_email', 'next_action', 'next_action_date', 'metadata',
    'is_test', 'is_demo'
  ];
  v_row public.revenue_leads;
  v_stage text := coalesce(p_lead ->> 'stage', 'new');
begin
  if not (
    p_tenant_id = brainops.current_tenant_id()
    or brainops.may_name_tenant()
    or pg_catalog.pg_has_role(session_user, 'brainops_admin', 'member')
  ) is true then
    raise exception 'tenant_id: % is not yours', p_tenant_id
      using errcode = 'insufficient_privilege', hint = 'Capture leads as a login of the tenant, or as a service.';
  end if;
  v_row := jsonb_populate_record(
    null::public.revenue_leads,
    (select coalesce(jsonb_object_agg(e.key, e.value), '{}') from jsonb_each(p_lead) as e where e.key = any (c_columns))
  );
  v_row.tenant_id := p_tenant_id;
  v_row.source := coalesce(v_row.source, p_source);
  v_row := brainops_internal.normal_lead(v_row);
  if brainops_internal.email_key(v_row.email) is null and v_row.phone_e164 is null then
    raise exception 'email: % and phone: % are no addresses',
      coalesce(quote_literal(left(v_row.email, 120)), 'null'), coalesce(quote_literal(left(v_row.phone, 60)), 'null')
      using errcode = 'OP013', column = 'email',
        hint = 'Give an e-mail address or a phone number with its country code: without one nobody can tell whether the person is a lead already.';
  end if;
  if brainops_internal.normal_stage(v_stage) is null then
    raise exception 'stage: unknown word %', quote_literal(left(v_stage, 80))
      using errcode = 'OP011', column = 'stage',
        hint = 'Write new, contacted, qualified, proposal_sent, negotiating, won, lost or nurturing, or leave stage out.';
  end if;
  v_row.stage := brainops_internal.normal_stage(v_stage);

  lead_id := brainops_internal.known_lead(v_row);
  is_new := false;
  if lead_id is null or not brainops_internal.merge_row_into_lead(lead_id, v_row) then
    insert into public.revenue_leads (
      tenant_id, company_name, contact_name, email, phone, phone_e164, website, stage, score, value_estimate, source, time_zone,
      state, location, industry, status, owner_email, next_action, next_action_date, metadata, is_test, is_demo
    )
    values (
      p_tenant_id, v_row.company_name, v_row.contact_name, v_row.email, v_row.phone, v_row.phone_e164, v_row.website, v_row.stage,
      v_row.score, v_row.value_estimate, v_row.source, v_row.time_zone, v_row.state, v_row.location, v_row.industry, v_row.status,
      v_row.owner_email, v_row.next_action, v_row.next_action_date, v_row.metadata,
      coalesce(v_row.is_test, false), coalesce(v_row.is_demo, false)
    )
    returning id into lead_id;
    is_new := brainops_internal.lead_alias(lead_id, p_tenant_id) is null;
    lead_id := coalesce(brainops_internal.lead_alias(lead_id, p_tenant_id), lead_id);
  end if;
  perform brainops_internal.capture_consent(p_tenant_id, lead_id, 'email', v_row.email, p_lead -> 'email_consent', p_source, p_evidence);
  perform brainops_internal.capture_consent(p_tenant_id, lead_id, 'sms', v_row.phone_e164, p_lead -> 'sms_consent', p_source, p_evidence);
  return next;
end;
$$;

COMMENT ON FUNCTION brainops.capture_lead(p_tenant_id uuid, p_lead jsonb, p_source text, p_evidence jsonb) IS 'Takes what is said about a person (columns of revenue_leads, email_consent and sms_consent true or false) as a lead: a new one, or the one that the person is. p_source: where it comes from; p_evidence: what shows the consents.';

CREATE FUNCTION brainops.complete_onboarding_step(p_workflow_id uuid, p_step_name text) RETURNS text
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
declare
  v_step public.ai_onboarding_steps;
begin
  select s.* into v_step from public.ai_onboarding_steps as s
    where s.step_name = p_step_name
      and s.workflow_id in (
        select w.id from public.ai_onboarding_workflows as w where w.id = p_workflow_id or w.alias_ids @> array[p_workflow_id]
      );
  if not found then
    raise exception 'step: onboarding % has no step %', coalesce(p_workflow_id::text, 'null'), coalesce(quote_literal(p_step_name), 'null')
      using errcode = 'OP009', hint = 'select step_name, status from ai_onboarding_steps where workflow_id = …';
  end if;
  update public.ai_onboarding_steps set status = 'completed' where tenant_id = v_step.tenant_id and id = v_step.id and status <> 'completed';
  return (select w.status from public.ai_onboarding_workflows as w where w.tenant_id = v_step.tenant_id and w.id = v_step.workflow_id);
end;
$$;

COMMENT ON FUNCTION brainops.complete_onboarding_step(p_workflow_id uuid, p_step_name text) IS 'Completes a step by its name; twice is as once. Returns the workflow''s status.';

CREATE FUNCTION brainops.confirm(p_table text, p_id uuid, p_happened boolean) RETURNS text
    LANGUAGE sql
    SET search_path TO ''
    BEGIN ATOMIC
 SELECT brainops_internal.set_job_status(brainops_internal.job_table(p_table), p_id, ARRAY['unconfirmed'::text],
         CASE
             WHEN p_happened THEN 'completed'::text
             ELSE 'pending'::text
         END) AS set_job_status;
END;

COMMENT ON FUNCTION brainops.confirm(p_table text, p_id uuid, p_happened boolean) IS 'Settles an unconfirmed row: the effect happened (completed), or it did not (pending: it is done now).';

CREATE FUNCTION brainops.consent_state(p_tenant_id uuid, p_channel text, p_address text) RETURNS text
    LANGUAGE sql STABLE
    SET search_path TO ''
    AS $$
  select state
  from public.contact_consents
  where tenant_id = p_tenant_id and channel = p_channel and address_key = lower(btrim(p_address))
  order by occurred_at desc, state = 'denied' desc, created_at desc
  limit 1;
$$;

COMMENT ON FUNCTION brainops.consent_state(p_tenant_id uuid, p_channel text, p_address text) IS 'The last word about an address: granted, denied, pending; null for none.';

CREATE TABLE public.contact_policies (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    tenant_id uuid DEFAULT (NULLIF(current_setting('brainops.statement_tenant'::text, true), ''::text))::uuid NOT NULL,
    channel text NOT NULL,
    window_start time without time zone,
    window_end time without time zone,
    weekdays integer[],
    cap integer,
    cap_window interval,
    consent text,
    spread interval,
    hourly_limit integer,
    expires_after interval,
    CONSTRAINT contact_policies_cap_range CHECK (((cap >= 1) AND (cap <= 10000))),
    CONSTRAINT contact_policies_cap_window_range CHECK (((cap_window >= '01:00:00'::interval) AND (cap_window <= '28 days'::interval))),
    CONSTRAINT contact_policies_channel_known CHECK ((channel = ANY (ARRAY['email'::text, 'sms'::text]))),
    CONSTRAINT contact_policies_consent_known CHECK ((consent = ANY (ARRAY['opt_out'::text, 'opt_in'::text, 'double_opt_in'::text]))),
    CONSTRAINT contact_policies_expires_after_range CHECK (((expires_after >= '01:00:00'::interval) AND (expires_after <= '90 days'::interval))),
    CONSTRAINT contact_policies_hourly_limit_positive CHECK ((hourly_limit > 0)),
    CONSTRAINT contact_policies_sms_window_within_day CHECK (((channel <> 'sms'::text) OR (window_start < window_end))),
    CONSTRAINT contact_policies_spread_range CHECK (((spread >= '00:00:00'::interval) AND (spread <= '06:00:00'::interval))),
    CONSTRAINT contact_policies_weekdays_known CHECK (((weekdays <@ ARRAY[1, 2, 3, 4, 5, 6, 7]) AND (cardinality(weekdays) > 0))),
    CONSTRAINT contact_policies_window_whole CHECK (((window_start IS NULL) = (window_end IS NULL)))
);

ALTER TABLE ONLY public.contact_policies FORCE ROW LEVEL SECURITY;

COMMENT ON TABLE public.contact_policies IS 'How a tenant may write to people, one row for each channel; without one, and where a column is null, the defaults of brainops.contact_policy().';

COMMENT ON COLUMN public.contact_policies.window_start IS 'Recipient''s wall clock from when marketing may go. Null: 08:00.';

COMMENT ON COLUMN public.contact_policies.window_end IS 'Until when, exclusive. Earlier than window_start (mail only): past midnight. The same as window_start: all day. Null: 21:00.';

COMMENT ON COLUMN public.contact_policies.weekdays IS 'Days on which the window may begin, 1 Monday to 7 Sunday. Null: every day.';

COMMENT ON COLUMN public.contact_policies.cap IS 'Marketing messages to one person, of all campaigns and both channels, within cap_window. Null: 3.';

COMMENT ON COLUMN public.contact_policies.cap_window IS 'A sliding window of 1 hour to 28 days. Null: 7 days.';

COMMENT ON COLUMN public.contact_policies.consent IS 'opt_out: unless denied. opt_in: only when granted. double_opt_in: only when granted and confirmed. Null: opt_out for mail, opt_in for texts.';

COMMENT ON COLUMN public.contact_policies.spread IS 'Messages that wait for the window''s start go over this time after it (half of the window at most). Null: 1 hour.';

COMMENT ON COLUMN public.contact_policies.hourly_limit IS 'Marketing messages an hour. Null: no limit but the warm-up''s.';

COMMENT ON COLUMN public.contact_policies.expires_after IS 'Marketing that was put off for longer than this after it was first due is skipped. Null: 30 days.';

CREATE FUNCTION brainops.contact_policy(p_tenant_id uuid, p_channel text) RETURNS public.contact_policies
    LANGUAGE plpgsql STABLE
    SET search_path TO ''
    AS $$
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

COMMENT ON FUNCTION brainops.contact_policy(p_tenant_id uuid, p_channel text) IS 'A tenant''s rules for a channel, defaults filled in: 08:00 to 21:00 every day, 3 messages in 7 days, opt_out for mail and opt_in for texts.';

CREATE FUNCTION brainops.create_login(p_tenant_slug text, p_role_name text, p_password text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
declare
  v_tenant_id uuid := brainops_internal.tenant_id_of(p_tenant_slug);
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

COMMENT ON FUNCTION brainops.create_login(p_tenant_slug text, p_role_name text, p_password text) IS 'A database login that is the tenant: sees and writes its rows alone, whatever it sets. The password may be a SCRAM-SHA-256 verifier. Needs CREATEROLE.';

CREATE FUNCTION brainops.create_tenant(p_slug text, p_name text, p_time_zone text DEFAULT 'UTC'::text) RETURNS uuid
    LANGUAGE sql
    SET search_path TO ''
    AS $$
  insert into public.tenants (slug, name, time_zone) values (p_slug, p_name, p_time_zone) returning id;
$$;

COMMENT ON FUNCTION brainops.create_tenant(p_slug text, p_name text, p_time_zone text) IS 'A new tenant: slug (a-z, 0-9, -), name, IANA time zone. Returns its id.';

CREATE FUNCTION brainops.current_tenant_id() RETURNS uuid
    LANGUAGE plpgsql STABLE SECURITY DEFINER PARALLEL SAFE
    SET search_path TO ''
    AS $$
declare
  v_tenant_id uuid;
begin
  select tenant_id into v_tenant_id from brainops.tenant_logins where login = session_user;
  if found then
    return v_tenant_id;
  end if;
  if not pg_catalog.pg_has_role(session_user, 'brainops_service', 'member') then
    return null;
  end if;
  v_tenant_id := brainops_internal.uuid_or_null(current_setting('app.tenant_id', true));
  if v_tenant_id is not null then
    return v_tenant_id;
  end if;
  return coalesce(
    brainops_internal.jwt_tenant_id(),
    -- A service that names nobody sees the row it has just inserted: RETURNING needs that.
    case when brainops_internal.names_no_tenant() then brainops_internal.uuid_or_null(current_setting('brainops.inserted_tenant', true)) end
  );
end;
$$;

COMMENT ON FUNCTION brainops.current_tenant_id() IS 'The tenant that is asking, or null for nobody. In policies and queries always as (select brainops.current_tenant_id()): the bare call runs once for each row.';

CREATE FUNCTION brainops.default_onboarding_steps() RETURNS SETOF brainops.onboarding_plan
    LANGUAGE sql IMMUTABLE
    SET search_path TO ''
    AS $$
  values
    (
      1,
      'welcome_email',
      'Send welcome email and credentials',
      interval '1 day',
      'Welcome to {{ tenant.name }}',
      '<p>Hello{% if lead.contact_name %} {{ lead.contact_name }}{% endif %},</p>' || '<p>thank you for choosing {{ tenant.name }}. From here on we take it step by step:</p>' || '<ol><li>we collect what we need from you,</li><li>we set everything up,</li>' || '<li>we agree on a time to show you around,</li><li>and your first project begins.</li></ol>' || '<p>You need to do nothing now; we will write to you about each step. ' || 'If you have a question, answer this mail.</p><p>{{ tenant.name }}</p>',
      'email_sent',
      'nobody',
      interval '0',
      interval '0'
    ),
    (
      2,
      'data_collection',
      'Collect the customer''s data and requirements',
      interval '3 days',
      null,
      null,
      null,
      'owner',
      interval '1 day',
      interval '1 day'
    ),
    (
      3,
      'system_setup',
      'Set up the customer''s system and accounts',
      interval '5 days',
      null,
      null,
      null,
      'owner',
      interval '1 day',
      interval '1 day'
    ),
    (
      4,
      'training_schedule',
      'Schedule the training',
      interval '5 days',
      null,
      null,
      'meeting_booked',
      'owner',
      interval '1 day',
      interval '1 day'
    ),
    (
      5,
      'first_project',
      'Start the first project',
      interval '14 days',
      null,
      null,
      null,
      'owner',
      interval '2 days',
      interval '2 days'
    );
$$;

COMMENT ON FUNCTION brainops.default_onboarding_steps() IS 'The onboarding of tenants that have none of their own; insert into onboarding_templates (…) select … from it to begin one.';

CREATE FUNCTION brainops.define_bulk(p_table text, p_column text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $_$
declare
  v_job brainops.job_tables;
begin
  update brainops.job_tables set bulk_column = p_column where table_name = p_table returning * into strict v_job;
  if not exists (
    select from pg_catalog.pg_index as i
    inner join pg_catalog.pg_attribute as a on a.attrelid = i.indrelid and a.attnum = i.indkey[1] and a.attname = p_column
    where i.indrelid = v_job.relation::regclass
  ) then
    execute format(
      'create index on %1$s (tenant_id, %2$I, status, scheduled_for) where %2$I is not null',
      v_job.relation, p_column
    );
  end if;
end;
$_$;

COMMENT ON FUNCTION brainops.define_bulk(p_table text, p_column text) IS 'Lets rows of a job table that share a value of the column (uuid) go out in one call; for the table''s owner. The task says how, by `batch` in defineJob.';

CREATE FUNCTION brainops.define_job_table(p_table regclass, p_task_identifier text, p_effect_is_idempotent boolean, p_channel text DEFAULT NULL::text, p_gate text DEFAULT NULL::text, p_sender text DEFAULT NULL::text, p_result_columns text[] DEFAULT '{}'::text[], p_time_limit interval DEFAULT '00:00:30'::interval, p_max_attempts integer DEFAULT 5) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $_$
declare
  c_engine_columns constant text[] := array[
    'attempts', 'deferrals', 'last_error', 'skip_reason', 'lease', 'worker_id', 'started_at',
    'finished_at', 'rate_slot', 'cancel_requested_at'
  ];
  v_columns text;
  v_editable text;
  v_name text := (select relname from pg_catalog.pg_class where oid = p_table);
  v_schema text := (select nspname from pg_catalog.pg_class inner join pg_catalog.pg_namespace as n on n.oid = relnamespace where pg_class.oid = p_table);
begin
  if not exists (
    select from pg_catalog.pg_attribute where attrelid = p_table and attname = 'lease' and not attisdropped
  ) then
    perform brainops_internal.add_job_columns(p_table, p_max_attempts);
  end if;
  perform brainops_internal.guard_table(p_table, p_reference_tenants => false);

  -- Tenants and services write what they ask for; what came of it is the engine's to write.
  select
    string_agg(quote_ident(attname), ', '),
    string_agg(quote_ident(attname), ', ') filter (where attname not in ('id', 'tenant_id', 'created_at'))
    into v_columns, v_editable
    from pg_catalog.pg_attribute
    where attrelid = p_table and attnum > 0 and not attisdropped and attgenerated = ''
      and attname <> all (c_engine_columns || p_result_columns);
  execute format('revoke insert, update on %s from brainops_tenant, brainops_service', p_table);
  execute format('grant insert (%1$s), update (%2$s) on %3$s to brainops_tenant, brainops_service', v_columns, v_editable, p_table);

  insert into brainops.job_tables (table_name, relation, task_identifier, channel, effect_is_idempotent, gate, sender, result_columns, time_limit)
  values (brainops_internal.job_table_name(v_schema, v_name), format('%I.%I', v_schema, v_name), p_task_identifier, p_channel, p_effect_is_idempotent, p_gate, p_sender, p_result_columns, p_time_limit)
  on conflict (table_name) do update
    set relation = excluded.relation, task_identifier = excluded.task_identifier, channel = excluded.channel,
      effect_is_idempotent = excluded.effect_is_idempotent, gate = excluded.gate, sender = excluded.sender,
      result_columns = excluded.result_columns;

  -- Rows that are as the defaults make them need no function.
  execute format(
    'create or replace trigger b0_before_job_insert before insert on %s for each row
       when (
         new.status is distinct from ''pending'' or new.scheduled_for is null or new.attempts <> 0 or new.deferrals <> 0
         or new.lease is not null or new.worker_id is not null or new.rate_slot is not null
         or new.cancel_requested_at is not null or new.finished_at is not null or new.skip_reason is not null
       )
       execute function brainops_internal.before_job_insert()',
    p_table
  );
  execute format(
    'create or replace trigger b1_before_job_update before update on %s for each row
       when (
         (old.status is distinct from new.status or new.scheduled_for is null or old.tenant_id <> new.tenant_id)
         -- a claim and a settle, known by the lease, write what is right already
         and not (new.status = ''processing'' and old.status = ''pending'' and old.lease is null and new.lease is not null)
         and not (old.status = ''processing'' and old.lease is not null and new.lease is null)
       )
       execute function brainops_internal.before_job_update()',
    p_table
  );
  execute format('create or replace trigger c0_after_job_insert after insert on %s referencing new table as inserted for each statement execute function brainops_internal.after_job_insert()', p_table);
  execute format(
    'create or replace trigger c1_after_job_update after update on %s referencing old table as before_rows new table as after_rows
       for each statement execute function brainops_internal.after_job_update()',
    p_table
  );
  execute format('create or replace trigger c2_after_job_delete after delete on %s referencing old table as deleted for each statement execute function brainops_internal.after_job_delete()', p_table);

  perform brainops_internal.rebuild_jobs_view();
  grant select on brainops.jobs to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;
end;
$_$;

COMMENT ON FUNCTION brainops.define_job_table(p_table regclass, p_task_identifier text, p_effect_is_idempotent boolean, p_channel text, p_gate text, p_sender text, p_result_columns text[], p_time_limit interval, p_max_attempts integer) IS 'Makes a table a job table: engine columns, checks, triggers, guard. Task: the file in tasks/. idempotent: whether the effect may be tried again after a crash. For the table''s owner.';

CREATE FUNCTION brainops.enrol(p_lead_id uuid, p_campaign_type text) RETURNS uuid
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  v_lead_id uuid := brainops_internal.find_lead(p_lead_id, null);
  v_tenant_id uuid;
  v_id uuid;
begin
  select tenant_id into v_tenant_id from public.revenue_leads where id = v_lead_id;
  if not found then
    raise exception 'lead_id: % is no lead', coalesce(p_lead_id::text, 'null')
      using errcode = 'OP009', hint = 'select id from revenue_leads';
  end if;
  insert into public.ai_nurture_campaigns as e (tenant_id, lead_id, campaign_type)
  values (v_tenant_id, v_lead_id, p_campaign_type)
  on conflict do nothing
  returning e.id into v_id;
  if v_id is null then
    select e.id into v_id
      from public.ai_nurture_campaigns as e
      where e.tenant_id = v_tenant_id and e.lead_id = v_lead_id and e.campaign_type = p_campaign_type
      order by e.entrance desc
      limit 1;
  end if;
  return v_id;
end;
$$;

COMMENT ON FUNCTION brainops.enrol(p_lead_id uuid, p_campaign_type text) IS 'Enrols a lead in a campaign by its code; returns the enrolment, the one that is there already where the campaign takes nobody twice.';

CREATE FUNCTION brainops.exit_enrolment(p_id uuid, p_reason text) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
begin
  update public.ai_nurture_campaigns
  set status = 'exited', exit_reason = coalesce(nullif(btrim(p_reason), ''), 'no reason given')
  where id = p_id and lead_id is not null and status in ('active', 'paused');
  return found;
end;
$$;

COMMENT ON FUNCTION brainops.exit_enrolment(p_id uuid, p_reason text) IS 'Ends an enrolment for this reason, with what of it waits in the queues; false where it was over already.';

CREATE FUNCTION brainops.export_person(p_tenant text, p_address text) RETURNS TABLE(table_name text, held jsonb)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO ''
    AS $$
  -- A link's token is a key to act with, and a lease the engine's own.
  select r.table_name, r.held - '{token,lease,worker_id}'::text[]
  from
    brainops_internal.person_rows(
      brainops_internal.find_person(brainops_internal.tenant_of_caller(p_tenant), p_address)
    ) as r
  where
    r.table_name <> 'public.webhook_events'
    or r.held ->> 'provider' <> 'sendgrid'
    or r.held ->> 'tenant_id' is not null
    or (brainops_internal.find_email(r.held -> 'payload')).tenant_id is not null
    or pg_catalog.pg_has_role(session_user, 'brainops_admin', 'member');
$$;

COMMENT ON FUNCTION brainops.export_person(p_tenant text, p_address text) IS 'Everything that a tenant holds on a person, by e-mail address or phone number, a row each; for admins also what SendGrid said of the address that is about no tenant''s message. By admins, or by the tenant itself.';

CREATE FUNCTION brainops.forget(p_tenant text, p_address text) RETURNS TABLE(table_name text, erased bigint)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $_$
declare
  v_tenant_id uuid := brainops_internal.tenant_of_caller(p_tenant);
  v_person brainops.person := brainops_internal.find_person(v_tenant_id, p_address);
  v_held jsonb;
  v_source record;
begin
  -- Who has written of a lead may want its messages next; forget waits here, where it has none of them yet.
  perform
  from public.revenue_leads as l
  where l.tenant_id = v_tenant_id and l.id = any (v_person.lead_ids)
  order by l.id
  for update;
  -- What was written of the person meanwhile is the person's too.
  v_person := brainops_internal.find_person(v_tenant_id, p_address);

  -- What stops new messages comes next: what is queued from now on is not sent.
  insert into public.contact_suppressions (tenant_id, channel, address, reason, source)
  select
    v_person.tenant_id, case when a like '%@%' then 'email' else 'sms' end, brainops_internal.address_digest(a), 'forgotten', 'forget'
  from unnest(v_person.addresses) as a
  order by a
  on conflict (tenant_id, channel, address_key) do nothing;

  -- Counted before, as some go with others.
  select coalesce(jsonb_object_agg(c.source, c.number), '{}') into v_held
    from (select r.table_name as source, count(*) as number from brainops_internal.person_rows(v_person) as r group by r.table_name) as c;
  for v_source in select * from brainops.person_sources()
  loop
    continue when v_source.on_forget = 'keep';
    table_name := v_source.source;
    erased := coalesce((v_held ->> v_source.source)::bigint, 0);
    if erased > 0 then
      execute format(
        case v_source.on_forget
          when 'delete' then 'delete from %1$s as t using (select ($1).*) as p where %3$s (%4$s)'
          else 'update %1$s as t set %2$s from (select ($1).*) as p where %3$s (%4$s)'
        end,
        v_source.source,
        v_source.on_forget,
        case v_source.source when 'public.webhook_events' then '' else 't.tenant_id = p.tenant_id and' end,
        v_source.condition
      )
        using v_person;
    end if;
    return next;
  end loop;
end;
$_$;

COMMENT ON FUNCTION brainops.forget(p_tenant text, p_address text) IS 'Erases a person (by e-mail address or phone number) of one tenant from every table and the archive; leaves a suppression under the sha256 of each address, and the books without the name. By admins, or by the tenant itself.';

CREATE FUNCTION brainops.guard_obstacles(p_table regclass) RETURNS SETOF text
    LANGUAGE sql STABLE
    SET search_path TO ''
    AS $$
  select 'it is no ordinary or partitioned table'
  where not exists (select from pg_catalog.pg_class where oid = p_table and relkind in ('r', 'p'))
  union all
  select 'it has no column tenant_id uuid'
  where
    not exists (
      select
      from pg_catalog.pg_attribute
      where attrelid = p_table and attname = 'tenant_id' and atttypid = 'uuid'::regtype and not attisdropped
    )
  union all
  select
    format('unique key %s does not begin with tenant_id, so it tells tenants of each other', i.indexrelid::regclass)
  from
    pg_catalog.pg_index as i
    -- No attribute where the key begins with an expression.
    left join pg_catalog.pg_attribute as a
      on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
  where
    i.indrelid = p_table
    and (i.indisunique or i.indisexclusion)
    and a.attname is distinct from 'tenant_id'
    and not (i.indisprimary and i.indnkeyatts = 1 and a.atttypid = 'uuid'::regtype)
  union all
  select
    format('policy %I is for every role and adds its rows to those of the guard; drop it or name its roles', polname)
  from pg_catalog.pg_policy
  where polrelid = p_table and polpermissive and 0 = any (polroles)
  union all
  select
    format(
      'foreign key %s to %s is not the pair (tenant_id, …), so rows can point into another tenant',
      c.conname,
      c.confrelid::regclass
    )
  from pg_catalog.pg_constraint as c
  where
    c.conrelid = p_table
    and c.contype = 'f'
    and c.confrelid <> 'public.tenants'::regclass
    and exists (
      select
      from pg_catalog.pg_attribute
      where attrelid = c.confrelid and attname = 'tenant_id' and not attisdropped
    )
    and not exists (
      select
      from pg_catalog.pg_attribute
      where attrelid = p_table and attname = 'tenant_id' and attnum = any (c.conkey)
    );
$$;

COMMENT ON FUNCTION brainops.guard_obstacles(p_table regclass) IS 'Why protect_table would refuse the table, one sentence each.';

CREATE FUNCTION brainops.hold_marketing(p_tenant text, p_channel text, p_reason text) RETURNS void
    LANGUAGE sql
    SET search_path TO ''
    AS $$
  insert into public.marketing_holds (tenant_id, channel, reason)
  values (brainops_internal.tenant_id_of(p_tenant), p_channel, p_reason)
  on conflict (tenant_id, channel) where lifted_at is null do update set reason = excluded.reason;
$$;

COMMENT ON FUNCTION brainops.hold_marketing(p_tenant text, p_channel text, p_reason text) IS 'Holds marketing of a tenant (slug or id) on a channel; what is transactional goes on. brainops.lift_marketing_hold ends it.';

CREATE FUNCTION brainops.import_leads(p_tenant_id uuid, p_rows jsonb) RETURNS TABLE(line integer, lead_id uuid, outcome text, column_name text, problem text, expected text)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  v_row jsonb;
  v_is_new boolean;
  v_ids uuid[];
begin
  -- Two files of the same people, in different orders, would end each other as deadlocks.
  perform pg_advisory_xact_lock(hashtextextended('brainops.import_leads:' || p_tenant_id, 0));
  perform set_config('brainops.hold_rescores', 'on', true);
  for v_row in
    select r from jsonb_array_elements(p_rows) as r
  loop
    line := (v_row ->> 'line')::int;
    lead_id := null;
    column_name := null;
    problem := null;
    expected := null;
    begin
      select c.lead_id, c.is_new into lead_id, v_is_new
        from brainops.capture_lead(p_tenant_id, v_row -> 'lead', 'import', v_row -> 'evidence') as c;
      outcome := case when v_is_new then 'new' else 'known' end;
      v_ids := v_ids || lead_id;
    exception
      when data_exception or integrity_constraint_violation or sqlstate 'OP011' or sqlstate 'OP012' or sqlstate 'OP013' then
        get stacked diagnostics problem = message_text, expected = pg_exception_hint, column_name = column_name;
        outcome := 'rejected';
    end;
    return next;
  end loop;
  perform set_config('brainops.hold_rescores', '', true);
  perform brainops_internal.release_rescores(p_tenant_id, v_ids);
end;
$$;

COMMENT ON FUNCTION brainops.import_leads(p_tenant_id uuid, p_rows jsonb) IS 'Behind `brainops leads import`: takes rows {line, lead, evidence} as capture_lead does, and says of each whether it was new, known, or rejected and why.';

CREATE FUNCTION brainops.launch_problems(p_tenant_id uuid, p_channel text DEFAULT 'email'::text) RETURNS SETOF text
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  v_settings jsonb := (select settings from public.tenants where id = p_tenant_id);
  v_provider text := case p_channel when 'sms' then 'twilio' when 'email' then 'sendgrid' end;
  v_task text := case when p_channel = 'sms' then 'sms__send' else 'email__send' end;
begin
  if not brainops_internal.may_act_for(p_tenant_id) then
    raise exception 'tenant_id: % is not yours', coalesce(p_tenant_id::text, 'null')
      using errcode = 'insufficient_privilege', hint = 'Give your own: select id from tenants.';
  end if;
  if v_provider is null then
    raise exception 'channel: % is none', coalesce(quote_literal(p_channel), 'null')
      using errcode = 'OP007', hint = 'Channels: email, sms.';
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
  -- Workers say which tasks they can do; where none is alive, nobody knows.
  if exists (select from brainops.worker_processes as w where brainops_internal.worker_is_alive(w.number, w.backend_pid))
    and not exists (
      select from brainops.worker_processes as w
      where v_task = any (w.tasks) and brainops_internal.worker_is_alive(w.number, w.backend_pid)
    )
    and not exists (
      select from public.provider_credentials as c
      where c.tenant_id = p_tenant_id and c.provider = v_provider and c.name = 'default' and c.active
    )
  then
    return next case p_channel
      when 'sms' then 'there is no sender: no worker has TWILIO_ACCOUNT_SID, TWILIO_AUTH_TOKEN and TWILIO_FROM, and the tenant has no Twilio credential of its own'
      else 'there is no sender: no worker has SENDGRID_API_KEY and MAIL_FROM, and the tenant has no SendGrid credential of its own'
    end;
  end if;
end;
$$;

COMMENT ON FUNCTION brainops.launch_problems(p_tenant_id uuid, p_channel text) IS 'What keeps the tenant from sending marketing by email or sms, one sentence each with its remedy; empty when nothing does.';

CREATE FUNCTION brainops.lift_marketing_hold(p_tenant text, p_channel text) RETURNS integer
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
declare
  v_tenant_id uuid := brainops_internal.tenant_id_of(p_tenant);
  v_job brainops.job_tables;
  v_count int := 0;
begin
  update public.marketing_holds set lifted_at = brainops.now()
  where tenant_id = v_tenant_id and channel = p_channel and lifted_at is null;
  for v_job in select * from brainops.job_tables where channel = p_channel
  loop
    v_count := v_count + brainops_internal.spread_rows(v_job, v_tenant_id, 'marketing on hold: %');
  end loop;
  return v_count;
end;
$$;

COMMENT ON FUNCTION brainops.lift_marketing_hold(p_tenant text, p_channel text) IS 'Ends the hold on a tenant''s marketing; returns how many rows that waited for it go on, spread over time.';

CREATE FUNCTION brainops.may_name_tenant() RETURNS boolean
    LANGUAGE sql STABLE SECURITY DEFINER PARALLEL SAFE
    SET search_path TO ''
    AS $$
  select
    brainops_internal.names_no_tenant()
    and pg_catalog.pg_has_role(session_user, 'brainops_service', 'member')
    and not exists (select from brainops.tenant_logins where login = session_user);
$$;

COMMENT ON FUNCTION brainops.may_name_tenant() IS 'Whether the caller may say in each row whose it is: a service login that has named no tenant by a setting.';

CREATE FUNCTION brainops.merge_leads(p_into uuid, p_from uuid) RETURNS uuid
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
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

COMMENT ON FUNCTION brainops.merge_leads(p_into uuid, p_from uuid) IS 'Makes two leads of one tenant one: the first is filled from the second, everything that refers to the second is moved (what there is no room for is kept in the event merged), and its id goes on as an alias. Returns the id that is left; twice is as once.';

CREATE FUNCTION brainops.next_contact_time(p_at timestamp with time zone, p_zones text[], p_from time without time zone, p_to time without time zone, p_weekdays integer[] DEFAULT NULL::integer[]) RETURNS timestamp with time zone
    LANGUAGE plpgsql STABLE SECURITY DEFINER PARALLEL SAFE
    SET search_path TO ''
    AS $$
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
  return lower(brainops_internal.contact_opening(p_at, p_zones, v_opens, v_closes));
end;
$$;

COMMENT ON FUNCTION brainops.next_contact_time(p_at timestamp with time zone, p_zones text[], p_from time without time zone, p_to time without time zone, p_weekdays integer[]) IS 'The first instant at or after p_at at which the wall clock stands in [from, to) in every zone, on a weekday (1 Monday to 7 Sunday, null: any) on which the window begins. to before from: past midnight; the same: 24 hours. No common instant within 14 days: the first zone''s alone. Null: no weekday.';

CREATE FUNCTION brainops.next_stages(p_stage text) RETURNS text[]
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
  select
    case p_stage
      when 'new' then '{contacted,qualified,proposal_sent,negotiating,won,lost,nurturing}'::text[]
      when 'contacted' then '{qualified,proposal_sent,negotiating,won,lost,nurturing}'
      when 'qualified' then '{contacted,proposal_sent,negotiating,won,lost,nurturing}'
      when 'proposal_sent' then '{qualified,negotiating,won,lost,nurturing}'
      when 'negotiating' then '{proposal_sent,won,lost,nurturing}'
      when 'nurturing' then '{contacted,qualified,proposal_sent,negotiating,won,lost}'
      when 'won' then '{lost,contacted,nurturing}'
      when 'lost' then '{won,contacted,nurturing}'
      else '{}'
    end;
$$;

COMMENT ON FUNCTION brainops.next_stages(p_stage text) IS 'The stages that a lead may go to from this one. A lead may be inserted at any.';

CREATE FUNCTION brainops.notify(p_tenant_id uuid, p_subject text, p_body text, p_key text DEFAULT NULL::text) RETURNS uuid
    LANGUAGE sql
    SET search_path TO ''
    AS $$
  select brainops.notify(p_tenant_id, p_subject, p_body, p_key, null);
$$;

COMMENT ON FUNCTION brainops.notify(p_tenant_id uuid, p_subject text, p_body text, p_key text) IS 'The same about nobody in particular.';

CREATE FUNCTION brainops.notify(p_tenant_id uuid, p_subject text, p_body text, p_key text, p_lead_id uuid) RETURNS uuid
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  v_id uuid;
begin
  if not brainops_internal.may_act_for(p_tenant_id) then
    raise exception 'tenant_id: % is not yours', coalesce(p_tenant_id::text, 'null')
      using errcode = 'insufficient_privilege', hint = 'Give your own: select id from tenants.';
  end if;
  insert into public.tenant_notifications as n (tenant_id, subject, body, idempotency_key, lead_id, scheduled_for)
  values (
    p_tenant_id,
    left(regexp_replace(btrim(p_subject), '\s+', ' ', 'g'), 300),
    left(p_body, 20000),
    p_key,
    p_lead_id,
    brainops.now()
  )
  on conflict (tenant_id, idempotency_key) where idempotency_key is not null do nothing
  returning n.id into v_id;
  if v_id is null then
    select n.id into v_id
      from public.tenant_notifications as n
      where n.tenant_id = p_tenant_id and n.idempotency_key = p_key;
  end if;
  return v_id;
end;
$$;

COMMENT ON FUNCTION brainops.notify(p_tenant_id uuid, p_subject text, p_body text, p_key text, p_lead_id uuid) IS 'Tells the tenant something, once for each key (null: always), about a lead (null: none); returns the row of tenant_notifications.';

CREATE FUNCTION brainops.now() RETURNS timestamp with time zone
    LANGUAGE sql STABLE PARALLEL SAFE
    AS $$
  select pg_catalog.now();
$$;

COMMENT ON FUNCTION brainops.now() IS 'The engine''s clock: now(). Only test databases replace it.';

CREATE FUNCTION brainops.pause(p_table text, p_tenant text DEFAULT NULL::text, p_channel text DEFAULT NULL::text, p_reason text DEFAULT 'no reason given'::text) RETURNS void
    LANGUAGE sql
    SET search_path TO ''
    AS $$
  insert into brainops.pauses as p (table_name, tenant_id, channel, reason)
  values
    (
      (brainops_internal.job_table(p_table)).table_name,
      case
        when p_tenant is not null then brainops_internal.tenant_id_of(p_tenant)
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

COMMENT ON FUNCTION brainops.pause(p_table text, p_tenant text, p_channel text, p_reason text) IS 'Holds a job table: for one tenant (slug or id) or, with null, for all. Rows wait as pending; what is being processed ends.';

CREATE FUNCTION brainops.pause_campaign(p_code text, p_tenant text DEFAULT NULL::text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  v_campaign public.campaigns := brainops_internal.campaign_of(p_tenant, p_code);
begin
  update public.campaigns set status = 'paused' where id = v_campaign.id and status = 'active';
end;
$$;

COMMENT ON FUNCTION brainops.pause_campaign(p_code text, p_tenant text) IS 'Holds a campaign: no step is performed and nothing of it is sent, and time stands still in it. Twice is as once.';

CREATE FUNCTION brainops.person_sources() RETURNS TABLE(source text, condition text, on_forget text)
    LANGUAGE sql STABLE
    SET search_path TO ''
    AS $_$
  with
    named(position, source, condition, on_forget) as (
      values
        -- An event that names no message of ours belongs to nobody, unless it can still be placed. A text
        -- to the installation's account is whose sms_inbound has it: before it is there, it is nobody's to
        -- read or to erase, and so is a STOP that other tenants have yet to hear.
        (
          1,
          'public.webhook_events',
          $c$
            case
              when t.provider = 'twilio' and t.tenant_id is null and t.payload ->> 'kind' = 'inbound' then
                exists (
                  select
                  from public.sms_inbound as i
                  where
                    i.tenant_id = p.tenant_id
                    and i.message_sid = coalesce(t.payload ->> 'MessageSid', t.payload ->> 'SmsSid')
                )
              else coalesce(t.tenant_id, (brainops_internal.find_email(t.payload)).tenant_id, p.tenant_id) = p.tenant_id
            end
            and (
              lower(btrim(t.payload ->> 'email')) = any (p.addresses)
              or t.payload ->> 'From' = any (p.addresses)
              or t.payload ->> 'To' = any (p.addresses)
              or brainops_internal.webhook_event_row(t.provider, t.payload) = any (p.row_ids)
              or t.provider = 'stripe' and (
                -- By objects of the account that signed: in events of its own, a tenant may name any.
                exists (
                  select
                  from public.stripe_objects as o
                  where
                    o.tenant_id = p.tenant_id
                    and o.object_id = any (brainops_internal.stripe_ids(t.payload #> '{data,object}'))
                    and o.object_id = any (p.stripe_ids)
                    and o.own_account = (t.tenant_id is not null)
                )
                or t.tenant_id is not null and lower(t.payload #>> '{data,object,customer_details,email}') = any (p.addresses)
              )
            )
          $c$,
          'delete'
        ),
        (2, 'brainops.job_events', 't.row_id = any (p.row_ids) and t.detail is not null', $c$detail = 'erased'$c$),
        (3, 'brainops.job_archive', 't.row_id = any (p.row_ids)', 'delete'),
        (
          4,
          'public.email_deliveries',
          'lower(t.recipient) = any (p.addresses) or t.email_id = any (p.row_ids)',
          'delete'
        ),
        (5, 'public.email_bounces', 'lower(t.recipient) = any (p.addresses) or t.email_id = any (p.row_ids)', 'delete'),
        (6, 'public.sms_deliveries', 't.recipient = any (p.addresses) or t.sms_id = any (p.row_ids)', 'delete'),
        (7, 'public.sms_inbound', 't.from_number = any (p.addresses) or t.lead_id = any (p.lead_ids)', 'delete'),
        (8, 'public.sms_threads', 't.number = any (p.addresses)', 'delete'),
        (9, 'public.email_unsubscribe_links', 't.address_key = any (p.addresses)', 'delete'),
        (10, 'public.contact_suppressions', 't.address_key = any (p.addresses)', 'delete'),
        (11, 'public.contact_consents', 't.address_key = any (p.addresses) or t.lead_id = any (p.lead_ids)', 'delete'),
        (12, 'public.contact_topic_optouts', 't.address_key = any (p.addresses)', 'delete'),
        (13, 'public.opt_in_requests', 't.address_key = any (p.addresses) or t.lead_id = any (p.lead_ids)', 'delete'),
        (14, 'public.ai_email_queue', 't.id = any (p.row_ids)', 'delete'),
        (15, 'public.ai_sms_queue', 't.id = any (p.row_ids)', 'delete'),
        (16, 'public.tenant_notifications', 't.id = any (p.row_ids)', 'delete'),
        (17, 'public.campaign_touch_events', 't.touch_id = any (p.row_ids)', 'delete'),
        (18, 'public.ai_campaign_touches', 't.id = any (p.row_ids)', 'delete'),
        (19, 'public.ai_nurture_campaigns', 't.id = any (p.enrolment_ids)', 'delete'),
        (20, 'public.onboarding_reminders', 't.id = any (p.row_ids)', 'delete'),
        -- Its steps go with it: one by one they would begin each other.
        (21, 'public.ai_onboarding_workflows', 't.id = any (p.workflow_ids)', 'delete'),
        (22, 'public.ai_onboarding_steps', 't.workflow_id = any (p.workflow_ids)', 'delete'),
        -- The books are kept, without the name.
        (
          23,
          'public.payment_requests',
          't.id = any (p.payment_ids)',
          $c$
            lead_id = null, metadata = '{}', idempotency_key = null, product_service = t.plan_name, attention = null,
            payment_status = case t.payment_status when 'open' then 'cancelled' else t.payment_status end
          $c$
        ),
        (24, 'public.payment_ledger', 't.payment_request_id = any (p.payment_ids)', 'keep'),
        (25, 'public.payment_disputes', 't.payment_request_id = any (p.payment_ids)', 'keep'),
        (26, 'public.subscriptions', 't.payment_request_id = any (p.payment_ids)', 'keep'),
        (27, 'public.stripe_objects', 't.payment_request_id = any (p.payment_ids)', 'keep'),
        (
          98,
          'brainops.lead_keys',
          't.lead_id = any (p.lead_ids) or substr(t.key, strpos(t.key, '':'') + 1) = any (p.addresses)',
          'delete'
        ),
        (99, 'public.revenue_leads', 't.id = any (p.lead_ids)', 'delete')
    )
  select every.source, every.condition, every.on_forget
  from
    (
      select * from named
      union all
      select
        50,
        format('%I.%I', n.nspname, c.relname),
        format('t.%I = any (p.lead_ids)', a.attname),
        'delete'
      from
        pg_catalog.pg_constraint as f
        inner join pg_catalog.pg_class as c on c.oid = f.conrelid
        inner join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
        inner join pg_catalog.pg_attribute as l on l.attrelid = f.confrelid and l.attname = 'id'
        inner join pg_catalog.pg_attribute as a
          on a.attrelid = f.conrelid and a.attnum = f.conkey[array_position(f.confkey, l.attnum)]
      where
        f.contype = 'f'
        and f.confrelid = 'public.revenue_leads'::regclass
        and f.conparentid = 0
        and not exists (select from named where named.source = format('%I.%I', n.nspname, c.relname))
    ) as every
  order by every.position, every.source;
$_$;

COMMENT ON FUNCTION brainops.person_sources() IS 'Where something may be held on a person, in the order in which it is erased. condition: over a row t and a brainops.person p. on_forget: delete, keep, or what is set instead.';

CREATE FUNCTION brainops.protect_table(p_table regclass) RETURNS void
    LANGUAGE sql
    SET search_path TO ''
    AS $$
  select brainops_internal.guard_table(p_table, p_reference_tenants => true);
$$;

COMMENT ON FUNCTION brainops.protect_table(p_table regclass) IS 'Gives an existing table with a tenant_id the whole guard: forced row level security, policies by role, grants, the tenant filled in on insert. OP008 says what stands in the way. For the table''s owner.';

CREATE FUNCTION brainops.publish_campaign(p_code text, p_move boolean DEFAULT false, p_tenant text DEFAULT NULL::text) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  v_campaign public.campaigns := brainops_internal.campaign_of(p_tenant, p_code);
  v_problems text;
  v_open record;
begin
  select * into v_campaign from public.campaigns where id = v_campaign.id for update;
  v_campaign.version := v_campaign.version + 1;
  select string_agg(p, '; ') into v_problems from brainops_internal.campaign_problems(v_campaign.id, v_campaign.version) as p;
  if v_problems is not null then
    raise exception 'campaign % cannot be published: %', quote_literal(p_code), v_problems
      using errcode = 'OP022', hint = format('Mend the steps of version %s in campaign_steps, then publish again.', v_campaign.version);
  end if;
  update public.campaigns set version = v_campaign.version where id = v_campaign.id;
  if not p_move then
    return v_campaign.version;
  end if;

  perform from public.ai_nurture_campaigns
  where tenant_id = v_campaign.tenant_id and campaign_id = v_campaign.id and status in ('active', 'paused')
  order by id
  for no key update;
  update public.ai_nurture_campaigns set version = v_campaign.version
  where tenant_id = v_campaign.tenant_id and campaign_id = v_campaign.id and status in ('active', 'paused');
  update public.ai_campaign_touches as t
  set
    version = s.version,
    step_number = s.step_number,
    touch_type = brainops_internal.touch_type_of(s.kind),
    content_template = s.template
  from public.ai_nurture_campaigns as e
  inner join public.campaign_steps as s on s.tenant_id = e.tenant_id and s.campaign_id = e.campaign_id and s.version = e.version
  where e.tenant_id = v_campaign.tenant_id and e.campaign_id = v_campaign.id and e.status in ('active', 'paused')
    and t.tenant_id = e.tenant_id and t.campaign_id = e.id and t.step_key = s.step_key and t.performed_at is null;
  for v_open in
    select e, t
    from public.ai_nurture_campaigns as e
    inner join public.ai_campaign_touches as t
      on t.tenant_id = e.tenant_id and t.campaign_id = e.id and t.step_key is not null and t.performed_at is null
    where e.tenant_id = v_campaign.tenant_id and e.campaign_id = v_campaign.id and e.status in ('active', 'paused')
      and t.version <> e.version
    order by e.id
  loop
    perform brainops_internal.replace_open_step(v_open.e, v_open.t);
  end loop;
  return v_campaign.version;
end;
$$;

COMMENT ON FUNCTION brainops.publish_campaign(p_code text, p_move boolean, p_tenant text) IS 'Puts the draft version of a campaign in force, for new enrolments; with p_move running ones go on in it too, each at the step of the same step_key (or, where that is gone, at the next one). OP022 lists what keeps it from being published. Returns the version.';

CREATE FUNCTION brainops.record_reply(p_lead_id uuid, p_channel text DEFAULT 'email'::text, p_text text DEFAULT NULL::text) RETURNS uuid
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  v_lead_id uuid := brainops_internal.find_lead(p_lead_id, null);
  v_event_id uuid;
begin
  if v_lead_id is null then
    raise exception 'lead_id: % is no lead of yours', coalesce(p_lead_id::text, 'null')
      using errcode = 'OP009', hint = 'select id, email from revenue_leads';
  end if;
  if p_channel is null or p_channel not in ('email', 'sms') then
    raise exception 'channel: % is none that people reply by', coalesce(quote_literal(left(p_channel, 80)), 'null')
      using errcode = 'OP007', hint = 'Give email or sms.';
  end if;
  insert into public.lead_events (tenant_id, lead_id, event, channel, metadata)
  select l.tenant_id, l.id, p_channel || '_replied', p_channel, jsonb_strip_nulls(jsonb_build_object('text', left(p_text, 10000)))
  from public.revenue_leads as l
  where l.id = v_lead_id
  returning id into v_event_id;
  update public.revenue_leads set last_contact = brainops.now() where id = v_lead_id;
  return v_event_id;
end;
$$;

COMMENT ON FUNCTION brainops.record_reply(p_lead_id uuid, p_channel text, p_text text) IS 'Tells that a lead replied, by email or sms: it is scored, and sequences that end on a reply end. Returns the event''s id.';

CREATE FUNCTION brainops.resume(p_table text, p_tenant text DEFAULT NULL::text, p_channel text DEFAULT NULL::text) RETURNS integer
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
declare
  v_job brainops.job_tables := brainops_internal.job_table(p_table);
  v_tenant_id uuid := case when p_tenant is not null then brainops_internal.tenant_id_of(p_tenant) end;
begin
  delete from brainops.pauses
  where table_name = v_job.table_name
    and (p_tenant is null or tenant_id = v_tenant_id)
    and (p_channel is null or channel = p_channel);
  -- Their jobs are gone: a new time gives due rows new ones, through the trigger.
  return brainops_internal.spread_rows(v_job, v_tenant_id, null);
end;
$$;

COMMENT ON FUNCTION brainops.resume(p_table text, p_tenant text, p_channel text) IS 'Ends pauses; returns how many rows that were due go on: spread at 20 a second (or the rate limit''s), within an hour. With tenant null: every pause of the table.';

CREATE FUNCTION brainops.resume_campaign(p_code text, p_tenant text DEFAULT NULL::text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  v_campaign public.campaigns := brainops_internal.campaign_of(p_tenant, p_code);
begin
  update public.campaigns set status = 'active' where id = v_campaign.id and status = 'paused';
end;
$$;

COMMENT ON FUNCTION brainops.resume_campaign(p_code text, p_tenant text) IS 'Lets a paused campaign go on where it stood: everything in it comes later by the time it was paused, and what is due at once goes five a second.';

CREATE FUNCTION brainops.retain_months() RETURNS SETOF text
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
begin
  perform brainops_internal.ensure_partitions('brainops.job_events', brainops.now()::date, 13);
  perform brainops_internal.ensure_partitions('brainops.job_archive', brainops.now()::date, 2);
  return query
    select brainops_internal.drop_partitions('brainops.job_archive', brainops.now() - (select value from brainops.settings where name = 'drop_archive_after'));
  return query
    select brainops_internal.drop_partitions('brainops.job_events', brainops.now() - (select value from brainops.settings where name = 'drop_events_after'));
end;
$$;

COMMENT ON FUNCTION brainops.retain_months() IS 'Makes the coming months of the archive and the events, drops those past brainops.settings; returns what was dropped.';

CREATE FUNCTION brainops.retry(p_table text, p_id uuid) RETURNS text
    LANGUAGE sql
    SET search_path TO ''
    BEGIN ATOMIC
 SELECT brainops_internal.set_job_status(brainops_internal.job_table(p_table), p_id, ARRAY['failed'::text, 'cancelled'::text, 'skipped'::text, 'awaiting_approval'::text], 'pending'::text) AS set_job_status;
END;

COMMENT ON FUNCTION brainops.retry(p_table text, p_id uuid) IS 'Runs a row again, now, with all its attempts. An unconfirmed one goes through confirm.';

CREATE FUNCTION brainops_internal.retry_failed_rows(p_job brainops.job_tables, p_since timestamp with time zone) RETURNS integer
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $_$
declare
  v_count int;
begin
  execute format(
    'update %s set status = ''pending'' where status = ''failed'' and finished_at >= $1',
    p_job.relation
  )
    using p_since;
  get diagnostics v_count = row_count;
  return v_count;
end;
$_$;

COMMENT ON FUNCTION brainops_internal.retry_failed_rows(p_job brainops.job_tables, p_since timestamp with time zone) IS 'Behind retry_failed.';

CREATE FUNCTION brainops.retry_failed(p_table text, p_since timestamp with time zone) RETURNS integer
    LANGUAGE sql
    SET search_path TO ''
    BEGIN ATOMIC
 SELECT brainops_internal.retry_failed_rows(brainops_internal.job_table(p_table), p_since) AS retry_failed_rows;
END;

COMMENT ON FUNCTION brainops.retry_failed(p_table text, p_since timestamp with time zone) IS 'Runs again all rows that failed since then; returns how many.';

CREATE FUNCTION brainops.revise_campaign(p_code text, p_tenant text DEFAULT NULL::text) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  v_campaign public.campaigns := brainops_internal.campaign_of(p_tenant, p_code);
begin
  insert into public.campaign_steps
    (tenant_id, campaign_id, version, step_number, step_key, kind, name, template, delay, delay_from, next_step, config)
  select
    tenant_id, campaign_id, version + 1, step_number, step_key, kind, name, template, delay, delay_from, next_step, config
  from public.campaign_steps
  where tenant_id = v_campaign.tenant_id and campaign_id = v_campaign.id and version = v_campaign.version
    and not exists (
      select from public.campaign_steps as d
      where d.tenant_id = v_campaign.tenant_id and d.campaign_id = v_campaign.id and d.version > v_campaign.version
    );
  return v_campaign.version + 1;
end;
$$;

COMMENT ON FUNCTION brainops.revise_campaign(p_code text, p_tenant text) IS 'Copies the steps in force, with their keys, as a draft to be edited; returns its version. A draft that is there already stays as it is.';

CREATE FUNCTION brainops.start_onboarding(p_lead_id uuid, p_reason text DEFAULT 'asked for'::text) RETURNS uuid
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  v_lead_id uuid := brainops_internal.find_lead(p_lead_id, null);
  v_tenant_id uuid;
begin
  if v_lead_id is null then
    raise exception 'lead_id: % is no lead of yours', coalesce(p_lead_id::text, 'null')
      using errcode = 'OP009', hint = 'Give the id of a row of revenue_leads.';
  end if;
  select tenant_id into v_tenant_id from public.revenue_leads where id = v_lead_id;
  return brainops_internal.open_onboarding(v_tenant_id, v_lead_id, p_reason);
end;
$$;

COMMENT ON FUNCTION brainops.start_onboarding(p_lead_id uuid, p_reason text) IS 'Begins the onboarding of a lead and returns its workflow; the one there is, where it has begun.';

CREATE FUNCTION brainops.start_warmup(p_tenant text, p_channel text, p_plan integer[] DEFAULT NULL::integer[]) RETURNS void
    LANGUAGE sql
    SET search_path TO ''
    AS $$
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
  where t.id = brainops_internal.tenant_id_of(p_tenant)
  on conflict (tenant_id, channel) do update
    set
      started_on = excluded.started_on,
      plan = excluded.plan;
$$;

COMMENT ON FUNCTION brainops.start_warmup(p_tenant text, p_channel text, p_plan integer[]) IS 'Begins a warm-up today: marketing of the tenant (slug or id) on the channel is limited by hour, more each day. Plan null: SendGrid''s, 36 days from 20 an hour. Deleting the row of sender_warmups ends it.';

CREATE FUNCTION brainops_internal.account_of(p_sender text, p_tenant_id uuid) RETURNS text
    LANGUAGE plpgsql STABLE
    SET search_path TO ''
    AS $$
begin
  if p_sender is null then
    return null;
  end if;
  if exists (
    select from public.provider_credentials as c
    where c.tenant_id = p_tenant_id and c.provider = p_sender and c.name = 'default' and c.active
  ) then
    return p_sender || ':' || p_tenant_id;
  end if;
  return p_sender;
end;
$$;

COMMENT ON FUNCTION brainops_internal.account_of(p_sender text, p_tenant_id uuid) IS 'Which account a tenant''s rows go through, as brainops.breakers names it: sender for the installation''s, sender:tenant_id for the tenant''s own.';

CREATE FUNCTION brainops_internal.acquire_breaker(p_sender text, p_n integer, p_probe_lease interval, OUT allowed integer, OUT ask_at timestamp with time zone) RETURNS record
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  v_breaker brainops.circuit_breakers;
begin
  allowed := p_n;
  select * into v_breaker from brainops.circuit_breakers where sender = p_sender and opened_at is not null;
  if not found then
    return;
  end if;
  -- Two workers may come at once: the row lock decides who probes.
  update brainops.circuit_breakers
  set probe_expires_at = brainops.now() + p_probe_lease
  where sender = p_sender
    and opened_at is not null
    and retry_at <= brainops.now()
    and coalesce(probe_expires_at, '-infinity') <= brainops.now();
  allowed := case when found then 1 else 0 end;
  ask_at := greatest(v_breaker.retry_at, brainops.now() + interval '2 seconds');
end;
$$;

COMMENT ON FUNCTION brainops_internal.acquire_breaker(p_sender text, p_n integer, p_probe_lease interval, OUT allowed integer, OUT ask_at timestamp with time zone) IS 'How many of n rows may go through the sender now; ask_at is when to ask again for the rest.';

CREATE FUNCTION brainops_internal.add_delay(p_at timestamp with time zone, p_delay interval, p_time_zone text) RETURNS timestamp with time zone
    LANGUAGE plpgsql STABLE PARALLEL SAFE
    SET search_path TO ''
    AS $$
declare
  v_calendar interval := make_interval(
    years => extract(year from p_delay)::int,
    months => extract(month from p_delay)::int,
    days => extract(day from p_delay)::int
  );
begin
  -- Without days no way there and back through local time, which in the repeated hour of autumn is not unique.
  if v_calendar = '0' then
    return p_at + p_delay;
  end if;
  return ((p_at at time zone p_time_zone) + v_calendar) at time zone p_time_zone + (p_delay - v_calendar);
end;
$$;

COMMENT ON FUNCTION brainops_internal.add_delay(p_at timestamp with time zone, p_delay interval, p_time_zone text) IS 'The instant after a delay: days, months and years by the calendar of the zone, hours and less exactly.';

CREATE FUNCTION brainops_internal.add_job_columns(p_table regclass, p_max_attempts integer DEFAULT 5) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $_$
declare
  v_name text := (select relname from pg_catalog.pg_class where oid = p_table);
begin
  execute format(
    'alter table %1$s
       add column if not exists id uuid primary key default gen_random_uuid(),
       add column if not exists tenant_id uuid not null,
       add column if not exists status text not null default ''pending'',
       add column if not exists scheduled_for timestamptz not null default now(),
       add column if not exists job_priority smallint not null default 0,
       add column if not exists idempotency_key text,
       add column if not exists attempts int not null default 0,
       add column if not exists max_attempts int not null default %2$s,
       add column if not exists deferrals int not null default 0,
       add column if not exists last_error text,
       add column if not exists skip_reason text,
       add column if not exists lease uuid,
       add column if not exists worker_id uuid,
       add column if not exists rate_slot timestamptz,
       add column if not exists cancel_requested_at timestamptz,
       add column if not exists started_at timestamptz,
       add column if not exists finished_at timestamptz,
       add column if not exists created_at timestamptz not null default now()',
    p_table, p_max_attempts
  );

  -- One rule each; together they are the state machine.
  execute format(
    $sql$
    alter table %1$s
      add constraint %2$s_status_known check (
        status in ('pending', 'processing', 'completed', 'failed', 'cancelled', 'skipped', 'unconfirmed', 'awaiting_approval')
      ),
      add constraint %2$s_processing_has_lease check ((status = 'processing') = (lease is not null)),
      add constraint %2$s_done_has_finished_at check (
        (status in ('completed', 'failed', 'cancelled', 'skipped')) = (finished_at is not null)
      ),
      add constraint %2$s_skipped_has_reason check ((status = 'skipped') = (skip_reason is not null)),
      add constraint %2$s_scheduled_for_finite check (isfinite(scheduled_for)),
      add constraint %2$s_job_priority_range check (job_priority between -50 and 50),
      add constraint %2$s_max_attempts_range check (max_attempts between 1 and 25),
      add constraint %2$s_attempts_not_negative check (attempts >= 0),
      add constraint %2$s_tenant_row unique (tenant_id, id)
    $sql$,
    p_table, v_name
  );

  execute format('create unique index %2$s_idempotency_key on %1$s (tenant_id, idempotency_key) where idempotency_key is not null', p_table, v_name);
  execute format('create index %2$s_pending on %1$s (tenant_id, scheduled_for) where status = ''pending''', p_table, v_name);
  execute format('create index %2$s_processing on %1$s (worker_id) where status = ''processing''', p_table, v_name);
  execute format('create index %2$s_attention on %1$s (tenant_id, status) where status in (''failed'', ''unconfirmed'', ''awaiting_approval'')', p_table, v_name);
  execute format('create index %2$s_done on %1$s (finished_at) where finished_at is not null', p_table, v_name);
  -- A queue table changes all the time: vacuum it early, and leave room on each page.
  execute format(
    'alter table %s set (fillfactor = 80, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0)',
    p_table
  );
end;
$_$;

COMMENT ON FUNCTION brainops_internal.add_job_columns(p_table regclass, p_max_attempts integer) IS 'Gives a table the engine''s columns, checks and indexes. For the table''s owner; called once for each table.';

CREATE FUNCTION brainops_internal.address_digest(p_address text) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
    AS $$
  select
    pg_catalog.textcat(
      'sha256:',
      pg_catalog.encode(
        pg_catalog.sha256(pg_catalog.convert_to(pg_catalog.lower(pg_catalog.btrim(p_address)), 'UTF8')),
        'hex'
      )
    );
$$;

COMMENT ON FUNCTION brainops_internal.address_digest(p_address text) IS 'What is left of the address of a person who was forgotten.';

CREATE FUNCTION brainops_internal.address_pattern(p_address text) RETURNS text
    LANGUAGE sql IMMUTABLE
    SET search_path TO ''
    AS $_$
  select
    case
      -- A longer address that ends or begins so is somebody else's; a full stop may end a sentence.
      when brainops_internal.email_key(p_address) is not null then '(?<![a-z0-9._%+-])' || regexp_replace(
        p_address,
        '[][\\^$.|?*+(){}]',
        '\\\&',
        'g'
      ) || '(?!\.?[a-z0-9-])'
      when p_address ~ '^\+[0-9]+$' then '\' || p_address || '(?![0-9])'
    end;
$_$;

COMMENT ON FUNCTION brainops_internal.address_pattern(p_address text) IS 'The regular expression that finds an address (e-mail in lower case, number in E.164) whole in a text in lower case; null for what is no address.';

CREATE FUNCTION brainops_internal.address_sms(p_id uuid, p_lease uuid, p_number text) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
begin
  update public.ai_sms_queue set recipient = p_number where id = p_id and lease = p_lease and status = 'processing';
  return found;
end;
$$;

COMMENT ON FUNCTION brainops_internal.address_sms(p_id uuid, p_lease uuid, p_number text) IS 'Writes the recipient in E.164; false where the lease does not hold.';

CREATE FUNCTION brainops_internal.adopt_touch() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  v_enrolment public.ai_nurture_campaigns;
  v_step public.campaign_steps;
  v_touch public.ai_campaign_touches;
begin
  new.touch_type := lower(btrim(new.touch_type));
  if new.touch_type not in ('email', 'sms') then
    raise exception 'touch_type: % is neither email nor sms', quote_literal(left(new.touch_type, 80))
      using errcode = 'OP024', column = 'touch_type', hint = 'Other kinds are steps of a campaign: insert them into campaign_steps.';
  end if;
  new.scheduled_for := coalesce(new.scheduled_for, brainops.now());
  new.due_at := new.scheduled_for;
  if brainops.current_tenant_id() <> new.tenant_id then
    return new;
  end if;

  select * into v_enrolment
    from public.ai_nurture_campaigns
    where tenant_id = new.tenant_id and id = new.campaign_id
    for no key update;
  if not found or v_enrolment.lead_id is null then
    if coalesce(brainops_internal.normal_status(new.status), 'pending') in ('pending', 'awaiting_approval') and found then
      new.status := 'skipped';
      new.skip_reason := 'campaign_id is a definition without a lead';
    end if;
    return new;
  end if;

  new.entrance := v_enrolment.entrance;
  select * into v_step
    from public.campaign_steps as s
    where s.tenant_id = new.tenant_id and s.campaign_id = v_enrolment.campaign_id and s.version = v_enrolment.version
      and s.template = new.content_template and brainops_internal.touch_type_of(s.kind) = new.touch_type
    order by
      not exists (
        select from public.ai_campaign_touches as t
        where t.tenant_id = new.tenant_id and t.campaign_id = new.campaign_id and t.step_key = s.step_key and t.performed_at is null
      ),
      s.step_number
    limit 1;
  if not found then
    return new;
  end if;

  delete from public.ai_campaign_touches
  where tenant_id = new.tenant_id
    and campaign_id = new.campaign_id
    and entrance = new.entrance
    and step_key = v_step.step_key
    and performed_at is null
    and status in ('pending', 'awaiting_approval')
  returning * into v_touch;
  if not found then
    new.status := 'skipped';
    new.skip_reason := 'the sequence makes this touch itself';
    return new;
  end if;
  new.step_key := v_touch.step_key;
  new.step_number := v_touch.step_number;
  new.version := v_touch.version;
  new.split_key := v_touch.split_key;
  new.variant := v_touch.variant;
  if v_touch.status = 'awaiting_approval' then
    new.status := v_touch.status;
    new.last_error := v_touch.last_error;
  end if;
  update public.ai_nurture_campaigns set next_touch_date = new.scheduled_for where id = v_enrolment.id;
  return new;
end;
$$;

CREATE TABLE public.ai_nurture_campaigns (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    tenant_id uuid DEFAULT (NULLIF(current_setting('brainops.statement_tenant'::text, true), ''::text))::uuid NOT NULL,
    lead_id uuid,
    campaign_type text NOT NULL,
    status text DEFAULT 'active'::text NOT NULL,
    next_touch_date timestamp with time zone,
    touch_count integer DEFAULT 0 NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    name text,
    is_active boolean DEFAULT true NOT NULL,
    campaign_id uuid,
    version integer,
    entrance integer DEFAULT 1 NOT NULL,
    enrolled_at timestamp with time zone,
    schedule_start timestamp with time zone,
    held_since timestamp with time zone,
    split_key text,
    variant text,
    exit_reason text,
    ended_at timestamp with time zone,
    CONSTRAINT ai_nurture_campaigns_enrolment_is_pinned CHECK (((lead_id IS NULL) OR ((campaign_id IS NOT NULL) AND (version IS NOT NULL)))),
    CONSTRAINT ai_nurture_campaigns_lead_or_name CHECK (((lead_id IS NOT NULL) OR (name IS NOT NULL))),
    CONSTRAINT ai_nurture_campaigns_over_has_end CHECK (((lead_id IS NULL) OR ((status = ANY (ARRAY['completed'::text, 'exited'::text, 'cancelled'::text])) = (ended_at IS NOT NULL)))),
    CONSTRAINT ai_nurture_campaigns_paused_is_held CHECK (((lead_id IS NULL) OR (status <> 'paused'::text) OR (held_since IS NOT NULL))),
    CONSTRAINT ai_nurture_campaigns_status_known CHECK ((status = ANY (ARRAY['active'::text, 'paused'::text, 'completed'::text, 'exited'::text, 'cancelled'::text]))),
    CONSTRAINT ai_nurture_campaigns_touch_count_not_negative CHECK ((touch_count >= 0))
);

ALTER TABLE ONLY public.ai_nurture_campaigns FORCE ROW LEVEL SECURITY;

COMMENT ON TABLE public.ai_nurture_campaigns IS 'Enrolments: one lead in one campaign. Insert lead_id and campaign_type, and the whole sequence runs; update status to paused, active or cancelled to steer it. A row without a lead is a client''s own definition: kept, and nothing more.';

COMMENT ON COLUMN public.ai_nurture_campaigns.campaign_type IS 'Code of a row in campaigns.';

COMMENT ON COLUMN public.ai_nurture_campaigns.status IS 'active, paused, completed (all steps done), exited (exit_reason says why) or cancelled.';

COMMENT ON COLUMN public.ai_nurture_campaigns.next_touch_date IS 'When the next step is due; null when there is none.';

COMMENT ON COLUMN public.ai_nurture_campaigns.touch_count IS 'Messages made so far.';

COMMENT ON COLUMN public.ai_nurture_campaigns.version IS 'Version of the campaign that it runs on.';

COMMENT ON COLUMN public.ai_nurture_campaigns.entrance IS 'Which time the lead is in this campaign, from 1.';

COMMENT ON COLUMN public.ai_nurture_campaigns.schedule_start IS 'What delays from the enrolment count from: when it began, moved along by pauses and outages.';

COMMENT ON COLUMN public.ai_nurture_campaigns.held_since IS 'Since when its time stands still, because it or its campaign is paused; null while it runs.';

COMMENT ON COLUMN public.ai_nurture_campaigns.variant IS 'What the last split (split_key) chose; null before any.';

CREATE TABLE public.campaign_steps (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    tenant_id uuid DEFAULT (NULLIF(current_setting('brainops.statement_tenant'::text, true), ''::text))::uuid NOT NULL,
    campaign_id uuid NOT NULL,
    version integer NOT NULL,
    step_number integer NOT NULL,
    step_key text NOT NULL,
    kind text NOT NULL,
    name text,
    template text,
    delay interval DEFAULT '00:00:00'::interval NOT NULL,
    delay_from text DEFAULT 'previous'::text NOT NULL,
    next_step integer,
    config jsonb DEFAULT '{}'::jsonb NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT campaign_steps_config_is_object CHECK ((jsonb_typeof(config) = 'object'::text)),
    CONSTRAINT campaign_steps_delay_from_known CHECK ((delay_from = ANY (ARRAY['previous'::text, 'enrolment'::text]))),
    CONSTRAINT campaign_steps_delay_range CHECK (((delay >= '00:00:00'::interval) AND (delay <= '3 years'::interval))),
    CONSTRAINT campaign_steps_key_is_short_name CHECK ((step_key ~ '^[a-z0-9][a-z0-9_-]{0,62}$'::text)),
    CONSTRAINT campaign_steps_kind_known CHECK ((kind = ANY (ARRAY['send_email'::text, 'send_sms'::text, 'wait'::text, 'wait_for'::text, 'branch'::text, 'split'::text, 'task'::text, 'notify'::text, 'exit'::text]))),
    CONSTRAINT campaign_steps_number_range CHECK (((step_number >= 1) AND (step_number <= 1000)))
);

ALTER TABLE ONLY public.campaign_steps FORCE ROW LEVEL SECURITY;

COMMENT ON TABLE public.campaign_steps IS 'The steps of each version of a campaign. Free to edit until brainops.publish_campaign; sql/_README.md lists the kinds.';

COMMENT ON COLUMN public.campaign_steps.version IS 'Left out: the one after the version in force, i.e. the draft.';

COMMENT ON COLUMN public.campaign_steps.step_key IS 'What the step is called across versions: the same key is the same touch, which never happens twice. Left out: the step''s number.';

COMMENT ON COLUMN public.campaign_steps.template IS 'Name in ai_campaign_templates; for send_email and send_sms.';

COMMENT ON COLUMN public.campaign_steps.delay IS 'How long after the step before (or the enrolment) it is due; of wait_for: how long it waits at most. Days are calendar days in the lead''s zone.';

COMMENT ON COLUMN public.campaign_steps.next_step IS 'Which step comes next; null: the next number, or the end.';

CREATE FUNCTION brainops_internal.advance_enrolment(p_enrolment public.ai_nurture_campaigns, p_step public.campaign_steps, p_due_at timestamp with time zone, p_at timestamp with time zone DEFAULT NULL::timestamp with time zone) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  -- Where time stands still, nothing becomes later.
  v_now constant timestamptz := coalesce(p_enrolment.held_since, brainops.now());
  v_zone constant text := brainops_internal.lead_time_zone(p_enrolment.tenant_id, p_enrolment.lead_id);
  v_late constant interval := brainops_internal.time_between(p_due_at, v_now);
  v_base timestamptz := p_due_at;
  v_due_at timestamptz := p_at;
  v_gap interval;
  v_hold text;
  v_woken_at timestamptz;
begin
  if p_step.id is null then
    update public.ai_nurture_campaigns set status = 'completed' where id = p_enrolment.id;
    return;
  end if;

  if v_due_at is null then
    v_due_at := brainops_internal.step_due_at(p_enrolment, p_step, v_base, v_zone);
    v_gap := brainops_internal.time_between(p_due_at, v_due_at);
    if v_late > '1 hour' or (v_gap > '0' and v_late > v_gap / 2) then
      v_base := v_now;
      p_enrolment.schedule_start := p_enrolment.schedule_start + v_late;
      v_due_at := brainops_internal.step_due_at(p_enrolment, p_step, v_base, v_zone);
    end if;
  end if;
  if p_step.kind = 'wait_for' and p_step.config ->> 'since' = 'enrolment' and exists (
    select from public.lead_events as v
    where v.tenant_id = p_enrolment.tenant_id and v.lead_id = p_enrolment.lead_id
      and v.event = p_step.config ->> 'event' and v.occurred_at >= date_trunc('second', p_enrolment.enrolled_at)
  ) then
    v_woken_at := v_now;
    v_due_at := v_base;
  end if;

  select brainops_internal.enrolment_hold_reason(p_enrolment, c) into v_hold
    from public.campaigns as c
    where c.tenant_id = p_enrolment.tenant_id and c.id = p_enrolment.campaign_id;
  insert into public.ai_campaign_touches
    (tenant_id, campaign_id, touch_type, content_template, status, last_error, scheduled_for, due_at, woken_at, step_key, step_number, version, entrance, split_key, variant)
  values (
    p_enrolment.tenant_id,
    p_enrolment.id,
    brainops_internal.touch_type_of(p_step.kind),
    p_step.template,
    case when v_hold is null then 'pending' else 'awaiting_approval' end,
    v_hold,
    v_due_at,
    v_due_at,
    v_woken_at,
    p_step.step_key,
    p_step.step_number,
    p_step.version,
    p_enrolment.entrance,
    p_enrolment.split_key,
    p_enrolment.variant
  );
  update public.ai_nurture_campaigns
  set next_touch_date = v_due_at, schedule_start = p_enrolment.schedule_start
  where id = p_enrolment.id;
end;
$$;

CREATE FUNCTION brainops_internal.advance_onboarding(p_tenant_id uuid, p_workflow_id uuid) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
declare
  v_next uuid;
  v_steps record;
begin
  loop
    select s.id into v_next
      from public.ai_onboarding_workflows as w
      inner join public.ai_onboarding_steps as s on s.tenant_id = w.tenant_id and s.workflow_id = w.id
      where w.tenant_id = p_tenant_id and w.id = p_workflow_id and w.status in ('in_progress', 'completed')
        and s.status = 'pending'
        and not exists (
          select from public.ai_onboarding_steps as o
          where o.tenant_id = w.tenant_id and o.workflow_id = w.id and o.status = 'in_progress'
        )
      order by s.step_number
      limit 1;
    exit when v_next is null;
    -- Waits for whoever is closing this very step; then there may be another next one.
    update public.ai_onboarding_steps
    set status = 'in_progress'
    where tenant_id = p_tenant_id and id = v_next and status = 'pending';
  end loop;

  -- The last of several who close steps at once sees them all closed.
  perform from public.ai_onboarding_workflows where tenant_id = p_tenant_id and id = p_workflow_id for no key update;
  select
    count(*)::int as total,
    count(*) filter (where s.status in ('pending', 'in_progress'))::int as open,
    coalesce(
      min(s.step_number) filter (where s.status = 'in_progress'),
      min(s.step_number) filter (where s.status = 'pending'),
      max(s.step_number)
    ) as current
    into v_steps
    from public.ai_onboarding_steps as s
    where s.tenant_id = p_tenant_id and s.workflow_id = p_workflow_id;
  if v_steps.total = 0 then
    return;
  end if;
  update public.ai_onboarding_workflows as w
  set
    current_step = v_steps.current,
    total_steps = n.total,
    status = n.status,
    completed_at = case when n.status = 'completed' then coalesce(w.completed_at, brainops.now()) end
  from (
    select
      greatest(o.total_steps, v_steps.total) as total,
      case
        when o.status = 'in_progress' and v_steps.open = 0 and v_steps.total >= o.total_steps then 'completed'
        when o.status = 'completed' and v_steps.open > 0 then 'in_progress'
        else o.status
      end as status
    from public.ai_onboarding_workflows as o
    where o.tenant_id = p_tenant_id and o.id = p_workflow_id
  ) as n
  where w.tenant_id = p_tenant_id and w.id = p_workflow_id
    and (w.current_step, w.total_steps, w.status) is distinct from (v_steps.current, n.total, n.status);
end;
$$;

CREATE FUNCTION brainops_internal.after_broadcast_status() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
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

CREATE FUNCTION brainops_internal.after_campaign_status() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  v_ids uuid[] := array(
    select e.id from public.ai_nurture_campaigns as e
    where e.tenant_id = new.tenant_id and e.campaign_id = new.id and e.status in ('active', 'paused')
    order by e.id
  );
begin
  if new.status <> 'archived' then
    -- And those whose steps are all done, while a message of theirs waits.
    v_ids := v_ids || array(
      select e.id from public.ai_nurture_campaigns as e
      where e.tenant_id = new.tenant_id and e.campaign_id = new.id and e.status = 'completed'
        and (
          exists (
            select from public.ai_email_queue as q
            where q.tenant_id = e.tenant_id and q.enrolment_id = e.id and q.status in ('pending', 'awaiting_approval')
          )
          or exists (
            select from public.ai_sms_queue as q
            where q.tenant_id = e.tenant_id and q.enrolment_id = e.id and q.status in ('pending', 'awaiting_approval')
          )
        )
      order by e.id
    );
  end if;
  if new.status = 'active' then
    perform brainops_internal.release_enrolments(new.tenant_id, v_ids);
  elsif new.status = 'archived' then
    perform brainops.exit_enrolment(id, 'the campaign is archived') from unnest(v_ids) as id;
  else
    perform brainops_internal.hold_enrolments(new.tenant_id, v_ids);
  end if;
  return null;
end;
$$;

CREATE FUNCTION brainops_internal.after_credential_change() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
  if new.provider = 'stripe' and new.active then
    -- What failed as well: with another key Stripe may say otherwise, and a link that stays open takes money. One that
    -- somebody else has in hand is moved there, or asks again within the hour.
    update public.payment_link_closures
    set status = 'pending', scheduled_for = brainops.now()
    where id in (
      select c.id from public.payment_link_closures as c
      where c.tenant_id = new.tenant_id
        and c.account is not null
        and (c.status = 'failed' or (c.status = 'pending' and c.last_error like 'waiting:%'))
      for update skip locked
    );
  end if;
  perform brainops_internal.wake_rows(j.table_name, coalesce(new.tenant_id, old.tenant_id))
    from brainops.job_tables as j
    where j.sender = coalesce(new.provider, old.provider);
  return null;
end;
$$;

CREATE FUNCTION brainops_internal.after_delivery_report() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  v_event text;
  v_url text;
  v_lead_id uuid;
begin
  if tg_table_name = 'email_bounces' then
    v_event := 'email_bounced';
  else
    v_event := case new.event
      when 'open' then 'email_opened'
      when 'click' then 'email_clicked'
      when 'spamreport' then 'email_complained'
      else 'email_unsubscribed'
    end;
    v_url := new.metadata ->> 'url';
  end if;
  if new.email_id is not null then
    select lead_id into v_lead_id from public.ai_email_queue where tenant_id = new.tenant_id and id = new.email_id;
    if not found then
      select coalesce(brainops_internal.lead_alias(l.id, new.tenant_id), l.id) into v_lead_id
        from brainops.job_archive as a
        cross join lateral (select brainops_internal.uuid_or_null(a.job_row ->> 'lead_id') as id) as l
        where a.row_id = new.email_id and a.tenant_id = new.tenant_id and a.table_name = 'ai_email_queue'
        limit 1;
    end if;
  end if;
  -- A mail to an address and not to a lead: the lead may have that address.
  if v_lead_id is null then
    select id into v_lead_id
      from public.revenue_leads
      where tenant_id = new.tenant_id and email_key = lower(new.recipient);
  end if;
  if v_lead_id is not null and exists (select from public.revenue_leads where id = v_lead_id) then
    perform brainops_internal.record_lead_event(
      new.tenant_id, v_lead_id, v_event, 'email', new.occurred_at, new.id::text,
      jsonb_strip_nulls(jsonb_build_object('email_id', new.email_id, 'url', v_url))
    );
  end if;
  return null;
end;
$$;

CREATE FUNCTION brainops_internal.after_enrolment_insert() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
  with first_touches as (
    insert into public.ai_campaign_touches
      (tenant_id, campaign_id, touch_type, content_template, status, last_error, scheduled_for, due_at, step_key, step_number, version, entrance)
    select
      e.tenant_id,
      e.id,
      brainops_internal.touch_type_of(s.kind),
      s.template,
      case when h.reason is null then 'pending' else 'awaiting_approval' end,
      h.reason,
      d.due_at,
      d.due_at,
      s.step_key,
      s.step_number,
      e.version,
      e.entrance
    from inserted as e
    inner join public.campaigns as c on c.tenant_id = e.tenant_id and c.id = e.campaign_id
    cross join lateral (
      select f.* from public.campaign_steps as f
      where f.tenant_id = e.tenant_id and f.campaign_id = e.campaign_id and f.version = e.version
      order by f.step_number
      limit 1
    ) as s
    cross join lateral (
      select brainops_internal.add_delay(e.schedule_start, s.delay, brainops_internal.lead_time_zone(e.tenant_id, e.lead_id)) as due_at
    ) as d
    -- As the row will be once it is in: inserted has the types of the table.
    cross join lateral (
      select brainops_internal.enrolment_hold_reason(r, c) as reason
      from public.ai_nurture_campaigns as r
      where r.tenant_id = e.tenant_id and r.id = e.id
    ) as h
    where e.lead_id is not null and e.status in ('active', 'paused')
    returning tenant_id, campaign_id, due_at
  )
  update public.ai_nurture_campaigns as e
  set next_touch_date = f.due_at
  from first_touches as f
  where e.tenant_id = f.tenant_id and e.id = f.campaign_id and e.next_touch_date is distinct from f.due_at;
  return null;
end;
$$;

CREATE FUNCTION brainops_internal.after_enrolment_moves() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
  perform brainops.exit_enrolment(new.id, r.reason)
  from public.campaigns as c
  inner join public.revenue_leads as l on l.tenant_id = c.tenant_id
  cross join lateral (select brainops_internal.entry_refusal(c, l) as reason) as r
  where c.tenant_id = new.tenant_id and c.id = new.campaign_id and l.id = new.lead_id and r.reason is not null;
  return null;
end;
$$;

CREATE FUNCTION brainops_internal.after_enrolment_update() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
  if new.status = 'paused' then
    perform brainops_internal.hold_enrolments(new.tenant_id, array[new.id]);
  elsif new.status = 'active' then
    if brainops_internal.release_enrolments(new.tenant_id, array[new.id]) = 0 then
      -- Its campaign holds it yet: the reason is another now.
      perform brainops_internal.hold_enrolments(new.tenant_id, array[new.id]);
    end if;
  else
    perform brainops_internal.close_enrolment(new);
  end if;
  return null;
end;
$$;

CREATE FUNCTION brainops_internal.after_job_delete() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  v_keys text[];
begin
  select array_agg(tenant_id || ':' || brainops_internal.job_table_name(tg_table_schema, tg_table_name) || ':' || id) into v_keys
    from deleted
    where status = 'pending';
  if v_keys is not null then
    perform brainops_internal.dequeue(v_keys);
  end if;
  return null;
end;
$$;

CREATE FUNCTION brainops_internal.after_job_insert() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  v_ids uuid[];
  v_tenant_ids uuid[];
  v_run_ats timestamptz[];
  v_priorities smallint[];
begin
  -- What a foreign key to tenants would hold, once for the statement instead of once for each row
  -- (10,000 rows: 177 ms instead of 201). The lock keeps the tenants from being deleted meanwhile.
  if (select count(*) from (
    select from public.tenants where id in (select tenant_id from inserted) for key share
  ) as t) <> (select count(distinct tenant_id) from inserted) then
    raise exception 'tenant_id: % names a tenant that does not exist', tg_relid::regclass
      using errcode = 'foreign_key_violation', column = 'tenant_id', hint = 'select id, slug from tenants';
  end if;

  select array_agg(id), array_agg(tenant_id), array_agg(scheduled_for), array_agg(job_priority)
    into v_ids, v_tenant_ids, v_run_ats, v_priorities
    from inserted
    where status = 'pending';
  if v_ids is not null then
    perform brainops_internal.enqueue(brainops_internal.job_table_name(tg_table_schema, tg_table_name), v_ids, v_tenant_ids, v_run_ats, v_priorities);
  end if;
  perform pg_notify('brainops_jobs', tg_table_name);
  return null;
end;
$$;

CREATE FUNCTION brainops_internal.after_job_update() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  c_table constant text := brainops_internal.job_table_name(tg_table_schema, tg_table_name);
  v_moved boolean;
  v_keys text[];
  v_ids uuid[];
  v_tenant_ids uuid[];
  v_run_ats timestamptz[];
  v_priorities smallint[];
begin
  with
    changed as materialized (
      select
        n.id, n.tenant_id, n.status, n.scheduled_for, n.job_priority, n.attempts, o.status as old_status,
        case when o.status <> n.status then coalesce(n.skip_reason, n.last_error) end as detail
      from after_rows as n
      inner join before_rows as o on o.id = n.id
      where o.status <> n.status
        or n.status = 'pending' and (o.scheduled_for <> n.scheduled_for or o.job_priority <> n.job_priority)
    ),
    noted as (
      insert into brainops.job_events (tenant_id, table_name, row_id, from_status, to_status, attempt, detail)
      select c.tenant_id, c_table, c.id, c.old_status, c.status, c.attempts, c.detail
      from changed as c
      where c.old_status <> c.status
    )
  select
    bool_or(c.old_status <> c.status),
    -- Due at another time, or due again.
    array_agg(c.id) filter (where c.status = 'pending'),
    array_agg(c.tenant_id) filter (where c.status = 'pending'),
    array_agg(c.scheduled_for) filter (where c.status = 'pending'),
    array_agg(c.job_priority) filter (where c.status = 'pending'),
    -- Not due any more. A claim (pending -> processing) keeps the job: it is running this very row.
    array_agg(c.tenant_id || ':' || c_table || ':' || c.id)
      filter (where c.old_status = 'pending' and c.status not in ('pending', 'processing'))
    into v_moved, v_ids, v_tenant_ids, v_run_ats, v_priorities, v_keys
    from changed as c;

  if v_moved then
    perform pg_notify('brainops_jobs', tg_table_name);
  end if;
  if v_ids is not null then
    perform brainops_internal.enqueue(c_table, v_ids, v_tenant_ids, v_run_ats, v_priorities);
  end if;
  if v_keys is not null then
    perform brainops_internal.dequeue(v_keys);
  end if;
  return null;
end;
$$;

CREATE FUNCTION brainops_internal.after_lead_delete() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
  delete from brainops.lead_keys as k using deleted as d where k.tenant_id = d.tenant_id and k.lead_id = d.id;
  return null;
end;
$$;

CREATE FUNCTION brainops_internal.after_lead_events() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  v_ids uuid[];
begin
  select array_agg(distinct e.lead_id) into v_ids
    from inserted as e
    inner join brainops.score_reasons as r on r.reason = e.event and r.kind = 'event';
  if v_ids is not null then
    perform brainops_internal.request_rescore(v_ids);
  end if;
  return null;
end;
$$;

CREATE FUNCTION brainops_internal.after_lead_events_campaigns() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  v_now constant timestamptz := brainops.now();
  v_exit record;
begin
  if not exists (
    select from inserted as i
    inner join public.ai_nurture_campaigns as e on e.tenant_id = i.tenant_id and e.lead_id = i.lead_id
  ) then
    return null;
  end if;
  perform from (select distinct tenant_id, lead_id from inserted) as i
  inner join public.ai_nurture_campaigns as e on e.tenant_id = i.tenant_id and e.lead_id = i.lead_id
  where e.status in ('active', 'paused')
  order by e.id
  for no key update of e;

  insert into public.campaign_touch_events (tenant_id, touch_id, event, occurred_at)
  select i.tenant_id, t.id, w.word, min(i.occurred_at)
  from inserted as i
  cross join lateral (
    select case i.event
      when 'email_opened' then 'opened'
      when 'email_clicked' then 'clicked'
      when 'email_replied' then 'replied'
      when 'sms_replied' then 'replied'
      when 'email_bounced' then 'bounced'
      when 'email_unsubscribed' then 'unsubscribed'
      when 'opted_out' then 'unsubscribed'
      when 'email_complained' then 'complained'
    end as word
  ) as w
  cross join lateral (
    -- The touch that is named; or else the one that the person was sent last.
    select t.id
    from public.ai_nurture_campaigns as e
    inner join public.ai_campaign_touches as t on t.tenant_id = e.tenant_id and t.campaign_id = e.id
    where e.tenant_id = i.tenant_id and e.lead_id = i.lead_id and t.message_id is not null
      and case
        when i.metadata ? 'touch_id' then t.id::text = i.metadata ->> 'touch_id'
        when i.metadata ?| array['email_id', 'sms_id'] then t.message_id::text = coalesce(i.metadata ->> 'email_id', i.metadata ->> 'sms_id')
        else t.touch_type = coalesce(i.channel, t.touch_type) and t.performed_at between i.occurred_at - interval '30 days' and i.occurred_at
      end
    order by t.performed_at desc
    limit 1
  ) as t
  where w.word is not null
  group by 1, 2, 3
  on conflict do nothing;

  for v_exit in
    select distinct on (e.id) e.id, brainops_internal.exit_reason_of(c, i.event, i.channel, i.metadata) as reason
    from inserted as i
    inner join public.ai_nurture_campaigns as e on e.tenant_id = i.tenant_id and e.lead_id = i.lead_id
    inner join public.campaigns as c on c.tenant_id = e.tenant_id and c.id = e.campaign_id
    where e.status in ('active', 'paused')
      -- Providers tell seconds.
      and i.occurred_at >= date_trunc('second', e.enrolled_at)
      and brainops_internal.exit_reason_of(c, i.event, i.channel, i.metadata) is not null
    order by e.id, i.occurred_at
  loop
    perform brainops.exit_enrolment(v_exit.id, v_exit.reason);
  end loop;

  with woken as (
    update public.ai_campaign_touches as t
    set
      woken_at = v_now,
      -- Where time stands still, it goes on from there.
      due_at = coalesce(e.held_since, v_now),
      scheduled_for = case when t.status = 'pending' then coalesce(e.held_since, v_now) else t.scheduled_for end
    from inserted as i
    inner join public.ai_nurture_campaigns as e on e.tenant_id = i.tenant_id and e.lead_id = i.lead_id
    inner join public.campaign_steps as s
      on s.tenant_id = e.tenant_id and s.campaign_id = e.campaign_id and s.version = e.version
      and s.kind = 'wait_for' and s.config ->> 'event' = i.event
    where e.status in ('active', 'paused')
      and i.occurred_at >= date_trunc('second', e.enrolled_at)
      and t.tenant_id = e.tenant_id and t.campaign_id = e.id and t.step_key = s.step_key
      and t.performed_at is null and t.woken_at is null
    returning t.campaign_id, t.due_at
  )
  update public.ai_nurture_campaigns as e set next_touch_date = w.due_at from woken as w where e.id = w.campaign_id;
  return null;
end;
$$;

CREATE FUNCTION brainops_internal.after_lead_events_onboarding() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  v_step_id uuid;
begin
  for v_step_id in
    select s.id
    from inserted as e
    inner join public.ai_onboarding_workflows as w on w.tenant_id = e.tenant_id and w.lead_id = e.lead_id
    inner join public.ai_onboarding_steps as s
      on s.tenant_id = w.tenant_id and s.workflow_id = w.id and s.advance_on = e.event
    where s.status in ('pending', 'in_progress') and w.status in ('in_progress', 'paused') and e.occurred_at >= w.started_at
    order by s.id
  loop
    update public.ai_onboarding_steps set status = 'completed' where id = v_step_id and status in ('pending', 'in_progress');
  end loop;
  return null;
end;
$$;

CREATE FUNCTION brainops_internal.after_lead_insert() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
  insert into public.lead_events (tenant_id, lead_id, event, source_key, metadata)
  select tenant_id, id, 'captured', 'captured', jsonb_strip_nulls(jsonb_build_object('source', source))
  from inserted
  where merged_into is null;
  perform brainops_internal.enqueue_rescores((select array_agg(id) from inserted where merged_into is null));
  return null;
end;
$$;

CREATE FUNCTION brainops_internal.after_lead_score_events() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
  perform brainops_internal.request_rescore((select array_agg(distinct lead_id) from inserted));
  return null;
end;
$$;

CREATE FUNCTION brainops_internal.after_lead_score_update() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
  perform brainops_internal.set_score(new.tenant_id, new.id, new.score, 'set_by_client');
  return null;
end;
$$;

CREATE FUNCTION brainops_internal.after_lead_tier() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
  perform brainops_internal.route_lead(case when tg_op = 'UPDATE' then old end, new);
  return null;
end;
$$;

CREATE FUNCTION brainops_internal.after_lead_update() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
  insert into public.lead_events (tenant_id, lead_id, event, metadata)
  select n.tenant_id, n.id, 'stage_changed', jsonb_build_object('from', o.stage, 'to', n.stage)
  from after_rows as n
  inner join before_rows as o on o.id = n.id
  where o.stage <> n.stage;
  perform brainops_internal.enqueue_rescores(
    (
      select array_agg(n.id)
      from after_rows as n
      inner join before_rows as o on o.id = n.id
      where o.rescore_requested_at is null and n.rescore_requested_at is not null
    )
  );
  return null;
end;
$$;

CREATE FUNCTION brainops_internal.after_lead_won() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
  perform brainops_internal.open_onboarding(new.tenant_id, new.id, 'won');
  return null;
end;
$$;

CREATE FUNCTION brainops_internal.after_onboarding_insert() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
  perform brainops_internal.make_onboarding_steps(new);
  perform brainops_internal.advance_onboarding(new.tenant_id, new.id);
  return null;
end;
$$;

CREATE FUNCTION brainops_internal.after_onboarding_mail() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
  if new.status = 'completed' then
    update public.ai_onboarding_steps
    set
      status = case when advance_on = 'email_sent' then 'completed' else status end,
      problem = null
    where tenant_id = new.tenant_id and email_id = new.id and status = 'in_progress';
  else
    update public.ai_onboarding_steps
    set problem = case
      when new.status in ('failed', 'skipped', 'cancelled', 'unconfirmed')
        then format('its mail is %s: %s', new.status, coalesce(new.skip_reason, new.last_error, 'no reason given'))
    end
    where tenant_id = new.tenant_id and email_id = new.id and status = 'in_progress';
  end if;
  return null;
exception
  when serialization_failure or deadlock_detected or lock_not_available or query_canceled then
    raise;
  when others then
    raise warning 'onboarding: step of mail % could not be moved on: %', new.id, sqlerrm;
    return null;
end;
$$;

CREATE FUNCTION brainops_internal.after_onboarding_step() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  v_old_status text := case when tg_op = 'UPDATE' then old.status end;
begin
  if new.email_id is not null and (tg_op = 'INSERT' or old.email_id is null) then
    begin
      insert into public.ai_email_queue (id, tenant_id, recipient, subject, body, metadata, idempotency_key, scheduled_for)
      select
        new.email_id, new.tenant_id, w.lead_id::text, new.subject, new.body,
        jsonb_build_object('type', 'onboarding', 'onboarding_step', new.step_name, 'onboarding_workflow_id', w.id),
        'onboarding:' || new.id, brainops.now()
      from public.ai_onboarding_workflows as w
      where w.tenant_id = new.tenant_id and w.id = new.workflow_id
      on conflict (tenant_id, idempotency_key) where idempotency_key is not null do nothing;
    exception
      -- A template that no mail can be made of must not keep a lead from being won.
      when sqlstate 'OP004' or sqlstate 'OP005' then
        update public.ai_onboarding_steps
        set email_id = null, problem = 'its mail could not be queued: ' || sqlerrm
        where tenant_id = new.tenant_id and id = new.id;
    end;
  elsif new.status in ('skipped', 'cancelled') and new.email_id is not null then
    update public.ai_email_queue
    set status = 'cancelled'
    where tenant_id = new.tenant_id and id = new.email_id and status = 'pending';
  elsif new.status = 'in_progress' and v_old_status <> 'in_progress' and new.email_id is not null then
    perform brainops_internal.wake_onboarding_mail(new);
  end if;
  if tg_op = 'INSERT' or v_old_status <> new.status or old.due_at is distinct from new.due_at
    or old.remind <> new.remind or old.remind_before <> new.remind_before or old.escalate_after is distinct from new.escalate_after
  then
    perform brainops_internal.set_onboarding_reminders(new);
  end if;
  if v_old_status is distinct from new.status then
    perform brainops_internal.advance_onboarding(new.tenant_id, new.workflow_id);
  end if;
  return null;
end;
$$;

CREATE FUNCTION brainops_internal.after_onboarding_step_delete() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
  update public.ai_onboarding_workflows
  set total_steps = greatest(total_steps - 1, 1)
  where tenant_id = old.tenant_id and id = old.workflow_id;
  if found then
    perform brainops_internal.advance_onboarding(old.tenant_id, old.workflow_id);
  end if;
  return null;
end;
$$;

CREATE FUNCTION brainops_internal.after_onboarding_update() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
  if new.status = 'completed' then
    update public.ai_onboarding_steps
    set status = 'skipped'
    where tenant_id = new.tenant_id and workflow_id = new.id and status in ('pending', 'in_progress');
    perform brainops_internal.record_lead_event(
      new.tenant_id, new.lead_id, 'onboarded', null, brainops.now(), new.id::text,
      jsonb_build_object('workflow_id', new.id)
    );
    return null;
  end if;
  if new.status = 'cancelled' then
    update public.ai_onboarding_steps
    set status = 'cancelled'
    where tenant_id = new.tenant_id and workflow_id = new.id and status in ('pending', 'in_progress');
    return null;
  end if;
  if old.status = 'cancelled' then
    update public.ai_onboarding_steps
    set status = 'pending', due_at = null
    where tenant_id = new.tenant_id and workflow_id = new.id and status = 'cancelled';
  end if;
  if old.status = 'paused' then
    -- Nobody is late because of a pause.
    update public.ai_onboarding_steps
    set due_at = due_at + (brainops.now() - old.paused_at)
    where tenant_id = new.tenant_id and workflow_id = new.id and status in ('pending', 'in_progress') and due_at is not null;
  end if;
  if new.status = 'paused' then
    perform brainops_internal.set_onboarding_reminders(s)
    from public.ai_onboarding_steps as s
    where s.tenant_id = new.tenant_id and s.workflow_id = new.id and s.status = 'in_progress';
  end if;
  if new.status = 'in_progress' and old.status <> 'completed' then
    -- It did not begin when it was inserted; whoever brings steps has said how many, or brought them.
    if new.total_steps = 0 and not exists (
      select from public.ai_onboarding_steps where tenant_id = new.tenant_id and workflow_id = new.id
    ) then
      perform brainops_internal.make_onboarding_steps(new);
    end if;
    perform brainops_internal.advance_onboarding(new.tenant_id, new.id);
  end if;
  return null;
end;
$$;

CREATE FUNCTION brainops_internal.after_payment_closure() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
  update public.payment_requests
  set expired_at = brainops.now()
  where tenant_id = new.tenant_id
    and id = new.payment_request_id
    and key_generation = new.key_generation
    and expired_at is null
    and cancelled_at is null
    and new.reason = 'expired';
  return null;
end;
$$;

CREATE FUNCTION brainops_internal.after_payment_update() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  v_account text := brainops_internal.stripe_account(case when new.key_account is not null then new.tenant_id end);
  v_known public.stripe_objects;
begin
  if new.stripe_payment_link_id is distinct from old.stripe_payment_link_id and new.stripe_payment_link_id is not null then
    -- The one place where a row is locked before its account: an event of just this moment may
    -- collide with it, and then one of the two is tried again.
    perform brainops_internal.lock_stripe_account(v_account);
    v_known.tenant_id := new.tenant_id;
    v_known.own_account := new.key_account is not null;
    v_known.payment_request_id := new.id;
    v_known.key_generation := new.key_generation;
    perform brainops_internal.record_stripe_objects(v_known, array[new.stripe_payment_link_id]);
    -- The payer, or Stripe, may have been faster than we.
    with woken as (
      delete from brainops.waiting_stripe_events
      where account = v_account and object_id = new.stripe_payment_link_id
      returning event_id
    )
    update public.webhook_events as w
    set status = 'pending'
    from woken
    where w.provider = 'stripe'
      and w.provider_event_id = woken.event_id
      and w.tenant_id is not distinct from case when new.key_account is not null then new.tenant_id end
      and w.status <> 'pending';
  end if;

  if new.key_started_at is not null then
    perform brainops_internal.schedule_payment_closure(new);
  end if;
  if old.paid_at is null and new.paid_at is not null then
    perform brainops_internal.follow_payment(new);
  end if;
  if new.deliver_by is not null and old.payment_url is null and new.payment_url is not null
    and new.cancelled_at is null and new.paid_at is null
  then
    perform brainops_internal.deliver_payment_link(new);
  end if;
  return null;
end;
$$;

CREATE FUNCTION brainops_internal.after_tenant_insert() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
  perform brainops_internal.ship_campaigns(new.id);
  return null;
end;
$$;

CREATE FUNCTION brainops_internal.after_topic_optout() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
  -- Whoever is being enrolled right now is in and leaves, or comes after this and does not enter.
  perform from public.revenue_leads as l
  where l.tenant_id = new.tenant_id and lower(l.email) = new.address_key
  order by l.id
  for no key update;
  perform brainops.exit_enrolment(e.id, 'topic_not_wanted')
  from public.ai_nurture_campaigns as e
  inner join public.revenue_leads as l on l.tenant_id = e.tenant_id and l.id = e.lead_id
  where e.tenant_id = new.tenant_id
    and e.status in ('active', 'paused')
    and lower(l.email) = new.address_key
    and brainops_internal.topic_opted_out(e.tenant_id, l.email, e.campaign_type);
  return null;
end;
$$;

CREATE FUNCTION brainops_internal.after_touch_message() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
  insert into public.campaign_touch_events (tenant_id, touch_id, event, occurred_at, detail)
  select t.tenant_id, t.id, case new.status when 'completed' then 'sent' else new.status end, brainops.now(),
    case when new.status <> 'completed' then coalesce(new.skip_reason, new.last_error) end
  from public.ai_campaign_touches as t
  where t.tenant_id = new.tenant_id and t.id = new.touch_id
  on conflict do nothing;
  return null;
end;
$$;

CREATE TABLE public.stripe_objects (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    tenant_id uuid DEFAULT (NULLIF(current_setting('brainops.statement_tenant'::text, true), ''::text))::uuid NOT NULL,
    object_id text NOT NULL,
    own_account boolean NOT NULL,
    payment_request_id uuid NOT NULL,
    key_generation integer NOT NULL,
    refunded_minor bigint DEFAULT 0 NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    currency text,
    charged_minor bigint
);

ALTER TABLE ONLY public.stripe_objects FORCE ROW LEVEL SECURITY;

COMMENT ON TABLE public.stripe_objects IS 'Which of Stripe''s objects (link, session, intent, charge, invoice, subscription, refund, dispute) belongs to which payment request: what tells whose an event is.';

COMMENT ON COLUMN public.stripe_objects.own_account IS 'Whether it lives in the tenant''s own Stripe account: only events from there may concern it.';

COMMENT ON COLUMN public.stripe_objects.refunded_minor IS 'Of a charge: the most that Stripe said was refunded in all; 0 for anything else.';

COMMENT ON COLUMN public.stripe_objects.currency IS 'That of charged_minor and refunded_minor.';

COMMENT ON COLUMN public.stripe_objects.charged_minor IS 'What the payer was charged, in currency: of a charge that was refunded, and of a payment that Stripe converted (the ledger has it in the request''s currency). Null for anything else.';

CREATE FUNCTION brainops_internal.apply_known_stripe_event(p_event jsonb, p_known public.stripe_objects) RETURNS text
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
declare
  v_type text := p_event ->> 'type';
  v_object jsonb := p_event #> '{data,object}';
  v_at timestamptz := brainops_internal.stripe_time(p_event -> 'created');
  v_livemode boolean := coalesce((p_event ->> 'livemode')::boolean, false);
  v_request public.payment_requests;
  v_inactive boolean;
begin
  select * into strict v_request
    from public.payment_requests
    where tenant_id = (p_known).tenant_id and id = (p_known).payment_request_id;
  case
    when v_type in ('checkout.session.completed', 'checkout.session.async_payment_succeeded') then
      if v_object ->> 'payment_status' = 'unpaid' then
        return null; -- a delayed method: async_payment_succeeded or _failed tells
      end if;
      -- What a subscription brings in is told by its invoices.
      if coalesce(v_object ->> 'mode', 'payment') = 'payment' and coalesce((v_object ->> 'amount_total')::bigint, 0) > 0 then
        perform brainops_internal.record_payment(
          p_known, 'payment',
          coalesce(brainops_internal.stripe_id(v_object -> 'payment_intent'), v_object ->> 'id'), null,
          -- Where Stripe showed the payer another currency, this is what was charged in ours.
          coalesce(v_object #> '{currency_conversion,amount_total}', v_object -> 'amount_total')::text::bigint,
          coalesce(v_object #>> '{currency_conversion,source_currency}', v_object ->> 'currency'),
          v_livemode, v_at
        );
        -- Refunds come in what the payer paid, so they are shares of that.
        if v_object #> '{currency_conversion,amount_total}' is not null then
          update public.stripe_objects
          set charged_minor = (v_object ->> 'amount_total')::bigint, currency = lower(v_object ->> 'currency')
          where tenant_id = (p_known).tenant_id
            and object_id = coalesce(brainops_internal.stripe_id(v_object -> 'payment_intent'), v_object ->> 'id');
        end if;
      end if;
    when v_type = 'checkout.session.async_payment_failed' then
      update public.payment_requests
      set failed_generation = greatest(failed_generation, (p_known).key_generation)
      where tenant_id = (p_known).tenant_id and id = (p_known).payment_request_id;
      perform brainops_internal.record_payment_event(v_request, 'payment_failed', v_at, v_object ->> 'id', '{}');
      perform brainops.notify(
        (p_known).tenant_id, 'A payment failed: ' || v_request.plan_name,
        'The bank refused the payment of request ' || v_request.id || '. Set its payment_status to open to make a new link.',
        'payment:' || v_request.id || ':failed:' || (v_object ->> 'id'), v_request.lead_id
      );
    when v_type = 'checkout.session.expired' then
      perform brainops_internal.record_payment_event(v_request, 'checkout_expired', v_at, v_object ->> 'id', '{}');
    when v_type = 'payment_link.updated' then
      -- One that was used up is inactive too; that is no news.
      v_inactive := not coalesce((v_object ->> 'active')::boolean, true)
        and coalesce((v_object #>> '{restrictions,completed_sessions,count}')::int, 0)
          < coalesce((v_object #>> '{restrictions,completed_sessions,limit}')::int, 1);
      update public.payment_requests as r
      set link_inactive = v_inactive, link_told_at = v_at
      where r.tenant_id = (p_known).tenant_id
        and r.id = (p_known).payment_request_id
        and r.key_generation = (p_known).key_generation
        and (r.link_told_at is null or r.link_told_at < v_at or (r.link_told_at = v_at and v_inactive));
    when v_type = 'invoice.paid' then
      if coalesce((v_object ->> 'amount_paid')::bigint, 0) > 0 then
        perform brainops_internal.record_payment(
          p_known, 'payment', v_object ->> 'id', null, (v_object ->> 'amount_paid')::bigint, v_object ->> 'currency', v_livemode,
          coalesce(brainops_internal.stripe_time(v_object #> '{status_transitions,paid_at}'), v_at)
        );
      end if;
    when v_type = 'invoice.payment_failed' then
      perform brainops_internal.record_payment_event(
        v_request, 'payment_failed', v_at, concat_ws(':', v_object ->> 'id', v_object ->> 'attempt_count'), '{}'
      );
      perform brainops.notify(
        (p_known).tenant_id, 'A renewal could not be collected: ' || v_request.plan_name,
        'Invoice ' || (v_object ->> 'id') || ' of payment request ' || v_request.id || ', attempt '
          || coalesce(v_object ->> 'attempt_count', '?') || '.',
        concat_ws(':', 'payment', v_request.id, 'invoice', v_object ->> 'id', v_object ->> 'attempt_count'), v_request.lead_id
      );
    when v_type = 'invoice_payment.paid' then
      null; -- it tells which intent paid the invoice, and that is known now
    when v_type like 'customer.subscription.%' then
      perform brainops_internal.apply_stripe_subscription(p_known, p_event, v_at);
    when v_type = 'charge.refunded' then
      perform brainops_internal.apply_stripe_refund(p_known, refund, v_livemode, v_at)
        from jsonb_array_elements(coalesce(v_object #> '{refunds,data}', '[]')) as refund;
      -- The single refunds are not in it any more since 2022: their own events book them.
      update public.stripe_objects
      set
        refunded_minor = greatest(refunded_minor, (v_object ->> 'amount_refunded')::bigint),
        charged_minor = (v_object ->> 'amount')::bigint,
        currency = lower(v_object ->> 'currency')
      where tenant_id = (p_known).tenant_id and object_id = v_object ->> 'id';
    when v_type in ('refund.created', 'refund.updated', 'refund.failed', 'charge.refund.updated') then
      perform brainops_internal.apply_stripe_refund(p_known, v_object, v_livemode, v_at);
    when v_type like 'charge.dispute.%' then
      perform brainops_internal.apply_stripe_dispute(p_known, p_event, v_at);
  end case;
  perform brainops_internal.settle_payment_request((p_known).tenant_id, (p_known).payment_request_id);
  return null;
end;
$$;

CREATE FUNCTION brainops_internal.apply_sendgrid_event(p_event jsonb) RETURNS text
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $_$
declare
  c_events constant text[] := array[
    'processed', 'deferred', 'delivered', 'bounce', 'dropped', 'open', 'click', 'spamreport',
    'unsubscribe', 'group_unsubscribe', 'group_resubscribe'
  ];
  v_event text := p_event ->> 'event';
  v_recipient text := lower(btrim(p_event ->> 'email'));
  v_at timestamptz;
  v_email brainops.email_reference;
  v_reason text := coalesce(p_event ->> 'reason', p_event ->> 'response');
  v_detail text := concat_ws(' ', p_event ->> 'url', (p_event -> 'url_offset')::text, p_event ->> 'attempt');
  v_classification text := lower(coalesce(p_event ->> 'bounce_classification', ''));
  v_hard boolean;
begin
  if jsonb_typeof(p_event) <> 'object' or v_event is null then
    return 'it is no event: it has no field "event"';
  end if;
  if v_event <> all (c_events) then
    return 'nobody knows the event ' || quote_literal(left(v_event, 80));
  end if;
  if length(coalesce(v_recipient, '')) not between 1 and 320
    or coalesce(p_event ->> 'timestamp', '') !~ '^[0-9]{9,11}$'
  then
    return 'it has no usable "email" and "timestamp"';
  end if;
  v_at := to_timestamp((p_event ->> 'timestamp')::bigint);
  v_email := brainops_internal.find_email(p_event);
  if v_email.tenant_id is null then
    return 'it is about no message of ours';
  end if;

  insert into public.email_deliveries (tenant_id, email_id, recipient, event, provider_message_id, occurred_at, detail, metadata)
  values (
    v_email.tenant_id,
    v_email.email_id,
    v_recipient,
    v_event,
    brainops_internal.sendgrid_message_id(p_event),
    v_at,
    -- A clicked url may be longer than an index takes.
    case when length(v_detail) <= 500 then v_detail else left(v_detail, 400) || ' md5:' || md5(v_detail) end,
    jsonb_strip_nulls(jsonb_build_object(
      'reason', v_reason,
      'type', p_event -> 'type',
      'status', p_event -> 'status',
      'bounce_classification', p_event -> 'bounce_classification',
      'url', p_event -> 'url',
      'machine_open', p_event -> 'sg_machine_open',
      'asm_group_id', case when v_event like 'group_%' then p_event -> 'asm_group_id' end
    ))
  )
  on conflict do nothing;
  if not found then
    return null; -- told before, under another event id
  end if;

  -- Asked first, because an update of no row still costs the queue's triggers.
  if exists (select from public.ai_email_queue where id = v_email.email_id and status = 'unconfirmed') then
    perform brainops_internal.settle_by_events(v_email.tenant_id, v_email.email_id);
  end if;

  if v_event = 'bounce' then
    -- "blocked" and the soft classes may work another day; an address that does not exist will not.
    v_hard := coalesce(p_event ->> 'type', 'bounce') = 'bounce'
      and v_classification not in ('reputation', 'content', 'technical failure', 'frequency or volume too high')
      and (
        v_classification in ('invalid address', 'mailbox unavailable')
        or coalesce(p_event ->> 'status', '') like '5.%'
        or coalesce(v_reason, '') ~ '^5'
      );
    insert into public.email_bounces (tenant_id, recipient, bounce_type, reason, occurred_at, email_id)
    values (v_email.tenant_id, v_recipient, case when v_hard then 'hard' else 'soft' end, v_reason, v_at, v_email.email_id)
    on conflict do nothing;
    if v_hard then
      perform brainops_internal.suppress(v_email.tenant_id, 'email', v_recipient, 'bounced', 'sendgrid');
    end if;
  elsif v_event = 'spamreport' then
    perform brainops_internal.suppress(v_email.tenant_id, 'email', v_recipient, 'complained', 'sendgrid');
  elsif v_event in ('unsubscribe', 'group_unsubscribe', 'group_resubscribe') then
    perform brainops_internal.settle_consent(v_email.tenant_id, v_recipient);
  elsif v_event = 'dropped' then
    -- The provider knows of an older refusal: take it over.
    case lower(v_reason)
      when 'bounced address' then
        perform brainops_internal.suppress(v_email.tenant_id, 'email', v_recipient, 'bounced', 'sendgrid');
      when 'spam reporting address' then
        perform brainops_internal.suppress(v_email.tenant_id, 'email', v_recipient, 'complained', 'sendgrid');
      when 'unsubscribed address' then
        perform brainops_internal.settle_consent(v_email.tenant_id, v_recipient);
      else
        null; -- about the mail, not about the person
    end case;
  end if;
  return null;
end;
$_$;

CREATE FUNCTION brainops_internal.apply_sms_callback(p_event jsonb, p_tenant_id uuid) RETURNS text
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $_$
declare
  v_sid text := coalesce(p_event ->> 'MessageSid', p_event ->> 'SmsSid');
  v_status text := lower(coalesce(p_event ->> 'MessageStatus', p_event ->> 'SmsStatus'));
  v_code int := case when p_event ->> 'ErrorCode' ~ '^[1-9][0-9]{0,6}$' then (p_event ->> 'ErrorCode')::int end;
  v_at timestamptz := brainops_internal.webhook_time(p_event);
  v_sms brainops.sms_reference;
  v_number text;
  v_reason text;
begin
  if v_sid is null or brainops_internal.sms_status_rank(v_status) is null or v_status = 'refused' then
    return 'it has no MessageSid and MessageStatus that anybody knows';
  end if;
  v_sms := brainops_internal.find_sms(brainops_internal.uuid_or_null(p_event ->> 'row'), v_sid);
  if v_sms.tenant_id is null then
    return 'it is about no text of ours';
  end if;
  if v_sms.tenant_id <> p_tenant_id then
    return 'it is about another tenant''s text';
  end if;
  v_number := coalesce(brainops_internal.sms_number(p_event ->> 'To', null), v_sms.to_number, 'unknown');
  perform brainops_internal.lock_sms_number(v_sms.tenant_id, v_number);
  insert into public.sms_deliveries (tenant_id, sms_id, recipient, event, provider_message_id, error_code, occurred_at, metadata)
  values (
    v_sms.tenant_id, v_sms.sms_id, v_number, v_status, v_sid, v_code, v_at,
    jsonb_strip_nulls(jsonb_build_object('from', p_event -> 'From', 'reason', p_event -> 'ErrorMessage'))
  )
  on conflict do nothing;
  if not found then
    return null; -- told before
  end if;

  -- Asked first, because an update of no row still costs the queue's triggers.
  if exists (select from public.ai_sms_queue where id = v_sms.sms_id and status = 'unconfirmed') then
    perform brainops_internal.settle_sms_by_callbacks(v_sms.tenant_id, v_sms.sms_id);
  end if;

  if v_status in ('delivered', 'read') then
    perform brainops_internal.settle_unreachable(v_sms.tenant_id, v_number);
  elsif v_status in ('undelivered', 'failed') then
    v_reason := format('Twilio could not deliver a text: error %s', coalesce(v_code::text, 'unknown'));
    if v_code is not null then
      perform brainops_internal.apply_sms_error(v_sms.tenant_id, v_number, v_sms.lead_id, v_code, v_at, v_reason);
    end if;
  else
    return null;
  end if;
  perform brainops_internal.record_sms_lead_event(
    v_sms.tenant_id, v_number, v_sms.lead_id,
    case when v_status in ('undelivered', 'failed') then 'sms_failed' else 'sms_delivered' end,
    v_at, v_sid,
    jsonb_strip_nulls(jsonb_build_object(
      'sms_id', v_sms.sms_id, 'touch_id', v_sms.touch_id, 'enrolment_id', v_sms.enrolment_id, 'error_code', v_code
    ))
  );
  return null;
end;
$_$;

CREATE FUNCTION brainops_internal.apply_sms_error(p_tenant_id uuid, p_number text, p_lead_id uuid, p_code integer, p_at timestamp with time zone, p_words text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
declare
  -- One text that a carrier filters is bad luck; several in an hour are the sender's doing.
  c_routes constant int := 3;
begin
  case brainops_internal.sms_error_class(p_code)
    when 'recipient' then
      perform brainops_internal.suppress(p_tenant_id, 'sms', p_number, 'bounced', 'twilio');
    when 'opted_out' then
      perform brainops_internal.settle_sms_consent(p_tenant_id, p_number);
      perform brainops_internal.record_sms_consent(
        p_tenant_id, p_number, p_lead_id, 'denied', p_at, jsonb_build_object('error_code', p_code)
      );
      perform brainops_internal.record_sms_lead_event(
        p_tenant_id, p_number, null, 'opted_out', p_at, 'twilio:' || p_code || ':' || p_at, jsonb_build_object('error_code', p_code)
      );
    when 'sender', 'account' then
      perform brainops_internal.pause_sms(p_tenant_id, p_words);
    when 'route' then
      -- Three refused at the same moment would each see only themselves. Always after the number's lock.
      perform pg_advisory_xact_lock(hashtextextended('brainops sms route ' || p_tenant_id || ' ' || p_code, 0));
      -- Any hour that has this one in it: they may be told in any order.
      if exists (
        select from
          (
            select
              count(*) over (order by occurred_at range between interval '1 hour' preceding and current row) as n
            from public.sms_deliveries
            where tenant_id = p_tenant_id and error_code = p_code
              and occurred_at between p_at - interval '1 hour' and p_at + interval '1 hour'
          ) as hours
        where hours.n >= c_routes
      ) then
        perform brainops_internal.pause_sms(p_tenant_id, c_routes || ' or more texts within an hour: ' || p_words);
      end if;
    when 'unreachable' then
      perform brainops_internal.settle_unreachable(p_tenant_id, p_number);
    else
      null; -- about this text alone
  end case;
end;
$$;

CREATE FUNCTION brainops_internal.apply_sms_inbound(p_event jsonb, p_tenant_id uuid) RETURNS text
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
declare
  v_sid text := coalesce(p_event ->> 'MessageSid', p_event ->> 'SmsSid');
  v_from text := p_event ->> 'From';
  v_to text := p_event ->> 'To';
  v_body text := coalesce(p_event ->> 'Body', '');
  v_at timestamptz := brainops_internal.webhook_time(p_event);
  v_kind text := brainops_internal.sms_keyword(v_body, p_event ->> 'OptOutType');
  v_opt_out_type text := nullif(p_event ->> 'OptOutType', '');
  v_tenant record;
  v_tenants int := 0;
begin
  if coalesce(length(v_sid), 0) not between 1 and 64 or coalesce(length(v_from), 0) not between 3 and 32
    or coalesce(length(v_to), 0) not between 3 and 64
  then
    return 'it has no usable MessageSid, From and To';
  end if;
  for v_tenant in
    select t.tenant_id, t.is_the_one from brainops_internal.sms_tenants(v_from, v_to, p_tenant_id) as t order by t.tenant_id
  loop
    if v_tenant.is_the_one or v_kind in ('stop', 'start') then
      v_tenants := v_tenants + 1;
      perform brainops_internal.lock_sms_number(v_tenant.tenant_id, v_from);
      perform brainops_internal.apply_sms_inbound_for(
        v_tenant.tenant_id, v_sid, v_from, v_to, v_body,
        case
          when v_kind <> 'yes' then v_kind
          -- Asked for it is a word; out of the blue it is an answer to something else.
          when brainops.consent_state(v_tenant.tenant_id, 'sms', v_from) = 'pending' then 'start'
          else 'reply'
        end,
        v_at, v_opt_out_type, p_event ->> 'NumMedia',
        case
          when p_tenant_id is not null then 'own'
          when exists (select from public.sms_numbers as n where n.tenant_id = v_tenant.tenant_id and n.number = v_to) then v_to
        end,
        -- By what was said elsewhere than by text, and before: so the order in which texts are told does not matter.
        v_tenant.is_the_one or coalesce(
          (
            select c.state = 'granted'
            from public.contact_consents as c
            where c.tenant_id = v_tenant.tenant_id and c.channel = 'sms' and c.address_key = v_from
              and c.source <> 'twilio' and c.occurred_at <= v_at
            order by c.occurred_at desc, c.state = 'denied' desc
            limit 1
          ),
          false
        )
      );
    end if;
  end loop;
  return case when v_tenants = 0 then 'nobody here has texted this person from that number' end;
end;
$$;

CREATE FUNCTION brainops_internal.apply_sms_inbound_for(p_tenant_id uuid, p_sid text, p_from text, p_to text, p_body text, p_kind text, p_at timestamp with time zone, p_opt_out_type text, p_media text, p_sender text, p_start_agrees boolean) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $_$
declare
  v_lead_id uuid;
  v_inbound_id uuid;
  v_help text;
begin
  select l.id into v_lead_id from brainops_internal.sms_leads(p_tenant_id, p_from) as l order by l.updated_at desc, l.id limit 1;
  insert into public.sms_inbound (tenant_id, message_sid, from_number, to_number, body, kind, lead_id, received_at, metadata)
  values (
    p_tenant_id, p_sid, p_from, p_to, p_body, p_kind, v_lead_id, p_at,
    jsonb_strip_nulls(jsonb_build_object('opt_out_type', p_opt_out_type, 'media', nullif(p_media, '0')))
  )
  on conflict do nothing
  returning id into v_inbound_id;
  if v_inbound_id is null then
    return; -- told before
  end if;
  -- A thread of a shared number is begun by a tenant's text alone: whoever is written to there by a
  -- stranger would else be one of those whom its STOP means.
  if p_sender is not null then
    insert into public.sms_threads as t (tenant_id, number, sender, last_at)
    values (p_tenant_id, p_from, p_sender, p_at)
    on conflict (tenant_id, number, sender) do update
      set last_at = greatest(t.last_at, excluded.last_at);
  end if;

  if p_kind in ('stop', 'start') then
    perform brainops_internal.settle_sms_consent(p_tenant_id, p_from);
    -- START takes back STOP everywhere. To whom else it says yes is nobody's guess.
    if p_kind = 'start' and not p_start_agrees then
      return;
    end if;
    perform brainops_internal.record_sms_consent(
      p_tenant_id, p_from, v_lead_id, case p_kind when 'stop' then 'denied' else 'granted' end, p_at,
      jsonb_build_object('message_sid', p_sid, 'text', left(p_body, 200), 'to', p_to)
    );
    perform brainops_internal.record_sms_lead_event(
      p_tenant_id, p_from, null, case p_kind when 'stop' then 'opted_out' else 'opted_in' end, p_at, p_sid,
      jsonb_build_object('inbound_id', v_inbound_id)
    );
  elsif p_kind = 'help' then
    -- Twilio has answered already where Advanced Opt-Out is on.
    if p_opt_out_type is null and p_from ~ '^\+[1-9][0-9]{6,14}$' then
      select
        coalesce(
          nullif(btrim(t.settings ->> 'sms_help_reply'), ''),
          '{{ tenant.name }}: you get text messages from us at this number. Reply STOP to opt out.'
        )
        into v_help
        from public.tenants as t
        where t.id = p_tenant_id;
      insert into public.ai_sms_queue (tenant_id, recipient, body, metadata, lead_id, idempotency_key)
      values (
        p_tenant_id, p_from, v_help, jsonb_build_object('transactional', true, 'priority', 'high', 'in_reply_to', p_sid),
        v_lead_id, 'twilio:help:' || p_sid
      )
      on conflict do nothing;
    end if;
  else
    perform brainops_internal.record_sms_lead_event(
      p_tenant_id, p_from, null, 'sms_replied', p_at, p_sid,
      jsonb_build_object('inbound_id', v_inbound_id, 'text', left(p_body, 1600))
    );
  end if;
end;
$_$;

CREATE FUNCTION brainops_internal.apply_stripe_dispute(p_known public.stripe_objects, p_event jsonb, p_at timestamp with time zone) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
declare
  c_stages constant text[] := array[
    'warning_needs_response', 'warning_under_review', 'needs_response', 'under_review', 'warning_closed', 'prevented', 'lost', 'won'
  ];
  v_dispute jsonb := p_event #> '{data,object}';
  v_type text := p_event ->> 'type';
  v_id text := v_dispute ->> 'id';
  v_status text := v_dispute ->> 'status';
  v_rank int := coalesce(array_position(c_stages, v_status), 0);
  v_minor bigint := (v_dispute ->> 'amount')::bigint;
  v_livemode boolean := coalesce((p_event ->> 'livemode')::boolean, false);
  v_opened timestamptz := coalesce(brainops_internal.stripe_time(v_dispute -> 'created'), p_at);
  v_request public.payment_requests;
  v_is_new boolean;
begin
  select * into strict v_request from public.payment_requests where tenant_id = (p_known).tenant_id and id = (p_known).payment_request_id;
  select count(*) = 0 into v_is_new from public.payment_disputes where tenant_id = (p_known).tenant_id and stripe_dispute_id = v_id;
  insert into public.payment_disputes as d (
    tenant_id, payment_request_id, stripe_dispute_id, status, reason, amount_minor, currency, evidence_due_by, opened_at, told_at, told_rank
  )
  values (
    (p_known).tenant_id, (p_known).payment_request_id, v_id, v_status, v_dispute ->> 'reason', v_minor, lower(v_dispute ->> 'currency'),
    brainops_internal.stripe_time(v_dispute #> '{evidence_details,due_by}'), v_opened, p_at, v_rank
  )
  on conflict (tenant_id, stripe_dispute_id) do update
    set
      status = excluded.status,
      reason = excluded.reason,
      amount_minor = excluded.amount_minor,
      evidence_due_by = excluded.evidence_due_by,
      told_at = excluded.told_at,
      told_rank = excluded.told_rank
    where (excluded.told_at, excluded.told_rank) > (d.told_at, d.told_rank);

  -- A bank that only asks (warning_…) takes nothing; otherwise the money is gone from the start.
  if v_type in ('charge.dispute.funds_withdrawn', 'charge.dispute.funds_reinstated') or v_status not like 'warning%' and v_status <> 'prevented' then
    perform brainops_internal.record_payment(
      p_known, 'dispute', v_id, brainops_internal.stripe_id(v_dispute -> 'charge'), -v_minor, v_dispute ->> 'currency', v_livemode, v_opened
    );
  end if;
  if v_type = 'charge.dispute.funds_reinstated' then
    perform brainops_internal.record_payment(
      p_known, 'dispute_reversal', v_id, brainops_internal.stripe_id(v_dispute -> 'charge'), v_minor, v_dispute ->> 'currency', v_livemode, p_at
    );
  end if;
  if v_is_new then
    perform brainops_internal.record_payment_event(v_request, 'disputed', v_opened, v_id, jsonb_build_object('dispute', v_id));
    perform brainops.notify(
      (p_known).tenant_id, 'A payment is disputed: ' || v_request.plan_name,
      'Dispute ' || v_id || ' (' || coalesce(v_dispute ->> 'reason', 'no reason given') || ') of '
        || brainops_internal.format_payment(v_minor, lower(v_dispute ->> 'currency')) || ', payment request ' || v_request.id
        || coalesce('. Evidence is due by ' || brainops_internal.stripe_time(v_dispute #> '{evidence_details,due_by}'), '') || '.',
      'payment:' || v_request.id || ':dispute:' || v_id, v_request.lead_id
    );
  end if;
end;
$$;

CREATE FUNCTION brainops_internal.apply_stripe_event(p_event jsonb, p_tenant_id uuid) RETURNS text
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
declare
  c_types constant text[] := array[
    'checkout.session.completed', 'checkout.session.async_payment_succeeded', 'checkout.session.async_payment_failed',
    'checkout.session.expired', 'payment_link.updated', 'invoice.paid', 'invoice.payment_failed', 'invoice_payment.paid',
    'customer.subscription.created', 'customer.subscription.updated', 'customer.subscription.deleted',
    'customer.subscription.paused', 'customer.subscription.resumed', 'charge.refunded', 'charge.refund.updated',
    'refund.created', 'refund.updated', 'refund.failed', 'charge.dispute.created', 'charge.dispute.updated',
    'charge.dispute.closed', 'charge.dispute.funds_withdrawn', 'charge.dispute.funds_reinstated'
  ];
  v_type text := p_event ->> 'type';
  v_object jsonb := p_event #> '{data,object}';
  v_account text := brainops_internal.stripe_account(p_tenant_id);
  v_ids text[];
  v_new text[];
  v_known public.stripe_objects;
  v_reason text;
begin
  if v_type is null or jsonb_typeof(v_object) is distinct from 'object' or jsonb_typeof(p_event -> 'created') is distinct from 'number' then
    return 'it is no event: it has no "type", "created" and "data.object"';
  end if;
  if v_type <> all (c_types) then
    return 'nothing follows from ' || quote_literal(left(v_type, 80));
  end if;
  if p_event ->> 'account' is not null then
    return 'it is of a connected account, and none is used';
  end if;
  if v_type like 'checkout.session.%' and brainops_internal.stripe_id(v_object -> 'payment_link') is null then
    return 'it is about no payment request of ours';
  end if;

  perform brainops_internal.lock_stripe_account(v_account);
  v_ids := brainops_internal.stripe_ids(v_object);
  select * into v_known
    from public.stripe_objects as o
    where o.object_id = any (v_ids)
      and o.own_account = (p_tenant_id is not null)
      and (p_tenant_id is null or o.tenant_id = p_tenant_id)
    order by o.created_at, o.object_id
    limit 1;
  if not found then
    delete from brainops.waiting_stripe_events where since < brainops.now() - interval '30 days';
    insert into brainops.waiting_stripe_events (account, object_id, event_id, since)
    select v_account, id, p_event ->> 'id', brainops.now() from unnest(v_ids) as id where p_event ->> 'id' is not null
    on conflict do nothing;
    return 'it waits until one of ' || array_to_string(v_ids, ', ') || ' is known';
  end if;

  v_new := brainops_internal.record_stripe_objects(v_known, v_ids);
  v_reason := brainops_internal.apply_known_stripe_event(p_event, v_known);
  perform brainops_internal.wake_stripe_events(v_account, p_tenant_id, v_new);
  return v_reason;
end;
$$;

COMMENT ON FUNCTION brainops_internal.apply_stripe_event(p_event jsonb, p_tenant_id uuid) IS 'Applies one verified Stripe event, whatever the order and however often; p_tenant_id: whose own account sent it, null for the installation''s. Returns null, or why nothing follows from it.';

CREATE FUNCTION brainops_internal.apply_stripe_refund(p_known public.stripe_objects, p_refund jsonb, p_livemode boolean, p_at timestamp with time zone) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
declare
  v_request public.payment_requests;
  v_id text := p_refund ->> 'id';
  v_minor bigint := (p_refund ->> 'amount')::bigint;
  v_failed boolean := p_refund ->> 'status' in ('failed', 'canceled');
begin
  select * into strict v_request from public.payment_requests where tenant_id = (p_known).tenant_id and id = (p_known).payment_request_id;
  if brainops_internal.record_payment(
    p_known, 'refund', v_id, brainops_internal.stripe_id(p_refund -> 'charge'), -v_minor, p_refund ->> 'currency', p_livemode,
    coalesce(brainops_internal.stripe_time(p_refund -> 'created'), p_at)
  ) then
    perform brainops_internal.record_payment_event(
      v_request, 'refunded', coalesce(brainops_internal.stripe_time(p_refund -> 'created'), p_at), v_id, jsonb_build_object('refund', v_id)
    );
  end if;
  -- One that failed went out and came back, in whatever order we hear of it.
  if v_failed and brainops_internal.record_payment(
    p_known, 'refund_reversal', v_id, brainops_internal.stripe_id(p_refund -> 'charge'), v_minor, p_refund ->> 'currency', p_livemode, p_at
  ) then
    perform brainops.notify(
      (p_known).tenant_id, 'A refund failed: ' || v_request.plan_name,
      'Refund ' || v_id || ' of payment request ' || v_request.id || ' failed: '
        || coalesce(p_refund ->> 'failure_reason', 'no reason given') || '. The money is back with you.',
      'payment:' || v_request.id || ':refund-failed:' || v_id, v_request.lead_id
    );
  end if;
end;
$$;

CREATE FUNCTION brainops_internal.apply_stripe_subscription(p_known public.stripe_objects, p_event jsonb, p_at timestamp with time zone) RETURNS void
    LANGUAGE sql
    SET search_path TO ''
    AS $$
  insert into public.subscriptions as s (
    tenant_id,
    payment_request_id,
    stripe_subscription_id,
    status,
    current_period_start,
    current_period_end,
    cancel_at_period_end,
    canceled_at,
    ended_at,
    livemode,
    told_at,
    told_rank,
    told_by
  )
  select
    (p_known).tenant_id,
    (p_known).payment_request_id,
    o.sub ->> 'id',
    o.sub ->> 'status',
    -- The period moved from the subscription to its items in 2025.
    brainops_internal.stripe_time(
      coalesce(o.sub #> '{items,data,0,current_period_start}', o.sub -> 'current_period_start')
    ),
    brainops_internal.stripe_time(
      coalesce(o.sub #> '{items,data,0,current_period_end}', o.sub -> 'current_period_end')
    ),
    coalesce((o.sub ->> 'cancel_at_period_end')::boolean, false),
    brainops_internal.stripe_time(o.sub -> 'canceled_at'),
    brainops_internal.stripe_time(o.sub -> 'ended_at'),
    coalesce((p_event ->> 'livemode')::boolean, false),
    p_at,
    case p_event ->> 'type'
      when 'customer.subscription.created' then 0
      when 'customer.subscription.deleted' then 20
      else 10
    end + coalesce(
      array_position(
        array['incomplete', 'trialing', 'active', 'past_due', 'unpaid', 'paused', 'incomplete_expired', 'canceled'],
        o.sub ->> 'status'
      ),
      0
    ),
    p_event ->> 'id'
  from (select p_event #> '{data,object}' as sub) as o
  on conflict (tenant_id, stripe_subscription_id) do update
    set
      status = excluded.status,
      current_period_start = excluded.current_period_start,
      current_period_end = excluded.current_period_end,
      cancel_at_period_end = excluded.cancel_at_period_end,
      canceled_at = excluded.canceled_at,
      ended_at = excluded.ended_at,
      told_at = excluded.told_at,
      told_rank = excluded.told_rank,
      told_by = excluded.told_by
    -- A subscription that was deleted never comes back.
    where
      (
        excluded.told_rank >= 20,
        excluded.told_at,
        excluded.told_rank / 10,
        coalesce(excluded.current_period_end, '-infinity'),
        excluded.told_rank,
        excluded.told_by
      ) > (
        s.told_rank >= 20,
        s.told_at,
        s.told_rank / 10,
        coalesce(s.current_period_end, '-infinity'),
        s.told_rank,
        s.told_by
      );
$$;

CREATE FUNCTION brainops_internal.apply_twilio_event(p_event jsonb, p_tenant_id uuid) RETURNS text
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
begin
  return case
    when jsonb_typeof(p_event) <> 'object' then 'it is no event'
    when p_event ->> 'kind' = 'status' then brainops_internal.apply_sms_callback(p_event, p_tenant_id)
    when p_event ->> 'kind' = 'inbound' then brainops_internal.apply_sms_inbound(p_event, p_tenant_id)
    else 'it is neither a status nor a text'
  end;
end;
$$;

COMMENT ON FUNCTION brainops_internal.apply_twilio_event(p_event jsonb, p_tenant_id uuid) IS 'Applies a status callback or an inbound text; null, or why it has no effect. Any order, any number of times: one end state.';

CREATE FUNCTION brainops_internal.ask_for_opt_in() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
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
      and address_key in (v_key, brainops_internal.address_digest(v_key))
      and (expires_at is null or expires_at > brainops.now())
  ) then
    return null;
  end if;
  insert into public.opt_in_requests (tenant_id, lead_id, address)
  values (new.tenant_id, new.lead_id, new.address)
  returning id into v_id;
  perform brainops_internal.mail_opt_in(v_id);
  return null;
exception
  -- What was said is kept, even of an address that no mail can go to.
  when sqlstate 'OP004' then return null;
end;
$$;

CREATE FUNCTION brainops_internal.ask_for_opt_in_by_text() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
  if coalesce(new.evidence ->> 'double_opt_in', '') <> 'true'
    and (brainops.contact_policy(new.tenant_id, 'sms')).consent <> 'double_opt_in'
  then
    return null;
  end if;
  perform pg_advisory_xact_lock(hashtextextended('opt_in:' || new.tenant_id || ':' || new.address_key, 0));
  if exists (
    select from public.ai_sms_queue
    where tenant_id = new.tenant_id and recipient = new.address_key and metadata ->> 'type' = 'opt_in'
      and created_at > brainops.now() - interval '1 day'
  ) then
    return null;
  end if;
  insert into public.ai_sms_queue (tenant_id, recipient, lead_id, body, metadata, scheduled_for, created_at)
  values (
    new.tenant_id, new.address, new.lead_id,
    '{{ tenant.name }}: reply YES to get texts from us, STOP if it was not you. Msg & data rates may apply.',
    '{"type": "opt_in", "transactional": true}', brainops.now(), brainops.now()
  );
  return null;
exception
  -- What was said is kept, even of a number that no text can go to.
  when sqlstate 'OP017' then return null;
end;
$$;

CREATE FUNCTION brainops_internal.before_broadcast_recipient() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
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

CREATE FUNCTION brainops_internal.before_campaign() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
  if new.status <> 'active' or (tg_op = 'UPDATE' and old.status = 'active') then
    return new;
  end if;
  if new.version = 0 then
    raise exception 'campaigns: % has no published version, so it cannot be active', quote_literal(new.code)
      using errcode = 'OP022',
        hint = format('Insert it as draft with its campaign_steps, select brainops.publish_campaign(%L), then set status to active.', new.code);
  end if;
  perform brainops_internal.refuse_launch(new.tenant_id, s.channel)
  from (
    select distinct brainops_internal.touch_type_of(kind) as channel
    from public.campaign_steps
    where tenant_id = new.tenant_id and campaign_id = new.id and version = new.version and kind in ('send_email', 'send_sms')
    order by 1
  ) as s;
  new.launched_at := coalesce(new.launched_at, brainops.now());
  return new;
end;
$$;

CREATE FUNCTION brainops_internal.before_campaign_rule() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  v_problems text;
begin
  select string_agg(p, '; ') into v_problems from brainops_internal.condition_problems(new.condition) as p;
  if v_problems is not null then
    raise exception 'campaign_rules: rule % cannot be asked: %', quote_literal(left(new.name, 120)), v_problems
      using errcode = 'OP022', column = 'condition', hint = 'Mend its condition, which speaks the language of branch steps, and write the rule again.';
  end if;
  return new;
end;
$$;

CREATE FUNCTION brainops_internal.before_campaign_step() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  v_row public.campaign_steps := case when tg_op = 'DELETE' then old else new end;
  v_campaign public.campaigns;
begin
  if brainops.current_tenant_id() <> v_row.tenant_id then
    -- As in enter_campaign: nothing of the other tenant is told before row level security refuses it.
    return v_row;
  end if;
  -- Else a published version would lose its steps to a draft.
  if tg_op = 'UPDATE' and (old.tenant_id, old.campaign_id) <> (new.tenant_id, new.campaign_id) then
    raise exception 'campaign_steps: step % belongs to its campaign for good', quote_literal(old.step_key)
      using errcode = 'OP021', column = 'campaign_id', hint = 'Insert it into the other campaign, and delete it here.';
  end if;
  select * into v_campaign from public.campaigns where tenant_id = v_row.tenant_id and id = v_row.campaign_id;
  if not found then
    -- The campaign goes, and its steps with it; or the foreign key says that there is none.
    return v_row;
  end if;
  if tg_op = 'INSERT' then
    new.version := coalesce(new.version, v_campaign.version + 1);
    new.step_key := coalesce(new.step_key, new.step_number::text);
    v_row := new;
  end if;
  if v_row.version <= v_campaign.version or (tg_op = 'UPDATE' and old.version <= v_campaign.version) then
    raise exception 'campaign_steps: version % of campaign % is published and cannot be changed', least(v_row.version, v_campaign.version), quote_literal(v_campaign.code)
      using errcode = 'OP021',
        hint = format('select brainops.revise_campaign(%L), change version %s, then brainops.publish_campaign(%L).', v_campaign.code, v_campaign.version + 1, v_campaign.code);
  end if;
  return v_row;
end;
$$;

CREATE FUNCTION brainops_internal.before_campaign_template() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
  if tg_op = 'INSERT' then
    new.version := coalesce(
      new.version,
      (
        select max(t.version) + 1
        from public.ai_campaign_templates as t
        where t.tenant_id = new.tenant_id and t.name = new.name and t.channel = new.channel
      ),
      1
    );
  elsif (new.subject, new.body, new.name, new.channel, new.version) is distinct from (old.subject, old.body, old.name, old.channel, old.version)
    and exists (
      select from public.ai_campaign_touches as t
      where t.tenant_id = old.tenant_id and t.content_template = old.name and t.template_version = old.version
    )
  then
    raise exception 'ai_campaign_templates: version % of % was sent to people and cannot be changed', old.version, quote_literal(old.name)
      using errcode = 'OP021', hint = 'Insert the template again: it becomes the next version, which touches take from then on.';
  end if;
  return new;
end;
$$;

CREATE FUNCTION brainops_internal.before_enrolment_update() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  v_status text := brainops_internal.normal_enrolment_status(new.status);
begin
  if v_status is null then
    raise exception 'status: unknown word %', quote_literal(left(new.status, 80))
      using errcode = 'OP002', hint = 'Write active, paused, completed, exited or cancelled.';
  end if;
  new.status := v_status;
  if new.lead_id is null or old.status = new.status then
    return new;
  end if;
  if old.status not in ('active', 'paused') then
    raise exception 'status: enrolment % is % since %, so it cannot be set to %', old.id, old.status, old.ended_at, quote_literal(v_status)
      using errcode = 'OP023',
        hint = 'Enrol the lead anew with brainops.enrol; its campaign says with reentry whether a lead may come back.';
  end if;
  if v_status = 'paused' then
    new.held_since := coalesce(old.held_since, brainops.now());
  elsif v_status in ('completed', 'exited', 'cancelled') then
    new.ended_at := brainops.now();
    new.next_touch_date := null;
    new.held_since := null;
    new.exit_reason := coalesce(new.exit_reason, case when v_status <> 'completed' then 'set by ' || session_user end);
  end if;
  return new;
end;
$$;

CREATE FUNCTION brainops_internal.before_job_insert() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  -- The two common words need no call.
  v_status text := case
    when new.status is null or new.status in ('pending', 'queued') then 'pending'
    else brainops_internal.normal_status(new.status)
  end;
begin
  if v_status is null then
    raise exception 'status: unknown word %', quote_literal(left(new.status, 80))
      using errcode = 'OP002',
        hint = 'Write pending (or queued, scheduled, new, open), awaiting_approval, or leave status out.';
  end if;
  if v_status in ('processing', 'unconfirmed') then
    raise exception 'status: a row cannot be inserted as %', quote_literal(new.status)
      using errcode = 'OP003', hint = 'Insert it as pending; a worker claims it when it is due.';
  end if;

  new.status := v_status;
  new.scheduled_for := coalesce(new.scheduled_for, brainops.now());
  new.attempts := 0;
  new.deferrals := 0;
  new.lease := null;
  new.worker_id := null;
  new.rate_slot := null;
  new.cancel_requested_at := null;
  if v_status in ('pending', 'awaiting_approval') then
    new.finished_at := null;
    new.skip_reason := null;
  else
    -- History that is brought along, e.g. by an import.
    new.finished_at := coalesce(new.finished_at, brainops.now());
    if v_status = 'skipped' then
      new.skip_reason := coalesce(new.skip_reason, 'inserted as skipped');
    end if;
  end if;
  return new;
end;
$$;

CREATE FUNCTION brainops_internal.before_job_update() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  v_status text := brainops_internal.normal_status(new.status);
begin
  if old.tenant_id <> new.tenant_id then
    raise exception 'tenant_id: row % belongs to its tenant for good', old.id
      using errcode = 'OP003', hint = 'Cancel the row, and insert another for the other tenant.';
  end if;
  if v_status is null then
    raise exception 'status: unknown word %', quote_literal(left(new.status, 80))
      using errcode = 'OP002', hint = 'Write pending to run the row (again), or cancelled to stop it.';
  end if;
  new.status := v_status;
  new.scheduled_for := coalesce(new.scheduled_for, brainops.now());
  if old.status = new.status then
    return new;
  end if;

  if old.status = 'processing' then
    if v_status = 'cancelled' then
      -- What is with the provider can't be called back. The wish is kept: the row will not be
      -- tried again, and its true outcome is still written.
      new.status := 'processing';
      new.cancel_requested_at := coalesce(new.cancel_requested_at, brainops.now());
      return new;
    end if;
    raise exception 'status: row % is being processed since %, so it cannot be set to %', old.id, old.started_at, quote_literal(v_status)
      using errcode = 'OP003', hint = 'Wait until it is settled; cancelled is taken as a wish meanwhile.';
  end if;

  if v_status = 'processing' then
    raise exception 'status: row % cannot be set to processing by hand', old.id
      using errcode = 'OP003', hint = 'Set it to pending; a worker claims it when it is due.';
  end if;
  if v_status = 'unconfirmed' then
    raise exception 'status: row % cannot be set to unconfirmed by hand', old.id
      using errcode = 'OP003', hint = 'Only a lost outcome is unconfirmed; brainops.confirm(table, id, happened) settles one.';
  end if;
  if v_status = 'cancelled' and old.status = 'completed' then
    raise exception 'status: row % was completed at %, so it cannot be cancelled', old.id, old.finished_at
      using errcode = 'OP003', hint = 'Add "and status = ''pending''" to the update.';
  end if;

  if v_status in ('pending', 'awaiting_approval') then
    -- Runs (again): with all its attempts, as if new.
    new.attempts := 0;
    new.deferrals := 0;
    new.finished_at := null;
    new.skip_reason := null;
    new.rate_slot := null;
    new.cancel_requested_at := null;
  else
    new.finished_at := brainops.now();
    new.skip_reason := case when v_status = 'skipped' then coalesce(new.skip_reason, 'set by ' || session_user) end;
  end if;
  return new;
end;
$$;

CREATE FUNCTION brainops_internal.before_lead_insert() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  v_stage text := brainops_internal.normal_stage(coalesce(new.stage, 'new'));
  v_email text;
  v_phone text;
  v_into uuid;
  v_other uuid;
  v_returning text := current_setting('brainops.inserted_tenant', true);
begin
  if v_stage is null then
    raise exception 'stage: unknown word %', quote_literal(left(new.stage, 80))
      using errcode = 'OP011', column = 'stage',
        hint = 'Write new, contacted, qualified, proposal_sent, negotiating, won, lost or nurturing, or leave stage out.';
  end if;
  new := brainops_internal.normal_lead(new);
  new.stage := v_stage;
  new.merged_into := null;
  new.scored_at := null;
  new.rescore_requested_at := brainops.now();
  v_email := 'email:' || brainops_internal.email_key(new.email);
  v_phone := 'phone:' || new.phone_e164;

  select lead_id into v_into from public.revenue_lead_aliases where id = new.id and tenant_id = new.tenant_id;
  -- A second row with one id is the business of the primary key, or of the client's "on conflict".
  if exists (select from public.revenue_leads where id = new.id) then
    return new;
  end if;
  loop
    if v_into is null and v_email is not null then
      v_into := nullif(brainops_internal.claim_lead_key(new.tenant_id, v_email, new.id), new.id);
    end if;
    if v_phone is not null then
      v_other := nullif(brainops_internal.claim_lead_key(new.tenant_id, v_phone, coalesce(v_into, new.id)), coalesce(v_into, new.id));
      -- Two people with addresses of their own may share a telephone.
      if exists (select from public.revenue_leads where id = v_other and (v_email is null or email_key is null)) then
        -- One lead has the address and another the number: this row says that they are one person.
        v_into := case
          when v_into is null then v_other
          when exists (select from public.revenue_leads where id = v_other and email_key is null)
            then brainops_internal.merge_lead_into(new.tenant_id, v_into, v_other)
          else v_into
        end;
      end if;
    end if;
    exit when v_into is null;
    update brainops.lead_keys set lead_id = v_into where tenant_id = new.tenant_id and lead_id = new.id;
    if brainops_internal.merge_row_into_lead(v_into, new) then
      insert into public.revenue_lead_aliases (id, tenant_id, lead_id) values (new.id, new.tenant_id, v_into)
      on conflict (id) do nothing;
      perform brainops_internal.record_lead_event(
        new.tenant_id, v_into, 'merged', null, null, new.id::text,
        jsonb_strip_nulls(jsonb_build_object('id', new.id, 'source', new.source))
      );
      new.merged_into := v_into;
      exit;
    end if;
    v_into := null; -- deleted in between
  end loop;
  -- The inserts above forgot whose row this is, which RETURNING goes by (sql/0002, fill_tenant).
  perform set_config('brainops.inserted_tenant', coalesce(v_returning, ''), true);
  return new;
end;
$$;

CREATE FUNCTION brainops_internal.before_lead_task() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
begin
  new.done_at := case when new.status = 'done' then coalesce(new.done_at, brainops.now()) end;
  return new;
end;
$$;

CREATE FUNCTION brainops_internal.before_lead_update() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  v_stage text;
begin
  if new.tenant_id <> old.tenant_id then
    raise exception 'tenant_id: lead % belongs to its tenant for good', old.id
      using errcode = 'insufficient_privilege', hint = 'Insert it for the other tenant.';
  end if;
  if new.stage is distinct from old.stage then
    v_stage := brainops_internal.normal_stage(new.stage);
    if v_stage is null then
      raise exception 'stage: unknown word %', coalesce(quote_literal(left(new.stage, 80)), 'null')
        using errcode = 'OP011', column = 'stage',
          hint = format('From %s it may go to %s.', old.stage, array_to_string(brainops.next_stages(old.stage), ', '));
    end if;
    if v_stage <> lower(btrim(new.stage)) and v_stage not in ('lost', old.stage)
      and (brainops_internal.stage_rank(v_stage) < brainops_internal.stage_rank(old.stage) or v_stage <> all (brainops.next_stages(old.stage)))
    then
      -- A client's own word that says less than is known ("replied" of a lead that negotiates).
      v_stage := old.stage;
    end if;
    if v_stage <> old.stage and v_stage <> all (brainops.next_stages(old.stage)) then
      raise exception 'stage: lead % cannot go from % to %', old.id, old.stage, quote_literal(left(new.stage, 80))
        using errcode = 'OP011', column = 'stage',
          hint = format('From %s it may go to %s.', old.stage, array_to_string(brainops.next_stages(old.stage), ', '));
    end if;
    new.stage := v_stage;
  end if;

  -- Bookkeeping alone does not make a row a newer one.
  if (new.scored_at, new.rescore_requested_at) is not distinct from (old.scored_at, old.rescore_requested_at)
    or new.stage <> old.stage
  then
    new.updated_at := brainops.now();
  end if;
  if new.score is distinct from old.score or new.metadata is distinct from old.metadata
    or new.email is distinct from old.email or new.phone is distinct from old.phone or new.phone_e164 is distinct from old.phone_e164
  then
    if new.phone is distinct from old.phone and new.phone_e164 is not distinct from old.phone_e164 then
      new.phone_e164 := null;
    end if;
    new := brainops_internal.normal_lead(new);
  end if;
  if new.company_name is distinct from old.company_name or new.metadata is distinct from old.metadata
    or new.email is distinct from old.email or new.phone is distinct from old.phone
  then
    new.rescore_requested_at := coalesce(new.rescore_requested_at, brainops.now());
  end if;
  return new;
end;
$$;

CREATE FUNCTION brainops_internal.before_onboarding_insert() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
  -- Another tenant's is refused by the policies, once this is over; until then nothing of it is touched.
  if not brainops_internal.may_act_for(new.tenant_id) then
    return new;
  end if;
  new.status := brainops_internal.onboarding_status(coalesce(new.status, 'in_progress'), array['in_progress', 'paused', 'completed', 'cancelled']);
  new.template := coalesce(new.template, 'default');
  new.current_step := coalesce(new.current_step, 1);
  new.total_steps := coalesce(new.total_steps, 0);
  new.started_at := coalesce(new.started_at, brainops.now());
  new.completed_at := case when new.status = 'completed' then coalesce(new.completed_at, brainops.now()) end;
  new.paused_at := case when new.status = 'paused' then brainops.now() end;
  new.alias_ids := '{}';
  -- Whoever comes second with the same lead waits here, and then finds the first one's.
  perform from public.revenue_leads where tenant_id = new.tenant_id and id = new.lead_id for no key update;
  update public.ai_onboarding_workflows
  set alias_ids = alias_ids || new.id
  where tenant_id = new.tenant_id and lead_id = new.lead_id and id <> new.id;
  if found then
    return null;
  end if;
  return new;
end;
$$;

CREATE FUNCTION brainops_internal.before_onboarding_step_insert() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  v_plan brainops.onboarding_plan;
begin
  if not brainops_internal.may_act_for(new.tenant_id) then
    return new; -- for the policies to refuse
  end if;
  -- The same step again is no second one.
  if exists (
    select from public.ai_onboarding_steps
    where tenant_id = new.tenant_id and workflow_id = new.workflow_id
      and step_number = new.step_number and step_name = new.step_name and id <> new.id
  ) then
    return null;
  end if;
  new.status := brainops_internal.onboarding_status(
    coalesce(new.status, 'pending'), array['pending', 'in_progress', 'completed', 'skipped', 'cancelled']
  );
  if new.duration is null then
    select p.* into v_plan
      from public.ai_onboarding_workflows as w
      cross join lateral brainops_internal.onboarding_steps_of(w.tenant_id, w.template) as p
      where w.tenant_id = new.tenant_id and w.id = new.workflow_id and p.step_name = new.step_name;
    new.duration := coalesce(v_plan.duration, interval '3 days');
    new.description := coalesce(new.description, v_plan.description, '');
    if new.body is null then
      new.subject := v_plan.subject;
      new.body := v_plan.body;
    end if;
    new.advance_on := coalesce(new.advance_on, v_plan.advance_on);
    new.remind := coalesce(new.remind, v_plan.remind, 'owner');
    new.remind_before := coalesce(new.remind_before, v_plan.remind_before, interval '1 day');
    new.escalate_after := coalesce(new.escalate_after, v_plan.escalate_after, interval '1 day');
  end if;
  new.remind := coalesce(new.remind, 'nobody');
  new.remind_before := coalesce(new.remind_before, '0');
  new.completed_at := case when new.status = 'completed' then coalesce(new.completed_at, brainops.now()) end;
  if new.status = 'in_progress' then
    new.started_at := coalesce(new.started_at, brainops.now());
    new.due_at := coalesce(new.due_at, new.started_at + new.duration);
    new.email_id := case when new.body is not null then gen_random_uuid() end;
  else
    new.email_id := null;
  end if;
  return new;
end;
$$;

CREATE FUNCTION brainops_internal.before_onboarding_step_update() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  v_workflow_status text;
begin
  new.status := brainops_internal.onboarding_status(new.status, array['pending', 'in_progress', 'completed', 'skipped', 'cancelled']);
  if new.tenant_id <> old.tenant_id or new.workflow_id <> old.workflow_id then
    raise exception 'workflow_id: step % belongs to its workflow for good', old.id
      using errcode = 'OP030', column = 'workflow_id', hint = 'Insert a step of the other workflow instead.';
  end if;
  if new.status = old.status then
    return new;
  end if;
  select w.status into v_workflow_status from public.ai_onboarding_workflows as w
    where w.tenant_id = new.tenant_id and w.id = new.workflow_id;
  if v_workflow_status = 'cancelled' and new.status <> 'cancelled' then
    raise exception 'status: step % is part of a cancelled onboarding, so it cannot become %', old.step_name, new.status
      using errcode = 'OP030', column = 'status', hint = 'Set the workflow to in_progress first.';
  end if;
  if v_workflow_status = 'paused' and new.status = 'in_progress' then
    raise exception 'status: step % is part of a paused onboarding, so it cannot begin', old.step_name
      using errcode = 'OP030', column = 'status', hint = 'Set the workflow to in_progress first; completed and skipped are taken meanwhile.';
  end if;
  if old.status = 'completed' and new.status in ('skipped', 'cancelled') then
    raise exception 'status: step % was completed at %, so it cannot become %', old.step_name, old.completed_at, new.status
      using errcode = 'OP030', column = 'status', hint = 'Set it to pending to do it again, or leave it.';
  end if;

  new.completed_at := case when new.status = 'completed' then brainops.now() end;
  new.problem := null;
  if new.status = 'in_progress' then
    new.started_at := brainops.now();
    -- A date that somebody has set stays; one that is over would be no date.
    if new.due_at is not distinct from old.due_at and (old.due_at is null or old.due_at <= brainops.now()) then
      new.due_at := brainops.now() + coalesce(new.duration, interval '3 days');
    end if;
    new.email_id := coalesce(old.email_id, case when new.body is not null then gen_random_uuid() end);
  end if;
  return new;
end;
$$;

CREATE FUNCTION brainops_internal.before_onboarding_update() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
  new.status := brainops_internal.onboarding_status(new.status, array['in_progress', 'paused', 'completed', 'cancelled']);
  if new.status = old.status then
    return new;
  end if;
  if old.status = 'completed' and new.status in ('paused', 'cancelled') then
    raise exception 'status: onboarding % was completed at %, so it cannot become %', old.id, old.completed_at, new.status
      using errcode = 'OP030', column = 'status', hint = 'Reopen one of its steps (set it to pending), or leave it.';
  end if;
  if old.status = 'completed' and not exists (
    select from public.ai_onboarding_steps
    where tenant_id = old.tenant_id and workflow_id = old.id and status in ('pending', 'in_progress')
  ) then
    raise exception 'status: onboarding % was completed at %, and none of its steps is open', old.id, old.completed_at
      using errcode = 'OP030', column = 'status', hint = 'Reopen one of its steps (set it to pending): the onboarding follows.';
  end if;
  if old.status = 'cancelled' and new.status <> 'in_progress' then
    raise exception 'status: onboarding % is cancelled, so it cannot become %', old.id, new.status
      using errcode = 'OP030', column = 'status', hint = 'Set it to in_progress first.';
  end if;
  new.completed_at := case when new.status = 'completed' then coalesce(new.completed_at, brainops.now()) end;
  new.paused_at := case when new.status = 'paused' then brainops.now() end;
  return new;
end;
$$;

CREATE FUNCTION brainops_internal.before_payment_delete() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
begin
  -- Whoever removes a tenant has ended it first, by name.
  if pg_catalog.pg_has_role(session_user, 'brainops_admin', 'member')
    and exists (select from public.tenants as t where t.id = old.tenant_id and t.status = 'suspended')
  then
    return old;
  end if;
  raise exception 'payment request %: a link was made for it or may have been, so that a payment may still come', old.id
    using errcode = 'OP010',
      hint = 'Set payment_status to cancelled: the link is switched off. The row stays; only an admin deletes it, with a tenant that is suspended.';
end;
$$;

COMMENT ON FUNCTION brainops_internal.before_payment_delete() IS 'Keeps a payment request that has had a link, for the payments that may come by it.';

CREATE FUNCTION brainops_internal.before_payment_update() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  v_wish text := case
    when new.payment_status is distinct from old.payment_status then replace(lower(btrim(new.payment_status)), 'canceled', 'cancelled')
  end;
  v_status text := brainops_internal.normal_status(new.status);
begin
  if (new.plan_id, new.plan_code, new.plan_name, new.amount, new.currency, new.amount_minor, new.interval, new.success_url)
    is distinct from (old.plan_id, old.plan_code, old.plan_name, old.amount, old.currency, old.amount_minor, old.interval, old.success_url)
  then
    raise exception 'amount: request % is for % % by plan %, and stays so', old.id, trim_scale(old.amount), old.currency, old.plan_code
      using errcode = 'OP026', hint = 'Set payment_status to cancelled, and insert another request.';
  end if;

  if v_wish = 'cancelled' and old.paid_at is null then
    new.cancelled_at := coalesce(new.cancelled_at, brainops.now());
    -- Where there is no link yet, none is made; one that is being made is closed once it is known.
    if old.status in ('pending', 'awaiting_approval', 'processing') then
      new.status := 'cancelled';
    end if;
  elsif v_wish = 'paid' and old.paid_at is null and exists (
    select from public.payment_ledger
    where tenant_id = old.tenant_id and payment_request_id = old.id and kind = 'payment'
  ) then
    new.paid_at := brainops.now();
    -- Where nothing came in the request's currency, what came is taken for what was asked.
    new.paid_minor := coalesce(nullif(old.paid_minor, 0), old.amount_minor);
  elsif v_wish = 'open' and old.payment_status in ('cancelled', 'expired', 'payment_failed') and old.status not in ('pending', 'processing') then
    new.status := 'pending';
    v_status := 'pending';
  elsif v_wish is not null then
    raise exception 'payment_status: request % is %, so it cannot be set to %', old.id, old.payment_status, quote_literal(left(v_wish, 40))
      using errcode = 'OP029', column = 'payment_status',
        hint = 'Write cancelled before it is paid, open after it was cancelled, expired or failed, paid to accept a payment of another amount. Refund at Stripe.';
  end if;

  if v_status = 'cancelled' and old.status not in ('cancelled', 'completed') and old.paid_at is null then
    new.cancelled_at := coalesce(new.cancelled_at, brainops.now());
  elsif v_status = 'skipped' and old.status = 'pending' and old.paid_at is null and old.expires_at <= brainops.now() then
    new.expired_at := coalesce(new.expired_at, brainops.now());
  elsif v_status = 'pending' and old.status not in ('pending', 'processing') and old.payment_status in ('cancelled', 'expired', 'payment_failed') then
    -- A new link. The old one stays closed; a payment that it took in time still counts.
    new.cancelled_at := null;
    new.expired_at := null;
    new.link_inactive := false;
    new.link_told_at := null;
    new.payment_url := null;
    new.stripe_payment_link_id := null;
    new.key_generation := old.key_generation + 1;
    new.key_started_at := null;
    new.key_account := null;
    if new.expires_at <= brainops.now() then
      new.expires_at := brainops.now() + (old.expires_at - old.created_at);
    end if;
  end if;

  new.payment_status := brainops_internal.payment_state(new);
  return new;
end;
$$;

CREATE FUNCTION brainops_internal.before_tenant_delete() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $_$
declare
  v_relation regclass;
  v_found boolean;
begin
  for v_relation in
    select j.relation::regclass from brainops.job_tables as j
    union
    select t.tgrelid::regclass from pg_catalog.pg_trigger as t where t.tgfoid = 'brainops_internal.check_tenants'::regproc
  loop
    execute format('select exists (select from %s where tenant_id = $1)', v_relation) into v_found using old.id;
    if v_found then
      raise exception 'tenant % still has rows in %', old.slug, v_relation
        using errcode = 'foreign_key_violation', hint = 'Suspend the tenant instead, or delete its rows first.';
    end if;
  end loop;
  return old;
end;
$_$;

CREATE FUNCTION brainops_internal.before_webhook_update() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
  new.attempts := 0;
  new.processed_at := null;
  new.skip_reason := null;
  perform graphile_worker.add_job('webhook_event__process', json_build_object('ids', array[new.id]));
  return new;
end;
$$;

CREATE FUNCTION brainops_internal.begin_payment_link(p_id uuid, p_account uuid, p_new_key boolean DEFAULT false, OUT idempotency_key text, OUT key_generation integer, OUT look_first boolean, OUT same_account boolean, OUT stripe_payment_link_id text) RETURNS record
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
declare
  v_row public.payment_requests;
begin
  select * into v_row from public.payment_requests as r where r.id = p_id for update;
  if not found then
    raise exception 'payment request %: no such row', p_id using errcode = 'OP009', hint = 'It was deleted meanwhile.';
  end if;
  look_first := v_row.key_started_at < brainops.now() - interval '23 hours';
  same_account := v_row.key_started_at is null or v_row.key_account is not distinct from p_account;
  if same_account and v_row.stripe_payment_link_id is null and (v_row.key_started_at is null or p_new_key) then
    update public.payment_requests as r
    set
      key_started_at = brainops.now(),
      key_account = p_account,
      -- Only a key that was used can be spoiled.
      key_generation = r.key_generation + (r.key_started_at is not null)::int
    where r.id = p_id
    returning * into v_row;
  end if;
  key_generation := v_row.key_generation;
  idempotency_key := 'brainops:' || v_row.id || ':' || v_row.key_generation;
  stripe_payment_link_id := v_row.stripe_payment_link_id;
end;
$$;

COMMENT ON FUNCTION brainops_internal.begin_payment_link(p_id uuid, p_account uuid, p_new_key boolean, OUT idempotency_key text, OUT key_generation integer, OUT look_first boolean, OUT same_account boolean, OUT stripe_payment_link_id text) IS 'Fixes the idempotency key of a request''s link and the account it is made through (null: the installation''s) before Stripe is asked. p_new_key: the key is spoiled, take the next.';

CREATE FUNCTION brainops_internal.begin_sms(p_id uuid, p_lease uuid, p_number text, p_text text, p_segments integer, p_account_sid text, p_sender text, p_tells boolean) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
declare
  v_tenant_id uuid;
begin
  update public.ai_sms_queue
  set to_number = p_number, account_sid = p_account_sid, text_sent = p_text, segments = p_segments
  where id = p_id and lease = p_lease and status = 'processing'
  returning tenant_id into v_tenant_id;
  if not found then
    return false;
  end if;
  insert into public.sms_threads as t (tenant_id, number, sender, last_at, told_by)
  values (v_tenant_id, p_number, p_sender, brainops.now(), case when p_tells then p_id end)
  on conflict (tenant_id, number, sender) do update
    set
      last_at = greatest(t.last_at, excluded.last_at),
      told_by = coalesce(excluded.told_by, t.told_by);
  return true;
end;
$$;

COMMENT ON FUNCTION brainops_internal.begin_sms(p_id uuid, p_lease uuid, p_number text, p_text text, p_segments integer, p_account_sid text, p_sender text, p_tells boolean) IS 'Writes down what is about to be sent, to whom and from where; false where the lease does not hold.';

CREATE FUNCTION brainops_internal.email_key(p_email text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $_$
  select
    case
      when p_email operator(pg_catalog.~) '^\s*[^@\s]+@[^@\s]+\.[^@\s]+\s*$' then pg_catalog.lower(
        pg_catalog.btrim(p_email, E' \t\r\n')
      )
    end;
$_$;

COMMENT ON FUNCTION brainops_internal.email_key(p_email text) IS 'What two spellings of one e-mail address have in common; null for what is no address ("n/a", "-"), which makes nobody the same person.';

CREATE FUNCTION brainops_internal.is_time_zone(p_name text) RETURNS boolean
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path TO ''
    AS $_$
begin
  if p_name is null then
    return null;
  end if;
  if p_name ~ '/' then
    if p_name !~* '^(etc/gmt[+-]?[0-9]{1,2}|[a-z_]+(/[a-z_-]+)+)$' then
      return false;
    end if;
  elsif p_name !~* '^(utc|gmt|est5edt|cst6cdt|mst7mdt|pst8pdt)$' then
    if p_name !~* '^[a-z-]+$' or exists (select from pg_catalog.pg_timezone_abbrevs as a where a.abbrev = upper(p_name)) then
      return false;
    end if;
  end if;
  perform pg_catalog.timezone(p_name, '2000-01-01T00:00Z'::timestamptz);
  return true;
exception
  when others then return false;
end;
$_$;

COMMENT ON FUNCTION brainops_internal.is_time_zone(p_name text) IS 'Whether it is the name of a time zone, e.g. America/Denver; an offset (+05:00) or an abbreviation (PST) is none.';

CREATE TABLE public.revenue_leads (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    tenant_id uuid DEFAULT (NULLIF(current_setting('brainops.statement_tenant'::text, true), ''::text))::uuid NOT NULL,
    company_name text,
    contact_name text,
    email text,
    phone text,
    website text,
    stage text DEFAULT 'new'::text NOT NULL,
    score numeric DEFAULT 0 NOT NULL,
    value_estimate numeric,
    source text,
    time_zone text,
    metadata jsonb DEFAULT '{}'::jsonb NOT NULL,
    created_at timestamp with time zone DEFAULT brainops.now() NOT NULL,
    updated_at timestamp with time zone DEFAULT brainops.now() NOT NULL,
    last_contact timestamp with time zone,
    next_action text,
    next_action_date timestamp with time zone,
    merged_into uuid,
    tier text GENERATED ALWAYS AS (
CASE
    WHEN (score >= (80)::numeric) THEN 'hot'::text
    WHEN (score >= (60)::numeric) THEN 'warm'::text
    WHEN (score >= (40)::numeric) THEN 'cool'::text
    ELSE 'cold'::text
END) STORED NOT NULL,
    email_key text GENERATED ALWAYS AS (
CASE
    WHEN (merged_into IS NULL) THEN brainops_internal.email_key(email)
    ELSE NULL::text
END) STORED,
    phone_e164 text,
    owner_email text,
    state text,
    scored_at timestamp with time zone,
    rescore_requested_at timestamp with time zone,
    location text,
    industry text,
    status text,
    is_test boolean DEFAULT false,
    is_demo boolean DEFAULT false,
    assigned_agent_id uuid,
    lead_id uuid,
    CONSTRAINT revenue_leads_metadata_is_object CHECK ((jsonb_typeof(metadata) = 'object'::text)),
    CONSTRAINT revenue_leads_phone_e164_shape CHECK ((phone_e164 ~ '^\+[1-9][0-9]{6,14}$'::text)),
    CONSTRAINT revenue_leads_score_range CHECK (((score >= (0)::numeric) AND (score <= (100)::numeric))),
    CONSTRAINT revenue_leads_stage_known CHECK ((stage = ANY (ARRAY['new'::text, 'contacted'::text, 'qualified'::text, 'proposal_sent'::text, 'negotiating'::text, 'won'::text, 'lost'::text, 'nurturing'::text]))),
    CONSTRAINT revenue_leads_time_zone_known CHECK (brainops_internal.is_time_zone(time_zone))
);

ALTER TABLE ONLY public.revenue_leads FORCE ROW LEVEL SECURITY;

COMMENT ON TABLE public.revenue_leads IS 'People and companies that may become customers of a tenant.';

COMMENT ON COLUMN public.revenue_leads.stage IS 'new, contacted, qualified, proposal_sent, negotiating, won, lost or nurturing; other words are understood where brainops_internal.normal_stage knows them. brainops.next_stages says where a lead may go.';

COMMENT ON COLUMN public.revenue_leads.score IS '0 (cold) to 100 (hot), reckoned from lead_score_events. What a client writes is kept (as the reason set_by_client) and goes on from there; above 0 and below 1 is taken as a share of 1, so 0.85 is 85.';

COMMENT ON COLUMN public.revenue_leads.value_estimate IS 'What the deal may be worth, in the tenant''s currency; null for not known.';

COMMENT ON COLUMN public.revenue_leads.time_zone IS 'IANA name; null for not known, then the tenant''s zone counts.';

COMMENT ON COLUMN public.revenue_leads.merged_into IS 'Not null only while an insert of a person who is a lead already is under way.';

COMMENT ON COLUMN public.revenue_leads.tier IS 'hot from 80, warm from 60, cool from 40, else cold.';

COMMENT ON COLUMN public.revenue_leads.email_key IS 'The address as it is compared; null where email is no address.';

COMMENT ON COLUMN public.revenue_leads.phone_e164 IS 'phone as +<country><number>; null where that can''t be told. May be given.';

COMMENT ON COLUMN public.revenue_leads.owner_email IS 'Who looks after the lead; null for nobody.';

COMMENT ON COLUMN public.revenue_leads.state IS 'State or province, e.g. CO; null for not known. The rules for text messages go by it.';

COMMENT ON COLUMN public.revenue_leads.scored_at IS 'When the score was last reckoned; null: not yet.';

COMMENT ON COLUMN public.revenue_leads.rescore_requested_at IS 'Set it, and the score is reckoned anew by a job; null when that is done.';

COMMENT ON COLUMN public.revenue_leads.status IS 'A word of existing clients; nothing here goes by it.';

COMMENT ON COLUMN public.revenue_leads.lead_id IS 'Link of existing clients to a table of theirs.';

CREATE FUNCTION brainops_internal.broken_rules(p_lead public.revenue_leads) RETURNS uuid[]
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  v_rule public.campaign_rules;
  v_broken uuid[] := '{}';
begin
  for v_rule in
    select * from public.campaign_rules as r
    where r.tenant_id = p_lead.tenant_id and r.active and r.condition is not null
    order by r.name
  loop
    begin
      perform brainops_internal.condition_holds(v_rule.condition, p_lead, '-infinity');
    exception
      when data_exception or program_limit_exceeded then
        v_broken := v_broken || v_rule.id;
        perform brainops_internal.report_broken_rule(v_rule, sqlerrm);
    end;
  end loop;
  return v_broken;
end;
$$;

COMMENT ON FUNCTION brainops_internal.broken_rules(p_lead public.revenue_leads) IS 'Rules of the lead''s tenant that cannot be asked about it; each is told to the tenant.';

CREATE TABLE public.campaigns (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    tenant_id uuid DEFAULT (NULLIF(current_setting('brainops.statement_tenant'::text, true), ''::text))::uuid NOT NULL,
    code text NOT NULL,
    name text NOT NULL,
    description text,
    status text DEFAULT 'draft'::text NOT NULL,
    version integer DEFAULT 0 NOT NULL,
    goal_event text,
    exit_on text[] DEFAULT ARRAY['email_replied'::text, 'sms_replied'::text, 'email_unsubscribed'::text, 'email_bounced'::text, 'email_complained'::text, 'opted_out:email'::text, 'won'::text, 'lost'::text] NOT NULL,
    reentry text DEFAULT 'none'::text NOT NULL,
    launched_at timestamp with time zone,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT campaigns_code_is_short_name CHECK ((code ~ '^[a-z0-9][a-z0-9_-]{0,62}$'::text)),
    CONSTRAINT campaigns_exit_on_has_no_null CHECK ((array_position(exit_on, NULL::text) IS NULL)),
    CONSTRAINT campaigns_goal_event_is_word CHECK ((goal_event ~ '^[a-z][a-z0-9_]{0,62}$'::text)),
    CONSTRAINT campaigns_name_given CHECK (((length(name) >= 1) AND (length(name) <= 200))),
    CONSTRAINT campaigns_reentry_known CHECK ((reentry = ANY (ARRAY['none'::text, 'after_exit'::text]))),
    CONSTRAINT campaigns_status_known CHECK ((status = ANY (ARRAY['draft'::text, 'active'::text, 'paused'::text, 'archived'::text]))),
    CONSTRAINT campaigns_version_not_negative CHECK ((version >= 0))
);

ALTER TABLE ONLY public.campaigns FORCE ROW LEVEL SECURITY;

COMMENT ON TABLE public.campaigns IS 'A sequence of a tenant. status active launches it, paused holds it, archived ends it; nothing is sent while it is a draft.';

COMMENT ON COLUMN public.campaigns.code IS 'What ai_nurture_campaigns.campaign_type says: a-z, 0-9, _ and -, at most 63 characters.';

COMMENT ON COLUMN public.campaigns.version IS 'The version that new enrolments take, published by brainops.publish_campaign; 0: none yet. Steps up to it cannot be changed.';

COMMENT ON COLUMN public.campaigns.goal_event IS 'Word of lead_events, or won: reaching it ends an enrolment with the reason goal: ….';

COMMENT ON COLUMN public.campaigns.exit_on IS 'What ends an enrolment: words of lead_events, word:channel for one channel only, and the stages won and lost.';

COMMENT ON COLUMN public.campaigns.reentry IS 'none: a lead enters once. after_exit: again, as the next entrance, once the enrolment before is over.';

CREATE FUNCTION brainops_internal.campaign_of(p_tenant text, p_code text) RETURNS public.campaigns
    LANGUAGE plpgsql STABLE
    SET search_path TO ''
    AS $$
declare
  v_tenant_id uuid := case when p_tenant is null then brainops.current_tenant_id() else brainops_internal.tenant_id_of(p_tenant) end;
  v_campaign public.campaigns;
begin
  -- Also asked by functions that see every tenant's rows.
  if v_tenant_id = brainops.current_tenant_id() or brainops.may_name_tenant() or pg_catalog.pg_has_role(session_user, 'brainops_admin', 'member') then
    select * into v_campaign from public.campaigns where tenant_id = v_tenant_id and code = p_code;
  end if;
  if v_campaign.id is null then
    raise exception 'campaign: % is no campaign of tenant %', quote_literal(p_code), coalesce(quote_literal(p_tenant), v_tenant_id::text, 'nobody')
      using errcode = 'OP020', hint = 'select code, status from campaigns; an admin names the tenant by its slug as well.';
  end if;
  return v_campaign;
end;
$$;

COMMENT ON FUNCTION brainops_internal.campaign_of(p_tenant text, p_code text) IS 'A campaign by tenant (slug or id; null: the current one) and code; OP020 where there is none.';

CREATE FUNCTION brainops_internal.campaign_problems(p_campaign_id uuid, p_version integer) RETURNS SETOF text
    LANGUAGE plpgsql STABLE
    SET search_path TO ''
    AS $_$
declare
  v_step public.campaign_steps;
  v_numbers int[];
  v_reached int[] := '{}';
  v_said text;
  v_path record;
  v_item jsonb;
  v_keys text[];
  v_start text;
begin
  select array_agg(step_number order by step_number) into v_numbers
    from public.campaign_steps where campaign_id = p_campaign_id and version = p_version;
  if v_numbers is null then
    return next format('version %s has no steps; insert into campaign_steps, or select brainops.revise_campaign(…)', p_version);
    return;
  end if;
  v_reached := v_numbers[:1];

  for v_step in
    select * from public.campaign_steps where campaign_id = p_campaign_id and version = p_version order by step_number
  loop
    v_start := format('step %s (%s): ', v_step.step_number, v_step.kind);
    v_keys := case v_step.kind
      when 'send_email' then '{high_priority_when,transactional,variables}'::text[]
      when 'send_sms' then '{high_priority_when,transactional,variables}'
      when 'wait' then '{}'
      when 'wait_for' then '{event,then,else,since}'
      when 'branch' then '{when,else}'
      when 'split' then '{variants,winner}'
      when 'task' then '{title,description,assigned_to,priority,due_in}'
      when 'notify' then '{subject,body}'
      when 'exit' then '{reason}'
    end;
    select string_agg(quote_literal(k), ', ') into v_said from jsonb_object_keys(v_step.config) as k where k <> all (v_keys);
    if v_said is not null then
      return next v_start || format('config has %s; known are %s', v_said, coalesce(nullif(array_to_string(v_keys, ', '), ''), 'none'));
    end if;

    if v_step.kind in ('send_email', 'send_sms') then
      if not exists (
        select from public.ai_campaign_templates as t
        where t.tenant_id = v_step.tenant_id and t.name = v_step.template
          and t.channel = case v_step.kind when 'send_email' then 'email' else 'sms' end
      ) then
        return next v_start || format('template %s is not in ai_campaign_templates for this channel', coalesce(quote_literal(v_step.template), 'null'));
      end if;
      if v_step.config ? 'high_priority_when' then
        return query select v_start || 'high_priority_when: ' || p from brainops_internal.condition_problems(v_step.config -> 'high_priority_when') as p;
      end if;
      if jsonb_typeof(coalesce(v_step.config -> 'variables', '{}')) <> 'object' then
        return next v_start || format('variables %s is no object', v_step.config -> 'variables');
      end if;
      if jsonb_typeof(coalesce(v_step.config -> 'transactional', 'true')) <> 'boolean' then
        return next v_start || format('transactional %s is neither true nor false', v_step.config -> 'transactional');
      end if;
    elsif v_step.template is not null then
      return next v_start || format('template %s is given, but the step sends nothing', quote_literal(v_step.template));
    end if;

    if v_step.kind in ('wait', 'wait_for') and v_step.delay = '0' then
      return next v_start || 'delay is 0; give how long it waits';
    end if;
    if v_step.kind = 'wait_for' then
      if not coalesce(v_step.config ->> 'event', '') ~ '^[a-z][a-z0-9_]{0,62}$' then
        return next v_start || format('event %s is no word of lead_events', coalesce(quote_literal(v_step.config ->> 'event'), 'null'));
      end if;
      if coalesce(v_step.config ->> 'since', 'step') not in ('step', 'enrolment') then
        return next v_start || format('since %s is neither step nor enrolment', quote_literal(v_step.config ->> 'since'));
      end if;
    elsif v_step.kind = 'branch' then
      if jsonb_typeof(v_step.config -> 'when') is distinct from 'array' or v_step.config -> 'when' = '[]' then
        return next v_start || format('when %s is no list of {"if": condition, "to": step}', coalesce(v_step.config ->> 'when', 'null'));
      else
        for v_item in select * from jsonb_array_elements(v_step.config -> 'when')
        loop
          return query select v_start || p from brainops_internal.condition_problems(v_item -> 'if') as p;
        end loop;
      end if;
    elsif v_step.kind = 'split' then
      return query select v_start || p from brainops_internal.split_problems(v_step.config) as p;
    elsif v_step.kind = 'task' then
      if coalesce(btrim(v_step.config ->> 'title'), '') = '' then
        return next v_start || 'title is missing; give what the person shall do';
      end if;
      if coalesce(v_step.config ->> 'priority', 'normal') not in ('high', 'normal', 'low') then
        return next v_start || format('priority %s is none of high, normal, low', quote_literal(v_step.config ->> 'priority'));
      end if;
      if not brainops_internal.is_interval(coalesce(v_step.config ->> 'due_in', '1 day')) then
        return next v_start || format('due_in %s is no positive interval such as 1 day', quote_literal(v_step.config ->> 'due_in'));
      end if;
    elsif v_step.kind = 'notify' and coalesce(btrim(v_step.config ->> 'subject'), '') = '' then
      return next v_start || 'subject is missing; give what is told';
    end if;

    for v_path in select * from brainops_internal.step_paths(v_step.kind, v_step.config, v_step.next_step)
    loop
      if jsonb_typeof(v_path.target) <> 'number' or not v_path.target::numeric = any (v_numbers) then
        return next v_start || format('%s %s is no step of this version', v_path.path, v_path.target);
      elsif v_path.target::numeric <= v_step.step_number then
        -- A touch never happens twice, so there is no way back.
        return next v_start || format('%s %s does not lead forward', v_path.path, v_path.target);
      elsif v_step.step_number = any (v_reached) then
        v_reached := v_reached || v_path.target::numeric::int;
      end if;
    end loop;
    -- Falls through to the next number.
    if v_step.step_number = any (v_reached) and v_step.kind <> 'exit' and v_step.next_step is null and not (
      case v_step.kind
        when 'branch' then v_step.config ? 'else'
        when 'split' then true
        when 'wait_for' then v_step.config ? 'then' and v_step.config ? 'else'
        else false
      end
    ) then
      v_reached := v_reached || v_numbers[array_position(v_numbers, v_step.step_number) + 1];
    end if;
    if not v_step.step_number = any (v_reached) then
      return next v_start || 'no step leads here';
    end if;
  end loop;
end;
$_$;

COMMENT ON FUNCTION brainops_internal.campaign_problems(p_campaign_id uuid, p_version integer) IS 'What keeps a version of a campaign from being published, one sentence each, naming step and value; nothing when it is right.';

CREATE FUNCTION brainops_internal.cap_frees_at(p_now timestamp with time zone, p_same integer, p_ahead integer, p_times timestamp with time zone[], p_cap integer, p_window interval) RETURNS timestamp with time zone
    LANGUAGE plpgsql STABLE
    SET search_path TO ''
    AS $$
declare
  v_times timestamptz[] := array_fill(p_now, array[p_same])
    || array(select t from unnest(p_times) as t where t > p_now - p_window order by t desc);
begin
  return case when cardinality(v_times) >= p_cap then v_times[greatest(p_cap - p_ahead, 1)] + p_window end;
end;
$$;

COMMENT ON FUNCTION brainops_internal.cap_frees_at(p_now timestamp with time zone, p_same integer, p_ahead integer, p_times timestamp with time zone[], p_cap integer, p_window interval) IS 'When a place under a cap is free; null for now.';

CREATE FUNCTION brainops_internal.cap_verdicts(p_policy public.contact_policies, p_places brainops.recipient_context[]) RETURNS SETOF brainops.verdict
    LANGUAGE plpgsql
    SET search_path TO ''
    SET "TimeZone" TO 'UTC'
    AS $$
declare
  v_now constant timestamptz := brainops.now();
  v_law record;
  v_keys text[];
  v_shared text[];
  v_place brainops.recipient_context;
  v_asked record;
  v_going brainops.recipient_context[] := '{}';
  v_waiting brainops.recipient_context[] := '{}';
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
  perform brainops_internal.lock_persons(p_policy.tenant_id, v_keys);

  select max(cap_window) as cap_window into v_law
    from brainops.contact_caps where channel = p_policy.channel;
  -- Who was not written to yet, and is there once, may be written to: no cap is below 1.
  for v_asked in
    select row(p.id, p.lead_ids, p.emails, p.phones, p.zones, p.country, p.state, p.opens, p.closes, p.goes_at)::brainops.recipient_context as place, coalesce(h.every, '{}') as every, coalesce(h.own, '{}') as own, law.cap, law.cap_window
    from unnest(p_places) with ordinality
      as p (id, lead_ids, emails, phones, zones, country, state, opens, closes, goes_at, n)
    left join brainops_internal.contact_history(
      p_policy.tenant_id, p_policy.channel, p_places, v_now - greatest(p_policy.cap_window, v_law.cap_window)
    ) as h on h.place = p.n
    left join lateral (
      select min(c.cap) as cap, max(c.cap_window) as cap_window
      from brainops.contact_caps as c
      where c.country = p.country and c.channel = p_policy.channel
        and (c.state is null or p.state is null or c.state = p.state)
    ) as law on p.country is not null
    where h.place is not null or v_shared is not null and p.lead_ids::text[] || p.emails || p.phones && v_shared
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
      brainops_internal.cap_frees_at(v_now, v_same, v_ahead, v_asked.every, p_policy.cap, p_policy.cap_window),
      brainops_internal.cap_frees_at(v_now, v_same, v_ahead, v_asked.own, v_asked.cap, v_asked.cap_window)
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
        brainops_internal.spread_contact_time(v_frees, v_place.zones, v_place.opens, v_place.closes, p_policy.spread),
        'frequency cap: this person was written to as often as is allowed; a place is free from ' || v_frees
      )::brainops.verdict;
    end if;
  end loop;
end;
$$;

COMMENT ON FUNCTION brainops_internal.cap_verdicts(p_policy public.contact_policies, p_places brainops.recipient_context[]) IS 'Which messages are over the frequency cap, and until when. Locks the persons.';

CREATE FUNCTION brainops_internal.capture_consent(p_tenant_id uuid, p_lead_id uuid, p_channel text, p_address text, p_granted jsonb, p_source text, p_evidence jsonb) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
declare
  v_state text := case p_granted when 'true' then 'granted' when 'false' then 'denied' end;
  v_before text;
begin
  if v_state is null or p_address is null then
    return;
  end if;
  v_before := brainops.consent_state(p_tenant_id, p_channel, p_address);
  if v_before = v_state or (v_before is not null and v_state = 'granted' and p_source = 'import') then
    return;
  end if;
  insert into public.contact_consents (tenant_id, lead_id, channel, address, state, source, evidence)
  values (p_tenant_id, p_lead_id, p_channel, p_address, v_state, p_source, coalesce(p_evidence, '{}'));
end;
$$;

CREATE FUNCTION brainops_internal.check_broadcast() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
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

CREATE FUNCTION brainops_internal.check_cap_window() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
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

CREATE FUNCTION brainops_internal.check_email_row() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $_$
declare
  -- The lengths apart: bounds within the expression made it fifteen times as slow.
  c_address constant text := '^[a-z0-9.!#$%&''*+/=?^_`{|}~-]+@([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z0-9-][a-z0-9-]+$';
  v_lead_id uuid;
begin
  new.recipient := btrim(new.recipient, E' \t\r\n');
  -- Clients write the JSON null where they mean none.
  new.metadata := coalesce(nullif(new.metadata, 'null'), '{}');
  v_lead_id := brainops_internal.uuid_or_null(new.recipient);

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
    perform brainops_internal.check_mail_text(new.subject, new.body);
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
      new.lead_id := brainops_internal.find_lead(brainops_internal.uuid_or_null(new.metadata ->> 'lead_id'), new.tenant_id);
    end if;
  elsif new.recipient = old.recipient then
    -- The lead may be gone by now: the gate says so when the mail is due.
    return new;
  end if;
  if v_lead_id is not null then
    new.lead_id := brainops_internal.find_lead(v_lead_id, new.tenant_id);
    if new.lead_id is null then
      raise exception 'recipient: % is no lead of this tenant', new.recipient
        using errcode = 'OP004', column = 'recipient', hint = 'Give an e-mail address, or the id of a row in revenue_leads.';
    end if;
  end if;
  return new;
end;
$_$;

CREATE FUNCTION brainops_internal.check_mail_text(p_subject text, p_body text) RETURNS void
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO ''
    AS $$
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

COMMENT ON FUNCTION brainops_internal.check_mail_text(p_subject text, p_body text) IS 'Raises OP005 for a subject or body that can never be sent.';

CREATE FUNCTION brainops_internal.check_payment_request() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $_$
declare
  v_plan public.plans;
  v_named text := coalesce(new.plan_id::text, nullif(btrim(new.plan_code), ''), nullif(btrim(new.product_service), ''));
  v_key text := lower(btrim(coalesce(nullif(btrim(new.plan_code), ''), new.product_service)));
  v_settings jsonb;
begin
  if new.tenant_id is distinct from brainops.current_tenant_id()
    and not brainops.may_name_tenant()
    and not pg_catalog.pg_has_role(session_user, 'brainops_admin', 'member')
    and not pg_catalog.pg_has_role(session_user, 'brainops_system', 'member')
  then
    raise exception 'tenant_id: payment requests of % are not yours to write', new.tenant_id
      using errcode = 'insufficient_privilege', hint = 'Leave tenant_id out.';
  end if;

  select * into v_plan
    from public.plans as p
    where (p.tenant_id = new.tenant_id or p.tenant_id is null)
      and (p.lead_id is null or p.lead_id = new.lead_id)
      and case
        when new.plan_id is not null then p.id = new.plan_id
        when coalesce(btrim(new.plan_code), '') <> '' then p.code = v_key
        else p.code = v_key or lower(btrim(p.name)) = v_key
      end
    -- One's own before the common one, the lead's before everybody's, a code before a name.
    order by p.tenant_id nulls last, p.lead_id nulls last, p.active desc, p.code = v_key desc, p.id
    limit 1;
  if not found or not v_plan.active then
    raise exception 'product_service: % is no plan%', coalesce(quote_literal(left(v_named, 120)), 'null'),
      case when v_plan.id is null then '' else ' that is active' end
      using errcode = 'OP025', column = 'product_service',
        hint = 'Prices come from plans alone: name one by plan_id, plan_code or product_service, or insert one. There are: '
          || coalesce(
            (
              select string_agg(code, ', ' order by code)
              from (
                select distinct code from public.plans
                where active and (tenant_id = new.tenant_id or tenant_id is null) and (lead_id is null or lead_id = new.lead_id)
                order by code limit 20
              ) as known
            ),
            'none yet'
          ) || '.';
  end if;
  if new.amount <> v_plan.amount or lower(btrim(new.currency)) <> v_plan.currency then
    raise exception 'amount: the request says % %, but plan % costs % %',
      coalesce(trim_scale(new.amount)::text, trim_scale(v_plan.amount)::text), coalesce(lower(btrim(new.currency)), v_plan.currency),
      v_plan.code, trim_scale(v_plan.amount), v_plan.currency
      using errcode = 'OP026', column = 'amount',
        hint = 'Leave amount and currency out, or insert a plan with this price (with lead_id, for this lead alone) and name it.';
  end if;
  if coalesce(new.payment_status, 'open') <> 'open' then
    raise exception 'payment_status: a request cannot be inserted as %', quote_literal(left(new.payment_status, 40))
      using errcode = 'OP029', column = 'payment_status', hint = 'Leave it out: what Stripe reports makes it paid.';
  end if;

  new.deliver_by := nullif(lower(btrim(new.deliver_by)), '');
  if new.deliver_by not in ('email', 'sms') then
    raise exception 'deliver_by: nothing is sent by %', quote_literal(left(new.deliver_by, 40))
      using errcode = 'OP007', column = 'deliver_by', hint = 'Write email or sms, or leave it out and send payment_url yourself.';
  end if;
  if new.deliver_by is not null and new.lead_id is null then
    raise exception 'deliver_by: a link without lead_id has nobody to be sent to'
      using errcode = 'OP004', column = 'deliver_by', hint = 'Give lead_id, or leave deliver_by out and send payment_url yourself.';
  end if;

  select settings into v_settings from public.tenants where id = new.tenant_id;
  new.plan_id := v_plan.id;
  new.plan_code := v_plan.code;
  new.plan_name := v_plan.name;
  new.product_service := coalesce(nullif(btrim(new.product_service), ''), v_plan.name);
  new.amount := v_plan.amount;
  new.currency := v_plan.currency;
  new.amount_minor := v_plan.amount_minor;
  new.interval := v_plan.interval;
  new.payment_status := 'open';
  new.metadata := coalesce(nullif(new.metadata, 'null'), '{}');
  new.success_url := coalesce(new.success_url, substring(v_settings ->> 'payment_success_url' from '^https?://.+$'));
  new.expires_at := coalesce(
    new.expires_at,
    brainops.now() + make_interval(days => coalesce(substring(v_settings ->> 'payment_link_days' from '^[1-9][0-9]{0,3}$')::int, 30))
  );
  return new;
end;
$_$;

CREATE FUNCTION brainops_internal.check_plan() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
  new.code := lower(btrim(new.code));
  new.currency := lower(btrim(new.currency));
  -- Without an amount there is nothing to reckon: the column's own rule refuses the row.
  new.amount_minor := case when new.amount is not null then brainops_internal.minor_units(new.amount, new.currency) end;
  return new;
end;
$$;

CREATE FUNCTION brainops_internal.check_sms_number() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
declare
  v_other text;
begin
  perform pg_advisory_xact_lock(hashtextextended('sms_numbers ' || new.number, 0));
  select t.slug into v_other
    from public.sms_numbers as n
    inner join public.tenants as t on t.id = n.tenant_id
    where n.number = new.number and n.tenant_id <> new.tenant_id;
  if found then
    raise exception 'number: % is that of tenant %', new.number, v_other
      using errcode = 'OP018', column = 'number', hint = 'Delete the other row first; two tenants that share a number use TWILIO_FROM.';
  end if;
  return new;
end;
$$;

CREATE FUNCTION brainops_internal.check_sms_row() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $_$
declare
  v_lead_id uuid;
begin
  new.recipient := btrim(new.recipient, E' \t\r\n');
  -- Clients write the JSON null where they mean none.
  new.metadata := coalesce(nullif(new.metadata, 'null'), '{}');
  v_lead_id := brainops_internal.uuid_or_null(new.recipient);

  if coalesce(new.recipient, '') = '' then
    raise exception 'recipient: is empty'
      using errcode = 'OP017', column = 'recipient', hint = 'Give one phone number, or the id of a lead.';
  end if;
  if v_lead_id is null then
    if regexp_replace(new.recipient, '[[:space:]().\-/' || U&'\00A0' || ']', '', 'g') !~ '^\+?[0-9]{5,15}$' or new.recipient ~ '^\+0' then
      raise exception 'recipient: % is not a phone number', quote_literal(left(new.recipient, 120))
        using errcode = 'OP017', column = 'recipient',
          hint = 'Give one number with its country code such as +13035550100 (without an extension), or the id of a lead.';
    end if;
    if new.recipient ~ '^\+' and brainops_internal.sms_number(new.recipient, null) is null then
      raise exception 'recipient: % has not as many digits as a phone number', quote_literal(left(new.recipient, 120))
        using errcode = 'OP017', column = 'recipient',
          hint = 'Give one number with its country code such as +13035550100, or the id of a lead.';
    end if;
    new.recipient := coalesce(brainops_internal.sms_number(new.recipient, null), new.recipient);
  end if;
  if coalesce(btrim(new.body, E' \t\r\n'), '') = '' then
    raise exception 'body: is empty'
      using errcode = 'OP005', column = 'body', hint = 'Give the text.';
  end if;
  -- With Liquid in it, it may become shorter.
  if length(new.body) > 1600 and (new.body !~ '\{[{%]' or length(new.body) > 32768) then
    raise exception 'body: has % characters, at most 1600 are allowed', length(new.body)
      using errcode = 'OP005', column = 'body', hint = 'Shorten it: Twilio takes no longer text.';
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
      new.lead_id := brainops_internal.find_lead(brainops_internal.uuid_or_null(new.metadata ->> 'lead_id'), new.tenant_id);
    end if;
  elsif new.recipient = old.recipient then
    -- The lead may be gone by now: the gate says so when the text is due.
    return new;
  end if;
  if v_lead_id is not null then
    new.lead_id := brainops_internal.find_lead(v_lead_id, new.tenant_id);
    if new.lead_id is null then
      raise exception 'recipient: % is no lead of this tenant', new.recipient
        using errcode = 'OP017', column = 'recipient', hint = 'Give a phone number, or the id of a row in revenue_leads.';
    end if;
  end if;
  return new;
end;
$_$;

CREATE FUNCTION brainops_internal.check_tenants() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
  -- The lock keeps the tenants from being deleted meanwhile.
  if (select count(*) from (
    select from public.tenants where id in (select tenant_id from changed) for key share
  ) as t) <> (select count(distinct tenant_id) from changed) then
    raise exception 'tenant_id: % names a tenant that does not exist', tg_relid::regclass
      using errcode = 'foreign_key_violation', column = 'tenant_id', hint = 'select id, slug from tenants';
  end if;
  return null;
end;
$$;

COMMENT ON FUNCTION brainops_internal.check_tenants() IS 'For tables without a foreign key to tenants: each statement''s rows are of tenants that are there, and a tenant that has rows stays.';

CREATE FUNCTION brainops_internal.choose_variant(p_enrolment public.ai_nurture_campaigns, p_step public.campaign_steps) RETURNS jsonb
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
declare
  v_variants constant jsonb := p_step.config -> 'variants';
  v_name text;
  v_leader record;
  v_total int := (select sum((v ->> 'weight')::int) from jsonb_array_elements(v_variants) as v);
  v_draw int;
begin
  select w.variant into v_name
    from public.campaign_split_winners as w
    where w.tenant_id = p_step.tenant_id and w.campaign_id = p_step.campaign_id and w.version = p_step.version and w.step_key = p_step.step_key;
  if not found and p_step.config ? 'winner' then
    v_leader := brainops_internal.leading_variant(p_step);
    if v_leader.variant is not null then
      insert into public.campaign_split_winners as w (tenant_id, campaign_id, version, step_key, variant, decided_at, figures)
      values (p_step.tenant_id, p_step.campaign_id, p_step.version, p_step.step_key, v_leader.variant, brainops.now(), v_leader.figures)
      on conflict do nothing;
      select w.variant into v_name
        from public.campaign_split_winners as w
        where w.tenant_id = p_step.tenant_id and w.campaign_id = p_step.campaign_id and w.version = p_step.version and w.step_key = p_step.step_key;
    end if;
  end if;
  v_draw := ((hashtextextended(p_enrolment.id || p_step.step_key, 0) % v_total) + v_total) % v_total;
  return (
    select s.item
    from (
      select v.item, v.n, sum((v.item ->> 'weight')::int) over (order by v.n) as upto
      from jsonb_array_elements(v_variants) with ordinality as v (item, n)
    ) as s
    order by (s.item ->> 'name' = v_name) desc nulls last, v_draw >= s.upto, s.n
    limit 1
  );
end;
$$;

CREATE FUNCTION brainops_internal.claim(p_table text, p_ids uuid[], p_worker_id uuid, p_lease uuid DEFAULT gen_random_uuid(), p_lacks_platform text DEFAULT NULL::text, p_lacks_own text DEFAULT NULL::text, p_batches boolean DEFAULT false) RETURNS TABLE(id uuid, outcome text, lease uuid, attempt integer, reason text, sender text, batch uuid)
    LANGUAGE plpgsql
    SET search_path TO ''
    SET random_page_cost TO '1'
    AS $_$
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
  v_next uuid[];
begin
  select * into strict v_job from brainops.job_tables as j where j.table_name = p_table;
  v_tenant_id := brainops.current_tenant_id();
  v_batch := case when v_job.bulk_column is null then 'null::uuid' else format('t.%I', v_job.bulk_column) end;

  execute format(
    'select
       array_agg(s.id order by s.job_priority, s.scheduled_for, s.id),
       coalesce(array_agg(s.id) filter (where s.rate_slot between $2 - $3 and $2), ''{}'')
     from (
       select id, job_priority, scheduled_for, rate_slot from %s
       -- Spelled so that only the ids lead to the rows: one of pending rows would be read from end to end.
       where id = any ($1) and case when status = ''pending'' then scheduled_for <= $2 else false end
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
  v_sender := brainops_internal.account_of(v_job.sender, v_tenant_id);
  v_reason := coalesce(
    brainops_internal.pause_reason(p_table, v_tenant_id),
    case when v_sender = v_job.sender then p_lacks_platform else p_lacks_own end
  );
  if v_reason is not null then
    select array_agg(row(i, 'hold', null, v_reason)::brainops.verdict) into v_verdicts from unnest(v_ids) as i;
    v_ids := '{}';
  end if;

  if p_batches and v_job.bulk_column is not null and v_ids <> '{}' then
    select b.ids, b.in_slot, b.next_ids into v_brought, v_more_in_slot, v_next
      from brainops_internal.lock_bulk_rows(v_job, v_tenant_id, v_ids, v_now, c_slot_kept) as b;
    v_ids := v_ids || v_brought;
    v_in_slot := v_in_slot || v_more_in_slot;
    -- Whatever becomes of these rows, the batch goes on.
    if v_next <> '{}' then
      perform brainops_internal.enqueue_rows(p_table, v_next);
    end if;
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
    v_slots := case when v_rest <> '{}' then brainops_internal.reserve_rate_slots(p_table, v_tenant_id, cardinality(v_rest)) end;
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
      from brainops_internal.acquire_breaker(v_sender, cardinality(v_ids), v_job.time_limit + interval '10 seconds') as b;
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
  end if;
end;
$_$;

COMMENT ON FUNCTION brainops_internal.claim(p_table text, p_ids uuid[], p_worker_id uuid, p_lease uuid, p_lacks_platform text, p_lacks_own text, p_batches boolean) IS 'Claims the due rows among the ids for a worker. outcome: go (with a lease), skip, fail, defer, slot or hold; a row that is not due or held elsewhere is left out. p_batches: rows of the same batch that are due come along. p_lacks_platform, p_lacks_own: why the worker cannot use the installation''s account, or a tenant''s own; null where it can.';

CREATE FUNCTION brainops_internal.claim_lead_key(p_tenant_id uuid, p_key text, p_lead_id uuid) RETURNS uuid
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
declare
  v_holder uuid;
begin
  loop
    insert into brainops.lead_keys (tenant_id, key, lead_id) values (p_tenant_id, p_key, p_lead_id) on conflict do nothing;
    if found then
      return p_lead_id;
    end if;
    select lead_id into v_holder from brainops.lead_keys where tenant_id = p_tenant_id and key = p_key;
    continue when not found;
    if v_holder = p_lead_id or exists (select from public.revenue_leads where tenant_id = p_tenant_id and id = v_holder) then
      return v_holder;
    end if;
    -- Claimed by an insert that came to nothing.
    update brainops.lead_keys set lead_id = p_lead_id
    where tenant_id = p_tenant_id and key = p_key and lead_id = v_holder;
    if found then
      return p_lead_id;
    end if;
  end loop;
end;
$$;

CREATE FUNCTION brainops_internal.clamp_score(p_total numeric) RETURNS numeric
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
  select greatest(0, least(100, pg_catalog.round(p_total)));
$$;

COMMENT ON FUNCTION brainops_internal.clamp_score(p_total numeric) IS 'A sum of points as a score: rounded, from 0 to 100.';

CREATE FUNCTION brainops_internal.close_enrolment(p_enrolment public.ai_nurture_campaigns) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  v_left constant boolean := p_enrolment.status <> 'completed';
  v_reason constant text := p_enrolment.status || coalesce(': ' || p_enrolment.exit_reason, '');
begin
  update public.ai_campaign_touches as t
  set status = 'skipped', skip_reason = 'the enrolment is ' || v_reason
  from (
    select id from public.ai_campaign_touches
    where tenant_id = p_enrolment.tenant_id and campaign_id = p_enrolment.id and performed_at is null
      and status in ('pending', 'awaiting_approval') and (v_left or step_key is not null)
    for update skip locked
  ) as o
  where t.id = o.id;
  if not v_left then
    return;
  end if;
  update public.ai_email_queue as q
  set status = 'skipped', skip_reason = 'left the campaign: ' || v_reason
  from (
    select id from public.ai_email_queue
    where tenant_id = p_enrolment.tenant_id and enrolment_id = p_enrolment.id and status in ('pending', 'awaiting_approval')
    for update skip locked
  ) as o
  where q.id = o.id;
  update public.ai_sms_queue as q
  set status = 'skipped', skip_reason = 'left the campaign: ' || v_reason
  from (
    select id from public.ai_sms_queue
    where tenant_id = p_enrolment.tenant_id and enrolment_id = p_enrolment.id and status in ('pending', 'awaiting_approval')
    for update skip locked
  ) as o
  where q.id = o.id;
end;
$$;

CREATE FUNCTION brainops_internal.condition_holds(p_condition jsonb, p_lead public.revenue_leads, p_since timestamp with time zone) RETURNS boolean
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO ''
    AS $_$
declare
  v_part jsonb;
  v_field text := p_condition ->> 'field';
  v_op text := coalesce(p_condition ->> 'op', '=');
  v_found text;
  v_value jsonb := p_condition -> 'value';
  v_since timestamptz;
begin
  if p_condition ? 'all' then
    for v_part in select * from jsonb_array_elements(p_condition -> 'all')
    loop
      if not brainops_internal.condition_holds(v_part, p_lead, p_since) then
        return false;
      end if;
    end loop;
    return true;
  elsif p_condition ? 'any' then
    for v_part in select * from jsonb_array_elements(p_condition -> 'any')
    loop
      if brainops_internal.condition_holds(v_part, p_lead, p_since) then
        return true;
      end if;
    end loop;
    return false;
  elsif p_condition ? 'not' then
    return not brainops_internal.condition_holds(p_condition -> 'not', p_lead, p_since);
  elsif p_condition ? 'event' then
    v_since := case
      when p_condition ? 'within' then brainops.now() - (p_condition ->> 'within')::interval
      else p_since
    end;
    return (
      select count(*) >= coalesce((p_condition ->> 'at_least')::int, 1)
      from public.lead_events as v
      where v.tenant_id = p_lead.tenant_id
        and v.lead_id = p_lead.id
        and v.event = p_condition ->> 'event'
        and (not p_condition ? 'channel' or v.channel = p_condition ->> 'channel')
        and greatest(v.occurred_at, v.created_at) >= v_since
    );
  end if;

  v_found := case
    when v_field like 'metadata.%' then p_lead.metadata ->> substr(v_field, 10)
    else to_jsonb(p_lead) ->> v_field
  end;
  return coalesce(
    case
      when v_op = 'exists' then (coalesce(v_found, '') <> '') = coalesce((v_value)::boolean, true)
      when v_op = '!=' then v_found is distinct from (v_value #>> '{}')
      when v_found is null then false
      when v_op = 'in' then v_found in (select jsonb_array_elements_text(v_value))
      when jsonb_typeof(v_value) = 'number' then
        -- A word where a number is asked for is no number, not an error in the night.
        case when v_found ~ '^-?[0-9]{1,255}(\.[0-9]{1,255})?$' then case v_op
          when '=' then v_found::numeric = (v_value)::numeric
          when '<' then v_found::numeric < (v_value)::numeric
          when '<=' then v_found::numeric <= (v_value)::numeric
          when '>' then v_found::numeric > (v_value)::numeric
          when '>=' then v_found::numeric >= (v_value)::numeric
        end end
      else v_found = v_value #>> '{}'
    end,
    false
  );
end;
$_$;

COMMENT ON FUNCTION brainops_internal.condition_holds(p_condition jsonb, p_lead public.revenue_leads, p_since timestamp with time zone) IS 'Whether a condition is true of a lead now; events count since p_since unless the condition says within.';

CREATE FUNCTION brainops_internal.condition_problems(p_condition jsonb) RETURNS SETOF text
    LANGUAGE sql STABLE
    SET search_path TO ''
    AS $$
  select brainops_internal.condition_problems(p_condition, 0);
$$;

COMMENT ON FUNCTION brainops_internal.condition_problems(p_condition jsonb) IS 'What is wrong with a condition, one sentence each. {"all": […]}, {"any": […]}, {"not": …}, {"field": "score", "op": ">=", "value": 80}, {"event": "email_clicked", "within": "7 days", "at_least": 2}.';

CREATE FUNCTION brainops_internal.condition_problems(p_condition jsonb, p_depth integer) RETURNS SETOF text
    LANGUAGE plpgsql STABLE
    SET search_path TO ''
    AS $_$
declare
  c_deepest constant int := 20;
  c_fields constant text[] := array[
    'tier', 'stage', 'score', 'value_estimate', 'source', 'company_name', 'contact_name', 'email', 'phone', 'website',
    'time_zone'
  ];
  c_operators constant text[] := array['=', '!=', '<', '<=', '>', '>=', 'in', 'exists'];
  v_part jsonb;
  v_key text;
begin
  if jsonb_typeof(p_condition) is distinct from 'object' then
    return next format('condition %s is no object; expected all, any, not, field or event', coalesce(left(p_condition::text, 80), 'null'));
    return;
  elsif p_depth > c_deepest then
    return next format('condition %s lies in more than %s others', left(p_condition::text, 80), c_deepest);
    return;
  end if;

  if p_condition ?| array['all', 'any'] then
    v_key := case when p_condition ? 'all' then 'all' else 'any' end;
    if jsonb_typeof(p_condition -> v_key) <> 'array' or p_condition -> v_key = '[]' then
      return next format('%s %s is no list of conditions', v_key, left((p_condition -> v_key)::text, 80));
      return;
    end if;
    for v_part in select * from jsonb_array_elements(p_condition -> v_key)
    loop
      return query select brainops_internal.condition_problems(v_part, p_depth + 1);
    end loop;
  elsif p_condition ? 'not' then
    v_key := 'not';
    return query select brainops_internal.condition_problems(p_condition -> 'not', p_depth + 1);
  elsif p_condition ? 'field' then
    if not coalesce(p_condition ->> 'field' = any (c_fields) or p_condition ->> 'field' ~ '^metadata\.\w+$', false) then
      return next format('field %s is unknown; expected %s or metadata.<key>', coalesce(quote_literal(left(p_condition ->> 'field', 80)), 'null'), array_to_string(c_fields, ', '));
    end if;
    if not coalesce(p_condition ->> 'op', '=') = any (c_operators) then
      return next format('op %s is unknown; expected one of %s', quote_literal(left(p_condition ->> 'op', 80)), array_to_string(c_operators, ' '));
    elsif p_condition ->> 'op' = 'in' and jsonb_typeof(p_condition -> 'value') is distinct from 'array' then
      return next format('value %s is no list, which op in needs', coalesce(left((p_condition -> 'value')::text, 80), 'null'));
    elsif p_condition ->> 'op' in ('<', '<=', '>', '>=') and jsonb_typeof(p_condition -> 'value') is distinct from 'number' then
      return next format('value %s is no number, which op %s needs', coalesce(left((p_condition -> 'value')::text, 80), 'null'), p_condition ->> 'op');
    elsif p_condition ->> 'op' = 'exists' and jsonb_typeof(coalesce(p_condition -> 'value', 'true')) <> 'boolean' then
      return next format('value %s is neither true nor false, which op exists needs', left((p_condition -> 'value')::text, 80));
    elsif not p_condition ? 'value' and p_condition ->> 'op' is distinct from 'exists' then
      return next format('field %s has no value to compare with', coalesce(quote_literal(left(p_condition ->> 'field', 80)), 'null'));
    end if;
  elsif p_condition ? 'event' then
    if not coalesce(p_condition ->> 'event', '') ~ '^[a-z][a-z0-9_]{0,62}$' then
      return next format('event %s is no event''s word', coalesce(quote_literal(left(p_condition ->> 'event', 80)), 'null'));
    end if;
    if p_condition ? 'within' and not brainops_internal.is_interval(p_condition ->> 'within') then
      return next format('within %s is no positive interval such as 7 days', coalesce(quote_literal(left(p_condition ->> 'within', 80)), 'null'));
    end if;
    if not coalesce(p_condition ->> 'at_least', '1') ~ '^[1-9][0-9]{0,5}$' then
      return next format('at_least %s is no number from 1 on', left((p_condition -> 'at_least')::text, 80));
    end if;
  else
    return next format('condition %s has none of all, any, not, field, event', left(p_condition::text, 80));
    return;
  end if;

  for v_key in
    select jsonb_object_keys(p_condition)
    except
    select unnest(case
      when p_condition ?| array['all', 'any', 'not'] then array[v_key]
      when p_condition ? 'field' then array['field', 'op', 'value']
      else array['event', 'within', 'at_least', 'channel']
    end)
  loop
    return next format('key %s is not known in condition %s', quote_literal(left(v_key, 80)), left(p_condition::text, 80));
  end loop;
end;
$_$;

COMMENT ON FUNCTION brainops_internal.condition_problems(p_condition jsonb, p_depth integer) IS 'The same about a condition that lies in p_depth others.';

CREATE FUNCTION brainops_internal.confirm_opt_in(p_token text, p_evidence jsonb DEFAULT '{}'::jsonb) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  v_request public.opt_in_requests;
begin
  select * into v_request from public.opt_in_requests where token = p_token for no key update;
  if not found then
    return 'unknown';
  end if;
  if v_request.confirmed_at is not null then
    return 'confirmed';
  end if;
  if v_request.expires_at <= brainops.now() then
    return 'expired';
  end if;
  update public.opt_in_requests set confirmed_at = brainops.now() where id = v_request.id;
  perform brainops_internal.resume_mail(
    v_request.tenant_id, v_request.address, 'double_opt_in',
    p_evidence || jsonb_build_object('request_id', v_request.id, 'requested_at', v_request.created_at)
  );
  return 'confirmed';
end;
$$;

COMMENT ON FUNCTION brainops_internal.confirm_opt_in(p_token text, p_evidence jsonb) IS 'The button behind /confirm/<token>: consent granted, with its evidence. Returns confirmed (twice is as once), expired or unknown.';

CREATE FUNCTION brainops_internal.consent_verdicts(p_policy public.contact_policies, p_rows brainops.contact[]) RETURNS SETOF brainops.verdict
    LANGUAGE plpgsql STABLE
    SET search_path TO ''
    AS $$
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
    select jsonb_object_agg(e.id, brainops_internal.enrolment_exit_reason(e.id)), jsonb_object_agg(e.id, brainops_internal.enrolment_pause_reason(e.id))
      into v_exits, v_pauses
      from (select distinct enrolment_id from unnest(p_rows) where enrolment_id is not null) as e (id);
  end if;
  return query
    with
      asked as materialized (
        select u.id, u.enrolment_id, u.first_due_at, lower(btrim(u.address)) as key from unnest(p_rows) as u
      )
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
          when p_policy.consent <> 'opt_out' and (c.state = 'pending' or p_policy.consent = 'double_opt_in' and not (
            c.confirmed or exists (
              select from public.contact_consents as p
              where p.tenant_id = p_policy.tenant_id and p.channel = p_policy.channel and p.address_key = r.key
                and p.state = 'pending' and p.occurred_at <= c.occurred_at
            )
          ))
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
      from asked as r
      left join brainops_internal.last_consents(p_policy.tenant_id, p_policy.channel, array(select key from asked)) as c on c.address_key = r.key
    ) as d
    where d.skip is not null or d.fail is not null or v_hold is not null or d.paused is not null;
end;
$$;

COMMENT ON FUNCTION brainops_internal.consent_verdicts(p_policy public.contact_policies, p_rows brainops.contact[]) IS 'Of marketing: no consent, left the campaign, expired (skip), no postal address (fail), on hold (defer).';

CREATE FUNCTION brainops_internal.contact_address(p_tenant_id uuid, p_channel text, p_address text) RETURNS text
    LANGUAGE sql STABLE
    SET search_path TO ''
    AS $_$
  select
    case
      -- A person who was forgotten.
      when a.address ~ '^sha256:' then a.address
      when p_channel = 'email' then a.address
      -- Short codes are as they are.
      when a.address ~ '^(\+[1-9][0-9]{6,14}|[0-9]{3,6})$' then a.address
      else coalesce(
        brainops_internal.sms_number(a.address, t.country),
        brainops_internal.phone_e164(a.address, t.country)
      )
    end
  from
    (select regexp_replace(p_address, '^[[:space:]]+|[[:space:]]+$', '', 'g') as address) as a
    cross join lateral (
      select
        brainops_internal.tenant_country(
          (select t.settings from public.tenants as t where t.id = p_tenant_id)
        ) as country
    ) as t;
$_$;

COMMENT ON FUNCTION brainops_internal.contact_address(p_tenant_id uuid, p_channel text, p_address text) IS 'An address as messages to it are addressed: without white space around it, a number as E.164 (a national one by the tenant''s settings.country, else US). Null for a number that cannot be read.';

CREATE FUNCTION brainops_internal.contact_history(p_tenant_id uuid, p_channel text, p_places brainops.recipient_context[], p_since timestamp with time zone) RETURNS TABLE(place integer, every timestamp with time zone[], own timestamp with time zone[])
    LANGUAGE plpgsql STABLE
    SET search_path TO ''
    SET jit TO 'off'
    SET enable_seqscan TO 'off'
    SET enable_nestloop TO 'off'
    AS $$
begin
  return query
    with
      places as materialized (
        select n::int as n, p.lead_ids, p.emails, p.phones
        from unnest(p_places) with ordinality
          as p (id, lead_ids, emails, phones, zones, country, state, opens, closes, goes_at, n)
      ),
      leads as materialized (select p.n, unnest(p.lead_ids) as key from places as p),
      emails as materialized (select p.n, unnest(p.emails) as key from places as p),
      phones as materialized (select p.n, unnest(p.phones) as key from places as p),
      -- The messages first, each set through its own index, then whose they are.
      mails_to_leads as materialized (
        select q.id, q.lead_id as key, q.started_at from public.ai_email_queue as q
        where q.tenant_id = p_tenant_id and q.lead_id = any (array(select k.key from leads as k))
          and q.started_at > p_since and q.is_marketing and q.status in ('processing', 'completed', 'unconfirmed')
      ),
      mails_to_addresses as materialized (
        select q.id, q.recipient_key as key, q.started_at from public.ai_email_queue as q
        where q.tenant_id = p_tenant_id and q.recipient_key = any (array(select k.key from emails as k))
          and q.started_at > p_since and q.is_marketing and q.status in ('processing', 'completed', 'unconfirmed')
      ),
      texts_to_leads as materialized (
        select q.id, q.lead_id as key, q.started_at from public.ai_sms_queue as q
        where q.tenant_id = p_tenant_id and q.lead_id = any (array(select k.key from leads as k))
          and q.started_at > p_since and q.is_marketing and q.status in ('processing', 'completed', 'unconfirmed')
      ),
      texts_to_numbers as materialized (
        select q.id, q.recipient as key, q.started_at from public.ai_sms_queue as q
        where q.tenant_id = p_tenant_id and q.recipient = any (array(select k.key from phones as k))
          and q.started_at > p_since and q.is_marketing and q.status in ('processing', 'completed', 'unconfirmed')
      )
    select
      h.n,
      array_agg(h.started_at order by h.started_at desc),
      coalesce(array_agg(h.started_at order by h.started_at desc) filter (where h.channel = p_channel), '{}')
    from (
      select k.n, 'email' as channel, m.id, m.started_at
      from mails_to_leads as m inner join leads as k on k.key = m.key
      union
      select k.n, 'email', m.id, m.started_at
      from mails_to_addresses as m inner join emails as k on k.key = m.key
      union
      select k.n, 'sms', m.id, m.started_at
      from texts_to_leads as m inner join leads as k on k.key = m.key
      union
      select k.n, 'sms', m.id, m.started_at
      from texts_to_numbers as m inner join phones as k on k.key = m.key
    ) as h
    group by h.n;
end;
$$;

COMMENT ON FUNCTION brainops_internal.contact_history(p_tenant_id uuid, p_channel text, p_places brainops.recipient_context[], p_since timestamp with time zone) IS 'When marketing went, or may have gone, to each person since an instant: on both channels, and on the one that asks.';

CREATE FUNCTION brainops_internal.contact_hours(p_policy public.contact_policies, p_country text, p_state text, OUT opens time without time zone[], OUT closes time without time zone[]) RETURNS record
    LANGUAGE plpgsql STABLE
    SET search_path TO ''
    AS $$
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

COMMENT ON FUNCTION brainops_internal.contact_hours(p_policy public.contact_policies, p_country text, p_state text, OUT opens time without time zone[], OUT closes time without time zone[]) IS 'The hours of each weekday, Monday first, in which the tenant and the law allow it; null for a day without.';

CREATE FUNCTION brainops_internal.contact_opening(p_at timestamp with time zone, p_zones text[], p_opens time without time zone[], p_closes time without time zone[]) RETURNS tstzrange
    LANGUAGE plpgsql STABLE PARALLEL SAFE
    SET search_path TO ''
    AS $$
declare
  v_at timestamptz := p_at;
  v_common tstzrange;
  v_open tstzrange;
begin
  while v_at <= p_at + interval '336 hours' loop
    v_common := tstzrange(v_at, null);
    for i in 1..cardinality(p_zones) loop
      v_open := brainops_internal.zone_opening(v_at, p_zones[i], p_opens, p_closes);
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
  return brainops_internal.zone_opening(p_at, p_zones[1], p_opens, p_closes);
end;
$$;

COMMENT ON FUNCTION brainops_internal.contact_opening(p_at timestamp with time zone, p_zones text[], p_opens time without time zone[], p_closes time without time zone[]) IS 'From when, at or after an instant, the clocks of all zones stand inside the hours, and until when at least.';

CREATE FUNCTION brainops_internal.contact_verdicts(p_channel text, p_rows brainops.contact[]) RETURNS SETOF brainops.verdict
    LANGUAGE plpgsql
    SET search_path TO ''
    SET jit TO 'off'
    AS $$
declare
  v_tenant record;
  v_rows brainops.contact[];
  v_verdicts brainops.verdict[];
begin
  for v_tenant in
    select r.tenant_id as id, bool_and(r.is_marketing) as marketing, bool_or(r.is_marketing) as any_marketing, count(*) as rows
    from unnest(p_rows) as r
    group by r.tenant_id
  loop
    v_rows := p_rows;
    if v_tenant.rows < cardinality(p_rows) then
      select array_agg(r) into v_rows from unnest(p_rows) as r where r.tenant_id = v_tenant.id;
    end if;
    v_verdicts := array(select v from brainops_internal.message_verdicts(v_tenant.id, p_channel, v_rows) as v);
    return query select * from unnest(v_verdicts);
    continue when not v_tenant.any_marketing;
    if not v_tenant.marketing or v_verdicts <> '{}' then
      select array_agg(r) into v_rows
        from unnest(v_rows) as r
        where r.is_marketing and r.id not in (select v.id from unnest(v_verdicts) as v);
      continue when v_rows is null;
    end if;
    return query select * from brainops_internal.marketing_verdicts(v_tenant.id, p_channel, v_rows);
  end loop;
end;
$$;

COMMENT ON FUNCTION brainops_internal.contact_verdicts(p_channel text, p_rows brainops.contact[]) IS 'Which messages may not go now, and until when: suppression for all; for marketing also consent, campaign exits, expiry, postal address, holds, quiet hours, caps and hourly limits. Asked inside a claim.';

CREATE FUNCTION brainops_internal.decayed(p_points numeric, p_half_life interval, p_occurred_at timestamp with time zone, p_now timestamp with time zone) RETURNS numeric
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path TO ''
    AS $$
  select
    case
      when p_half_life is null then p_points
      else round(
        (
          p_points * power(
            0.5::float8,
            least(
              greatest(extract(epoch from p_now - p_occurred_at), 0) / extract(epoch from p_half_life),
              1000
            )::float8
          )
        )::numeric,
        6
      )
    end;
$$;

COMMENT ON FUNCTION brainops_internal.decayed(p_points numeric, p_half_life interval, p_occurred_at timestamp with time zone, p_now timestamp with time zone) IS 'What is left of points: half of them after each half-life; all of them where that is null or the time is yet to come.';

CREATE FUNCTION brainops_internal.delete_row_as_json(p_table regclass, p_tenant_id uuid, p_id uuid) RETURNS jsonb
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $_$
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
$_$;

CREATE TABLE public.payment_requests (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    tenant_id uuid DEFAULT (NULLIF(current_setting('brainops.statement_tenant'::text, true), ''::text))::uuid NOT NULL,
    lead_id uuid,
    product_service text,
    plan_id uuid,
    plan_code text NOT NULL,
    plan_name text NOT NULL,
    amount numeric NOT NULL,
    currency text NOT NULL,
    amount_minor bigint NOT NULL,
    "interval" text NOT NULL,
    payment_status text DEFAULT 'open'::text NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    success_url text,
    deliver_by text,
    payment_url text,
    stripe_payment_link_id text,
    paid_at timestamp with time zone,
    attention text,
    metadata jsonb DEFAULT '{}'::jsonb NOT NULL,
    paid_minor bigint DEFAULT 0 NOT NULL,
    refunded_minor bigint DEFAULT 0 NOT NULL,
    disputes_open integer DEFAULT 0 NOT NULL,
    cancelled_at timestamp with time zone,
    expired_at timestamp with time zone,
    failed_generation integer DEFAULT '-1'::integer NOT NULL,
    link_inactive boolean DEFAULT false NOT NULL,
    link_told_at timestamp with time zone,
    key_generation integer DEFAULT 0 NOT NULL,
    key_started_at timestamp with time zone,
    key_account uuid,
    livemode boolean,
    status text DEFAULT 'pending'::text NOT NULL,
    scheduled_for timestamp with time zone DEFAULT now() NOT NULL,
    job_priority smallint DEFAULT 0 NOT NULL,
    idempotency_key text,
    attempts integer DEFAULT 0 NOT NULL,
    max_attempts integer DEFAULT 12 NOT NULL,
    deferrals integer DEFAULT 0 NOT NULL,
    last_error text,
    skip_reason text,
    lease uuid,
    worker_id uuid,
    rate_slot timestamp with time zone,
    cancel_requested_at timestamp with time zone,
    started_at timestamp with time zone,
    finished_at timestamp with time zone,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT payment_requests_amount_positive CHECK ((amount_minor > 0)),
    CONSTRAINT payment_requests_attempts_not_negative CHECK ((attempts >= 0)),
    CONSTRAINT payment_requests_deliver_by_known CHECK ((deliver_by = ANY (ARRAY['email'::text, 'sms'::text]))),
    CONSTRAINT payment_requests_done_has_finished_at CHECK (((status = ANY (ARRAY['completed'::text, 'failed'::text, 'cancelled'::text, 'skipped'::text])) = (finished_at IS NOT NULL))),
    CONSTRAINT payment_requests_job_priority_range CHECK (((job_priority >= '-50'::integer) AND (job_priority <= 50))),
    CONSTRAINT payment_requests_max_attempts_range CHECK (((max_attempts >= 1) AND (max_attempts <= 25))),
    CONSTRAINT payment_requests_metadata_is_object CHECK ((jsonb_typeof(metadata) = 'object'::text)),
    CONSTRAINT payment_requests_payment_status_known CHECK ((payment_status = ANY (ARRAY['open'::text, 'paid'::text, 'refunded'::text, 'partially_refunded'::text, 'disputed'::text, 'expired'::text, 'cancelled'::text, 'payment_failed'::text]))),
    CONSTRAINT payment_requests_processing_has_lease CHECK (((status = 'processing'::text) = (lease IS NOT NULL))),
    CONSTRAINT payment_requests_scheduled_for_finite CHECK (isfinite(scheduled_for)),
    CONSTRAINT payment_requests_skipped_has_reason CHECK (((status = 'skipped'::text) = (skip_reason IS NOT NULL))),
    CONSTRAINT payment_requests_status_known CHECK ((status = ANY (ARRAY['pending'::text, 'processing'::text, 'completed'::text, 'failed'::text, 'cancelled'::text, 'skipped'::text, 'unconfirmed'::text, 'awaiting_approval'::text])))
)
WITH (fillfactor='80', autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='1000', autovacuum_vacuum_cost_delay='0');

ALTER TABLE ONLY public.payment_requests FORCE ROW LEVEL SECURITY;

COMMENT ON TABLE public.payment_requests IS 'Insert a row: a Stripe payment link for one payment is made, and payment_url filled in. status is the making of the link, payment_status the money.';

COMMENT ON COLUMN public.payment_requests.lead_id IS 'Who is asked; becomes won with the payment. Null for nobody we know, or a person who was forgotten.';

COMMENT ON COLUMN public.payment_requests.product_service IS 'Where neither plan_id nor plan_code is given: a plan''s code or name. Otherwise what you like.';

COMMENT ON COLUMN public.payment_requests.plan_id IS 'The plan that priced it. No foreign key: the request keeps what it took from the plan, and the plan may go.';

COMMENT ON COLUMN public.payment_requests.amount IS 'The plan''s. May be given, and is refused (OP026) where it is another than the plan''s.';

COMMENT ON COLUMN public.payment_requests.amount_minor IS 'The same in Stripe''s units: cents for usd, yen for jpy.';

COMMENT ON COLUMN public.payment_requests.payment_status IS 'open, paid, refunded, partially_refunded, disputed, expired, cancelled, payment_failed. Clients may write cancelled (the link is closed), open (a new link, after cancelled, expired or payment_failed) and paid (accepts what came though attention asks about it).';

COMMENT ON COLUMN public.payment_requests.expires_at IS 'When the link is closed. By default tenants.settings.payment_link_days from now, else 30 days.';

COMMENT ON COLUMN public.payment_requests.success_url IS 'Where the payer is led afterwards: tenants.settings.payment_success_url as of the insert; null for Stripe''s own page.';

COMMENT ON COLUMN public.payment_requests.deliver_by IS 'email or sms: the link is sent to the lead as soon as it is there, once, as a row of ai_email_queue or ai_sms_queue; in the words of the tenant''s template payment_link where it has one. Null: you send payment_url yourself.';

COMMENT ON COLUMN public.payment_requests.paid_at IS 'When the first payment of just this amount and currency was made, or a person accepted another; null: not paid.';

COMMENT ON COLUMN public.payment_requests.attention IS 'What a person should look at: another amount or currency than asked, paid twice, paid though cancelled. Null: nothing.';

COMMENT ON COLUMN public.payment_requests.paid_minor IS 'Sum of the ledger''s payments in the request''s currency. Where there are none, and a person accepted one in another currency: what was asked.';

COMMENT ON COLUMN public.payment_requests.refunded_minor IS 'What went back, as the ledger has it or as Stripe''s total of the charge says, whichever is more. In the request''s currency: what went back in another one counts as its share of what was charged in that.';

COMMENT ON COLUMN public.payment_requests.disputes_open IS 'Disputes that are open or lost.';

COMMENT ON COLUMN public.payment_requests.failed_generation IS 'The newest link whose delayed payment failed, by key_generation; -1: none.';

COMMENT ON COLUMN public.payment_requests.link_inactive IS 'Whether the link was switched off at Stripe, by someone else or us, without having been used.';

COMMENT ON COLUMN public.payment_requests.link_told_at IS 'When Stripe said so: the event''s time, older ones do not count.';

COMMENT ON COLUMN public.payment_requests.key_generation IS 'Which link it is: part of the idempotency key. Goes up for a new link, and when Stripe stored an error under the key.';

COMMENT ON COLUMN public.payment_requests.key_started_at IS 'When the key was first used; Stripe forgets it after 24 h. Null: nothing was asked of Stripe yet.';

COMMENT ON COLUMN public.payment_requests.key_account IS 'The tenant''s own credential that the link was made through; null for the installation''s account.';

CREATE FUNCTION brainops_internal.deliver_payment_link(p_request public.payment_requests) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
declare
  v_key text := 'payment_link:' || (p_request).id || ':' || (p_request).key_generation;
  v_template public.ai_campaign_templates;
  v_words jsonb := jsonb_build_object(
    'type', 'payment_link',
    'transactional', true,
    'payment', jsonb_build_object(
      'request_id', (p_request).id,
      'url', (p_request).payment_url,
      'plan', (p_request).plan_name,
      'amount', brainops_internal.format_payment((p_request).amount_minor, (p_request).currency),
      'interval', (p_request).interval,
      'expires_at', (p_request).expires_at
    )
  );
begin
  select * into v_template
    from public.ai_campaign_templates
    where tenant_id = (p_request).tenant_id and name = 'payment_link' and channel = (p_request).deliver_by
    order by version desc
    limit 1;
  if (p_request).deliver_by = 'email' then
    insert into public.ai_email_queue (tenant_id, recipient, subject, body, metadata, idempotency_key, scheduled_for)
    values (
      (p_request).tenant_id,
      (p_request).lead_id::text,
      coalesce(v_template.subject, 'Your payment for {{ payment.plan }}'),
      coalesce(
        v_template.body,
        '<p>Hello{% if lead.contact_name %} {{ lead.contact_name }}{% endif %},</p>'
          || '<p>please pay {{ payment.amount }} for {{ payment.plan }} here:</p>'
          || '<p><a href="{{ payment.url }}">{{ payment.url }}</a></p>'
          || '<p>The link takes one payment.</p><p>{{ tenant.name }}</p>'
      ),
      v_words,
      v_key,
      brainops.now()
    )
    on conflict (tenant_id, idempotency_key) where idempotency_key is not null do nothing;
  else
    insert into public.ai_sms_queue (tenant_id, recipient, body, metadata, idempotency_key, scheduled_for)
    values (
      (p_request).tenant_id,
      (p_request).lead_id::text,
      coalesce(v_template.body, '{{ tenant.name }}: please pay {{ payment.amount }} for {{ payment.plan }} at {{ payment.url }}'),
      v_words,
      v_key,
      brainops.now()
    )
    on conflict (tenant_id, idempotency_key) where idempotency_key is not null do nothing;
  end if;
exception
  when serialization_failure or deadlock_detected or lock_not_available then
    raise;
  -- The link is there, and must not be lost because a message about it is refused.
  when others then
    perform brainops.notify(
      (p_request).tenant_id, 'A payment link could not be sent: ' || (p_request).plan_name,
      'Payment request ' || (p_request).id || ' has its link, ' || (p_request).payment_url || ', but it was not sent by '
        || (p_request).deliver_by || ': ' || sqlerrm,
      v_key, (p_request).lead_id
    );
end;
$$;

CREATE FUNCTION brainops_internal.dequeue(p_keys text[]) RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO ''
    AS $$
  select graphile_worker.complete_jobs(array(select id from graphile_worker.jobs where key = any (p_keys)));
$$;

COMMENT ON FUNCTION brainops_internal.dequeue(p_keys text[]) IS 'Takes the graphile-worker jobs with these keys away, but for those that a worker has fetched.';

CREATE FUNCTION brainops_internal.deregister_worker(p_id uuid) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
declare
  v_pool_ids text[];
begin
  delete from brainops.worker_processes where id = p_id returning pool_ids into v_pool_ids;
  if v_pool_ids <> '{}' then
    perform graphile_worker.force_unlock_workers(v_pool_ids);
  end if;
end;
$$;

COMMENT ON FUNCTION brainops_internal.deregister_worker(p_id uuid) IS 'A worker''s last word: forgets it and frees jobs that it still holds.';

CREATE FUNCTION brainops_internal.drop_merged_lead() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
  delete from public.revenue_leads where id = new.id;
  return null;
end;
$$;

CREATE FUNCTION brainops_internal.drop_partitions(p_parent regclass, p_before timestamp with time zone) RETURNS SETOF text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    SET lock_timeout TO '2s'
    AS $$
declare
  v_partition record;
begin
  for v_partition in
    -- As text: once dropped, the table has no name any more.
    select inhrelid::regclass::text as name, to_date(right(relname, 7), 'YYYY_MM') as month
    from pg_catalog.pg_inherits
    inner join pg_catalog.pg_class as c on c.oid = inhrelid
    where inhparent = p_parent
  loop
    if (v_partition.month + interval '1 month') at time zone 'UTC' <= p_before then
      execute format('drop table %s', v_partition.name);
      return next v_partition.name;
    end if;
  end loop;
end;
$$;

CREATE FUNCTION brainops_internal.email_address(p_tenant_id uuid, p_recipient text) RETURNS TABLE(address text)
    LANGUAGE sql STABLE ROWS 1
    AS $$
  select
    case
      when q.lead_id is null then p_recipient
      else (
        select nullif(pg_catalog.btrim(l.email), '')
        from public.revenue_leads as l
        where l.tenant_id operator(pg_catalog.=) p_tenant_id and l.id operator(pg_catalog.=) q.lead_id
      )
    end
  from
    (
      select
        case
          when n.named is not null then coalesce(
            (
              select a.lead_id
              from public.revenue_lead_aliases as a
              where a.tenant_id operator(pg_catalog.=) p_tenant_id and a.id operator(pg_catalog.=) n.named
            ),
            n.named
          )
        end as lead_id
      from (select brainops_internal.uuid_or_null(p_recipient) as named offset 0) as n
      offset 0
    ) as q;
$$;

COMMENT ON FUNCTION brainops_internal.email_address(p_tenant_id uuid, p_recipient text) IS 'One row: the address that a mail to the recipient goes to as things stand. The recipient itself, or that lead''s address; null if the lead is gone or has none.';

CREATE FUNCTION brainops_internal.email_contacts(p_ids uuid[]) RETURNS brainops.contact[]
    LANGUAGE plpgsql STABLE
    SET search_path TO ''
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    AS $$
begin
  return (
    select array_agg(
      row(
        e.id, e.tenant_id, e.lead_id, a.address, e.is_marketing, e.enrolment_id, e.recipient,
        coalesce(e.first_due_at, e.scheduled_for), e.metadata ->> 'expires_at'
      )::brainops.contact
      order by e.job_priority, e.scheduled_for, e.id
    )
    from public.ai_email_queue as e
    cross join lateral brainops_internal.email_address(e.tenant_id, e.recipient) as a
    where e.id = any (p_ids)
  );
end;
$$;

COMMENT ON FUNCTION brainops_internal.email_contacts(p_ids uuid[]) IS 'The mails as brainops.contact, in the order in which they are claimed; null for no rows.';

CREATE FUNCTION brainops_internal.embedded_connection_closed(p_connection_id text) RETURNS void
    LANGUAGE sql
    SET search_path TO ''
    AS $$
  delete from brainops.embedded_connections where p_connection_id is null or connection_id = p_connection_id;
$$;

COMMENT ON FUNCTION brainops_internal.embedded_connection_closed(p_connection_id text) IS 'Called by the built-in Postgres when a connection ends; null when it starts.';

CREATE FUNCTION brainops_internal.enqueue(p_table text, p_ids uuid[], p_tenant_ids uuid[], p_run_ats timestamp with time zone[], p_priorities smallint[]) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $_$
declare
  c_per_level constant int := 50;
  c_levels constant int := 20;
  -- So that the claims of several workers and the sending overlap; more would only wait for each other.
  c_jobs_of_batch constant int := 4;
  v_job brainops.job_tables;
  v_batches uuid[];
  v_tenant record;
  v_specs graphile_worker.job_spec[];
begin
  select * into strict v_job from brainops.job_tables where table_name = p_table;
  if v_job.bulk_column is not null then
    execute format(
      'select array_agg(t.%I order by u.n)
       from unnest($1) with ordinality as u (id, n)
       left join %s as t on t.id = u.id',
      v_job.bulk_column, v_job.relation
    )
      into v_batches
      using p_ids;
  end if;

  -- Waiting rows of each tenant, these included; `before` is how many stand in front of the first.
  for v_tenant in
    select tenant_id, count(*)::int as n from unnest(p_tenant_ids) as t (tenant_id) group by tenant_id
  loop
    declare
      v_waiting int;
      v_before int;
    begin
      execute format(
        'select count(*) from (select from %s where tenant_id = $1 and status = ''pending'' and scheduled_for <= $2 limit $3) as s',
        v_job.relation
      )
        into v_waiting
        using v_tenant.tenant_id, brainops.now(), c_per_level * c_levels + v_tenant.n;
      v_before := greatest(v_waiting - v_tenant.n, 0);

      select array_agg(
        row(
          v_job.task_identifier,
          case
            when r.batch is null then json_build_object('id', r.id, 'tenant_id', r.tenant_id)
            else json_build_object('id', r.id, 'tenant_id', r.tenant_id, 'batch', r.batch)
          end,
          null,
          r.run_at,
          null,
          r.tenant_id || ':' || p_table || ':' || r.id,
          least((v_before + r.rank - 1) / c_per_level, c_levels) * 101 + r.priority + 50,
          null
        )::graphile_worker.job_spec
      )
        into v_specs
        from (
          select u.*, row_number() over (order by u.n)::int as rank
          from (
            select
              i.*,
              row_number() over (partition by i.batch, i.run_at, i.priority order by i.n) as place,
              count(*) over (partition by i.batch, i.run_at, i.priority) as size
            from unnest(p_ids, p_tenant_ids, p_run_ats, p_priorities, v_batches)
              with ordinality as i (id, tenant_id, run_at, priority, batch, n)
            where i.tenant_id = v_tenant.tenant_id
          ) as u
          where u.batch is null or u.place <= c_jobs_of_batch and (u.place - 1) * v_job.bulk_max < u.size
        ) as r;
      perform graphile_worker.add_jobs(v_specs);
    end;
  end loop;
end;
$_$;

COMMENT ON FUNCTION brainops_internal.enqueue(p_table text, p_ids uuid[], p_tenant_ids uuid[], p_run_ats timestamp with time zone[], p_priorities smallint[]) IS 'Gives the rows their graphile-worker jobs, key <tenant_id>:<table>:<id>: one each, and for rows of a batch that are due together one for bulk_max of them, four at most. A job that is there already is moved.';

CREATE FUNCTION brainops_internal.enqueue_rescores(p_lead_ids uuid[]) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  c_per_job constant int := 500;
begin
  -- import_leads asks once for all of its rows.
  if current_setting('brainops.hold_rescores', true) = 'on' then
    return;
  end if;
  for i in 1..coalesce(cardinality(p_lead_ids), 0) by c_per_job
  loop
    perform graphile_worker.add_job('lead__score', json_build_object('ids', p_lead_ids[i:i + c_per_job - 1]), priority => 100);
  end loop;
end;
$$;

CREATE FUNCTION brainops_internal.enqueue_rows(p_table text, p_ids uuid[]) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $_$
declare
  v_job brainops.job_tables;
begin
  select * into strict v_job from brainops.job_tables where table_name = p_table;
  execute format(
    'select brainops_internal.enqueue($1, array_agg(id), array_agg(tenant_id), array_agg(scheduled_for), array_agg(job_priority))
     from %s
     where id = any ($2) and tenant_id = $3 and status = ''pending''
     having count(*) > 0',
    v_job.relation
  )
    using p_table, p_ids, brainops.current_tenant_id();
end;
$_$;

COMMENT ON FUNCTION brainops_internal.enqueue_rows(p_table text, p_ids uuid[]) IS 'Sets jobs for pending rows of the current tenant.';

CREATE FUNCTION brainops_internal.enrolment_exit_reason(p_enrolment_id uuid) RETURNS text
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  v_enrolment public.ai_nurture_campaigns;
begin
  select * into v_enrolment from public.ai_nurture_campaigns where id = p_enrolment_id;
  if not found then
    return 'the enrolment is gone';
  elsif v_enrolment.status in ('exited', 'cancelled') then
    return v_enrolment.status || coalesce(': ' || v_enrolment.exit_reason, '');
  elsif v_enrolment.status <> 'completed' then
    -- Events end a running one in their own transaction.
    return null;
  end if;
  return (
    select brainops_internal.exit_reason_of(c, v.event, v.channel, v.metadata)
    from public.lead_events as v
    inner join public.campaigns as c on c.tenant_id = v.tenant_id and c.id = v_enrolment.campaign_id
    where v.tenant_id = v_enrolment.tenant_id and v.lead_id = v_enrolment.lead_id
      and v.occurred_at >= date_trunc('second', v_enrolment.enrolled_at)
      and brainops_internal.exit_reason_of(c, v.event, v.channel, v.metadata) is not null
    order by v.occurred_at
    limit 1
  );
end;
$$;

COMMENT ON FUNCTION brainops_internal.enrolment_exit_reason(p_enrolment_id uuid) IS 'Why a message of this enrolment must not go any more; null when it may. Asked at each claim.';

CREATE FUNCTION brainops_internal.enrolment_hold_reason(p_enrolment public.ai_nurture_campaigns, p_campaign public.campaigns) RETURNS text
    LANGUAGE sql IMMUTABLE
    SET search_path TO ''
    AS $$
  select
    case
      when p_enrolment.status = 'paused' then 'held: the enrolment is paused; update ai_nurture_campaigns set status = ''active'' lets it go on'
      when p_campaign.status = 'paused' then 'held: campaign ' || p_campaign.code || ' is paused; brainops.resume_campaign lets it go on'
      when p_campaign.status = 'draft' then 'held: campaign ' || p_campaign.code || ' is not launched; update campaigns set status = ''active'' where code = ' || quote_literal(
        p_campaign.code
      )
      when p_enrolment.held_since is not null then 'held'
    end;
$$;

COMMENT ON FUNCTION brainops_internal.enrolment_hold_reason(p_enrolment public.ai_nurture_campaigns, p_campaign public.campaigns) IS 'What an enrolment waits for: its own pause, its campaign''s, or the launch; null when it runs.';

CREATE FUNCTION brainops_internal.enrolment_pause_reason(p_enrolment_id uuid) RETURNS text
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO ''
    AS $$
  select brainops_internal.enrolment_hold_reason(e, c)
  from
    public.ai_nurture_campaigns as e
    inner join public.campaigns as c on c.tenant_id = e.tenant_id and c.id = e.campaign_id
  where e.id = p_enrolment_id;
$$;

COMMENT ON FUNCTION brainops_internal.enrolment_pause_reason(p_enrolment_id uuid) IS 'Why a message of this enrolment must wait; null when it need not. Asked at each claim: what a worker had in its hands when the pause began and put off is not held by it.';

CREATE FUNCTION brainops_internal.ensure_partitions(p_parent regclass, p_from date, p_months integer) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    SET lock_timeout TO '2s'
    AS $$
declare
  v_month date;
  v_name text;
begin
  for i in 0..p_months - 1
  loop
    v_month := (date_trunc('month', p_from) + make_interval(months => i))::date;
    v_name := (select relname from pg_catalog.pg_class where oid = p_parent) || to_char(v_month, '_YYYY_MM');
    if to_regclass(format('brainops.%I', v_name)) is null then
      -- Bounds in UTC, whatever the session's time zone.
      execute format(
        'create table brainops.%I partition of %s for values from (%L) to (%L)',
        v_name, p_parent,
        v_month::text || ' 00:00+00', (v_month + interval '1 month')::date::text || ' 00:00+00'
      );
      execute format('alter table brainops.%I replica identity full', v_name);
      execute format('alter table brainops.%I enable row level security', v_name);
      execute format('alter table brainops.%I force row level security', v_name);
      execute format('create policy every_row on brainops.%I for all to brainops_admin, brainops_system using (true) with check (true)', v_name);
    end if;
  end loop;
end;
$$;

CREATE FUNCTION brainops_internal.enter_campaign() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  v_status text := brainops_internal.normal_enrolment_status(coalesce(new.status, 'active'));
  v_campaign public.campaigns;
  v_before public.ai_nurture_campaigns;
  v_lead public.revenue_leads;
  v_now constant timestamptz := brainops.now();
begin
  if brainops.current_tenant_id() <> new.tenant_id then
    -- Row level security refuses it in a moment; nothing of the other tenant is told before.
    return new;
  end if;
  if v_status is null then
    raise exception 'status: unknown word %', quote_literal(left(new.status, 80))
      using errcode = 'OP002', hint = 'Write active (or leave status out), paused, completed, exited or cancelled.';
  end if;
  new.status := v_status;
  if new.lead_id is null then
    return new;
  end if;

  -- Shared, so that who publishes or pauses sees every enrolment that came before.
  select * into v_campaign from public.campaigns where tenant_id = new.tenant_id and code = new.campaign_type for share;
  if not found or v_campaign.status = 'archived' or v_campaign.version = 0 then
    raise exception 'campaign_type: % %', quote_literal(left(new.campaign_type, 80)), case
        when v_campaign.id is null then 'is no campaign of this tenant'
        when v_campaign.status = 'archived' then 'is archived'
        else 'has no published version'
      end
      using errcode = 'OP020', column = 'campaign_type',
        hint = 'select code, status, version from campaigns; a new one is published by brainops.publish_campaign(code).';
  end if;

  new.campaign_id := v_campaign.id;
  new.version := v_campaign.version;
  new.enrolled_at := v_now;
  new.schedule_start := v_now;
  new.created_at := coalesce(new.created_at, v_now);
  new.touch_count := 0;
  new.entrance := 1;
  select * into v_before
    from public.ai_nurture_campaigns
    where tenant_id = new.tenant_id and lead_id = new.lead_id and campaign_type = new.campaign_type
    order by entrance desc
    limit 1;
  if found then
    -- The same entrance again runs into the unique key, as "on conflict do nothing" expects.
    new.entrance := v_before.entrance
      + (v_campaign.reentry = 'after_exit' and v_before.status not in ('active', 'paused'))::int;
  end if;

  -- Shared too: a lead that is being won right now is won before it enters, or after.
  select * into v_lead from public.revenue_leads where tenant_id = new.tenant_id and id = new.lead_id for share;
  if v_status in ('active', 'paused') then
    new.exit_reason := brainops_internal.entry_refusal(v_campaign, v_lead);
    new.status := case when new.exit_reason is null then v_status else 'exited' end;
  end if;

  if new.status in ('active', 'paused') then
    new.ended_at := null;
    new.held_since := case when new.status = 'paused' or v_campaign.status <> 'active' then v_now end;
  else
    new.ended_at := coalesce(new.ended_at, v_now);
    new.next_touch_date := null;
    new.held_since := null;
  end if;
  return new;
end;
$$;

CREATE FUNCTION brainops_internal.entry_refusal(p_campaign public.campaigns, p_lead public.revenue_leads) RETURNS text
    LANGUAGE plpgsql STABLE
    SET search_path TO ''
    AS $$
begin
  if p_lead.stage in ('won', 'lost') and (p_lead.stage = any (p_campaign.exit_on) or p_lead.stage = p_campaign.goal_event) then
    return p_lead.stage || ' already';
  elsif brainops_internal.topic_opted_out(p_campaign.tenant_id, p_lead.email, p_campaign.code) then
    return 'topic_not_wanted';
  end if;
  return null;
end;
$$;

CREATE FUNCTION brainops_internal.exit_reason_of(p_campaign public.campaigns, p_event text, p_channel text, p_metadata jsonb) RETURNS text
    LANGUAGE sql IMMUTABLE
    SET search_path TO ''
    AS $$
  select
    case
      when w.word = p_campaign.goal_event then 'goal: ' || w.word
      when w.word = any (p_campaign.exit_on)
      or w.word || ':' || p_channel = any (p_campaign.exit_on) then w.word
    end
  from
    (
      select
        case
          when p_event = 'stage_changed'
          and p_metadata ->> 'to' in ('won', 'lost') then p_metadata ->> 'to'
          else p_event
        end as word
    ) as w;
$$;

CREATE FUNCTION brainops_internal.fill_plan_tenant() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
  if not pg_catalog.pg_has_role(session_user, 'brainops_admin', 'member') then
    new.tenant_id := brainops_internal.resolve_tenant(tg_relid, to_jsonb(new));
  end if;
  return new;
end;
$$;

CREATE FUNCTION brainops_internal.fill_tenant() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
  new.tenant_id := coalesce(new.tenant_id, brainops_internal.resolve_tenant(tg_relid, to_jsonb(new)));
  return new;
end;
$$;

CREATE FUNCTION brainops_internal.find_email(p_event jsonb) RETURNS brainops.email_reference
    LANGUAGE plpgsql STABLE
    SET search_path TO ''
    AS $$
declare
  v_id uuid := brainops_internal.uuid_or_null(p_event ->> 'bo_msg');
  v_message_id text := brainops_internal.sendgrid_message_id(p_event);
  v_address text := lower(btrim(p_event ->> 'email'));
  v_found brainops.email_reference;
begin
  if v_id is not null then
    select tenant_id, id into v_found from public.ai_email_queue where id = v_id;
    if not found then
      select tenant_id, row_id into v_found
        from brainops.job_archive
        where row_id = v_id and table_name = 'ai_email_queue'
        limit 1;
    end if;
    return v_found;
  end if;
  if v_message_id is not null then
    -- One message of many recipients has one id: the address decides.
    select found.tenant_id, found.id into v_found
      from (
        select tenant_id, id, recipient_key from public.ai_email_queue
        where provider_message_id = v_message_id and broadcast_id is null
        union all
        select tenant_id, id, recipient_key from public.ai_email_queue
        where recipient_key = v_address and provider_message_id = v_message_id and broadcast_id is not null
      ) as found
      order by found.recipient_key = v_address desc
      limit 1;
    if found then
      return v_found;
    end if;
  end if;
  if p_event ->> 'event' = 'bounce' and coalesce(p_event ->> 'sg_message_id', '') = '' then
    select min(tenant_id::text)::uuid, case when count(*) = 1 then min(id::text)::uuid end
      into v_found.tenant_id, v_found.email_id
      from public.ai_email_queue
      where recipient_key = v_address and sent_at > brainops.now() - interval '7 days'
      having count(distinct tenant_id) = 1;
  end if;
  return v_found;
end;
$$;

CREATE FUNCTION brainops_internal.find_endpoint(p_provider text, p_token text) RETURNS jsonb
    LANGUAGE plpgsql STABLE
    SET search_path TO ''
    AS $$
begin
  return (
    select brainops_internal.sealed_credential(c, k) || jsonb_build_object('active', c.active)
    from public.provider_credentials as c
    inner join public.tenant_keys as k on k.tenant_id = c.tenant_id
    where c.endpoint_token = p_token and c.provider = p_provider
  );
end;
$$;

COMMENT ON FUNCTION brainops_internal.find_endpoint(p_provider text, p_token text) IS 'The credential whose webhook endpoint has the token, as brainops_internal.sealed_credential, with `active`; null for an unknown token.';

CREATE FUNCTION brainops_internal.find_lead(p_lead_id uuid, p_tenant_id uuid) RETURNS uuid
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO ''
    AS $$
  select l.id
  from public.revenue_leads as l
  where
    l.id = coalesce((select a.lead_id from public.revenue_lead_aliases as a where a.id = p_lead_id), p_lead_id)
    and (p_tenant_id is null or l.tenant_id = p_tenant_id)
    and (
      l.tenant_id = (select brainops.current_tenant_id())
      or brainops.may_name_tenant()
      or pg_catalog.pg_has_role(session_user, 'brainops_admin', 'member')
    );
$$;

COMMENT ON FUNCTION brainops_internal.find_lead(p_lead_id uuid, p_tenant_id uuid) IS 'The id of the lead that the id means (itself, or the lead it was merged into), where the caller may refer to it; else null.';

CREATE FUNCTION brainops_internal.find_person(p_tenant_id uuid, p_address text) RETURNS brainops.person
    LANGUAGE plpgsql STABLE
    SET search_path TO ''
    AS $$
declare
  v_person brainops.person;
  v_given text := coalesce(
    brainops_internal.email_key(p_address),
    brainops_internal.sms_number(p_address, brainops_internal.tenant_country((select settings from public.tenants where id = p_tenant_id)))
  );
  v_patterns text[];
  v_notified uuid[];
begin
  if v_given is null then
    raise exception 'address: %',
      coalesce(quote_literal(left(nullif(btrim(p_address), ''), 120)) || ' is neither an e-mail address nor a phone number', 'is empty')
      using errcode = 'OP032', hint = 'Give an e-mail address, or a phone number with its country code.';
  end if;
  v_person.tenant_id := p_tenant_id;
  v_person.lead_ids := array(
    select l.id from public.revenue_leads as l
    where l.tenant_id = p_tenant_id and (lower(btrim(l.email)) = v_given or l.phone_e164 = v_given)
  );
  -- What somebody else is reached by too (an office's number) is not this person's alone.
  v_person.addresses := array(
    select v_given
    union
    select a.address
    from public.revenue_leads as l
    cross join lateral (values (lower(btrim(l.email))), (l.phone_e164)) as a (address)
    where l.tenant_id = p_tenant_id and l.id = any (v_person.lead_ids) and a.address is not null
      and not exists (
        select from public.revenue_leads as o
        where o.tenant_id = p_tenant_id and o.id <> all (v_person.lead_ids)
          and (lower(btrim(o.email)) = a.address or o.phone_e164 = a.address)
      )
  );
  v_person.enrolment_ids := array(
    select e.id from public.ai_nurture_campaigns as e where e.tenant_id = p_tenant_id and e.lead_id = any (v_person.lead_ids)
  );
  v_person.workflow_ids := array(
    select w.id from public.ai_onboarding_workflows as w where w.tenant_id = p_tenant_id and w.lead_id = any (v_person.lead_ids)
  );
  v_person.payment_ids := array(
    select r.id from public.payment_requests as r where r.tenant_id = p_tenant_id and r.lead_id = any (v_person.lead_ids)
  );
  v_person.stripe_ids := array(
    select o.object_id from public.stripe_objects as o
    where o.tenant_id = p_tenant_id and o.payment_request_id = any (v_person.payment_ids)
  );
  v_patterns := array(
    select p.pattern from unnest(v_person.addresses) as a cross join lateral brainops_internal.address_pattern(a) as p (pattern)
    where p.pattern is not null
  );
  v_notified := array(
    select n.id from public.tenant_notifications as n
    where n.tenant_id = p_tenant_id
      and (n.lead_id = any (v_person.lead_ids) or lower(n.subject || ' ' || n.body) ~ any (v_patterns))
    union all
    select a.row_id from brainops.job_archive as a
    where a.tenant_id = p_tenant_id and a.table_name = 'tenant_notifications'
      and (
        brainops_internal.uuid_or_null(a.job_row ->> 'lead_id') = any (v_person.lead_ids)
        or lower((a.job_row ->> 'subject') || ' ' || (a.job_row ->> 'body')) ~ any (v_patterns)
      )
  );
  v_person.row_ids := v_person.payment_ids || v_notified || array(
    select q.id from public.ai_email_queue as q
    where q.tenant_id = p_tenant_id
      and (
        lower(q.recipient) = any (v_person.addresses)
        or q.lead_id = any (v_person.lead_ids)
        or brainops_internal.uuid_or_null(q.metadata ->> 'onboarding_workflow_id') = any (v_person.workflow_ids)
        or brainops_internal.uuid_or_null(q.metadata #>> '{notification,id}') = any (v_notified)
      )
    union all
    select q.id from public.ai_sms_queue as q
    where q.tenant_id = p_tenant_id
      and (q.recipient = any (v_person.addresses) or q.to_number = any (v_person.addresses) or q.lead_id = any (v_person.lead_ids))
    union all
    select t.id from public.ai_campaign_touches as t
    where t.tenant_id = p_tenant_id and t.campaign_id = any (v_person.enrolment_ids)
    union all
    select r.id from public.onboarding_reminders as r
    where r.tenant_id = p_tenant_id and r.workflow_id = any (v_person.workflow_ids)
    union all
    select a.row_id from brainops.job_archive as a
    where a.tenant_id = p_tenant_id
      and (
        lower(a.job_row ->> 'recipient') = any (v_person.addresses)
        or a.job_row ->> 'to_number' = any (v_person.addresses)
        or brainops_internal.uuid_or_null(a.job_row ->> 'lead_id') = any (v_person.lead_ids)
        or brainops_internal.uuid_or_null(a.job_row ->> 'campaign_id') = any (v_person.enrolment_ids)
        or brainops_internal.uuid_or_null(a.job_row ->> 'workflow_id') = any (v_person.workflow_ids)
        or brainops_internal.uuid_or_null(a.job_row #>> '{metadata,onboarding_workflow_id}') = any (v_person.workflow_ids)
        or brainops_internal.uuid_or_null(a.job_row #>> '{metadata,notification,id}') = any (v_notified)
      )
  );
  return v_person;
end;
$$;

COMMENT ON FUNCTION brainops_internal.find_person(p_tenant_id uuid, p_address text) IS 'Who has this e-mail address or phone number: the leads, their other addresses, and the rows about them.';

CREATE FUNCTION brainops_internal.find_sms(p_row uuid, p_message_sid text) RETURNS brainops.sms_reference
    LANGUAGE plpgsql STABLE
    SET search_path TO ''
    AS $$
declare
  v_found brainops.sms_reference;
begin
  select tenant_id, id, lead_id, touch_id, enrolment_id, to_number into v_found
    from public.ai_sms_queue as q
    where q.id = p_row or (p_row is null and q.provider_message_id = p_message_sid)
    limit 1;
  if not found and p_row is not null then
    select
      a.tenant_id, a.row_id, (a.job_row ->> 'lead_id')::uuid, (a.job_row ->> 'touch_id')::uuid,
      (a.job_row ->> 'enrolment_id')::uuid, a.job_row ->> 'to_number'
      into v_found
      from brainops.job_archive as a
      where a.row_id = p_row and a.table_name = 'ai_sms_queue'
      limit 1;
  end if;
  return v_found;
end;
$$;

CREATE FUNCTION brainops_internal.follow_payment(p_request public.payment_requests) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
begin
  if (p_request).lead_id is null then
    return;
  end if;
  perform brainops_internal.record_payment_event(p_request, 'paid', (p_request).paid_at, (p_request).id::text, '{}');
  begin
    update public.revenue_leads set stage = 'won'
    where tenant_id = (p_request).tenant_id and id = (p_request).lead_id and stage <> 'won';
  exception
    when serialization_failure or deadlock_detected or lock_not_available then
      raise; -- may pass: the event is tried again
    -- The money is there, whatever the stages say.
    when others then
      perform brainops.notify(
        (p_request).tenant_id, 'A lead that paid could not be moved to won',
        'Lead ' || (p_request).lead_id || ': ' || sqlerrm, 'payment:' || (p_request).id || ':won',
        (p_request).lead_id
      );
  end;
end;
$$;

CREATE FUNCTION brainops_internal.forget_sms_run() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
begin
  new.earlier_message_ids := array(
    select distinct m from unnest(old.earlier_message_ids || old.provider_message_id) as m where m is not null
    union
    -- Told of while the outcome was lost.
    select provider_message_id from public.sms_deliveries
    where tenant_id = old.tenant_id and sms_id = old.id and provider_message_id is not null
  );
  if old.status <> 'unconfirmed' then
    new.times_absent := 0;
  end if;
  new.provider_message_id := null;
  new.sent_at := null;
  new.from_number := null;
  new.segments := null;
  new.account_sid := null;
  new.looked_for_at := null;
  new.text_sent := null;
  new.to_number := null;
  return new;
end;
$$;

CREATE FUNCTION brainops_internal.format_payment(p_minor bigint, p_currency text) RETURNS text
    LANGUAGE sql STABLE
    SET search_path TO ''
    AS $$
  select
    coalesce(
      (
        select round(p_minor / 10::numeric ^ c.stripe_exponent::int, c.exponent)::text
        from brainops.currencies as c
        where c.code = p_currency
      ),
      p_minor || ' minor units of'
    ) || ' ' || upper(p_currency);
$$;

CREATE FUNCTION brainops_internal.gate_campaign_touch(p_ids uuid[]) RETURNS SETOF brainops.verdict
    LANGUAGE sql STABLE
    SET search_path TO ''
    AS $$
  select
    t.id,
    case
      when e.status in ('active', 'paused') then 'defer'
      else 'skip'
    end,
    case
      when e.status in ('active', 'paused') then brainops.now() + interval '1 hour'
    end,
    coalesce(
      brainops_internal.enrolment_hold_reason(e, c),
      'the enrolment is ' || e.status || coalesce(': ' || e.exit_reason, '')
    )
  from
    public.ai_campaign_touches as t
    inner join public.ai_nurture_campaigns as e on e.tenant_id = t.tenant_id and e.id = t.campaign_id
    left join public.campaigns as c on c.tenant_id = e.tenant_id and c.id = e.campaign_id
  where
    t.id = any (p_ids)
    and t.performed_at is null
    and (
      e.status not in ('active', 'paused', 'completed')
      or (e.status = 'completed' and t.step_key is not null)
      or (e.status <> 'completed' and brainops_internal.enrolment_hold_reason(e, c) is not null)
    );
$$;

COMMENT ON FUNCTION brainops_internal.gate_campaign_touch(p_ids uuid[]) IS 'Which touches may not be performed: the enrolment is over (skip), or it, its campaign or the launch is waited for (defer; going on moves them to their time).';

CREATE FUNCTION brainops_internal.gate_email(p_ids uuid[]) RETURNS SETOF brainops.verdict
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
begin
  return query select * from brainops_internal.contact_verdicts('email', brainops_internal.email_contacts(p_ids));
end;
$$;

COMMENT ON FUNCTION brainops_internal.gate_email(p_ids uuid[]) IS 'Which of the mails may not go now: the rules of brainops_internal.contact_verdicts.';

CREATE FUNCTION brainops_internal.gate_onboarding_reminder(p_ids uuid[]) RETURNS SETOF brainops.verdict
    LANGUAGE sql STABLE
    SET search_path TO ''
    AS $$
  select
    r.id,
    'skip',
    null::timestamptz,
    case
      when w.status <> 'in_progress' then 'the onboarding is ' || w.status
      when s.status <> 'in_progress' then 'the step is ' || s.status
      else 'the step is due at another time now'
    end
  from
    public.onboarding_reminders as r
    inner join public.ai_onboarding_steps as s on s.tenant_id = r.tenant_id and s.id = r.step_id
    inner join public.ai_onboarding_workflows as w on w.tenant_id = s.tenant_id and w.id = s.workflow_id
  where
    r.id = any (p_ids)
    and (w.status <> 'in_progress' or s.status <> 'in_progress' or s.due_at is distinct from r.due_at);
$$;

COMMENT ON FUNCTION brainops_internal.gate_onboarding_reminder(p_ids uuid[]) IS 'Which reminders have nothing to say any more: the step is closed, paused or due at another time.';

CREATE FUNCTION brainops_internal.gate_payment_closure(p_ids uuid[]) RETURNS SETOF brainops.verdict
    LANGUAGE sql STABLE
    SET search_path TO ''
    AS $$
  select c.id, 'defer', r.expires_at, 'it expires later'
  from
    public.payment_link_closures as c
    inner join public.payment_requests as r on r.tenant_id = c.tenant_id and r.id = c.payment_request_id
  where
    c.id = any (p_ids)
    and c.reason = 'expired'
    -- A link that another one took the place of is closed at its own time at the latest.
    and r.key_generation = c.key_generation
    and r.paid_at is null
    and r.cancelled_at is null
    and r.expires_at > brainops.now();
$$;

COMMENT ON FUNCTION brainops_internal.gate_payment_closure(p_ids uuid[]) IS 'Which of the links are kept open longer: those whose request expires later by now.';

CREATE FUNCTION brainops_internal.gate_payment_request(p_ids uuid[]) RETURNS SETOF brainops.verdict
    LANGUAGE sql STABLE
    SET search_path TO ''
    AS $$
  select
    r.id,
    'skip',
    null::timestamptz,
    case
      when r.paid_at is not null then 'it is paid already'
      else 'it expired before its link was made'
    end
  from public.payment_requests as r
  where r.id = any (p_ids) and (r.paid_at is not null or r.expires_at <= brainops.now());
$$;

COMMENT ON FUNCTION brainops_internal.gate_payment_request(p_ids uuid[]) IS 'Which of the requests need no link any more: those that are paid or past their time.';

CREATE FUNCTION brainops_internal.gate_sms(p_ids uuid[]) RETURNS SETOF brainops.verdict
    LANGUAGE sql
    SET search_path TO ''
    AS $$
  select v.*
  from
    brainops_internal.contact_verdicts(
      'sms',
      (
        select
          array_agg(
            row(
              q.id,
              q.tenant_id,
              q.lead_id,
              brainops_internal.sms_address(q),
              q.is_marketing,
              q.enrolment_id,
              q.recipient,
              coalesce(q.first_due_at, q.scheduled_for),
              q.metadata ->> 'expires_at'
            )::brainops.contact
            order by q.job_priority, q.scheduled_for, q.id
          )
        from public.ai_sms_queue as q
        where q.id = any (p_ids)
      )
    ) as v;
$$;

COMMENT ON FUNCTION brainops_internal.gate_sms(p_ids uuid[]) IS 'Which of the texts may not go now: the rules of brainops_internal.contact_verdicts.';

CREATE FUNCTION brainops_internal.gate_tenant_notification(p_ids uuid[]) RETURNS SETOF brainops.verdict
    LANGUAGE sql STABLE
    SET search_path TO ''
    AS $$
  select
    n.id,
    'defer',
    brainops.now() + interval '10 minutes',
    'waiting: the tenant has no active Slack credential, and its settings.notify_email is not set'
  from
    public.tenant_notifications as n
    inner join public.tenants as t on t.id = n.tenant_id
  where
    n.id = any (p_ids)
    and coalesce(btrim(t.settings ->> 'notify_email'), '') = ''
    and not exists (
      select
      from public.provider_credentials as c
      where c.tenant_id = n.tenant_id and c.provider = 'slack' and c.name = 'default' and c.active
    );
$$;

COMMENT ON FUNCTION brainops_internal.gate_tenant_notification(p_ids uuid[]) IS 'Holds the notifications of tenants that have neither a Slack credential nor settings.notify_email.';

CREATE FUNCTION brainops_internal.guard_reputation() RETURNS integer
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
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

COMMENT ON FUNCTION brainops_internal.guard_reputation() IS 'Holds the marketing mail of tenants with 0.3 % of complaints or 5 % of hard bounces within 7 days, and warns at 0.1 %; returns how many it held. The sweep asks it.';

CREATE FUNCTION brainops_internal.guard_table(p_table regclass, p_reference_tenants boolean) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO ''
    SET client_min_messages TO 'warning'
    AS $$
declare
  v_obstacles text;
  v_part regclass;
begin
  select string_agg(obstacle, '; ') into v_obstacles from brainops.guard_obstacles(p_table) as obstacle;
  if v_obstacles is not null then
    raise exception 'cannot protect %: %', p_table, v_obstacles
      using errcode = 'OP008', hint = 'Change the table as the message says, then call brainops.protect_table again.';
  end if;

  begin
    execute format('alter table %s alter column tenant_id set not null', p_table);
  exception
    when not_null_violation then
      raise exception 'cannot protect %: it has rows without a tenant_id', p_table
        using errcode = 'OP008', hint = format('update %s set tenant_id = … where tenant_id is null', p_table);
  end;

  if p_reference_tenants and not exists (
    select from pg_catalog.pg_constraint
    where conrelid = p_table and contype = 'f' and confrelid = 'public.tenants'::regclass
  ) then
    begin
      execute format('alter table %s add foreign key (tenant_id) references public.tenants (id)', p_table);
    exception
      when foreign_key_violation then
        raise exception 'cannot protect %: it has rows of tenants that are not in public.tenants', p_table
          using errcode = 'OP008',
            hint = format('select * from %s as t where not exists (select from tenants where id = t.tenant_id)', p_table);
    end;
  end if;

  -- For the foreign key. A job table has none, and its own indexes.
  if p_reference_tenants and not exists (
    select from pg_catalog.pg_index as i
    inner join pg_catalog.pg_attribute as a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
    where i.indrelid = p_table and a.attname = 'tenant_id' and i.indpred is null
  ) then
    execute format('create index on %s (tenant_id)', p_table);
  end if;

  execute format('alter table %s enable row level security', p_table);
  execute format('alter table %s force row level security', p_table);

  execute format('drop policy if exists own_tenant on %s', p_table);
  execute format(
    'create policy own_tenant on %s for all to brainops_tenant, brainops_worker
       using (tenant_id = (select brainops.current_tenant_id()))
       with check (tenant_id = (select brainops.current_tenant_id()))',
    p_table
  );
  execute format('drop policy if exists named_tenant on %s', p_table);
  execute format(
    'create policy named_tenant on %s for all to brainops_service
       using (tenant_id = (select brainops.current_tenant_id()))
       with check (tenant_id = (select brainops.current_tenant_id()) or (select brainops.may_name_tenant()))',
    p_table
  );
  execute format('drop policy if exists every_row on %s', p_table);
  execute format(
    'create policy every_row on %s for all to brainops_admin, brainops_system using (true) with check (true)',
    p_table
  );

  execute format('revoke all on %s from public, brainops_tenant, brainops_service', p_table);
  execute format(
    'grant select, insert, update, delete on %s to
       brainops_tenant, brainops_service, brainops_worker, brainops_admin, brainops_system',
    p_table
  );

  execute format(
    'create or replace trigger a0_remember_tenant before insert on %s
       for each statement execute function brainops_internal.remember_tenant()',
    p_table
  );
  execute format(
    'alter table %s alter column tenant_id set default nullif(current_setting(''brainops.statement_tenant'', true), '''')::uuid',
    p_table
  );
  execute format(
    'create or replace trigger a1_fill_tenant before insert on %s
       for each row when (new.tenant_id is null or current_setting(''brainops.statement_tenant'', true) = '''')
       execute function brainops_internal.fill_tenant()',
    p_table
  );
  execute format(
    'create or replace trigger a1_show_inserted_row before insert on %s
       for each row when (
         current_setting(''brainops.statement_tenant'', true) = '''' and pg_has_role(current_user, ''brainops_service'', ''member'')
       )
       execute function brainops_internal.show_inserted_row()',
    p_table
  );

  -- A part can be asked by its own name, past the parent's policies: nobody but admins may.
  for v_part in
    select relid from pg_catalog.pg_partition_tree(p_table) where level > 0
    union
    select inhrelid from pg_catalog.pg_inherits where inhparent = p_table
  loop
    execute format('alter table %s enable row level security', v_part);
    execute format('alter table %s force row level security', v_part);
    execute format('drop policy if exists every_row on %s', v_part);
    execute format('create policy every_row on %s for all to brainops_admin, brainops_system using (true) with check (true)', v_part);
    execute format('revoke all on %s from public, brainops_tenant, brainops_service, brainops_worker', v_part);
  end loop;
end;
$$;

COMMENT ON FUNCTION brainops_internal.guard_table(p_table regclass, p_reference_tenants boolean) IS 'Behind protect_table and define_job_table.';

CREATE FUNCTION brainops_internal.hold_account(p_sender text, p_until timestamp with time zone) RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO ''
    AS $$
  insert into brainops.circuit_breakers as b (sender, opened_at, retry_at, last_error)
  values (p_sender, brainops.now(), p_until, 'asked to wait')
  on conflict (sender) do update
    set
      opened_at = coalesce(b.opened_at, brainops.now()),
      retry_at = greatest(b.retry_at, p_until),
      probe_expires_at = null;
$$;

COMMENT ON FUNCTION brainops_internal.hold_account(p_sender text, p_until timestamp with time zone) IS 'Holds all rows of a sender until it said it can be asked again.';

CREATE FUNCTION brainops_internal.hold_enrolments(p_tenant_id uuid, p_ids uuid[]) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  v_reasons jsonb;
begin
  perform from public.ai_nurture_campaigns where tenant_id = p_tenant_id and id = any (p_ids) order by id for no key update;
  update public.ai_nurture_campaigns set held_since = brainops.now()
  where tenant_id = p_tenant_id and id = any (p_ids) and held_since is null and status in ('active', 'paused');
  select coalesce(jsonb_object_agg(e.id, brainops_internal.enrolment_hold_reason(e, c)), '{}') into v_reasons
    from public.ai_nurture_campaigns as e
    inner join public.campaigns as c on c.tenant_id = e.tenant_id and c.id = e.campaign_id
    where e.tenant_id = p_tenant_id and e.id = any (p_ids);

  update public.ai_campaign_touches as t
  set status = 'awaiting_approval', last_error = v_reasons ->> t.campaign_id::text
  from (
    select id from public.ai_campaign_touches
    where tenant_id = p_tenant_id and campaign_id = any (p_ids) and performed_at is null
      and (status = 'pending' or (status = 'awaiting_approval' and last_error like 'held%'))
    order by id
    for update skip locked
  ) as o
  where t.id = o.id;
  update public.ai_email_queue as q
  set status = 'awaiting_approval', last_error = v_reasons ->> q.enrolment_id::text
  from (
    select id from public.ai_email_queue
    where tenant_id = p_tenant_id and enrolment_id = any (p_ids) and status = 'pending'
    order by id
    for update skip locked
  ) as o
  where q.id = o.id;
  update public.ai_sms_queue as q
  set status = 'awaiting_approval', last_error = v_reasons ->> q.enrolment_id::text
  from (
    select id from public.ai_sms_queue
    where tenant_id = p_tenant_id and enrolment_id = any (p_ids) and status = 'pending'
    order by id
    for update skip locked
  ) as o
  where q.id = o.id;
end;
$$;

CREATE FUNCTION brainops_internal.hold_sent_template() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
  perform from public.ai_campaign_templates as t
    where t.tenant_id = new.tenant_id and t.name = new.content_template and t.channel = new.touch_type
      and t.version = new.template_version
    for key share;
  if not found then
    raise exception 'content_template: version % of % was deleted while it was sent', new.template_version, quote_literal(new.content_template)
      using errcode = 'serialization_failure', hint = 'The touch is tried again, with the version that is the newest then.';
  end if;
  return new;
end;
$$;

COMMENT ON FUNCTION brainops_internal.hold_sent_template() IS 'The version that a touch was sent with is there when the touch says so, whoever deletes it meanwhile.';

CREATE FUNCTION brainops_internal.hourly_limit(p_tenant_id uuid, p_channel text, p_at timestamp with time zone) RETURNS integer
    LANGUAGE sql STABLE
    SET search_path TO ''
    AS $$
  select least(p.hourly_limit, w.plan[greatest((p_at at time zone t.time_zone)::date - w.started_on, 0) + 1])
  from
    public.tenants as t
    left join public.contact_policies as p on p.tenant_id = t.id and p.channel = p_channel
    left join public.sender_warmups as w on w.tenant_id = t.id and w.channel = p_channel
  where t.id = p_tenant_id;
$$;

COMMENT ON FUNCTION brainops_internal.hourly_limit(p_tenant_id uuid, p_channel text, p_at timestamp with time zone) IS 'Marketing messages that may go in the hour of an instant: the lower of the warm-up''s and the policy''s; null for no limit.';

CREATE FUNCTION brainops_internal.hourly_verdicts(p_policy public.contact_policies, p_places brainops.recipient_context[]) RETURNS SETOF brainops.verdict
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
declare
  v_times timestamptz[] := brainops_internal.reserve_hourly_slots(p_policy.tenant_id, p_policy.channel, cardinality(p_places));
begin
  return query
    select
      p.id,
      'defer',
      brainops_internal.spread_contact_time(t.until, p.zones, p.opens, p.closes, p_policy.spread),
      'hourly limit: as many messages as the warm-up or hourly_limit allows have gone in this hour'
    from unnest(p_places) with ordinality
      as p (id, lead_ids, emails, phones, zones, country, state, opens, closes, goes_at, n)
    inner join unnest(v_times) with ordinality as t (until, n) on t.n = p.n
    where t.until is not null;
end;
$$;

COMMENT ON FUNCTION brainops_internal.hourly_verdicts(p_policy public.contact_policies, p_places brainops.recipient_context[]) IS 'Which messages are over the hourly limit, and until when.';

CREATE FUNCTION brainops_internal.is_free_mail(p_domain text) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path TO ''
    AS $_$
  select
    p_domain ~ '^(gmail|googlemail|icloud|me|mac|aol|aim|msn|proton|protonmail|pm|fastmail|hey|zoho|tutanota|tuta|mail|email|inbox|comcast|verizon|att|sbcglobal|bellsouth|cox|charter|earthlink|qq|163|126|sina|foxmail|rediffmail|naver|hanmail|web|freenet|t-online|arcor|posteo|orange|wanadoo|free|laposte|libero|virgilio|seznam|wp|o2|bk|list|ya|rambler|uol|terra|bigpond|optusnet|btinternet|ntlworld|sky|talktalk|shaw|rogers|telus|sympatico)\.(com|net|org|de|fr|it|cz|pl|ru|co\.uk|uk|ca|me|us|kr|cn|com\.br|com\.au|net\.au)$'
    or p_domain ~ '^(yahoo|ymail|rocketmail|hotmail|outlook|live|gmx|yandex)\.([a-z]{2,3}|com?\.[a-z]{2})$';
$_$;

COMMENT ON FUNCTION brainops_internal.is_free_mail(p_domain text) IS 'Whether the domain is a mail service for everybody (gmail.com, yahoo.*, outlook.*, gmx.*, …).';

CREATE FUNCTION brainops_internal.is_interval(p_text text) RETURNS boolean
    LANGUAGE plpgsql STABLE
    SET search_path TO ''
    AS $$
begin
  return coalesce(p_text::interval > '0' and p_text::interval <= '100 years', false);
exception
  when data_exception then return false;
end;
$$;

COMMENT ON FUNCTION brainops_internal.is_interval(p_text text) IS 'Whether the text spells a positive interval of at most 100 years, such as 7 days.';

CREATE FUNCTION brainops_internal.is_yes(p_word text) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path TO ''
    AS $$
  select coalesce(lower(btrim(p_word)) in ('true', 't', 'yes', 'y', '1', 'on', 'x', 'ja', 'si', 'oui'), false);
$$;

COMMENT ON FUNCTION brainops_internal.is_yes(p_word text) IS 'Whether a word of a form or a file means yes; false for null and for anything else.';

CREATE FUNCTION brainops_internal.job_table_name(p_schema name, p_table name) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
  select
    case
      when p_schema = 'public' then p_table::text
      else p_schema || '.' || p_table
    end;
$$;

COMMENT ON FUNCTION brainops_internal.job_table_name(p_schema name, p_table name) IS 'What a table is called in brainops.job_tables: its name, with the schema where that is not public.';

CREATE FUNCTION brainops_internal.jwt_tenant_id() RETURNS uuid
    LANGUAGE plpgsql STABLE PARALLEL SAFE
    SET search_path TO ''
    AS $$
begin
  return brainops_internal.uuid_or_null(
    nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'tenant_id'
  );
exception
  -- Not JSON, an escape that text cannot hold, or nested too deep.
  when data_exception or program_limit_exceeded then return null;
end;
$$;

COMMENT ON FUNCTION brainops_internal.jwt_tenant_id() IS 'The claim tenant_id in request.jwt.claims; null where there is none or it is no uuid.';

CREATE FUNCTION brainops_internal.keep_contact_address() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  v_address text;
begin
  -- Row level security refuses the row in a moment; until then nothing of the other tenant is read.
  if not brainops_internal.may_act_for(new.tenant_id) then
    return new;
  end if;
  v_address := brainops_internal.contact_address(new.tenant_id, new.channel, new.address);
  if v_address is null then
    -- A yes to a number that cannot be read reaches nobody, and a form or file with a bad number is not lost for it; but
    -- whoever writes a no by hand must know that it stops nothing.
    if tg_table_name = 'contact_consents' and (to_jsonb(new) ->> 'state' <> 'denied' or new.source <> 'client') then
      return new;
    end if;
    raise exception 'address: % is not a phone number', quote_literal(left(new.address, 120))
      using errcode = 'OP017', column = 'address', hint = 'Give one number with its country code such as +13035550100, without an extension.';
  end if;
  new.address := v_address;
  return new;
end;
$$;

CREATE FUNCTION brainops_internal.keep_first_due() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
begin
  new.first_due_at := case
    when old.status not in ('pending', 'processing') then greatest(new.scheduled_for, brainops.now())
    when current_user = 'brainops_worker' or current_setting('brainops.spreading', true) = 'on'
      then coalesce(old.first_due_at, old.scheduled_for)
  end;
  return new;
end;
$$;

CREATE FUNCTION brainops_internal.keep_sent_template() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
  if exists (
    select from public.ai_campaign_touches as t
    where t.tenant_id = old.tenant_id and t.content_template = old.name and t.touch_type = old.channel
      and t.template_version = old.version
  ) then
    raise exception 'ai_campaign_templates: version % of % was sent to people and cannot be deleted', old.version, quote_literal(old.name)
      using errcode = 'OP021', hint = 'Leave it; touches take the newest version of a name.';
  end if;
  return old;
end;
$$;

COMMENT ON FUNCTION brainops_internal.keep_sent_template() IS 'A version of a template that touches were sent with is there to be read: what a person got can be shown to them.';

CREATE FUNCTION brainops_internal.known_lead(p_lead public.revenue_leads) RETURNS uuid
    LANGUAGE plpgsql STABLE
    SET search_path TO ''
    AS $$
declare
  v_email text := 'email:' || brainops_internal.email_key(p_lead.email);
  v_phone text := 'phone:' || p_lead.phone_e164;
  v_lead_id uuid;
begin
  select l.id into v_lead_id
    from (
      select min(k.lead_id::text)::uuid as lead_id, count(*) as keys, count(distinct k.lead_id) as leads
      from brainops.lead_keys as k
      where k.tenant_id = p_lead.tenant_id and k.key in (v_email, v_phone)
    ) as k
    inner join public.revenue_leads as l on l.tenant_id = p_lead.tenant_id and l.id = k.lead_id
    where k.leads = 1 and k.keys = (v_email is not null)::int + (v_phone is not null)::int;
  return v_lead_id;
end;
$$;

CREATE FUNCTION brainops_internal.last_consents(p_tenant_id uuid, p_channel text, p_addresses text[]) RETURNS TABLE(address_key text, state text, occurred_at timestamp with time zone, confirmed boolean)
    LANGUAGE plpgsql STABLE
    SET search_path TO ''
    SET jit TO 'off'
    SET enable_seqscan TO 'off'
    SET enable_nestloop TO 'off'
    AS $$
begin
  return query
    select distinct on (w.address_key) w.address_key, w.state, w.occurred_at, w.evidence ? 'confirmed_at'
    from public.contact_consents as w
    where w.tenant_id = p_tenant_id and w.channel = p_channel and w.address_key = any (p_addresses)
    order by w.address_key, w.occurred_at desc, w.state = 'denied' desc, w.created_at desc;
end;
$$;

COMMENT ON FUNCTION brainops_internal.last_consents(p_tenant_id uuid, p_channel text, p_addresses text[]) IS 'What each address (in lower case) last said of the channel; confirmed: and said in the same breath that it is its own. Addresses without a word are left out.';

CREATE FUNCTION brainops_internal.lead_alias(p_lead_id uuid, p_tenant_id uuid DEFAULT NULL::uuid) RETURNS uuid
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
  return (
    select a.lead_id
    from public.revenue_lead_aliases as a
    where a.id = p_lead_id and (p_tenant_id is null or a.tenant_id = p_tenant_id)
  );
end;
$$;

COMMENT ON FUNCTION brainops_internal.lead_alias(p_lead_id uuid, p_tenant_id uuid) IS 'The lead that this id''s lead was merged into; null for an id that is no alias.';

CREATE FUNCTION brainops_internal.lead_facts(p_lead public.revenue_leads) RETURNS TABLE(reason text, times integer)
    LANGUAGE sql STABLE
    SET search_path TO ''
    AS $_$
  select f.reason, f.times
  from
    (
      select
        -- Custom fields come in an object of their own, or beside the others.
        p_lead.metadata || coalesce(
          case
            when jsonb_typeof(p_lead.metadata -> 'custom_fields') = 'object' then p_lead.metadata -> 'custom_fields'
          end,
          '{}'
        ) as given,
        split_part(p_lead.email_key, '@', 2) as domain
    ) as m
    cross join lateral (
      select
        lower(btrim(m.given ->> 'budget')) as budget,
        case
          when btrim(m.given ->> 'budget') ~ '^[$€£]?\s*[0-9][0-9,]{0,14}(\.[0-9]{1,6})?$' then regexp_replace(
            m.given ->> 'budget',
            '[^0-9.]',
            '',
            'g'
          )::numeric
        end as amount,
        regexp_replace(lower(btrim(m.given ->> 'timeline')), '[\s-]+', '_', 'g') as timeline
    ) as b
    cross join lateral (
      values
        ('captured', 1),
        ('email_given', (p_lead.email_key is not null)::int),
        ('business_domain', (p_lead.email_key is not null and not brainops_internal.is_free_mail(m.domain))::int),
        ('phone_given', (coalesce(btrim(p_lead.phone), '') <> '')::int),
        ('company_given', (coalesce(btrim(p_lead.company_name), '') <> '')::int),
        (
          'custom_fields',
          (
            select least(count(*), 5)::int
            from jsonb_each_text(m.given) as k
            where
              btrim(k.value) <> ''
              and k.key <> all (
                '{custom_fields,merged,lead_id,source,type,campaign,is_test,is_demo,import,budget,timeline,decision_maker,property_owner,budget_approved}'::text[]
              )
          )
        ),
        ('budget_high', (b.budget = 'high' or b.amount > 10000)::int),
        ('budget_medium', (b.budget = 'medium' or b.amount > 5000 and b.amount <= 10000)::int),
        ('decision_maker', brainops_internal.is_yes(m.given ->> 'decision_maker')::int),
        (
          'timeline_now',
          (b.timeline in ('immediate', 'immediately', 'urgent', 'now', 'today', 'asap', 'this_week'))::int
        ),
        ('timeline_month', (b.timeline in ('this_month', 'month'))::int),
        ('property_owner', brainops_internal.is_yes(m.given ->> 'property_owner')::int),
        ('budget_approved', brainops_internal.is_yes(m.given ->> 'budget_approved')::int)
    ) as f (reason, times)
  where f.times > 0;
$_$;

COMMENT ON FUNCTION brainops_internal.lead_facts(p_lead public.revenue_leads) IS 'Which facts of a lead''s row score, and how many times; brainops.score_reasons has their points.';

CREATE FUNCTION brainops_internal.lead_time_zone(p_tenant_id uuid, p_lead_id uuid) RETURNS text
    LANGUAGE sql STABLE
    SET search_path TO ''
    AS $$
  select coalesce(l.time_zone, t.time_zone)
  from
    public.tenants as t
    left join public.revenue_leads as l on l.tenant_id = t.id and l.id = p_lead_id
  where t.id = p_tenant_id;
$$;

COMMENT ON FUNCTION brainops_internal.lead_time_zone(p_tenant_id uuid, p_lead_id uuid) IS 'The zone in which a lead''s days are counted: its own, else its tenant''s.';

CREATE FUNCTION brainops_internal.lead_variable(p_lead public.revenue_leads) RETURNS text
    LANGUAGE sql STABLE
    SET search_path TO ''
    AS $$
  select
    concat_ws(
      E'\n',
      nullif(concat_ws(', ', p_lead.contact_name, p_lead.company_name), ''),
      p_lead.email,
      coalesce(p_lead.phone_e164, p_lead.phone),
      'stage ' || p_lead.stage || ', score ' || p_lead.score,
      'lead ' || p_lead.id
    );
$$;

COMMENT ON FUNCTION brainops_internal.lead_variable(p_lead public.revenue_leads) IS 'Who a lead is, for a person to read.';

CREATE FUNCTION brainops_internal.leading_variant(p_step public.campaign_steps, OUT variant text, OUT figures jsonb) RETURNS record
    LANGUAGE plpgsql STABLE
    SET search_path TO ''
    AS $$
declare
  v_winner constant jsonb := p_step.config -> 'winner';
  v_key constant text := brainops_internal.split_key(p_step);
  v_event constant text := case v_winner ->> 'by' when 'open' then 'opened' when 'click' then 'clicked' else 'replied' end;
  v_first timestamptz;
  v_least bigint;
  v_leader text;
begin
  select jsonb_object_agg(f.name, jsonb_build_object('touches', f.touches, 'hits', f.hits)), min(f.touches), min(f.first_at),
    (array_agg(f.name order by f.hits::numeric / nullif(f.touches, 0) desc nulls last, f.weight desc, f.n) filter (where f.hits > 0))[1]
    into figures, v_least, v_first, v_leader
    from (
      select v.item ->> 'name' as name, (v.item ->> 'weight')::int as weight, v.n,
        count(t.message_id) as touches,
        count(t.message_id) filter (
          where exists (
            select from public.campaign_touch_events as e
            where e.tenant_id = t.tenant_id and e.touch_id = t.id and e.event = v_event
          )
        ) as hits,
        min(t.performed_at) as first_at
      from jsonb_array_elements(p_step.config -> 'variants') with ordinality as v (item, n)
      left join public.ai_campaign_touches as t
        on t.tenant_id = p_step.tenant_id and t.split_key = v_key and t.variant = v.item ->> 'name' and t.performed_at is not null
      group by v.item, v.n
    ) as f;
  if v_least >= (v_winner ->> 'after_touches')::bigint or v_first + (v_winner ->> 'after')::interval <= brainops.now() then
    variant := v_leader;
  end if;
end;
$$;

CREATE FUNCTION brainops_internal.leads_at(p_tenant_id uuid, p_address text) RETURNS SETOF public.revenue_leads
    LANGUAGE sql STABLE
    SET search_path TO ''
    AS $$
  select l.*
  from public.revenue_leads as l
  where l.tenant_id = p_tenant_id and lower(l.email) = lower(btrim(p_address));
$$;

COMMENT ON FUNCTION brainops_internal.leads_at(p_tenant_id uuid, p_address text) IS 'The leads of a tenant with this e-mail address.';

CREATE FUNCTION brainops_internal.liveness_class() RETURNS integer
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
  select 1112690512;
$$;

COMMENT ON FUNCTION brainops_internal.liveness_class() IS 'First half of every worker''s advisory lock key.';

CREATE FUNCTION brainops_internal.load_broadcast(p_id uuid) RETURNS TABLE(subject text, body text, metadata jsonb, tenant jsonb, credential jsonb)
    LANGUAGE plpgsql STABLE ROWS 1
    SET search_path TO ''
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    AS $$
#variable_conflict use_column
begin
  return query
    select
      b.subject,
      b.body,
      b.metadata,
      jsonb_build_object('name', t.name, 'slug', t.slug, 'settings', t.settings),
      (select o.sealed from brainops_internal.tenant_account(b.tenant_id, 'sendgrid') as o)
    from public.ai_broadcasts as b
    inner join public.tenants as t on t.id = b.tenant_id
    where b.id = p_id;
end;
$$;

COMMENT ON FUNCTION brainops_internal.load_broadcast(p_id uuid) IS 'What all recipients of a broadcast share; no row if the broadcast is gone.';

CREATE FUNCTION brainops_internal.load_emails(p_ids uuid[]) RETURNS TABLE(id uuid, tenant_id uuid, attempts integer, max_attempts integer, subject text, body text, metadata jsonb, address text, lead jsonb, tenant jsonb, credential jsonb, unsubscribe_token text)
    LANGUAGE plpgsql
    SET search_path TO ''
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    AS $$
#variable_conflict use_column
begin
  return query
    with
      mails as materialized (
        select e.*, a.address
        from public.ai_email_queue as e
        cross join lateral brainops_internal.email_address(e.tenant_id, e.recipient) as a
        where e.id = any (p_ids) and e.lease is not null and e.broadcast_id is null
      ),
      links as materialized (
        select m.tenant_id, (
          select jsonb_object_agg(t.address_key, t.token)
          from brainops_internal.unsubscribe_tokens(m.tenant_id, m.addresses) as t
        ) as tokens
        from (select tenant_id, array_agg(address) as addresses from mails where is_marketing group by tenant_id) as m
      )
    select
      e.id,
      e.tenant_id,
      e.attempts,
      e.max_attempts,
      e.subject,
      e.body,
      e.metadata,
      e.address,
      to_jsonb(l) - 'tenant_id',
      jsonb_build_object('name', t.name, 'slug', t.slug, 'settings', t.settings),
      (select o.sealed from brainops_internal.tenant_account(e.tenant_id, 'sendgrid') as o),
      case when e.is_marketing then k.tokens ->> lower(btrim(e.address)) end
    from mails as e
    inner join public.tenants as t on t.id = e.tenant_id
    left join public.revenue_leads as l on l.tenant_id = e.tenant_id and l.id = e.lead_id
    left join links as k on k.tenant_id = e.tenant_id;
end;
$$;

COMMENT ON FUNCTION brainops_internal.load_emails(p_ids uuid[]) IS 'The claimed mails among p_ids that belong to no broadcast, with what they need to be sent; makes missing unsubscribe tokens of marketing mails.';

CREATE FUNCTION brainops_internal.load_payment_link_closures(p_ids uuid[]) RETURNS TABLE(id uuid, tenant_id uuid, attempts integer, max_attempts integer, payment_request_id uuid, key_generation integer, stripe_payment_link_id text, made_through uuid, made_through_sealed jsonb, own_account jsonb, own_account_id uuid)
    LANGUAGE plpgsql STABLE
    SET search_path TO ''
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    AS $$
#variable_conflict use_column
begin
  return query
    select
      l.id,
      l.tenant_id,
      l.attempts,
      l.max_attempts,
      l.payment_request_id,
      l.key_generation,
      l.stripe_payment_link_id,
      l.account,
      -- Switched off or not.
      (
        select brainops_internal.sealed_credential(c, k)
        from public.provider_credentials as c
        inner join public.tenant_keys as k on k.tenant_id = c.tenant_id
        where c.id = l.account and c.tenant_id = l.tenant_id
      ),
      o.sealed,
      o.id
    from public.payment_link_closures as l
    left join lateral brainops_internal.tenant_account(l.tenant_id, 'stripe') as o on true
    where l.id = any (p_ids) and l.lease is not null;
end;
$$;

COMMENT ON FUNCTION brainops_internal.load_payment_link_closures(p_ids uuid[]) IS 'The claimed closures among p_ids. made_through: the credential that the link was made through (null: the platform''s account), and made_through_sealed that credential, also if it is inactive; null once it is erased. own_account: the tenant''s present one.';

CREATE FUNCTION brainops_internal.load_payment_requests(p_ids uuid[]) RETURNS TABLE(id uuid, tenant_id uuid, attempts integer, max_attempts integer, plan_name text, amount_minor text, currency text, "interval" text, success_url text, own_account jsonb, own_account_id uuid)
    LANGUAGE plpgsql STABLE
    SET search_path TO ''
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    AS $$
#variable_conflict use_column
begin
  return query
    select
      r.id,
      r.tenant_id,
      r.attempts,
      r.max_attempts,
      r.plan_name,
      r.amount_minor::text,
      r.currency,
      r.interval,
      r.success_url,
      o.sealed,
      o.id
    from public.payment_requests as r
    left join lateral brainops_internal.tenant_account(r.tenant_id, 'stripe') as o on true
    where r.id = any (p_ids) and r.lease is not null;
end;
$$;

COMMENT ON FUNCTION brainops_internal.load_payment_requests(p_ids uuid[]) IS 'The claimed payment requests among p_ids, with the tenant''s own Stripe account (null: the platform''s). amount_minor is a bigint as text, which JavaScript reads exactly.';

CREATE FUNCTION brainops_internal.load_recipients(p_ids uuid[]) RETURNS TABLE(id uuid, tenant_id uuid, attempts integer, max_attempts integer, broadcast_id uuid, metadata jsonb, address text, lead jsonb, unsubscribe_token text)
    LANGUAGE plpgsql
    SET search_path TO ''
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    AS $$
#variable_conflict use_column
begin
  return query
    with
      recipients as materialized (
        select e.id, e.tenant_id, e.attempts, e.max_attempts, e.broadcast_id, e.metadata, e.lead_id, a.address
        from public.ai_email_queue as e
        cross join lateral brainops_internal.email_address(e.tenant_id, e.recipient) as a
        where e.id = any (p_ids) and e.lease is not null and e.broadcast_id is not null
      ),
      links as materialized (
        select r.tenant_id, t.address_key, t.token
        from (select tenant_id, array_agg(address) as addresses from recipients group by tenant_id) as r
        cross join lateral brainops_internal.unsubscribe_tokens(r.tenant_id, r.addresses) as t
      )
    select
      r.id,
      r.tenant_id,
      r.attempts,
      r.max_attempts,
      r.broadcast_id,
      r.metadata,
      r.address,
      case when r.lead_id is not null then (
        select to_jsonb(l) - 'tenant_id' from public.revenue_leads as l
        where l.tenant_id = r.tenant_id and l.id = r.lead_id
      ) end,
      k.token
    from recipients as r
    left join links as k on k.tenant_id = r.tenant_id and k.address_key = lower(btrim(r.address));
end;
$$;

COMMENT ON FUNCTION brainops_internal.load_recipients(p_ids uuid[]) IS 'The claimed mails among p_ids that belong to a broadcast, with what is each recipient''s own; makes missing unsubscribe tokens.';

CREATE FUNCTION brainops_internal.load_sms(p_ids uuid[]) RETURNS TABLE(id uuid, tenant_id uuid, attempts integer, max_attempts integer, lease uuid, body text, metadata jsonb, address text, lead jsonb, tenant jsonb, own_account jsonb, endpoint_token text, sender text, must_tell boolean)
    LANGUAGE plpgsql STABLE
    SET search_path TO ''
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    AS $$
#variable_conflict use_column
begin
  return query
    select
      e.id,
      e.tenant_id,
      e.attempts,
      e.max_attempts,
      e.lease,
      e.body,
      e.metadata,
      a.address,
      to_jsonb(l) - 'tenant_id',
      jsonb_build_object(
        'name', t.name, 'slug', t.slug, 'settings', t.settings, 'country', brainops_internal.tenant_country(t.settings)
      ),
      o.sealed,
      o.endpoint_token,
      s.sender,
      brainops_internal.sms_needs_opt_out_notice(e, a.address, case when o.id is null then s.sender else 'own' end)
    from public.ai_sms_queue as e
    inner join public.tenants as t on t.id = e.tenant_id
    left join public.revenue_leads as l on l.tenant_id = e.tenant_id and l.id = e.lead_id
    cross join lateral brainops_internal.sms_address(e) as a (address)
    left join lateral brainops_internal.tenant_account(e.tenant_id, 'twilio') as o on true
    cross join lateral (
      select case when o.id is null then brainops_internal.sms_sender(e.tenant_id, a.address) end
    ) as s (sender)
    where e.id = any (p_ids) and e.lease is not null;
end;
$$;

COMMENT ON FUNCTION brainops_internal.load_sms(p_ids uuid[]) IS 'The claimed texts among p_ids, with what they need to be sent: the number, the lead, the tenant, its own Twilio account (null: the platform''s) and the number to send from.';

CREATE FUNCTION brainops_internal.load_tenant_notifications(p_ids uuid[]) RETURNS TABLE(id uuid, tenant_id uuid, attempts integer, max_attempts integer, subject text, body text, notify_email text, credential jsonb)
    LANGUAGE plpgsql STABLE
    SET search_path TO ''
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    AS $$
#variable_conflict use_column
begin
  return query
    select
      n.id,
      n.tenant_id,
      n.attempts,
      n.max_attempts,
      n.subject,
      n.body,
      nullif(btrim(t.settings ->> 'notify_email'), ''),
      (select o.sealed from brainops_internal.tenant_account(n.tenant_id, 'slack') as o)
    from public.tenant_notifications as n
    inner join public.tenants as t on t.id = n.tenant_id
    where n.id = any (p_ids) and n.lease is not null;
end;
$$;

COMMENT ON FUNCTION brainops_internal.load_tenant_notifications(p_ids uuid[]) IS 'The claimed notifications among p_ids, with the tenant''s Slack credential and settings.notify_email; null for none.';

CREATE FUNCTION brainops_internal.load_unconfirmed_sms(p_limit integer) RETURNS TABLE(account_sid text, number text, since timestamp with time zone, own_accounts jsonb)
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
#variable_conflict use_column
begin
  return query
    select
      u.account_sid,
      u.number,
      u.since,
      coalesce(
        (
          select jsonb_agg(o.sealed)
          from unnest(u.tenant_ids) as i (tenant_id)
          cross join lateral brainops_internal.tenant_account(i.tenant_id, 'twilio') as o
        ),
        '[]'
      )
    from brainops_internal.unconfirmed_sms(p_limit) as u;
end;
$$;

COMMENT ON FUNCTION brainops_internal.load_unconfirmed_sms(p_limit integer) IS 'The lists of brainops_internal.unconfirmed_sms, each with the Twilio accounts of their own that its tenants have now; [] for none.';

CREATE FUNCTION brainops_internal.lock_broadcast(p_tenant_id uuid, p_broadcast_id uuid) RETURNS text
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO ''
    AS $$
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

COMMENT ON FUNCTION brainops_internal.lock_broadcast(p_tenant_id uuid, p_broadcast_id uuid) IS 'The status of a broadcast, which stays so until the end of the transaction; null for an unknown one and for another tenant''s.';

CREATE FUNCTION brainops_internal.lock_bulk_rows(p_job brainops.job_tables, p_tenant_id uuid, p_ids uuid[], p_now timestamp with time zone, p_slot_kept interval, OUT ids uuid[], OUT in_slot uuid[], OUT next_ids uuid[]) RETURNS record
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $_$
declare
  c_most_next constant int := 4;
  v_batch record;
  v_found record;
  v_take int;
begin
  ids := '{}';
  in_slot := '{}';
  next_ids := '{}';
  for v_batch in
    execute format(
      'select %1$I as id, least(count(*), $2)::int as next
       from %2$s
       where id = any ($1) and %1$I is not null
       group by 1',
      p_job.bulk_column, p_job.relation
    )
    using p_ids, c_most_next
  loop
    v_take := greatest(p_job.bulk_max - cardinality(p_ids), 0);
    execute format(
      'select coalesce(array_agg(s.id order by s.scheduled_for), ''{}'') as ids,
         coalesce(array_agg(s.id) filter (where s.rate_slot between $3 - $6 and $3), ''{}'') as in_slot
       from (
         select id, scheduled_for, rate_slot from %s
         where tenant_id = $1 and %I = $2 and status = ''pending'' and scheduled_for <= $3 and id <> all ($4)
         order by scheduled_for
         limit $5
         for update skip locked
       ) as s',
      p_job.relation, p_job.bulk_column
    )
      into v_found
      using p_tenant_id, v_batch.id, p_now, p_ids, v_take + v_batch.next, p_slot_kept;
    ids := ids || v_found.ids[:v_take];
    in_slot := in_slot || v_found.in_slot;
    next_ids := next_ids || v_found.ids[v_take + 1:];
  end loop;
end;
$_$;

COMMENT ON FUNCTION brainops_internal.lock_bulk_rows(p_job brainops.job_tables, p_tenant_id uuid, p_ids uuid[], p_now timestamp with time zone, p_slot_kept interval, OUT ids uuid[], OUT in_slot uuid[], OUT next_ids uuid[]) IS 'Locks what else is due of the batches of rows that a claim names; in_slot: those that come back to the slot of a rate limit; next_ids: due rows that are left behind, as many as the claim names, four at most.';

CREATE FUNCTION brainops_internal.lock_persons(p_tenant_id uuid, p_keys text[]) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
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

COMMENT ON FUNCTION brainops_internal.lock_persons(p_tenant_id uuid, p_keys text[]) IS 'Makes claims that concern the same persons wait for each other, until the transaction ends.';

CREATE FUNCTION brainops_internal.lock_sms_number(p_tenant_id uuid, p_number text) RETURNS void
    LANGUAGE sql
    SET search_path TO ''
    AS $$
  select pg_advisory_xact_lock(hashtextextended('sms ' || p_tenant_id || p_number, 0));
$$;

CREATE FUNCTION brainops_internal.lock_stripe_account(p_account text) RETURNS void
    LANGUAGE sql
    SET search_path TO ''
    AS $$
  select pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('stripe ' || p_account, 0));
$$;

CREATE FUNCTION brainops_internal.mail_notification(p_id uuid) RETURNS uuid
    LANGUAGE sql
    SET search_path TO ''
    AS $$
  insert into public.ai_email_queue
    (tenant_id, recipient, subject, body, metadata, idempotency_key, scheduled_for)
  select
    n.tenant_id,
    t.settings ->> 'notify_email',
    '{{ notification.subject }}',
    '{{ notification.body }}',
    jsonb_build_object(
      'type',
      'notification',
      'notification',
      jsonb_build_object('id', n.id, 'subject', n.subject, 'body', n.body)
    ),
    'notification:' || n.id,
    brainops.now()
  from
    public.tenant_notifications as n
    inner join public.tenants as t on t.id = n.tenant_id
  where n.id = p_id
  on conflict (tenant_id, idempotency_key) where idempotency_key is not null do nothing
  returning id;
$$;

COMMENT ON FUNCTION brainops_internal.mail_notification(p_id uuid) IS 'Queues the mail of a notification to settings.notify_email, once; null where it is queued already.';

CREATE FUNCTION brainops_internal.mail_opt_in(p_id uuid) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
declare
  v_url text := (select public_url from brainops.installation);
  v_request public.opt_in_requests;
begin
  if v_url is null then
    return;
  end if;
  update public.opt_in_requests
  set email_id = gen_random_uuid(), expires_at = brainops.now() + interval '7 days'
  where id = p_id and email_id is null
  returning * into v_request;
  insert into public.ai_email_queue (id, tenant_id, recipient, lead_id, subject, body, metadata, idempotency_key, scheduled_for)
  select
    v_request.email_id, v_request.tenant_id, v_request.address, v_request.lead_id,
    'Please confirm: news from {{ tenant.name }}',
    '<p>Somebody, probably you, asked for mail from {{ tenant.name }} to this address.</p>'
      || '<p><a href="{{ confirm_url }}">Yes, I want it</a></p>'
      || '<p>If it was not you, do nothing: you will get no more mail about this. The link works until {{ expires }}.</p>',
    jsonb_build_object(
      'type', 'opt_in',
      'confirm_url', rtrim(v_url, '/') || '/confirm/' || v_request.token,
      'expires', to_char(v_request.expires_at at time zone t.time_zone, 'FMDD FMMonth YYYY, HH24:MI')
    ),
    'opt_in:' || v_request.id, brainops.now()
  from public.tenants as t
  where t.id = v_request.tenant_id;
end;
$$;

COMMENT ON FUNCTION brainops_internal.mail_opt_in(p_id uuid) IS 'Queues the mail of an opt-in request, once; nothing while no process has said where /confirm is.';

CREATE FUNCTION brainops_internal.major_units(p_minor bigint, p_currency text) RETURNS numeric
    LANGUAGE sql STABLE
    SET search_path TO ''
    AS $$
  select trim_scale(p_minor / 10::numeric ^ c.stripe_exponent::int)
  from brainops.currencies as c
  where c.code = p_currency;
$$;

COMMENT ON FUNCTION brainops_internal.major_units(p_minor bigint, p_currency text) IS 'What the amount in Stripe''s units is in units of the currency; null for an unknown currency.';

CREATE TABLE public.ai_onboarding_workflows (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    tenant_id uuid DEFAULT (NULLIF(current_setting('brainops.statement_tenant'::text, true), ''::text))::uuid NOT NULL,
    lead_id uuid NOT NULL,
    status text DEFAULT 'in_progress'::text NOT NULL,
    current_step integer DEFAULT 1 NOT NULL,
    total_steps integer DEFAULT 0 NOT NULL,
    template text DEFAULT 'default'::text NOT NULL,
    reason text,
    started_at timestamp with time zone DEFAULT brainops.now(),
    completed_at timestamp with time zone,
    paused_at timestamp with time zone,
    alias_ids uuid[] DEFAULT '{}'::uuid[] NOT NULL,
    created_at timestamp with time zone DEFAULT brainops.now() NOT NULL,
    CONSTRAINT ai_onboarding_workflows_completed_has_time CHECK (((status = 'completed'::text) = (completed_at IS NOT NULL))),
    CONSTRAINT ai_onboarding_workflows_paused_has_time CHECK (((status = 'paused'::text) = (paused_at IS NOT NULL))),
    CONSTRAINT ai_onboarding_workflows_status_known CHECK ((status = ANY (ARRAY['in_progress'::text, 'completed'::text, 'cancelled'::text, 'paused'::text]))),
    CONSTRAINT ai_onboarding_workflows_steps_not_negative CHECK (((total_steps >= 0) AND (current_step >= 0)))
);

ALTER TABLE ONLY public.ai_onboarding_workflows FORCE ROW LEVEL SECURITY;

COMMENT ON TABLE public.ai_onboarding_workflows IS 'The onboarding of a customer, one for each lead. Insert a lead_id and it begins; a won lead gets one by itself, unless its metadata.onboarding is none (old customers that are imported).';

COMMENT ON COLUMN public.ai_onboarding_workflows.status IS 'in_progress, paused (nothing begins, nobody is reminded, due dates move), completed, cancelled. Stuck ones: brainops.stuck_onboarding.';

COMMENT ON COLUMN public.ai_onboarding_workflows.current_step IS 'Number of the first step that is in progress, else of the first pending one, else of the last. Follows the steps.';

COMMENT ON COLUMN public.ai_onboarding_workflows.total_steps IS '0 on insert: the steps of the template are made. More: whoever inserts brings so many steps, and the workflow is not completed before.';

COMMENT ON COLUMN public.ai_onboarding_workflows.reason IS 'Why it began, e.g. won, paid.';

COMMENT ON COLUMN public.ai_onboarding_workflows.alias_ids IS 'Ids under which it was inserted again: steps for them are taken as this workflow''s.';

CREATE FUNCTION brainops_internal.make_onboarding_steps(p_workflow public.ai_onboarding_workflows) RETURNS void
    LANGUAGE sql
    SET search_path TO ''
    AS $$
  insert into public.ai_onboarding_steps
    (
      tenant_id,
      workflow_id,
      step_number,
      step_name,
      description,
      duration,
      subject,
      body,
      advance_on,
      remind,
      remind_before,
      escalate_after
    )
  select
    (p_workflow).tenant_id,
    (p_workflow).id,
    p.step_number,
    p.step_name,
    p.description,
    p.duration,
    p.subject,
    p.body,
    p.advance_on,
    p.remind,
    p.remind_before,
    p.escalate_after
  from brainops_internal.onboarding_steps_of((p_workflow).tenant_id, (p_workflow).template) as p;
$$;

COMMENT ON FUNCTION brainops_internal.make_onboarding_steps(p_workflow public.ai_onboarding_workflows) IS 'Gives a workflow the steps of its template.';

CREATE FUNCTION brainops_internal.marketing_verdicts(p_tenant_id uuid, p_channel text, p_rows brainops.contact[]) RETURNS SETOF brainops.verdict
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
declare
  v_now constant timestamptz := brainops.now();
  v_policy public.contact_policies := brainops.contact_policy(p_tenant_id, p_channel);
  v_rows brainops.contact[];
  v_places brainops.recipient_context[];
  v_verdicts brainops.verdict[];
begin
  if cardinality(p_rows) = 0 then
    return;
  end if;
  v_rows := p_rows;
  v_verdicts := array(select v from brainops_internal.consent_verdicts(v_policy, p_rows) as v);
  if v_verdicts <> '{}' then
    return query select * from unnest(v_verdicts);
    -- Unnest keeps the order: who comes first has the first claim to a place.
    select array_agg(r) into v_rows
      from unnest(p_rows) as r
      where r.id not in (select v.id from unnest(v_verdicts) as v);
    if v_rows is null then
      return;
    end if;
  end if;

  -- Reckoned once for each set of zones and laws, not for each row.
  with
    asked as materialized (
      select * from brainops_internal.recipient_contexts(p_channel, v_rows)
    ),
    hours as materialized (
      select g.*, h.opens, h.closes, brainops_internal.contact_opening(v_now, g.zones, h.opens, h.closes) as open
      from (select distinct zones, country, state from asked) as g
      cross join lateral brainops_internal.contact_hours(v_policy, g.country, g.state) as h
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
    )::brainops.recipient_context
    order by a.place
  )
    into v_places
    from asked as a
    inner join hours as h on h.zones = a.zones and h.country is not distinct from a.country and h.state is not distinct from a.state;
  -- A message that got lost on the way here would go unasked.
  assert cardinality(v_places) = cardinality(v_rows), 'recipient_contexts left out a message';
  return query
    select p.id, 'defer', p.goes_at, 'quiet hours in ' || array_to_string(p.zones, ', ')
    from unnest(v_places) as p
    where p.goes_at > v_now;
  if found then
    select array_agg(p) into v_places from unnest(v_places) as p where p.goes_at <= v_now;
    if v_places is null then
      return;
    end if;
  end if;

  v_verdicts := array(select v from brainops_internal.cap_verdicts(v_policy, v_places) as v);
  if v_verdicts <> '{}' then
    return query select * from unnest(v_verdicts);
    select array_agg(p) into v_places from unnest(v_places) as p where p.id not in (select v.id from unnest(v_verdicts) as v);
  end if;
  -- What waits for the slot of a rate limit asks again then, and takes another place: of both limits
  -- neither is exceeded, at the price of places that nobody used.
  if v_places is not null then
    return query select * from brainops_internal.hourly_verdicts(v_policy, v_places);
  end if;
end;
$$;

COMMENT ON FUNCTION brainops_internal.marketing_verdicts(p_tenant_id uuid, p_channel text, p_rows brainops.contact[]) IS 'All that is asked of one tenant''s marketing.';

CREATE FUNCTION brainops_internal.masked_address(p_address text) RETURNS text
    LANGUAGE sql IMMUTABLE
    SET search_path TO ''
    AS $$
  select
    case
      when p_address like '%@%' then left(p_address, 1) || '•••@' || split_part(p_address, '@', 2)
      else '•••' || right(p_address, 2)
    end;
$$;

COMMENT ON FUNCTION brainops_internal.masked_address(p_address text) IS 'An address as a page shows it to whoever holds its link: enough to know it again.';

CREATE FUNCTION brainops_internal.may_act_for(p_tenant_id uuid) RETURNS boolean
    LANGUAGE sql STABLE
    SET search_path TO ''
    AS $$
  select
    coalesce(p_tenant_id = brainops.current_tenant_id(), false)
    or brainops.may_name_tenant()
    or pg_catalog.pg_has_role(session_user, 'brainops_admin', 'member');
$$;

COMMENT ON FUNCTION brainops_internal.may_act_for(p_tenant_id uuid) IS 'Whether the caller is this tenant, a service that may name it, or an admin. For functions with the engine''s rights.';

CREATE FUNCTION brainops_internal.merge_lead_into(p_tenant_id uuid, p_into uuid, p_from uuid) RETURNS uuid
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
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

CREATE FUNCTION brainops_internal.merge_row_into_lead(p_into uuid, p_row public.revenue_leads) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  c_columns constant text[] := array[
    'company_name', 'contact_name', 'email', 'phone', 'website', 'value_estimate', 'source', 'time_zone', 'state',
    'location', 'industry', 'status', 'assigned_agent_id', 'lead_id', 'owner_email', 'next_action', 'next_action_date'
  ];
  v_lead public.revenue_leads;
  v_new public.revenue_leads;
  v_old jsonb;
  v_given jsonb := to_jsonb(p_row);
  v_other jsonb;
  v_more jsonb;
  v_other_metadata jsonb;
  v_merged jsonb;
begin
  select * into v_lead from public.revenue_leads where id = p_into and tenant_id = p_row.tenant_id for no key update;
  if not found then
    return false;
  end if;
  v_old := to_jsonb(v_lead);

  select
    coalesce(jsonb_object_agg(c, v_given -> c) filter (where v_old ->> c is null), '{}'),
    coalesce(jsonb_object_agg(c, v_given -> c) filter (where lower(btrim(v_old ->> c)) <> lower(btrim(v_given ->> c))), '{}')
    into v_more, v_other
    from unnest(c_columns) as c
    where v_given ->> c is not null;
  v_new := jsonb_populate_record(v_lead, v_more);
  if v_lead.phone is null or v_lead.phone_e164 is null and v_lead.phone = p_row.phone then
    v_new.phone_e164 := p_row.phone_e164;
  elsif v_lead.phone_e164 = p_row.phone_e164 then
    v_other := v_other - 'phone'; -- the same number, written in another way
  end if;

  select
    coalesce(jsonb_object_agg(k.key, k.value) filter (where coalesce(v_lead.metadata -> k.key, 'null') = 'null'), '{}'),
    coalesce(jsonb_object_agg(k.key, k.value) filter (where v_lead.metadata -> k.key not in (k.value, 'null')), '{}')
    into v_more, v_other_metadata
    from jsonb_each(p_row.metadata - 'merged') as k
    where k.value <> 'null';
  if v_other_metadata <> '{}' then
    v_other := v_other || jsonb_build_object('metadata', v_other_metadata);
  end if;

  if brainops_internal.stage_rank(p_row.stage) > brainops_internal.stage_rank(v_lead.stage)
    and p_row.stage = any (brainops.next_stages(v_lead.stage))
    -- A lost lead is not taken up again by mistake, nor a deal under way ended by an old list.
    and (p_row.stage <> 'lost' or v_lead.stage = 'new')
  then
    v_new.stage := p_row.stage;
  elsif p_row.stage not in ('new', v_lead.stage) then
    v_other := v_other || jsonb_build_object('stage', p_row.stage);
  end if;
  if p_row.score > v_lead.score and v_lead.scored_at is null then
    v_new.score := p_row.score;
  elsif p_row.score > 0 and p_row.score < v_lead.score then
    v_other := v_other || jsonb_build_object('score', p_row.score);
  end if;
  v_new.last_contact := greatest(v_lead.last_contact, p_row.last_contact);
  v_new.created_at := least(v_lead.created_at, p_row.created_at);

  v_merged := coalesce(case when jsonb_typeof(v_lead.metadata -> 'merged') = 'array' then v_lead.metadata -> 'merged' end, '[]')
    || coalesce(case when jsonb_typeof(p_row.metadata -> 'merged') = 'array' then p_row.metadata -> 'merged' end, '[]');
  -- Told again it is the same; a client that inserts its whole list each night must not fill the row.
  if v_other <> '{}' and not exists (select from jsonb_array_elements(v_merged) as m where m -> 'values' = v_other) then
    v_merged := v_merged || jsonb_build_object('id', p_row.id, 'at', brainops.now(), 'values', v_other);
  end if;
  v_new.metadata := v_lead.metadata || v_more || case when v_merged <> '[]' then jsonb_build_object('merged', v_merged) else '{}' end;

  if v_new is distinct from v_lead then
    update public.revenue_leads
    set
      company_name = v_new.company_name,
      contact_name = v_new.contact_name,
      email = v_new.email,
      phone = v_new.phone,
      phone_e164 = v_new.phone_e164,
      website = v_new.website,
      value_estimate = v_new.value_estimate,
      source = v_new.source,
      time_zone = v_new.time_zone,
      state = v_new.state,
      location = v_new.location,
      industry = v_new.industry,
      status = v_new.status,
      assigned_agent_id = v_new.assigned_agent_id,
      lead_id = v_new.lead_id,
      owner_email = v_new.owner_email,
      next_action = v_new.next_action,
      next_action_date = v_new.next_action_date,
      stage = v_new.stage,
      score = v_new.score,
      last_contact = v_new.last_contact,
      created_at = v_new.created_at,
      metadata = v_new.metadata
    where id = p_into;
  end if;
  if p_row.score > v_lead.score and v_lead.scored_at is not null then
    perform brainops_internal.set_score(v_lead.tenant_id, p_into, p_row.score, 'merged');
  end if;
  return true;
end;
$$;

CREATE FUNCTION brainops_internal.message_verdicts(p_tenant_id uuid, p_channel text, p_rows brainops.contact[]) RETURNS SETOF brainops.verdict
    LANGUAGE plpgsql STABLE
    SET search_path TO ''
    SET jit TO 'off'
    SET enable_seqscan TO 'off'
    SET enable_nestloop TO 'off'
    AS $$
declare
  v_now constant timestamptz := brainops.now();
begin
  return query
    with
      asked as materialized (
        select u.id, u.address, u.recipient, u.expires_at, lower(u.address) as key, brainops_internal.address_digest(u.address) as digest
        from unnest(p_rows) as u
      ),
      suppressed as materialized (
        select c.address_key, c.reason from public.contact_suppressions as c
        where c.tenant_id = p_tenant_id and c.channel = p_channel
          and c.address_key = any (array(select key from asked union all select digest from asked))
          and (c.expires_at is null or c.expires_at > v_now)
      )
    select
      r.id,
      case when r.address is null then 'fail' else 'skip' end,
      null::timestamptz,
      case
        when r.address is null then format(
          'recipient: lead %s is gone or has no %s and set status to pending',
          r.recipient,
          case p_channel when 'sms' then 'phone number; give a number' else 'e-mail address; give an address' end
        )
        when s.reason is not null or d.reason is not null then 'suppressed: ' || coalesce(s.reason, d.reason)
        else 'expired: its expires_at was ' || r.expires_at
      end
    from asked as r
    left join suppressed as s on s.address_key = r.key
    left join suppressed as d on d.address_key = r.digest
    where r.address is null
      or s.reason is not null
      or d.reason is not null
      or (r.expires_at is not null and brainops_internal.timestamptz_or_null(r.expires_at) <= v_now);
end;
$$;

COMMENT ON FUNCTION brainops_internal.message_verdicts(p_tenant_id uuid, p_channel text, p_rows brainops.contact[]) IS 'What holds for every message of a tenant, and all that is asked of a transactional one: nobody to go to (fail), suppressed or expired (skip).';

CREATE FUNCTION brainops_internal.minor_units(p_amount numeric, p_currency text) RETURNS bigint
    LANGUAGE plpgsql STABLE
    SET search_path TO ''
    AS $$
declare
  v_currency brainops.currencies;
  v_minor numeric;
begin
  select * into v_currency from brainops.currencies where code = lower(btrim(p_currency));
  if not found then
    raise exception 'currency: nobody knows %', coalesce(quote_literal(left(p_currency, 20)), 'null')
      using errcode = 'OP028', column = 'currency', hint = 'Give a code of ISO 4217 such as usd: select code from brainops.currencies.';
  end if;
  -- NaN is greater than every number, so it falls here too.
  if p_amount is null or not (p_amount > 0 and p_amount < 1e12) then
    raise exception 'amount: % is no amount of money', coalesce(p_amount::text, 'null')
      using errcode = 'OP027', column = 'amount', hint = 'Give an amount above zero, in units of the currency (12.50, not 1250).';
  end if;
  v_minor := p_amount * 10::numeric ^ v_currency.stripe_exponent::int;
  if v_minor <> trunc(v_minor) or v_minor % v_currency.stripe_multiple <> 0 then
    raise exception 'amount: % cannot be paid in %, whose smallest amount at Stripe is %',
      trim_scale(p_amount), v_currency.code,
      trim_scale(v_currency.stripe_multiple / 10::numeric ^ v_currency.stripe_exponent::int)
      using errcode = 'OP027', column = 'amount', hint = 'Round it to a multiple of the smallest amount.';
  end if;
  return v_minor::bigint;
end;
$$;

COMMENT ON FUNCTION brainops_internal.minor_units(p_amount numeric, p_currency text) IS 'The amount in Stripe''s units of the currency. OP028 for an unknown currency, OP027 for an amount that does not come out even; never rounded.';

CREATE FUNCTION brainops_internal.move_lead_keys() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  v_old text := 'email:' || brainops_internal.email_key(old.email);
  v_new text := 'email:' || brainops_internal.email_key(new.email);
  v_holder uuid;
begin
  if new.merged_into is not null then
    return new; -- its keys go to the other lead
  end if;
  if v_new is distinct from v_old then
    if v_new is not null then
      v_holder := brainops_internal.claim_lead_key(new.tenant_id, v_new, new.id);
      if v_holder <> new.id then
        raise exception 'email: % is lead %''s already', quote_literal(left(new.email, 120)), v_holder
          using errcode = 'OP012', column = 'email',
            hint = format('If they are one person: select brainops.merge_leads(%L, %L).', v_holder, new.id);
      end if;
    end if;
    delete from brainops.lead_keys where tenant_id = new.tenant_id and key = v_old and lead_id = new.id;
  end if;
  if new.phone_e164 is distinct from old.phone_e164 then
    if new.phone_e164 is not null then
      perform brainops_internal.claim_lead_key(new.tenant_id, 'phone:' || new.phone_e164, new.id);
    end if;
    delete from brainops.lead_keys where tenant_id = new.tenant_id and key = 'phone:' || old.phone_e164 and lead_id = new.id;
  end if;
  return new;
end;
$$;

CREATE FUNCTION brainops_internal.move_lead_rows(p_tenant_id uuid, p_into uuid, p_from uuid) RETURNS jsonb
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $_$
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
$_$;

CREATE FUNCTION brainops_internal.move_touch() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
  new.due_at := new.scheduled_for;
  perform brainops_internal.set_next_touch(new.campaign_id, new.scheduled_for);
  return new;
end;
$$;

CREATE FUNCTION brainops_internal.names_no_tenant() RETURNS boolean
    LANGUAGE sql STABLE PARALLEL SAFE
    AS $$
  select
    coalesce(pg_catalog.current_setting('app.tenant_id', true), '') operator(pg_catalog.=) ''
    and coalesce(pg_catalog.current_setting('request.jwt.claims', true), '') operator(pg_catalog.=) '';
$$;

COMMENT ON FUNCTION brainops_internal.names_no_tenant() IS 'Whether neither app.tenant_id nor request.jwt.claims says anything at all.';

CREATE FUNCTION brainops_internal.normal_enrolment_status(p_word text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path TO ''
    AS $$
  select
    case lower(btrim(p_word))
      when 'active' then 'active'
      when 'pending' then 'active'
      when 'new' then 'active'
      when 'enrolled' then 'active'
      when 'running' then 'active'
      when 'in_progress' then 'active'
      when 'paused' then 'paused'
      when 'completed' then 'completed'
      when 'exited' then 'exited'
      when 'cancelled' then 'cancelled'
      when 'canceled' then 'cancelled'
      when 'stopped' then 'cancelled'
    end;
$$;

COMMENT ON FUNCTION brainops_internal.normal_enrolment_status(p_word text) IS 'The enrolment status that a word means (pending, new, enrolled, running: active); null for an unknown word.';

CREATE FUNCTION brainops_internal.normal_lead(p_lead public.revenue_leads) RETURNS public.revenue_leads
    LANGUAGE plpgsql STABLE
    SET search_path TO ''
    AS $$
begin
  p_lead.email := nullif(btrim(p_lead.email, E' \t\r\n'), '');
  p_lead.phone := nullif(btrim(p_lead.phone, E' \t\r\n'), '');
  -- Clients write the JSON null where they mean none.
  p_lead.metadata := coalesce(nullif(p_lead.metadata, 'null'), '{}');
  p_lead.score := case
    when p_lead.score is null then 0
    -- A share of 1, as some clients reckon. Exactly 1 is 1 of 100.
    when p_lead.score > 0 and p_lead.score < 1 then round(p_lead.score * 100)
    when p_lead.score between 0 and 100 then round(p_lead.score)
    else p_lead.score
  end;
  if p_lead.phone is null then
    p_lead.phone := p_lead.phone_e164;
  elsif p_lead.phone_e164 is null then
    p_lead.phone_e164 := brainops_internal.phone_e164(
      p_lead.phone,
      case
        when p_lead.phone ~ '^(\+|00)' then null
        else (select coalesce(t.settings ->> 'country', 'US') from public.tenants as t where t.id = p_lead.tenant_id)
      end
    );
  end if;
  return p_lead;
end;
$$;

COMMENT ON FUNCTION brainops_internal.normal_lead(p_lead public.revenue_leads) IS 'The row as it is stored: addresses trimmed, a score of 0 to 1 as one of 100, the phone number in E.164 where that can be told.';

CREATE FUNCTION brainops_internal.normal_onboarding_status(p_word text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path TO ''
    AS $$
  select
    case pg_catalog.lower(pg_catalog.btrim(p_word))
      when 'in_progress' then 'in_progress'
      when 'active' then 'in_progress'
      when 'started' then 'in_progress'
      when 'running' then 'in_progress'
      when 'reactivated' then 'in_progress'
      when 'pending' then 'pending'
      when 'not_started' then 'pending'
      when 'open' then 'pending'
      when 'new' then 'pending'
      when 'paused' then 'paused'
      when 'completed' then 'completed'
      when 'complete' then 'completed'
      when 'done' then 'completed'
      when 'skipped' then 'skipped'
      when 'cancelled' then 'cancelled'
      when 'canceled' then 'cancelled'
      when 'abandoned' then 'cancelled'
    end;
$$;

COMMENT ON FUNCTION brainops_internal.normal_onboarding_status(p_word text) IS 'The status of a workflow or step that a word means; null for an unknown word.';

CREATE FUNCTION brainops_internal.normal_stage(p_word text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
  select
    case pg_catalog.regexp_replace(pg_catalog.lower(pg_catalog.btrim(p_word)), '[\s-]+', '_', 'g')
      when 'new' then 'new'
      when 'new_real' then 'new'
      when 'enriched' then 'new'
      when 'open' then 'new'
      when 'contacted' then 'contacted'
      when 'outreach_enrolled' then 'contacted'
      when 'outreach_sent' then 'contacted'
      when 'replied' then 'contacted'
      when 'qualified' then 'qualified'
      when 'contact_ready' then 'qualified'
      when 'outreach_pending_approval' then 'qualified'
      when 'proposal_drafted' then 'qualified'
      when 'proposal_approved' then 'qualified'
      when 'proposal_sent' then 'proposal_sent'
      when 'proposal' then 'proposal_sent'
      when 'negotiating' then 'negotiating'
      when 'negotiation' then 'negotiating'
      when 'meeting_booked' then 'negotiating'
      when 'won' then 'won'
      when 'closed_won' then 'won'
      when 'won_invoice_pending' then 'won'
      when 'invoiced' then 'won'
      when 'paid' then 'won'
      when 'customer' then 'won'
      when 'lost' then 'lost'
      when 'closed_lost' then 'lost'
      when 'nurturing' then 'nurturing'
      when 'nurture' then 'nurturing'
    end;
$$;

COMMENT ON FUNCTION brainops_internal.normal_stage(p_word text) IS 'The stage that a word means (WON, paid, invoiced: won; replied, outreach_sent: contacted; …); null for an unknown word.';

CREATE FUNCTION brainops_internal.normal_status(p_word text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path TO ''
    AS $$
  select
    case pg_catalog.lower(pg_catalog.btrim(p_word))
      when 'pending' then 'pending'
      when 'queued' then 'pending'
      when 'scheduled' then 'pending'
      when 'new' then 'pending'
      when 'open' then 'pending'
      when 'processing' then 'processing'
      when 'completed' then 'completed'
      when 'failed' then 'failed'
      when 'cancelled' then 'cancelled'
      when 'canceled' then 'cancelled'
      when 'skipped' then 'skipped'
      when 'unconfirmed' then 'unconfirmed'
      when 'awaiting_approval' then 'awaiting_approval'
    end;
$$;

COMMENT ON FUNCTION brainops_internal.normal_status(p_word text) IS 'The job status that a word means (queued, scheduled, new, open: pending); null for an unknown word.';

CREATE FUNCTION brainops_internal.offset_change(p_from timestamp with time zone, p_to timestamp with time zone, p_zone text) RETURNS timestamp with time zone
    LANGUAGE plpgsql STABLE PARALLEL SAFE
    SET search_path TO ''
    SET "TimeZone" TO 'UTC'
    AS $$
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

COMMENT ON FUNCTION brainops_internal.offset_change(p_from timestamp with time zone, p_to timestamp with time zone, p_zone text) IS 'The instant within (from, to] at which the zone''s offset changes.';

CREATE FUNCTION brainops_internal.onboarding_status(p_word text, p_known text[]) RETURNS text
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO ''
    AS $$
declare
  v_status text := brainops_internal.normal_onboarding_status(p_word);
begin
  if v_status = 'pending' and v_status <> all (p_known) then
    v_status := 'in_progress';
  end if;
  if v_status is null or v_status <> all (p_known) then
    raise exception 'status: unknown word %', coalesce(quote_literal(left(p_word, 80)), 'null')
      using errcode = 'OP002', column = 'status', hint = 'Write one of ' || array_to_string(p_known, ', ') || '.';
  end if;
  return v_status;
end;
$$;

COMMENT ON FUNCTION brainops_internal.onboarding_status(p_word text, p_known text[]) IS 'The status that a word means, of those that a table knows; OP002 for any other.';

CREATE FUNCTION brainops_internal.onboarding_steps_of(p_tenant_id uuid, p_template text) RETURNS SETOF brainops.onboarding_plan
    LANGUAGE plpgsql STABLE
    SET search_path TO ''
    AS $$
begin
  return query
    select t.step_number, t.step_name, t.description, t.duration, t.subject, t.body, t.advance_on, t.remind, t.remind_before, t.escalate_after
    from public.onboarding_templates as t
    where t.tenant_id = p_tenant_id and t.template = p_template
    order by t.step_number;
  if not found then
    return query
      select t.step_number, t.step_name, t.description, t.duration, t.subject, t.body, t.advance_on, t.remind, t.remind_before, t.escalate_after
      from public.onboarding_templates as t
      where t.tenant_id = p_tenant_id and t.template = 'default'
      order by t.step_number;
  end if;
  if not found then
    return query select * from brainops.default_onboarding_steps();
  end if;
end;
$$;

COMMENT ON FUNCTION brainops_internal.onboarding_steps_of(p_tenant_id uuid, p_template text) IS 'The steps of a tenant''s template; of its template default where it has none of that name, else ours.';

CREATE FUNCTION brainops_internal.open_onboarding(p_tenant_id uuid, p_lead_id uuid, p_reason text) RETURNS uuid
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  v_id uuid;
begin
  select id into v_id from public.ai_onboarding_workflows where tenant_id = p_tenant_id and lead_id = p_lead_id;
  if found then
    return v_id;
  end if;
  insert into public.ai_onboarding_workflows (tenant_id, lead_id, reason, template)
  select p_tenant_id, l.id, p_reason, coalesce(nullif(btrim(l.metadata ->> 'onboarding_template'), ''), 'default')
  from public.revenue_leads as l
  where l.tenant_id = p_tenant_id and l.id = p_lead_id
  returning id into v_id;
  if v_id is null then
    -- Another transaction was first, and is committed by now.
    select id into v_id from public.ai_onboarding_workflows where tenant_id = p_tenant_id and lead_id = p_lead_id;
  end if;
  return v_id;
end;
$$;

CREATE FUNCTION brainops_internal.pause_account(p_table text, p_everyone boolean, p_reason text) RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO ''
    AS $$
  insert into brainops.pauses (table_name, tenant_id, reason)
  values
    (
      p_table,
      case
        when not p_everyone then brainops.current_tenant_id()
      end,
      p_reason
    )
  on conflict (tenant_id, table_name, channel) do update set reason = excluded.reason;
$$;

COMMENT ON FUNCTION brainops_internal.pause_account(p_table text, p_everyone boolean, p_reason text) IS 'Pauses a table because its provider refuses everything: for the current tenant, or for everyone.';

CREATE FUNCTION brainops_internal.pause_reason(p_table text, p_tenant_id uuid) RETURNS text
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  v_reason text;
begin
  select 'tenant ' || slug || ' is suspended' into v_reason
    from public.tenants
    where id = p_tenant_id and status <> 'active';
  if not found then
    select 'paused by ' || p.paused_by || ': ' || p.reason into v_reason
      from brainops.pauses as p
      inner join brainops.job_tables as j using (table_name)
      where p.table_name = p_table
        and (p.tenant_id is null or p.tenant_id = p_tenant_id)
        and (p.channel is null or p.channel = j.channel)
      limit 1;
  end if;
  return v_reason;
end;
$$;

COMMENT ON FUNCTION brainops_internal.pause_reason(p_table text, p_tenant_id uuid) IS 'Why nothing of the table may go for the tenant now; null when it may.';

CREATE FUNCTION brainops_internal.pause_sms(p_tenant_id uuid, p_reason text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
begin
  insert into brainops.pauses (table_name, tenant_id, reason)
  values ('ai_sms_queue', p_tenant_id, p_reason)
  on conflict (tenant_id, table_name, channel) do nothing;
  if found and to_regprocedure('brainops.notify(uuid,text,text,text)') is not null then
    perform brainops.notify(
      p_tenant_id,
      'Text messages are paused',
      p_reason || E'\n\nOnce that is mended: select brainops.resume(''ai_sms_queue'', …)',
      'ai_sms_queue paused ' || to_char(brainops.now(), 'YYYY-MM-DD HH24')
    );
  end if;
end;
$$;

CREATE FUNCTION brainops_internal.payment_state(p_request public.payment_requests) RETURNS text
    LANGUAGE sql IMMUTABLE
    SET search_path TO ''
    AS $$
  select
    case
      when (p_request).paid_at is not null then case
        when (p_request).disputes_open > 0 then 'disputed'
        when (p_request).refunded_minor >= (p_request).paid_minor then 'refunded'
        when (p_request).refunded_minor > 0 then 'partially_refunded'
        else 'paid'
      end
      when (p_request).cancelled_at is not null then 'cancelled'
      when (p_request).expired_at is not null then 'expired'
      when (p_request).failed_generation >= (p_request).key_generation then 'payment_failed'
      when (p_request).link_inactive then 'cancelled'
      else 'open'
    end;
$$;

COMMENT ON FUNCTION brainops_internal.payment_state(p_request public.payment_requests) IS 'What payment_status is, by the facts of the row.';

CREATE TABLE public.ai_campaign_touches (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    tenant_id uuid DEFAULT (NULLIF(current_setting('brainops.statement_tenant'::text, true), ''::text))::uuid NOT NULL,
    campaign_id uuid NOT NULL,
    touch_type text NOT NULL,
    scheduled_for timestamp with time zone DEFAULT now() NOT NULL,
    content_template text,
    status text DEFAULT 'pending'::text NOT NULL,
    step_key text,
    step_number integer,
    version integer,
    entrance integer DEFAULT 1 NOT NULL,
    due_at timestamp with time zone,
    woken_at timestamp with time zone,
    performed_at timestamp with time zone,
    outcome text,
    next_key text,
    message_id uuid,
    template_version integer,
    split_key text,
    variant text,
    job_priority smallint DEFAULT 0 NOT NULL,
    idempotency_key text,
    attempts integer DEFAULT 0 NOT NULL,
    max_attempts integer DEFAULT 10 NOT NULL,
    deferrals integer DEFAULT 0 NOT NULL,
    last_error text,
    skip_reason text,
    lease uuid,
    worker_id uuid,
    rate_slot timestamp with time zone,
    cancel_requested_at timestamp with time zone,
    started_at timestamp with time zone,
    finished_at timestamp with time zone,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT ai_campaign_touches_attempts_not_negative CHECK ((attempts >= 0)),
    CONSTRAINT ai_campaign_touches_done_has_finished_at CHECK (((status = ANY (ARRAY['completed'::text, 'failed'::text, 'cancelled'::text, 'skipped'::text])) = (finished_at IS NOT NULL))),
    CONSTRAINT ai_campaign_touches_job_priority_range CHECK (((job_priority >= '-50'::integer) AND (job_priority <= 50))),
    CONSTRAINT ai_campaign_touches_max_attempts_range CHECK (((max_attempts >= 1) AND (max_attempts <= 25))),
    CONSTRAINT ai_campaign_touches_processing_has_lease CHECK (((status = 'processing'::text) = (lease IS NOT NULL))),
    CONSTRAINT ai_campaign_touches_scheduled_for_finite CHECK (isfinite(scheduled_for)),
    CONSTRAINT ai_campaign_touches_skipped_has_reason CHECK (((status = 'skipped'::text) = (skip_reason IS NOT NULL))),
    CONSTRAINT ai_campaign_touches_status_known CHECK ((status = ANY (ARRAY['pending'::text, 'processing'::text, 'completed'::text, 'failed'::text, 'cancelled'::text, 'skipped'::text, 'unconfirmed'::text, 'awaiting_approval'::text]))),
    CONSTRAINT ai_campaign_touches_type_known CHECK ((touch_type = ANY (ARRAY['email'::text, 'sms'::text, 'wait'::text, 'wait_for'::text, 'branch'::text, 'split'::text, 'task'::text, 'notify'::text, 'exit'::text])))
)
WITH (fillfactor='80', autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='1000', autovacuum_vacuum_cost_delay='0');

ALTER TABLE ONLY public.ai_campaign_touches FORCE ROW LEVEL SECURITY;

COMMENT ON TABLE public.ai_campaign_touches IS 'One row for each step that an enrolment reaches; performed by brainops_internal.perform_touch when it is due. Update scheduled_for to move it; cancelled leaves the step out.';

COMMENT ON COLUMN public.ai_campaign_touches.campaign_id IS 'The enrolment: a row of ai_nurture_campaigns.';

COMMENT ON COLUMN public.ai_campaign_touches.touch_type IS 'email, sms, or the kind of a step that sends nothing.';

COMMENT ON COLUMN public.ai_campaign_touches.content_template IS 'Name in ai_campaign_templates; its newest version is taken when the touch is performed (template_version).';

COMMENT ON COLUMN public.ai_campaign_touches.step_key IS 'The step of the sequence; null for a touch that a client added beside it.';

COMMENT ON COLUMN public.ai_campaign_touches.due_at IS 'When it was planned for; what follows is reckoned from here, while scheduled_for may be put off.';

COMMENT ON COLUMN public.ai_campaign_touches.woken_at IS 'When the event that a wait_for waits for came; null before.';

COMMENT ON COLUMN public.ai_campaign_touches.performed_at IS 'When it happened: from then on it never does again.';

COMMENT ON COLUMN public.ai_campaign_touches.outcome IS 'What came of it, in words.';

COMMENT ON COLUMN public.ai_campaign_touches.next_key IS 'The step that it led to; null for the end.';

COMMENT ON COLUMN public.ai_campaign_touches.message_id IS 'Row of ai_email_queue or ai_sms_queue (or of the archive); null where it sent nothing.';

COMMENT ON COLUMN public.ai_campaign_touches.variant IS 'Variant of split_key that the enrolment was in.';

CREATE FUNCTION brainops_internal.perform_step(p_enrolment public.ai_nurture_campaigns, p_touch public.ai_campaign_touches, p_step public.campaign_steps, p_lead public.revenue_leads, OUT said text, OUT failed text, OUT to_number integer, OUT message_id uuid, OUT template_version integer, OUT split_key text, OUT variant text) RETURNS record
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
declare
  v_message record;
  v_item jsonb;
begin
  split_key := p_enrolment.split_key;
  variant := p_enrolment.variant;
  case p_touch.touch_type
    when 'email', 'sms' then
      v_message := brainops_internal.queue_touch(p_enrolment, p_touch, p_step, p_lead);
      said := v_message.said;
      failed := v_message.failed;
      message_id := v_message.message_id;
      template_version := v_message.template_version;
    when 'wait' then
      said := 'waited';
    when 'wait_for' then
      said := case when p_touch.woken_at is null then 'timed out: no ' else 'came: ' end || (p_step.config ->> 'event');
      to_number := (p_step.config ->> case when p_touch.woken_at is null then 'else' else 'then' end)::int;
    when 'branch' then
      select w into v_item
        from jsonb_array_elements(p_step.config -> 'when') with ordinality as b (w, n)
        where brainops_internal.condition_holds(w -> 'if', p_lead, p_enrolment.enrolled_at)
        order by n
        limit 1;
      to_number := coalesce((v_item ->> 'to')::int, (p_step.config ->> 'else')::int);
      said := coalesce('true: ' || (v_item ->> 'if'), 'none is true');
    when 'split' then
      v_item := brainops_internal.choose_variant(p_enrolment, p_step);
      to_number := (v_item ->> 'to')::int;
      split_key := brainops_internal.split_key(p_step);
      variant := v_item ->> 'name';
      said := 'variant ' || variant;
    when 'task' then
      insert into public.lead_tasks (tenant_id, lead_id, title, description, priority, due_at, assigned_to, touch_id)
      values (
        p_touch.tenant_id, p_lead.id, p_step.config ->> 'title', p_step.config ->> 'description',
        coalesce(p_step.config ->> 'priority', 'normal'),
        brainops_internal.add_delay(brainops.now(), (p_step.config ->> 'due_in')::interval, brainops_internal.lead_time_zone(p_touch.tenant_id, p_lead.id)),
        coalesce(p_step.config ->> 'assigned_to', p_lead.owner_email), p_touch.id
      )
      on conflict (tenant_id, touch_id) where touch_id is not null do nothing;
      said := 'task made';
    when 'notify' then
      perform brainops.notify(
        p_touch.tenant_id,
        (p_step.config ->> 'subject') || ': ' || coalesce(p_lead.contact_name, p_lead.company_name, p_lead.email, p_lead.phone, 'a lead'),
        concat_ws(E'\n\n', p_step.config ->> 'body', brainops_internal.lead_variable(p_lead)),
        'touch:' || p_touch.id,
        p_lead.id
      );
      said := 'told';
    when 'exit' then
      said := coalesce(p_step.config ->> 'reason', 'ended here');
  end case;
end;
$$;

CREATE FUNCTION brainops_internal.perform_touch(p_touch_id uuid, p_lease uuid) RETURNS TABLE(outcome text, reason text, run_at timestamp with time zone)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  c_tenant_id constant uuid := brainops.current_tenant_id();
  v_now constant timestamptz := brainops.now();
  v_touch public.ai_campaign_touches;
  v_enrolment public.ai_nurture_campaigns;
  v_campaign public.campaigns;
  v_lead public.revenue_leads;
  v_step public.campaign_steps;
  v_done record;
begin
  select e.* into v_enrolment
    from public.ai_campaign_touches as t
    inner join public.ai_nurture_campaigns as e on e.tenant_id = t.tenant_id and e.id = t.campaign_id
    where t.tenant_id = c_tenant_id and t.id = p_touch_id;
  perform from public.revenue_leads where tenant_id = c_tenant_id and id = v_enrolment.lead_id for key share;
  select * into v_enrolment from public.ai_nurture_campaigns where tenant_id = c_tenant_id and id = v_enrolment.id for no key update;
  select * into v_touch
    from public.ai_campaign_touches
    where tenant_id = c_tenant_id and id = p_touch_id and status = 'processing' and lease = p_lease
    for no key update;
  if not found then
    return query select 'skip', 'the touch is another''s by now', null::timestamptz;
    return;
  elsif v_touch.performed_at is not null then
    return query select 'completed', v_touch.outcome, null::timestamptz;
    return;
  elsif v_enrolment.status not in ('active', 'paused') and not (v_enrolment.status = 'completed' and v_touch.step_key is null) then
    return query select 'skip', 'the enrolment is ' || v_enrolment.status || coalesce(': ' || v_enrolment.exit_reason, ''), null::timestamptz;
    return;
  end if;
  select * into v_campaign from public.campaigns where tenant_id = c_tenant_id and id = v_enrolment.campaign_id;
  if v_enrolment.status <> 'completed' and brainops_internal.enrolment_hold_reason(v_enrolment, v_campaign) is not null then
    return query select 'defer', brainops_internal.enrolment_hold_reason(v_enrolment, v_campaign), v_now + interval '1 hour';
    return;
  end if;
  select * into v_lead from public.revenue_leads where tenant_id = c_tenant_id and id = v_enrolment.lead_id;
  select * into v_step
    from public.campaign_steps
    where tenant_id = c_tenant_id and campaign_id = v_enrolment.campaign_id and version = v_enrolment.version and step_key = v_touch.step_key;

  v_done := brainops_internal.perform_step(v_enrolment, v_touch, v_step, v_lead);
  if v_done.failed is not null then
    return query select 'fail', v_done.failed, null::timestamptz;
    return;
  end if;
  update public.ai_campaign_touches as t
  set
    performed_at = v_now,
    outcome = v_done.said,
    message_id = v_done.message_id,
    template_version = v_done.template_version,
    split_key = v_done.split_key,
    variant = v_done.variant
  where t.id = v_touch.id;
  update public.ai_nurture_campaigns as e
  set
    touch_count = e.touch_count + (v_done.message_id is not null)::int,
    split_key = v_done.split_key,
    variant = v_done.variant,
    exit_reason = case when v_touch.touch_type = 'exit' then v_done.said else e.exit_reason end
  where e.id = v_enrolment.id
  returning * into v_enrolment;
  perform brainops_internal.schedule_next_step(v_enrolment, v_touch, v_step, v_done.to_number);
  return query select 'completed', v_done.said, null::timestamptz;
end;
$$;

COMMENT ON FUNCTION brainops_internal.perform_touch(p_touch_id uuid, p_lease uuid) IS 'Performs a touch that was claimed under this lease, and makes the next one; performed twice is as once. outcome: completed, skip, defer (until run_at) or fail, with the reason.';

CREATE FUNCTION brainops_internal.person_rows(p_person brainops.person) RETURNS TABLE(table_name text, held jsonb)
    LANGUAGE plpgsql STABLE
    SET search_path TO ''
    AS $_$
declare
  v_source record;
begin
  for v_source in select * from brainops.person_sources()
  loop
    table_name := v_source.source;
    for held in
      execute format(
        'select to_jsonb(t) from %s as t cross join (select ($1).*) as p where %s (%s)',
        v_source.source,
        case v_source.source when 'public.webhook_events' then '' else 't.tenant_id = p.tenant_id and' end,
        v_source.condition
      )
        using p_person
    loop
      return next;
    end loop;
  end loop;
end;
$_$;

COMMENT ON FUNCTION brainops_internal.person_rows(p_person brainops.person) IS 'The rows of every source that are about the person.';

CREATE FUNCTION brainops_internal.phone_e164(p_phone text, p_country text DEFAULT 'US'::text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path TO ''
    AS $_$
  select
    case
      -- A "+" is a number as the world writes it; 00 is what Europe dials for it.
      when p_phone ~ '^\s*(\+|00)'
      and d ~ '^[1-9][0-9]{6,14}$' then '+' || d
      -- Ten digits where the North American plan rules, and eleven with its leading 1.
      when p_country in ('US', 'CA')
      and d ~ '^1?[2-9][0-9]{2}[2-9][0-9]{6}$' then '+1' || right(d, 10)
    end
  from
    (
      select regexp_replace(regexp_replace(p_phone, '(?i)\s*(ext|x|#).*$', ''), '^\s*00|\(0\)|\D', '', 'g') as d
      where length(p_phone) <= 60
    ) as s;
$_$;

COMMENT ON FUNCTION brainops_internal.phone_e164(p_phone text, p_country text) IS 'A phone number as +<country><number>, or null where that can''t be told: a number without "+" is understood in the United States and Canada alone. `brainops leads import` knows every country''s plan.';

CREATE FUNCTION brainops_internal.preference_phones(p_tenant_id uuid, p_address text) RETURNS TABLE(phone text, stopped text)
    LANGUAGE sql STABLE
    SET search_path TO ''
    AS $$
  select distinct l.phone_e164, s.source
  from
    brainops_internal.leads_at(p_tenant_id, p_address) as l
    left join public.contact_suppressions as s
      on s.tenant_id = l.tenant_id
      and s.channel = 'sms'
      and s.address_key in (l.phone_e164, brainops_internal.address_digest(l.phone_e164))
      and (s.expires_at is null or s.expires_at > brainops.now())
  where l.phone_e164 is not null;
$$;

COMMENT ON FUNCTION brainops_internal.preference_phones(p_tenant_id uuid, p_address text) IS 'Phone numbers of the leads with this address, and who stopped text messages to each (null: nobody).';

CREATE FUNCTION brainops_internal.preferences(p_token text) RETURNS jsonb
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  v_link public.email_unsubscribe_links;
begin
  select * into v_link from public.email_unsubscribe_links where token = p_token;
  if not found then
    return null;
  end if;
  return jsonb_build_object(
    'sender', (select name from public.tenants where id = v_link.tenant_id),
    'address', brainops_internal.masked_address(v_link.address_key),
    'email', not exists (
      select from public.contact_suppressions as s
      where s.tenant_id = v_link.tenant_id and s.channel = 'email'
        and s.address_key in (v_link.address_key, brainops_internal.address_digest(v_link.address_key))
        and (s.expires_at is null or s.expires_at > brainops.now())
    ),
    'topics', coalesce((
      select jsonb_agg(
        jsonb_build_object(
          'code', t.code, 'name', t.name, 'description', t.description,
          'wanted', not brainops_internal.topic_opted_out(t.tenant_id, v_link.address_key, t.code)
        ) order by t.name
      )
      from public.contact_topics as t
      where t.tenant_id = v_link.tenant_id
    ), '[]'),
    -- stopped by a text message: only one can take that back, because the carrier keeps it too
    'phones', coalesce((
      select jsonb_agg(
        jsonb_build_object(
          'phone', brainops_internal.masked_address(p.phone), 'wanted', p.stopped is null,
          'here', p.stopped is null or p.stopped = 'preference_page'
        ) order by p.phone
      )
      from brainops_internal.preference_phones(v_link.tenant_id, v_link.address_key) as p
    ), '[]')
  );
end;
$$;

COMMENT ON FUNCTION brainops_internal.preferences(p_token text) IS 'What the holder of an unsubscribe link may choose, and has chosen; null for an unknown token.';

CREATE FUNCTION brainops_internal.process_webhook_events(p_ids uuid[]) RETURNS TABLE(status text, events integer)
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
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
          if v_row.tenant_id <> (brainops_internal.find_email(v_row.payload)).tenant_id then
            v_skip_reason := 'it is about a message of another tenant';
          else
            v_skip_reason := brainops_internal.apply_sendgrid_event(v_row.payload);
          end if;
        when 'twilio' then v_skip_reason := brainops_internal.apply_twilio_event(v_row.payload, v_row.tenant_id);
        when 'stripe' then v_skip_reason := brainops_internal.apply_stripe_event(v_row.payload, v_row.tenant_id);
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

COMMENT ON FUNCTION brainops_internal.process_webhook_events(p_ids uuid[]) IS 'Applies pending events, each on its own; returns how many rows now have which status.';

CREATE FUNCTION brainops_internal.prune_reports(p_most integer DEFAULT 5000) RETURNS integer
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
declare
  v_before timestamptz := brainops.now() - (select s.value from brainops.settings as s where s.name = 'drop_reports_after');
  v_count int;
  v_most int := 0;
begin
  delete from public.email_deliveries
  where id in (
    select d.id from public.email_deliveries as d
    where d.occurred_at < v_before
      -- An address may be written to again or not by the last of these (brainops_internal.settle_consent).
      and d.event not in ('unsubscribe', 'group_unsubscribe', 'group_resubscribe')
      and not (d.event = 'dropped' and lower(d.metadata ->> 'reason') is not distinct from 'unsubscribed address')
    limit p_most
  );
  get diagnostics v_count = row_count;
  v_most := greatest(v_most, v_count);

  delete from public.email_bounces
  where id in (select b.id from public.email_bounces as b where b.occurred_at < v_before limit p_most);
  get diagnostics v_count = row_count;
  v_most := greatest(v_most, v_count);

  delete from public.sms_deliveries
  where id in (select d.id from public.sms_deliveries as d where d.occurred_at < v_before limit p_most);
  get diagnostics v_count = row_count;
  return greatest(v_most, v_count);
end;
$$;

COMMENT ON FUNCTION brainops_internal.prune_reports(p_most integer) IS 'Deletes reports on messages past drop_reports_after, at most p_most a table; returns how many of the table with the most. Run by the task maintenance__retain.';

CREATE FUNCTION brainops_internal.prune_webhook_events(p_most integer DEFAULT 5000) RETURNS integer
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
declare
  v_count int;
begin
  delete from public.webhook_events
  where id in (
    select id from public.webhook_events
    where processed_at < brainops.now() - (select value from brainops.settings where name = 'drop_webhooks_after')
    limit p_most
  );
  get diagnostics v_count = row_count;
  return v_count;
end;
$$;

COMMENT ON FUNCTION brainops_internal.prune_webhook_events(p_most integer) IS 'Deletes processed webhook events past drop_webhooks_after, at most p_most; returns how many.';

CREATE FUNCTION brainops_internal.queue_touch(p_enrolment public.ai_nurture_campaigns, p_touch public.ai_campaign_touches, p_step public.campaign_steps, p_lead public.revenue_leads, OUT message_id uuid, OUT template_version integer, OUT said text, OUT failed text) RETURNS record
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
declare
  v_template public.ai_campaign_templates;
  v_transactional boolean := coalesce((p_step.config -> 'transactional')::boolean, false);
  v_priority smallint := case
    when p_step.config ? 'high_priority_when'
      and brainops_internal.condition_holds(p_step.config -> 'high_priority_when', p_lead, p_enrolment.enrolled_at) then -10
    else 0
  end;
  v_metadata jsonb;
begin
  select * into v_template
    from public.ai_campaign_templates as t
    where t.tenant_id = p_touch.tenant_id and t.name = p_touch.content_template and t.channel = p_touch.touch_type
    order by t.version desc
    limit 1;
  if not found then
    failed := format(
      'content_template: %s is no %s template of ai_campaign_templates; insert it, then set status to pending',
      coalesce(quote_literal(left(p_touch.content_template, 120)), 'null'), p_touch.touch_type
    );
    return;
  end if;
  if coalesce(btrim(case p_touch.touch_type when 'email' then p_lead.email else coalesce(p_lead.phone_e164, p_lead.phone) end), '') = '' then
    said := 'left out: the lead has no ' || case p_touch.touch_type when 'email' then 'e-mail address' else 'phone number' end;
    return;
  end if;

  template_version := v_template.version;
  v_metadata := coalesce(p_step.config -> 'variables', '{}') || jsonb_strip_nulls(jsonb_build_object(
    'first_name', coalesce(nullif(split_part(btrim(p_lead.contact_name), ' ', 1), ''), 'there'),
    'postal_address', (select t.settings ->> 'postal_address' from public.tenants as t where t.id = p_touch.tenant_id),
    'campaign', p_enrolment.campaign_type,
    'step', p_touch.step_key,
    'category', p_enrolment.campaign_type,
    'marketing', case when p_touch.touch_type = 'email' and not v_transactional then true end,
    'transactional', case when v_transactional then true end
  ));
  if p_touch.touch_type = 'email' then
    insert into public.ai_email_queue as q
      (tenant_id, recipient, subject, body, scheduled_for, metadata, lead_id, enrolment_id, touch_id, idempotency_key, job_priority)
    values (
      p_touch.tenant_id, p_lead.id, v_template.subject, v_template.body, brainops.now(), v_metadata, p_lead.id,
      -- An enrolment makes a mail marketing.
      case when not v_transactional then p_enrolment.id end,
      p_touch.id, 'touch:' || p_touch.id, v_priority
    )
    on conflict (tenant_id, idempotency_key) where idempotency_key is not null do nothing
    returning q.id into message_id;
  else
    insert into public.ai_sms_queue as q
      (tenant_id, recipient, body, scheduled_for, metadata, lead_id, enrolment_id, touch_id, idempotency_key, job_priority)
    values (
      p_touch.tenant_id, p_lead.id, v_template.body, brainops.now(), v_metadata, p_lead.id, p_enrolment.id,
      p_touch.id, 'touch:' || p_touch.id, v_priority
    )
    on conflict (tenant_id, idempotency_key) where idempotency_key is not null do nothing
    returning q.id into message_id;
  end if;
  said := 'queued';
end;
$$;

CREATE FUNCTION brainops_internal.read_national_number() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
  select coalesce(brainops_internal.sms_number(new.recipient, brainops_internal.tenant_country(t.settings)), new.recipient)
    into new.recipient
    from public.tenants as t
    where t.id = new.tenant_id;
  return new;
end;
$$;

CREATE FUNCTION brainops_internal.rebuild_jobs_view() RETURNS void
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
declare
  v_query text;
begin
  select string_agg(
    format(
      'select %L::text as table_name, id, tenant_id, status, scheduled_for, attempts, max_attempts, deferrals, last_error,
         skip_reason, job_priority, idempotency_key, worker_id, cancel_requested_at, started_at, finished_at, created_at
       from %s',
      j.table_name, j.relation
    ),
    ' union all ' order by j.table_name
  )
    into v_query
    from brainops.job_tables as j;
  execute 'create or replace view brainops.jobs with (security_invoker = true) as ' || v_query;
  comment on view brainops.jobs is
    'The rows of every job table, with the columns they share. Write to the tables themselves, or through brainops.retry, cancel and confirm.';
end;
$$;

CREATE FUNCTION brainops_internal.recipient_contexts(p_channel text, p_rows brainops.contact[]) RETURNS TABLE(place integer, id uuid, lead_ids uuid[], emails text[], phones text[], zones text[], country text, state text)
    LANGUAGE plpgsql STABLE
    SET search_path TO ''
    SET jit TO 'off'
    SET enable_seqscan TO 'off'
    SET enable_nestloop TO 'off'
    AS $$
declare
  -- The rows of one tenant.
  v_tenant_id constant uuid := (p_rows[1]).tenant_id;
  v_tenants_zone constant text := (select t.time_zone from public.tenants as t where t.id = v_tenant_id);
begin
  return query
    with
      asked as materialized (
        select r.n::int as n, r.id, r.lead_id,
          case when p_channel = 'email' then lower(r.address) end as email,
          case when p_channel = 'sms' then coalesce(brainops_internal.phone_e164(r.address), r.address) end as phone
        from unnest(p_rows) with ordinality
          as r (id, tenant_id, lead_id, address, is_marketing, enrolment_id, recipient, first_due_at, expires_at, n)
        where r.tenant_id = v_tenant_id and v_tenants_zone is not null
      ),
      named as materialized (
        select i.id, i.email_key, i.phone_e164, i.time_zone, i.state from public.revenue_leads as i
        where i.tenant_id = v_tenant_id and i.id = any (array(select a.lead_id from asked as a))
      ),
      addressed as materialized (
        select i.id, i.email_key, i.phone_e164, i.time_zone, i.state from public.revenue_leads as i
        where i.tenant_id = v_tenant_id
          and i.email_key = any (array(select a.email from asked as a where a.lead_id is null))
      ),
      called as materialized (
        select distinct on (i.phone_e164) i.id, i.email_key, i.phone_e164, i.time_zone, i.state
        from public.revenue_leads as i
        where i.tenant_id = v_tenant_id
          and i.phone_e164 = any (array(select a.phone from asked as a where a.lead_id is null))
        order by i.phone_e164, i.created_at, i.id
      ),
      known as materialized (
        select a.*,
          coalesce(l.id, e.id, c.id) as known_id,
          coalesce(l.email_key, e.email_key, c.email_key) as email_key,
          coalesce(l.phone_e164, e.phone_e164, c.phone_e164) as phone_e164,
          coalesce(l.time_zone, e.time_zone, c.time_zone) as time_zone,
          coalesce(l.state, e.state, c.state) as lead_state
        from asked as a
        left join named as l on l.id = a.lead_id
        left join addressed as e on a.lead_id is null and e.email_key = a.email
        left join called as c on a.lead_id is null and c.phone_e164 = a.phone
      ),
      others as (
        select k.n, array_agg(o.id) as ids, array_agg(o.email_key) as emails, array_agg(o.phone_e164) as phones
        from known as k
        cross join lateral (
          (
            select i.id, i.email_key, i.phone_e164 from public.revenue_leads as i
            where i.tenant_id = v_tenant_id and i.phone_e164 = k.phone_e164 and i.id <> k.known_id
            limit 100
          )
          union all
          (
            -- The row's address may be another than its lead's.
            select i.id, i.email_key, i.phone_e164 from public.revenue_leads as i
            where k.email <> k.email_key and i.tenant_id = v_tenant_id and i.email_key = k.email
            limit 1
          )
          union all
          (
            select i.id, i.email_key, i.phone_e164 from public.revenue_leads as i
            where i.tenant_id = v_tenant_id and i.phone_e164 = k.phone and k.phone is distinct from k.phone_e164
              and i.id is distinct from k.known_id
            limit 100
          )
        ) as o
        where k.phone_e164 is not null or k.phone is not null or k.email <> k.email_key
        group by k.n
      ),
      zoned as (
        -- The longest prefix that is known.
        select distinct on (d.n) d.n, pz.zones, pz.country, pz.state
        from (
          select k.n, coalesce(k.phone, k.phone_e164) as phone from known as k
          where p_channel = 'sms' or k.time_zone is null
        ) as d
        cross join generate_series(1, 7) as digits
        inner join brainops.phone_zones as pz on pz.prefix = substr(d.phone, 2, digits)
        where d.phone is not null
        order by d.n, length(pz.prefix) desc
      )
    select
      k.n,
      k.id,
      array_remove(array[coalesce(k.known_id, k.lead_id)] || o.ids, null),
      array_remove(array[coalesce(k.email, k.email_key), case when k.email <> k.email_key then k.email_key end] || o.emails, null),
      array_remove(array[coalesce(k.phone, k.phone_e164), case when k.phone <> k.phone_e164 then k.phone_e164 end] || o.phones, null),
      case when k.time_zone is not null then array[k.time_zone] else coalesce(z.zones, array[v_tenants_zone]) end,
      case when p_channel = 'sms' then z.country end,
      case when p_channel = 'sms' then coalesce(
        (select pz.state from brainops.phone_zones as pz where pz.country = z.country and pz.state = upper(btrim(k.lead_state)) limit 1),
        z.state
      ) end
    from known as k
    left join others as o on o.n = k.n
    left join zoned as z on z.n = k.n;
end;
$$;

COMMENT ON FUNCTION brainops_internal.recipient_contexts(p_channel text, p_rows brainops.contact[]) IS 'Who the recipients are (leads, addresses) and where (zones, country, state).';

CREATE FUNCTION brainops_internal.reconcile_sms(p_account_sid text, p_number text, p_messages jsonb) RETURNS TABLE(id uuid, verdict text)
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
declare
  -- The two clocks, and that Twilio keeps whole seconds.
  c_clocks constant interval := '2 minutes';
  v_row public.ai_sms_queue;
  v_message record;
  v_strangers int;
begin
  -- One at a time, or two would give one message to two rows.
  perform pg_advisory_xact_lock(hashtextextended('reconcile_sms ' || p_account_sid || p_number, 0));
  -- A row that is under way may be the one that a message belongs to.
  if exists (
    select from public.ai_sms_queue as q
    where q.account_sid = p_account_sid and q.to_number = p_number and q.status = 'processing'
  ) then
    return;
  end if;
  for v_row in
    select * from public.ai_sms_queue as q
    where q.account_sid = p_account_sid and q.to_number = p_number and q.status = 'unconfirmed'
    order by q.started_at, q.id
    for update
  loop
    select m.sid, m.created_at into v_message
      from brainops_internal.unexplained_messages(p_messages, v_row.id, v_row.started_at - c_clocks) as m
      where brainops_internal.same_text(m.body, v_row.text_sent)
      order by m.created_at, m.sid
      limit 1;
    if found then
      update public.ai_sms_queue as q
      set status = 'completed', provider_message_id = v_message.sid, sent_at = v_message.created_at, last_error = null
      where q.id = v_row.id;
      id := v_row.id;
      verdict := 'sent';
      return next;
    end if;
  end loop;
  -- Only now is it known which messages are nobody's.
  for v_row in
    select * from public.ai_sms_queue as q
    where q.account_sid = p_account_sid and q.to_number = p_number and q.status = 'unconfirmed'
    order by q.started_at, q.id
  loop
    select count(*) into v_strangers
      from brainops_internal.unexplained_messages(p_messages, v_row.id, v_row.started_at - c_clocks);
    id := v_row.id;
    verdict := brainops_internal.settle_absent_sms(v_row, v_strangers);
    return next;
  end loop;
end;
$$;

COMMENT ON FUNCTION brainops_internal.reconcile_sms(p_account_sid text, p_number text, p_messages jsonb) IS 'Settles unconfirmed texts to a number by all messages that Twilio has to it; verdict: sent, not sent (due again), given up, unclear, too early.';

CREATE FUNCTION brainops_internal.record_breaker_result(p_sender text, p_succeeded integer, p_failed integer, p_error text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
  if p_succeeded > p_failed then
    -- Closes only when it is time: answers to rows that were under way when it opened, or when the
    -- sender asked to wait, do not end the wait.
    update brainops.circuit_breakers
    set
      failures = 0,
      opened_at = case when retry_at > brainops.now() then opened_at end,
      current_delay = case when retry_at > brainops.now() then current_delay end,
      probe_expires_at = case when retry_at > brainops.now() then probe_expires_at end,
      retry_at = case when retry_at > brainops.now() then retry_at end
    where sender = p_sender and (failures > 0 or retry_at <= brainops.now());
  elsif p_failed > 0 then
    insert into brainops.circuit_breakers as b (sender, failures, last_error)
    values (p_sender, p_failed, left(p_error, 500))
    on conflict (sender) do update
      set
        -- Successes beside the failures show that the sender is there: start to count anew.
        failures = case when p_succeeded > 0 then p_failed else b.failures + p_failed end,
        last_error = excluded.last_error;
    -- Opens at the threshold; an open one whose probe failed waits twice as long as before.
    update brainops.circuit_breakers
    set
      opened_at = coalesce(opened_at, brainops.now()),
      current_delay = least(coalesce(current_delay * 2, base_delay), max_delay),
      retry_at = brainops.now() + least(coalesce(current_delay * 2, base_delay), max_delay),
      probe_expires_at = null
    where sender = p_sender
      and case
        when opened_at is null then failures >= threshold
        -- Rows that were under way when it opened count, but only a probe's failure prolongs it.
        else probe_expires_at is not null and retry_at <= brainops.now()
      end;
  else
    -- The row that probed never reached the sender: another may.
    update brainops.circuit_breakers
    set probe_expires_at = null
    where sender = p_sender and probe_expires_at is not null;
  end if;
end;
$$;

COMMENT ON FUNCTION brainops_internal.record_breaker_result(p_sender text, p_succeeded integer, p_failed integer, p_error text) IS 'Counts successes and failures of a sender; opens its breaker at the threshold, closes it on success. Told together they count by what most of them were.';

CREATE FUNCTION brainops_internal.record_choice(p_tenant_id uuid, p_channel text, p_address text, p_granted boolean, p_source text, p_evidence jsonb DEFAULT '{}'::jsonb) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
declare
  v_key text := p_source || ':' || gen_random_uuid();
  v_lead_ids uuid[] := array(
    select l.id from public.revenue_leads as l
    where l.tenant_id = p_tenant_id
      and case p_channel when 'email' then lower(l.email) = lower(btrim(p_address)) else l.phone_e164 = p_address end
    order by l.id
  );
begin
  -- First what is said, then what follows from it.
  insert into public.contact_consents (tenant_id, lead_id, channel, address, state, source, evidence)
  values (
    p_tenant_id, v_lead_ids[1], p_channel, p_address, case when p_granted then 'granted' else 'denied' end, p_source, p_evidence
  );
  perform brainops_internal.record_lead_event(
    p_tenant_id, id,
    case when p_granted then 'opted_in' when p_channel = 'email' then 'email_unsubscribed' else 'opted_out' end,
    p_channel, brainops.now(), v_key, jsonb_build_object('source', p_source)
  )
  from unnest(v_lead_ids) as id;
end;
$$;

COMMENT ON FUNCTION brainops_internal.record_choice(p_tenant_id uuid, p_channel text, p_address text, p_granted boolean, p_source text, p_evidence jsonb) IS 'Writes what a person chose: a consent, and an event of each lead with the address.';

CREATE FUNCTION brainops_internal.record_lead_event(p_tenant_id uuid, p_lead_id uuid, p_event text, p_channel text DEFAULT NULL::text, p_occurred_at timestamp with time zone DEFAULT NULL::timestamp with time zone, p_source_key text DEFAULT NULL::text, p_metadata jsonb DEFAULT '{}'::jsonb) RETURNS void
    LANGUAGE sql
    SET search_path TO ''
    AS $$
  insert into public.lead_events (tenant_id, lead_id, event, channel, occurred_at, source_key, metadata)
  values
    (
      p_tenant_id,
      p_lead_id,
      p_event,
      p_channel,
      coalesce(p_occurred_at, brainops.now()),
      coalesce(p_source_key, gen_random_uuid()::text),
      coalesce(p_metadata, '{}')
    )
  on conflict (tenant_id, lead_id, event, source_key) do nothing;
$$;

COMMENT ON FUNCTION brainops_internal.record_lead_event(p_tenant_id uuid, p_lead_id uuid, p_event text, p_channel text, p_occurred_at timestamp with time zone, p_source_key text, p_metadata jsonb) IS 'Writes an event of a lead down; told again under the same source_key it stays one. Nulls: now, and a key made up.';

CREATE FUNCTION brainops_internal.record_payment(p_known public.stripe_objects, p_kind text, p_object_id text, p_charge_id text, p_minor bigint, p_currency text, p_livemode boolean, p_at timestamp with time zone) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
begin
  insert into public.payment_ledger (tenant_id, payment_request_id, kind, object_id, charge_id, amount_minor, currency, livemode, occurred_at)
  values ((p_known).tenant_id, (p_known).payment_request_id, p_kind, p_object_id, p_charge_id, p_minor, lower(p_currency), p_livemode, p_at)
  on conflict (tenant_id, kind, object_id) do nothing;
  return found;
end;
$$;

CREATE FUNCTION brainops_internal.record_payment_event(p_request public.payment_requests, p_event text, p_at timestamp with time zone, p_key text, p_metadata jsonb) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
begin
  if (p_request).lead_id is not null then
    perform brainops_internal.record_lead_event(
      (p_request).tenant_id, (p_request).lead_id, p_event, 'payment', p_at, p_key,
      p_metadata || jsonb_build_object(
        'payment_request_id', (p_request).id, 'plan', (p_request).plan_code,
        'amount', (p_request).amount, 'currency', (p_request).currency
      )
    );
  end if;
end;
$$;

CREATE FUNCTION brainops_internal.record_sms_consent(p_tenant_id uuid, p_number text, p_lead_id uuid, p_state text, p_at timestamp with time zone, p_evidence jsonb) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
begin
  insert into public.contact_consents (tenant_id, lead_id, channel, address, state, source, evidence, occurred_at)
  values (p_tenant_id, p_lead_id, 'sms', p_number, p_state, 'twilio', p_evidence, p_at);
end;
$$;

CREATE FUNCTION brainops_internal.record_sms_lead_event(p_tenant_id uuid, p_number text, p_lead_id uuid, p_event text, p_at timestamp with time zone, p_source_key text, p_metadata jsonb) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
begin
  perform brainops_internal.record_lead_event(p_tenant_id, l.id, p_event, 'sms', p_at, p_source_key, p_metadata)
  from brainops_internal.sms_leads(p_tenant_id, p_number) as l
  where p_lead_id is null
  union all
  select brainops_internal.record_lead_event(p_tenant_id, l.id, p_event, 'sms', p_at, p_source_key, p_metadata)
  from public.revenue_leads as l
  where l.tenant_id = p_tenant_id and l.id = p_lead_id;
end;
$$;

CREATE FUNCTION brainops_internal.record_sms_refusal(p_id uuid, p_lease uuid, p_code integer, p_words text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  v_sms public.ai_sms_queue;
begin
  select * into v_sms
    from public.ai_sms_queue
    where id = p_id and lease = p_lease and tenant_id = brainops.current_tenant_id();
  if not found then
    return;
  end if;
  insert into public.sms_deliveries as d (tenant_id, sms_id, recipient, event, error_code, occurred_at, metadata)
  values (v_sms.tenant_id, p_id, v_sms.to_number, 'refused', p_code, brainops.now(), jsonb_build_object('reason', p_words))
  on conflict (tenant_id, provider_message_id, event, sms_id) do update
    set
      error_code = excluded.error_code,
      occurred_at = excluded.occurred_at,
      recipient = excluded.recipient,
      metadata = excluded.metadata;
  perform brainops_internal.apply_sms_error(v_sms.tenant_id, v_sms.to_number, v_sms.lead_id, p_code, brainops.now(), p_words);
  perform brainops_internal.record_sms_lead_event(
    v_sms.tenant_id, v_sms.to_number, v_sms.lead_id, 'sms_failed', brainops.now(), p_id || ':refused',
    jsonb_strip_nulls(jsonb_build_object(
      'sms_id', p_id, 'touch_id', v_sms.touch_id, 'campaign_id', v_sms.enrolment_id, 'error_code', p_code
    ))
  );
end;
$$;

COMMENT ON FUNCTION brainops_internal.record_sms_refusal(p_id uuid, p_lease uuid, p_code integer, p_words text) IS 'Writes down that Twilio refused the text, and does what the code asks for: suppression, consent, pause. For the worker that has the row.';

CREATE FUNCTION brainops_internal.record_stripe_objects(p_known public.stripe_objects, p_ids text[]) RETURNS text[]
    LANGUAGE sql
    SET search_path TO ''
    AS $$
  with
    new_ones as (
      insert into public.stripe_objects (tenant_id, object_id, own_account, payment_request_id, key_generation)
      select (p_known).tenant_id, i.id, (p_known).own_account, (p_known).payment_request_id, (p_known).key_generation
      from unnest(p_ids) as i (id)
      order by i.id
      on conflict do nothing
      returning object_id
    )
  select coalesce(array_agg(object_id), '{}')
  from new_ones;
$$;

CREATE FUNCTION brainops_internal.record_twilio_event(p_event jsonb, p_tenant_id uuid) RETURNS integer
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
begin
  return brainops_internal.record_webhook_events(
    'twilio', jsonb_build_array(p_event || jsonb_build_object('received_at', brainops.now())), p_tenant_id
  );
end;
$$;

COMMENT ON FUNCTION brainops_internal.record_twilio_event(p_event jsonb, p_tenant_id uuid) IS 'Ledgers a verified event of Twilio''s once, with the time it came; returns 0 where it was known. p_tenant_id: whose own account sent it, null for the installation''s.';

CREATE FUNCTION brainops_internal.record_webhook_events(p_provider text, p_events jsonb, p_tenant_id uuid DEFAULT NULL::uuid) RETURNS integer
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
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
        brainops_internal.webhook_event_id(p_provider, e) as event_id,
        coalesce(p_tenant_id, q.tenant_id, s.tenant_id, a.tenant_id) as tenant_id,
        e as event
      from jsonb_array_elements(p_events) as e
      left join public.ai_email_queue as q
        on p_provider = 'sendgrid' and q.id = brainops_internal.webhook_event_row(p_provider, e)
      left join lateral (
        select t.tenant_id from brainops.jobs as t
        where p_provider = 'twilio' and t.table_name = 'ai_sms_queue' and t.id = brainops_internal.webhook_event_row(p_provider, e)
      ) as s on true
      left join lateral (
        select j.tenant_id from brainops.job_archive as j
        where q.id is null and s.tenant_id is null and j.row_id = brainops_internal.webhook_event_row(p_provider, e)
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

COMMENT ON FUNCTION brainops_internal.record_webhook_events(p_provider text, p_events jsonb, p_tenant_id uuid) IS 'Ledgers an array of verified events, each once, and sets a job to process them; returns how many were new. p_tenant_id: whose own account sent them, null for the installation''s.';

CREATE FUNCTION brainops_internal.references_to(p_table regclass) RETURNS TABLE(relation regclass, column_name name, keeps_row boolean)
    LANGUAGE sql STABLE
    SET search_path TO ''
    AS $$
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

COMMENT ON FUNCTION brainops_internal.references_to(p_table regclass) IS 'The columns with a foreign key to the id of a table; keeps_row: whether a row outlives what it refers to, with the column emptied.';

CREATE FUNCTION brainops_internal.refuse_change() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
begin
  -- The one exception: brainops.forget takes out of an event's words what may name a person.
  if tg_op = 'UPDATE' and current_user = 'brainops_system'
    and to_jsonb(new) = to_jsonb(old) || '{"detail": "erased"}' then
    return new;
  end if;
  raise exception '% is append only: % is refused', tg_relid::regclass, lower(tg_op)
    using errcode = 'insufficient_privilege', hint = 'Insert a new row; retention drops whole partitions.';
end;
$$;

CREATE FUNCTION brainops_internal.refuse_consent_change() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
begin
  -- The generated address_key is not there yet in new.
  if to_jsonb(new) - '{lead_id,address_key}'::text[] = to_jsonb(old) - '{lead_id,address_key}'::text[] then
    return new;
  end if;
  raise exception 'contact_consents is append only: update is refused'
    using errcode = 'insufficient_privilege', hint = 'Insert a new row: the last word about an address counts.';
end;
$$;

CREATE FUNCTION brainops_internal.refuse_large_metadata() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
declare
  -- By table and kind of row; in a broadcast's own row is what all recipients share.
  c_of_recipient constant int := 32768;
  c_else constant int := 262144;
  v_bytes int := pg_column_size(new.metadata || '{}');
  v_most int := case when tg_table_name = 'ai_email_queue' and to_jsonb(new) ->> 'broadcast_id' is not null then c_of_recipient else c_else end;
begin
  if v_bytes > v_most then
    raise exception 'metadata: takes % bytes, at most % (% KiB) are allowed', v_bytes, v_most, v_most / 1024
      using errcode = 'OP006', column = 'metadata',
        hint = 'Give what the template needs; what all recipients share goes into ai_broadcasts.metadata.';
  end if;
  return new;
end;
$$;

COMMENT ON FUNCTION brainops_internal.refuse_large_metadata() IS 'metadata of a mail or broadcast takes 256 KiB at most, of a broadcast''s recipient 32 KiB, as jsonb before compression.';

CREATE FUNCTION brainops_internal.refuse_launch(p_tenant_id uuid, p_channel text DEFAULT 'email'::text) RETURNS void
    LANGUAGE plpgsql STABLE
    SET search_path TO ''
    AS $$
declare
  v_problems text[] := array(select brainops.launch_problems(p_tenant_id, p_channel));
begin
  if v_problems <> '{}' then
    raise exception 'marketing by % cannot be launched: %', p_channel, array_to_string(v_problems, '; ')
      using errcode = 'OP031', hint = 'Mend all of it, then launch again. select * from brainops.launch_problems(tenant_id, channel) lists it.';
  end if;
end;
$$;

COMMENT ON FUNCTION brainops_internal.refuse_launch(p_tenant_id uuid, p_channel text) IS 'Raises OP031 with everything that launch_problems finds; asked when a campaign or a broadcast becomes active.';

CREATE FUNCTION brainops_internal.refuse_time_zone() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
begin
  raise exception 'time_zone: % is not the name of a time zone', quote_literal(left(new.time_zone, 60))
    using errcode = 'check_violation', column = 'time_zone', table = tg_table_name, constraint = tg_table_name || '_time_zone_known',
      hint = 'Give a name such as America/Denver; an offset or an abbreviation does not know summer time.';
end;
$$;

CREATE FUNCTION brainops_internal.register_worker(p_id uuid, p_host text, p_pid integer, p_tasks text[]) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
declare
  v_number int;
  v_connection_id text := nullif(current_setting('brainops.connection_id', true), '');
begin
  insert into brainops.worker_processes as w (id, host, pid, tasks)
  values (p_id, p_host, p_pid, p_tasks)
  on conflict (id) do update set tasks = excluded.tasks
  returning number into v_number;

  if current_setting('brainops.embedded', true) = 'on' then
    insert into brainops.embedded_connections values (v_connection_id, v_number) on conflict do nothing;
  elsif not pg_catalog.pg_try_advisory_lock(brainops_internal.liveness_class(), v_number) then
    -- Our own earlier connection, which died without Postgres hearing of it (a lost route).
    perform pg_terminate_backend(a.pid)
    from brainops.worker_processes as w
    inner join pg_catalog.pg_stat_activity as a on a.pid = w.backend_pid and a.usename = session_user
    where w.id = p_id and a.pid <> pg_backend_pid();
    return false;
  end if;
  update brainops.worker_processes
  set backend_pid = pg_backend_pid(), suspect_since = null, last_seen_at = brainops.now()
  where id = p_id;
  return true;
end;
$$;

CREATE FUNCTION brainops_internal.release_enrolments(p_tenant_id uuid, p_ids uuid[]) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  v_now constant timestamptz := brainops.now();
  v_ids uuid[];
begin
  perform from public.ai_nurture_campaigns where tenant_id = p_tenant_id and id = any (p_ids) order by id for no key update;
  select coalesce(array_agg(e.id), '{}') into v_ids
    from public.ai_nurture_campaigns as e
    inner join public.campaigns as c on c.tenant_id = e.tenant_id and c.id = e.campaign_id
    where e.tenant_id = p_tenant_id and e.id = any (p_ids) and c.status = 'active'
      and ((e.status = 'active' and e.held_since is not null) or e.status = 'completed');

  update public.ai_campaign_touches as t
  set
    due_at = o.due_at,
    scheduled_for = case when t.status = 'processing' then t.scheduled_for else o.goes_at end,
    status = case when t.status = 'awaiting_approval' and t.last_error like 'held%' then 'pending' else t.status end,
    last_error = case when t.last_error like 'held%' then null else t.last_error end
  from (
    select
      s.id,
      s.due_at,
      case
        when s.due_at > v_now then s.due_at
        else v_now + brainops_internal.spread(
          row_number() over (partition by s.due_at > v_now order by s.due_at, s.id),
          count(*) over (partition by s.due_at > v_now)
        )
      end as goes_at
    from (
      select d.id, d.due_at + brainops_internal.time_between(coalesce(e.held_since, v_now), v_now) as due_at
      from public.ai_campaign_touches as d
      inner join public.ai_nurture_campaigns as e on e.tenant_id = d.tenant_id and e.id = d.campaign_id
      where d.tenant_id = p_tenant_id and d.campaign_id = any (v_ids) and d.performed_at is null
        and d.status in ('pending', 'awaiting_approval', 'processing', 'failed')
    ) as s
  ) as o
  where t.id = o.id;

  update public.ai_nurture_campaigns
  set
    schedule_start = schedule_start + brainops_internal.time_between(held_since, v_now),
    next_touch_date = next_touch_date + brainops_internal.time_between(held_since, v_now),
    held_since = null
  where tenant_id = p_tenant_id and id = any (v_ids) and held_since is not null;

  update public.ai_email_queue as q
  set status = 'pending', last_error = null, scheduled_for = greatest(q.scheduled_for, v_now + brainops_internal.spread(o.n, o.of))
  from (
    select id, row_number() over (order by scheduled_for, id) as n, count(*) over () as of
    from public.ai_email_queue
    where tenant_id = p_tenant_id and enrolment_id = any (v_ids) and status = 'awaiting_approval' and last_error like 'held%'
  ) as o
  where q.id = o.id;
  update public.ai_sms_queue as q
  set status = 'pending', last_error = null, scheduled_for = greatest(q.scheduled_for, v_now + brainops_internal.spread(o.n, o.of))
  from (
    select id, row_number() over (order by scheduled_for, id) as n, count(*) over () as of
    from public.ai_sms_queue
    where tenant_id = p_tenant_id and enrolment_id = any (v_ids) and status = 'awaiting_approval' and last_error like 'held%'
  ) as o
  where q.id = o.id;
  return cardinality(v_ids);
end;
$$;

CREATE FUNCTION brainops_internal.release_rescores(p_tenant_id uuid, p_lead_ids uuid[]) RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO ''
    AS $$
  select brainops_internal.enqueue_rescores(array_agg(l.id))
  from public.revenue_leads as l
  where
    l.tenant_id = p_tenant_id
    and l.id = any (p_lead_ids)
    and l.rescore_requested_at is not null
    and (
      p_tenant_id = brainops.current_tenant_id()
      or brainops.may_name_tenant()
      or pg_catalog.pg_has_role(session_user, 'brainops_admin', 'member')
    );
$$;

COMMENT ON FUNCTION brainops_internal.release_rescores(p_tenant_id uuid, p_lead_ids uuid[]) IS 'Sets the jobs that score those of these leads that wait for it; a job too many does nothing.';

CREATE FUNCTION brainops_internal.remember_tenant() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
begin
  perform set_config('brainops.inserted_tenant', '', true);
  perform set_config('brainops.statement_tenant', coalesce(brainops.current_tenant_id()::text, ''), true);
  return null;
end;
$$;

CREATE FUNCTION brainops_internal.renumber_entrances(p_tenant_id uuid, p_into uuid, p_from uuid) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
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

COMMENT ON FUNCTION brainops_internal.renumber_entrances(p_tenant_id uuid, p_into uuid, p_from uuid) IS 'Of two leads that are being made one: numbers their enrolments in each campaign that takes people again through, those of the second after those of the first, and last the one that runs. Where both run in it, or it takes nobody twice, they stay as they are.';

CREATE FUNCTION brainops_internal.replace_open_step(p_enrolment public.ai_nurture_campaigns, p_touch public.ai_campaign_touches) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  v_last int;
  v_next public.campaign_steps;
begin
  with recursive
    way (step_key, n) as (
      select p_touch.step_key, 0
      union all
      select t.step_key, w.n + 1
      from way as w
      inner join public.ai_campaign_touches as t on t.next_key = w.step_key
      where t.tenant_id = p_enrolment.tenant_id and t.campaign_id = p_enrolment.id
    )
  select s.step_number into v_last
    from way as w
    inner join public.campaign_steps as s on s.step_key = w.step_key
    where s.tenant_id = p_enrolment.tenant_id and s.campaign_id = p_enrolment.campaign_id and s.version = p_enrolment.version
    order by w.n
    limit 1;
  v_next := brainops_internal.step_from(p_enrolment, coalesce(v_last, 0) + 1);
  update public.ai_campaign_touches
  set
    performed_at = brainops.now(),
    outcome = 'left out: version ' || p_enrolment.version || ' does not have it',
    next_key = v_next.step_key,
    -- Where a worker has it, this is a wish, and performing it finds it done.
    status = 'cancelled'
  where id = p_touch.id;
  perform brainops_internal.advance_enrolment(p_enrolment, v_next, p_touch.due_at, p_touch.due_at);
end;
$$;

CREATE TABLE public.campaign_rules (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    tenant_id uuid DEFAULT (NULLIF(current_setting('brainops.statement_tenant'::text, true), ''::text))::uuid NOT NULL,
    campaign_id uuid NOT NULL,
    name text NOT NULL,
    tiers text[],
    stages text[],
    sources text[],
    condition jsonb,
    leaves text[] DEFAULT '{}'::text[] NOT NULL,
    active boolean DEFAULT true NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT campaign_rules_asks_something CHECK (((COALESCE(tiers, stages, sources) IS NOT NULL) OR (condition IS NOT NULL)))
);

ALTER TABLE ONLY public.campaign_rules FORCE ROW LEVEL SECURITY;

COMMENT ON TABLE public.campaign_rules IS 'Which leads enter which campaign by themselves: when a lead''s tier, stage or source comes to fit, it is enrolled. Only active campaigns take anyone.';

COMMENT ON COLUMN public.campaign_rules.tiers IS 'hot, warm, cool, cold; null: any. Likewise stages and sources.';

COMMENT ON COLUMN public.campaign_rules.condition IS 'More to ask, in the language of branch steps; null: nothing more.';

COMMENT ON COLUMN public.campaign_rules.leaves IS 'Codes of campaigns that the lead leaves when the rule applies.';

CREATE FUNCTION brainops_internal.report_broken_rule(p_rule public.campaign_rules, p_error text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  c_key constant text := 'campaign_rule:' || p_rule.id || ':' || md5(p_rule.condition::text);
begin
  if exists (
    select from public.tenant_notifications as n
    where n.tenant_id = p_rule.tenant_id and n.idempotency_key = c_key
  ) or not pg_try_advisory_xact_lock(hashtextextended(c_key, 0)) then
    return;
  end if;
  insert into public.tenant_notifications (tenant_id, subject, body, idempotency_key, scheduled_for)
  values (
    p_rule.tenant_id,
    left(regexp_replace(format('The campaign rule %L cannot be asked', p_rule.name), '\s+', ' ', 'g'), 300),
    left(
      format(
        E'The campaign rule %L takes nobody: %s.\n\nMend its condition in campaign_rules; leads that come to fit from then on are enrolled.',
        p_rule.name,
        coalesce((select string_agg(p, '; ') from brainops_internal.condition_problems(p_rule.condition) as p), p_error)
      ),
      20000
    ),
    c_key,
    brainops.now()
  )
  on conflict (tenant_id, idempotency_key) where idempotency_key is not null do nothing;
end;
$$;

COMMENT ON FUNCTION brainops_internal.report_broken_rule(p_rule public.campaign_rules, p_error text) IS 'Tells the tenant, once for each condition, that a rule cannot be asked and takes nobody.';

CREATE FUNCTION brainops_internal.request_rescore(p_lead_ids uuid[]) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
  perform from public.revenue_leads where id = any (p_lead_ids) order by id for no key update;
  update public.revenue_leads set rescore_requested_at = brainops.now()
  where id = any (p_lead_ids) and rescore_requested_at is null;
end;
$$;

COMMENT ON FUNCTION brainops_internal.request_rescore(p_lead_ids uuid[]) IS 'Marks leads whose score is to be reckoned anew.';

CREATE FUNCTION brainops_internal.requeue(p_job brainops.job_tables, p_tenant_id uuid, p_most integer) RETURNS integer
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $_$
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
      select id from public.tenants where ($4 is null or id = $4) and brainops_internal.pause_reason($2, id) is null
    )
    select array_agg(id), array_agg(tenant_id), array_agg(scheduled_for), array_agg(job_priority), count(*)
    from (
      (
        select t.id, t.tenant_id, t.scheduled_for, t.job_priority
        from %1$s as t
        inner join open_tenants as o on o.id = t.tenant_id
        where t.status = 'pending'
          and t.scheduled_for <= $1
          %2$s
          and not exists (
            select from graphile_worker.jobs as j
            where j.key = t.tenant_id || ':' || $2 || ':' || t.id and j.attempts < j.max_attempts
          )
        limit $3
      )
      union all
      select t.id, t.tenant_id, t.scheduled_for, t.job_priority from %1$s as t where t.id = any ($5)
    ) as s
    $sql$,
    p_job.relation, case when p_job.bulk_column is null then '' else format('and t.%I is null', p_job.bulk_column) end
  )
    into v_ids, v_tenant_ids, v_run_ats, v_priorities, v_count
    using
      brainops.now(), p_job.table_name, p_most, p_tenant_id,
      case when p_job.bulk_column is not null then brainops_internal.stranded_bulk_rows(p_job, p_tenant_id, p_most) end;
  if v_count > 0 then
    perform brainops_internal.enqueue(p_job.table_name, v_ids, v_tenant_ids, v_run_ats, v_priorities);
  end if;
  return v_count;
end;
$_$;

COMMENT ON FUNCTION brainops_internal.requeue(p_job brainops.job_tables, p_tenant_id uuid, p_most integer) IS 'Jobs for due rows that have none, one for all of a batch, at most p_most: of one tenant, or (null) of all; returns how many jobs.';

CREATE FUNCTION brainops_internal.rescore_stale(p_after uuid DEFAULT NULL::uuid, p_limit integer DEFAULT 5000) RETURNS TABLE(last_id uuid, rescored integer)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  v_ids uuid[];
  v_scanned int;
begin
  with page as (
    select l.id, l.tenant_id, l.score, l.rescore_requested_at
    from public.revenue_leads as l
    where p_after is null or l.id > p_after
    order by l.id
    limit p_limit
  ),
  due as (
    select p.id
    from page as p
    left join public.lead_score_events as e on e.tenant_id = p.tenant_id and e.lead_id = p.id
    group by p.id, p.score, p.rescore_requested_at
    having p.rescore_requested_at < brainops.now() - interval '10 minutes'
      or (
        p.rescore_requested_at is null
        and bool_or(e.half_life is not null)
        and p.score <> brainops_internal.clamp_score(sum(brainops_internal.decayed(e.points, e.half_life, e.occurred_at, brainops.now())))
      )
  )
  select (select array_agg(d.id) from due as d), (select max(p.id::text)::uuid from page as p), (select count(*)::int from page)
    into v_ids, last_id, v_scanned;
  rescored := coalesce(cardinality(v_ids), 0);
  if v_ids is not null then
    perform brainops_internal.score_leads(v_ids);
  end if;
  if v_scanned < p_limit then
    last_id := null;
  end if;
  return next;
end;
$$;

COMMENT ON FUNCTION brainops_internal.rescore_stale(p_after uuid, p_limit integer) IS 'Reckons a page of leads whose points have faded since their score was written; the nightly run of lead__score.';

CREATE FUNCTION brainops_internal.reserve_hourly_slots(p_tenant_id uuid, p_channel text, p_n integer) RETURNS timestamp with time zone[]
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    SET "TimeZone" TO 'UTC'
    AS $$
declare
  c_ahead constant int := 14 * 24;
  v_now constant timestamptz := brainops.now();
  v_hour timestamptz := date_trunc('hour', v_now);
  v_limit int := brainops_internal.hourly_limit(p_tenant_id, p_channel, v_now);
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
    v_limit := coalesce(brainops_internal.hourly_limit(p_tenant_id, p_channel, v_hour), p_n);
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

COMMENT ON FUNCTION brainops_internal.reserve_hourly_slots(p_tenant_id uuid, p_channel text, p_n integer) IS 'Places for n marketing messages under the hourly limit: null may go now, an instant is when to ask again.';

CREATE FUNCTION brainops_internal.reserve_rate_slots(p_table text, p_tenant_id uuid, p_n integer) RETURNS timestamp with time zone[]
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  v_limit record;
  v_from timestamptz;
  v_slots timestamptz[];
  v_all timestamptz[];
begin
  for v_limit in
    select * from brainops.rate_limits
    where table_name = p_table and (tenant_id = p_tenant_id or tenant_id is null)
    order by tenant_id nulls last
    for update
  loop
    v_from := greatest(v_limit.next_slot, brainops.now());
    select array_agg(v_from + make_interval(secs => ((i - v_limit.burst) / v_limit.per_second)::float8) order by i)
      into v_slots
      from generate_series(1, p_n) as i;
    update brainops.rate_limits
    set next_slot = v_from + make_interval(secs => (p_n / v_limit.per_second)::float8)
    where id = v_limit.id;
    select array_agg(greatest(mine, v_all[i]) order by i) into v_all from unnest(v_slots) with ordinality as s (mine, i);
  end loop;
  return v_all;
end;
$$;

COMMENT ON FUNCTION brainops_internal.reserve_rate_slots(p_table text, p_tenant_id uuid, p_n integer) IS 'When each of n rows may go under the table''s rate limits, reserved; null without a limit.';

CREATE FUNCTION brainops_internal.resolve_lead_id() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  v_lead_id uuid;
begin
  perform from public.revenue_leads where id = new.lead_id for key share;
  if not found then
    select a.lead_id into v_lead_id
      from public.revenue_lead_aliases as a
      where a.id = new.lead_id and (new.tenant_id is null or a.tenant_id = new.tenant_id);
    new.lead_id := coalesce(v_lead_id, new.lead_id);
  end if;
  return new;
end;
$$;

COMMENT ON FUNCTION brainops_internal.resolve_lead_id() IS 'Trigger of tables that refer to leads, as a0_resolve_lead_id before insert: takes the id of a lead that was merged as the one that it was merged into.';

CREATE FUNCTION brainops_internal.resolve_onboarding_workflow() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  v_workflow public.ai_onboarding_workflows;
begin
  select * into v_workflow from public.ai_onboarding_workflows as w
    where w.alias_ids @> array[new.workflow_id]
      and (new.tenant_id is null or w.tenant_id = new.tenant_id)
      and (w.tenant_id = brainops.current_tenant_id() or brainops.may_name_tenant()
        or pg_catalog.pg_has_role(session_user, 'brainops_admin', 'member'))
    limit 1;
  if found then
    new.workflow_id := v_workflow.id;
    if exists (
      select from public.ai_onboarding_steps
      where tenant_id = v_workflow.tenant_id and workflow_id = v_workflow.id and step_number = new.step_number
    ) then
      return null;
    end if;
  end if;
  return new;
end;
$$;

CREATE FUNCTION brainops_internal.resolve_tenant(p_table regclass, p_row jsonb) RETURNS uuid
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO ''
    AS $_$
declare
  v_tenant_id uuid;
  v_reference record;
begin
  if not brainops.may_name_tenant() then
    v_tenant_id := brainops.current_tenant_id();
    if v_tenant_id is not null then
      return v_tenant_id;
    end if;
  else
    -- Each foreign key that is the pair (tenant_id, x_id).
    for v_reference in
      select c.confrelid::regclass as parent, a.attname as column_name, r.attname as parent_column
      from pg_catalog.pg_constraint as c
      inner join pg_catalog.pg_attribute as t on t.attrelid = c.conrelid and t.attname = 'tenant_id' and t.attnum = any (c.conkey)
      cross join lateral unnest(c.conkey, c.confkey) as k (mine, theirs)
      inner join pg_catalog.pg_attribute as a on a.attrelid = c.conrelid and a.attnum = k.mine and a.attnum <> t.attnum
      inner join pg_catalog.pg_attribute as r on r.attrelid = c.confrelid and r.attnum = k.theirs and r.atttypid = 'uuid'::regtype
      where c.conrelid = p_table and c.contype = 'f' and cardinality(c.conkey) = 2
      order by c.conname
    loop
      execute format('select tenant_id from %s where %I = $1', v_reference.parent, v_reference.parent_column)
        into v_tenant_id
        using brainops_internal.uuid_or_null(p_row ->> v_reference.column_name);
      if v_tenant_id is not null then
        return v_tenant_id;
      end if;
    end loop;

    select id into v_tenant_id from public.tenants where is_default;
    if found then
      return v_tenant_id;
    end if;
  end if;

  raise exception 'tenant_id: the row for % names no tenant, and login "%" is not bound to one', p_table, session_user
    using errcode = 'OP001',
      hint = 'Give tenant_id, or (as a member of brainops_service) set app.tenant_id or refer to a row that has a tenant, or mark one tenant with is_default.';
end;
$_$;

COMMENT ON FUNCTION brainops_internal.resolve_tenant(p_table regclass, p_row jsonb) IS 'The tenant of a row about to be inserted: the current one, else (services only) that of a row it refers to, else the default one. OP001 where there is none.';

CREATE FUNCTION brainops_internal.resume_mail(p_tenant_id uuid, p_address text, p_source text, p_evidence jsonb) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
begin
  delete from public.contact_suppressions
  where tenant_id = p_tenant_id and channel = 'email' and address_key = lower(btrim(p_address)) and reason = 'unsubscribed';
  -- Only who reads the address's mail has the link.
  perform brainops_internal.record_choice(
    p_tenant_id, 'email', p_address, true, p_source, p_evidence || jsonb_build_object('confirmed_at', brainops.now())
  );
end;
$$;

COMMENT ON FUNCTION brainops_internal.resume_mail(p_tenant_id uuid, p_address text, p_source text, p_evidence jsonb) IS 'The person wants mail again: lifts what the person said, and nothing else.';

CREATE FUNCTION brainops_internal.retry_delay(p_attempt integer) RETURNS interval
    LANGUAGE sql
    SET search_path TO ''
    AS $$
  select
    least(interval '15 seconds' * power(4, greatest(p_attempt, 1) - 1), interval '1 hour') * (0.8 + 0.4 * random());
$$;

COMMENT ON FUNCTION brainops_internal.retry_delay(p_attempt integer) IS 'How long to wait after attempt n: 15 s, 1 min, 4 min, 16 min, then 1 h; 20 % more or less by chance.';

CREATE FUNCTION brainops_internal.route_lead(p_old public.revenue_leads, p_new public.revenue_leads) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  v_broken uuid[];
  v_fitting uuid[];
  v_rule record;
begin
  loop
    begin
      v_fitting := array(
        select r.id
        from public.campaign_rules as r
        inner join public.campaigns as c on c.tenant_id = r.tenant_id and c.id = r.campaign_id
        where r.tenant_id = p_new.tenant_id and r.active and c.status = 'active'
          and case
            when r.id = any (v_broken) then false
            else brainops_internal.rule_fits(r, p_new) and (p_old.id is null or brainops_internal.rule_fits(r, p_old) is not true)
          end
          -- A lead that is being made one with this brings its enrolment along, and goes on where it was.
          and not exists (
            select from public.revenue_leads as m
            inner join public.ai_nurture_campaigns as e on e.tenant_id = m.tenant_id and e.lead_id = m.id
            where m.tenant_id = p_new.tenant_id and m.merged_into = p_new.id and e.campaign_id = c.id
          )
      );
      exit;
    exception
      when data_exception or program_limit_exceeded then
        if v_broken is not null then
          raise;
        end if;
        v_broken := brainops_internal.broken_rules(p_new) || brainops_internal.broken_rules(p_old);
    end;
  end loop;

  for v_rule in
    select r.leaves, c.code
    from public.campaign_rules as r
    inner join public.campaigns as c on c.tenant_id = r.tenant_id and c.id = r.campaign_id
    where r.tenant_id = p_new.tenant_id and r.id = any (v_fitting)
    order by r.name
  loop
    perform brainops.exit_enrolment(e.id, 'routed to ' || v_rule.code)
    from public.ai_nurture_campaigns as e
    where e.tenant_id = p_new.tenant_id and e.lead_id = p_new.id and e.campaign_type = any (v_rule.leaves)
      and e.status in ('active', 'paused');
    insert into public.ai_nurture_campaigns (tenant_id, lead_id, campaign_type)
    values (p_new.tenant_id, p_new.id, v_rule.code)
    on conflict do nothing;
  end loop;
end;
$$;

CREATE FUNCTION brainops_internal.rule_fits(p_rule public.campaign_rules, p_lead public.revenue_leads) RETURNS boolean
    LANGUAGE sql STABLE
    SET search_path TO ''
    AS $$
  select
    -- Before it is reckoned, a score of 0 says nothing.
    (p_rule.tiers is null or (p_lead.scored_at is not null and p_lead.tier = any (p_rule.tiers)))
    and case
      when p_rule.stages is null then p_lead.stage not in ('won', 'lost')
      else p_lead.stage = any (p_rule.stages)
    end
    and (p_rule.sources is null or p_lead.source = any (p_rule.sources))
    and (p_rule.condition is null or brainops_internal.condition_holds(p_rule.condition, p_lead, '-infinity'));
$$;

COMMENT ON FUNCTION brainops_internal.rule_fits(p_rule public.campaign_rules, p_lead public.revenue_leads) IS 'Whether a rule of campaign_rules is true of a lead as it is.';

CREATE FUNCTION brainops_internal.same_text(p_one text, p_other text) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path TO ''
    AS $$
  select
    normalize(btrim(regexp_replace(p_one, '[[:space:]]+', ' ', 'g')), NFC) = normalize(
      btrim(regexp_replace(p_other, '[[:space:]]+', ' ', 'g')),
      NFC
    );
$$;

CREATE FUNCTION brainops_internal.save_preferences(p_token text, p_choices jsonb) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  v_link public.email_unsubscribe_links;
  v_now jsonb;
  v_topic public.contact_topics;
  v_phone record;
  v_wanted boolean;
begin
  select * into v_link from public.email_unsubscribe_links where token = p_token for no key update;
  if not found then
    return false;
  end if;
  v_now := brainops_internal.preferences(p_token);
  v_wanted := (p_choices ->> 'email')::boolean;
  if not v_wanted then
    perform brainops_internal.stop_mail(v_link.tenant_id, v_link.address_key, 'preference_page');
  elsif v_wanted and not (v_now ->> 'email')::boolean then
    perform brainops_internal.resume_mail(v_link.tenant_id, v_link.address_key, 'preference_page', '{}');
  end if;

  for v_topic in select * from public.contact_topics as t where t.tenant_id = v_link.tenant_id order by t.code
  loop
    v_wanted := (p_choices -> 'topics' ->> v_topic.code)::boolean;
    if v_wanted then
      delete from public.contact_topic_optouts
      where tenant_id = v_link.tenant_id and topic_id = v_topic.id and address_key = v_link.address_key;
    elsif not v_wanted then
      insert into public.contact_topic_optouts (tenant_id, topic_id, address_key)
      values (v_link.tenant_id, v_topic.id, v_link.address_key)
      on conflict do nothing;
    end if;
  end loop;

  v_wanted := (p_choices ->> 'sms')::boolean;
  for v_phone in select * from brainops_internal.preference_phones(v_link.tenant_id, v_link.address_key)
  loop
    if not v_wanted and v_phone.stopped is null then
      insert into public.contact_suppressions as s (tenant_id, channel, address, reason, source)
      values (v_link.tenant_id, 'sms', v_phone.phone, 'unsubscribed', 'preference_page')
      on conflict (tenant_id, channel, address_key) do update
        set
          expires_at = null,
          -- What was for a while is over, and this is the person's word; a STOP of this very moment stays what it is.
          reason = case when s.expires_at is null then s.reason else excluded.reason end,
          source = case when s.expires_at is null then s.source else excluded.source end;
      perform brainops_internal.record_choice(v_link.tenant_id, 'sms', v_phone.phone, false, 'preference_page');
    elsif v_wanted and v_phone.stopped = 'preference_page' then
      delete from public.contact_suppressions
      where tenant_id = v_link.tenant_id and channel = 'sms' and address_key = v_phone.phone and source = 'preference_page';
      perform brainops_internal.record_choice(v_link.tenant_id, 'sms', v_phone.phone, true, 'preference_page');
    end if;
  end loop;
  return true;
end;
$$;

COMMENT ON FUNCTION brainops_internal.save_preferences(p_token text, p_choices jsonb) IS 'Writes the choices of the holder of an unsubscribe link: {"email": bool, "sms": bool, "topics": {code: bool}}; what is not named stays. False for an unknown token.';

CREATE FUNCTION brainops_internal.schedule_next_step(p_enrolment public.ai_nurture_campaigns, p_touch public.ai_campaign_touches, p_step public.campaign_steps, p_to_number integer) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
declare
  v_next public.campaign_steps;
begin
  if p_touch.step_key is null then
    return;
  end if;
  if p_touch.touch_type <> 'exit' then
    v_next := brainops_internal.step_from(p_enrolment, coalesce(p_to_number, p_step.next_step, p_step.step_number + 1));
    update public.ai_campaign_touches set next_key = v_next.step_key where id = p_touch.id;
  end if;
  perform brainops_internal.advance_enrolment(p_enrolment, v_next, p_touch.due_at);
end;
$$;

CREATE FUNCTION brainops_internal.schedule_payment_closure(p_request public.payment_requests) RETURNS void
    LANGUAGE sql
    SET search_path TO ''
    AS $$
  insert into public.payment_link_closures as c (
    tenant_id,
    payment_request_id,
    key_generation,
    stripe_payment_link_id,
    account,
    reason,
    scheduled_for
  )
  select
    (p_request).tenant_id,
    (p_request).id,
    (p_request).key_generation,
    (p_request).stripe_payment_link_id,
    (p_request).key_account,
    w.reason,
    case
      when w.reason = 'expired' then (p_request).expires_at
      when (p_request).stripe_payment_link_id is not null then brainops.now()
      -- The link may still be in the making, its answer lost on the way.
      else brainops.now() + interval '10 minutes'
    end
  from
    (
      select
        case
          when (p_request).paid_at is not null then 'paid'
          when (p_request).cancelled_at is not null then 'cancelled'
          else 'expired'
        end as reason
    ) as w
  where (p_request).stripe_payment_link_id is not null or w.reason <> 'expired'
  on conflict (tenant_id, payment_request_id, key_generation) do update
    set
      stripe_payment_link_id = coalesce(excluded.stripe_payment_link_id, c.stripe_payment_link_id),
      reason = excluded.reason,
      scheduled_for = excluded.scheduled_for,
      status = case
        when c.status = 'processing' then c.status
        else 'pending'
      end
    -- What is switched off stays so.
    where c.status <> 'completed' or c.stripe_payment_link_id is distinct from excluded.stripe_payment_link_id;
$$;

CREATE FUNCTION brainops_internal.score_leads(p_lead_ids uuid[]) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  c_qualified_from constant int := 70;
  v_now timestamptz := brainops.now();
  v_ids uuid[];
  v_rest uuid[];
  v_changed int;
begin
  select coalesce(array_agg(s.id), '{}') into v_ids
    from (
      select id from public.revenue_leads where id = any (p_lead_ids) order by id for no key update skip locked
    ) as s;
  select array_agg(id) into v_rest
    from public.revenue_leads
    where id = any (p_lead_ids) and id <> all (v_ids);
  if v_rest is not null then
    perform graphile_worker.add_job(
      'lead__score', json_build_object('ids', v_rest), run_at => pg_catalog.now() + interval '2 seconds', priority => 100
    );
  end if;

  -- Facts that changed: the difference to what was written for them before.
  insert into public.lead_score_events (tenant_id, lead_id, reason, points, occurred_at)
  select w.tenant_id, w.lead_id, w.reason, w.points, v_now
  from (
    select
      coalesce(f.tenant_id, h.tenant_id) as tenant_id,
      coalesce(f.lead_id, h.lead_id) as lead_id,
      coalesce(f.reason, h.reason) as reason,
      coalesce(f.points, 0) - coalesce(h.points, 0) as points
    from (
      select l.tenant_id, l.id as lead_id, t.reason, t.times * r.points as points
      from public.revenue_leads as l
      cross join lateral brainops_internal.lead_facts(l) as t
      inner join brainops.score_reasons as r on r.reason = t.reason and r.kind = 'fact'
      where l.id = any (v_ids)
    ) as f
    full join (
      select e.tenant_id, e.lead_id, e.reason, sum(e.points) as points
      from public.revenue_leads as l
      inner join public.lead_score_events as e on e.tenant_id = l.tenant_id and e.lead_id = l.id
      inner join brainops.score_reasons as r on r.reason = e.reason and r.kind = 'fact'
      where l.id = any (v_ids)
      group by e.tenant_id, e.lead_id, e.reason
    ) as h on h.lead_id = f.lead_id and h.reason = f.reason
  ) as w
  where w.points <> 0;

  -- What they did. A mail's opens and clicks count once each, by the earliest, in whatever order
  -- they were told: the one case in which a row here changes.
  insert into public.lead_score_events as s (tenant_id, lead_id, reason, points, half_life, occurred_at, source_key)
  select e.tenant_id, e.lead_id, e.event, r.points, r.half_life, min(e.occurred_at), k.source_key
  from public.revenue_leads as l
  inner join public.lead_events as e on e.tenant_id = l.tenant_id and e.lead_id = l.id
  inner join brainops.score_reasons as r on r.reason = e.event and r.kind = 'event'
  cross join lateral (
    select
      case
        when e.event in ('email_opened', 'email_clicked') then coalesce(e.metadata ->> 'email_id', e.source_key)
        else e.source_key
      end as source_key
  ) as k
  where l.id = any (v_ids)
  group by e.tenant_id, e.lead_id, e.event, r.points, r.half_life, k.source_key
  on conflict (tenant_id, lead_id, reason, source_key) do update
    set occurred_at = excluded.occurred_at
    where excluded.occurred_at < s.occurred_at;

  -- A score that came with the lead stays what it is: the difference is the client's word.
  insert into public.lead_score_events (tenant_id, lead_id, reason, points, occurred_at)
  select l.tenant_id, l.id, 'set_by_client', greatest(least(l.score - brainops_internal.score_total(l.tenant_id, l.id), 1000000), -1000000), v_now
  from public.revenue_leads as l
  where l.id = any (v_ids) and l.scored_at is null and l.score > 0;

  with totals as (
    select l.id, l.score as old_score, brainops_internal.clamp_score(coalesce(sum(brainops_internal.decayed(e.points, e.half_life, e.occurred_at, v_now)), 0)) as score
    from public.revenue_leads as l
    left join public.lead_score_events as e on e.tenant_id = l.tenant_id and e.lead_id = l.id
    where l.id = any (v_ids)
    group by l.id, l.score
  ),
  written as (
    update public.revenue_leads as l
    set
      score = t.score,
      scored_at = v_now,
      rescore_requested_at = null,
      stage = case when l.stage = 'new' and t.score >= c_qualified_from then 'qualified' else l.stage end
    from totals as t
    where l.id = t.id
      and (l.score <> t.score or l.rescore_requested_at is not null or l.scored_at is null)
    returning t.old_score <> l.score as changed
  )
  select count(*) filter (where changed) into v_changed from written;
  return v_changed;
end;
$$;

COMMENT ON FUNCTION brainops_internal.score_leads(p_lead_ids uuid[]) IS 'Reckons the scores of leads now; from 70 on a new lead is qualified. Returns how many changed.';

CREATE FUNCTION brainops_internal.score_total(p_tenant_id uuid, p_lead_id uuid) RETURNS numeric
    LANGUAGE sql STABLE
    SET search_path TO ''
    AS $$
  select coalesce(sum(brainops_internal.decayed(e.points, e.half_life, e.occurred_at, brainops.now())), 0)
  from public.lead_score_events as e
  where e.tenant_id = p_tenant_id and e.lead_id = p_lead_id;
$$;

COMMENT ON FUNCTION brainops_internal.score_total(p_tenant_id uuid, p_lead_id uuid) IS 'The sum of a lead''s points as of now; the score is this, rounded and kept within 0 to 100.';

CREATE TABLE public.provider_credentials (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    tenant_id uuid DEFAULT (NULLIF(current_setting('brainops.statement_tenant'::text, true), ''::text))::uuid NOT NULL,
    provider text NOT NULL,
    name text DEFAULT 'default'::text NOT NULL,
    sealed bytea NOT NULL,
    hint text DEFAULT ''::text NOT NULL,
    active boolean DEFAULT true NOT NULL,
    endpoint_token text DEFAULT replace(((gen_random_uuid())::text || (gen_random_uuid())::text), '-'::text, ''::text) NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT provider_credentials_name_short CHECK (((length(name) >= 1) AND (length(name) <= 63))),
    CONSTRAINT provider_credentials_provider_known CHECK ((provider = ANY (ARRAY['sendgrid'::text, 'twilio'::text, 'stripe'::text, 'slack'::text, 'form'::text])))
);

ALTER TABLE ONLY public.provider_credentials FORCE ROW LEVEL SECURITY;

COMMENT ON TABLE public.provider_credentials IS 'A tenant''s own accounts with providers. Written by `brainops tenant credential`; where there is an active one, the tenant''s rows go through it and not through the installation''s account.';

COMMENT ON COLUMN public.provider_credentials.provider IS 'sendgrid, twilio, stripe, slack (an incoming webhook), or form (the secret that signs a lead form).';

COMMENT ON COLUMN public.provider_credentials.name IS 'default for the account that is used; a form''s secret has the form''s name.';

COMMENT ON COLUMN public.provider_credentials.sealed IS 'The credential as JSON: initialisation vector (12 bytes), tag (16), AES-256-GCM under the tenant''s key; tenant, provider and name are authenticated with it.';

COMMENT ON COLUMN public.provider_credentials.hint IS 'What a person recognises the credential by: the last characters of its key.';

COMMENT ON COLUMN public.provider_credentials.active IS 'False: the tenant''s rows go through the installation''s account. The keys stay, to verify what the account still tells and to switch off payment links that were made through it; `brainops tenant credential remove --erase` deletes them.';

COMMENT ON COLUMN public.provider_credentials.endpoint_token IS 'Where the account posts its webhooks: /webhooks/<provider>[/…]/<endpoint_token>.';

CREATE TABLE public.tenant_keys (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    tenant_id uuid DEFAULT (NULLIF(current_setting('brainops.statement_tenant'::text, true), ''::text))::uuid NOT NULL,
    wrapped_key bytea NOT NULL,
    secret_key_id text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL
);

ALTER TABLE ONLY public.tenant_keys FORCE ROW LEVEL SECURITY;

COMMENT ON TABLE public.tenant_keys IS 'The key that a tenant''s credentials are encrypted with, itself encrypted with BRAINOPS_SECRET_KEY. No client reads it.';

COMMENT ON COLUMN public.tenant_keys.wrapped_key IS 'Initialisation vector (12 bytes), tag (16), AES-256-GCM of the 32-byte key; the tenant''s id is authenticated with it.';

COMMENT ON COLUMN public.tenant_keys.secret_key_id IS 'Which BRAINOPS_SECRET_KEY it needs: the first 16 hexadecimal digits of that key''s sha256.';

CREATE FUNCTION brainops_internal.sealed_credential(p_credential public.provider_credentials, p_key public.tenant_keys) RETURNS jsonb
    LANGUAGE sql STABLE
    AS $$
  select
    pg_catalog.jsonb_build_object(
      'tenant_id',
      p_credential.tenant_id,
      'provider',
      p_credential.provider,
      'name',
      p_credential.name,
      'sealed',
      pg_catalog.encode(p_credential.sealed, 'base64'),
      'wrapped_key',
      pg_catalog.encode(p_key.wrapped_key, 'base64'),
      'secret_key_id',
      p_key.secret_key_id
    );
$$;

COMMENT ON FUNCTION brainops_internal.sealed_credential(p_credential public.provider_credentials, p_key public.tenant_keys) IS 'A credential and the tenant''s key that it is encrypted with, itself encrypted; sealed and wrapped_key in base64.';

CREATE FUNCTION brainops_internal.send_onboarding_reminder(p_id uuid) RETURNS text
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
declare
  v_reminder public.onboarding_reminders;
  v_step public.ai_onboarding_steps;
  v_workflow public.ai_onboarding_workflows;
  v_lead public.revenue_leads;
  v_tenant public.tenants;
  v_who text;
  v_what text;
  v_due text;
  v_owner text;
begin
  select * into strict v_reminder from public.onboarding_reminders where id = p_id;
  -- Whoever closes the step now waits until this is decided.
  select * into v_step from public.ai_onboarding_steps
    where tenant_id = v_reminder.tenant_id and id = v_reminder.step_id
    for share;
  select * into v_workflow from public.ai_onboarding_workflows where tenant_id = v_step.tenant_id and id = v_step.workflow_id;
  if v_step.status <> 'in_progress' or v_workflow.status <> 'in_progress' then
    return format('the step is %s, the onboarding %s', v_step.status, v_workflow.status);
  end if;
  select * into v_lead from public.revenue_leads where tenant_id = v_workflow.tenant_id and id = v_workflow.lead_id;
  select * into v_tenant from public.tenants where id = v_workflow.tenant_id;
  v_who := coalesce(nullif(btrim(v_lead.contact_name), ''), nullif(btrim(v_lead.company_name), ''), v_lead.email, 'a customer');
  v_what := replace(v_step.step_name, '_', ' ');
  v_due := to_char(v_reminder.due_at at time zone coalesce(v_lead.time_zone, v_tenant.time_zone), 'FMDay, FMDD FMMonth YYYY');
  v_owner := coalesce(nullif(btrim(v_lead.owner_email), ''), nullif(btrim(v_tenant.settings ->> 'notify_email'), ''));

  if v_reminder.kind = 'escalation' then
    perform brainops.notify(
      v_reminder.tenant_id,
      format('Onboarding of %s is overdue: %s', v_who, v_what),
      format(
        E'Step %s of %s, "%s", was due on %s and is still open.\n%s%s\nComplete or skip it: update ai_onboarding_steps set status = ''completed'' where id = ''%s''',
        v_step.step_number, v_workflow.total_steps, v_what, v_due, v_step.description,
        case when v_step.problem is not null then E'\nProblem: ' || v_step.problem else '' end, v_step.id
      ),
      'onboarding_escalation:' || v_reminder.id,
      v_workflow.lead_id
    );
    return null;
  end if;

  if v_step.remind in ('customer', 'both') then
    insert into public.ai_email_queue (tenant_id, recipient, subject, body, metadata, idempotency_key, scheduled_for)
    values (
      v_reminder.tenant_id, v_lead.id::text,
      'Next step with {{ tenant.name }}: {{ step.name }}',
      '<p>Hello{% if lead.contact_name %} {{ lead.contact_name }}{% endif %},</p><p>the next step is: {{ step.name }}'
        || '{% if step.description != "" %} ({{ step.description }}){% endif %}. We would like to be done by {{ step.due }}.</p>'
        || '<p>If something is unclear or the date does not suit you, answer this mail.</p><p>{{ tenant.name }}</p>',
      jsonb_build_object(
        'type', 'onboarding',
        'onboarding_workflow_id', v_workflow.id,
        'step', jsonb_build_object('name', v_what, 'description', v_step.description, 'due', v_due)
      ),
      'onboarding_reminder:' || v_reminder.id || ':customer', brainops.now()
    )
    on conflict (tenant_id, idempotency_key) where idempotency_key is not null do nothing;
  end if;
  if v_step.remind in ('owner', 'both') then
    if v_owner is null then
      perform brainops.notify(
        v_reminder.tenant_id,
        format('Onboarding of %s: %s is due', v_who, v_what),
        format(E'Step %s of %s, "%s", is due on %s.\n%s', v_step.step_number, v_workflow.total_steps, v_what, v_due, v_step.description),
        'onboarding_reminder:' || v_reminder.id,
        v_workflow.lead_id
      );
    else
      -- Without lead_id: what the owner opens is nothing that the lead did.
      insert into public.ai_email_queue (tenant_id, recipient, subject, body, metadata, idempotency_key, scheduled_for)
      values (
        v_reminder.tenant_id, v_owner,
        'Onboarding of {{ customer }}: {{ step.name }} is due',
        E'Step {{ step.number }} of {{ step.of }}, "{{ step.name }}", of the onboarding of {{ customer }} is due on {{ step.due }}.\n{{ step.description }}',
        jsonb_build_object(
          'type', 'onboarding',
          'onboarding_workflow_id', v_workflow.id,
          'customer', v_who,
          'step', jsonb_build_object(
            'name', v_what, 'description', v_step.description, 'due', v_due, 'number', v_step.step_number, 'of', v_workflow.total_steps
          )
        ),
        'onboarding_reminder:' || v_reminder.id || ':owner', brainops.now()
      )
      on conflict (tenant_id, idempotency_key) where idempotency_key is not null do nothing;
    end if;
  end if;
  return null;
end;
$$;

COMMENT ON FUNCTION brainops_internal.send_onboarding_reminder(p_id uuid) IS 'Queues the mails or the notification of a reminder, once; returns null, or why there is nothing to tell.';

CREATE FUNCTION brainops_internal.sendgrid_message_id(p_event jsonb) RETURNS text
    LANGUAGE sql IMMUTABLE
    SET search_path TO ''
    AS $$
  select coalesce(
    nullif(split_part(p_event ->> 'sg_message_id', '.', 1), ''),
    substring(p_event ->> 'smtp-id' from '^<([^@<>]+)@')
  )
$$;

CREATE FUNCTION brainops_internal.set_next_touch(p_enrolment_id uuid, p_at timestamp with time zone) RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO ''
    AS $$
  update public.ai_nurture_campaigns as e
  set next_touch_date = p_at
  from (select id from public.ai_nurture_campaigns where id = p_enrolment_id for no key update skip locked) as o
  where e.id = o.id and e.tenant_id = brainops.current_tenant_id() and e.status in ('active', 'paused');
$$;

COMMENT ON FUNCTION brainops_internal.set_next_touch(p_enrolment_id uuid, p_at timestamp with time zone) IS 'Behind an update of ai_campaign_touches.scheduled_for.';

CREATE TABLE public.ai_onboarding_steps (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    tenant_id uuid DEFAULT (NULLIF(current_setting('brainops.statement_tenant'::text, true), ''::text))::uuid NOT NULL,
    workflow_id uuid NOT NULL,
    step_number integer NOT NULL,
    step_name text NOT NULL,
    description text,
    status text DEFAULT 'pending'::text NOT NULL,
    due_at timestamp with time zone,
    started_at timestamp with time zone,
    completed_at timestamp with time zone,
    duration interval,
    subject text,
    body text,
    advance_on text,
    remind text,
    remind_before interval,
    escalate_after interval,
    email_id uuid,
    problem text,
    created_at timestamp with time zone DEFAULT brainops.now() NOT NULL,
    CONSTRAINT ai_onboarding_steps_begun_has_time CHECK (((status <> 'in_progress'::text) OR (started_at IS NOT NULL))),
    CONSTRAINT ai_onboarding_steps_completed_has_time CHECK (((status = 'completed'::text) = (completed_at IS NOT NULL))),
    CONSTRAINT ai_onboarding_steps_duration_positive CHECK ((duration > '00:00:00'::interval)),
    CONSTRAINT ai_onboarding_steps_number_positive CHECK ((step_number >= 1)),
    CONSTRAINT ai_onboarding_steps_remind_known CHECK ((remind = ANY (ARRAY['customer'::text, 'owner'::text, 'both'::text, 'nobody'::text]))),
    CONSTRAINT ai_onboarding_steps_status_known CHECK ((status = ANY (ARRAY['pending'::text, 'in_progress'::text, 'completed'::text, 'skipped'::text, 'cancelled'::text])))
);

ALTER TABLE ONLY public.ai_onboarding_steps FORCE ROW LEVEL SECURITY;

COMMENT ON TABLE public.ai_onboarding_steps IS 'Steps of a workflow. update … set status = ''completed'' moves it on; skipped, in_progress (again) and pending are taken too.';

COMMENT ON COLUMN public.ai_onboarding_steps.step_name IS 'welcome_email, data_collection, … or a word of the tenant''s own template, of which it takes what is not given.';

COMMENT ON COLUMN public.ai_onboarding_steps.due_at IS 'Filled when the step begins, from duration; may be moved. Reminders follow it.';

COMMENT ON COLUMN public.ai_onboarding_steps.duration IS 'As the others below: copied from the template.';

COMMENT ON COLUMN public.ai_onboarding_steps.email_id IS 'The mail that the step sent when it began (in ai_email_queue or the archive); never a second one.';

COMMENT ON COLUMN public.ai_onboarding_steps.problem IS 'Why its mail did not go; null where there is nothing to mend. Shown by brainops.stuck_onboarding.';

CREATE FUNCTION brainops_internal.set_onboarding_reminders(p_step public.ai_onboarding_steps) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
declare
  v_runs boolean := p_step.status = 'in_progress' and p_step.due_at is not null and exists (
    select from public.ai_onboarding_workflows
    where tenant_id = p_step.tenant_id and id = p_step.workflow_id and status = 'in_progress'
  );
begin
  update public.onboarding_reminders
  set status = 'cancelled'
  where tenant_id = p_step.tenant_id and step_id = p_step.id and status = 'pending'
    and (not v_runs or due_at <> p_step.due_at);
  if not v_runs then
    return;
  end if;
  insert into public.onboarding_reminders as r (tenant_id, workflow_id, step_id, kind, due_at, scheduled_for)
  select p_step.tenant_id, p_step.workflow_id, p_step.id, k.kind, p_step.due_at, k.at
  from (
    values
      ('reminder', p_step.due_at - p_step.remind_before, p_step.remind <> 'nobody'),
      ('escalation', p_step.due_at + p_step.escalate_after, p_step.escalate_after is not null)
  ) as k (kind, at, wanted)
  where k.wanted
    -- Who was told about an earlier date is not told at once about a later one.
    and (k.at > brainops.now() or not exists (
      select from public.onboarding_reminders as told
      where told.tenant_id = p_step.tenant_id and told.step_id = p_step.id and told.kind = k.kind and told.status = 'completed'
    ))
  on conflict (tenant_id, step_id, kind, due_at) do update
    set status = 'pending', scheduled_for = excluded.scheduled_for
    where r.status in ('pending', 'cancelled')
      and (r.status, r.scheduled_for) is distinct from ('pending', excluded.scheduled_for);
end;
$$;

CREATE FUNCTION brainops_internal.set_score(p_tenant_id uuid, p_lead_id uuid, p_score numeric, p_reason text) RETURNS void
    LANGUAGE sql
    SET search_path TO ''
    AS $$
  insert into public.lead_score_events (tenant_id, lead_id, reason, points)
  values
    (
      p_tenant_id,
      p_lead_id,
      p_reason,
      greatest(least(p_score - brainops_internal.score_total(p_tenant_id, p_lead_id), 1000000), -1000000)
    );
  update public.revenue_leads
  set
    score = p_score,
    rescore_requested_at = brainops.now()
  where id = p_lead_id and (score <> p_score or rescore_requested_at is null);
$$;

CREATE FUNCTION brainops_internal.set_waiting_reason(p_task_identifier text, p_reason text) RETURNS integer
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $_$
declare
  v_job brainops.job_tables;
  v_count int;
begin
  select * into v_job from brainops.job_tables as j where j.task_identifier = p_task_identifier;
  if not found or exists (
    select from brainops.worker_processes as w
    where p_task_identifier = any (w.tasks) and brainops_internal.worker_is_alive(w.number, w.backend_pid)
  ) then
    return 0;
  end if;
  execute format(
    'update %s set last_error = $1 where id in (
       select id from %s
       where status = ''pending'' and scheduled_for <= $2 and last_error is distinct from $1
       limit 10000 for update skip locked
     )',
    v_job.relation, v_job.relation
  )
    using p_reason, brainops.now();
  get diagnostics v_count = row_count;
  return v_count;
end;
$_$;

COMMENT ON FUNCTION brainops_internal.set_waiting_reason(p_task_identifier text, p_reason text) IS 'Writes p_reason into last_error of the due rows of a task that no live worker offers; returns how many.';

CREATE FUNCTION brainops_internal.settle(p_table text, p_settlements brainops.settlement[]) RETURNS TABLE(id uuid, status text)
    LANGUAGE plpgsql
    SET search_path TO ''
    SET random_page_cost TO '1'
    AS $_$
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
        else coalesce(s.run_at, $2 + brainops_internal.retry_delay(t.attempts))
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
$_$;

COMMENT ON FUNCTION brainops_internal.settle(p_table text, p_settlements brainops.settlement[]) IS 'Writes how effects ended, where the lease still holds; a late or second settler changes nothing and is left out of the answer.';

CREATE FUNCTION brainops_internal.settle_abandoned_rows(p_job brainops.job_tables, p_worker_id uuid, p_older_than interval, p_reason text) RETURNS integer
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $_$
declare
  v_count int;
begin
  execute format(
    $sql$
    update %s as t
    set
      status = n.status,
      scheduled_for = case when n.status = 'pending' then $4 else t.scheduled_for end,
      finished_at = case when n.status in ('failed', 'cancelled') then $4 end,
      last_error = $3,
      lease = null,
      worker_id = null,
      rate_slot = null
    from (
      select
        s.id,
        case
          when not $5 then 'unconfirmed'
          when s.cancel_requested_at is not null then 'cancelled'
          when s.attempts >= s.max_attempts then 'failed'
          else 'pending'
        end as status
      from %s as s
      where s.status = 'processing'
        and ($1 is null or s.worker_id = $1)
        and s.started_at <= $4 - $2
      for update skip locked
    ) as n
    where t.id = n.id
    $sql$,
    p_job.relation, p_job.relation
  )
    using p_worker_id, p_older_than, p_reason, brainops.now(), p_job.effect_is_idempotent;
  get diagnostics v_count = row_count;
  return v_count;
end;
$_$;

CREATE TABLE public.ai_sms_queue (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    tenant_id uuid DEFAULT (NULLIF(current_setting('brainops.statement_tenant'::text, true), ''::text))::uuid NOT NULL,
    recipient text NOT NULL,
    body text NOT NULL,
    scheduled_for timestamp with time zone DEFAULT now() NOT NULL,
    status text DEFAULT 'pending'::text NOT NULL,
    metadata jsonb DEFAULT '{}'::jsonb NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    sent_at timestamp with time zone,
    lead_id uuid,
    enrolment_id uuid,
    touch_id uuid,
    is_marketing boolean GENERATED ALWAYS AS ((COALESCE((metadata ->> 'transactional'::text), ''::text) <> 'true'::text)) STORED NOT NULL,
    to_number text,
    from_number text,
    account_sid text,
    text_sent text,
    segments integer,
    provider_message_id text,
    earlier_message_ids text[] DEFAULT '{}'::text[] NOT NULL,
    times_absent integer DEFAULT 0 NOT NULL,
    looked_for_at timestamp with time zone,
    first_due_at timestamp with time zone,
    job_priority smallint DEFAULT 0 NOT NULL,
    idempotency_key text,
    attempts integer DEFAULT 0 NOT NULL,
    max_attempts integer DEFAULT 5 NOT NULL,
    deferrals integer DEFAULT 0 NOT NULL,
    last_error text,
    skip_reason text,
    lease uuid,
    worker_id uuid,
    rate_slot timestamp with time zone,
    cancel_requested_at timestamp with time zone,
    started_at timestamp with time zone,
    finished_at timestamp with time zone,
    CONSTRAINT ai_sms_queue_attempts_not_negative CHECK ((attempts >= 0)),
    CONSTRAINT ai_sms_queue_done_has_finished_at CHECK (((status = ANY (ARRAY['completed'::text, 'failed'::text, 'cancelled'::text, 'skipped'::text])) = (finished_at IS NOT NULL))),
    CONSTRAINT ai_sms_queue_job_priority_range CHECK (((job_priority >= '-50'::integer) AND (job_priority <= 50))),
    CONSTRAINT ai_sms_queue_max_attempts_range CHECK (((max_attempts >= 1) AND (max_attempts <= 25))),
    CONSTRAINT ai_sms_queue_processing_has_lease CHECK (((status = 'processing'::text) = (lease IS NOT NULL))),
    CONSTRAINT ai_sms_queue_scheduled_for_finite CHECK (isfinite(scheduled_for)),
    CONSTRAINT ai_sms_queue_skipped_has_reason CHECK (((status = 'skipped'::text) = (skip_reason IS NOT NULL))),
    CONSTRAINT ai_sms_queue_status_known CHECK ((status = ANY (ARRAY['pending'::text, 'processing'::text, 'completed'::text, 'failed'::text, 'cancelled'::text, 'skipped'::text, 'unconfirmed'::text, 'awaiting_approval'::text])))
)
WITH (fillfactor='80', autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='1000', autovacuum_vacuum_cost_delay='0');

ALTER TABLE ONLY public.ai_sms_queue FORCE ROW LEVEL SECURITY;

COMMENT ON TABLE public.ai_sms_queue IS 'Insert a row: the text is sent once, when it is due. status tells how it went, last_error why it waits or failed; what became of it afterwards is in sms_deliveries.';

COMMENT ON COLUMN public.ai_sms_queue.recipient IS 'One phone number (kept in E.164), or the id of a lead of the tenant, whose number at the time of sending is taken.';

COMMENT ON COLUMN public.ai_sms_queue.body IS 'Text with Liquid, at most 1600 characters once filled in. Variables: metadata''s keys, metadata, lead, tenant.';

COMMENT ON COLUMN public.ai_sms_queue.scheduled_for IS 'Null on insert means now. Update it to move the text.';

COMMENT ON COLUMN public.ai_sms_queue.metadata IS 'Variables for Liquid, and: transactional true (no consent, quiet hours or cap asked; an opt-out still holds), priority high, lead_id.';

COMMENT ON COLUMN public.ai_sms_queue.sent_at IS 'When Twilio took the text; null until it did.';

COMMENT ON COLUMN public.ai_sms_queue.lead_id IS 'Filled from recipient or metadata.lead_id where that is a lead of the tenant.';

COMMENT ON COLUMN public.ai_sms_queue.enrolment_id IS 'Row of ai_nurture_campaigns that the text is part of; no foreign key, as texts outlive it. Null for none.';

COMMENT ON COLUMN public.ai_sms_queue.touch_id IS 'Row of ai_campaign_touches that inserted it; null for none.';

COMMENT ON COLUMN public.ai_sms_queue.is_marketing IS 'Whatever metadata does not call transactional.';

COMMENT ON COLUMN public.ai_sms_queue.to_number IS 'The number it went to, in E.164; null until it was about to.';

COMMENT ON COLUMN public.ai_sms_queue.from_number IS 'The number it went out from, as Twilio says; null until it did.';

COMMENT ON COLUMN public.ai_sms_queue.account_sid IS 'The Twilio account it went through; null until it was about to. A lost outcome is looked for there and nowhere else.';

COMMENT ON COLUMN public.ai_sms_queue.text_sent IS 'What Twilio was given, to the letter; null until it was about to be. What a lost outcome is recognised by.';

COMMENT ON COLUMN public.ai_sms_queue.segments IS 'How many segments it took, which is what it costs.';

COMMENT ON COLUMN public.ai_sms_queue.provider_message_id IS 'Twilio''s MessageSid.';

COMMENT ON COLUMN public.ai_sms_queue.earlier_message_ids IS 'MessageSids of earlier runs of the row: what Twilio says of them settles nothing any more.';

COMMENT ON COLUMN public.ai_sms_queue.times_absent IS 'How often the text was surely not with Twilio and was made due again; the third time it fails.';

COMMENT ON COLUMN public.ai_sms_queue.looked_for_at IS 'When Twilio''s list was last asked about a lost outcome; null: not yet.';

COMMENT ON COLUMN public.ai_sms_queue.first_due_at IS 'When the text was due before the engine first put it off; null while it never did. A move by a client, or running it again, starts anew.';

CREATE FUNCTION brainops_internal.settle_absent_sms(p_sms public.ai_sms_queue, p_strangers integer) RETURNS text
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
declare
  -- Twilio's list shows a message within seconds; this is many times that.
  c_patience constant interval := '10 minutes';
  c_times constant int := 3;
  v_verdict constant text := case
    when p_strangers > 0 then 'unclear'
    when p_sms.started_at > brainops.now() - c_patience then 'too early'
    when p_sms.times_absent + 1 >= c_times then 'given up'
    else 'not sent'
  end;
begin
  update public.ai_sms_queue as q
  set
    times_absent = q.times_absent + (v_verdict in ('given up', 'not sent'))::int,
    status = case v_verdict
      when 'given up' then 'failed'
      when 'not sent' then 'pending'
      else q.status
    end,
    scheduled_for = case v_verdict
      when 'not sent' then brainops.now()
      else q.scheduled_for
    end,
    last_error = case v_verdict
      when 'unclear' then format('Twilio has %s other text(s) to %s from that time: compare, then brainops.confirm', p_strangers, q.to_number)
      when 'given up' then format('%s times Twilio gave no answer and did not have the text', c_times)
      when 'not sent' then 'Twilio gave no answer and does not have the text: again'
      else q.last_error
    end
  where q.id = p_sms.id;
  return v_verdict;
end;
$$;

CREATE FUNCTION brainops_internal.settle_by_events(p_tenant_id uuid, p_email_id uuid) RETURNS void
    LANGUAGE sql
    SET search_path TO ''
    AS $$
  update public.ai_email_queue as q
  set
    status = case
      when e.taken then 'completed'
      else 'failed'
    end,
    sent_at = case
      when e.taken then coalesce(q.sent_at, q.started_at, e.first_at)
      else q.sent_at
    end,
    provider_message_id = coalesce(q.provider_message_id, e.message_id),
    last_error = case
      when not e.taken then 'SendGrid dropped it: ' || coalesce(e.reason, 'no reason given')
    end
  from
    (
      select
        bool_or(event <> 'dropped') as taken,
        min(occurred_at) as first_at,
        min(provider_message_id) as message_id,
        min(metadata ->> 'reason') as reason
      from public.email_deliveries
      where tenant_id = p_tenant_id and email_id = p_email_id
    ) as e
  where q.tenant_id = p_tenant_id and q.id = p_email_id and q.status = 'unconfirmed' and e.taken is not null;
$$;

CREATE FUNCTION brainops_internal.settle_completed(p_table text, p_ids uuid[], p_lease uuid, p_result jsonb) RETURNS SETOF uuid
    LANGUAGE plpgsql
    SET search_path TO ''
    SET random_page_cost TO '1'
    AS $_$
declare
  v_job brainops.job_tables;
  v_names text;
  v_values text;
begin
  select * into strict v_job from brainops.job_tables as j where j.table_name = p_table;
  select
    string_agg(format(', %1$I = r.%1$I', a.attname), '' order by a.attnum),
    string_agg(format(', (p ->> %1$L)::%2$s as %1$I', a.attname, format_type(a.atttypid, a.atttypmod)), '' order by a.attnum)
    into v_names, v_values
    from pg_catalog.pg_attribute as a
    where a.attrelid = v_job.relation::regclass and a.attname = any (v_job.result_columns) and p_result ? a.attname;
  return query execute format(
    $sql$
    update %1$s as t
    set
      status = 'completed',
      finished_at = $3,
      skip_reason = null,
      last_error = null,
      lease = null,
      worker_id = null,
      rate_slot = null%2$s
    from (select p%3$s from (values ($4)) as v (p) offset 0) as r
    where t.id = any ($1) and t.lease = $2
    returning t.id
    $sql$,
    v_job.relation, v_names, v_values
  )
    using p_ids, p_lease, brainops.now(), p_result;
end;
$_$;

COMMENT ON FUNCTION brainops_internal.settle_completed(p_table text, p_ids uuid[], p_lease uuid, p_result jsonb) IS 'As brainops_internal.settle, for rows under one lease that all are completed with the same result; returns those whose lease still held.';

CREATE FUNCTION brainops_internal.settle_consent(p_tenant_id uuid, p_address text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
begin
  if exists (
    select
    from (
      select distinct on (w.topic) w.stops
      from (
        select
          case when event like 'group_%' then coalesce(metadata ->> 'asm_group_id', '') else 'every mail' end as topic,
          event <> 'group_resubscribe' as stops,
          occurred_at
        from public.email_deliveries
        where tenant_id = p_tenant_id
          and recipient = p_address
          and (
            event in ('unsubscribe', 'group_unsubscribe', 'group_resubscribe')
            -- The provider's word for one that it heard earlier.
            or (event = 'dropped' and lower(metadata ->> 'reason') = 'unsubscribed address')
          )
      ) as w
      order by w.topic, w.occurred_at desc, w.stops desc
    ) as last_consents
    where stops
  ) then
    perform brainops_internal.suppress(p_tenant_id, 'email', p_address, 'unsubscribed', 'sendgrid');
  else
    delete from public.contact_suppressions
    where tenant_id = p_tenant_id and channel = 'email' and address_key = p_address
      and reason = 'unsubscribed' and source = 'sendgrid';
  end if;
end;
$$;

CREATE FUNCTION brainops_internal.settle_payment_request(p_tenant_id uuid, p_id uuid) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
declare
  v_old public.payment_requests;
  v_new public.payment_requests;
  v_paid bigint;
  v_payments int;
  v_matching timestamptz;
  v_others text;
  v_taken text;
  v_refunded bigint;
  v_disputes int;
begin
  select * into v_old from public.payment_requests where tenant_id = p_tenant_id and id = p_id for update;
  select
    coalesce(sum(amount_minor) filter (where kind = 'payment' and currency = v_old.currency), 0),
    count(*) filter (where kind = 'payment'),
    min(occurred_at) filter (where kind = 'payment' and currency = v_old.currency and amount_minor = v_old.amount_minor),
    string_agg(brainops_internal.format_payment(amount_minor, currency), ', ' order by occurred_at, object_id)
      filter (where kind = 'payment' and (currency <> v_old.currency or amount_minor <> v_old.amount_minor)),
    (array_agg(currency order by occurred_at, object_id) filter (where kind = 'payment'))[1]
    into v_paid, v_payments, v_matching, v_others, v_taken
    from public.payment_ledger
    where tenant_id = p_tenant_id and payment_request_id = p_id;

  select
    coalesce(
      sum(
        case
          when b.currency = v_old.currency then b.minor
          else least(round(b.minor * c.worth / c.charged), c.worth)
        end
      ),
      0
    )
    into v_refunded
    from (
      -- What went back by currency: as the ledger has it, or as Stripe's totals of the charges say.
      select m.currency, greatest(sum(m.booked), sum(m.told)) as minor
      from (
        select
          currency,
          -amount_minor as booked,
          case when kind = 'refund_reversal' then -amount_minor else 0 end as told
        from public.payment_ledger
        where tenant_id = p_tenant_id and payment_request_id = p_id and kind in ('refund', 'refund_reversal')
        union all
        select
          coalesce(
            o.currency,
            -- From before charges had their currency.
            (
              select l.currency from public.payment_ledger as l
              where l.tenant_id = p_tenant_id and l.payment_request_id = p_id and l.charge_id = o.object_id
              limit 1
            ),
            v_old.currency
          ),
          0,
          o.refunded_minor
        from public.stripe_objects as o
        where o.tenant_id = p_tenant_id and o.payment_request_id = p_id and o.refunded_minor > 0
      ) as m
      group by m.currency
    ) as b
    cross join lateral (
      -- What payers were charged in that currency, and what of the request it paid: what Stripe
      -- converted, as booked; and where nothing came in the request's currency, all that was asked.
      select
        coalesce(nullif(sum(p.charged), 0), nullif(sum(p.of_charges), 0), greatest(v_paid, 1)) as charged,
        case when count(p.charged) > 0 then sum(p.worth) else v_paid end as worth
      from (
        select o.charged_minor as charged, l.amount_minor as worth, null::bigint as of_charges
        from public.payment_ledger as l
        inner join public.stripe_objects as o
          on o.tenant_id = l.tenant_id and o.object_id = l.object_id and o.payment_request_id = l.payment_request_id
        where l.tenant_id = p_tenant_id and l.payment_request_id = p_id and l.kind = 'payment'
          and l.currency = v_old.currency and o.currency = b.currency
        union all
        select
          sum(l.amount_minor),
          case when v_paid = 0 and b.currency = v_taken then v_old.amount_minor else 0 end,
          null
        from public.payment_ledger as l
        where l.tenant_id = p_tenant_id and l.payment_request_id = p_id and l.kind = 'payment' and l.currency = b.currency
        union all
        -- From before conversions were kept, a charge that was refunded says what it was.
        select null, 0, sum(o.charged_minor)
        from public.stripe_objects as o
        where o.tenant_id = p_tenant_id and o.payment_request_id = p_id and o.currency = b.currency and o.refunded_minor > 0
      ) as p
    ) as c;
  select count(*) into v_disputes
    from public.payment_disputes
    where tenant_id = p_tenant_id and payment_request_id = p_id and status not in ('won', 'warning_closed', 'prevented');

  update public.payment_requests as r
  set
    paid_minor = case when v_paid = 0 and v_payments > 0 and r.paid_at is not null then r.amount_minor else v_paid end,
    refunded_minor = v_refunded,
    disputes_open = v_disputes,
    paid_at = coalesce(v_matching, r.paid_at),
    attention = nullif(
      concat_ws(
        '; ',
        'paid ' || v_others || ' where ' || brainops_internal.format_payment(r.amount_minor, r.currency) || ' was asked',
        case when r.interval = 'one_time' and v_payments > 1 then 'paid ' || v_payments || ' times' end,
        case when v_matching is not null and r.cancelled_at is not null then 'paid though it was cancelled' end,
        case when v_matching is not null and r.cancelled_at is null and r.expired_at is not null then 'paid though it had expired' end
      ),
      ''
    )
  where r.tenant_id = p_tenant_id and r.id = p_id
  returning * into v_new;

  if v_new.attention is distinct from v_old.attention and v_new.attention is not null then
    perform brainops.notify(
      p_tenant_id, 'A payment needs a look: ' || v_new.plan_name,
      'Payment request ' || p_id || ': ' || v_new.attention || '.', 'payment:' || p_id || ':' || md5(v_new.attention),
      v_new.lead_id
    );
  end if;
end;
$$;

COMMENT ON FUNCTION brainops_internal.settle_payment_request(p_tenant_id uuid, p_id uuid) IS 'Computes what payment_status comes from anew, from ledger, disputes and charges.';

CREATE FUNCTION brainops_internal.settle_sms_at_once() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
declare
  v_now constant timestamptz := brainops.now();
  v_told record;
begin
  if new.text_sent is null then
    new.status := case
      when new.cancel_requested_at is not null then 'cancelled'
      when new.attempts >= new.max_attempts then 'failed'
      else 'pending'
    end;
    new.scheduled_for := case when new.status = 'pending' then v_now else new.scheduled_for end;
    new.finished_at := case when new.status <> 'pending' then v_now end;
    return new;
  end if;
  select d.provider_message_id, min(d.occurred_at) as at into v_told
    from public.sms_deliveries as d
    where d.tenant_id = new.tenant_id and d.sms_id = new.id and d.provider_message_id is not null
      and d.provider_message_id <> all (new.earlier_message_ids)
    group by d.provider_message_id
    order by 1
    limit 1;
  if found then
    new.status := 'completed';
    new.finished_at := v_now;
    new.sent_at := coalesce(new.sent_at, v_told.at);
    new.provider_message_id := v_told.provider_message_id;
    new.last_error := null;
  end if;
  return new;
end;
$$;

CREATE FUNCTION brainops_internal.settle_sms_by_callbacks(p_tenant_id uuid, p_id uuid) RETURNS void
    LANGUAGE sql
    SET search_path TO ''
    AS $$
  update public.ai_sms_queue as q
  set
    status = 'completed',
    sent_at = coalesce(q.sent_at, told.at),
    provider_message_id = told.provider_message_id,
    last_error = null
  from
    (
      select d.provider_message_id, min(d.occurred_at) as at
      from
        public.sms_deliveries as d
        inner join public.ai_sms_queue as mine on mine.tenant_id = d.tenant_id and mine.id = d.sms_id
      where
        d.tenant_id = p_tenant_id
        and d.sms_id = p_id
        and d.provider_message_id is not null
        and d.provider_message_id <> all (mine.earlier_message_ids)
      group by d.provider_message_id
      order by d.provider_message_id
      limit 1
    ) as told
  where q.tenant_id = p_tenant_id and q.id = p_id and q.status = 'unconfirmed';
$$;

CREATE FUNCTION brainops_internal.settle_sms_consent(p_tenant_id uuid, p_number text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
declare
  v_stops boolean;
begin
  select w.stops into v_stops
    from (
      select received_at as at, kind = 'stop' as stops
      from public.sms_inbound
      where tenant_id = p_tenant_id and from_number = p_number and kind in ('stop', 'start')
      union all
      select occurred_at, true
      from public.sms_deliveries
      where tenant_id = p_tenant_id and recipient = p_number and brainops_internal.sms_error_class(error_code) = 'opted_out'
    ) as w
    order by w.at desc, w.stops desc
    limit 1;
  if v_stops then
    perform brainops_internal.suppress(p_tenant_id, 'sms', p_number, 'unsubscribed', 'twilio');
  else
    delete from public.contact_suppressions
    where tenant_id = p_tenant_id and channel = 'sms' and address_key = p_number
      and reason = 'unsubscribed' and source = 'twilio';
    -- Which may have stood over this one.
    perform brainops_internal.settle_unreachable(p_tenant_id, p_number);
  end if;
end;
$$;

CREATE FUNCTION brainops_internal.settle_unreachable(p_tenant_id uuid, p_number text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
declare
  c_times constant int := 3;
  c_apart constant interval := '4 hours';
  c_within constant interval := '14 days';
  c_for constant interval := '30 days';
  v_delivered_at timestamptz;
  v_last timestamptz;
begin
  select max(occurred_at) into v_delivered_at
    from public.sms_deliveries
    where tenant_id = p_tenant_id and recipient = p_number and event in ('delivered', 'read');
  select max(occurred_at) into v_last
    from public.sms_deliveries
    where tenant_id = p_tenant_id and recipient = p_number and error_code = 30003
      and occurred_at > coalesce(v_delivered_at, '-infinity')
      and occurred_at > brainops.now() - c_within
    having count(distinct provider_message_id) >= c_times and max(occurred_at) - min(occurred_at) >= c_apart;
  if v_last is null then
    delete from public.contact_suppressions
    where tenant_id = p_tenant_id and channel = 'sms' and address_key = p_number
      and reason = 'unreachable' and source = 'twilio';
    return;
  end if;
  insert into public.contact_suppressions as s (tenant_id, channel, address, reason, source, expires_at)
  values (p_tenant_id, 'sms', p_number, 'unreachable', 'twilio', v_last + c_for)
  on conflict (tenant_id, channel, address_key) do update
    set expires_at = excluded.expires_at
    where s.reason = 'unreachable' and s.source = 'twilio';
end;
$$;

CREATE FUNCTION brainops_internal.ship_campaigns(p_tenant_id uuid) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  v_ids uuid[];
begin
  insert into public.ai_campaign_templates (tenant_id, name, channel, subject, body, version)
  select p_tenant_id, l.name, l.channel, l.subject, l.body, 1
  from brainops.library_templates as l
  where not exists (
    select from public.ai_campaign_templates as t
    where t.tenant_id = p_tenant_id and t.name = l.name and t.channel = l.channel
  );
  with shipped as (
    insert into public.campaigns (tenant_id, code, name, description, goal_event, exit_on)
    select p_tenant_id, l.code, l.name, l.description, l.goal_event, l.exit_on
    from brainops.library_campaigns as l
    on conflict (tenant_id, code) do nothing
    returning id
  )
  select coalesce(array_agg(id), '{}') into v_ids from shipped;

  insert into public.campaign_steps
    (tenant_id, campaign_id, version, step_number, step_key, kind, template, delay, delay_from, next_step, config)
  select
    p_tenant_id, c.id, 1, s.step_number, s.step_key, s.kind, s.template, coalesce(s.delay, '0'), coalesce(s.delay_from, 'previous'),
    s.next_step, coalesce(s.config, '{}')
  from public.campaigns as c
  inner join brainops.library_campaigns as l on l.code = c.code
  cross join jsonb_to_recordset(l.steps) as s (
    step_number int, step_key text, kind text, template text, delay interval, delay_from text, next_step int, config jsonb
  )
  where c.id = any (v_ids);
  insert into public.campaign_rules (tenant_id, campaign_id, name, tiers, stages, leaves)
  select
    p_tenant_id, c.id, l.rule ->> 'name', brainops_internal.text_array(l.rule -> 'tiers'), brainops_internal.text_array(l.rule -> 'stages'),
    coalesce(brainops_internal.text_array(l.rule -> 'leaves'), '{}')
  from public.campaigns as c
  inner join brainops.library_campaigns as l on l.code = c.code
  where c.id = any (v_ids) and l.rule is not null
  on conflict (tenant_id, name) do nothing;
  update public.campaigns set version = 1 where id = any (v_ids);
  return cardinality(v_ids);
end;
$$;

COMMENT ON FUNCTION brainops_internal.ship_campaigns(p_tenant_id uuid) IS 'Gives a tenant the campaigns, rules and templates of the library that it does not have yet, by code and name; returns how many campaigns. What the tenant has made of its own stays.';

CREATE FUNCTION brainops_internal.show_inserted_row() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
begin
  perform set_config('brainops.inserted_tenant', new.tenant_id::text, true);
  return new;
end;
$$;

CREATE FUNCTION brainops_internal.skip_cancelled_step() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  v_enrolment public.ai_nurture_campaigns;
  v_next public.campaign_steps;
begin
  select * into v_enrolment from public.ai_nurture_campaigns where id = new.campaign_id for no key update;
  if not found or v_enrolment.status not in ('active', 'paused') then
    return null;
  end if;
  v_next := brainops_internal.step_from(
    v_enrolment,
    coalesce(
      (
        select s.next_step
        from public.campaign_steps as s
        where s.tenant_id = v_enrolment.tenant_id and s.campaign_id = v_enrolment.campaign_id
          and s.version = v_enrolment.version and s.step_key = new.step_key
      ),
      new.step_number + 1
    )
  );
  update public.ai_campaign_touches
  set performed_at = brainops.now(), outcome = 'left out: ' || new.status || ' by ' || session_user, next_key = v_next.step_key
  where id = new.id;
  perform brainops_internal.advance_enrolment(v_enrolment, v_next, new.due_at);
  return null;
end;
$$;

CREATE FUNCTION brainops_internal.skip_second_recipients(p_tenant_id uuid, p_into uuid, p_from uuid) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
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

COMMENT ON FUNCTION brainops_internal.skip_second_recipients(p_tenant_id uuid, p_into uuid, p_from uuid) IS 'Of two leads that are being made one: skips what waits for the one in each broadcast that the other has a row in. What was sent, or may have been, stays; else the older row.';

CREATE FUNCTION brainops_internal.sms_address(p_sms public.ai_sms_queue) RETURNS text
    LANGUAGE plpgsql STABLE
    SET search_path TO ''
    AS $$
declare
  v_lead_id uuid := brainops_internal.uuid_or_null(p_sms.recipient);
begin
  if v_lead_id is null then
    return p_sms.recipient;
  end if;
  return (
    select
      coalesce(
        l.phone_e164,
        brainops_internal.sms_number(l.phone, brainops_internal.tenant_country(t.settings)),
        nullif(btrim(l.phone), '')
      )
    from public.revenue_leads as l
    inner join public.tenants as t on t.id = l.tenant_id
    where l.tenant_id = p_sms.tenant_id and l.id in (v_lead_id, p_sms.lead_id)
    order by (l.id = v_lead_id) desc
    limit 1
  );
end;
$$;

COMMENT ON FUNCTION brainops_internal.sms_address(p_sms public.ai_sms_queue) IS 'The number that a text goes to as things stand: its recipient, or that lead''s; null for a lead that is gone or has none.';

CREATE FUNCTION brainops_internal.sms_error_class(p_code integer) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path TO ''
    AS $$
  select
    case
      when p_code in (21211, 21214, 21217, 21614, 30005, 30006) then 'recipient'
      when p_code in (21610, 30004) then 'opted_out'
      when p_code in (21212, 21603, 21606, 21659, 21660, 21661, 30032, 30034, 30035) then 'sender'
      when p_code in (21408, 21608, 21612, 30007) then 'route'
      when p_code in (20003, 20005, 20006, 30002) then 'account'
      when p_code = 30003 then 'unreachable'
      when p_code in (20429, 20503, 21611, 30001) then 'later'
      when p_code in (20500, 30008, 30500) then 'unknown'
      else 'text'
    end;
$$;

COMMENT ON FUNCTION brainops_internal.sms_error_class(p_code integer) IS 'recipient (no text can reach it) · opted_out · sender (our number may not send) · route (not from here to there, or filtered) · account · unreachable (may be on later) · later · unknown · text (anything else: this text as it stands).';

CREATE FUNCTION brainops_internal.sms_keyword(p_body text, p_opt_out_type text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path TO ''
    AS $_$
  select
    case
      when upper(p_opt_out_type) in ('STOP', 'START', 'HELP') then lower(p_opt_out_type)
      when w.word in (
        'STOP',
        'STOPALL',
        'STOP ALL',
        'UNSUBSCRIBE',
        'CANCEL',
        'END',
        'QUIT',
        'REVOKE',
        'OPTOUT',
        'OPT OUT',
        'OPT-OUT'
      ) then 'stop'
      when w.word in ('START', 'UNSTOP') then 'start'
      when w.word = 'YES' then 'yes'
      when w.word in ('HELP', 'INFO') then 'help'
      else 'reply'
    end
  from
    (
      select
        upper(
          regexp_replace(
            regexp_replace(p_body, '^[[:space:]"''“”‘’.]+|[[:space:]"''“”‘’.!?,;]+$', '', 'g'),
            '[[:space:]]+',
            ' ',
            'g'
          )
        ) as word
    ) as w;
$_$;

COMMENT ON FUNCTION brainops_internal.sms_keyword(p_body text, p_opt_out_type text) IS 'stop, start, help, yes (which opts in only whom it was asked of) or reply.';

CREATE FUNCTION brainops_internal.sms_leads(p_tenant_id uuid, p_number text) RETURNS TABLE(id uuid, updated_at timestamp with time zone)
    LANGUAGE plpgsql STABLE
    SET search_path TO ''
    AS $$
begin
  return query
    select l.id, l.updated_at from public.revenue_leads as l where l.tenant_id = p_tenant_id and l.phone_e164 = p_number;
  if not found then
    return query
      select l.id, l.updated_at
      from public.ai_sms_queue as q
      inner join public.revenue_leads as l on l.tenant_id = q.tenant_id and l.id = q.lead_id
      where q.tenant_id = p_tenant_id and q.to_number = p_number
      order by q.started_at desc
      limit 1;
  end if;
end;
$$;

CREATE FUNCTION brainops_internal.sms_needs_opt_out_notice(p_sms public.ai_sms_queue, p_number text, p_sender text) RETURNS boolean
    LANGUAGE sql STABLE
    SET search_path TO ''
    AS $$
  select
    p_sms.is_marketing
    and not exists (
      select
      from
        public.sms_threads as t
        left join public.ai_sms_queue as told on told.tenant_id = t.tenant_id and told.id = t.told_by
      where
        t.tenant_id = p_sms.tenant_id
        and t.number = p_number
        and t.sender is not distinct from p_sender
        and t.told_by is not null
        and t.told_by <> p_sms.id
        and coalesce(told.status, 'completed') not in ('failed', 'cancelled', 'skipped')
    );
$$;

COMMENT ON FUNCTION brainops_internal.sms_needs_opt_out_notice(p_sms public.ai_sms_queue, p_number text, p_sender text) IS 'Whether the text has to tell how to opt out: a marketing text to a person who has had no such word from that sender.';

CREATE FUNCTION brainops_internal.sms_number(p_text text, p_country text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path TO ''
    AS $_$
  select
    case
      when n.digits ~ '^\+1[2-9][0-9]{9}$' then n.digits
      when n.digits ~ '^\+[2-9][0-9]{6,14}$' then n.digits
      when n.digits ~ '^1?[2-9][0-9]{9}$'
      and upper(p_country) = any (
        '{US,CA,AG,AI,AS,BB,BM,BS,DM,DO,GD,GU,JM,KN,KY,LC,MP,MS,PR,SX,TC,TT,VC,VG,VI}'
      ) then '+1' || right(n.digits, 10)
    end
  from (select regexp_replace(p_text, '[[:space:]().\-/' || U&'\00A0' || ']', '', 'g') as digits) as n;
$_$;

COMMENT ON FUNCTION brainops_internal.sms_number(p_text text, p_country text) IS 'A phone number in E.164 (+13035550100), where SQL can read it: with a + and any punctuation, or national in a country that dials +1. Null otherwise.';

CREATE FUNCTION brainops_internal.sms_sender(p_tenant_id uuid, p_number text) RETURNS text
    LANGUAGE sql STABLE
    SET search_path TO ''
    AS $$
  select n.number
  from
    public.sms_numbers as n
    left join public.sms_threads as t on t.tenant_id = n.tenant_id and t.number = p_number and t.sender = n.number
  where n.tenant_id = p_tenant_id and n.active
  order by t.last_at desc nulls last, n.created_at, n.id
  limit 1;
$$;

COMMENT ON FUNCTION brainops_internal.sms_sender(p_tenant_id uuid, p_number text) IS 'Which of the tenant''s numbers a text to the person goes out from; null where it has none and TWILIO_FROM serves.';

CREATE FUNCTION brainops_internal.sms_status_rank(p_event text) RETURNS integer
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path TO ''
    AS $$
  select
    array_position(
      '{refused,queued,accepted,scheduled,sending,sent,canceled,failed,undelivered,delivered,read}',
      p_event
    );
$$;

COMMENT ON FUNCTION brainops_internal.sms_status_rank(p_event text) IS 'How far a text has come: of two statuses of one text, the one with the higher rank holds, in whichever order they were told.';

CREATE FUNCTION brainops_internal.sms_tenants(p_from text, p_to text, p_tenant_id uuid) RETURNS TABLE(tenant_id uuid, is_the_one boolean)
    LANGUAGE plpgsql STABLE
    SET search_path TO ''
    AS $$
declare
  v_owner uuid;
begin
  if p_tenant_id is not null then
    return query select p_tenant_id, true;
    return;
  end if;
  select n.tenant_id into v_owner from public.sms_numbers as n where n.number = p_to limit 1;
  return query
    with candidates as (
      select t.tenant_id, t.last_at, t.tenant_id = v_owner as owns
      from public.sms_threads as t
      where t.number = p_from and t.sender is not distinct from case when v_owner is not null then p_to end
      union all
      select v_owner, 'infinity', true where v_owner is not null
      union all
      select id, '-infinity', false from public.tenants
      where is_default or (select count(*) from public.tenants) = 1
    ),
    ranked as (
      select c.tenant_id, max(c.last_at) as last_at, bool_or(c.owns) as owns from candidates as c group by c.tenant_id
    )
    select r.tenant_id, row_number() over (order by r.owns desc, r.last_at desc, r.tenant_id) = 1
    from ranked as r
    -- Nobody's default where somebody's thread is.
    where r.last_at > '-infinity' or not exists (select from ranked as o where o.last_at > '-infinity');
end;
$$;

COMMENT ON FUNCTION brainops_internal.sms_tenants(p_from text, p_to text, p_tenant_id uuid) IS 'The tenants that texted a person from a number; is_the_one: whose a reply is. Of a number that is one tenant''s, that one. By the number and the account that signed, never by the text.';

CREATE FUNCTION brainops_internal.split_key(p_step public.campaign_steps) RETURNS text
    LANGUAGE sql IMMUTABLE
    SET search_path TO ''
    AS $$
  select p_step.campaign_id || '/' || p_step.version || '/' || p_step.step_key;
$$;

CREATE FUNCTION brainops_internal.split_problems(p_config jsonb) RETURNS SETOF text
    LANGUAGE plpgsql STABLE
    SET search_path TO ''
    AS $_$
declare
  v_variant jsonb;
  v_winner jsonb := p_config -> 'winner';
begin
  if jsonb_typeof(p_config -> 'variants') is distinct from 'array' or jsonb_array_length(p_config -> 'variants') < 2 then
    return next format('variants %s is no list of two or more {"name": …, "weight": …, "to": step}', coalesce(left(p_config ->> 'variants', 120), 'null'));
    return;
  end if;
  for v_variant in select * from jsonb_array_elements(p_config -> 'variants')
  loop
    if coalesce(v_variant ->> 'name', '') = '' then
      return next format('variant %s has no name', v_variant);
    end if;
    if jsonb_typeof(v_variant -> 'weight') is distinct from 'number' or not (v_variant ->> 'weight')::numeric between 1 and 10000
      or (v_variant ->> 'weight')::numeric % 1 <> 0
    then
      return next format('weight %s of variant %s is no whole number from 1 to 10000', coalesce(v_variant ->> 'weight', 'null'), coalesce(quote_literal(v_variant ->> 'name'), 'null'));
    end if;
  end loop;
  if (select count(distinct v ->> 'name') from jsonb_array_elements(p_config -> 'variants') as v) < jsonb_array_length(p_config -> 'variants') then
    return next 'two variants have the same name';
  end if;
  if v_winner is not null then
    if coalesce(v_winner ->> 'by', '') not in ('open', 'click', 'reply') then
      return next format('winner.by %s is none of open, click, reply', coalesce(quote_literal(v_winner ->> 'by'), 'null'));
    end if;
    if not v_winner ?| array['after_touches', 'after'] then
      return next 'winner says neither after_touches (per variant) nor after (an interval)';
    end if;
    if not coalesce(v_winner ->> 'after_touches', '1') ~ '^[1-9][0-9]{0,6}$' then
      return next format('winner.after_touches %s is no number from 1 on', v_winner ->> 'after_touches');
    end if;
    if not brainops_internal.is_interval(coalesce(v_winner ->> 'after', '1 day')) then
      return next format('winner.after %s is no positive interval such as 7 days', quote_literal(v_winner ->> 'after'));
    end if;
  end if;
end;
$_$;

COMMENT ON FUNCTION brainops_internal.split_problems(p_config jsonb) IS 'What is wrong with the config of a split, one sentence each.';

CREATE FUNCTION brainops_internal.spread(p_n bigint, p_of bigint) RETURNS interval
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
  select make_interval(secs => (p_n - 1) * least(0.2, 3600.0 / p_of)::float8);
$$;

COMMENT ON FUNCTION brainops_internal.spread(p_n bigint, p_of bigint) IS 'Five a second, or as many as it takes to be through within an hour: what resuming lets go at once.';

CREATE FUNCTION brainops_internal.spread_contact_time(p_at timestamp with time zone, p_zones text[], p_opens time without time zone[], p_closes time without time zone[], p_spread interval) RETURNS timestamp with time zone
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
declare
  v_open tstzrange := brainops_internal.contact_opening(p_at, p_zones, p_opens, p_closes);
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

COMMENT ON FUNCTION brainops_internal.spread_contact_time(p_at timestamp with time zone, p_zones text[], p_opens time without time zone[], p_closes time without time zone[], p_spread interval) IS 'The instant itself where the hours are open, else one in the first part of the next open hours, by chance.';

CREATE FUNCTION brainops_internal.spread_rows(p_job brainops.job_tables, p_tenant_id uuid, p_waiting text) RETURNS integer
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $_$
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
        select id from public.tenants where ($2 is null or id = $2) and brainops_internal.pause_reason($3, id) is null
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
$_$;

COMMENT ON FUNCTION brainops_internal.spread_rows(p_job brainops.job_tables, p_tenant_id uuid, p_waiting text) IS 'Lets waiting rows go on, spread over time; returns how many. Behind brainops.resume and brainops.lift_marketing_hold.';

CREATE FUNCTION brainops_internal.stage_rank(p_stage text) RETURNS integer
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
  select
    pg_catalog.array_position(
      array['new', 'nurturing', 'contacted', 'qualified', 'proposal_sent', 'negotiating', 'lost', 'won'],
      p_stage
    );
$$;

COMMENT ON FUNCTION brainops_internal.stage_rank(p_stage text) IS 'How far a stage is along the way, from 1; lost counts as further than negotiating.';

CREATE FUNCTION brainops_internal.step_due_at(p_enrolment public.ai_nurture_campaigns, p_step public.campaign_steps, p_base timestamp with time zone, p_zone text) RETURNS timestamp with time zone
    LANGUAGE sql STABLE
    SET search_path TO ''
    AS $$
  select
    case p_step.delay_from
      when 'enrolment' then greatest(
        brainops_internal.add_delay(p_enrolment.schedule_start, p_step.delay, p_zone),
        p_base
      )
      else brainops_internal.add_delay(p_base, p_step.delay, p_zone)
    end;
$$;

CREATE FUNCTION brainops_internal.step_from(p_enrolment public.ai_nurture_campaigns, p_number integer) RETURNS public.campaign_steps
    LANGUAGE sql STABLE
    SET search_path TO ''
    AS $$
  select s.*
  from public.campaign_steps as s
  where
    s.tenant_id = p_enrolment.tenant_id
    and s.campaign_id = p_enrolment.campaign_id
    and s.version = p_enrolment.version
    and s.step_number >= p_number
    and not exists (
      select
      from public.ai_campaign_touches as t
      where
        t.tenant_id = p_enrolment.tenant_id
        and t.campaign_id = p_enrolment.id
        and t.entrance = p_enrolment.entrance
        and t.step_key = s.step_key
    )
  order by s.step_number
  limit 1;
$$;

CREATE FUNCTION brainops_internal.step_paths(p_kind text, p_config jsonb, p_next_step integer) RETURNS TABLE(path text, target jsonb)
    LANGUAGE sql IMMUTABLE
    SET search_path TO ''
    AS $$
  select 'next_step', to_jsonb(p_next_step)
  where p_next_step is not null
  union all
  select 'when[' || n - 1 || '].to', coalesce(w -> 'to', 'null')
  from
    jsonb_array_elements(
      case
        when p_kind = 'branch'
        and jsonb_typeof(p_config -> 'when') = 'array' then p_config -> 'when'
        else '[]'
      end
    ) with ordinality as b (w, n)
  union all
  select 'variants[' || n - 1 || '].to', coalesce(v -> 'to', 'null')
  from
    jsonb_array_elements(
      case
        when p_kind = 'split'
        and jsonb_typeof(p_config -> 'variants') = 'array' then p_config -> 'variants'
        else '[]'
      end
    ) with ordinality as b (v, n)
  union all
  select k, p_config -> k
  from
    unnest(
      case p_kind
        when 'branch' then '{else}'::text[]
        when 'wait_for' then '{then,else}'
        else '{}'
      end
    ) as k
  where p_config ? k;
$$;

COMMENT ON FUNCTION brainops_internal.step_paths(p_kind text, p_config jsonb, p_next_step integer) IS 'Where a step may lead beside the next number: the name of each path, and the step it names.';

CREATE FUNCTION brainops_internal.stop_mail(p_tenant_id uuid, p_address text, p_source text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
begin
  insert into public.contact_suppressions as s (tenant_id, channel, address, reason, source)
  values (p_tenant_id, 'email', p_address, 'unsubscribed', p_source)
  on conflict (tenant_id, channel, address_key) do update
    set
      expires_at = null,
      -- The person's word outlasts what was for a while, and takes nothing away that is for good.
      reason = case when s.expires_at is null then s.reason else excluded.reason end,
      -- A word given to us; what SendGrid is told later does not take it back.
      source = case when s.expires_at is not null or s.reason = 'unsubscribed' then excluded.source else s.source end;
  if brainops.consent_state(p_tenant_id, 'email', p_address) is distinct from 'denied' then
    perform brainops_internal.record_choice(p_tenant_id, 'email', p_address, false, p_source);
  end if;
end;
$$;

COMMENT ON FUNCTION brainops_internal.stop_mail(p_tenant_id uuid, p_address text, p_source text) IS 'No more marketing mail to the address: suppression, consent denied, an event of its leads.';

CREATE FUNCTION brainops_internal.stranded_bulk_rows(p_job brainops.job_tables, p_tenant_id uuid, p_most integer) RETURNS uuid[]
    LANGUAGE plpgsql STABLE
    SET search_path TO ''
    AS $_$
declare
  v_ids uuid[];
begin
  execute format(
    $sql$
    with recursive batches as (
      (
        select tenant_id, %1$I as batch from %2$s
        where %1$I is not null and ($3 is null or tenant_id = $3)
        order by tenant_id, %1$I
        limit 1
      )
      union all
      select n.tenant_id, n.batch
      from batches as b
      cross join lateral (
        select t.tenant_id, t.%1$I as batch from %2$s as t
        where t.%1$I is not null and ($3 is null or t.tenant_id = $3) and (t.tenant_id, t.%1$I) > (b.tenant_id, b.batch)
        order by t.tenant_id, t.%1$I
        limit 1
      ) as n
    ),
    rung as materialized (
      select distinct j.payload ->> 'batch' as batch
      from graphile_worker._private_jobs as j
      inner join graphile_worker._private_tasks as k on k.id = j.task_id
      where k.identifier = $2 and j.attempts < j.max_attempts and j.payload ->> 'batch' is not null
        -- One that is set for later rings for what is due then.
        and (j.run_at <= $1 or j.locked_at is not null)
    )
    select array_agg(f.id)
    from (
      select d.id
      from batches as b
      cross join lateral (
        select t.id from %2$s as t
        where t.tenant_id = b.tenant_id and t.%1$I = b.batch and t.status = 'pending' and t.scheduled_for <= $1
        order by t.scheduled_for
        limit 1
      ) as d
      where b.batch::text not in (select r.batch from rung as r)
        and brainops_internal.pause_reason($5, b.tenant_id) is null
      limit $4
    ) as f
    $sql$,
    p_job.bulk_column, p_job.relation
  )
    into v_ids
    using brainops.now(), p_job.task_identifier, p_tenant_id, p_most, p_job.table_name;
  return v_ids;
end;
$_$;

COMMENT ON FUNCTION brainops_internal.stranded_bulk_rows(p_job brainops.job_tables, p_tenant_id uuid, p_most integer) IS 'The first due row of each batch that has due rows, no job and no pause: of one tenant, or (null) of all, at most p_most.';

CREATE FUNCTION brainops_internal.stripe_account(p_tenant_id uuid) RETURNS text
    LANGUAGE sql IMMUTABLE
    SET search_path TO ''
    AS $$
  select coalesce(p_tenant_id::text, 'platform');
$$;

CREATE FUNCTION brainops_internal.stripe_id(p_value jsonb) RETURNS text
    LANGUAGE sql IMMUTABLE
    SET search_path TO ''
    AS $$
  select
    nullif(
      case jsonb_typeof(p_value)
        when 'string' then p_value #>> '{}'
        when 'object' then p_value ->> 'id'
      end,
      ''
    );
$$;

CREATE FUNCTION brainops_internal.stripe_ids(p_object jsonb) RETURNS text[]
    LANGUAGE sql IMMUTABLE
    SET search_path TO ''
    AS $$
  select coalesce(array_agg(distinct i.id order by i.id), '{}')
  from
    unnest(
      array[
        p_object ->> 'id',
        brainops_internal.stripe_id(p_object -> 'payment_link'),
        brainops_internal.stripe_id(p_object -> 'payment_intent'),
        brainops_internal.stripe_id(p_object -> 'charge'),
        brainops_internal.stripe_id(p_object -> 'invoice'),
        brainops_internal.stripe_id(p_object -> 'subscription'),
        brainops_internal.stripe_id(p_object #> '{parent,subscription_details,subscription}'),
        brainops_internal.stripe_id(p_object #> '{payment,payment_intent}'),
        brainops_internal.stripe_id(p_object #> '{payment,charge}')
      ]
    ) as i (id)
  where length(i.id) between 1 and 255;
$$;

CREATE FUNCTION brainops_internal.stripe_time(p_value jsonb) RETURNS timestamp with time zone
    LANGUAGE sql IMMUTABLE
    SET search_path TO ''
    AS $$
  select
    case
      when jsonb_typeof(p_value) = 'number' then to_timestamp((p_value #>> '{}')::float8)
    end;
$$;

CREATE FUNCTION brainops_internal.submit_lead_form(p_tenant_id uuid, p_form text, p_submission_id text, p_lead jsonb, p_evidence jsonb) RETURNS TABLE(lead_id uuid, is_new boolean)
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
declare
  v_form public.lead_forms;
  v_key text := 'form:' || p_form || ':' || p_submission_id;
begin
  select * into v_form from public.lead_forms where tenant_id = p_tenant_id and name = p_form and active;
  if not found then
    raise exception 'form: % is none, or is switched off', quote_literal(left(p_form, 80))
      using errcode = 'OP009', hint = 'select name, active from lead_forms';
  end if;
  -- The same one at the same moment waits here, and then finds the event.
  perform pg_advisory_xact_lock(hashtextextended('brainops_internal.submit_lead_form:' || p_tenant_id || ':' || v_key, 0));
  -- A merge takes the event along, so its lead is the one that is left.
  select e.lead_id, false into lead_id, is_new
    from public.lead_events as e
    where e.tenant_id = p_tenant_id and e.event = 'form_submitted' and e.source_key = v_key
    -- Before this, one id with two addresses was two events: the first is the submission.
    order by e.created_at
    limit 1;
  if found then
    return next;
    return;
  end if;
  select c.lead_id, c.is_new into lead_id, is_new
    from brainops.capture_lead(
      p_tenant_id,
      jsonb_build_object('source', v_form.source) || v_form.defaults || p_lead
        || jsonb_build_object('metadata', coalesce(v_form.defaults -> 'metadata', '{}') || coalesce(p_lead -> 'metadata', '{}')),
      'form',
      p_evidence || jsonb_build_object('form', p_form, 'submission', p_submission_id)
    ) as c;
  perform brainops_internal.record_lead_event(
    p_tenant_id, lead_id, 'form_submitted', 'web', null, v_key, jsonb_build_object('form', p_form, 'fields', p_lead)
  );
  return next;
end;
$$;

COMMENT ON FUNCTION brainops_internal.submit_lead_form(p_tenant_id uuid, p_form text, p_submission_id text, p_lead jsonb, p_evidence jsonb) IS 'Behind POST /forms/<token>: a lead, its consents, and the event form_submitted, once for each p_submission_id.';

CREATE FUNCTION brainops_internal.suppress(p_tenant_id uuid, p_channel text, p_address text, p_reason text, p_source text) RETURNS void
    LANGUAGE sql
    SET search_path TO ''
    AS $$
  insert into public.contact_suppressions as s (tenant_id, channel, address, reason, source)
  values (p_tenant_id, p_channel, p_address, p_reason, p_source)
  on conflict (tenant_id, channel, address_key) do update
    set
      reason = excluded.reason,
      source = excluded.source,
      expires_at = null
    where
      s.expires_at is not null
      or brainops_internal.suppression_rank(excluded.reason) < brainops_internal.suppression_rank(s.reason);
$$;

CREATE FUNCTION brainops_internal.suppression_rank(p_reason text) RETURNS integer
    LANGUAGE sql IMMUTABLE
    SET search_path TO ''
    AS $$
  select
    case p_reason
      when 'complained' then 1
      when 'bounced' then 2
      when 'unsubscribed' then 4
      else 3
    end;
$$;

CREATE FUNCTION brainops_internal.sweep(p_most integer DEFAULT 10000) RETURNS TABLE(table_name text, requeued integer, timed_out integer)
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
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
    timed_out := brainops_internal.settle_abandoned_rows(v_job, null, v_job.time_limit + interval '2 minutes', 'its worker never settled it within the time limit');
    requeued := brainops_internal.requeue(v_job, null, p_most);
    return next;
  end loop;
end;
$$;

COMMENT ON FUNCTION brainops_internal.sweep(p_most integer) IS 'Each minute: jobs for due rows that have none (at most p_most a table), an end for rows stuck in processing, freedom for orphaned jobs.';

CREATE FUNCTION brainops_internal.sweep_webhook_events() RETURNS integer
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
declare
  v_ids uuid[];
begin
  select array_agg(id) into v_ids
    from (
      select id from public.webhook_events
      where status = 'pending' and received_at < brainops.now() - interval '1 minute'
      order by received_at
      limit 1000
    ) as s;
  if v_ids is not null then
    perform graphile_worker.add_job(
      'webhook_event__process', json_build_object('ids', v_ids), job_key => 'webhook_events:sweep'
    );
  end if;

  perform brainops_internal.settle_by_events(tenant_id, id)
  from (
    select q.tenant_id, q.id
    from public.ai_email_queue as q
    where q.status = 'unconfirmed'
      and exists (select from public.email_deliveries as d where d.tenant_id = q.tenant_id and d.email_id = q.id)
    limit 1000
  ) as told;
  return coalesce(cardinality(v_ids), 0);
end;
$$;

CREATE FUNCTION brainops_internal.tenant_account(p_tenant_id uuid, p_provider text) RETURNS TABLE(id uuid, endpoint_token text, sealed jsonb)
    LANGUAGE sql STABLE ROWS 1
    AS $$
  select c.id, c.endpoint_token, brainops_internal.sealed_credential(c, k)
  from
    public.provider_credentials as c
    inner join public.tenant_keys as k on k.tenant_id operator(pg_catalog.=) c.tenant_id
  where
    c.tenant_id operator(pg_catalog.=) p_tenant_id
    and c.provider operator(pg_catalog.=) p_provider
    and c.name operator(pg_catalog.=) 'default'
    and c.active;
$$;

COMMENT ON FUNCTION brainops_internal.tenant_account(p_tenant_id uuid, p_provider text) IS 'The tenant''s own account with a provider that its rows go through; no row if they go through the platform''s.';

CREATE FUNCTION brainops_internal.tenant_country(p_settings jsonb) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path TO ''
    AS $_$
  select
    case
      when p_settings ->> 'country' ~* '^[a-z]{2}$' then upper(p_settings ->> 'country')
      else 'US'
    end;
$_$;

COMMENT ON FUNCTION brainops_internal.tenant_country(p_settings jsonb) IS 'tenants.settings.country (ISO 3166, two letters): how numbers without + are read. US where there is none.';

CREATE FUNCTION brainops_internal.tenant_id_of(p_tenant text) RETURNS uuid
    LANGUAGE plpgsql STABLE
    SET search_path TO ''
    AS $$
declare
  v_id uuid;
begin
  select id into v_id from public.tenants where slug = p_tenant or id = brainops_internal.uuid_or_null(p_tenant);
  if not found then
    raise exception 'tenant: % is neither the slug nor the id of a tenant', quote_literal(p_tenant)
      using errcode = 'OP007', hint = 'select slug, id from tenants';
  end if;
  return v_id;
end;
$$;

COMMENT ON FUNCTION brainops_internal.tenant_id_of(p_tenant text) IS 'The id of a tenant by its slug or id; OP007 where there is none that the caller may see.';

CREATE FUNCTION brainops_internal.tenant_of_caller(p_tenant text) RETURNS uuid
    LANGUAGE plpgsql STABLE
    SET search_path TO ''
    AS $$
declare
  v_tenant_id uuid;
begin
  if pg_catalog.pg_has_role(session_user, 'brainops_admin', 'member') then
    return brainops_internal.tenant_id_of(p_tenant);
  end if;
  -- The same words for another tenant and for none: who exists is nobody's business.
  select id into v_tenant_id from public.tenants
    where id = brainops.current_tenant_id() and (slug = p_tenant or id = brainops_internal.uuid_or_null(p_tenant));
  if not found then
    raise exception 'tenant: % is not yours', coalesce(quote_literal(p_tenant), 'null')
      using errcode = 'insufficient_privilege', hint = 'Give your own slug: select slug from tenants.';
  end if;
  return v_tenant_id;
end;
$$;

COMMENT ON FUNCTION brainops_internal.tenant_of_caller(p_tenant text) IS 'The tenant of this slug or id, where the caller is that tenant or an admin; refused otherwise.';

CREATE FUNCTION brainops_internal.text_array(p_list jsonb) RETURNS text[]
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path TO ''
    AS $$
  select
    case
      when jsonb_typeof(p_list) = 'array' then array(select jsonb_array_elements_text(p_list))
    end;
$$;

COMMENT ON FUNCTION brainops_internal.text_array(p_list jsonb) IS 'A JSON list of texts as an array; null for anything else.';

CREATE FUNCTION brainops_internal.time_between(p_from timestamp with time zone, p_to timestamp with time zone) RETURNS interval
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
  select make_interval(secs => (extract(epoch from p_to) - extract(epoch from p_from))::float8);
$$;

COMMENT ON FUNCTION brainops_internal.time_between(p_from timestamp with time zone, p_to timestamp with time zone) IS 'The time between two instants in seconds, so that adding it meets no calendar.';

CREATE FUNCTION brainops_internal.timestamptz_or_null(p_text text) RETURNS timestamp with time zone
    LANGUAGE plpgsql STABLE
    SET search_path TO ''
    SET "TimeZone" TO 'UTC'
    AS $$
begin
  return p_text::timestamptz;
exception
  when others then return null;
end;
$$;

COMMENT ON FUNCTION brainops_internal.timestamptz_or_null(p_text text) IS 'The instant that a text spells (UTC where it names no zone), or null: never an error.';

CREATE FUNCTION brainops_internal.topic_opted_out(p_tenant_id uuid, p_address text, p_topic text) RETURNS boolean
    LANGUAGE sql STABLE
    SET search_path TO ''
    AS $$
  select
    exists (
      select
      from
        public.contact_topic_optouts as o
        inner join public.contact_topics as t on t.tenant_id = o.tenant_id and t.id = o.topic_id
      where
        o.tenant_id = p_tenant_id
        and o.address_key = lower(btrim(p_address))
        and (t.code = p_topic or p_topic = any (t.campaign_codes))
    );
$$;

COMMENT ON FUNCTION brainops_internal.topic_opted_out(p_tenant_id uuid, p_address text, p_topic text) IS 'Whether the person does not want this topic, or the topic that this campaign belongs to.';

CREATE FUNCTION brainops_internal.touch_type_of(p_kind text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path TO ''
    AS $$
  select
    case p_kind
      when 'send_email' then 'email'
      when 'send_sms' then 'sms'
      else p_kind
    end;
$$;

COMMENT ON FUNCTION brainops_internal.touch_type_of(p_kind text) IS 'What a touch of a step of this kind is called.';

CREATE FUNCTION brainops_internal.touch_updated_at() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
begin
  new.updated_at := brainops.now();
  return new;
end;
$$;

CREATE FUNCTION brainops_internal.unbegin_sms() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
begin
  new.text_sent := null;
  return new;
end;
$$;

CREATE FUNCTION brainops_internal.unclaim(p_table text, p_ids uuid[], p_lease uuid) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $_$
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
$_$;

COMMENT ON FUNCTION brainops_internal.unclaim(p_table text, p_ids uuid[], p_lease uuid) IS 'Gives rows back that a worker claimed without hearing so; only for rows whose effect has not begun.';

CREATE FUNCTION brainops_internal.unconfirmed_sms(p_limit integer) RETURNS TABLE(account_sid text, number text, since timestamp with time zone, tenant_ids uuid[])
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
declare
  v_now constant timestamptz := brainops.now();
begin
  perform brainops_internal.settle_sms_by_callbacks(told.tenant_id, told.id)
  from (
    select q.tenant_id, q.id
    from public.ai_sms_queue as q
    where q.status = 'unconfirmed'
      and exists (
        select from public.sms_deliveries as d
        where d.tenant_id = q.tenant_id and d.sms_id = q.id and d.provider_message_id <> all (q.earlier_message_ids)
      )
    limit p_limit
  ) as told;
  return query
    with
      due as (
        select
          q.account_sid,
          q.to_number as number,
          min(q.started_at) - interval '2 minutes' as since,
          array_agg(distinct q.tenant_id) as tenant_ids
        from public.ai_sms_queue as q
        where q.status = 'unconfirmed'
          and q.account_sid is not null
          -- Later than that a person has to look: Twilio's list is not read that far back.
          and q.started_at between v_now - interval '3 days' and v_now - interval '1 minute'
          -- Ever more seldom: what is not clear by now may stay so.
          and (q.looked_for_at is null or q.looked_for_at < v_now - (v_now - q.started_at) / 4)
        group by q.account_sid, q.to_number
        order by max(q.looked_for_at) nulls first, min(q.started_at)
        limit p_limit
      ),
      -- Here already, so that a list that can't be had does not stand before all others.
      looked_for as (
        update public.ai_sms_queue as q
        set looked_for_at = v_now
        from due
        where q.account_sid = due.account_sid and q.to_number = due.number and q.status = 'unconfirmed'
      )
    select due.account_sid, due.number, due.since, due.tenant_ids from due;
end;
$$;

COMMENT ON FUNCTION brainops_internal.unconfirmed_sms(p_limit integer) IS 'Which lists of Twilio''s to ask for: through which account texts with a lost outcome went, to whom, and since when; once callbacks have settled what they can.';

CREATE FUNCTION brainops_internal.unexplained_messages(p_messages jsonb, p_id uuid, p_since timestamp with time zone) RETURNS TABLE(sid text, body text, created_at timestamp with time zone)
    LANGUAGE sql STABLE
    SET search_path TO ''
    AS $$
  select m.sid, m.body, m.created_at
  from jsonb_to_recordset(p_messages) as m (sid text, body text, created_at timestamptz)
  where
    m.created_at >= p_since
    and not exists (
      select
      from public.ai_sms_queue as q
      where q.provider_message_id = m.sid
    )
    and not exists (
      select
      from public.ai_sms_queue as q
      where q.earlier_message_ids <> '{}' and q.earlier_message_ids @> array[m.sid]
    )
    and not exists (
      select
      from public.sms_deliveries as d
      where d.provider_message_id = m.sid and d.sms_id is distinct from p_id
    );
$$;

CREATE FUNCTION brainops_internal.unsubscribe(p_token text) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  v_link public.email_unsubscribe_links;
begin
  -- Two words at once are said one after the other.
  select * into v_link from public.email_unsubscribe_links where token = p_token for no key update;
  if not found then
    return false;
  end if;
  perform brainops_internal.stop_mail(v_link.tenant_id, v_link.address_key, 'unsubscribe_link');
  return true;
end;
$$;

COMMENT ON FUNCTION brainops_internal.unsubscribe(p_token text) IS 'Suppresses the address of an unsubscribe link; false for an unknown token.';

CREATE FUNCTION brainops_internal.unsubscribe_token(p_tenant_id uuid, p_address text) RETURNS text
    LANGUAGE sql
    SET search_path TO ''
    AS $$
  select k.token from brainops_internal.unsubscribe_tokens(p_tenant_id, array[p_address]) as k;
$$;

COMMENT ON FUNCTION brainops_internal.unsubscribe_token(p_tenant_id uuid, p_address text) IS 'The token of the recipient''s unsubscribe link; made when first asked for.';

CREATE FUNCTION brainops_internal.unsubscribe_tokens(p_tenant_id uuid, p_addresses text[]) RETURNS TABLE(address_key text, token text)
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
#variable_conflict use_column
declare
  -- In one order for everyone, so that two who make links never wait for each other crosswise.
  v_missing text[] := array(
    select distinct lower(btrim(a)) collate "C" from unnest(p_addresses) as a where a is not null order by 1
  );
  v_keys text[];
  v_tokens text[];
  v_found text[];
  v_found_tokens text[];
begin
  -- A second time only where another makes a link in this very moment: its row can be seen then.
  while v_missing <> '{}' loop
    with
      known as materialized (
        select l.address_key, l.token
        from public.email_unsubscribe_links as l
        where l.tenant_id = p_tenant_id and l.address_key = any (v_missing)
      ),
      made as (
        insert into public.email_unsubscribe_links (tenant_id, address_key)
        select p_tenant_id, k from unnest(v_missing) as k where k not in (select address_key from known)
        on conflict (tenant_id, address_key) do nothing
        returning address_key, token
      )
    select array_agg(a.address_key), array_agg(a.token)
      into v_found, v_found_tokens
      from (select * from known union all select * from made) as a;
    v_keys := v_keys || v_found;
    v_tokens := v_tokens || v_found_tokens;
    v_missing := array(select k from unnest(v_missing) as k where k not in (select unnest(v_found)));
  end loop;
  return query select * from unnest(v_keys, v_tokens);
end;
$$;

COMMENT ON FUNCTION brainops_internal.unsubscribe_tokens(p_tenant_id uuid, p_addresses text[]) IS 'The tokens of the recipients'' unsubscribe links, one row for each address (address_key: in lower case); made when first asked for.';

CREATE FUNCTION brainops_internal.uuid_or_null(p_text text) RETURNS uuid
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $_$
  select
    case
      when pg_catalog.octet_length(p_text) operator(pg_catalog.>=) 32
      and pg_catalog.octet_length(p_text) operator(pg_catalog.<=) 36
      and p_text operator(pg_catalog.~*) '^[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}$' then p_text::pg_catalog.uuid
    end;
$_$;

COMMENT ON FUNCTION brainops_internal.uuid_or_null(p_text text) IS 'The uuid that the text spells, or null: never an error.';

CREATE FUNCTION brainops_internal.wake_notifications() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  v_tenant_id uuid := case when tg_table_name = 'tenants' then to_jsonb(new) ->> 'id' else to_jsonb(new) ->> 'tenant_id' end;
begin
  update public.tenant_notifications
  set scheduled_for = brainops.now()
  where tenant_id = v_tenant_id and status = 'pending' and last_error like 'waiting:%';
  return null;
end;
$$;

CREATE FUNCTION brainops_internal.wake_onboarding_mail(p_step public.ai_onboarding_steps) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
declare
  v_mail public.ai_email_queue;
  v_problem text;
begin
  update public.ai_email_queue
  set status = 'pending'
  where tenant_id = (p_step).tenant_id and id = (p_step).email_id and status = 'cancelled' and sent_at is null;
  if found then
    return;
  end if;
  select * into v_mail from public.ai_email_queue where tenant_id = (p_step).tenant_id and id = (p_step).email_id;
  if v_mail.status in ('failed', 'skipped', 'unconfirmed') then
    v_problem := format('its mail is %s: %s', v_mail.status, coalesce(v_mail.skip_reason, v_mail.last_error, 'no reason given'));
  elsif v_mail.id is null and not exists (
    select from brainops.job_archive as a
    where a.tenant_id = (p_step).tenant_id and a.row_id = (p_step).email_id and a.status = 'completed'
  ) then
    v_problem := 'its mail was not sent and is no longer in the queue: write to the lead, then complete the step';
  end if;
  if v_problem is not null then
    update public.ai_onboarding_steps set problem = v_problem where tenant_id = (p_step).tenant_id and id = (p_step).id;
  end if;
end;
$$;

COMMENT ON FUNCTION brainops_internal.wake_onboarding_mail(p_step public.ai_onboarding_steps) IS 'Queues the cancelled mail of a step that begins again; where it cannot go, the step says so.';

CREATE FUNCTION brainops_internal.wake_rows(p_table text, p_tenant_id uuid DEFAULT NULL::uuid) RETURNS integer
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
declare
  v_job brainops.job_tables;
begin
  select * into strict v_job from brainops.job_tables as j where j.table_name = p_table;
  return brainops_internal.requeue(v_job, p_tenant_id, 10000);
end;
$$;

COMMENT ON FUNCTION brainops_internal.wake_rows(p_table text, p_tenant_id uuid) IS 'Sets the due rows of a table going that waited for an account: of one tenant, or (null) of all. 10,000 at once; the sweep brings the rest.';

CREATE FUNCTION brainops_internal.wake_stripe_events(p_account text, p_tenant_id uuid, p_ids text[]) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
declare
  v_event_ids text[];
  v_row public.webhook_events;
  v_reason text;
  v_error text;
begin
  select array_agg(distinct event_id) into v_event_ids
    from brainops.waiting_stripe_events
    where account = p_account and object_id = any (p_ids);
  if v_event_ids is null then
    return;
  end if;
  delete from brainops.waiting_stripe_events where account = p_account and event_id = any (v_event_ids);
  for v_row in
    select * from public.webhook_events
    where provider = 'stripe' and provider_event_id = any (v_event_ids) and tenant_id is not distinct from p_tenant_id and status <> 'pending'
    order by (payload ->> 'created')::bigint, provider_event_id
    for update
  loop
    v_error := null;
    begin
      v_reason := brainops_internal.apply_stripe_event(v_row.payload, p_tenant_id);
    exception
      when others then v_error := sqlerrm;
    end;
    -- It waits for nothing any more, so whatever failed may pass: pending gives it a job (process_again),
    -- and brainops_internal.process_webhook_events gives it up after three attempts.
    update public.webhook_events
    set
      status = case when v_error is not null then 'pending' when v_reason is null then 'completed' else 'skipped' end,
      skip_reason = case when v_error is null then v_reason end,
      last_error = v_error,
      processed_at = case when v_error is null then brainops.now() end
    where id = v_row.id;
  end loop;
end;
$$;

COMMENT ON FUNCTION brainops_internal.wake_stripe_events(p_account text, p_tenant_id uuid, p_ids text[]) IS 'Applies the events that waited for one of these ids; one that fails goes back to pending.';

CREATE FUNCTION brainops_internal.watch_workers(p_self uuid) RETURNS TABLE(worker_id uuid, host text, pid integer, rescued_rows integer)
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
declare
  c_patience constant interval := '3 seconds';
  v_worker brainops.worker_processes;
  v_job brainops.job_tables;
begin
  update brainops.worker_processes set last_seen_at = brainops.now() where id = p_self;

  for v_worker in
    select * from brainops.worker_processes as w
    where w.id is distinct from p_self and not brainops_internal.worker_is_alive(w.number, w.backend_pid)
    for update skip locked
  loop
    -- After a restart of Postgres every worker has lost its lock: let it take it up again first.
    if v_worker.suspect_since is null or v_worker.suspect_since < pg_postmaster_start_time() then
      update brainops.worker_processes set suspect_since = clock_timestamp() where id = v_worker.id;
      continue;
    end if;
    continue when v_worker.suspect_since > clock_timestamp() - c_patience;

    worker_id := v_worker.id;
    host := v_worker.host;
    pid := v_worker.pid;
    rescued_rows := 0;
    for v_job in select * from brainops.job_tables
    loop
      rescued_rows := rescued_rows + brainops_internal.settle_abandoned_rows(
        v_job, v_worker.id, '0', format('its worker (%s, process %s) died while the row was in its hands', v_worker.host, v_worker.pid)
      );
    end loop;
    perform graphile_worker.force_unlock_workers(v_worker.pool_ids);
    delete from brainops.worker_processes where id = v_worker.id;
    return next;
  end loop;
end;
$$;

COMMENT ON FUNCTION brainops_internal.watch_workers(p_self uuid) IS 'Gives up on workers that lost their lock: unlocks their graphile-worker jobs, settles their rows. Called by every worker every second.';

CREATE FUNCTION brainops_internal.webhook_event_id(p_provider text, p_event jsonb) RETURNS text
    LANGUAGE sql IMMUTABLE
    SET search_path TO ''
    AS $$
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

COMMENT ON FUNCTION brainops_internal.webhook_event_id(p_provider text, p_event jsonb) IS 'What an event is known by: sg_event_id, Stripe''s id, event_id (made by our own route for Twilio), else md5: of its contents.';

CREATE FUNCTION brainops_internal.webhook_event_row(p_provider text, p_event jsonb) RETURNS uuid
    LANGUAGE sql IMMUTABLE
    SET search_path TO ''
    AS $$
  select
    brainops_internal.uuid_or_null(
      p_event ->> case p_provider
        when 'sendgrid' then 'bo_msg'
        when 'twilio' then 'row'
      end
    );
$$;

COMMENT ON FUNCTION brainops_internal.webhook_event_row(p_provider text, p_event jsonb) IS 'The id of the job row that an event says it is about; null where it says none.';

CREATE FUNCTION brainops_internal.webhook_time(p_event jsonb) RETURNS timestamp with time zone
    LANGUAGE plpgsql STABLE
    SET search_path TO ''
    AS $$
begin
  return coalesce((p_event ->> 'received_at')::timestamptz, brainops.now());
exception
  when data_exception then return brainops.now();
end;
$$;

CREATE FUNCTION brainops_internal.worker_is_alive(p_number integer, p_backend_pid integer) RETURNS boolean
    LANGUAGE sql STABLE
    SET search_path TO ''
    AS $$
  select
    case
      when current_setting('brainops.embedded', true) = 'on' then exists (
        select from brainops.embedded_connections where worker_number = p_number
      )
      else exists (
        select
        from pg_catalog.pg_locks
        where
          locktype = 'advisory'
          and database = (select oid from pg_catalog.pg_database where datname = current_database())
          and classid = brainops_internal.liveness_class()::oid
          and objid = p_number::oid
          and objsubid = 2
          and granted
          and pid = p_backend_pid
      )
    end;
$$;

COMMENT ON FUNCTION brainops_internal.worker_is_alive(p_number integer, p_backend_pid integer) IS 'Whether the connection that the worker was announced on still holds its lock.';

CREATE FUNCTION brainops_internal.zone_opening(p_at timestamp with time zone, p_zone text, p_opens time without time zone[], p_closes time without time zone[]) RETURNS tstzrange
    LANGUAGE plpgsql STABLE PARALLEL SAFE
    SET search_path TO ''
    SET "TimeZone" TO 'UTC'
    AS $$
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
      v_to := brainops_internal.offset_change(v_at, v_to, p_zone);
    end if;
    if v_start <= v_wall then
      return tstzrange(v_at, v_to);
    end if;
    v_at := v_to;
  end loop;
  return null;
end;
$$;

COMMENT ON FUNCTION brainops_internal.zone_opening(p_at timestamp with time zone, p_zone text, p_opens time without time zone[], p_closes time without time zone[]) IS 'From when, at or after an instant, one zone''s clock stands inside the hours, and until when at least.';

CREATE TABLE brainops.circuit_breakers (
    sender text NOT NULL,
    failures integer DEFAULT 0 NOT NULL,
    opened_at timestamp with time zone,
    retry_at timestamp with time zone,
    current_delay interval,
    probe_expires_at timestamp with time zone,
    last_error text,
    threshold integer DEFAULT 5 NOT NULL,
    base_delay interval DEFAULT '00:00:15'::interval NOT NULL,
    max_delay interval DEFAULT '00:10:00'::interval NOT NULL,
    CONSTRAINT circuit_breakers_open_has_retry CHECK (((opened_at IS NULL) = (retry_at IS NULL))),
    CONSTRAINT circuit_breakers_threshold_positive CHECK ((threshold >= 1))
);

ALTER TABLE ONLY brainops.circuit_breakers FORCE ROW LEVEL SECURITY;

COMMENT ON TABLE brainops.circuit_breakers IS 'One row for each sender that has ever failed. Read it through brainops.breakers.';

COMMENT ON COLUMN brainops.circuit_breakers.failures IS 'Failures in a row; a success sets it to 0.';

COMMENT ON COLUMN brainops.circuit_breakers.retry_at IS 'While open: from then on a single row may try.';

COMMENT ON COLUMN brainops.circuit_breakers.current_delay IS 'How long it waited before its last try; twice as long after the next failure, up to max_delay.';

COMMENT ON COLUMN brainops.circuit_breakers.probe_expires_at IS 'While a row tries: until when no other may. A worker that dies while it probes loses the lease then.';

CREATE VIEW brainops.breakers WITH (security_invoker='true') AS
 SELECT sender,
        CASE
            WHEN (opened_at IS NULL) THEN 'closed'::text
            WHEN (probe_expires_at > brainops.now()) THEN 'half_open'::text
            ELSE 'open'::text
        END AS state,
    failures,
    opened_at,
    retry_at,
    last_error
   FROM brainops.circuit_breakers;

COMMENT ON VIEW brainops.breakers IS 'The circuit breakers: closed (all goes), open (nothing before retry_at), half_open (one row tries).';

CREATE TABLE public.ai_broadcasts (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    tenant_id uuid DEFAULT (NULLIF(current_setting('brainops.statement_tenant'::text, true), ''::text))::uuid NOT NULL,
    name text,
    audience text,
    template text,
    subject text NOT NULL,
    body text NOT NULL,
    metadata jsonb DEFAULT '{}'::jsonb NOT NULL,
    status text DEFAULT 'draft'::text NOT NULL,
    created_at timestamp with time zone DEFAULT brainops.now() NOT NULL,
    launched_at timestamp with time zone,
    CONSTRAINT ai_broadcasts_launched CHECK (((status <> 'active'::text) OR (launched_at IS NOT NULL))),
    CONSTRAINT ai_broadcasts_metadata_is_object CHECK ((jsonb_typeof(metadata) = 'object'::text)),
    CONSTRAINT ai_broadcasts_status_known CHECK ((status = ANY (ARRAY['draft'::text, 'active'::text, 'paused'::text, 'cancelled'::text])))
);

ALTER TABLE ONLY public.ai_broadcasts FORCE ROW LEVEL SECURITY;

COMMENT ON TABLE public.ai_broadcasts IS 'One mail to many people. Recipients are rows of ai_email_queue with broadcast_id; up to 1,000 of them go out in one call. brainops.broadcast_results counts them.';

COMMENT ON COLUMN public.ai_broadcasts.name IS 'For people; null for none.';

COMMENT ON COLUMN public.ai_broadcasts.audience IS 'Whom it is for, in words; brainops.broadcast_to_leads writes its condition here. Null for none.';

COMMENT ON COLUMN public.ai_broadcasts.template IS 'Name of a template of ai_campaign_templates: subject and body are copied from its newest version. Null for none.';

COMMENT ON COLUMN public.ai_broadcasts.subject IS 'Liquid, as in ai_email_queue; fixed once the broadcast was launched, as body and metadata are.';

COMMENT ON COLUMN public.ai_broadcasts.metadata IS 'Variables for Liquid, below those of each row; and reply_to, category. At most 256 KiB.';

COMMENT ON COLUMN public.ai_broadcasts.status IS 'draft: recipients wait (awaiting_approval). active: they go. paused: they wait again. cancelled: those left are cancelled, for good.';

COMMENT ON COLUMN public.ai_broadcasts.launched_at IS 'When it first became active; null before.';

CREATE TABLE public.ai_email_queue (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    tenant_id uuid DEFAULT (NULLIF(current_setting('brainops.statement_tenant'::text, true), ''::text))::uuid NOT NULL,
    recipient text NOT NULL,
    subject text,
    body text,
    scheduled_for timestamp with time zone DEFAULT now() NOT NULL,
    status text DEFAULT 'pending'::text NOT NULL,
    metadata jsonb DEFAULT '{}'::jsonb NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    sent_at timestamp with time zone,
    lead_id uuid,
    provider_message_id text,
    enrolment_id uuid,
    touch_id uuid,
    broadcast_id uuid,
    first_due_at timestamp with time zone,
    recipient_key text GENERATED ALWAYS AS (lower(recipient)) STORED NOT NULL COLLATE pg_catalog."C",
    is_marketing boolean GENERATED ALWAYS AS (((COALESCE((metadata ->> 'marketing'::text), ''::text) = 'true'::text) OR (COALESCE((metadata ->> 'type'::text), ''::text) = 'marketing'::text) OR (enrolment_id IS NOT NULL) OR (broadcast_id IS NOT NULL))) STORED NOT NULL,
    job_priority smallint DEFAULT 0 NOT NULL,
    idempotency_key text,
    attempts integer DEFAULT 0 NOT NULL,
    max_attempts integer DEFAULT 5 NOT NULL,
    deferrals integer DEFAULT 0 NOT NULL,
    last_error text,
    skip_reason text,
    lease uuid,
    worker_id uuid,
    rate_slot timestamp with time zone,
    cancel_requested_at timestamp with time zone,
    started_at timestamp with time zone,
    finished_at timestamp with time zone,
    CONSTRAINT ai_email_queue_attempts_not_negative CHECK ((attempts >= 0)),
    CONSTRAINT ai_email_queue_content CHECK (
CASE
    WHEN (broadcast_id IS NULL) THEN ((subject IS NOT NULL) AND (body IS NOT NULL))
    ELSE ((subject IS NULL) AND (body IS NULL))
END),
    CONSTRAINT ai_email_queue_done_has_finished_at CHECK (((status = ANY (ARRAY['completed'::text, 'failed'::text, 'cancelled'::text, 'skipped'::text])) = (finished_at IS NOT NULL))),
    CONSTRAINT ai_email_queue_job_priority_range CHECK (((job_priority >= '-50'::integer) AND (job_priority <= 50))),
    CONSTRAINT ai_email_queue_max_attempts_range CHECK (((max_attempts >= 1) AND (max_attempts <= 25))),
    CONSTRAINT ai_email_queue_processing_has_lease CHECK (((status = 'processing'::text) = (lease IS NOT NULL))),
    CONSTRAINT ai_email_queue_scheduled_for_finite CHECK (isfinite(scheduled_for)),
    CONSTRAINT ai_email_queue_skipped_has_reason CHECK (((status = 'skipped'::text) = (skip_reason IS NOT NULL))),
    CONSTRAINT ai_email_queue_status_known CHECK ((status = ANY (ARRAY['pending'::text, 'processing'::text, 'completed'::text, 'failed'::text, 'cancelled'::text, 'skipped'::text, 'unconfirmed'::text, 'awaiting_approval'::text])))
)
WITH (fillfactor='80', autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='1000', autovacuum_vacuum_cost_delay='0');

ALTER TABLE ONLY public.ai_email_queue FORCE ROW LEVEL SECURITY;

COMMENT ON TABLE public.ai_email_queue IS 'Insert a row: the mail is sent once, when it is due. status tells how it went, last_error why it waits or failed.';

COMMENT ON COLUMN public.ai_email_queue.recipient IS 'One address, or the id of a lead of the tenant, whose address at the time of sending is taken.';

COMMENT ON COLUMN public.ai_email_queue.subject IS 'Liquid, at most 998 characters. Variables: metadata''s keys, metadata, lead, tenant.';

COMMENT ON COLUMN public.ai_email_queue.body IS 'HTML with Liquid, at most 1 MiB; values are HTML-escaped. The text part is made from it.';

COMMENT ON COLUMN public.ai_email_queue.scheduled_for IS 'Null on insert means now. Update it to move the mail.';

COMMENT ON COLUMN public.ai_email_queue.metadata IS 'Variables for Liquid, and: marketing true (the rules for marketing, unsubscribe headers), expires_at (not to be sent later), priority high, lead_id, reply_to, category. At most 256 KiB, as a recipient of a broadcast 32.';

COMMENT ON COLUMN public.ai_email_queue.sent_at IS 'When the provider took the mail; null until it did.';

COMMENT ON COLUMN public.ai_email_queue.lead_id IS 'Filled from recipient or metadata.lead_id where that is a lead of the tenant.';

COMMENT ON COLUMN public.ai_email_queue.provider_message_id IS 'SendGrid''s X-Message-Id; events carry it before the first dot of sg_message_id.';

COMMENT ON COLUMN public.ai_email_queue.enrolment_id IS 'Row of ai_nurture_campaigns that the mail belongs to; null for none. No foreign key: mails outlive enrolments.';

COMMENT ON COLUMN public.ai_email_queue.touch_id IS 'Row of ai_campaign_touches that made the mail; null for none.';

COMMENT ON COLUMN public.ai_email_queue.broadcast_id IS 'The broadcast that the row is a recipient of; subject and body are the broadcast''s then, and null here.';

COMMENT ON COLUMN public.ai_email_queue.first_due_at IS 'When the mail was due before the engine first put it off; null while it never did. A move by a client, or running it again, starts anew.';

COMMENT ON COLUMN public.ai_email_queue.recipient_key IS 'The recipient in lower case, as a column: behind row level security an index on lower(recipient) is not used.';

COMMENT ON COLUMN public.ai_email_queue.is_marketing IS 'Whether the rules for marketing hold: metadata.marketing true, metadata.type marketing, or a mail of a campaign or broadcast.';

CREATE VIEW brainops.broadcast_results WITH (security_invoker='true') AS
 SELECT b.id,
    b.tenant_id,
    b.name,
    b.status,
    b.launched_at,
    COALESCE(r.recipients, (0)::bigint) AS recipients,
    COALESCE(r.waiting, (0)::bigint) AS waiting,
    COALESCE(r.sent, (0)::bigint) AS sent,
    COALESCE(r.skipped, (0)::bigint) AS skipped,
    COALESCE(r.failed, (0)::bigint) AS failed,
    COALESCE(r.unconfirmed, (0)::bigint) AS unconfirmed,
    COALESCE(r.cancelled, (0)::bigint) AS cancelled
   FROM (public.ai_broadcasts b
     LEFT JOIN ( SELECT q.tenant_id,
            q.broadcast_id,
            count(*) AS recipients,
            count(*) FILTER (WHERE (q.status = ANY (ARRAY['pending'::text, 'processing'::text, 'awaiting_approval'::text]))) AS waiting,
            count(*) FILTER (WHERE (q.status = 'completed'::text)) AS sent,
            count(*) FILTER (WHERE (q.status = 'skipped'::text)) AS skipped,
            count(*) FILTER (WHERE (q.status = 'failed'::text)) AS failed,
            count(*) FILTER (WHERE (q.status = 'unconfirmed'::text)) AS unconfirmed,
            count(*) FILTER (WHERE (q.status = 'cancelled'::text)) AS cancelled
           FROM public.ai_email_queue q
          WHERE (q.broadcast_id IS NOT NULL)
          GROUP BY q.tenant_id, q.broadcast_id) r ON (((r.tenant_id = b.tenant_id) AND (r.broadcast_id = b.id))));

COMMENT ON VIEW brainops.broadcast_results IS 'How each broadcast goes, by the statuses of its recipients that are still in ai_email_queue.';

CREATE TABLE public.campaign_touch_events (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    tenant_id uuid DEFAULT (NULLIF(current_setting('brainops.statement_tenant'::text, true), ''::text))::uuid NOT NULL,
    touch_id uuid NOT NULL,
    event text NOT NULL,
    occurred_at timestamp with time zone NOT NULL,
    detail text,
    CONSTRAINT campaign_touch_events_known CHECK ((event = ANY (ARRAY['sent'::text, 'skipped'::text, 'failed'::text, 'cancelled'::text, 'opened'::text, 'clicked'::text, 'replied'::text, 'bounced'::text, 'unsubscribed'::text, 'complained'::text])))
);

ALTER TABLE ONLY public.campaign_touch_events FORCE ROW LEVEL SECURITY;

COMMENT ON TABLE public.campaign_touch_events IS 'What became of each touch''s message, once each: kept here because queue rows move to the archive.';

COMMENT ON COLUMN public.campaign_touch_events.detail IS 'Why it was skipped, failed or cancelled; else null.';

CREATE VIEW brainops.campaign_results WITH (security_invoker='true') AS
 SELECT t.tenant_id,
    c.code,
    t.version,
    t.step_number,
    t.step_key,
    t.touch_type,
    t.variant,
    count(DISTINCT t.id) AS reached,
    count(DISTINCT t.id) FILTER (WHERE (t.performed_at IS NOT NULL)) AS performed,
    count(*) FILTER (WHERE (e.event = 'sent'::text)) AS sent,
    count(*) FILTER (WHERE (e.event = 'opened'::text)) AS opened,
    count(*) FILTER (WHERE (e.event = 'clicked'::text)) AS clicked,
    count(*) FILTER (WHERE (e.event = 'replied'::text)) AS replied,
    count(*) FILTER (WHERE (e.event = ANY (ARRAY['skipped'::text, 'failed'::text, 'cancelled'::text]))) AS not_sent,
    count(*) FILTER (WHERE (e.event = 'bounced'::text)) AS bounced,
    count(*) FILTER (WHERE (e.event = ANY (ARRAY['unsubscribed'::text, 'complained'::text]))) AS unsubscribed
   FROM (((public.ai_campaign_touches t
     JOIN public.ai_nurture_campaigns n ON (((n.tenant_id = t.tenant_id) AND (n.id = t.campaign_id))))
     JOIN public.campaigns c ON (((c.tenant_id = n.tenant_id) AND (c.id = n.campaign_id))))
     LEFT JOIN public.campaign_touch_events e ON (((e.tenant_id = t.tenant_id) AND (e.touch_id = t.id))))
  WHERE (t.step_key IS NOT NULL)
  GROUP BY t.tenant_id, c.code, t.version, t.step_number, t.step_key, t.touch_type, t.variant;

COMMENT ON VIEW brainops.campaign_results IS 'What came of each step of each campaign: how many reached it, were sent its message, opened, clicked, replied.';

CREATE TABLE brainops.concurrent_migrations (
    name text NOT NULL,
    applied_at timestamp with time zone DEFAULT now() NOT NULL
);

COMMENT ON TABLE brainops.concurrent_migrations IS 'Files of sql/concurrent that brainops migrate has run.';

CREATE TABLE brainops.contact_caps (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    country text NOT NULL,
    state text,
    channel text NOT NULL,
    cap integer NOT NULL,
    cap_window interval NOT NULL,
    source text NOT NULL,
    CONSTRAINT contact_caps_cap_positive CHECK ((cap > 0)),
    CONSTRAINT contact_caps_channel_known CHECK ((channel = ANY (ARRAY['email'::text, 'sms'::text]))),
    CONSTRAINT contact_caps_window_range CHECK (((cap_window >= '01:00:00'::interval) AND (cap_window <= '28 days'::interval)))
);

COMMENT ON TABLE brainops.contact_caps IS 'How often the law lets a business contact one person on a channel; state null: the whole country. State not known: every state''s. Admins may edit it.';

CREATE TABLE brainops.contact_counts (
    tenant_id uuid DEFAULT (NULLIF(current_setting('brainops.statement_tenant'::text, true), ''::text))::uuid NOT NULL,
    channel text NOT NULL,
    hour timestamp with time zone NOT NULL,
    taken integer DEFAULT 0 NOT NULL,
    promised integer DEFAULT 0 NOT NULL
);

ALTER TABLE ONLY brainops.contact_counts FORCE ROW LEVEL SECURITY;

COMMENT ON TABLE brainops.contact_counts IS 'Marketing messages let through under an hourly limit or a warm-up, by hour; its row is the lock. Kept for 3 days.';

COMMENT ON COLUMN brainops.contact_counts.promised IS 'Rows put off to this hour, so that a backlog is spread over the hours that it needs.';

CREATE TABLE brainops.contact_windows (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    country text NOT NULL,
    state text,
    channel text NOT NULL,
    weekdays integer[] DEFAULT '{1,2,3,4,5,6,7}'::integer[] NOT NULL,
    window_from time without time zone NOT NULL,
    window_to time without time zone NOT NULL,
    source text NOT NULL,
    CONSTRAINT contact_windows_channel_known CHECK ((channel = ANY (ARRAY['email'::text, 'sms'::text]))),
    CONSTRAINT contact_windows_weekdays_known CHECK (((weekdays <@ ARRAY[1, 2, 3, 4, 5, 6, 7]) AND (cardinality(weekdays) > 0))),
    CONSTRAINT contact_windows_within_day CHECK ((window_from < window_to))
);

COMMENT ON TABLE brainops.contact_windows IS 'Hours in which the law lets a business contact people, by the recipient''s wall clock. The country''s and the state''s hold together, and the tenant''s own; state not known: every state''s. Admins may edit it.';

COMMENT ON COLUMN brainops.contact_windows.state IS 'Null: the whole country.';

COMMENT ON COLUMN brainops.contact_windows.weekdays IS '1 Monday to 7 Sunday. A state with rows, but none for a day, is closed on that day.';

COMMENT ON COLUMN brainops.contact_windows.source IS 'Where the rule is written.';

CREATE TABLE brainops.currencies (
    code text NOT NULL,
    exponent smallint NOT NULL,
    stripe_exponent smallint NOT NULL,
    stripe_multiple integer DEFAULT 1 NOT NULL,
    CONSTRAINT currencies_code_lower_case CHECK ((code ~ '^[a-z]{3}$'::text)),
    CONSTRAINT currencies_exponent_range CHECK ((((exponent >= 0) AND (exponent <= 4)) AND ((stripe_exponent >= 0) AND (stripe_exponent <= 4)))),
    CONSTRAINT currencies_multiple_positive CHECK ((stripe_multiple >= 1))
);

ALTER TABLE ONLY brainops.currencies FORCE ROW LEVEL SECURITY;

COMMENT ON TABLE brainops.currencies IS 'How many decimals a currency has: by ISO 4217, and in what Stripe takes and reports, which is what amount_minor counts in.';

COMMENT ON COLUMN brainops.currencies.exponent IS 'Digits after the point by ISO 4217.';

COMMENT ON COLUMN brainops.currencies.stripe_exponent IS 'Amount times 10 to this power is what Stripe calls the amount. Differs from ISO 4217 for isk and ugx (0 by ISO, sent as if 2) and mga (2 by ISO, sent as 0).';

COMMENT ON COLUMN brainops.currencies.stripe_multiple IS 'Stripe takes only multiples: 100 where the currency has no decimals but is sent with two, 10 where it has three.';

CREATE TABLE public.onboarding_reminders (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    tenant_id uuid DEFAULT (NULLIF(current_setting('brainops.statement_tenant'::text, true), ''::text))::uuid NOT NULL,
    workflow_id uuid NOT NULL,
    step_id uuid NOT NULL,
    kind text NOT NULL,
    due_at timestamp with time zone NOT NULL,
    scheduled_for timestamp with time zone DEFAULT brainops.now() NOT NULL,
    created_at timestamp with time zone DEFAULT brainops.now() NOT NULL,
    status text DEFAULT 'pending'::text NOT NULL,
    job_priority smallint DEFAULT 0 NOT NULL,
    idempotency_key text,
    attempts integer DEFAULT 0 NOT NULL,
    max_attempts integer DEFAULT 5 NOT NULL,
    deferrals integer DEFAULT 0 NOT NULL,
    last_error text,
    skip_reason text,
    lease uuid,
    worker_id uuid,
    rate_slot timestamp with time zone,
    cancel_requested_at timestamp with time zone,
    started_at timestamp with time zone,
    finished_at timestamp with time zone,
    CONSTRAINT onboarding_reminders_attempts_not_negative CHECK ((attempts >= 0)),
    CONSTRAINT onboarding_reminders_done_has_finished_at CHECK (((status = ANY (ARRAY['completed'::text, 'failed'::text, 'cancelled'::text, 'skipped'::text])) = (finished_at IS NOT NULL))),
    CONSTRAINT onboarding_reminders_job_priority_range CHECK (((job_priority >= '-50'::integer) AND (job_priority <= 50))),
    CONSTRAINT onboarding_reminders_kind_known CHECK ((kind = ANY (ARRAY['reminder'::text, 'escalation'::text]))),
    CONSTRAINT onboarding_reminders_max_attempts_range CHECK (((max_attempts >= 1) AND (max_attempts <= 25))),
    CONSTRAINT onboarding_reminders_processing_has_lease CHECK (((status = 'processing'::text) = (lease IS NOT NULL))),
    CONSTRAINT onboarding_reminders_scheduled_for_finite CHECK (isfinite(scheduled_for)),
    CONSTRAINT onboarding_reminders_skipped_has_reason CHECK (((status = 'skipped'::text) = (skip_reason IS NOT NULL))),
    CONSTRAINT onboarding_reminders_status_known CHECK ((status = ANY (ARRAY['pending'::text, 'processing'::text, 'completed'::text, 'failed'::text, 'cancelled'::text, 'skipped'::text, 'unconfirmed'::text, 'awaiting_approval'::text])))
)
WITH (fillfactor='80', autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='1000', autovacuum_vacuum_cost_delay='0');

ALTER TABLE ONLY public.onboarding_reminders FORCE ROW LEVEL SECURITY;

COMMENT ON TABLE public.onboarding_reminders IS 'When somebody is told about a step that is due: made when it begins, cancelled when it is closed.';

COMMENT ON COLUMN public.onboarding_reminders.kind IS 'reminder: a mail to the customer or the lead''s owner. escalation: the tenant is notified.';

COMMENT ON COLUMN public.onboarding_reminders.due_at IS 'The due date that it is about; another date has other reminders.';

CREATE TABLE public.payment_link_closures (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    tenant_id uuid DEFAULT (NULLIF(current_setting('brainops.statement_tenant'::text, true), ''::text))::uuid NOT NULL,
    payment_request_id uuid NOT NULL,
    key_generation integer NOT NULL,
    stripe_payment_link_id text,
    account uuid,
    reason text NOT NULL,
    status text DEFAULT 'pending'::text NOT NULL,
    scheduled_for timestamp with time zone DEFAULT now() NOT NULL,
    job_priority smallint DEFAULT 0 NOT NULL,
    idempotency_key text,
    attempts integer DEFAULT 0 NOT NULL,
    max_attempts integer DEFAULT 20 NOT NULL,
    deferrals integer DEFAULT 0 NOT NULL,
    last_error text,
    skip_reason text,
    lease uuid,
    worker_id uuid,
    rate_slot timestamp with time zone,
    cancel_requested_at timestamp with time zone,
    started_at timestamp with time zone,
    finished_at timestamp with time zone,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT payment_link_closures_attempts_not_negative CHECK ((attempts >= 0)),
    CONSTRAINT payment_link_closures_done_has_finished_at CHECK (((status = ANY (ARRAY['completed'::text, 'failed'::text, 'cancelled'::text, 'skipped'::text])) = (finished_at IS NOT NULL))),
    CONSTRAINT payment_link_closures_job_priority_range CHECK (((job_priority >= '-50'::integer) AND (job_priority <= 50))),
    CONSTRAINT payment_link_closures_max_attempts_range CHECK (((max_attempts >= 1) AND (max_attempts <= 25))),
    CONSTRAINT payment_link_closures_processing_has_lease CHECK (((status = 'processing'::text) = (lease IS NOT NULL))),
    CONSTRAINT payment_link_closures_reason_known CHECK ((reason = ANY (ARRAY['expired'::text, 'cancelled'::text, 'paid'::text]))),
    CONSTRAINT payment_link_closures_scheduled_for_finite CHECK (isfinite(scheduled_for)),
    CONSTRAINT payment_link_closures_skipped_has_reason CHECK (((status = 'skipped'::text) = (skip_reason IS NOT NULL))),
    CONSTRAINT payment_link_closures_status_known CHECK ((status = ANY (ARRAY['pending'::text, 'processing'::text, 'completed'::text, 'failed'::text, 'cancelled'::text, 'skipped'::text, 'unconfirmed'::text, 'awaiting_approval'::text])))
)
WITH (fillfactor='80', autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='1000', autovacuum_vacuum_cost_delay='0');

ALTER TABLE ONLY public.payment_link_closures FORCE ROW LEVEL SECURITY;

COMMENT ON TABLE public.payment_link_closures IS 'One row for each payment link: when it is due, the link is switched off. Made with the link, for its expires_at; moved to now when the request is cancelled, or paid by whichever of its links.';

COMMENT ON COLUMN public.payment_link_closures.key_generation IS 'Which of the request''s links.';

COMMENT ON COLUMN public.payment_link_closures.stripe_payment_link_id IS 'Null: nobody knows whether there is one (its making was cut off); it is looked for.';

COMMENT ON COLUMN public.payment_link_closures.account IS 'The tenant''s own credential that the link was made through; null for the installation''s account.';

CREATE TABLE public.tenant_notifications (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    tenant_id uuid DEFAULT (NULLIF(current_setting('brainops.statement_tenant'::text, true), ''::text))::uuid NOT NULL,
    subject text NOT NULL,
    body text NOT NULL,
    lead_id uuid,
    sent_via text,
    sent_at timestamp with time zone,
    scheduled_for timestamp with time zone DEFAULT brainops.now() NOT NULL,
    created_at timestamp with time zone DEFAULT brainops.now() NOT NULL,
    status text DEFAULT 'pending'::text NOT NULL,
    job_priority smallint DEFAULT 0 NOT NULL,
    idempotency_key text,
    attempts integer DEFAULT 0 NOT NULL,
    max_attempts integer DEFAULT 5 NOT NULL,
    deferrals integer DEFAULT 0 NOT NULL,
    last_error text,
    skip_reason text,
    lease uuid,
    worker_id uuid,
    rate_slot timestamp with time zone,
    cancel_requested_at timestamp with time zone,
    started_at timestamp with time zone,
    finished_at timestamp with time zone,
    CONSTRAINT tenant_notifications_attempts_not_negative CHECK ((attempts >= 0)),
    CONSTRAINT tenant_notifications_body_length CHECK (((length(body) >= 1) AND (length(body) <= 20000))),
    CONSTRAINT tenant_notifications_done_has_finished_at CHECK (((status = ANY (ARRAY['completed'::text, 'failed'::text, 'cancelled'::text, 'skipped'::text])) = (finished_at IS NOT NULL))),
    CONSTRAINT tenant_notifications_job_priority_range CHECK (((job_priority >= '-50'::integer) AND (job_priority <= 50))),
    CONSTRAINT tenant_notifications_max_attempts_range CHECK (((max_attempts >= 1) AND (max_attempts <= 25))),
    CONSTRAINT tenant_notifications_processing_has_lease CHECK (((status = 'processing'::text) = (lease IS NOT NULL))),
    CONSTRAINT tenant_notifications_scheduled_for_finite CHECK (isfinite(scheduled_for)),
    CONSTRAINT tenant_notifications_sent_via_known CHECK ((sent_via = ANY (ARRAY['slack'::text, 'email'::text]))),
    CONSTRAINT tenant_notifications_skipped_has_reason CHECK (((status = 'skipped'::text) = (skip_reason IS NOT NULL))),
    CONSTRAINT tenant_notifications_status_known CHECK ((status = ANY (ARRAY['pending'::text, 'processing'::text, 'completed'::text, 'failed'::text, 'cancelled'::text, 'skipped'::text, 'unconfirmed'::text, 'awaiting_approval'::text]))),
    CONSTRAINT tenant_notifications_subject_length CHECK (((length(btrim(subject)) >= 1) AND (length(btrim(subject)) <= 300)))
)
WITH (fillfactor='80', autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='1000', autovacuum_vacuum_cost_delay='0');

ALTER TABLE ONLY public.tenant_notifications FORCE ROW LEVEL SECURITY;

COMMENT ON TABLE public.tenant_notifications IS 'Insert a row: the tenant is told, in its own Slack where it has one (provider_credentials), else by mail to settings.notify_email.';

COMMENT ON COLUMN public.tenant_notifications.body IS 'Plain text.';

COMMENT ON COLUMN public.tenant_notifications.lead_id IS 'The lead that it is about, and is erased with; null for none.';

COMMENT ON COLUMN public.tenant_notifications.sent_via IS 'slack or email; null until it went.';

CREATE VIEW brainops.jobs WITH (security_invoker='true') AS
 SELECT 'ai_campaign_touches'::text AS table_name,
    ai_campaign_touches.id,
    ai_campaign_touches.tenant_id,
    ai_campaign_touches.status,
    ai_campaign_touches.scheduled_for,
    ai_campaign_touches.attempts,
    ai_campaign_touches.max_attempts,
    ai_campaign_touches.deferrals,
    ai_campaign_touches.last_error,
    ai_campaign_touches.skip_reason,
    ai_campaign_touches.job_priority,
    ai_campaign_touches.idempotency_key,
    ai_campaign_touches.worker_id,
    ai_campaign_touches.cancel_requested_at,
    ai_campaign_touches.started_at,
    ai_campaign_touches.finished_at,
    ai_campaign_touches.created_at
   FROM public.ai_campaign_touches
UNION ALL
 SELECT 'ai_email_queue'::text AS table_name,
    ai_email_queue.id,
    ai_email_queue.tenant_id,
    ai_email_queue.status,
    ai_email_queue.scheduled_for,
    ai_email_queue.attempts,
    ai_email_queue.max_attempts,
    ai_email_queue.deferrals,
    ai_email_queue.last_error,
    ai_email_queue.skip_reason,
    ai_email_queue.job_priority,
    ai_email_queue.idempotency_key,
    ai_email_queue.worker_id,
    ai_email_queue.cancel_requested_at,
    ai_email_queue.started_at,
    ai_email_queue.finished_at,
    ai_email_queue.created_at
   FROM public.ai_email_queue
UNION ALL
 SELECT 'ai_sms_queue'::text AS table_name,
    ai_sms_queue.id,
    ai_sms_queue.tenant_id,
    ai_sms_queue.status,
    ai_sms_queue.scheduled_for,
    ai_sms_queue.attempts,
    ai_sms_queue.max_attempts,
    ai_sms_queue.deferrals,
    ai_sms_queue.last_error,
    ai_sms_queue.skip_reason,
    ai_sms_queue.job_priority,
    ai_sms_queue.idempotency_key,
    ai_sms_queue.worker_id,
    ai_sms_queue.cancel_requested_at,
    ai_sms_queue.started_at,
    ai_sms_queue.finished_at,
    ai_sms_queue.created_at
   FROM public.ai_sms_queue
UNION ALL
 SELECT 'onboarding_reminders'::text AS table_name,
    onboarding_reminders.id,
    onboarding_reminders.tenant_id,
    onboarding_reminders.status,
    onboarding_reminders.scheduled_for,
    onboarding_reminders.attempts,
    onboarding_reminders.max_attempts,
    onboarding_reminders.deferrals,
    onboarding_reminders.last_error,
    onboarding_reminders.skip_reason,
    onboarding_reminders.job_priority,
    onboarding_reminders.idempotency_key,
    onboarding_reminders.worker_id,
    onboarding_reminders.cancel_requested_at,
    onboarding_reminders.started_at,
    onboarding_reminders.finished_at,
    onboarding_reminders.created_at
   FROM public.onboarding_reminders
UNION ALL
 SELECT 'payment_link_closures'::text AS table_name,
    payment_link_closures.id,
    payment_link_closures.tenant_id,
    payment_link_closures.status,
    payment_link_closures.scheduled_for,
    payment_link_closures.attempts,
    payment_link_closures.max_attempts,
    payment_link_closures.deferrals,
    payment_link_closures.last_error,
    payment_link_closures.skip_reason,
    payment_link_closures.job_priority,
    payment_link_closures.idempotency_key,
    payment_link_closures.worker_id,
    payment_link_closures.cancel_requested_at,
    payment_link_closures.started_at,
    payment_link_closures.finished_at,
    payment_link_closures.created_at
   FROM public.payment_link_closures
UNION ALL
 SELECT 'payment_requests'::text AS table_name,
    payment_requests.id,
    payment_requests.tenant_id,
    payment_requests.status,
    payment_requests.scheduled_for,
    payment_requests.attempts,
    payment_requests.max_attempts,
    payment_requests.deferrals,
    payment_requests.last_error,
    payment_requests.skip_reason,
    payment_requests.job_priority,
    payment_requests.idempotency_key,
    payment_requests.worker_id,
    payment_requests.cancel_requested_at,
    payment_requests.started_at,
    payment_requests.finished_at,
    payment_requests.created_at
   FROM public.payment_requests
UNION ALL
 SELECT 'tenant_notifications'::text AS table_name,
    tenant_notifications.id,
    tenant_notifications.tenant_id,
    tenant_notifications.status,
    tenant_notifications.scheduled_for,
    tenant_notifications.attempts,
    tenant_notifications.max_attempts,
    tenant_notifications.deferrals,
    tenant_notifications.last_error,
    tenant_notifications.skip_reason,
    tenant_notifications.job_priority,
    tenant_notifications.idempotency_key,
    tenant_notifications.worker_id,
    tenant_notifications.cancel_requested_at,
    tenant_notifications.started_at,
    tenant_notifications.finished_at,
    tenant_notifications.created_at
   FROM public.tenant_notifications;

COMMENT ON VIEW brainops.jobs IS 'The rows of every job table, with the columns they share. Write to the tables themselves, or through brainops.retry, cancel and confirm.';

CREATE VIEW brainops.dead_letters WITH (security_invoker='true') AS
 SELECT table_name,
    id,
    tenant_id,
    status,
    attempts,
    last_error,
    COALESCE(finished_at, started_at) AS since
   FROM brainops.jobs
  WHERE (status = ANY (ARRAY['failed'::text, 'unconfirmed'::text]));

COMMENT ON VIEW brainops.dead_letters IS 'Rows that need a person: failed (brainops.retry) and unconfirmed (brainops.confirm).';

CREATE UNLOGGED TABLE brainops.embedded_connections (
    connection_id text NOT NULL,
    worker_number integer NOT NULL
);

ALTER TABLE ONLY brainops.embedded_connections FORCE ROW LEVEL SECURITY;

COMMENT ON TABLE brainops.embedded_connections IS 'Built-in Postgres only: which connection stands for which worker. Empty elsewhere.';

CREATE TABLE brainops.installation (
    only_row boolean DEFAULT true NOT NULL,
    public_url text,
    announced_at timestamp with time zone DEFAULT brainops.now() NOT NULL,
    CONSTRAINT installation_one_row CHECK (only_row),
    CONSTRAINT installation_public_url_is_url CHECK ((public_url ~ '^https?://'::text))
);

COMMENT ON TABLE brainops.installation IS 'What web servers and workers say of themselves when they start, so that SQL can refuse what could not work.';

COMMENT ON COLUMN brainops.installation.public_url IS 'PUBLIC_URL of the last process that had one; null: none had.';

CREATE TABLE brainops.job_archive (
    tenant_id uuid NOT NULL,
    table_name text NOT NULL,
    row_id uuid NOT NULL,
    status text NOT NULL,
    finished_at timestamp with time zone NOT NULL,
    job_row jsonb NOT NULL,
    archived_at timestamp with time zone DEFAULT now() NOT NULL
)
PARTITION BY RANGE (finished_at);

ALTER TABLE ONLY brainops.job_archive FORCE ROW LEVEL SECURITY;

COMMENT ON TABLE brainops.job_archive IS 'Job rows done for longer than job_tables.archive_after, by month of finished_at.';

COMMENT ON COLUMN brainops.job_archive.job_row IS 'The whole row as it was: jsonb_populate_record(null::ai_email_queue, job_row) gives it back.';

CREATE TABLE brainops.job_events (
    id bigint NOT NULL,
    tenant_id uuid NOT NULL,
    table_name text NOT NULL,
    row_id uuid NOT NULL,
    from_status text NOT NULL,
    to_status text NOT NULL,
    attempt integer NOT NULL,
    detail text,
    changed_by name DEFAULT SESSION_USER NOT NULL,
    at timestamp with time zone DEFAULT now() NOT NULL
)
PARTITION BY RANGE (at);

ALTER TABLE ONLY brainops.job_events FORCE ROW LEVEL SECURITY;

COMMENT ON TABLE brainops.job_events IS 'Every status change of every job row, append only, by month. Retention drops whole months.';

COMMENT ON COLUMN brainops.job_events.detail IS 'last_error or skip_reason as of the change; null where there was none.';

COMMENT ON COLUMN brainops.job_events.changed_by IS 'The login that made the change: a worker''s, a tenant''s or an admin''s.';

ALTER TABLE brainops.job_events ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME brainops.job_events_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE brainops.lead_keys (
    tenant_id uuid DEFAULT (NULLIF(current_setting('brainops.statement_tenant'::text, true), ''::text))::uuid NOT NULL,
    key text NOT NULL,
    lead_id uuid NOT NULL
);

ALTER TABLE ONLY brainops.lead_keys FORCE ROW LEVEL SECURITY;

COMMENT ON TABLE brainops.lead_keys IS 'Which lead an e-mail address or phone number means. Written by triggers alone.';

COMMENT ON COLUMN brainops.lead_keys.key IS 'email:<address in lower case> or phone:<E.164>. Of several leads with one phone number it is the first.';

COMMENT ON COLUMN brainops.lead_keys.lead_id IS 'No foreign key: it is claimed before the lead is there. One whose lead is gone is taken over.';

CREATE TABLE brainops.library_campaigns (
    code text NOT NULL,
    name text NOT NULL,
    description text NOT NULL,
    goal_event text,
    exit_on text[] NOT NULL,
    steps jsonb NOT NULL,
    rule jsonb
);

COMMENT ON TABLE brainops.library_campaigns IS 'Sequences that each new tenant gets in campaigns and campaign_steps.';

COMMENT ON COLUMN brainops.library_campaigns.steps IS 'Rows of campaign_steps, as objects.';

COMMENT ON COLUMN brainops.library_campaigns.rule IS 'Row of campaign_rules that leads into it, as an object; null: nobody enters by himself.';

CREATE TABLE brainops.library_templates (
    name text NOT NULL,
    channel text NOT NULL,
    subject text,
    body text NOT NULL
);

COMMENT ON TABLE brainops.library_templates IS 'Copy that each new tenant gets in ai_campaign_templates.';

CREATE TABLE brainops.migrations_after_applied (
    id bigint NOT NULL,
    index integer NOT NULL,
    name text NOT NULL,
    script text NOT NULL,
    applied_at timestamp with time zone NOT NULL,
    ignored_error text,
    obsolete boolean NOT NULL
);

COMMENT ON TABLE brainops.migrations_after_applied IS 'Files sql/after/NNNN-name.sql as brainops migrate applied them, with their text.';

CREATE SEQUENCE brainops.migrations_after_applied_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

ALTER SEQUENCE brainops.migrations_after_applied_id_seq OWNED BY brainops.migrations_after_applied.id;

CREATE TABLE brainops.migrations_after_version (
    id integer NOT NULL,
    version text
);

COMMENT ON TABLE brainops.migrations_after_version IS 'Format of brainops.migrations_after_applied; @databases/pg-migrations reads it.';

CREATE TABLE brainops.migrations_applied (
    id bigint NOT NULL,
    index integer NOT NULL,
    name text NOT NULL,
    script text NOT NULL,
    applied_at timestamp with time zone NOT NULL,
    ignored_error text,
    obsolete boolean NOT NULL
);

COMMENT ON TABLE brainops.migrations_applied IS 'Files sql/NNNN-name.sql as brainops migrate applied them, with their text.';

CREATE SEQUENCE brainops.migrations_applied_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

ALTER SEQUENCE brainops.migrations_applied_id_seq OWNED BY brainops.migrations_applied.id;

CREATE TABLE brainops.migrations_repeatable (
    path text NOT NULL,
    sha256 text NOT NULL,
    release text NOT NULL,
    applied_at timestamp with time zone NOT NULL
);

COMMENT ON TABLE brainops.migrations_repeatable IS 'Files of sql/functions, sql/tables and sql/views as brainops migrate applied them last; a row is written in the transaction that applies its file.';

CREATE TABLE brainops.migrations_version (
    id integer NOT NULL,
    version text
);

COMMENT ON TABLE brainops.migrations_version IS 'Format of brainops.migrations_applied; @databases/pg-migrations reads it.';

CREATE VIEW brainops.onboarding_progress WITH (security_invoker='true') AS
 SELECT w.id AS workflow_id,
    w.tenant_id,
    w.lead_id,
    l.contact_name,
    l.company_name,
    w.status,
    w.current_step,
    c.step_name AS current_step_name,
    c.due_at,
    COALESCE(((c.due_at < brainops.now()) AND (w.status = 'in_progress'::text) AND (c.status = 'in_progress'::text)), false) AS overdue,
    w.total_steps,
    n.closed AS closed_steps,
        CASE
            WHEN (w.total_steps = 0) THEN 0
            ELSE (LEAST((100)::numeric, round(((100.0 * (n.closed)::numeric) / (w.total_steps)::numeric))))::integer
        END AS percent,
    w.started_at,
    w.completed_at
   FROM (((public.ai_onboarding_workflows w
     JOIN public.revenue_leads l ON (((l.tenant_id = w.tenant_id) AND (l.id = w.lead_id))))
     LEFT JOIN public.ai_onboarding_steps c ON (((c.tenant_id = w.tenant_id) AND (c.workflow_id = w.id) AND (c.step_number = w.current_step))))
     CROSS JOIN LATERAL ( SELECT (count(*) FILTER (WHERE (s.status = ANY (ARRAY['completed'::text, 'skipped'::text, 'cancelled'::text]))))::integer AS closed
           FROM public.ai_onboarding_steps s
          WHERE ((s.tenant_id = w.tenant_id) AND (s.workflow_id = w.id))) n);

COMMENT ON VIEW brainops.onboarding_progress IS 'Each onboarding with its current step, due date and how far it is.';

CREATE TABLE brainops.pauses (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    table_name text NOT NULL,
    tenant_id uuid,
    channel text,
    reason text NOT NULL,
    paused_by name DEFAULT SESSION_USER NOT NULL,
    paused_at timestamp with time zone DEFAULT now() NOT NULL
);

ALTER TABLE ONLY brainops.pauses FORCE ROW LEVEL SECURITY;

COMMENT ON TABLE brainops.pauses IS 'Job tables at a standstill. Rows wait as pending with the reason in last_error; brainops.resume() lets them go on.';

COMMENT ON COLUMN brainops.pauses.tenant_id IS 'Null: every tenant.';

COMMENT ON COLUMN brainops.pauses.channel IS 'Null: whatever the table''s channel.';

CREATE TABLE brainops.phone_zones (
    prefix text NOT NULL,
    country text NOT NULL,
    state text,
    zones text[] NOT NULL,
    CONSTRAINT phone_zones_country_is_code CHECK ((country ~ '^[A-Z]{2}$'::text)),
    CONSTRAINT phone_zones_has_zones CHECK ((cardinality(zones) > 0)),
    CONSTRAINT phone_zones_prefix_is_digits CHECK ((prefix ~ '^[1-9][0-9]{0,6}$'::text)),
    CONSTRAINT phone_zones_state_is_code CHECK ((state ~ '^[A-Z]{2}$'::text))
);

COMMENT ON TABLE brainops.phone_zones IS 'Time zones that a number may lie in, by its longest prefix here; filled by sql/0022. Admins may edit it.';

COMMENT ON COLUMN brainops.phone_zones.prefix IS 'Leading digits of the number in E.164, without +.';

COMMENT ON COLUMN brainops.phone_zones.country IS 'ISO 3166 code of the country whose rules hold; US for its territories too, and for numbers that may be anywhere in it.';

COMMENT ON COLUMN brainops.phone_zones.state IS 'State, territory or province of the US and Canada; null for elsewhere, and where it is not known.';

COMMENT ON COLUMN brainops.phone_zones.zones IS 'IANA names, the most populous first. Zones with the same rules from 2026 on stand there once.';

CREATE TABLE public.webhook_events (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    tenant_id uuid,
    provider text NOT NULL,
    provider_event_id text NOT NULL,
    payload jsonb NOT NULL,
    signature_ok boolean NOT NULL,
    status text DEFAULT 'pending'::text NOT NULL,
    attempts integer DEFAULT 0 NOT NULL,
    last_error text,
    skip_reason text,
    received_at timestamp with time zone DEFAULT now() NOT NULL,
    processed_at timestamp with time zone,
    CONSTRAINT webhook_events_done_has_processed_at CHECK (((status <> 'pending'::text) = (processed_at IS NOT NULL))),
    CONSTRAINT webhook_events_skipped_has_reason CHECK (((status = 'skipped'::text) = (skip_reason IS NOT NULL))),
    CONSTRAINT webhook_events_status_known CHECK ((status = ANY (ARRAY['pending'::text, 'completed'::text, 'failed'::text, 'skipped'::text])))
);

ALTER TABLE ONLY public.webhook_events FORCE ROW LEVEL SECURITY;

COMMENT ON TABLE public.webhook_events IS 'Every event a provider sent, as it came. Set status to pending to process one again.';

COMMENT ON COLUMN public.webhook_events.tenant_id IS 'Whose message the event is about, found by our own id in it; null where that says nothing.';

COMMENT ON COLUMN public.webhook_events.provider_event_id IS 'The provider''s id, or md5:… of the payload where it has none.';

COMMENT ON COLUMN public.webhook_events.signature_ok IS 'Always true: what is not signed is refused before it gets here.';

COMMENT ON COLUMN public.webhook_events.skip_reason IS 'Why an event has no effect, e.g. it is about no message of ours.';

CREATE VIEW brainops.queue_health WITH (security_invoker='true') AS
 SELECT jobs.table_name,
    jobs.tenant_id,
    count(*) FILTER (WHERE ((jobs.status = 'pending'::text) AND (jobs.scheduled_for <= brainops.now()))) AS due,
    count(*) FILTER (WHERE ((jobs.status = 'pending'::text) AND (jobs.scheduled_for > brainops.now()))) AS later,
    count(*) FILTER (WHERE (jobs.status = 'processing'::text)) AS processing,
    count(*) FILTER (WHERE (jobs.status = 'unconfirmed'::text)) AS unconfirmed,
    count(*) FILTER (WHERE (jobs.status = 'awaiting_approval'::text)) AS awaiting_approval,
    count(*) FILTER (WHERE (jobs.status = 'failed'::text)) AS failed,
    (brainops.now() - min(jobs.scheduled_for) FILTER (WHERE ((jobs.status = 'pending'::text) AND (jobs.scheduled_for <= brainops.now())))) AS oldest_due,
    max(jobs.last_error) FILTER (WHERE (jobs.status = 'pending'::text)) AS waiting_for
   FROM brainops.jobs
  WHERE (jobs.status <> ALL (ARRAY['completed'::text, 'cancelled'::text, 'skipped'::text]))
  GROUP BY jobs.table_name, jobs.tenant_id
UNION ALL
 SELECT 'webhook_events'::text AS table_name,
    webhook_events.tenant_id,
    0 AS due,
    0 AS later,
    0 AS processing,
    0 AS unconfirmed,
    0 AS awaiting_approval,
    count(*) AS failed,
    NULL::interval AS oldest_due,
    NULL::text AS waiting_for
   FROM public.webhook_events
  WHERE (webhook_events.status = 'failed'::text)
  GROUP BY webhook_events.tenant_id;

COMMENT ON VIEW brainops.queue_health IS 'For each job table and tenant: what waits, runs and failed, how late the oldest due row is, and one reason that rows wait for. And where webhook_events failed, how many (tenant_id null: nobody knows whose).';

CREATE TABLE brainops.rate_limits (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    tenant_id uuid,
    table_name text NOT NULL,
    per_second numeric NOT NULL,
    burst integer DEFAULT 1 NOT NULL,
    next_slot timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    CONSTRAINT rate_limits_burst_positive CHECK ((burst >= 1)),
    CONSTRAINT rate_limits_per_second_positive CHECK ((per_second > (0)::numeric))
);

ALTER TABLE ONLY brainops.rate_limits FORCE ROW LEVEL SECURITY;

COMMENT ON TABLE brainops.rate_limits IS 'At most per_second rows a second, burst at once: of one tenant, or (tenant_id null) of all together. Admins insert, update and delete.';

COMMENT ON COLUMN brainops.rate_limits.next_slot IS 'When the bucket would be full again: the theoretical arrival time of the GCRA (ITU-T I.371, ATM Forum TM 4.0).';

CREATE TABLE brainops.score_reasons (
    reason text NOT NULL,
    kind text NOT NULL,
    points numeric NOT NULL,
    half_life interval,
    description text NOT NULL,
    CONSTRAINT score_reasons_half_life_positive CHECK ((half_life > '00:00:00'::interval)),
    CONSTRAINT score_reasons_kind_known CHECK ((kind = ANY (ARRAY['fact'::text, 'event'::text])))
);

COMMENT ON TABLE brainops.score_reasons IS 'What scores how much. Points and half-lives may be edited: those of events count for events from then on, those of facts from the next reckoning of each lead.';

COMMENT ON COLUMN brainops.score_reasons.kind IS 'fact: something that the lead''s row says; event: a word in lead_events.';

COMMENT ON COLUMN brainops.score_reasons.half_life IS 'After this time half of the points are left; null: they stay.';

CREATE TABLE brainops.settings (
    name text NOT NULL,
    value interval NOT NULL,
    description text NOT NULL,
    CONSTRAINT settings_value_positive CHECK ((value > '00:00:00'::interval))
);

COMMENT ON TABLE brainops.settings IS 'Durations that admins may edit; description says what each does.';

CREATE TABLE public.sms_deliveries (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    tenant_id uuid DEFAULT (NULLIF(current_setting('brainops.statement_tenant'::text, true), ''::text))::uuid NOT NULL,
    sms_id uuid,
    recipient text NOT NULL,
    event text NOT NULL,
    provider_message_id text,
    error_code integer,
    occurred_at timestamp with time zone NOT NULL,
    metadata jsonb DEFAULT '{}'::jsonb NOT NULL,
    CONSTRAINT sms_deliveries_event_known CHECK ((event = ANY (ARRAY['queued'::text, 'accepted'::text, 'scheduled'::text, 'sending'::text, 'sent'::text, 'delivered'::text, 'read'::text, 'undelivered'::text, 'failed'::text, 'canceled'::text, 'refused'::text])))
);

ALTER TABLE ONLY public.sms_deliveries FORCE ROW LEVEL SECURITY;

COMMENT ON TABLE public.sms_deliveries IS 'What became of each text, as Twilio told it: one row for each status, however often it was told. brainops.sms_results has the last word on each.';

COMMENT ON COLUMN public.sms_deliveries.sms_id IS 'Row of ai_sms_queue (or of the archive, so no foreign key); null where only the MessageSid is known.';

COMMENT ON COLUMN public.sms_deliveries.recipient IS 'In E.164.';

COMMENT ON COLUMN public.sms_deliveries.event IS 'Twilio''s MessageStatus; refused for a text that Twilio would not take at all.';

COMMENT ON COLUMN public.sms_deliveries.error_code IS 'Twilio''s ErrorCode, e.g. 30003; null for none.';

COMMENT ON COLUMN public.sms_deliveries.occurred_at IS 'When we heard of it: Twilio''s callbacks carry no time.';

CREATE VIEW brainops.sms_results WITH (security_invoker='true') AS
 SELECT DISTINCT ON (tenant_id, sms_id, provider_message_id) tenant_id,
    sms_id,
    provider_message_id,
    recipient,
    event AS status,
    error_code,
    occurred_at
   FROM public.sms_deliveries d
  ORDER BY tenant_id, sms_id, provider_message_id, (brainops_internal.sms_status_rank(event)) DESC, occurred_at;

COMMENT ON VIEW brainops.sms_results IS 'The farthest that each text has come, and the error that it ended with.';

CREATE VIEW brainops.stuck_onboarding WITH (security_invoker='true') AS
 SELECT w.id AS workflow_id,
    w.tenant_id,
    w.lead_id,
    s.id AS step_id,
    s.step_number,
    s.step_name,
        CASE
            WHEN (s.id IS NULL) THEN format('no step is in progress: %s of %s steps are there'::text, n.total, w.total_steps)
            WHEN (s.problem IS NOT NULL) THEN s.problem
            ELSE 'overdue'::text
        END AS reason,
        CASE
            WHEN (s.id IS NULL) THEN w.started_at
            WHEN (s.problem IS NOT NULL) THEN s.started_at
            ELSE s.due_at
        END AS since
   FROM ((public.ai_onboarding_workflows w
     LEFT JOIN public.ai_onboarding_steps s ON (((s.tenant_id = w.tenant_id) AND (s.workflow_id = w.id) AND (s.status = 'in_progress'::text))))
     CROSS JOIN LATERAL ( SELECT count(*) AS total
           FROM public.ai_onboarding_steps a
          WHERE ((a.tenant_id = w.tenant_id) AND (a.workflow_id = w.id))) n)
  WHERE ((w.status = 'in_progress'::text) AND ((s.id IS NULL) OR (s.problem IS NOT NULL) OR (s.due_at < brainops.now())));

COMMENT ON VIEW brainops.stuck_onboarding IS 'Onboardings that need a person: a step is overdue, its mail did not go, or there is nothing to go on with. Paused ones are not.';

CREATE TABLE brainops.tenant_logins (
    login name NOT NULL,
    tenant_id uuid NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL
);

ALTER TABLE ONLY brainops.tenant_logins FORCE ROW LEVEL SECURITY;

COMMENT ON TABLE brainops.tenant_logins IS 'Database logins bound to a tenant. Written by brainops.create_login; drop the role and its row together.';

CREATE VIEW brainops.unprotected_tables WITH (security_invoker='true') AS
 SELECT (c.oid)::regclass AS table_name,
        CASE
            WHEN (NOT c.relrowsecurity) THEN 'row level security is off'::text
            WHEN (NOT c.relforcerowsecurity) THEN 'row level security is not forced'::text
            ELSE 'it has no policy'::text
        END AS reason
   FROM (pg_class c
     JOIN pg_attribute a ON (((a.attrelid = c.oid) AND (a.attname = 'tenant_id'::name) AND (NOT a.attisdropped))))
  WHERE ((c.relkind = ANY (ARRAY['r'::"char", 'p'::"char"])) AND (c.relnamespace <> ALL (ARRAY[('pg_catalog'::regnamespace)::oid, ('information_schema'::regnamespace)::oid])) AND ((NOT c.relrowsecurity) OR (NOT c.relforcerowsecurity) OR (NOT (EXISTS ( SELECT
           FROM pg_policy p
          WHERE (p.polrelid = c.oid))))));

COMMENT ON VIEW brainops.unprotected_tables IS 'Tables with a tenant_id and without the guard; brainops.protect_table gives it to them.';

CREATE TABLE brainops.waiting_stripe_events (
    account text NOT NULL,
    object_id text NOT NULL,
    event_id text NOT NULL,
    since timestamp with time zone DEFAULT now() NOT NULL
);

ALTER TABLE ONLY brainops.waiting_stripe_events FORCE ROW LEVEL SECURITY;

COMMENT ON TABLE brainops.waiting_stripe_events IS 'Stripe events whose object is not known yet (a refund before its payment), by the ids that would make it known. Applied then; forgotten after 30 days.';

COMMENT ON COLUMN brainops.waiting_stripe_events.account IS 'The tenant''s id for an event of its own account, platform for one of the installation''s.';

CREATE TABLE brainops.worker_processes (
    id uuid NOT NULL,
    number integer DEFAULT (floor((random() * (2147483647)::double precision)))::integer NOT NULL,
    login name DEFAULT SESSION_USER NOT NULL,
    host text NOT NULL,
    pid integer NOT NULL,
    tasks text[] DEFAULT '{}'::text[] NOT NULL,
    pool_ids text[] DEFAULT '{}'::text[] NOT NULL,
    backend_pid integer,
    suspect_since timestamp with time zone,
    started_at timestamp with time zone DEFAULT now() NOT NULL,
    last_seen_at timestamp with time zone DEFAULT now() NOT NULL
);

ALTER TABLE ONLY brainops.worker_processes FORCE ROW LEVEL SECURITY;

COMMENT ON TABLE brainops.worker_processes IS 'Worker processes by their own word; brainops.workers says which of them are alive.';

COMMENT ON COLUMN brainops.worker_processes.number IS 'Second half of the advisory lock''s key.';

COMMENT ON COLUMN brainops.worker_processes.pool_ids IS 'graphile-worker pools the process has opened: what it may hold jobs by.';

COMMENT ON COLUMN brainops.worker_processes.backend_pid IS 'Server process of the connection that holds the lock. A lock held by any other does not count, so no tenant can keep a dead worker alive.';

CREATE VIEW brainops.workers WITH (security_invoker='true') AS
 SELECT id,
    host,
    pid,
    login,
    tasks,
        CASE
            WHEN brainops_internal.worker_is_alive(number, backend_pid) THEN 'alive'::text
            WHEN (suspect_since IS NOT NULL) THEN 'suspect'::text
            ELSE 'unknown'::text
        END AS state,
    started_at,
    last_seen_at
   FROM brainops.worker_processes;

COMMENT ON VIEW brainops.workers IS 'Worker processes and whether they live: alive (holds its lock), suspect (lost it, about to be given up), unknown.';

CREATE TABLE public.ai_campaign_templates (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    tenant_id uuid DEFAULT (NULLIF(current_setting('brainops.statement_tenant'::text, true), ''::text))::uuid NOT NULL,
    name text NOT NULL,
    channel text DEFAULT 'email'::text NOT NULL,
    subject text,
    body text NOT NULL,
    version integer NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT ai_campaign_templates_body_given CHECK ((btrim(body) <> ''::text)),
    CONSTRAINT ai_campaign_templates_channel_known CHECK ((channel = ANY (ARRAY['email'::text, 'sms'::text]))),
    CONSTRAINT ai_campaign_templates_name_given CHECK (((length(name) >= 1) AND (length(name) <= 200))),
    CONSTRAINT ai_campaign_templates_subject_of_mail CHECK (((channel <> 'email'::text) OR (btrim(COALESCE(subject, ''::text)) <> ''::text))),
    CONSTRAINT ai_campaign_templates_version_positive CHECK ((version >= 1))
);

ALTER TABLE ONLY public.ai_campaign_templates FORCE ROW LEVEL SECURITY;

COMMENT ON TABLE public.ai_campaign_templates IS 'Copy of campaigns, in Liquid. To change one, insert it again: the newest version is taken by the next touch; what a person was sent stays on record.';

COMMENT ON COLUMN public.ai_campaign_templates.version IS 'Left out: one more than the newest of that name and channel.';

CREATE TABLE public.campaign_split_winners (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    tenant_id uuid DEFAULT (NULLIF(current_setting('brainops.statement_tenant'::text, true), ''::text))::uuid NOT NULL,
    campaign_id uuid NOT NULL,
    version integer NOT NULL,
    step_key text NOT NULL,
    variant text NOT NULL,
    decided_at timestamp with time zone DEFAULT now() NOT NULL,
    figures jsonb DEFAULT '{}'::jsonb NOT NULL
);

ALTER TABLE ONLY public.campaign_split_winners FORCE ROW LEVEL SECURITY;

COMMENT ON TABLE public.campaign_split_winners IS 'The variant that won a split; who comes to the split from then on takes it. Insert a row to decide by hand, delete it to go on testing.';

COMMENT ON COLUMN public.campaign_split_winners.figures IS 'Touches and rate of each variant when it was decided.';

CREATE TABLE public.contact_consents (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    tenant_id uuid DEFAULT (NULLIF(current_setting('brainops.statement_tenant'::text, true), ''::text))::uuid NOT NULL,
    lead_id uuid,
    channel text NOT NULL,
    address text NOT NULL,
    address_key text GENERATED ALWAYS AS (lower(btrim(address))) STORED NOT NULL,
    state text NOT NULL,
    source text DEFAULT 'client'::text NOT NULL,
    evidence jsonb DEFAULT '{}'::jsonb NOT NULL,
    occurred_at timestamp with time zone DEFAULT brainops.now() NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT contact_consents_address_given CHECK ((btrim(address) <> ''::text)),
    CONSTRAINT contact_consents_channel_known CHECK ((channel = ANY (ARRAY['email'::text, 'sms'::text]))),
    CONSTRAINT contact_consents_evidence_is_object CHECK ((jsonb_typeof(evidence) = 'object'::text)),
    CONSTRAINT contact_consents_state_known CHECK ((state = ANY (ARRAY['granted'::text, 'denied'::text, 'pending'::text])))
);

ALTER TABLE ONLY public.contact_consents FORCE ROW LEVEL SECURITY;

COMMENT ON TABLE public.contact_consents IS 'What people said about being written to, append only: the last word about an address counts.';

COMMENT ON COLUMN public.contact_consents.address IS 'An e-mail address, or a phone number; a number is kept as E.164, whichever way it was written.';

COMMENT ON COLUMN public.contact_consents.state IS 'granted, denied, or pending: asked to confirm (double opt-in) and not answered yet.';

COMMENT ON COLUMN public.contact_consents.source IS 'Where it was said: form, import, inbound_sms, double_opt_in, client, ….';

COMMENT ON COLUMN public.contact_consents.evidence IS 'What shows it: words, page, ip, …. confirmed_at marks a granted word as confirmed by the person (double opt-in).';

COMMENT ON COLUMN public.contact_consents.occurred_at IS 'When it was said. Of two words at one instant denied counts.';

CREATE TABLE public.contact_suppressions (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    tenant_id uuid DEFAULT (NULLIF(current_setting('brainops.statement_tenant'::text, true), ''::text))::uuid NOT NULL,
    channel text DEFAULT 'email'::text NOT NULL,
    address text NOT NULL,
    address_key text GENERATED ALWAYS AS (lower(btrim(address))) STORED NOT NULL,
    reason text DEFAULT 'manual'::text NOT NULL,
    source text DEFAULT 'client'::text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    expires_at timestamp with time zone,
    CONSTRAINT contact_suppressions_address_given CHECK ((btrim(address) <> ''::text)),
    CONSTRAINT contact_suppressions_channel_known CHECK ((channel = ANY (ARRAY['email'::text, 'sms'::text])))
);

ALTER TABLE ONLY public.contact_suppressions FORCE ROW LEVEL SECURITY;

COMMENT ON TABLE public.contact_suppressions IS 'Whom not to write to. Asked at the moment of each send, so it counts for what is queued already.';

COMMENT ON COLUMN public.contact_suppressions.address IS 'An e-mail address, or a phone number; a number is kept as E.164, whichever way it was written.';

COMMENT ON COLUMN public.contact_suppressions.reason IS 'bounced, complained, unsubscribed, forgotten, manual, or a word of your own.';

COMMENT ON COLUMN public.contact_suppressions.source IS 'Who said so: sendgrid, unsubscribe_link, client, ….';

COMMENT ON COLUMN public.contact_suppressions.expires_at IS 'Null: for ever.';

CREATE TABLE public.contact_topic_optouts (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    tenant_id uuid DEFAULT (NULLIF(current_setting('brainops.statement_tenant'::text, true), ''::text))::uuid NOT NULL,
    topic_id uuid NOT NULL,
    address_key text NOT NULL,
    created_at timestamp with time zone DEFAULT brainops.now() NOT NULL
);

ALTER TABLE ONLY public.contact_topic_optouts FORCE ROW LEVEL SECURITY;

COMMENT ON TABLE public.contact_topic_optouts IS 'Topics that a person does not want by e-mail. Ends running enrolments of the topic''s campaigns and keeps new ones from beginning.';

CREATE TABLE public.contact_topics (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    tenant_id uuid DEFAULT (NULLIF(current_setting('brainops.statement_tenant'::text, true), ''::text))::uuid NOT NULL,
    code text NOT NULL,
    name text NOT NULL,
    description text DEFAULT ''::text NOT NULL,
    campaign_codes text[] DEFAULT '{}'::text[] NOT NULL,
    created_at timestamp with time zone DEFAULT brainops.now() NOT NULL,
    CONSTRAINT contact_topics_code_is_word CHECK ((code ~ '^[a-z][a-z0-9_]{0,62}$'::text)),
    CONSTRAINT contact_topics_name_length CHECK (((length(btrim(name)) >= 1) AND (length(btrim(name)) <= 100)))
);

ALTER TABLE ONLY public.contact_topics FORCE ROW LEVEL SECURITY;

COMMENT ON TABLE public.contact_topics IS 'What a person may choose on the preference page, beside all or nothing. Without rows the page offers just that.';

COMMENT ON COLUMN public.contact_topics.campaign_codes IS 'Campaigns that belong to the topic, beside the one that is called as the topic is.';

CREATE TABLE public.email_bounces (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    tenant_id uuid DEFAULT (NULLIF(current_setting('brainops.statement_tenant'::text, true), ''::text))::uuid NOT NULL,
    recipient text NOT NULL,
    bounce_type text NOT NULL,
    reason text,
    occurred_at timestamp with time zone DEFAULT now() NOT NULL,
    email_id uuid,
    CONSTRAINT email_bounces_type_known CHECK ((bounce_type = ANY (ARRAY['hard'::text, 'soft'::text])))
);

ALTER TABLE ONLY public.email_bounces FORCE ROW LEVEL SECURITY;

COMMENT ON TABLE public.email_bounces IS 'Mails that came back. A hard bounce suppresses the address.';

COMMENT ON COLUMN public.email_bounces.bounce_type IS 'hard: the address does not exist or is closed. soft: blocked or full now, may work later.';

CREATE TABLE public.email_deliveries (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    tenant_id uuid DEFAULT (NULLIF(current_setting('brainops.statement_tenant'::text, true), ''::text))::uuid NOT NULL,
    email_id uuid,
    recipient text NOT NULL,
    event text NOT NULL,
    provider_message_id text,
    occurred_at timestamp with time zone NOT NULL,
    metadata jsonb DEFAULT '{}'::jsonb NOT NULL,
    detail text DEFAULT ''::text NOT NULL
);

ALTER TABLE ONLY public.email_deliveries FORCE ROW LEVEL SECURITY;

COMMENT ON TABLE public.email_deliveries IS 'What became of each mail, as the provider told it: one row for each event, however often it was told.';

COMMENT ON COLUMN public.email_deliveries.email_id IS 'Row of ai_email_queue (or of the archive, so no foreign key); null where the event did not say.';

COMMENT ON COLUMN public.email_deliveries.recipient IS 'In lower case.';

COMMENT ON COLUMN public.email_deliveries.event IS 'processed, deferred, delivered, bounce, dropped, open, click, spamreport, unsubscribe, group_unsubscribe, group_resubscribe.';

COMMENT ON COLUMN public.email_deliveries.detail IS 'What tells two events of one kind in one second apart: the clicked url and its place, the attempt; else empty.';

CREATE TABLE public.email_unsubscribe_links (
    tenant_id uuid DEFAULT (NULLIF(current_setting('brainops.statement_tenant'::text, true), ''::text))::uuid NOT NULL,
    address_key text NOT NULL COLLATE pg_catalog."C",
    token text DEFAULT replace(((gen_random_uuid())::text || (gen_random_uuid())::text), '-'::text, ''::text) NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL
);

ALTER TABLE ONLY public.email_unsubscribe_links FORCE ROW LEVEL SECURITY;

COMMENT ON TABLE public.email_unsubscribe_links IS 'The token in each recipient''s unsubscribe link (RFC 8058), the same in every mail to the address.';

CREATE TABLE public.lead_events (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    tenant_id uuid DEFAULT (NULLIF(current_setting('brainops.statement_tenant'::text, true), ''::text))::uuid NOT NULL,
    lead_id uuid NOT NULL,
    event text NOT NULL,
    channel text,
    occurred_at timestamp with time zone DEFAULT brainops.now() NOT NULL,
    source_key text DEFAULT (gen_random_uuid())::text NOT NULL,
    metadata jsonb DEFAULT '{}'::jsonb NOT NULL,
    created_at timestamp with time zone DEFAULT brainops.now() NOT NULL,
    CONSTRAINT lead_events_event_is_word CHECK ((event ~ '^[a-z][a-z0-9_]{0,62}$'::text)),
    CONSTRAINT lead_events_metadata_is_object CHECK ((jsonb_typeof(metadata) = 'object'::text)),
    CONSTRAINT lead_events_source_key_length CHECK (((length(source_key) >= 1) AND (length(source_key) <= 300)))
);

ALTER TABLE ONLY public.lead_events FORCE ROW LEVEL SECURITY;

COMMENT ON TABLE public.lead_events IS 'Everything that a person did or that happened to a lead, append only. Scores, exits, waits and branches read it.';

COMMENT ON COLUMN public.lead_events.event IS 'captured, merged, form_submitted, stage_changed, email_opened (never a machine''s), email_clicked, email_replied, email_bounced, email_complained, email_unsubscribed, sms_delivered, sms_failed, sms_replied, opted_in, opted_out, meeting_booked, paid, payment_failed, refunded, disputed, onboarded, or a word of your own.';

COMMENT ON COLUMN public.lead_events.channel IS 'email, sms, web, payment, …; null for none.';

COMMENT ON COLUMN public.lead_events.source_key IS 'What makes the same event told twice one; made up where none is given.';

COMMENT ON COLUMN public.lead_events.metadata IS 'May hold email_id, sms_id, touch_id, campaign_id, url; for stage_changed from and to.';

CREATE TABLE public.lead_forms (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    tenant_id uuid DEFAULT (NULLIF(current_setting('brainops.statement_tenant'::text, true), ''::text))::uuid NOT NULL,
    name text NOT NULL,
    source text DEFAULT 'form'::text NOT NULL,
    defaults jsonb DEFAULT '{}'::jsonb NOT NULL,
    active boolean DEFAULT true NOT NULL,
    created_at timestamp with time zone DEFAULT brainops.now() NOT NULL,
    CONSTRAINT lead_forms_defaults_is_object CHECK ((jsonb_typeof(defaults) = 'object'::text)),
    CONSTRAINT lead_forms_name_short CHECK ((name ~ '^[a-z0-9][a-z0-9-]{0,62}$'::text))
);

ALTER TABLE ONLY public.lead_forms FORCE ROW LEVEL SECURITY;

COMMENT ON TABLE public.lead_forms IS 'Forms that send leads to POST /forms/<token>, signed. `brainops leads form` makes one; its secret and its token are in provider_credentials, provider form, under the same name.';

COMMENT ON COLUMN public.lead_forms.source IS 'source of the leads that come from it.';

COMMENT ON COLUMN public.lead_forms.defaults IS 'What a lead is given where the form says nothing, by columns of revenue_leads; others go into metadata.';

COMMENT ON COLUMN public.lead_forms.active IS 'False: what it sends is refused.';

CREATE TABLE public.lead_score_events (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    tenant_id uuid DEFAULT (NULLIF(current_setting('brainops.statement_tenant'::text, true), ''::text))::uuid NOT NULL,
    lead_id uuid NOT NULL,
    reason text NOT NULL,
    points numeric NOT NULL,
    half_life interval,
    occurred_at timestamp with time zone DEFAULT brainops.now() NOT NULL,
    source_key text DEFAULT (gen_random_uuid())::text NOT NULL,
    created_at timestamp with time zone DEFAULT brainops.now() NOT NULL,
    CONSTRAINT lead_score_events_half_life_positive CHECK ((half_life > '00:00:00'::interval)),
    CONSTRAINT lead_score_events_points_range CHECK (((points >= ('-1000000'::integer)::numeric) AND (points <= (1000000)::numeric))),
    CONSTRAINT lead_score_events_reason_is_word CHECK ((reason ~ '^[a-z][a-z0-9_]{0,62}$'::text)),
    CONSTRAINT lead_score_events_source_key_length CHECK (((length(source_key) >= 1) AND (length(source_key) <= 300)))
);

ALTER TABLE ONLY public.lead_score_events FORCE ROW LEVEL SECURITY;

COMMENT ON TABLE public.lead_score_events IS 'Why a lead''s score is what it is, append only. score = the sum of points * 0.5 ^ (age / half_life), rounded, never below 0 or above 100.';

COMMENT ON COLUMN public.lead_score_events.reason IS 'A word of brainops.score_reasons, set_by_client (what it took to get to the score that a client wrote), merged, or a word of your own.';

COMMENT ON COLUMN public.lead_score_events.points IS 'Signed. A fact that changes is corrected by another row with the difference.';

COMMENT ON COLUMN public.lead_score_events.half_life IS 'Null: the points stay.';

COMMENT ON COLUMN public.lead_score_events.source_key IS 'What makes the same reason told twice one; for a mail''s opens and clicks the mail, of which the earliest counts.';

CREATE TABLE public.lead_tasks (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    tenant_id uuid DEFAULT (NULLIF(current_setting('brainops.statement_tenant'::text, true), ''::text))::uuid NOT NULL,
    lead_id uuid NOT NULL,
    title text NOT NULL,
    description text,
    status text DEFAULT 'open'::text NOT NULL,
    priority text DEFAULT 'normal'::text NOT NULL,
    due_at timestamp with time zone,
    assigned_to text,
    touch_id uuid,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    done_at timestamp with time zone,
    CONSTRAINT lead_tasks_priority_known CHECK ((priority = ANY (ARRAY['high'::text, 'normal'::text, 'low'::text]))),
    CONSTRAINT lead_tasks_status_known CHECK ((status = ANY (ARRAY['open'::text, 'done'::text, 'cancelled'::text]))),
    CONSTRAINT lead_tasks_title_given CHECK (((length(title) >= 1) AND (length(title) <= 500)))
);

ALTER TABLE ONLY public.lead_tasks FORCE ROW LEVEL SECURITY;

COMMENT ON TABLE public.lead_tasks IS 'Work for a person about a lead: a call, a visit. Made by steps of kind task, or by anyone.';

COMMENT ON COLUMN public.lead_tasks.assigned_to IS 'Who shall do it; null: whoever comes.';

CREATE TABLE public.marketing_holds (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    tenant_id uuid DEFAULT (NULLIF(current_setting('brainops.statement_tenant'::text, true), ''::text))::uuid NOT NULL,
    channel text NOT NULL,
    reason text NOT NULL,
    since timestamp with time zone DEFAULT brainops.now() NOT NULL,
    held_by name DEFAULT SESSION_USER NOT NULL,
    lifted_at timestamp with time zone,
    CONSTRAINT marketing_holds_channel_known CHECK ((channel = ANY (ARRAY['email'::text, 'sms'::text]))),
    CONSTRAINT marketing_holds_reason_given CHECK ((btrim(reason) <> ''::text))
);

ALTER TABLE ONLY public.marketing_holds FORCE ROW LEVEL SECURITY;

COMMENT ON TABLE public.marketing_holds IS 'Marketing at a standstill, for a tenant and channel; what is transactional goes on. brainops.lift_marketing_hold() ends it.';

COMMENT ON COLUMN public.marketing_holds.lifted_at IS 'Null while it holds.';

CREATE TABLE public.onboarding_templates (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    tenant_id uuid DEFAULT (NULLIF(current_setting('brainops.statement_tenant'::text, true), ''::text))::uuid NOT NULL,
    template text DEFAULT 'default'::text NOT NULL,
    step_number integer NOT NULL,
    step_name text NOT NULL,
    description text DEFAULT ''::text NOT NULL,
    duration interval DEFAULT '3 days'::interval NOT NULL,
    subject text,
    body text,
    advance_on text,
    remind text DEFAULT 'owner'::text NOT NULL,
    remind_before interval DEFAULT '1 day'::interval NOT NULL,
    escalate_after interval DEFAULT '1 day'::interval,
    created_at timestamp with time zone DEFAULT brainops.now() NOT NULL,
    updated_at timestamp with time zone DEFAULT brainops.now() NOT NULL,
    CONSTRAINT onboarding_templates_advance_on_is_word CHECK ((advance_on ~ '^[a-z][a-z0-9_]{0,62}$'::text)),
    CONSTRAINT onboarding_templates_duration_positive CHECK ((duration > '00:00:00'::interval)),
    CONSTRAINT onboarding_templates_email_sent_has_mail CHECK (((advance_on IS DISTINCT FROM 'email_sent'::text) OR (body IS NOT NULL))),
    CONSTRAINT onboarding_templates_escalate_after_not_negative CHECK ((escalate_after >= '00:00:00'::interval)),
    CONSTRAINT onboarding_templates_mail_is_whole CHECK (((subject IS NULL) = (body IS NULL))),
    CONSTRAINT onboarding_templates_name_is_word CHECK ((step_name ~ '^[a-z][a-z0-9_]{0,62}$'::text)),
    CONSTRAINT onboarding_templates_number_range CHECK (((step_number >= 1) AND (step_number <= 100))),
    CONSTRAINT onboarding_templates_remind_before_not_negative CHECK ((remind_before >= '00:00:00'::interval)),
    CONSTRAINT onboarding_templates_remind_known CHECK ((remind = ANY (ARRAY['customer'::text, 'owner'::text, 'both'::text, 'nobody'::text])))
);

ALTER TABLE ONLY public.onboarding_templates FORCE ROW LEVEL SECURITY;

COMMENT ON TABLE public.onboarding_templates IS 'A tenant''s own onboarding, a row for each step. Copied when a workflow begins, so that edits do not change what runs. Without rows for default, brainops.default_onboarding_steps() is used.';

COMMENT ON COLUMN public.onboarding_templates.template IS 'default, or a name that a lead asks for by metadata.onboarding_template.';

COMMENT ON COLUMN public.onboarding_templates.duration IS 'How long the step may take from its beginning: gives due_at.';

COMMENT ON COLUMN public.onboarding_templates.subject IS 'Liquid, with body: a mail to the lead when the step begins. Null: none.';

COMMENT ON COLUMN public.onboarding_templates.advance_on IS 'What completes the step by itself: a word of lead_events, or email_sent (its own mail went). Null: somebody does.';

COMMENT ON COLUMN public.onboarding_templates.remind IS 'Who is reminded by mail: customer, owner (the lead''s owner_email, else settings.notify_email), both or nobody.';

COMMENT ON COLUMN public.onboarding_templates.remind_before IS 'How long before due_at; 0 for when it is due.';

COMMENT ON COLUMN public.onboarding_templates.escalate_after IS 'How long after due_at the tenant is notified; null for never.';

CREATE TABLE public.opt_in_requests (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    tenant_id uuid DEFAULT (NULLIF(current_setting('brainops.statement_tenant'::text, true), ''::text))::uuid NOT NULL,
    lead_id uuid,
    address text NOT NULL,
    address_key text GENERATED ALWAYS AS (lower(btrim(address))) STORED NOT NULL,
    token text DEFAULT replace(((gen_random_uuid())::text || (gen_random_uuid())::text), '-'::text, ''::text) NOT NULL,
    email_id uuid,
    created_at timestamp with time zone DEFAULT brainops.now() NOT NULL,
    expires_at timestamp with time zone,
    confirmed_at timestamp with time zone
);

ALTER TABLE ONLY public.opt_in_requests FORCE ROW LEVEL SECURITY;

COMMENT ON TABLE public.opt_in_requests IS 'Who was asked by mail whether marketing mail is really wanted (double opt-in). Made by a consent that is not confirmed, where the tenant asks for that.';

COMMENT ON COLUMN public.opt_in_requests.token IS 'In the link /confirm/<token>; opening it changes nothing, its button does.';

COMMENT ON COLUMN public.opt_in_requests.email_id IS 'The mail that asks; null until a process with PUBLIC_URL has started.';

COMMENT ON COLUMN public.opt_in_requests.expires_at IS 'Seven days after the mail; then the person must ask anew. Where email_id is null: when it was found that no mail can go to the address.';

CREATE TABLE public.payment_disputes (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    tenant_id uuid DEFAULT (NULLIF(current_setting('brainops.statement_tenant'::text, true), ''::text))::uuid NOT NULL,
    payment_request_id uuid,
    stripe_dispute_id text NOT NULL,
    status text NOT NULL,
    reason text,
    amount_minor bigint NOT NULL,
    currency text NOT NULL,
    evidence_due_by timestamp with time zone,
    opened_at timestamp with time zone NOT NULL,
    told_at timestamp with time zone NOT NULL,
    told_rank integer NOT NULL
);

ALTER TABLE ONLY public.payment_disputes FORCE ROW LEVEL SECURITY;

COMMENT ON TABLE public.payment_disputes IS 'Payments that the payer''s bank took back or asks about.';

COMMENT ON COLUMN public.payment_disputes.status IS 'Stripe''s word: warning_needs_response, warning_under_review, warning_closed, needs_response, under_review, won, lost, prevented.';

COMMENT ON COLUMN public.payment_disputes.evidence_due_by IS 'Until when evidence must be handed in at Stripe; null for not said.';

COMMENT ON COLUMN public.payment_disputes.told_rank IS 'Orders events of one second: the later stage of a dispute wins.';

CREATE TABLE public.payment_ledger (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    tenant_id uuid DEFAULT (NULLIF(current_setting('brainops.statement_tenant'::text, true), ''::text))::uuid NOT NULL,
    payment_request_id uuid,
    kind text NOT NULL,
    object_id text NOT NULL,
    charge_id text,
    amount_minor bigint NOT NULL,
    currency text NOT NULL,
    livemode boolean NOT NULL,
    occurred_at timestamp with time zone NOT NULL,
    recorded_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT payment_ledger_kind_known CHECK ((kind = ANY (ARRAY['payment'::text, 'refund'::text, 'refund_reversal'::text, 'dispute'::text, 'dispute_reversal'::text]))),
    CONSTRAINT payment_ledger_sign CHECK (
CASE
    WHEN (kind = ANY (ARRAY['payment'::text, 'refund_reversal'::text, 'dispute_reversal'::text])) THEN (amount_minor > 0)
    ELSE (amount_minor < 0)
END)
);

ALTER TABLE ONLY public.payment_ledger FORCE ROW LEVEL SECURITY;

COMMENT ON TABLE public.payment_ledger IS 'Every movement of money, once, append only: payments in, refunds and disputes out, and what came back of those.';

COMMENT ON COLUMN public.payment_ledger.kind IS 'payment, refund, refund_reversal (a refund that failed), dispute (money withdrawn), dispute_reversal (given back).';

COMMENT ON COLUMN public.payment_ledger.object_id IS 'Stripe''s id of what moved it: payment intent, invoice (subscriptions), refund, dispute.';

COMMENT ON COLUMN public.payment_ledger.charge_id IS 'The charge that a refund or dispute is about; null for payments.';

COMMENT ON COLUMN public.payment_ledger.amount_minor IS 'In Stripe''s units of the currency; below zero for what goes out.';

COMMENT ON COLUMN public.payment_ledger.livemode IS 'False: Stripe''s test mode, no real money.';

CREATE VIEW public.payments_by_lead WITH (security_invoker='true') AS
 SELECT r.tenant_id,
    r.lead_id,
    l.currency,
    count(DISTINCT r.id) AS requests,
    brainops_internal.major_units((COALESCE(sum(l.amount_minor) FILTER (WHERE (l.kind = 'payment'::text)), (0)::numeric))::bigint, l.currency) AS paid,
    brainops_internal.major_units((COALESCE((- sum(l.amount_minor) FILTER (WHERE (l.kind ~~ 'refund%'::text))), (0)::numeric))::bigint, l.currency) AS refunded,
    brainops_internal.major_units((COALESCE((- sum(l.amount_minor) FILTER (WHERE (l.kind ~~ 'dispute%'::text))), (0)::numeric))::bigint, l.currency) AS disputed,
    brainops_internal.major_units((sum(l.amount_minor))::bigint, l.currency) AS net,
    max(l.occurred_at) AS last_movement_at
   FROM (public.payment_ledger l
     JOIN public.payment_requests r ON (((r.tenant_id = l.tenant_id) AND (r.id = l.payment_request_id))))
  GROUP BY r.tenant_id, r.lead_id, l.currency;

COMMENT ON VIEW public.payments_by_lead IS 'What each lead paid, by currency, in its units: from the ledger, test mode included. lead_id null: nobody we know.';

CREATE TABLE public.plans (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    tenant_id uuid DEFAULT (NULLIF(current_setting('brainops.statement_tenant'::text, true), ''::text))::uuid,
    code text NOT NULL,
    name text NOT NULL,
    amount numeric NOT NULL,
    currency text DEFAULT 'usd'::text NOT NULL,
    amount_minor bigint NOT NULL,
    "interval" text DEFAULT 'one_time'::text NOT NULL,
    lead_id uuid,
    active boolean DEFAULT true NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT plans_code_is_short_name CHECK ((code ~ '^[a-z0-9][a-z0-9_.-]{0,62}$'::text)),
    CONSTRAINT plans_interval_known CHECK (("interval" = ANY (ARRAY['one_time'::text, 'month'::text, 'year'::text]))),
    CONSTRAINT plans_lead_has_tenant CHECK (((lead_id IS NULL) OR (tenant_id IS NOT NULL))),
    CONSTRAINT plans_name_length CHECK (((length(btrim(name)) >= 1) AND (length(btrim(name)) <= 200)))
);

ALTER TABLE ONLY public.plans FORCE ROW LEVEL SECURITY;

COMMENT ON TABLE public.plans IS 'The one source of every price. A payment request takes amount and currency from the plan it names; a price of its own is a plan of its own, for one lead where lead_id says so.';

COMMENT ON COLUMN public.plans.tenant_id IS 'Null: for every tenant; admins write those.';

COMMENT ON COLUMN public.plans.code IS 'Short name for clients, in lower case. A tenant''s own plan goes before a common one of the same code.';

COMMENT ON COLUMN public.plans.name IS 'What the payer reads.';

COMMENT ON COLUMN public.plans.amount IS 'In units of the currency, e.g. 12.50. A change is for requests that come later.';

COMMENT ON COLUMN public.plans.amount_minor IS 'The same in Stripe''s units (brainops.currencies), filled in.';

COMMENT ON COLUMN public.plans."interval" IS 'one_time, or how often a subscription renews: month, year.';

COMMENT ON COLUMN public.plans.lead_id IS 'Null: for every lead.';

CREATE TABLE public.revenue_lead_aliases (
    id uuid NOT NULL,
    tenant_id uuid DEFAULT (NULLIF(current_setting('brainops.statement_tenant'::text, true), ''::text))::uuid NOT NULL,
    lead_id uuid NOT NULL,
    created_at timestamp with time zone DEFAULT brainops.now() NOT NULL
);

ALTER TABLE ONLY public.revenue_lead_aliases FORCE ROW LEVEL SECURITY;

COMMENT ON TABLE public.revenue_lead_aliases IS 'Ids of leads that were merged into another: rows that refer to one are taken as the other''s.';

COMMENT ON COLUMN public.revenue_lead_aliases.id IS 'The id that is no lead''s any more.';

CREATE VIEW public.revenue_summary WITH (security_invoker='true') AS
 SELECT tenant_id,
    livemode,
    currency,
    (date_trunc('month'::text, (occurred_at AT TIME ZONE 'UTC'::text)))::date AS month,
    count(*) FILTER (WHERE (kind = 'payment'::text)) AS payments,
    brainops_internal.major_units((COALESCE(sum(amount_minor) FILTER (WHERE (kind = 'payment'::text)), (0)::numeric))::bigint, currency) AS paid,
    brainops_internal.major_units((COALESCE((- sum(amount_minor) FILTER (WHERE (kind ~~ 'refund%'::text))), (0)::numeric))::bigint, currency) AS refunded,
    brainops_internal.major_units((COALESCE((- sum(amount_minor) FILTER (WHERE (kind ~~ 'dispute%'::text))), (0)::numeric))::bigint, currency) AS disputed,
    brainops_internal.major_units((sum(amount_minor))::bigint, currency) AS net
   FROM public.payment_ledger l
  GROUP BY tenant_id, livemode, currency, ((date_trunc('month'::text, (occurred_at AT TIME ZONE 'UTC'::text)))::date);

COMMENT ON VIEW public.revenue_summary IS 'The ledger added up by month (UTC) and currency, in its units; livemode false is Stripe''s test mode.';

CREATE TABLE public.sender_warmups (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    tenant_id uuid DEFAULT (NULLIF(current_setting('brainops.statement_tenant'::text, true), ''::text))::uuid NOT NULL,
    channel text NOT NULL,
    started_on date NOT NULL,
    plan integer[] NOT NULL,
    CONSTRAINT sender_warmups_channel_known CHECK ((channel = ANY (ARRAY['email'::text, 'sms'::text]))),
    CONSTRAINT sender_warmups_plan_given CHECK (((cardinality(plan) > 0) AND (0 < ALL (plan))))
);

ALTER TABLE ONLY public.sender_warmups FORCE ROW LEVEL SECURITY;

COMMENT ON TABLE public.sender_warmups IS 'New senders begin slowly: marketing messages an hour, by day. Written by brainops.start_warmup; past the plan''s last day there is no limit.';

COMMENT ON COLUMN public.sender_warmups.started_on IS 'The plan''s first day, in the tenant''s zone.';

COMMENT ON COLUMN public.sender_warmups.plan IS 'Messages an hour on the first day, the second, ….';

CREATE TABLE public.sms_inbound (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    tenant_id uuid DEFAULT (NULLIF(current_setting('brainops.statement_tenant'::text, true), ''::text))::uuid NOT NULL,
    message_sid text NOT NULL,
    from_number text NOT NULL,
    to_number text NOT NULL,
    body text NOT NULL,
    kind text NOT NULL,
    lead_id uuid,
    received_at timestamp with time zone NOT NULL,
    metadata jsonb DEFAULT '{}'::jsonb NOT NULL,
    CONSTRAINT sms_inbound_kind_known CHECK ((kind = ANY (ARRAY['stop'::text, 'start'::text, 'help'::text, 'reply'::text])))
);

ALTER TABLE ONLY public.sms_inbound FORCE ROW LEVEL SECURITY;

COMMENT ON TABLE public.sms_inbound IS 'What people texted to us, each once. A STOP to a number that several tenants use is there once for each of them.';

COMMENT ON COLUMN public.sms_inbound.kind IS 'stop, start and help by the whole text alone (or by Twilio''s OptOutType); anything else is a reply.';

COMMENT ON COLUMN public.sms_inbound.lead_id IS 'The tenant''s lead with this number; null where there is none.';

COMMENT ON COLUMN public.sms_inbound.metadata IS 'opt_out_type and media, where Twilio told of any.';

CREATE TABLE public.sms_numbers (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    tenant_id uuid DEFAULT (NULLIF(current_setting('brainops.statement_tenant'::text, true), ''::text))::uuid NOT NULL,
    number text NOT NULL,
    active boolean DEFAULT true NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT sms_numbers_shape CHECK ((number ~ '^(\+[1-9][0-9]{6,14}|[0-9]{5,6})$'::text))
);

ALTER TABLE ONLY public.sms_numbers FORCE ROW LEVEL SECURITY;

COMMENT ON TABLE public.sms_numbers IS 'Numbers of the installation''s Twilio account that are one tenant''s: its texts go out from them, and what is written to them is its. A tenant without any uses TWILIO_FROM. Admins write it.';

COMMENT ON COLUMN public.sms_numbers.number IS 'In E.164, or a short code.';

COMMENT ON COLUMN public.sms_numbers.active IS 'False: no text goes out from it any more; what people write to it is still the tenant''s.';

CREATE TABLE public.sms_threads (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    tenant_id uuid DEFAULT (NULLIF(current_setting('brainops.statement_tenant'::text, true), ''::text))::uuid NOT NULL,
    number text NOT NULL,
    sender text,
    last_at timestamp with time zone NOT NULL,
    told_by uuid
);

ALTER TABLE ONLY public.sms_threads FORCE ROW LEVEL SECURITY;

COMMENT ON TABLE public.sms_threads IS 'Who texts whom from which number: whose a text to a shared number is, which number a person knows, and whether it was told how to opt out.';

COMMENT ON COLUMN public.sms_threads.number IS 'The person''s, in E.164.';

COMMENT ON COLUMN public.sms_threads.sender IS 'A number of sms_numbers; own for the tenant''s own account; null for the installation''s TWILIO_FROM.';

COMMENT ON COLUMN public.sms_threads.last_at IS 'When the tenant last texted the person, or was written to.';

COMMENT ON COLUMN public.sms_threads.told_by IS 'The row of ai_sms_queue that told how to opt out; null for none yet.';

CREATE TABLE public.subscriptions (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    tenant_id uuid DEFAULT (NULLIF(current_setting('brainops.statement_tenant'::text, true), ''::text))::uuid NOT NULL,
    payment_request_id uuid,
    stripe_subscription_id text NOT NULL,
    status text NOT NULL,
    current_period_start timestamp with time zone,
    current_period_end timestamp with time zone,
    cancel_at_period_end boolean DEFAULT false NOT NULL,
    canceled_at timestamp with time zone,
    ended_at timestamp with time zone,
    livemode boolean NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    told_at timestamp with time zone NOT NULL,
    told_rank integer NOT NULL,
    told_by text NOT NULL
);

ALTER TABLE ONLY public.subscriptions FORCE ROW LEVEL SECURITY;

COMMENT ON TABLE public.subscriptions IS 'Subscriptions that began with a payment request, as Stripe last reported them. What they brought in is in payment_ledger.';

COMMENT ON COLUMN public.subscriptions.status IS 'Stripe''s word: incomplete, incomplete_expired, trialing, active, past_due, canceled, unpaid, paused.';

COMMENT ON COLUMN public.subscriptions.told_at IS 'Time of the event that the row says. Stripe''s clock has seconds: told_rank (created, updated, deleted, then the later period and status) and told_by order what falls into one.';

COMMENT ON COLUMN public.subscriptions.told_by IS 'That event''s id.';

CREATE TABLE public.tenants (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    slug text NOT NULL,
    name text NOT NULL,
    time_zone text DEFAULT 'UTC'::text NOT NULL,
    status text DEFAULT 'active'::text NOT NULL,
    settings jsonb DEFAULT '{}'::jsonb NOT NULL,
    is_default boolean DEFAULT false NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT tenants_name_length CHECK (((length(name) >= 1) AND (length(name) <= 200))),
    CONSTRAINT tenants_settings_is_object CHECK ((jsonb_typeof(settings) = 'object'::text)),
    CONSTRAINT tenants_slug_is_short_name CHECK ((slug ~ '^[a-z0-9][a-z0-9-]{0,62}$'::text)),
    CONSTRAINT tenants_status_known CHECK ((status = ANY (ARRAY['active'::text, 'suspended'::text]))),
    CONSTRAINT tenants_time_zone_known CHECK (brainops_internal.is_time_zone(time_zone))
);

ALTER TABLE ONLY public.tenants FORCE ROW LEVEL SECURITY;

COMMENT ON TABLE public.tenants IS 'A customer of this installation. Every row of every other table belongs to exactly one.';

COMMENT ON COLUMN public.tenants.slug IS 'Short name for people and commands: a-z, 0-9 and -, at most 63 characters.';

COMMENT ON COLUMN public.tenants.time_zone IS 'IANA name, e.g. America/Denver. What "today" and "quiet hours" mean where a lead has no zone of its own.';

COMMENT ON COLUMN public.tenants.status IS 'active, or suspended: rows wait as pending until the tenant is active again.';

COMMENT ON COLUMN public.tenants.settings IS 'Options: mail_from, postal_address (in every marketing mail), notify_email (where the tenant itself is told things), country (how numbers without + are read).';

COMMENT ON COLUMN public.tenants.is_default IS 'At most one tenant: rows that a service inserts without saying whose they are go to it.';

ALTER TABLE ONLY brainops.migrations_after_applied ALTER COLUMN id SET DEFAULT nextval('brainops.migrations_after_applied_id_seq'::regclass);

ALTER TABLE ONLY brainops.migrations_applied ALTER COLUMN id SET DEFAULT nextval('brainops.migrations_applied_id_seq'::regclass);

ALTER TABLE ONLY brainops.circuit_breakers
    ADD CONSTRAINT circuit_breakers_pkey PRIMARY KEY (sender);

ALTER TABLE ONLY brainops.concurrent_migrations
    ADD CONSTRAINT concurrent_migrations_pkey PRIMARY KEY (name);

ALTER TABLE ONLY brainops.contact_caps
    ADD CONSTRAINT contact_caps_pkey PRIMARY KEY (id);

ALTER TABLE ONLY brainops.contact_counts
    ADD CONSTRAINT contact_counts_pkey PRIMARY KEY (tenant_id, channel, hour);

ALTER TABLE ONLY brainops.contact_windows
    ADD CONSTRAINT contact_windows_pkey PRIMARY KEY (id);

ALTER TABLE ONLY brainops.currencies
    ADD CONSTRAINT currencies_pkey PRIMARY KEY (code);

ALTER TABLE ONLY brainops.embedded_connections
    ADD CONSTRAINT embedded_connections_pkey PRIMARY KEY (connection_id, worker_number);

ALTER TABLE ONLY brainops.installation
    ADD CONSTRAINT installation_pkey PRIMARY KEY (only_row);

ALTER TABLE ONLY brainops.job_tables
    ADD CONSTRAINT job_tables_pkey PRIMARY KEY (table_name);

ALTER TABLE ONLY brainops.job_tables
    ADD CONSTRAINT job_tables_relation_key UNIQUE (relation);

ALTER TABLE ONLY brainops.job_tables
    ADD CONSTRAINT job_tables_task_identifier_key UNIQUE (task_identifier);

ALTER TABLE ONLY brainops.lead_keys
    ADD CONSTRAINT lead_keys_once UNIQUE (tenant_id, key);

ALTER TABLE ONLY brainops.lead_keys REPLICA IDENTITY USING INDEX lead_keys_once;

ALTER TABLE ONLY brainops.library_campaigns
    ADD CONSTRAINT library_campaigns_pkey PRIMARY KEY (code);

ALTER TABLE ONLY brainops.library_templates
    ADD CONSTRAINT library_templates_pkey PRIMARY KEY (name, channel);

ALTER TABLE ONLY brainops.migrations_after_applied
    ADD CONSTRAINT migrations_after_applied_pkey PRIMARY KEY (id);

ALTER TABLE ONLY brainops.migrations_after_version
    ADD CONSTRAINT migrations_after_version_pkey PRIMARY KEY (id);

ALTER TABLE ONLY brainops.migrations_applied
    ADD CONSTRAINT migrations_applied_pkey PRIMARY KEY (id);

ALTER TABLE ONLY brainops.migrations_repeatable
    ADD CONSTRAINT migrations_repeatable_pkey PRIMARY KEY (path);

ALTER TABLE ONLY brainops.migrations_version
    ADD CONSTRAINT migrations_version_pkey PRIMARY KEY (id);

ALTER TABLE ONLY brainops.pauses
    ADD CONSTRAINT pauses_pkey PRIMARY KEY (id);

ALTER TABLE ONLY brainops.phone_zones
    ADD CONSTRAINT phone_zones_pkey PRIMARY KEY (prefix);

ALTER TABLE ONLY brainops.rate_limits
    ADD CONSTRAINT rate_limits_pkey PRIMARY KEY (id);

ALTER TABLE ONLY brainops.score_reasons
    ADD CONSTRAINT score_reasons_pkey PRIMARY KEY (reason);

ALTER TABLE ONLY brainops.settings
    ADD CONSTRAINT settings_pkey PRIMARY KEY (name);

ALTER TABLE ONLY brainops.tenant_logins
    ADD CONSTRAINT tenant_logins_pkey PRIMARY KEY (login);

ALTER TABLE ONLY brainops.waiting_stripe_events
    ADD CONSTRAINT waiting_stripe_events_pkey PRIMARY KEY (account, object_id, event_id);

ALTER TABLE ONLY brainops.worker_processes
    ADD CONSTRAINT worker_processes_number_key UNIQUE (number);

ALTER TABLE ONLY brainops.worker_processes
    ADD CONSTRAINT worker_processes_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.ai_broadcasts
    ADD CONSTRAINT ai_broadcasts_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.ai_broadcasts
    ADD CONSTRAINT ai_broadcasts_tenant_row UNIQUE (tenant_id, id);

ALTER TABLE ONLY public.ai_campaign_templates
    ADD CONSTRAINT ai_campaign_templates_once UNIQUE (tenant_id, name, channel, version);

ALTER TABLE ONLY public.ai_campaign_templates
    ADD CONSTRAINT ai_campaign_templates_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.ai_campaign_touches
    ADD CONSTRAINT ai_campaign_touches_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.ai_campaign_touches
    ADD CONSTRAINT ai_campaign_touches_tenant_row UNIQUE (tenant_id, id);

ALTER TABLE ONLY public.ai_email_queue
    ADD CONSTRAINT ai_email_queue_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.ai_nurture_campaigns
    ADD CONSTRAINT ai_nurture_campaigns_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.ai_nurture_campaigns
    ADD CONSTRAINT ai_nurture_campaigns_tenant_row UNIQUE (tenant_id, id);

ALTER TABLE ONLY public.ai_onboarding_steps
    ADD CONSTRAINT ai_onboarding_steps_once UNIQUE (tenant_id, workflow_id, step_number);

ALTER TABLE ONLY public.ai_onboarding_steps
    ADD CONSTRAINT ai_onboarding_steps_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.ai_onboarding_steps
    ADD CONSTRAINT ai_onboarding_steps_tenant_row UNIQUE (tenant_id, id);

ALTER TABLE ONLY public.ai_onboarding_workflows
    ADD CONSTRAINT ai_onboarding_workflows_one_for_a_lead UNIQUE (tenant_id, lead_id);

ALTER TABLE ONLY public.ai_onboarding_workflows
    ADD CONSTRAINT ai_onboarding_workflows_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.ai_onboarding_workflows
    ADD CONSTRAINT ai_onboarding_workflows_tenant_row UNIQUE (tenant_id, id);

ALTER TABLE ONLY public.ai_sms_queue
    ADD CONSTRAINT ai_sms_queue_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.ai_sms_queue
    ADD CONSTRAINT ai_sms_queue_tenant_row UNIQUE (tenant_id, id);

ALTER TABLE ONLY public.campaign_rules
    ADD CONSTRAINT campaign_rules_name_once UNIQUE (tenant_id, name);

ALTER TABLE ONLY public.campaign_rules
    ADD CONSTRAINT campaign_rules_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.campaign_split_winners
    ADD CONSTRAINT campaign_split_winners_once UNIQUE (tenant_id, campaign_id, version, step_key);

ALTER TABLE ONLY public.campaign_split_winners
    ADD CONSTRAINT campaign_split_winners_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.campaign_steps
    ADD CONSTRAINT campaign_steps_key_once UNIQUE (tenant_id, campaign_id, version, step_key) DEFERRABLE;

ALTER TABLE ONLY public.campaign_steps
    ADD CONSTRAINT campaign_steps_number_once UNIQUE (tenant_id, campaign_id, version, step_number) DEFERRABLE;

ALTER TABLE ONLY public.campaign_steps
    ADD CONSTRAINT campaign_steps_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.campaign_touch_events
    ADD CONSTRAINT campaign_touch_events_once UNIQUE (tenant_id, touch_id, event);

ALTER TABLE ONLY public.campaign_touch_events
    ADD CONSTRAINT campaign_touch_events_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.campaigns
    ADD CONSTRAINT campaigns_code_once UNIQUE (tenant_id, code);

ALTER TABLE ONLY public.campaigns
    ADD CONSTRAINT campaigns_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.campaigns
    ADD CONSTRAINT campaigns_tenant_row UNIQUE (tenant_id, id);

ALTER TABLE ONLY public.contact_consents
    ADD CONSTRAINT contact_consents_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.contact_policies
    ADD CONSTRAINT contact_policies_once UNIQUE (tenant_id, channel);

ALTER TABLE ONLY public.contact_policies
    ADD CONSTRAINT contact_policies_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.contact_suppressions
    ADD CONSTRAINT contact_suppressions_once UNIQUE (tenant_id, channel, address_key);

ALTER TABLE ONLY public.contact_suppressions
    ADD CONSTRAINT contact_suppressions_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.contact_topic_optouts
    ADD CONSTRAINT contact_topic_optouts_once UNIQUE (tenant_id, address_key, topic_id);

ALTER TABLE ONLY public.contact_topic_optouts
    ADD CONSTRAINT contact_topic_optouts_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.contact_topics
    ADD CONSTRAINT contact_topics_code UNIQUE (tenant_id, code);

ALTER TABLE ONLY public.contact_topics
    ADD CONSTRAINT contact_topics_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.contact_topics
    ADD CONSTRAINT contact_topics_tenant_row UNIQUE (tenant_id, id);

ALTER TABLE ONLY public.email_bounces
    ADD CONSTRAINT email_bounces_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.email_deliveries
    ADD CONSTRAINT email_deliveries_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.email_unsubscribe_links
    ADD CONSTRAINT email_unsubscribe_links_pkey PRIMARY KEY (tenant_id, address_key);

ALTER TABLE ONLY public.lead_events
    ADD CONSTRAINT lead_events_once UNIQUE (tenant_id, lead_id, event, source_key);

ALTER TABLE ONLY public.lead_events
    ADD CONSTRAINT lead_events_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.lead_forms
    ADD CONSTRAINT lead_forms_once UNIQUE (tenant_id, name);

ALTER TABLE ONLY public.lead_forms
    ADD CONSTRAINT lead_forms_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.lead_score_events
    ADD CONSTRAINT lead_score_events_once UNIQUE (tenant_id, lead_id, reason, source_key);

ALTER TABLE ONLY public.lead_score_events
    ADD CONSTRAINT lead_score_events_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.lead_tasks
    ADD CONSTRAINT lead_tasks_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.marketing_holds
    ADD CONSTRAINT marketing_holds_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.onboarding_reminders
    ADD CONSTRAINT onboarding_reminders_once UNIQUE (tenant_id, step_id, kind, due_at);

ALTER TABLE ONLY public.onboarding_reminders
    ADD CONSTRAINT onboarding_reminders_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.onboarding_reminders
    ADD CONSTRAINT onboarding_reminders_tenant_row UNIQUE (tenant_id, id);

ALTER TABLE ONLY public.onboarding_templates
    ADD CONSTRAINT onboarding_templates_name UNIQUE (tenant_id, template, step_name);

ALTER TABLE ONLY public.onboarding_templates
    ADD CONSTRAINT onboarding_templates_number UNIQUE (tenant_id, template, step_number);

ALTER TABLE ONLY public.onboarding_templates
    ADD CONSTRAINT onboarding_templates_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.opt_in_requests
    ADD CONSTRAINT opt_in_requests_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.payment_disputes
    ADD CONSTRAINT payment_disputes_once UNIQUE (tenant_id, stripe_dispute_id);

ALTER TABLE ONLY public.payment_disputes
    ADD CONSTRAINT payment_disputes_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.payment_ledger
    ADD CONSTRAINT payment_ledger_once UNIQUE (tenant_id, kind, object_id);

ALTER TABLE ONLY public.payment_ledger
    ADD CONSTRAINT payment_ledger_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.payment_link_closures
    ADD CONSTRAINT payment_link_closures_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.payment_link_closures
    ADD CONSTRAINT payment_link_closures_tenant_row UNIQUE (tenant_id, id);

ALTER TABLE ONLY public.payment_requests
    ADD CONSTRAINT payment_requests_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.payment_requests
    ADD CONSTRAINT payment_requests_tenant_row UNIQUE (tenant_id, id);

ALTER TABLE ONLY public.plans
    ADD CONSTRAINT plans_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.provider_credentials
    ADD CONSTRAINT provider_credentials_once UNIQUE (tenant_id, provider, name);

ALTER TABLE ONLY public.provider_credentials
    ADD CONSTRAINT provider_credentials_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.revenue_lead_aliases
    ADD CONSTRAINT revenue_lead_aliases_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.revenue_leads
    ADD CONSTRAINT revenue_leads_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.revenue_leads
    ADD CONSTRAINT revenue_leads_tenant_row UNIQUE (tenant_id, id);

ALTER TABLE ONLY public.sender_warmups
    ADD CONSTRAINT sender_warmups_once UNIQUE (tenant_id, channel);

ALTER TABLE ONLY public.sender_warmups
    ADD CONSTRAINT sender_warmups_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.sms_deliveries
    ADD CONSTRAINT sms_deliveries_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.sms_inbound
    ADD CONSTRAINT sms_inbound_once UNIQUE (tenant_id, message_sid);

ALTER TABLE ONLY public.sms_inbound
    ADD CONSTRAINT sms_inbound_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.sms_numbers
    ADD CONSTRAINT sms_numbers_once UNIQUE (tenant_id, number);

ALTER TABLE ONLY public.sms_numbers
    ADD CONSTRAINT sms_numbers_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.sms_threads
    ADD CONSTRAINT sms_threads_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.stripe_objects
    ADD CONSTRAINT stripe_objects_once UNIQUE (tenant_id, object_id);

ALTER TABLE ONLY public.stripe_objects
    ADD CONSTRAINT stripe_objects_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.subscriptions
    ADD CONSTRAINT subscriptions_once UNIQUE (tenant_id, stripe_subscription_id);

ALTER TABLE ONLY public.subscriptions
    ADD CONSTRAINT subscriptions_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.tenant_keys
    ADD CONSTRAINT tenant_keys_once UNIQUE (tenant_id);

ALTER TABLE ONLY public.tenant_keys
    ADD CONSTRAINT tenant_keys_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.tenant_notifications
    ADD CONSTRAINT tenant_notifications_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.tenant_notifications
    ADD CONSTRAINT tenant_notifications_tenant_row UNIQUE (tenant_id, id);

ALTER TABLE ONLY public.tenants
    ADD CONSTRAINT tenants_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.tenants
    ADD CONSTRAINT tenants_slug_key UNIQUE (slug);

ALTER TABLE ONLY public.webhook_events
    ADD CONSTRAINT webhook_events_pkey PRIMARY KEY (id);

CREATE INDEX contact_caps_country ON brainops.contact_caps USING btree (country, channel, state);

CREATE INDEX contact_windows_country ON brainops.contact_windows USING btree (country, channel, state);

CREATE INDEX job_archive_row ON ONLY brainops.job_archive USING btree (tenant_id, row_id);

CREATE INDEX job_archive_row_id ON ONLY brainops.job_archive USING btree (row_id);

CREATE INDEX job_events_row ON ONLY brainops.job_events USING hash (row_id);

CREATE INDEX lead_keys_lead_id ON brainops.lead_keys USING btree (tenant_id, lead_id);

CREATE UNIQUE INDEX pauses_once ON brainops.pauses USING btree (tenant_id, table_name, channel) NULLS NOT DISTINCT;

CREATE INDEX pauses_table_name ON brainops.pauses USING btree (table_name);

CREATE INDEX pauses_tenant_id ON brainops.pauses USING btree (tenant_id);

CREATE INDEX phone_zones_state ON brainops.phone_zones USING btree (country, state);

CREATE UNIQUE INDEX rate_limits_once ON brainops.rate_limits USING btree (tenant_id, table_name) NULLS NOT DISTINCT;

CREATE INDEX rate_limits_table_name ON brainops.rate_limits USING btree (table_name);

CREATE INDEX rate_limits_tenant_id ON brainops.rate_limits USING btree (tenant_id);

CREATE INDEX tenant_logins_tenant_id ON brainops.tenant_logins USING btree (tenant_id);

CREATE INDEX waiting_stripe_events_since ON brainops.waiting_stripe_events USING btree (since);

CREATE INDEX ai_campaign_touches_attention ON public.ai_campaign_touches USING btree (tenant_id, status) WHERE (status = ANY (ARRAY['failed'::text, 'unconfirmed'::text, 'awaiting_approval'::text]));

CREATE INDEX ai_campaign_touches_campaign_id ON public.ai_campaign_touches USING btree (tenant_id, campaign_id);

CREATE INDEX ai_campaign_touches_done ON public.ai_campaign_touches USING btree (finished_at) WHERE (finished_at IS NOT NULL);

CREATE UNIQUE INDEX ai_campaign_touches_idempotency_key ON public.ai_campaign_touches USING btree (tenant_id, idempotency_key) WHERE (idempotency_key IS NOT NULL);

CREATE UNIQUE INDEX ai_campaign_touches_once ON public.ai_campaign_touches USING btree (tenant_id, campaign_id, entrance, step_key) WHERE (step_key IS NOT NULL);

CREATE UNIQUE INDEX ai_campaign_touches_one_open ON public.ai_campaign_touches USING btree (tenant_id, campaign_id) WHERE ((step_key IS NOT NULL) AND (performed_at IS NULL));

CREATE INDEX ai_campaign_touches_pending ON public.ai_campaign_touches USING btree (tenant_id, scheduled_for) WHERE (status = 'pending'::text);

CREATE INDEX ai_campaign_touches_processing ON public.ai_campaign_touches USING btree (worker_id) WHERE (status = 'processing'::text);

CREATE INDEX ai_campaign_touches_split ON public.ai_campaign_touches USING btree (tenant_id, split_key, variant) WHERE (split_key IS NOT NULL);

CREATE INDEX ai_campaign_touches_template ON public.ai_campaign_touches USING btree (tenant_id, content_template, template_version) WHERE (template_version IS NOT NULL);

CREATE INDEX ai_email_queue_attention ON public.ai_email_queue USING btree (tenant_id, status) WHERE (status = ANY (ARRAY['failed'::text, 'unconfirmed'::text, 'awaiting_approval'::text]));

CREATE INDEX ai_email_queue_contacted_lead ON public.ai_email_queue USING btree (tenant_id, lead_id, started_at) WHERE (is_marketing AND (lead_id IS NOT NULL) AND (status = ANY (ARRAY['processing'::text, 'completed'::text, 'unconfirmed'::text])));

CREATE INDEX ai_email_queue_done ON public.ai_email_queue USING btree (finished_at) WHERE (finished_at IS NOT NULL);

CREATE INDEX ai_email_queue_enrolment ON public.ai_email_queue USING btree (tenant_id, enrolment_id) WHERE (enrolment_id IS NOT NULL);

CREATE UNIQUE INDEX ai_email_queue_idempotency_key ON public.ai_email_queue USING btree (tenant_id, idempotency_key) WHERE (idempotency_key IS NOT NULL);

CREATE INDEX ai_email_queue_lead_id ON public.ai_email_queue USING btree (tenant_id, lead_id) WHERE (lead_id IS NOT NULL);

CREATE INDEX ai_email_queue_pending ON public.ai_email_queue USING btree (tenant_id, scheduled_for) WHERE (status = 'pending'::text);

CREATE INDEX ai_email_queue_processing ON public.ai_email_queue USING btree (worker_id) WHERE (status = 'processing'::text);

CREATE INDEX ai_email_queue_provider_message_id ON public.ai_email_queue USING btree (provider_message_id) WHERE ((provider_message_id IS NOT NULL) AND (broadcast_id IS NULL));

CREATE INDEX ai_email_queue_recipient ON public.ai_email_queue USING btree (recipient_key, tenant_id, started_at);

CREATE INDEX ai_email_queue_tenant_id_broadcast_id_status_scheduled_for_idx ON public.ai_email_queue USING btree (tenant_id, broadcast_id, status, scheduled_for) WHERE (broadcast_id IS NOT NULL);

CREATE INDEX ai_nurture_campaigns_campaign_id ON public.ai_nurture_campaigns USING btree (tenant_id, campaign_id) WHERE (campaign_id IS NOT NULL);

CREATE INDEX ai_nurture_campaigns_lead_id ON public.ai_nurture_campaigns USING btree (tenant_id, lead_id) WHERE (lead_id IS NOT NULL);

CREATE UNIQUE INDEX ai_nurture_campaigns_one_per_lead ON public.ai_nurture_campaigns USING btree (tenant_id, lead_id, campaign_type, entrance) WHERE (lead_id IS NOT NULL);

CREATE UNIQUE INDEX ai_nurture_campaigns_one_running ON public.ai_nurture_campaigns USING btree (tenant_id, lead_id, campaign_type) WHERE ((lead_id IS NOT NULL) AND (status = ANY (ARRAY['active'::text, 'paused'::text])));

CREATE INDEX ai_onboarding_steps_awaiting ON public.ai_onboarding_steps USING btree (tenant_id, advance_on, workflow_id) WHERE ((advance_on IS NOT NULL) AND (status = ANY (ARRAY['pending'::text, 'in_progress'::text])));

CREATE INDEX ai_onboarding_steps_email ON public.ai_onboarding_steps USING btree (tenant_id, email_id) WHERE (email_id IS NOT NULL);

CREATE INDEX ai_onboarding_workflows_alias_ids ON public.ai_onboarding_workflows USING gin (alias_ids);

CREATE INDEX ai_sms_queue_attention ON public.ai_sms_queue USING btree (tenant_id, status) WHERE (status = ANY (ARRAY['failed'::text, 'unconfirmed'::text, 'awaiting_approval'::text]));

CREATE INDEX ai_sms_queue_contacted_address ON public.ai_sms_queue USING btree (tenant_id, recipient, started_at) WHERE (is_marketing AND (status = ANY (ARRAY['processing'::text, 'completed'::text, 'unconfirmed'::text])));

CREATE INDEX ai_sms_queue_contacted_lead ON public.ai_sms_queue USING btree (tenant_id, lead_id, started_at) WHERE (is_marketing AND (lead_id IS NOT NULL) AND (status = ANY (ARRAY['processing'::text, 'completed'::text, 'unconfirmed'::text])));

CREATE INDEX ai_sms_queue_done ON public.ai_sms_queue USING btree (finished_at) WHERE (finished_at IS NOT NULL);

CREATE INDEX ai_sms_queue_earlier_message_ids ON public.ai_sms_queue USING gin (earlier_message_ids) WHERE (earlier_message_ids <> '{}'::text[]);

CREATE INDEX ai_sms_queue_enrolment ON public.ai_sms_queue USING btree (tenant_id, enrolment_id) WHERE (enrolment_id IS NOT NULL);

CREATE UNIQUE INDEX ai_sms_queue_idempotency_key ON public.ai_sms_queue USING btree (tenant_id, idempotency_key) WHERE (idempotency_key IS NOT NULL);

CREATE INDEX ai_sms_queue_lead_id ON public.ai_sms_queue USING btree (tenant_id, lead_id) WHERE (lead_id IS NOT NULL);

CREATE INDEX ai_sms_queue_pending ON public.ai_sms_queue USING btree (tenant_id, scheduled_for) WHERE (status = 'pending'::text);

CREATE INDEX ai_sms_queue_processing ON public.ai_sms_queue USING btree (worker_id) WHERE (status = 'processing'::text);

CREATE INDEX ai_sms_queue_provider_message_id ON public.ai_sms_queue USING btree (provider_message_id) WHERE (provider_message_id IS NOT NULL);

CREATE INDEX ai_sms_queue_recipient ON public.ai_sms_queue USING btree (tenant_id, recipient);

CREATE INDEX ai_sms_queue_to_number ON public.ai_sms_queue USING btree (to_number, tenant_id) WHERE (to_number IS NOT NULL);

CREATE INDEX campaign_rules_campaign_id ON public.campaign_rules USING btree (tenant_id, campaign_id);

CREATE INDEX contact_consents_last_word ON public.contact_consents USING btree (tenant_id, channel, address_key, occurred_at DESC);

CREATE INDEX contact_consents_lead_id ON public.contact_consents USING btree (tenant_id, lead_id) WHERE (lead_id IS NOT NULL);

CREATE INDEX contact_topic_optouts_topic_id ON public.contact_topic_optouts USING btree (tenant_id, topic_id);

CREATE INDEX email_bounces_hard ON public.email_bounces USING btree (tenant_id, occurred_at) WHERE (bounce_type = 'hard'::text);

CREATE INDEX email_bounces_occurred_at ON public.email_bounces USING brin (occurred_at);

CREATE UNIQUE INDEX email_bounces_once ON public.email_bounces USING btree (tenant_id, recipient, email_id, occurred_at) NULLS NOT DISTINCT;

CREATE INDEX email_deliveries_complaints ON public.email_deliveries USING btree (tenant_id, occurred_at) WHERE (event = 'spamreport'::text);

CREATE INDEX email_deliveries_occurred_at ON public.email_deliveries USING brin (occurred_at);

CREATE UNIQUE INDEX email_deliveries_once ON public.email_deliveries USING btree (tenant_id, email_id, recipient, event, occurred_at, detail) NULLS NOT DISTINCT;

CREATE INDEX email_deliveries_recipient ON public.email_deliveries USING btree (tenant_id, recipient, occurred_at);

CREATE INDEX email_unsubscribe_links_token ON public.email_unsubscribe_links USING hash (token);

CREATE INDEX lead_events_form_submitted ON public.lead_events USING btree (tenant_id, source_key) WHERE (event = 'form_submitted'::text);

CREATE INDEX lead_tasks_lead_id ON public.lead_tasks USING btree (tenant_id, lead_id);

CREATE UNIQUE INDEX lead_tasks_once_per_touch ON public.lead_tasks USING btree (tenant_id, touch_id) WHERE (touch_id IS NOT NULL);

CREATE INDEX lead_tasks_open ON public.lead_tasks USING btree (tenant_id, due_at) WHERE (status = 'open'::text);

CREATE UNIQUE INDEX marketing_holds_once ON public.marketing_holds USING btree (tenant_id, channel) WHERE (lifted_at IS NULL);

CREATE INDEX marketing_holds_tenant_id_idx ON public.marketing_holds USING btree (tenant_id);

CREATE INDEX onboarding_reminders_attention ON public.onboarding_reminders USING btree (tenant_id, status) WHERE (status = ANY (ARRAY['failed'::text, 'unconfirmed'::text, 'awaiting_approval'::text]));

CREATE INDEX onboarding_reminders_done ON public.onboarding_reminders USING btree (finished_at) WHERE (finished_at IS NOT NULL);

CREATE UNIQUE INDEX onboarding_reminders_idempotency_key ON public.onboarding_reminders USING btree (tenant_id, idempotency_key) WHERE (idempotency_key IS NOT NULL);

CREATE INDEX onboarding_reminders_pending ON public.onboarding_reminders USING btree (tenant_id, scheduled_for) WHERE (status = 'pending'::text);

CREATE INDEX onboarding_reminders_processing ON public.onboarding_reminders USING btree (worker_id) WHERE (status = 'processing'::text);

CREATE INDEX opt_in_requests_address ON public.opt_in_requests USING btree (tenant_id, address_key, created_at);

CREATE INDEX opt_in_requests_lead_id ON public.opt_in_requests USING btree (tenant_id, lead_id) WHERE (lead_id IS NOT NULL);

CREATE INDEX opt_in_requests_token ON public.opt_in_requests USING btree (token);

CREATE INDEX opt_in_requests_waiting ON public.opt_in_requests USING btree (tenant_id) WHERE (email_id IS NULL);

CREATE INDEX payment_disputes_request ON public.payment_disputes USING btree (tenant_id, payment_request_id);

CREATE INDEX payment_ledger_request ON public.payment_ledger USING btree (tenant_id, payment_request_id);

CREATE INDEX payment_link_closures_attention ON public.payment_link_closures USING btree (tenant_id, status) WHERE (status = ANY (ARRAY['failed'::text, 'unconfirmed'::text, 'awaiting_approval'::text]));

CREATE INDEX payment_link_closures_done ON public.payment_link_closures USING btree (finished_at) WHERE (finished_at IS NOT NULL);

CREATE UNIQUE INDEX payment_link_closures_idempotency_key ON public.payment_link_closures USING btree (tenant_id, idempotency_key) WHERE (idempotency_key IS NOT NULL);

CREATE UNIQUE INDEX payment_link_closures_once ON public.payment_link_closures USING btree (tenant_id, payment_request_id, key_generation);

CREATE INDEX payment_link_closures_pending ON public.payment_link_closures USING btree (tenant_id, scheduled_for) WHERE (status = 'pending'::text);

CREATE INDEX payment_link_closures_processing ON public.payment_link_closures USING btree (worker_id) WHERE (status = 'processing'::text);

CREATE INDEX payment_requests_attention ON public.payment_requests USING btree (tenant_id, status) WHERE (status = ANY (ARRAY['failed'::text, 'unconfirmed'::text, 'awaiting_approval'::text]));

CREATE INDEX payment_requests_done ON public.payment_requests USING btree (finished_at) WHERE (finished_at IS NOT NULL);

CREATE UNIQUE INDEX payment_requests_idempotency_key ON public.payment_requests USING btree (tenant_id, idempotency_key) WHERE (idempotency_key IS NOT NULL);

CREATE INDEX payment_requests_lead_id ON public.payment_requests USING btree (tenant_id, lead_id) WHERE (lead_id IS NOT NULL);

CREATE INDEX payment_requests_payment_status ON public.payment_requests USING btree (tenant_id, payment_status);

CREATE INDEX payment_requests_pending ON public.payment_requests USING btree (tenant_id, scheduled_for) WHERE (status = 'pending'::text);

CREATE INDEX payment_requests_processing ON public.payment_requests USING btree (worker_id) WHERE (status = 'processing'::text);

CREATE UNIQUE INDEX plans_code ON public.plans USING btree (tenant_id, code) NULLS NOT DISTINCT;

CREATE INDEX plans_currency ON public.plans USING btree (currency);

CREATE INDEX plans_lead_id ON public.plans USING btree (tenant_id, lead_id) WHERE (lead_id IS NOT NULL);

CREATE UNIQUE INDEX plans_name ON public.plans USING btree (tenant_id, lead_id, lower(btrim(name))) NULLS NOT DISTINCT WHERE active;

CREATE INDEX provider_credentials_endpoint ON public.provider_credentials USING btree (endpoint_token);

CREATE INDEX revenue_lead_aliases_lead_id ON public.revenue_lead_aliases USING btree (tenant_id, lead_id);

CREATE INDEX revenue_leads_merged_into ON public.revenue_leads USING btree (tenant_id, merged_into) WHERE (merged_into IS NOT NULL);

CREATE UNIQUE INDEX revenue_leads_person ON public.revenue_leads USING btree (tenant_id, email_key) WHERE (email_key IS NOT NULL);

CREATE INDEX revenue_leads_phone ON public.revenue_leads USING btree (tenant_id, phone_e164) WHERE (phone_e164 IS NOT NULL);

CREATE INDEX sms_deliveries_message ON public.sms_deliveries USING btree (provider_message_id);

CREATE INDEX sms_deliveries_occurred_at ON public.sms_deliveries USING brin (occurred_at);

CREATE UNIQUE INDEX sms_deliveries_once ON public.sms_deliveries USING btree (tenant_id, provider_message_id, event, sms_id) NULLS NOT DISTINCT;

CREATE INDEX sms_deliveries_recipient ON public.sms_deliveries USING btree (tenant_id, recipient, occurred_at);

CREATE INDEX sms_deliveries_sms ON public.sms_deliveries USING btree (tenant_id, sms_id);

CREATE INDEX sms_inbound_from ON public.sms_inbound USING btree (tenant_id, from_number, received_at);

CREATE INDEX sms_inbound_lead_id ON public.sms_inbound USING btree (tenant_id, lead_id) WHERE (lead_id IS NOT NULL);

CREATE INDEX sms_numbers_number ON public.sms_numbers USING btree (number);

CREATE INDEX sms_threads_number ON public.sms_threads USING btree (number);

CREATE UNIQUE INDEX sms_threads_once ON public.sms_threads USING btree (tenant_id, number, sender) NULLS NOT DISTINCT;

CREATE INDEX stripe_objects_object_id ON public.stripe_objects USING btree (object_id);

CREATE INDEX stripe_objects_request ON public.stripe_objects USING btree (tenant_id, payment_request_id);

CREATE INDEX subscriptions_request ON public.subscriptions USING btree (tenant_id, payment_request_id);

CREATE INDEX subscriptions_status ON public.subscriptions USING btree (tenant_id, status);

CREATE INDEX tenant_notifications_attention ON public.tenant_notifications USING btree (tenant_id, status) WHERE (status = ANY (ARRAY['failed'::text, 'unconfirmed'::text, 'awaiting_approval'::text]));

CREATE INDEX tenant_notifications_done ON public.tenant_notifications USING btree (finished_at) WHERE (finished_at IS NOT NULL);

CREATE UNIQUE INDEX tenant_notifications_idempotency_key ON public.tenant_notifications USING btree (tenant_id, idempotency_key) WHERE (idempotency_key IS NOT NULL);

CREATE INDEX tenant_notifications_lead_id ON public.tenant_notifications USING btree (tenant_id, lead_id) WHERE (lead_id IS NOT NULL);

CREATE INDEX tenant_notifications_pending ON public.tenant_notifications USING btree (tenant_id, scheduled_for) WHERE (status = 'pending'::text);

CREATE INDEX tenant_notifications_processing ON public.tenant_notifications USING btree (worker_id) WHERE (status = 'processing'::text);

CREATE UNIQUE INDEX tenants_one_default ON public.tenants USING btree (is_default) WHERE is_default;

CREATE INDEX webhook_events_failed ON public.webhook_events USING btree (tenant_id) WHERE (status = 'failed'::text);

CREATE UNIQUE INDEX webhook_events_once ON public.webhook_events USING btree (tenant_id, provider, provider_event_id) NULLS NOT DISTINCT;

CREATE INDEX webhook_events_pending ON public.webhook_events USING btree (received_at) WHERE (status = 'pending'::text);

CREATE INDEX webhook_events_processed ON public.webhook_events USING btree (processed_at) WHERE (processed_at IS NOT NULL);

CREATE TRIGGER a0_remember_tenant BEFORE INSERT ON brainops.contact_counts FOR EACH STATEMENT EXECUTE FUNCTION brainops_internal.remember_tenant();

CREATE TRIGGER a0_remember_tenant BEFORE INSERT ON brainops.lead_keys FOR EACH STATEMENT EXECUTE FUNCTION brainops_internal.remember_tenant();

CREATE TRIGGER a1_fill_tenant BEFORE INSERT ON brainops.contact_counts FOR EACH ROW WHEN (((new.tenant_id IS NULL) OR (current_setting('brainops.statement_tenant'::text, true) = ''::text))) EXECUTE FUNCTION brainops_internal.fill_tenant();

CREATE TRIGGER a1_fill_tenant BEFORE INSERT ON brainops.lead_keys FOR EACH ROW WHEN (((new.tenant_id IS NULL) OR (current_setting('brainops.statement_tenant'::text, true) = ''::text))) EXECUTE FUNCTION brainops_internal.fill_tenant();

CREATE TRIGGER a1_show_inserted_row BEFORE INSERT ON brainops.contact_counts FOR EACH ROW WHEN (((current_setting('brainops.statement_tenant'::text, true) = ''::text) AND pg_has_role(CURRENT_USER, 'brainops_service'::name, 'member'::text))) EXECUTE FUNCTION brainops_internal.show_inserted_row();

CREATE TRIGGER a1_show_inserted_row BEFORE INSERT ON brainops.lead_keys FOR EACH ROW WHEN (((current_setting('brainops.statement_tenant'::text, true) = ''::text) AND pg_has_role(CURRENT_USER, 'brainops_service'::name, 'member'::text))) EXECUTE FUNCTION brainops_internal.show_inserted_row();

CREATE TRIGGER b0_append_only BEFORE UPDATE ON brainops.job_archive FOR EACH ROW EXECUTE FUNCTION brainops_internal.refuse_change();

CREATE TRIGGER b0_append_only BEFORE DELETE OR UPDATE ON brainops.job_events FOR EACH ROW EXECUTE FUNCTION brainops_internal.refuse_change();

CREATE TRIGGER b0_append_only_truncate BEFORE TRUNCATE ON brainops.job_events FOR EACH STATEMENT EXECUTE FUNCTION brainops_internal.refuse_change();

CREATE TRIGGER b0_check_cap_window BEFORE UPDATE OF archive_after ON brainops.job_tables FOR EACH ROW WHEN ((new.channel = ANY (ARRAY['email'::text, 'sms'::text]))) EXECUTE FUNCTION brainops_internal.check_cap_window();

CREATE TRIGGER a0_before_tenant_delete BEFORE DELETE ON public.tenants FOR EACH ROW EXECUTE FUNCTION brainops_internal.before_tenant_delete();

CREATE TRIGGER a0_check_email_row BEFORE INSERT OR UPDATE OF recipient, subject, body, metadata ON public.ai_email_queue FOR EACH ROW EXECUTE FUNCTION brainops_internal.check_email_row();

CREATE TRIGGER a0_check_sms_row BEFORE INSERT OR UPDATE OF recipient, body, metadata ON public.ai_sms_queue FOR EACH ROW EXECUTE FUNCTION brainops_internal.check_sms_row();

CREATE TRIGGER a0_remember_tenant BEFORE INSERT ON public.ai_broadcasts FOR EACH STATEMENT EXECUTE FUNCTION brainops_internal.remember_tenant();

CREATE TRIGGER a0_remember_tenant BEFORE INSERT ON public.ai_campaign_templates FOR EACH STATEMENT EXECUTE FUNCTION brainops_internal.remember_tenant();

CREATE TRIGGER a0_remember_tenant BEFORE INSERT ON public.ai_campaign_touches FOR EACH STATEMENT EXECUTE FUNCTION brainops_internal.remember_tenant();

CREATE TRIGGER a0_remember_tenant BEFORE INSERT ON public.ai_email_queue FOR EACH STATEMENT EXECUTE FUNCTION brainops_internal.remember_tenant();

CREATE TRIGGER a0_remember_tenant BEFORE INSERT ON public.ai_nurture_campaigns FOR EACH STATEMENT EXECUTE FUNCTION brainops_internal.remember_tenant();

CREATE TRIGGER a0_remember_tenant BEFORE INSERT ON public.ai_onboarding_steps FOR EACH STATEMENT EXECUTE FUNCTION brainops_internal.remember_tenant();

CREATE TRIGGER a0_remember_tenant BEFORE INSERT ON public.ai_onboarding_workflows FOR EACH STATEMENT EXECUTE FUNCTION brainops_internal.remember_tenant();

CREATE TRIGGER a0_remember_tenant BEFORE INSERT ON public.ai_sms_queue FOR EACH STATEMENT EXECUTE FUNCTION brainops_internal.remember_tenant();

CREATE TRIGGER a0_remember_tenant BEFORE INSERT ON public.campaign_rules FOR EACH STATEMENT EXECUTE FUNCTION brainops_internal.remember_tenant();

CREATE TRIGGER a0_remember_tenant BEFORE INSERT ON public.campaign_split_winners FOR EACH STATEMENT EXECUTE FUNCTION brainops_internal.remember_tenant();

CREATE TRIGGER a0_remember_tenant BEFORE INSERT ON public.campaign_steps FOR EACH STATEMENT EXECUTE FUNCTION brainops_internal.remember_tenant();

CREATE TRIGGER a0_remember_tenant BEFORE INSERT ON public.campaign_touch_events FOR EACH STATEMENT EXECUTE FUNCTION brainops_internal.remember_tenant();

CREATE TRIGGER a0_remember_tenant BEFORE INSERT ON public.campaigns FOR EACH STATEMENT EXECUTE FUNCTION brainops_internal.remember_tenant();

CREATE TRIGGER a0_remember_tenant BEFORE INSERT ON public.contact_consents FOR EACH STATEMENT EXECUTE FUNCTION brainops_internal.remember_tenant();

CREATE TRIGGER a0_remember_tenant BEFORE INSERT ON public.contact_policies FOR EACH STATEMENT EXECUTE FUNCTION brainops_internal.remember_tenant();

CREATE TRIGGER a0_remember_tenant BEFORE INSERT ON public.contact_suppressions FOR EACH STATEMENT EXECUTE FUNCTION brainops_internal.remember_tenant();

CREATE TRIGGER a0_remember_tenant BEFORE INSERT ON public.contact_topic_optouts FOR EACH STATEMENT EXECUTE FUNCTION brainops_internal.remember_tenant();

CREATE TRIGGER a0_remember_tenant BEFORE INSERT ON public.contact_topics FOR EACH STATEMENT EXECUTE FUNCTION brainops_internal.remember_tenant();

CREATE TRIGGER a0_remember_tenant BEFORE INSERT ON public.email_bounces FOR EACH STATEMENT EXECUTE FUNCTION brainops_internal.remember_tenant();

CREATE TRIGGER a0_remember_tenant BEFORE INSERT ON public.email_deliveries FOR EACH STATEMENT EXECUTE FUNCTION brainops_internal.remember_tenant();

CREATE TRIGGER a0_remember_tenant BEFORE INSERT ON public.email_unsubscribe_links FOR EACH STATEMENT EXECUTE FUNCTION brainops_internal.remember_tenant();

CREATE TRIGGER a0_remember_tenant BEFORE INSERT ON public.lead_events FOR EACH STATEMENT EXECUTE FUNCTION brainops_internal.remember_tenant();

CREATE TRIGGER a0_remember_tenant BEFORE INSERT ON public.lead_forms FOR EACH STATEMENT EXECUTE FUNCTION brainops_internal.remember_tenant();

CREATE TRIGGER a0_remember_tenant BEFORE INSERT ON public.lead_score_events FOR EACH STATEMENT EXECUTE FUNCTION brainops_internal.remember_tenant();

CREATE TRIGGER a0_remember_tenant BEFORE INSERT ON public.lead_tasks FOR EACH STATEMENT EXECUTE FUNCTION brainops_internal.remember_tenant();

CREATE TRIGGER a0_remember_tenant BEFORE INSERT ON public.marketing_holds FOR EACH STATEMENT EXECUTE FUNCTION brainops_internal.remember_tenant();

CREATE TRIGGER a0_remember_tenant BEFORE INSERT ON public.onboarding_reminders FOR EACH STATEMENT EXECUTE FUNCTION brainops_internal.remember_tenant();

CREATE TRIGGER a0_remember_tenant BEFORE INSERT ON public.onboarding_templates FOR EACH STATEMENT EXECUTE FUNCTION brainops_internal.remember_tenant();

CREATE TRIGGER a0_remember_tenant BEFORE INSERT ON public.opt_in_requests FOR EACH STATEMENT EXECUTE FUNCTION brainops_internal.remember_tenant();

CREATE TRIGGER a0_remember_tenant BEFORE INSERT ON public.payment_disputes FOR EACH STATEMENT EXECUTE FUNCTION brainops_internal.remember_tenant();

CREATE TRIGGER a0_remember_tenant BEFORE INSERT ON public.payment_ledger FOR EACH STATEMENT EXECUTE FUNCTION brainops_internal.remember_tenant();

CREATE TRIGGER a0_remember_tenant BEFORE INSERT ON public.payment_link_closures FOR EACH STATEMENT EXECUTE FUNCTION brainops_internal.remember_tenant();

CREATE TRIGGER a0_remember_tenant BEFORE INSERT ON public.payment_requests FOR EACH STATEMENT EXECUTE FUNCTION brainops_internal.remember_tenant();

CREATE TRIGGER a0_remember_tenant BEFORE INSERT ON public.plans FOR EACH STATEMENT EXECUTE FUNCTION brainops_internal.remember_tenant();

CREATE TRIGGER a0_remember_tenant BEFORE INSERT ON public.provider_credentials FOR EACH STATEMENT EXECUTE FUNCTION brainops_internal.remember_tenant();

CREATE TRIGGER a0_remember_tenant BEFORE INSERT ON public.revenue_lead_aliases FOR EACH STATEMENT EXECUTE FUNCTION brainops_internal.remember_tenant();

CREATE TRIGGER a0_remember_tenant BEFORE INSERT ON public.revenue_leads FOR EACH STATEMENT EXECUTE FUNCTION brainops_internal.remember_tenant();

CREATE TRIGGER a0_remember_tenant BEFORE INSERT ON public.sender_warmups FOR EACH STATEMENT EXECUTE FUNCTION brainops_internal.remember_tenant();

CREATE TRIGGER a0_remember_tenant BEFORE INSERT ON public.sms_deliveries FOR EACH STATEMENT EXECUTE FUNCTION brainops_internal.remember_tenant();

CREATE TRIGGER a0_remember_tenant BEFORE INSERT ON public.sms_inbound FOR EACH STATEMENT EXECUTE FUNCTION brainops_internal.remember_tenant();

CREATE TRIGGER a0_remember_tenant BEFORE INSERT ON public.sms_numbers FOR EACH STATEMENT EXECUTE FUNCTION brainops_internal.remember_tenant();

CREATE TRIGGER a0_remember_tenant BEFORE INSERT ON public.sms_threads FOR EACH STATEMENT EXECUTE FUNCTION brainops_internal.remember_tenant();

CREATE TRIGGER a0_remember_tenant BEFORE INSERT ON public.stripe_objects FOR EACH STATEMENT EXECUTE FUNCTION brainops_internal.remember_tenant();

CREATE TRIGGER a0_remember_tenant BEFORE INSERT ON public.subscriptions FOR EACH STATEMENT EXECUTE FUNCTION brainops_internal.remember_tenant();

CREATE TRIGGER a0_remember_tenant BEFORE INSERT ON public.tenant_keys FOR EACH STATEMENT EXECUTE FUNCTION brainops_internal.remember_tenant();

CREATE TRIGGER a0_remember_tenant BEFORE INSERT ON public.tenant_notifications FOR EACH STATEMENT EXECUTE FUNCTION brainops_internal.remember_tenant();

CREATE TRIGGER a0_resolve_lead_id BEFORE INSERT ON public.ai_email_queue FOR EACH ROW WHEN ((new.lead_id IS NOT NULL)) EXECUTE FUNCTION brainops_internal.resolve_lead_id();

CREATE TRIGGER a0_resolve_lead_id BEFORE INSERT ON public.ai_nurture_campaigns FOR EACH ROW WHEN ((new.lead_id IS NOT NULL)) EXECUTE FUNCTION brainops_internal.resolve_lead_id();

CREATE TRIGGER a0_resolve_lead_id BEFORE INSERT ON public.ai_onboarding_workflows FOR EACH ROW EXECUTE FUNCTION brainops_internal.resolve_lead_id();

CREATE TRIGGER a0_resolve_lead_id BEFORE INSERT ON public.ai_sms_queue FOR EACH ROW WHEN ((new.lead_id IS NOT NULL)) EXECUTE FUNCTION brainops_internal.resolve_lead_id();

CREATE TRIGGER a0_resolve_lead_id BEFORE INSERT ON public.contact_consents FOR EACH ROW WHEN ((new.lead_id IS NOT NULL)) EXECUTE FUNCTION brainops_internal.resolve_lead_id();

CREATE TRIGGER a0_resolve_lead_id BEFORE INSERT ON public.lead_events FOR EACH ROW EXECUTE FUNCTION brainops_internal.resolve_lead_id();

CREATE TRIGGER a0_resolve_lead_id BEFORE INSERT ON public.lead_score_events FOR EACH ROW EXECUTE FUNCTION brainops_internal.resolve_lead_id();

CREATE TRIGGER a0_resolve_lead_id BEFORE INSERT ON public.lead_tasks FOR EACH ROW WHEN ((new.lead_id IS NOT NULL)) EXECUTE FUNCTION brainops_internal.resolve_lead_id();

CREATE TRIGGER a0_resolve_lead_id BEFORE INSERT ON public.opt_in_requests FOR EACH ROW WHEN ((new.lead_id IS NOT NULL)) EXECUTE FUNCTION brainops_internal.resolve_lead_id();

CREATE TRIGGER a0_resolve_lead_id BEFORE INSERT ON public.payment_requests FOR EACH ROW WHEN ((new.lead_id IS NOT NULL)) EXECUTE FUNCTION brainops_internal.resolve_lead_id();

CREATE TRIGGER a0_resolve_lead_id BEFORE INSERT ON public.plans FOR EACH ROW WHEN ((new.lead_id IS NOT NULL)) EXECUTE FUNCTION brainops_internal.resolve_lead_id();

CREATE TRIGGER a0_resolve_lead_id BEFORE INSERT ON public.sms_inbound FOR EACH ROW WHEN ((new.lead_id IS NOT NULL)) EXECUTE FUNCTION brainops_internal.resolve_lead_id();

CREATE TRIGGER a0_resolve_lead_id BEFORE INSERT ON public.tenant_notifications FOR EACH ROW WHEN ((new.lead_id IS NOT NULL)) EXECUTE FUNCTION brainops_internal.resolve_lead_id();

CREATE TRIGGER a0_resolve_onboarding_workflow BEFORE INSERT ON public.ai_onboarding_steps FOR EACH ROW EXECUTE FUNCTION brainops_internal.resolve_onboarding_workflow();

CREATE TRIGGER a1_fill_tenant BEFORE INSERT ON public.ai_broadcasts FOR EACH ROW WHEN (((new.tenant_id IS NULL) OR (current_setting('brainops.statement_tenant'::text, true) = ''::text))) EXECUTE FUNCTION brainops_internal.fill_tenant();

CREATE TRIGGER a1_fill_tenant BEFORE INSERT ON public.ai_campaign_templates FOR EACH ROW WHEN (((new.tenant_id IS NULL) OR (current_setting('brainops.statement_tenant'::text, true) = ''::text))) EXECUTE FUNCTION brainops_internal.fill_tenant();

CREATE TRIGGER a1_fill_tenant BEFORE INSERT ON public.ai_campaign_touches FOR EACH ROW WHEN (((new.tenant_id IS NULL) OR (current_setting('brainops.statement_tenant'::text, true) = ''::text))) EXECUTE FUNCTION brainops_internal.fill_tenant();

CREATE TRIGGER a1_fill_tenant BEFORE INSERT ON public.ai_email_queue FOR EACH ROW WHEN (((new.tenant_id IS NULL) OR (current_setting('brainops.statement_tenant'::text, true) = ''::text))) EXECUTE FUNCTION brainops_internal.fill_tenant();

CREATE TRIGGER a1_fill_tenant BEFORE INSERT ON public.ai_nurture_campaigns FOR EACH ROW WHEN (((new.tenant_id IS NULL) OR (current_setting('brainops.statement_tenant'::text, true) = ''::text))) EXECUTE FUNCTION brainops_internal.fill_tenant();

CREATE TRIGGER a1_fill_tenant BEFORE INSERT ON public.ai_onboarding_steps FOR EACH ROW WHEN (((new.tenant_id IS NULL) OR (current_setting('brainops.statement_tenant'::text, true) = ''::text))) EXECUTE FUNCTION brainops_internal.fill_tenant();

CREATE TRIGGER a1_fill_tenant BEFORE INSERT ON public.ai_onboarding_workflows FOR EACH ROW WHEN (((new.tenant_id IS NULL) OR (current_setting('brainops.statement_tenant'::text, true) = ''::text))) EXECUTE FUNCTION brainops_internal.fill_tenant();

CREATE TRIGGER a1_fill_tenant BEFORE INSERT ON public.ai_sms_queue FOR EACH ROW WHEN (((new.tenant_id IS NULL) OR (current_setting('brainops.statement_tenant'::text, true) = ''::text))) EXECUTE FUNCTION brainops_internal.fill_tenant();

CREATE TRIGGER a1_fill_tenant BEFORE INSERT ON public.campaign_rules FOR EACH ROW WHEN (((new.tenant_id IS NULL) OR (current_setting('brainops.statement_tenant'::text, true) = ''::text))) EXECUTE FUNCTION brainops_internal.fill_tenant();

CREATE TRIGGER a1_fill_tenant BEFORE INSERT ON public.campaign_split_winners FOR EACH ROW WHEN (((new.tenant_id IS NULL) OR (current_setting('brainops.statement_tenant'::text, true) = ''::text))) EXECUTE FUNCTION brainops_internal.fill_tenant();

CREATE TRIGGER a1_fill_tenant BEFORE INSERT ON public.campaign_steps FOR EACH ROW WHEN (((new.tenant_id IS NULL) OR (current_setting('brainops.statement_tenant'::text, true) = ''::text))) EXECUTE FUNCTION brainops_internal.fill_tenant();

CREATE TRIGGER a1_fill_tenant BEFORE INSERT ON public.campaign_touch_events FOR EACH ROW WHEN (((new.tenant_id IS NULL) OR (current_setting('brainops.statement_tenant'::text, true) = ''::text))) EXECUTE FUNCTION brainops_internal.fill_tenant();

CREATE TRIGGER a1_fill_tenant BEFORE INSERT ON public.campaigns FOR EACH ROW WHEN (((new.tenant_id IS NULL) OR (current_setting('brainops.statement_tenant'::text, true) = ''::text))) EXECUTE FUNCTION brainops_internal.fill_tenant();

CREATE TRIGGER a1_fill_tenant BEFORE INSERT ON public.contact_consents FOR EACH ROW WHEN (((new.tenant_id IS NULL) OR (current_setting('brainops.statement_tenant'::text, true) = ''::text))) EXECUTE FUNCTION brainops_internal.fill_tenant();

CREATE TRIGGER a1_fill_tenant BEFORE INSERT ON public.contact_policies FOR EACH ROW WHEN (((new.tenant_id IS NULL) OR (current_setting('brainops.statement_tenant'::text, true) = ''::text))) EXECUTE FUNCTION brainops_internal.fill_tenant();

CREATE TRIGGER a1_fill_tenant BEFORE INSERT ON public.contact_suppressions FOR EACH ROW WHEN (((new.tenant_id IS NULL) OR (current_setting('brainops.statement_tenant'::text, true) = ''::text))) EXECUTE FUNCTION brainops_internal.fill_tenant();

CREATE TRIGGER a1_fill_tenant BEFORE INSERT ON public.contact_topic_optouts FOR EACH ROW WHEN (((new.tenant_id IS NULL) OR (current_setting('brainops.statement_tenant'::text, true) = ''::text))) EXECUTE FUNCTION brainops_internal.fill_tenant();

CREATE TRIGGER a1_fill_tenant BEFORE INSERT ON public.contact_topics FOR EACH ROW WHEN (((new.tenant_id IS NULL) OR (current_setting('brainops.statement_tenant'::text, true) = ''::text))) EXECUTE FUNCTION brainops_internal.fill_tenant();

CREATE TRIGGER a1_fill_tenant BEFORE INSERT ON public.email_bounces FOR EACH ROW WHEN (((new.tenant_id IS NULL) OR (current_setting('brainops.statement_tenant'::text, true) = ''::text))) EXECUTE FUNCTION brainops_internal.fill_tenant();

CREATE TRIGGER a1_fill_tenant BEFORE INSERT ON public.email_deliveries FOR EACH ROW WHEN (((new.tenant_id IS NULL) OR (current_setting('brainops.statement_tenant'::text, true) = ''::text))) EXECUTE FUNCTION brainops_internal.fill_tenant();

CREATE TRIGGER a1_fill_tenant BEFORE INSERT ON public.email_unsubscribe_links FOR EACH ROW WHEN (((new.tenant_id IS NULL) OR (current_setting('brainops.statement_tenant'::text, true) = ''::text))) EXECUTE FUNCTION brainops_internal.fill_tenant();

CREATE TRIGGER a1_fill_tenant BEFORE INSERT ON public.lead_events FOR EACH ROW WHEN (((new.tenant_id IS NULL) OR (current_setting('brainops.statement_tenant'::text, true) = ''::text))) EXECUTE FUNCTION brainops_internal.fill_tenant();

CREATE TRIGGER a1_fill_tenant BEFORE INSERT ON public.lead_forms FOR EACH ROW WHEN (((new.tenant_id IS NULL) OR (current_setting('brainops.statement_tenant'::text, true) = ''::text))) EXECUTE FUNCTION brainops_internal.fill_tenant();

CREATE TRIGGER a1_fill_tenant BEFORE INSERT ON public.lead_score_events FOR EACH ROW WHEN (((new.tenant_id IS NULL) OR (current_setting('brainops.statement_tenant'::text, true) = ''::text))) EXECUTE FUNCTION brainops_internal.fill_tenant();

CREATE TRIGGER a1_fill_tenant BEFORE INSERT ON public.lead_tasks FOR EACH ROW WHEN (((new.tenant_id IS NULL) OR (current_setting('brainops.statement_tenant'::text, true) = ''::text))) EXECUTE FUNCTION brainops_internal.fill_tenant();

CREATE TRIGGER a1_fill_tenant BEFORE INSERT ON public.marketing_holds FOR EACH ROW WHEN (((new.tenant_id IS NULL) OR (current_setting('brainops.statement_tenant'::text, true) = ''::text))) EXECUTE FUNCTION brainops_internal.fill_tenant();

CREATE TRIGGER a1_fill_tenant BEFORE INSERT ON public.onboarding_reminders FOR EACH ROW WHEN (((new.tenant_id IS NULL) OR (current_setting('brainops.statement_tenant'::text, true) = ''::text))) EXECUTE FUNCTION brainops_internal.fill_tenant();

CREATE TRIGGER a1_fill_tenant BEFORE INSERT ON public.onboarding_templates FOR EACH ROW WHEN (((new.tenant_id IS NULL) OR (current_setting('brainops.statement_tenant'::text, true) = ''::text))) EXECUTE FUNCTION brainops_internal.fill_tenant();

CREATE TRIGGER a1_fill_tenant BEFORE INSERT ON public.opt_in_requests FOR EACH ROW WHEN (((new.tenant_id IS NULL) OR (current_setting('brainops.statement_tenant'::text, true) = ''::text))) EXECUTE FUNCTION brainops_internal.fill_tenant();

CREATE TRIGGER a1_fill_tenant BEFORE INSERT ON public.payment_disputes FOR EACH ROW WHEN (((new.tenant_id IS NULL) OR (current_setting('brainops.statement_tenant'::text, true) = ''::text))) EXECUTE FUNCTION brainops_internal.fill_tenant();

CREATE TRIGGER a1_fill_tenant BEFORE INSERT ON public.payment_ledger FOR EACH ROW WHEN (((new.tenant_id IS NULL) OR (current_setting('brainops.statement_tenant'::text, true) = ''::text))) EXECUTE FUNCTION brainops_internal.fill_tenant();

CREATE TRIGGER a1_fill_tenant BEFORE INSERT ON public.payment_link_closures FOR EACH ROW WHEN (((new.tenant_id IS NULL) OR (current_setting('brainops.statement_tenant'::text, true) = ''::text))) EXECUTE FUNCTION brainops_internal.fill_tenant();

CREATE TRIGGER a1_fill_tenant BEFORE INSERT ON public.payment_requests FOR EACH ROW WHEN (((new.tenant_id IS NULL) OR (current_setting('brainops.statement_tenant'::text, true) = ''::text))) EXECUTE FUNCTION brainops_internal.fill_tenant();

CREATE TRIGGER a1_fill_tenant BEFORE INSERT ON public.plans FOR EACH ROW WHEN ((new.tenant_id IS NULL)) EXECUTE FUNCTION brainops_internal.fill_plan_tenant();

CREATE TRIGGER a1_fill_tenant BEFORE INSERT ON public.provider_credentials FOR EACH ROW WHEN (((new.tenant_id IS NULL) OR (current_setting('brainops.statement_tenant'::text, true) = ''::text))) EXECUTE FUNCTION brainops_internal.fill_tenant();

CREATE TRIGGER a1_fill_tenant BEFORE INSERT ON public.revenue_lead_aliases FOR EACH ROW WHEN (((new.tenant_id IS NULL) OR (current_setting('brainops.statement_tenant'::text, true) = ''::text))) EXECUTE FUNCTION brainops_internal.fill_tenant();

CREATE TRIGGER a1_fill_tenant BEFORE INSERT ON public.revenue_leads FOR EACH ROW WHEN (((new.tenant_id IS NULL) OR (current_setting('brainops.statement_tenant'::text, true) = ''::text))) EXECUTE FUNCTION brainops_internal.fill_tenant();

CREATE TRIGGER a1_fill_tenant BEFORE INSERT ON public.sender_warmups FOR EACH ROW WHEN (((new.tenant_id IS NULL) OR (current_setting('brainops.statement_tenant'::text, true) = ''::text))) EXECUTE FUNCTION brainops_internal.fill_tenant();

CREATE TRIGGER a1_fill_tenant BEFORE INSERT ON public.sms_deliveries FOR EACH ROW WHEN (((new.tenant_id IS NULL) OR (current_setting('brainops.statement_tenant'::text, true) = ''::text))) EXECUTE FUNCTION brainops_internal.fill_tenant();

CREATE TRIGGER a1_fill_tenant BEFORE INSERT ON public.sms_inbound FOR EACH ROW WHEN (((new.tenant_id IS NULL) OR (current_setting('brainops.statement_tenant'::text, true) = ''::text))) EXECUTE FUNCTION brainops_internal.fill_tenant();

CREATE TRIGGER a1_fill_tenant BEFORE INSERT ON public.sms_numbers FOR EACH ROW WHEN (((new.tenant_id IS NULL) OR (current_setting('brainops.statement_tenant'::text, true) = ''::text))) EXECUTE FUNCTION brainops_internal.fill_tenant();

CREATE TRIGGER a1_fill_tenant BEFORE INSERT ON public.sms_threads FOR EACH ROW WHEN (((new.tenant_id IS NULL) OR (current_setting('brainops.statement_tenant'::text, true) = ''::text))) EXECUTE FUNCTION brainops_internal.fill_tenant();

CREATE TRIGGER a1_fill_tenant BEFORE INSERT ON public.stripe_objects FOR EACH ROW WHEN (((new.tenant_id IS NULL) OR (current_setting('brainops.statement_tenant'::text, true) = ''::text))) EXECUTE FUNCTION brainops_internal.fill_tenant();

CREATE TRIGGER a1_fill_tenant BEFORE INSERT ON public.subscriptions FOR EACH ROW WHEN (((new.tenant_id IS NULL) OR (current_setting('brainops.statement_tenant'::text, true) = ''::text))) EXECUTE FUNCTION brainops_internal.fill_tenant();

CREATE TRIGGER a1_fill_tenant BEFORE INSERT ON public.tenant_keys FOR EACH ROW WHEN (((new.tenant_id IS NULL) OR (current_setting('brainops.statement_tenant'::text, true) = ''::text))) EXECUTE FUNCTION brainops_internal.fill_tenant();

CREATE TRIGGER a1_fill_tenant BEFORE INSERT ON public.tenant_notifications FOR EACH ROW WHEN (((new.tenant_id IS NULL) OR (current_setting('brainops.statement_tenant'::text, true) = ''::text))) EXECUTE FUNCTION brainops_internal.fill_tenant();

CREATE TRIGGER a1_show_inserted_row BEFORE INSERT ON public.ai_broadcasts FOR EACH ROW WHEN (((current_setting('brainops.statement_tenant'::text, true) = ''::text) AND pg_has_role(CURRENT_USER, 'brainops_service'::name, 'member'::text))) EXECUTE FUNCTION brainops_internal.show_inserted_row();

CREATE TRIGGER a1_show_inserted_row BEFORE INSERT ON public.ai_campaign_templates FOR EACH ROW WHEN (((current_setting('brainops.statement_tenant'::text, true) = ''::text) AND pg_has_role(CURRENT_USER, 'brainops_service'::name, 'member'::text))) EXECUTE FUNCTION brainops_internal.show_inserted_row();

CREATE TRIGGER a1_show_inserted_row BEFORE INSERT ON public.ai_campaign_touches FOR EACH ROW WHEN (((current_setting('brainops.statement_tenant'::text, true) = ''::text) AND pg_has_role(CURRENT_USER, 'brainops_service'::name, 'member'::text))) EXECUTE FUNCTION brainops_internal.show_inserted_row();

CREATE TRIGGER a1_show_inserted_row BEFORE INSERT ON public.ai_email_queue FOR EACH ROW WHEN (((current_setting('brainops.statement_tenant'::text, true) = ''::text) AND pg_has_role(CURRENT_USER, 'brainops_service'::name, 'member'::text))) EXECUTE FUNCTION brainops_internal.show_inserted_row();

CREATE TRIGGER a1_show_inserted_row BEFORE INSERT ON public.ai_nurture_campaigns FOR EACH ROW WHEN (((current_setting('brainops.statement_tenant'::text, true) = ''::text) AND pg_has_role(CURRENT_USER, 'brainops_service'::name, 'member'::text))) EXECUTE FUNCTION brainops_internal.show_inserted_row();

CREATE TRIGGER a1_show_inserted_row BEFORE INSERT ON public.ai_onboarding_steps FOR EACH ROW WHEN (((current_setting('brainops.statement_tenant'::text, true) = ''::text) AND pg_has_role(CURRENT_USER, 'brainops_service'::name, 'member'::text))) EXECUTE FUNCTION brainops_internal.show_inserted_row();

CREATE TRIGGER a1_show_inserted_row BEFORE INSERT ON public.ai_onboarding_workflows FOR EACH ROW WHEN (((current_setting('brainops.statement_tenant'::text, true) = ''::text) AND pg_has_role(CURRENT_USER, 'brainops_service'::name, 'member'::text))) EXECUTE FUNCTION brainops_internal.show_inserted_row();

CREATE TRIGGER a1_show_inserted_row BEFORE INSERT ON public.ai_sms_queue FOR EACH ROW WHEN (((current_setting('brainops.statement_tenant'::text, true) = ''::text) AND pg_has_role(CURRENT_USER, 'brainops_service'::name, 'member'::text))) EXECUTE FUNCTION brainops_internal.show_inserted_row();

CREATE TRIGGER a1_show_inserted_row BEFORE INSERT ON public.campaign_rules FOR EACH ROW WHEN (((current_setting('brainops.statement_tenant'::text, true) = ''::text) AND pg_has_role(CURRENT_USER, 'brainops_service'::name, 'member'::text))) EXECUTE FUNCTION brainops_internal.show_inserted_row();

CREATE TRIGGER a1_show_inserted_row BEFORE INSERT ON public.campaign_split_winners FOR EACH ROW WHEN (((current_setting('brainops.statement_tenant'::text, true) = ''::text) AND pg_has_role(CURRENT_USER, 'brainops_service'::name, 'member'::text))) EXECUTE FUNCTION brainops_internal.show_inserted_row();

CREATE TRIGGER a1_show_inserted_row BEFORE INSERT ON public.campaign_steps FOR EACH ROW WHEN (((current_setting('brainops.statement_tenant'::text, true) = ''::text) AND pg_has_role(CURRENT_USER, 'brainops_service'::name, 'member'::text))) EXECUTE FUNCTION brainops_internal.show_inserted_row();

CREATE TRIGGER a1_show_inserted_row BEFORE INSERT ON public.campaign_touch_events FOR EACH ROW WHEN (((current_setting('brainops.statement_tenant'::text, true) = ''::text) AND pg_has_role(CURRENT_USER, 'brainops_service'::name, 'member'::text))) EXECUTE FUNCTION brainops_internal.show_inserted_row();

CREATE TRIGGER a1_show_inserted_row BEFORE INSERT ON public.campaigns FOR EACH ROW WHEN (((current_setting('brainops.statement_tenant'::text, true) = ''::text) AND pg_has_role(CURRENT_USER, 'brainops_service'::name, 'member'::text))) EXECUTE FUNCTION brainops_internal.show_inserted_row();

CREATE TRIGGER a1_show_inserted_row BEFORE INSERT ON public.contact_consents FOR EACH ROW WHEN (((current_setting('brainops.statement_tenant'::text, true) = ''::text) AND pg_has_role(CURRENT_USER, 'brainops_service'::name, 'member'::text))) EXECUTE FUNCTION brainops_internal.show_inserted_row();

CREATE TRIGGER a1_show_inserted_row BEFORE INSERT ON public.contact_policies FOR EACH ROW WHEN (((current_setting('brainops.statement_tenant'::text, true) = ''::text) AND pg_has_role(CURRENT_USER, 'brainops_service'::name, 'member'::text))) EXECUTE FUNCTION brainops_internal.show_inserted_row();

CREATE TRIGGER a1_show_inserted_row BEFORE INSERT ON public.contact_suppressions FOR EACH ROW WHEN (((current_setting('brainops.statement_tenant'::text, true) = ''::text) AND pg_has_role(CURRENT_USER, 'brainops_service'::name, 'member'::text))) EXECUTE FUNCTION brainops_internal.show_inserted_row();

CREATE TRIGGER a1_show_inserted_row BEFORE INSERT ON public.contact_topic_optouts FOR EACH ROW WHEN (((current_setting('brainops.statement_tenant'::text, true) = ''::text) AND pg_has_role(CURRENT_USER, 'brainops_service'::name, 'member'::text))) EXECUTE FUNCTION brainops_internal.show_inserted_row();

CREATE TRIGGER a1_show_inserted_row BEFORE INSERT ON public.contact_topics FOR EACH ROW WHEN (((current_setting('brainops.statement_tenant'::text, true) = ''::text) AND pg_has_role(CURRENT_USER, 'brainops_service'::name, 'member'::text))) EXECUTE FUNCTION brainops_internal.show_inserted_row();

CREATE TRIGGER a1_show_inserted_row BEFORE INSERT ON public.email_bounces FOR EACH ROW WHEN (((current_setting('brainops.statement_tenant'::text, true) = ''::text) AND pg_has_role(CURRENT_USER, 'brainops_service'::name, 'member'::text))) EXECUTE FUNCTION brainops_internal.show_inserted_row();

CREATE TRIGGER a1_show_inserted_row BEFORE INSERT ON public.email_deliveries FOR EACH ROW WHEN (((current_setting('brainops.statement_tenant'::text, true) = ''::text) AND pg_has_role(CURRENT_USER, 'brainops_service'::name, 'member'::text))) EXECUTE FUNCTION brainops_internal.show_inserted_row();

CREATE TRIGGER a1_show_inserted_row BEFORE INSERT ON public.email_unsubscribe_links FOR EACH ROW WHEN (((current_setting('brainops.statement_tenant'::text, true) = ''::text) AND pg_has_role(CURRENT_USER, 'brainops_service'::name, 'member'::text))) EXECUTE FUNCTION brainops_internal.show_inserted_row();

CREATE TRIGGER a1_show_inserted_row BEFORE INSERT ON public.lead_events FOR EACH ROW WHEN (((current_setting('brainops.statement_tenant'::text, true) = ''::text) AND pg_has_role(CURRENT_USER, 'brainops_service'::name, 'member'::text))) EXECUTE FUNCTION brainops_internal.show_inserted_row();

CREATE TRIGGER a1_show_inserted_row BEFORE INSERT ON public.lead_forms FOR EACH ROW WHEN (((current_setting('brainops.statement_tenant'::text, true) = ''::text) AND pg_has_role(CURRENT_USER, 'brainops_service'::name, 'member'::text))) EXECUTE FUNCTION brainops_internal.show_inserted_row();

CREATE TRIGGER a1_show_inserted_row BEFORE INSERT ON public.lead_score_events FOR EACH ROW WHEN (((current_setting('brainops.statement_tenant'::text, true) = ''::text) AND pg_has_role(CURRENT_USER, 'brainops_service'::name, 'member'::text))) EXECUTE FUNCTION brainops_internal.show_inserted_row();

CREATE TRIGGER a1_show_inserted_row BEFORE INSERT ON public.lead_tasks FOR EACH ROW WHEN (((current_setting('brainops.statement_tenant'::text, true) = ''::text) AND pg_has_role(CURRENT_USER, 'brainops_service'::name, 'member'::text))) EXECUTE FUNCTION brainops_internal.show_inserted_row();

CREATE TRIGGER a1_show_inserted_row BEFORE INSERT ON public.marketing_holds FOR EACH ROW WHEN (((current_setting('brainops.statement_tenant'::text, true) = ''::text) AND pg_has_role(CURRENT_USER, 'brainops_service'::name, 'member'::text))) EXECUTE FUNCTION brainops_internal.show_inserted_row();

CREATE TRIGGER a1_show_inserted_row BEFORE INSERT ON public.onboarding_reminders FOR EACH ROW WHEN (((current_setting('brainops.statement_tenant'::text, true) = ''::text) AND pg_has_role(CURRENT_USER, 'brainops_service'::name, 'member'::text))) EXECUTE FUNCTION brainops_internal.show_inserted_row();

CREATE TRIGGER a1_show_inserted_row BEFORE INSERT ON public.onboarding_templates FOR EACH ROW WHEN (((current_setting('brainops.statement_tenant'::text, true) = ''::text) AND pg_has_role(CURRENT_USER, 'brainops_service'::name, 'member'::text))) EXECUTE FUNCTION brainops_internal.show_inserted_row();

CREATE TRIGGER a1_show_inserted_row BEFORE INSERT ON public.opt_in_requests FOR EACH ROW WHEN (((current_setting('brainops.statement_tenant'::text, true) = ''::text) AND pg_has_role(CURRENT_USER, 'brainops_service'::name, 'member'::text))) EXECUTE FUNCTION brainops_internal.show_inserted_row();

CREATE TRIGGER a1_show_inserted_row BEFORE INSERT ON public.payment_disputes FOR EACH ROW WHEN (((current_setting('brainops.statement_tenant'::text, true) = ''::text) AND pg_has_role(CURRENT_USER, 'brainops_service'::name, 'member'::text))) EXECUTE FUNCTION brainops_internal.show_inserted_row();

CREATE TRIGGER a1_show_inserted_row BEFORE INSERT ON public.payment_ledger FOR EACH ROW WHEN (((current_setting('brainops.statement_tenant'::text, true) = ''::text) AND pg_has_role(CURRENT_USER, 'brainops_service'::name, 'member'::text))) EXECUTE FUNCTION brainops_internal.show_inserted_row();

CREATE TRIGGER a1_show_inserted_row BEFORE INSERT ON public.payment_link_closures FOR EACH ROW WHEN (((current_setting('brainops.statement_tenant'::text, true) = ''::text) AND pg_has_role(CURRENT_USER, 'brainops_service'::name, 'member'::text))) EXECUTE FUNCTION brainops_internal.show_inserted_row();

CREATE TRIGGER a1_show_inserted_row BEFORE INSERT ON public.payment_requests FOR EACH ROW WHEN (((current_setting('brainops.statement_tenant'::text, true) = ''::text) AND pg_has_role(CURRENT_USER, 'brainops_service'::name, 'member'::text))) EXECUTE FUNCTION brainops_internal.show_inserted_row();

CREATE TRIGGER a1_show_inserted_row BEFORE INSERT ON public.provider_credentials FOR EACH ROW WHEN (((current_setting('brainops.statement_tenant'::text, true) = ''::text) AND pg_has_role(CURRENT_USER, 'brainops_service'::name, 'member'::text))) EXECUTE FUNCTION brainops_internal.show_inserted_row();

CREATE TRIGGER a1_show_inserted_row BEFORE INSERT ON public.revenue_lead_aliases FOR EACH ROW WHEN (((current_setting('brainops.statement_tenant'::text, true) = ''::text) AND pg_has_role(CURRENT_USER, 'brainops_service'::name, 'member'::text))) EXECUTE FUNCTION brainops_internal.show_inserted_row();

CREATE TRIGGER a1_show_inserted_row BEFORE INSERT ON public.revenue_leads FOR EACH ROW WHEN (((current_setting('brainops.statement_tenant'::text, true) = ''::text) AND pg_has_role(CURRENT_USER, 'brainops_service'::name, 'member'::text))) EXECUTE FUNCTION brainops_internal.show_inserted_row();

CREATE TRIGGER a1_show_inserted_row BEFORE INSERT ON public.sender_warmups FOR EACH ROW WHEN (((current_setting('brainops.statement_tenant'::text, true) = ''::text) AND pg_has_role(CURRENT_USER, 'brainops_service'::name, 'member'::text))) EXECUTE FUNCTION brainops_internal.show_inserted_row();

CREATE TRIGGER a1_show_inserted_row BEFORE INSERT ON public.sms_deliveries FOR EACH ROW WHEN (((current_setting('brainops.statement_tenant'::text, true) = ''::text) AND pg_has_role(CURRENT_USER, 'brainops_service'::name, 'member'::text))) EXECUTE FUNCTION brainops_internal.show_inserted_row();

CREATE TRIGGER a1_show_inserted_row BEFORE INSERT ON public.sms_inbound FOR EACH ROW WHEN (((current_setting('brainops.statement_tenant'::text, true) = ''::text) AND pg_has_role(CURRENT_USER, 'brainops_service'::name, 'member'::text))) EXECUTE FUNCTION brainops_internal.show_inserted_row();

CREATE TRIGGER a1_show_inserted_row BEFORE INSERT ON public.sms_numbers FOR EACH ROW WHEN (((current_setting('brainops.statement_tenant'::text, true) = ''::text) AND pg_has_role(CURRENT_USER, 'brainops_service'::name, 'member'::text))) EXECUTE FUNCTION brainops_internal.show_inserted_row();

CREATE TRIGGER a1_show_inserted_row BEFORE INSERT ON public.sms_threads FOR EACH ROW WHEN (((current_setting('brainops.statement_tenant'::text, true) = ''::text) AND pg_has_role(CURRENT_USER, 'brainops_service'::name, 'member'::text))) EXECUTE FUNCTION brainops_internal.show_inserted_row();

CREATE TRIGGER a1_show_inserted_row BEFORE INSERT ON public.stripe_objects FOR EACH ROW WHEN (((current_setting('brainops.statement_tenant'::text, true) = ''::text) AND pg_has_role(CURRENT_USER, 'brainops_service'::name, 'member'::text))) EXECUTE FUNCTION brainops_internal.show_inserted_row();

CREATE TRIGGER a1_show_inserted_row BEFORE INSERT ON public.subscriptions FOR EACH ROW WHEN (((current_setting('brainops.statement_tenant'::text, true) = ''::text) AND pg_has_role(CURRENT_USER, 'brainops_service'::name, 'member'::text))) EXECUTE FUNCTION brainops_internal.show_inserted_row();

CREATE TRIGGER a1_show_inserted_row BEFORE INSERT ON public.tenant_keys FOR EACH ROW WHEN (((current_setting('brainops.statement_tenant'::text, true) = ''::text) AND pg_has_role(CURRENT_USER, 'brainops_service'::name, 'member'::text))) EXECUTE FUNCTION brainops_internal.show_inserted_row();

CREATE TRIGGER a1_show_inserted_row BEFORE INSERT ON public.tenant_notifications FOR EACH ROW WHEN (((current_setting('brainops.statement_tenant'::text, true) = ''::text) AND pg_has_role(CURRENT_USER, 'brainops_service'::name, 'member'::text))) EXECUTE FUNCTION brainops_internal.show_inserted_row();

CREATE TRIGGER a2_adopt_touch BEFORE INSERT ON public.ai_campaign_touches FOR EACH ROW WHEN ((new.step_key IS NULL)) EXECUTE FUNCTION brainops_internal.adopt_touch();

CREATE TRIGGER a2_before_broadcast_recipient BEFORE INSERT ON public.ai_email_queue FOR EACH ROW WHEN ((new.broadcast_id IS NOT NULL)) EXECUTE FUNCTION brainops_internal.before_broadcast_recipient();

CREATE TRIGGER a2_before_payment_delete BEFORE DELETE ON public.payment_requests FOR EACH ROW WHEN (((old.key_started_at IS NOT NULL) OR (old.stripe_payment_link_id IS NOT NULL) OR (old.key_generation > 0))) EXECUTE FUNCTION brainops_internal.before_payment_delete();

CREATE TRIGGER a2_before_payment_update BEFORE UPDATE ON public.payment_requests FOR EACH ROW EXECUTE FUNCTION brainops_internal.before_payment_update();

CREATE TRIGGER a2_capture_lead BEFORE INSERT ON public.revenue_leads FOR EACH ROW EXECUTE FUNCTION brainops_internal.before_lead_insert();

CREATE TRIGGER a2_check_lead BEFORE UPDATE ON public.revenue_leads FOR EACH ROW EXECUTE FUNCTION brainops_internal.before_lead_update();

CREATE TRIGGER a2_check_payment_request BEFORE INSERT ON public.payment_requests FOR EACH ROW EXECUTE FUNCTION brainops_internal.check_payment_request();

CREATE TRIGGER a2_check_plan BEFORE INSERT OR UPDATE ON public.plans FOR EACH ROW EXECUTE FUNCTION brainops_internal.check_plan();

CREATE TRIGGER a2_check_sms_number BEFORE INSERT OR UPDATE OF tenant_id, number ON public.sms_numbers FOR EACH ROW EXECUTE FUNCTION brainops_internal.check_sms_number();

CREATE TRIGGER a2_keep_contact_address BEFORE INSERT ON public.contact_consents FOR EACH ROW WHEN ((((new.channel = 'sms'::text) AND (new.address !~ '^\+[1-9][0-9]{6,14}$'::text)) OR (new.address ~ '^[[:space:]]|[[:space:]]$'::text))) EXECUTE FUNCTION brainops_internal.keep_contact_address();

CREATE TRIGGER a2_keep_contact_address BEFORE INSERT OR UPDATE OF address, channel ON public.contact_suppressions FOR EACH ROW WHEN ((((new.channel = 'sms'::text) AND (new.address !~ '^\+[1-9][0-9]{6,14}$'::text)) OR (new.address ~ '^[[:space:]]|[[:space:]]$'::text))) EXECUTE FUNCTION brainops_internal.keep_contact_address();

CREATE TRIGGER a2_read_national_number BEFORE INSERT OR UPDATE OF recipient ON public.ai_sms_queue FOR EACH ROW WHEN (((new.recipient !~ '^\+'::text) AND (brainops_internal.uuid_or_null(new.recipient) IS NULL))) EXECUTE FUNCTION brainops_internal.read_national_number();

CREATE TRIGGER a3_move_lead_keys BEFORE UPDATE ON public.revenue_leads FOR EACH ROW WHEN (((old.email IS DISTINCT FROM new.email) OR (old.phone_e164 IS DISTINCT FROM new.phone_e164))) EXECUTE FUNCTION brainops_internal.move_lead_keys();

CREATE TRIGGER a3_refuse_large_metadata BEFORE INSERT OR UPDATE OF metadata ON public.ai_broadcasts FOR EACH ROW WHEN ((pg_column_size((new.metadata || '{}'::jsonb)) > 32768)) EXECUTE FUNCTION brainops_internal.refuse_large_metadata();

CREATE TRIGGER a3_refuse_large_metadata BEFORE INSERT OR UPDATE OF metadata ON public.ai_email_queue FOR EACH ROW WHEN ((pg_column_size((new.metadata || '{}'::jsonb)) > 32768)) EXECUTE FUNCTION brainops_internal.refuse_large_metadata();

CREATE TRIGGER a3_refuse_time_zone BEFORE INSERT OR UPDATE OF time_zone ON public.revenue_leads FOR EACH ROW WHEN ((NOT brainops_internal.is_time_zone(new.time_zone))) EXECUTE FUNCTION brainops_internal.refuse_time_zone();

CREATE TRIGGER a3_refuse_time_zone BEFORE INSERT OR UPDATE OF time_zone ON public.tenants FOR EACH ROW WHEN ((NOT brainops_internal.is_time_zone(new.time_zone))) EXECUTE FUNCTION brainops_internal.refuse_time_zone();

CREATE TRIGGER b0_append_only BEFORE UPDATE ON public.contact_consents FOR EACH ROW EXECUTE FUNCTION brainops_internal.refuse_consent_change();

CREATE TRIGGER b0_append_only BEFORE DELETE OR UPDATE ON public.payment_ledger FOR EACH ROW EXECUTE FUNCTION brainops_internal.refuse_change();

CREATE TRIGGER b0_append_only_truncate BEFORE TRUNCATE ON public.payment_ledger FOR EACH STATEMENT EXECUTE FUNCTION brainops_internal.refuse_change();

CREATE TRIGGER b0_before_campaign BEFORE INSERT OR UPDATE ON public.campaigns FOR EACH ROW EXECUTE FUNCTION brainops_internal.before_campaign();

CREATE TRIGGER b0_before_campaign_rule BEFORE INSERT ON public.campaign_rules FOR EACH ROW WHEN ((new.condition IS NOT NULL)) EXECUTE FUNCTION brainops_internal.before_campaign_rule();

CREATE TRIGGER b0_before_campaign_step BEFORE INSERT OR DELETE ON public.campaign_steps FOR EACH ROW EXECUTE FUNCTION brainops_internal.before_campaign_step();

CREATE TRIGGER b0_before_campaign_template BEFORE INSERT OR UPDATE ON public.ai_campaign_templates FOR EACH ROW EXECUTE FUNCTION brainops_internal.before_campaign_template();

CREATE TRIGGER b0_before_job_insert BEFORE INSERT ON public.ai_campaign_touches FOR EACH ROW WHEN (((new.status IS DISTINCT FROM 'pending'::text) OR (new.scheduled_for IS NULL) OR (new.attempts <> 0) OR (new.deferrals <> 0) OR (new.lease IS NOT NULL) OR (new.worker_id IS NOT NULL) OR (new.rate_slot IS NOT NULL) OR (new.cancel_requested_at IS NOT NULL) OR (new.finished_at IS NOT NULL) OR (new.skip_reason IS NOT NULL))) EXECUTE FUNCTION brainops_internal.before_job_insert();

CREATE TRIGGER b0_before_job_insert BEFORE INSERT ON public.ai_email_queue FOR EACH ROW WHEN (((new.status IS DISTINCT FROM 'pending'::text) OR (new.scheduled_for IS NULL) OR (new.attempts <> 0) OR (new.deferrals <> 0) OR (new.lease IS NOT NULL) OR (new.worker_id IS NOT NULL) OR (new.rate_slot IS NOT NULL) OR (new.cancel_requested_at IS NOT NULL) OR (new.finished_at IS NOT NULL) OR (new.skip_reason IS NOT NULL))) EXECUTE FUNCTION brainops_internal.before_job_insert();

CREATE TRIGGER b0_before_job_insert BEFORE INSERT ON public.ai_sms_queue FOR EACH ROW WHEN (((new.status IS DISTINCT FROM 'pending'::text) OR (new.scheduled_for IS NULL) OR (new.attempts <> 0) OR (new.deferrals <> 0) OR (new.lease IS NOT NULL) OR (new.worker_id IS NOT NULL) OR (new.rate_slot IS NOT NULL) OR (new.cancel_requested_at IS NOT NULL) OR (new.finished_at IS NOT NULL) OR (new.skip_reason IS NOT NULL))) EXECUTE FUNCTION brainops_internal.before_job_insert();

CREATE TRIGGER b0_before_job_insert BEFORE INSERT ON public.onboarding_reminders FOR EACH ROW WHEN (((new.status IS DISTINCT FROM 'pending'::text) OR (new.scheduled_for IS NULL) OR (new.attempts <> 0) OR (new.deferrals <> 0) OR (new.lease IS NOT NULL) OR (new.worker_id IS NOT NULL) OR (new.rate_slot IS NOT NULL) OR (new.cancel_requested_at IS NOT NULL) OR (new.finished_at IS NOT NULL) OR (new.skip_reason IS NOT NULL))) EXECUTE FUNCTION brainops_internal.before_job_insert();

CREATE TRIGGER b0_before_job_insert BEFORE INSERT ON public.payment_link_closures FOR EACH ROW WHEN (((new.status IS DISTINCT FROM 'pending'::text) OR (new.scheduled_for IS NULL) OR (new.attempts <> 0) OR (new.deferrals <> 0) OR (new.lease IS NOT NULL) OR (new.worker_id IS NOT NULL) OR (new.rate_slot IS NOT NULL) OR (new.cancel_requested_at IS NOT NULL) OR (new.finished_at IS NOT NULL) OR (new.skip_reason IS NOT NULL))) EXECUTE FUNCTION brainops_internal.before_job_insert();

CREATE TRIGGER b0_before_job_insert BEFORE INSERT ON public.payment_requests FOR EACH ROW WHEN (((new.status IS DISTINCT FROM 'pending'::text) OR (new.scheduled_for IS NULL) OR (new.attempts <> 0) OR (new.deferrals <> 0) OR (new.lease IS NOT NULL) OR (new.worker_id IS NOT NULL) OR (new.rate_slot IS NOT NULL) OR (new.cancel_requested_at IS NOT NULL) OR (new.finished_at IS NOT NULL) OR (new.skip_reason IS NOT NULL))) EXECUTE FUNCTION brainops_internal.before_job_insert();

CREATE TRIGGER b0_before_job_insert BEFORE INSERT ON public.tenant_notifications FOR EACH ROW WHEN (((new.status IS DISTINCT FROM 'pending'::text) OR (new.scheduled_for IS NULL) OR (new.attempts <> 0) OR (new.deferrals <> 0) OR (new.lease IS NOT NULL) OR (new.worker_id IS NOT NULL) OR (new.rate_slot IS NOT NULL) OR (new.cancel_requested_at IS NOT NULL) OR (new.finished_at IS NOT NULL) OR (new.skip_reason IS NOT NULL))) EXECUTE FUNCTION brainops_internal.before_job_insert();

CREATE TRIGGER b0_before_lead_task BEFORE INSERT OR UPDATE ON public.lead_tasks FOR EACH ROW EXECUTE FUNCTION brainops_internal.before_lead_task();

CREATE TRIGGER b0_before_onboarding_insert BEFORE INSERT ON public.ai_onboarding_workflows FOR EACH ROW EXECUTE FUNCTION brainops_internal.before_onboarding_insert();

CREATE TRIGGER b0_before_onboarding_step_insert BEFORE INSERT ON public.ai_onboarding_steps FOR EACH ROW EXECUTE FUNCTION brainops_internal.before_onboarding_step_insert();

CREATE TRIGGER b0_check_broadcast BEFORE INSERT OR UPDATE ON public.ai_broadcasts FOR EACH ROW EXECUTE FUNCTION brainops_internal.check_broadcast();

CREATE TRIGGER b0_check_cap_window BEFORE INSERT OR UPDATE OF cap_window ON public.contact_policies FOR EACH ROW WHEN ((new.cap_window IS NOT NULL)) EXECUTE FUNCTION brainops_internal.check_cap_window();

CREATE TRIGGER b0_enter_campaign BEFORE INSERT ON public.ai_nurture_campaigns FOR EACH ROW EXECUTE FUNCTION brainops_internal.enter_campaign();

CREATE TRIGGER b0_process_again BEFORE UPDATE OF status ON public.webhook_events FOR EACH ROW WHEN (((old.status <> 'pending'::text) AND (new.status = 'pending'::text))) EXECUTE FUNCTION brainops_internal.before_webhook_update();

CREATE TRIGGER b1_before_campaign_rule BEFORE UPDATE ON public.campaign_rules FOR EACH ROW WHEN (((new.condition IS NOT NULL) AND ((old.condition IS DISTINCT FROM new.condition) OR (new.active AND (NOT old.active))))) EXECUTE FUNCTION brainops_internal.before_campaign_rule();

CREATE TRIGGER b1_before_campaign_step BEFORE UPDATE ON public.campaign_steps FOR EACH ROW WHEN ((old.* IS DISTINCT FROM new.*)) EXECUTE FUNCTION brainops_internal.before_campaign_step();

CREATE TRIGGER b1_before_enrolment_update BEFORE UPDATE ON public.ai_nurture_campaigns FOR EACH ROW WHEN ((old.status IS DISTINCT FROM new.status)) EXECUTE FUNCTION brainops_internal.before_enrolment_update();

CREATE TRIGGER b1_before_job_update BEFORE UPDATE ON public.ai_campaign_touches FOR EACH ROW WHEN ((((old.status IS DISTINCT FROM new.status) OR (new.scheduled_for IS NULL) OR (old.tenant_id <> new.tenant_id)) AND (NOT ((new.status = 'processing'::text) AND (old.status = 'pending'::text) AND (old.lease IS NULL) AND (new.lease IS NOT NULL))) AND (NOT ((old.status = 'processing'::text) AND (old.lease IS NOT NULL) AND (new.lease IS NULL))))) EXECUTE FUNCTION brainops_internal.before_job_update();

CREATE TRIGGER b1_before_job_update BEFORE UPDATE ON public.ai_email_queue FOR EACH ROW WHEN ((((old.status IS DISTINCT FROM new.status) OR (new.scheduled_for IS NULL) OR (old.tenant_id <> new.tenant_id)) AND (NOT ((new.status = 'processing'::text) AND (old.status = 'pending'::text) AND (old.lease IS NULL) AND (new.lease IS NOT NULL))) AND (NOT ((old.status = 'processing'::text) AND (old.lease IS NOT NULL) AND (new.lease IS NULL))))) EXECUTE FUNCTION brainops_internal.before_job_update();

CREATE TRIGGER b1_before_job_update BEFORE UPDATE ON public.ai_sms_queue FOR EACH ROW WHEN ((((old.status IS DISTINCT FROM new.status) OR (new.scheduled_for IS NULL) OR (old.tenant_id <> new.tenant_id)) AND (NOT ((new.status = 'processing'::text) AND (old.status = 'pending'::text) AND (old.lease IS NULL) AND (new.lease IS NOT NULL))) AND (NOT ((old.status = 'processing'::text) AND (old.lease IS NOT NULL) AND (new.lease IS NULL))))) EXECUTE FUNCTION brainops_internal.before_job_update();

CREATE TRIGGER b1_before_job_update BEFORE UPDATE ON public.onboarding_reminders FOR EACH ROW WHEN ((((old.status IS DISTINCT FROM new.status) OR (new.scheduled_for IS NULL) OR (old.tenant_id <> new.tenant_id)) AND (NOT ((new.status = 'processing'::text) AND (old.status = 'pending'::text) AND (old.lease IS NULL) AND (new.lease IS NOT NULL))) AND (NOT ((old.status = 'processing'::text) AND (old.lease IS NOT NULL) AND (new.lease IS NULL))))) EXECUTE FUNCTION brainops_internal.before_job_update();

CREATE TRIGGER b1_before_job_update BEFORE UPDATE ON public.payment_link_closures FOR EACH ROW WHEN ((((old.status IS DISTINCT FROM new.status) OR (new.scheduled_for IS NULL) OR (old.tenant_id <> new.tenant_id)) AND (NOT ((new.status = 'processing'::text) AND (old.status = 'pending'::text) AND (old.lease IS NULL) AND (new.lease IS NOT NULL))) AND (NOT ((old.status = 'processing'::text) AND (old.lease IS NOT NULL) AND (new.lease IS NULL))))) EXECUTE FUNCTION brainops_internal.before_job_update();

CREATE TRIGGER b1_before_job_update BEFORE UPDATE ON public.payment_requests FOR EACH ROW WHEN ((((old.status IS DISTINCT FROM new.status) OR (new.scheduled_for IS NULL) OR (old.tenant_id <> new.tenant_id)) AND (NOT ((new.status = 'processing'::text) AND (old.status = 'pending'::text) AND (old.lease IS NULL) AND (new.lease IS NOT NULL))) AND (NOT ((old.status = 'processing'::text) AND (old.lease IS NOT NULL) AND (new.lease IS NULL))))) EXECUTE FUNCTION brainops_internal.before_job_update();

CREATE TRIGGER b1_before_job_update BEFORE UPDATE ON public.tenant_notifications FOR EACH ROW WHEN ((((old.status IS DISTINCT FROM new.status) OR (new.scheduled_for IS NULL) OR (old.tenant_id <> new.tenant_id)) AND (NOT ((new.status = 'processing'::text) AND (old.status = 'pending'::text) AND (old.lease IS NULL) AND (new.lease IS NOT NULL))) AND (NOT ((old.status = 'processing'::text) AND (old.lease IS NOT NULL) AND (new.lease IS NULL))))) EXECUTE FUNCTION brainops_internal.before_job_update();

CREATE TRIGGER b1_before_onboarding_step_update BEFORE UPDATE ON public.ai_onboarding_steps FOR EACH ROW EXECUTE FUNCTION brainops_internal.before_onboarding_step_update();

CREATE TRIGGER b1_before_onboarding_update BEFORE UPDATE ON public.ai_onboarding_workflows FOR EACH ROW WHEN ((old.status IS DISTINCT FROM new.status)) EXECUTE FUNCTION brainops_internal.before_onboarding_update();

CREATE TRIGGER b1_keep_sent_template BEFORE DELETE ON public.ai_campaign_templates FOR EACH ROW EXECUTE FUNCTION brainops_internal.keep_sent_template();

CREATE TRIGGER b2_forget_sms_run BEFORE UPDATE OF status ON public.ai_sms_queue FOR EACH ROW WHEN (((new.status = 'pending'::text) AND (old.status <> ALL (ARRAY['pending'::text, 'processing'::text, 'awaiting_approval'::text])))) EXECUTE FUNCTION brainops_internal.forget_sms_run();

CREATE TRIGGER b2_keep_first_due BEFORE UPDATE OF scheduled_for, status ON public.ai_email_queue FOR EACH ROW WHEN ((old.is_marketing AND (new.status = 'pending'::text) AND ((old.scheduled_for IS DISTINCT FROM new.scheduled_for) OR (old.status <> ALL (ARRAY['pending'::text, 'processing'::text]))))) EXECUTE FUNCTION brainops_internal.keep_first_due();

CREATE TRIGGER b2_keep_first_due BEFORE UPDATE OF scheduled_for, status ON public.ai_sms_queue FOR EACH ROW WHEN ((old.is_marketing AND (new.status = 'pending'::text) AND ((old.scheduled_for IS DISTINCT FROM new.scheduled_for) OR (old.status <> ALL (ARRAY['pending'::text, 'processing'::text]))))) EXECUTE FUNCTION brainops_internal.keep_first_due();

CREATE TRIGGER b2_move_touch BEFORE UPDATE OF scheduled_for ON public.ai_campaign_touches FOR EACH ROW WHEN (((old.scheduled_for IS DISTINCT FROM new.scheduled_for) AND (new.performed_at IS NULL) AND (new.step_key IS NOT NULL) AND (old.status = new.status) AND (new.status = ANY (ARRAY['pending'::text, 'awaiting_approval'::text])) AND (CURRENT_USER <> ALL (ARRAY['brainops_worker'::name, 'brainops_system'::name])) AND (current_setting('brainops.spreading'::text, true) IS DISTINCT FROM 'on'::text))) EXECUTE FUNCTION brainops_internal.move_touch();

CREATE TRIGGER b2_settle_sms_at_once BEFORE UPDATE OF status ON public.ai_sms_queue FOR EACH ROW WHEN (((old.status = 'processing'::text) AND (new.status = 'unconfirmed'::text))) EXECUTE FUNCTION brainops_internal.settle_sms_at_once();

CREATE TRIGGER b2_unbegin_sms BEFORE UPDATE OF status ON public.ai_sms_queue FOR EACH ROW WHEN (((old.status = 'processing'::text) AND (new.status = 'pending'::text) AND (new.text_sent IS NOT NULL))) EXECUTE FUNCTION brainops_internal.unbegin_sms();

CREATE TRIGGER b3_before_broadcast_recipient BEFORE UPDATE OF status ON public.ai_email_queue FOR EACH ROW WHEN (((new.broadcast_id IS NOT NULL) AND (new.status = 'pending'::text) AND (old.status <> ALL (ARRAY['pending'::text, 'awaiting_approval'::text])))) EXECUTE FUNCTION brainops_internal.before_broadcast_recipient();

CREATE TRIGGER b9_hold_sent_template BEFORE UPDATE OF template_version ON public.ai_campaign_touches FOR EACH ROW WHEN (((new.template_version IS NOT NULL) AND (new.template_version IS DISTINCT FROM old.template_version))) EXECUTE FUNCTION brainops_internal.hold_sent_template();

CREATE TRIGGER c0_after_broadcast_status AFTER UPDATE OF status ON public.ai_broadcasts FOR EACH ROW WHEN ((old.status <> new.status)) EXECUTE FUNCTION brainops_internal.after_broadcast_status();

CREATE TRIGGER c0_after_campaign_status AFTER UPDATE ON public.campaigns FOR EACH ROW WHEN ((old.status IS DISTINCT FROM new.status)) EXECUTE FUNCTION brainops_internal.after_campaign_status();

CREATE TRIGGER c0_after_enrolment_insert AFTER INSERT ON public.ai_nurture_campaigns REFERENCING NEW TABLE AS inserted FOR EACH STATEMENT EXECUTE FUNCTION brainops_internal.after_enrolment_insert();

CREATE TRIGGER c0_after_job_insert AFTER INSERT ON public.ai_campaign_touches REFERENCING NEW TABLE AS inserted FOR EACH STATEMENT EXECUTE FUNCTION brainops_internal.after_job_insert();

CREATE TRIGGER c0_after_job_insert AFTER INSERT ON public.ai_email_queue REFERENCING NEW TABLE AS inserted FOR EACH STATEMENT EXECUTE FUNCTION brainops_internal.after_job_insert();

CREATE TRIGGER c0_after_job_insert AFTER INSERT ON public.ai_sms_queue REFERENCING NEW TABLE AS inserted FOR EACH STATEMENT EXECUTE FUNCTION brainops_internal.after_job_insert();

CREATE TRIGGER c0_after_job_insert AFTER INSERT ON public.onboarding_reminders REFERENCING NEW TABLE AS inserted FOR EACH STATEMENT EXECUTE FUNCTION brainops_internal.after_job_insert();

CREATE TRIGGER c0_after_job_insert AFTER INSERT ON public.payment_link_closures REFERENCING NEW TABLE AS inserted FOR EACH STATEMENT EXECUTE FUNCTION brainops_internal.after_job_insert();

CREATE TRIGGER c0_after_job_insert AFTER INSERT ON public.payment_requests REFERENCING NEW TABLE AS inserted FOR EACH STATEMENT EXECUTE FUNCTION brainops_internal.after_job_insert();

CREATE TRIGGER c0_after_job_insert AFTER INSERT ON public.tenant_notifications REFERENCING NEW TABLE AS inserted FOR EACH STATEMENT EXECUTE FUNCTION brainops_internal.after_job_insert();

CREATE TRIGGER c0_after_lead_events AFTER INSERT ON public.lead_events REFERENCING NEW TABLE AS inserted FOR EACH STATEMENT EXECUTE FUNCTION brainops_internal.after_lead_events();

CREATE TRIGGER c0_after_lead_insert AFTER INSERT ON public.revenue_leads REFERENCING NEW TABLE AS inserted FOR EACH STATEMENT EXECUTE FUNCTION brainops_internal.after_lead_insert();

CREATE TRIGGER c0_after_lead_score_events AFTER INSERT ON public.lead_score_events REFERENCING NEW TABLE AS inserted FOR EACH STATEMENT WHEN ((CURRENT_USER <> 'brainops_system'::name)) EXECUTE FUNCTION brainops_internal.after_lead_score_events();

CREATE TRIGGER c0_after_onboarding_insert AFTER INSERT ON public.ai_onboarding_workflows FOR EACH ROW WHEN (((new.total_steps = 0) AND (new.status = 'in_progress'::text))) EXECUTE FUNCTION brainops_internal.after_onboarding_insert();

CREATE TRIGGER c0_after_onboarding_step AFTER INSERT OR UPDATE ON public.ai_onboarding_steps FOR EACH ROW EXECUTE FUNCTION brainops_internal.after_onboarding_step();

CREATE TRIGGER c0_after_tenant_insert AFTER INSERT ON public.tenants FOR EACH ROW EXECUTE FUNCTION brainops_internal.after_tenant_insert();

CREATE TRIGGER c0_check_tenants AFTER INSERT ON public.email_unsubscribe_links REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION brainops_internal.check_tenants();

CREATE TRIGGER c1_after_enrolment_update AFTER UPDATE ON public.ai_nurture_campaigns FOR EACH ROW WHEN (((old.status IS DISTINCT FROM new.status) AND (new.lead_id IS NOT NULL))) EXECUTE FUNCTION brainops_internal.after_enrolment_update();

CREATE TRIGGER c1_after_job_update AFTER UPDATE ON public.ai_campaign_touches REFERENCING OLD TABLE AS before_rows NEW TABLE AS after_rows FOR EACH STATEMENT EXECUTE FUNCTION brainops_internal.after_job_update();

CREATE TRIGGER c1_after_job_update AFTER UPDATE ON public.ai_email_queue REFERENCING OLD TABLE AS before_rows NEW TABLE AS after_rows FOR EACH STATEMENT EXECUTE FUNCTION brainops_internal.after_job_update();

CREATE TRIGGER c1_after_job_update AFTER UPDATE ON public.ai_sms_queue REFERENCING OLD TABLE AS before_rows NEW TABLE AS after_rows FOR EACH STATEMENT EXECUTE FUNCTION brainops_internal.after_job_update();

CREATE TRIGGER c1_after_job_update AFTER UPDATE ON public.onboarding_reminders REFERENCING OLD TABLE AS before_rows NEW TABLE AS after_rows FOR EACH STATEMENT EXECUTE FUNCTION brainops_internal.after_job_update();

CREATE TRIGGER c1_after_job_update AFTER UPDATE ON public.payment_link_closures REFERENCING OLD TABLE AS before_rows NEW TABLE AS after_rows FOR EACH STATEMENT EXECUTE FUNCTION brainops_internal.after_job_update();

CREATE TRIGGER c1_after_job_update AFTER UPDATE ON public.payment_requests REFERENCING OLD TABLE AS before_rows NEW TABLE AS after_rows FOR EACH STATEMENT EXECUTE FUNCTION brainops_internal.after_job_update();

CREATE TRIGGER c1_after_job_update AFTER UPDATE ON public.tenant_notifications REFERENCING OLD TABLE AS before_rows NEW TABLE AS after_rows FOR EACH STATEMENT EXECUTE FUNCTION brainops_internal.after_job_update();

CREATE TRIGGER c1_after_lead_update AFTER UPDATE ON public.revenue_leads REFERENCING OLD TABLE AS before_rows NEW TABLE AS after_rows FOR EACH STATEMENT EXECUTE FUNCTION brainops_internal.after_lead_update();

CREATE TRIGGER c1_after_onboarding_step_delete AFTER DELETE ON public.ai_onboarding_steps FOR EACH ROW EXECUTE FUNCTION brainops_internal.after_onboarding_step_delete();

CREATE TRIGGER c1_after_onboarding_update AFTER UPDATE ON public.ai_onboarding_workflows FOR EACH ROW WHEN ((old.status IS DISTINCT FROM new.status)) EXECUTE FUNCTION brainops_internal.after_onboarding_update();

CREATE TRIGGER c1_check_tenants AFTER UPDATE ON public.email_unsubscribe_links REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION brainops_internal.check_tenants();

CREATE TRIGGER c2_after_enrolment_moves AFTER UPDATE OF lead_id ON public.ai_nurture_campaigns FOR EACH ROW WHEN (((old.lead_id IS DISTINCT FROM new.lead_id) AND (new.lead_id IS NOT NULL) AND (new.status = ANY (ARRAY['active'::text, 'paused'::text])))) EXECUTE FUNCTION brainops_internal.after_enrolment_moves();

CREATE TRIGGER c2_after_job_delete AFTER DELETE ON public.ai_campaign_touches REFERENCING OLD TABLE AS deleted FOR EACH STATEMENT EXECUTE FUNCTION brainops_internal.after_job_delete();

CREATE TRIGGER c2_after_job_delete AFTER DELETE ON public.ai_email_queue REFERENCING OLD TABLE AS deleted FOR EACH STATEMENT EXECUTE FUNCTION brainops_internal.after_job_delete();

CREATE TRIGGER c2_after_job_delete AFTER DELETE ON public.ai_sms_queue REFERENCING OLD TABLE AS deleted FOR EACH STATEMENT EXECUTE FUNCTION brainops_internal.after_job_delete();

CREATE TRIGGER c2_after_job_delete AFTER DELETE ON public.onboarding_reminders REFERENCING OLD TABLE AS deleted FOR EACH STATEMENT EXECUTE FUNCTION brainops_internal.after_job_delete();

CREATE TRIGGER c2_after_job_delete AFTER DELETE ON public.payment_link_closures REFERENCING OLD TABLE AS deleted FOR EACH STATEMENT EXECUTE FUNCTION brainops_internal.after_job_delete();

CREATE TRIGGER c2_after_job_delete AFTER DELETE ON public.payment_requests REFERENCING OLD TABLE AS deleted FOR EACH STATEMENT EXECUTE FUNCTION brainops_internal.after_job_delete();

CREATE TRIGGER c2_after_job_delete AFTER DELETE ON public.tenant_notifications REFERENCING OLD TABLE AS deleted FOR EACH STATEMENT EXECUTE FUNCTION brainops_internal.after_job_delete();

CREATE TRIGGER c2_after_lead_delete AFTER DELETE ON public.revenue_leads REFERENCING OLD TABLE AS deleted FOR EACH STATEMENT EXECUTE FUNCTION brainops_internal.after_lead_delete();

CREATE TRIGGER d0_after_delivery_report AFTER INSERT ON public.email_bounces FOR EACH ROW WHEN ((new.bounce_type = 'hard'::text)) EXECUTE FUNCTION brainops_internal.after_delivery_report();

CREATE TRIGGER d0_after_delivery_report AFTER INSERT ON public.email_deliveries FOR EACH ROW WHEN (((new.event = ANY (ARRAY['open'::text, 'click'::text, 'spamreport'::text, 'unsubscribe'::text, 'group_unsubscribe'::text])) AND ((new.metadata ->> 'machine_open'::text) IS DISTINCT FROM 'true'::text))) EXECUTE FUNCTION brainops_internal.after_delivery_report();

CREATE TRIGGER d0_after_lead_events_campaigns AFTER INSERT ON public.lead_events REFERENCING NEW TABLE AS inserted FOR EACH STATEMENT EXECUTE FUNCTION brainops_internal.after_lead_events_campaigns();

CREATE TRIGGER d0_after_lead_score_update AFTER UPDATE ON public.revenue_leads FOR EACH ROW WHEN (((old.score IS DISTINCT FROM new.score) AND (new.scored_at IS NOT NULL) AND (CURRENT_USER <> 'brainops_system'::name))) EXECUTE FUNCTION brainops_internal.after_lead_score_update();

CREATE TRIGGER d0_after_payment_closure AFTER UPDATE ON public.payment_link_closures FOR EACH ROW WHEN (((new.status = 'completed'::text) AND (old.status <> 'completed'::text))) EXECUTE FUNCTION brainops_internal.after_payment_closure();

CREATE TRIGGER d0_after_payment_update AFTER UPDATE ON public.payment_requests FOR EACH ROW WHEN (((new.stripe_payment_link_id IS DISTINCT FROM old.stripe_payment_link_id) OR (new.cancelled_at IS DISTINCT FROM old.cancelled_at) OR (new.paid_at IS DISTINCT FROM old.paid_at) OR (new.expires_at <> old.expires_at))) EXECUTE FUNCTION brainops_internal.after_payment_update();

CREATE TRIGGER d0_after_topic_optout AFTER INSERT ON public.contact_topic_optouts FOR EACH ROW EXECUTE FUNCTION brainops_internal.after_topic_optout();

CREATE TRIGGER d0_after_touch_message AFTER UPDATE ON public.ai_email_queue FOR EACH ROW WHEN (((new.touch_id IS NOT NULL) AND (old.status IS DISTINCT FROM new.status) AND (new.status = ANY (ARRAY['completed'::text, 'skipped'::text, 'failed'::text, 'cancelled'::text])))) EXECUTE FUNCTION brainops_internal.after_touch_message();

CREATE TRIGGER d0_after_touch_message AFTER UPDATE ON public.ai_sms_queue FOR EACH ROW WHEN (((new.touch_id IS NOT NULL) AND (old.status IS DISTINCT FROM new.status) AND (new.status = ANY (ARRAY['completed'::text, 'skipped'::text, 'failed'::text, 'cancelled'::text])))) EXECUTE FUNCTION brainops_internal.after_touch_message();

CREATE TRIGGER d0_ask_for_opt_in AFTER INSERT ON public.contact_consents FOR EACH ROW WHEN (((new.channel = 'email'::text) AND (new.state = ANY (ARRAY['pending'::text, 'granted'::text])) AND (NOT (new.evidence ? 'confirmed_at'::text)))) EXECUTE FUNCTION brainops_internal.ask_for_opt_in();

CREATE TRIGGER d0_drop_merged_lead AFTER INSERT ON public.revenue_leads FOR EACH ROW WHEN ((new.merged_into IS NOT NULL)) EXECUTE FUNCTION brainops_internal.drop_merged_lead();

CREATE TRIGGER d0_skip_cancelled_step AFTER UPDATE ON public.ai_campaign_touches FOR EACH ROW WHEN (((old.status IS DISTINCT FROM new.status) AND (new.status = ANY (ARRAY['cancelled'::text, 'skipped'::text, 'completed'::text])) AND (new.performed_at IS NULL) AND (new.step_key IS NOT NULL))) EXECUTE FUNCTION brainops_internal.skip_cancelled_step();

CREATE TRIGGER d0_wake_notifications AFTER INSERT OR UPDATE ON public.provider_credentials FOR EACH ROW WHEN (((new.provider = 'slack'::text) AND new.active)) EXECUTE FUNCTION brainops_internal.wake_notifications();

CREATE TRIGGER d0_wake_notifications AFTER UPDATE OF settings ON public.tenants FOR EACH ROW WHEN ((old.settings IS DISTINCT FROM new.settings)) EXECUTE FUNCTION brainops_internal.wake_notifications();

CREATE TRIGGER d1_after_lead_events_onboarding AFTER INSERT ON public.lead_events REFERENCING NEW TABLE AS inserted FOR EACH STATEMENT EXECUTE FUNCTION brainops_internal.after_lead_events_onboarding();

CREATE TRIGGER d1_after_lead_tier AFTER INSERT ON public.revenue_leads FOR EACH ROW WHEN ((new.merged_into IS NULL)) EXECUTE FUNCTION brainops_internal.after_lead_tier();

CREATE TRIGGER d1_after_lead_tier_later AFTER UPDATE ON public.revenue_leads FOR EACH ROW WHEN (((new.merged_into IS NULL) AND ((((((old.score IS DISTINCT FROM new.score) OR (old.stage IS DISTINCT FROM new.stage)) OR (old.source IS DISTINCT FROM new.source)) OR (old.value_estimate IS DISTINCT FROM new.value_estimate)) OR (old.metadata IS DISTINCT FROM new.metadata)) OR ((((((old.company_name IS DISTINCT FROM new.company_name) OR (old.contact_name IS DISTINCT FROM new.contact_name)) OR (old.email IS DISTINCT FROM new.email)) OR (old.phone IS DISTINCT FROM new.phone)) OR (old.website IS DISTINCT FROM new.website)) OR (old.time_zone IS DISTINCT FROM new.time_zone)) OR ((old.scored_at IS NULL) AND (new.scored_at IS NOT NULL))))) EXECUTE FUNCTION brainops_internal.after_lead_tier();

CREATE TRIGGER d1_after_onboarding_mail AFTER UPDATE ON public.ai_email_queue FOR EACH ROW WHEN (((old.status IS DISTINCT FROM new.status) AND (new.idempotency_key ~~ 'onboarding:%'::text))) EXECUTE FUNCTION brainops_internal.after_onboarding_mail();

CREATE TRIGGER d1_ask_for_opt_in_by_text AFTER INSERT ON public.contact_consents FOR EACH ROW WHEN (((new.channel = 'sms'::text) AND (new.state = 'pending'::text))) EXECUTE FUNCTION brainops_internal.ask_for_opt_in_by_text();

CREATE TRIGGER d1_wake_rows AFTER INSERT OR DELETE OR UPDATE OF active, sealed ON public.provider_credentials FOR EACH ROW EXECUTE FUNCTION brainops_internal.after_credential_change();

CREATE TRIGGER d2_after_lead_won AFTER UPDATE ON public.revenue_leads FOR EACH ROW WHEN (((new.stage = 'won'::text) AND (old.stage IS DISTINCT FROM 'won'::text) AND ((new.metadata ->> 'onboarding'::text) IS DISTINCT FROM 'none'::text))) EXECUTE FUNCTION brainops_internal.after_lead_won();

CREATE TRIGGER d2_won_at_once_starts_onboarding AFTER INSERT ON public.revenue_leads FOR EACH ROW WHEN (((new.stage = 'won'::text) AND (new.merged_into IS NULL) AND ((new.metadata ->> 'onboarding'::text) IS DISTINCT FROM 'none'::text))) EXECUTE FUNCTION brainops_internal.after_lead_won();

CREATE TRIGGER z0_touch_updated_at BEFORE UPDATE ON public.campaigns FOR EACH ROW EXECUTE FUNCTION brainops_internal.touch_updated_at();

CREATE TRIGGER z0_touch_updated_at BEFORE UPDATE ON public.onboarding_templates FOR EACH ROW EXECUTE FUNCTION brainops_internal.touch_updated_at();

CREATE TRIGGER z0_touch_updated_at BEFORE UPDATE ON public.plans FOR EACH ROW EXECUTE FUNCTION brainops_internal.touch_updated_at();

CREATE TRIGGER z0_touch_updated_at BEFORE UPDATE ON public.provider_credentials FOR EACH ROW EXECUTE FUNCTION brainops_internal.touch_updated_at();

CREATE TRIGGER z0_touch_updated_at BEFORE UPDATE ON public.tenants FOR EACH ROW EXECUTE FUNCTION brainops_internal.touch_updated_at();

ALTER TABLE ONLY brainops.contact_counts
    ADD CONSTRAINT contact_counts_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenants(id) ON DELETE CASCADE;

ALTER TABLE ONLY brainops.lead_keys
    ADD CONSTRAINT lead_keys_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenants(id) ON DELETE CASCADE;

ALTER TABLE ONLY brainops.pauses
    ADD CONSTRAINT pauses_table_name_fkey FOREIGN KEY (table_name) REFERENCES brainops.job_tables(table_name) ON DELETE CASCADE;

ALTER TABLE ONLY brainops.pauses
    ADD CONSTRAINT pauses_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenants(id) ON DELETE CASCADE;

ALTER TABLE ONLY brainops.rate_limits
    ADD CONSTRAINT rate_limits_table_name_fkey FOREIGN KEY (table_name) REFERENCES brainops.job_tables(table_name) ON DELETE CASCADE;

ALTER TABLE ONLY brainops.rate_limits
    ADD CONSTRAINT rate_limits_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenants(id) ON DELETE CASCADE;

ALTER TABLE ONLY brainops.tenant_logins
    ADD CONSTRAINT tenant_logins_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenants(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.ai_broadcasts
    ADD CONSTRAINT ai_broadcasts_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenants(id);

ALTER TABLE ONLY public.ai_campaign_templates
    ADD CONSTRAINT ai_campaign_templates_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenants(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.ai_campaign_touches
    ADD CONSTRAINT ai_campaign_touches_enrolment FOREIGN KEY (tenant_id, campaign_id) REFERENCES public.ai_nurture_campaigns(tenant_id, id) ON DELETE CASCADE;

ALTER TABLE ONLY public.ai_email_queue
    ADD CONSTRAINT ai_email_queue_broadcast FOREIGN KEY (tenant_id, broadcast_id) REFERENCES public.ai_broadcasts(tenant_id, id);

ALTER TABLE ONLY public.ai_email_queue
    ADD CONSTRAINT ai_email_queue_lead FOREIGN KEY (tenant_id, lead_id) REFERENCES public.revenue_leads(tenant_id, id) ON DELETE SET NULL (lead_id);

ALTER TABLE ONLY public.ai_nurture_campaigns
    ADD CONSTRAINT ai_nurture_campaigns_campaign FOREIGN KEY (tenant_id, campaign_id) REFERENCES public.campaigns(tenant_id, id);

ALTER TABLE ONLY public.ai_nurture_campaigns
    ADD CONSTRAINT ai_nurture_campaigns_lead FOREIGN KEY (tenant_id, lead_id) REFERENCES public.revenue_leads(tenant_id, id) ON DELETE CASCADE;

ALTER TABLE ONLY public.ai_nurture_campaigns
    ADD CONSTRAINT ai_nurture_campaigns_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenants(id);

ALTER TABLE ONLY public.ai_onboarding_steps
    ADD CONSTRAINT ai_onboarding_steps_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenants(id);

ALTER TABLE ONLY public.ai_onboarding_steps
    ADD CONSTRAINT ai_onboarding_steps_workflow FOREIGN KEY (tenant_id, workflow_id) REFERENCES public.ai_onboarding_workflows(tenant_id, id) ON DELETE CASCADE;

ALTER TABLE ONLY public.ai_onboarding_workflows
    ADD CONSTRAINT ai_onboarding_workflows_lead FOREIGN KEY (tenant_id, lead_id) REFERENCES public.revenue_leads(tenant_id, id) ON DELETE CASCADE;

ALTER TABLE ONLY public.ai_onboarding_workflows
    ADD CONSTRAINT ai_onboarding_workflows_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenants(id);

ALTER TABLE ONLY public.ai_sms_queue
    ADD CONSTRAINT ai_sms_queue_lead FOREIGN KEY (tenant_id, lead_id) REFERENCES public.revenue_leads(tenant_id, id) ON DELETE SET NULL (lead_id);

ALTER TABLE ONLY public.campaign_rules
    ADD CONSTRAINT campaign_rules_campaign FOREIGN KEY (tenant_id, campaign_id) REFERENCES public.campaigns(tenant_id, id) ON DELETE CASCADE;

ALTER TABLE ONLY public.campaign_rules
    ADD CONSTRAINT campaign_rules_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenants(id);

ALTER TABLE ONLY public.campaign_split_winners
    ADD CONSTRAINT campaign_split_winners_campaign FOREIGN KEY (tenant_id, campaign_id) REFERENCES public.campaigns(tenant_id, id) ON DELETE CASCADE;

ALTER TABLE ONLY public.campaign_split_winners
    ADD CONSTRAINT campaign_split_winners_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenants(id);

ALTER TABLE ONLY public.campaign_steps
    ADD CONSTRAINT campaign_steps_campaign FOREIGN KEY (tenant_id, campaign_id) REFERENCES public.campaigns(tenant_id, id) ON DELETE CASCADE;

ALTER TABLE ONLY public.campaign_steps
    ADD CONSTRAINT campaign_steps_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenants(id);

ALTER TABLE ONLY public.campaign_touch_events
    ADD CONSTRAINT campaign_touch_events_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenants(id);

ALTER TABLE ONLY public.campaign_touch_events
    ADD CONSTRAINT campaign_touch_events_touch FOREIGN KEY (tenant_id, touch_id) REFERENCES public.ai_campaign_touches(tenant_id, id) ON DELETE CASCADE;

ALTER TABLE ONLY public.campaigns
    ADD CONSTRAINT campaigns_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenants(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.contact_consents
    ADD CONSTRAINT contact_consents_lead FOREIGN KEY (tenant_id, lead_id) REFERENCES public.revenue_leads(tenant_id, id) ON DELETE SET NULL (lead_id);

ALTER TABLE ONLY public.contact_consents
    ADD CONSTRAINT contact_consents_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenants(id);

ALTER TABLE ONLY public.contact_policies
    ADD CONSTRAINT contact_policies_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenants(id);

ALTER TABLE ONLY public.contact_suppressions
    ADD CONSTRAINT contact_suppressions_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenants(id);

ALTER TABLE ONLY public.contact_topic_optouts
    ADD CONSTRAINT contact_topic_optouts_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenants(id);

ALTER TABLE ONLY public.contact_topic_optouts
    ADD CONSTRAINT contact_topic_optouts_topic FOREIGN KEY (tenant_id, topic_id) REFERENCES public.contact_topics(tenant_id, id) ON DELETE CASCADE;

ALTER TABLE ONLY public.contact_topics
    ADD CONSTRAINT contact_topics_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenants(id);

ALTER TABLE ONLY public.email_bounces
    ADD CONSTRAINT email_bounces_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenants(id);

ALTER TABLE ONLY public.email_deliveries
    ADD CONSTRAINT email_deliveries_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenants(id);

ALTER TABLE ONLY public.lead_events
    ADD CONSTRAINT lead_events_lead FOREIGN KEY (tenant_id, lead_id) REFERENCES public.revenue_leads(tenant_id, id) ON DELETE CASCADE;

ALTER TABLE ONLY public.lead_events
    ADD CONSTRAINT lead_events_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenants(id);

ALTER TABLE ONLY public.lead_forms
    ADD CONSTRAINT lead_forms_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenants(id);

ALTER TABLE ONLY public.lead_score_events
    ADD CONSTRAINT lead_score_events_lead FOREIGN KEY (tenant_id, lead_id) REFERENCES public.revenue_leads(tenant_id, id) ON DELETE CASCADE;

ALTER TABLE ONLY public.lead_score_events
    ADD CONSTRAINT lead_score_events_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenants(id);

ALTER TABLE ONLY public.lead_tasks
    ADD CONSTRAINT lead_tasks_lead FOREIGN KEY (tenant_id, lead_id) REFERENCES public.revenue_leads(tenant_id, id) ON DELETE CASCADE;

ALTER TABLE ONLY public.lead_tasks
    ADD CONSTRAINT lead_tasks_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenants(id);

ALTER TABLE ONLY public.marketing_holds
    ADD CONSTRAINT marketing_holds_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenants(id);

ALTER TABLE ONLY public.onboarding_reminders
    ADD CONSTRAINT onboarding_reminders_step FOREIGN KEY (tenant_id, step_id) REFERENCES public.ai_onboarding_steps(tenant_id, id) ON DELETE CASCADE;

ALTER TABLE ONLY public.onboarding_templates
    ADD CONSTRAINT onboarding_templates_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenants(id);

ALTER TABLE ONLY public.opt_in_requests
    ADD CONSTRAINT opt_in_requests_lead FOREIGN KEY (tenant_id, lead_id) REFERENCES public.revenue_leads(tenant_id, id) ON DELETE SET NULL (lead_id);

ALTER TABLE ONLY public.opt_in_requests
    ADD CONSTRAINT opt_in_requests_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenants(id);

ALTER TABLE ONLY public.payment_disputes
    ADD CONSTRAINT payment_disputes_request FOREIGN KEY (tenant_id, payment_request_id) REFERENCES public.payment_requests(tenant_id, id);

ALTER TABLE ONLY public.payment_disputes
    ADD CONSTRAINT payment_disputes_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenants(id);

ALTER TABLE ONLY public.payment_ledger
    ADD CONSTRAINT payment_ledger_request FOREIGN KEY (tenant_id, payment_request_id) REFERENCES public.payment_requests(tenant_id, id);

ALTER TABLE ONLY public.payment_ledger
    ADD CONSTRAINT payment_ledger_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenants(id);

ALTER TABLE ONLY public.payment_link_closures
    ADD CONSTRAINT payment_link_closures_request FOREIGN KEY (tenant_id, payment_request_id) REFERENCES public.payment_requests(tenant_id, id) ON DELETE CASCADE;

ALTER TABLE ONLY public.payment_requests
    ADD CONSTRAINT payment_requests_lead FOREIGN KEY (tenant_id, lead_id) REFERENCES public.revenue_leads(tenant_id, id) ON DELETE SET NULL (lead_id);

ALTER TABLE ONLY public.plans
    ADD CONSTRAINT plans_currency_fkey FOREIGN KEY (currency) REFERENCES brainops.currencies(code);

ALTER TABLE ONLY public.plans
    ADD CONSTRAINT plans_lead FOREIGN KEY (tenant_id, lead_id) REFERENCES public.revenue_leads(tenant_id, id) ON DELETE CASCADE;

ALTER TABLE ONLY public.plans
    ADD CONSTRAINT plans_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenants(id);

ALTER TABLE ONLY public.provider_credentials
    ADD CONSTRAINT provider_credentials_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenants(id);

ALTER TABLE ONLY public.revenue_lead_aliases
    ADD CONSTRAINT revenue_lead_aliases_lead FOREIGN KEY (tenant_id, lead_id) REFERENCES public.revenue_leads(tenant_id, id) ON DELETE CASCADE;

ALTER TABLE ONLY public.revenue_lead_aliases
    ADD CONSTRAINT revenue_lead_aliases_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenants(id);

ALTER TABLE ONLY public.revenue_leads
    ADD CONSTRAINT revenue_leads_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenants(id);

ALTER TABLE ONLY public.sender_warmups
    ADD CONSTRAINT sender_warmups_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenants(id);

ALTER TABLE ONLY public.sms_deliveries
    ADD CONSTRAINT sms_deliveries_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenants(id);

ALTER TABLE ONLY public.sms_inbound
    ADD CONSTRAINT sms_inbound_lead FOREIGN KEY (tenant_id, lead_id) REFERENCES public.revenue_leads(tenant_id, id) ON DELETE SET NULL (lead_id);

ALTER TABLE ONLY public.sms_inbound
    ADD CONSTRAINT sms_inbound_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenants(id);

ALTER TABLE ONLY public.sms_numbers
    ADD CONSTRAINT sms_numbers_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenants(id);

ALTER TABLE ONLY public.sms_threads
    ADD CONSTRAINT sms_threads_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenants(id);

ALTER TABLE ONLY public.stripe_objects
    ADD CONSTRAINT stripe_objects_request FOREIGN KEY (tenant_id, payment_request_id) REFERENCES public.payment_requests(tenant_id, id) ON DELETE CASCADE;

ALTER TABLE ONLY public.stripe_objects
    ADD CONSTRAINT stripe_objects_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenants(id);

ALTER TABLE ONLY public.subscriptions
    ADD CONSTRAINT subscriptions_request FOREIGN KEY (tenant_id, payment_request_id) REFERENCES public.payment_requests(tenant_id, id);

ALTER TABLE ONLY public.subscriptions
    ADD CONSTRAINT subscriptions_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenants(id);

ALTER TABLE ONLY public.tenant_keys
    ADD CONSTRAINT tenant_keys_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenants(id);

ALTER TABLE ONLY public.tenant_notifications
    ADD CONSTRAINT tenant_notifications_lead FOREIGN KEY (tenant_id, lead_id) REFERENCES public.revenue_leads(tenant_id, id) ON DELETE CASCADE;

ALTER TABLE ONLY public.webhook_events
    ADD CONSTRAINT webhook_events_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenants(id);

ALTER TABLE brainops.circuit_breakers ENABLE ROW LEVEL SECURITY;

ALTER TABLE brainops.contact_counts ENABLE ROW LEVEL SECURITY;

ALTER TABLE brainops.currencies ENABLE ROW LEVEL SECURITY;

ALTER TABLE brainops.embedded_connections ENABLE ROW LEVEL SECURITY;

CREATE POLICY every_row ON brainops.circuit_breakers TO brainops_admin, brainops_system USING (true) WITH CHECK (true);

CREATE POLICY every_row ON brainops.contact_counts TO brainops_admin, brainops_system USING (true) WITH CHECK (true);

CREATE POLICY every_row ON brainops.currencies TO brainops_admin, brainops_system USING (true) WITH CHECK (true);

CREATE POLICY every_row ON brainops.embedded_connections TO brainops_admin, brainops_system USING (true) WITH CHECK (true);

CREATE POLICY every_row ON brainops.job_archive TO brainops_admin, brainops_system USING (true) WITH CHECK (true);

CREATE POLICY every_row ON brainops.job_events TO brainops_admin, brainops_system USING (true) WITH CHECK (true);

CREATE POLICY every_row ON brainops.lead_keys TO brainops_admin, brainops_system USING (true) WITH CHECK (true);

CREATE POLICY every_row ON brainops.pauses TO brainops_admin, brainops_system USING (true) WITH CHECK (true);

CREATE POLICY every_row ON brainops.rate_limits TO brainops_admin, brainops_system USING (true) WITH CHECK (true);

CREATE POLICY every_row ON brainops.tenant_logins TO brainops_admin, brainops_system USING (true) WITH CHECK (true);

CREATE POLICY every_row ON brainops.waiting_stripe_events TO brainops_admin, brainops_system USING (true) WITH CHECK (true);

CREATE POLICY every_row ON brainops.worker_processes TO brainops_admin, brainops_system USING (true) WITH CHECK (true);

CREATE POLICY everyone_reads ON brainops.currencies FOR SELECT TO brainops_tenant, brainops_worker, brainops_service USING (true);

ALTER TABLE brainops.job_archive ENABLE ROW LEVEL SECURITY;

ALTER TABLE brainops.job_events ENABLE ROW LEVEL SECURITY;

ALTER TABLE brainops.lead_keys ENABLE ROW LEVEL SECURITY;

CREATE POLICY named_tenant ON brainops.contact_counts TO brainops_service USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK (((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)) OR ( SELECT brainops.may_name_tenant() AS may_name_tenant)));

CREATE POLICY named_tenant ON brainops.lead_keys TO brainops_service USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK (((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)) OR ( SELECT brainops.may_name_tenant() AS may_name_tenant)));

CREATE POLICY own_tenant ON brainops.contact_counts TO brainops_tenant, brainops_worker USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)));

CREATE POLICY own_tenant ON brainops.job_archive FOR SELECT TO brainops_tenant, brainops_worker, brainops_service USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)));

CREATE POLICY own_tenant ON brainops.job_events FOR SELECT TO brainops_tenant, brainops_worker, brainops_service USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)));

CREATE POLICY own_tenant ON brainops.lead_keys TO brainops_tenant, brainops_worker USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)));

CREATE POLICY own_tenant ON brainops.rate_limits FOR SELECT TO brainops_worker USING (((tenant_id IS NULL) OR (tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))));

ALTER TABLE brainops.pauses ENABLE ROW LEVEL SECURITY;

ALTER TABLE brainops.rate_limits ENABLE ROW LEVEL SECURITY;

ALTER TABLE brainops.tenant_logins ENABLE ROW LEVEL SECURITY;

ALTER TABLE brainops.waiting_stripe_events ENABLE ROW LEVEL SECURITY;

ALTER TABLE brainops.worker_processes ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.ai_broadcasts ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.ai_campaign_templates ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.ai_campaign_touches ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.ai_email_queue ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.ai_nurture_campaigns ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.ai_onboarding_steps ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.ai_onboarding_workflows ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.ai_sms_queue ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.campaign_rules ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.campaign_split_winners ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.campaign_steps ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.campaign_touch_events ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.campaigns ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.contact_consents ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.contact_policies ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.contact_suppressions ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.contact_topic_optouts ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.contact_topics ENABLE ROW LEVEL SECURITY;

CREATE POLICY delete_own ON public.plans FOR DELETE TO brainops_tenant, brainops_worker, brainops_service USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)));

ALTER TABLE public.email_bounces ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.email_deliveries ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.email_unsubscribe_links ENABLE ROW LEVEL SECURITY;

CREATE POLICY every_row ON public.ai_broadcasts TO brainops_admin, brainops_system USING (true) WITH CHECK (true);

CREATE POLICY every_row ON public.ai_campaign_templates TO brainops_admin, brainops_system USING (true) WITH CHECK (true);

CREATE POLICY every_row ON public.ai_campaign_touches TO brainops_admin, brainops_system USING (true) WITH CHECK (true);

CREATE POLICY every_row ON public.ai_email_queue TO brainops_admin, brainops_system USING (true) WITH CHECK (true);

CREATE POLICY every_row ON public.ai_nurture_campaigns TO brainops_admin, brainops_system USING (true) WITH CHECK (true);

CREATE POLICY every_row ON public.ai_onboarding_steps TO brainops_admin, brainops_system USING (true) WITH CHECK (true);

CREATE POLICY every_row ON public.ai_onboarding_workflows TO brainops_admin, brainops_system USING (true) WITH CHECK (true);

CREATE POLICY every_row ON public.ai_sms_queue TO brainops_admin, brainops_system USING (true) WITH CHECK (true);

CREATE POLICY every_row ON public.campaign_rules TO brainops_admin, brainops_system USING (true) WITH CHECK (true);

CREATE POLICY every_row ON public.campaign_split_winners TO brainops_admin, brainops_system USING (true) WITH CHECK (true);

CREATE POLICY every_row ON public.campaign_steps TO brainops_admin, brainops_system USING (true) WITH CHECK (true);

CREATE POLICY every_row ON public.campaign_touch_events TO brainops_admin, brainops_system USING (true) WITH CHECK (true);

CREATE POLICY every_row ON public.campaigns TO brainops_admin, brainops_system USING (true) WITH CHECK (true);

CREATE POLICY every_row ON public.contact_consents TO brainops_admin, brainops_system USING (true) WITH CHECK (true);

CREATE POLICY every_row ON public.contact_policies TO brainops_admin, brainops_system USING (true) WITH CHECK (true);

CREATE POLICY every_row ON public.contact_suppressions TO brainops_admin, brainops_system USING (true) WITH CHECK (true);

CREATE POLICY every_row ON public.contact_topic_optouts TO brainops_admin, brainops_system USING (true) WITH CHECK (true);

CREATE POLICY every_row ON public.contact_topics TO brainops_admin, brainops_system USING (true) WITH CHECK (true);

CREATE POLICY every_row ON public.email_bounces TO brainops_admin, brainops_system USING (true) WITH CHECK (true);

CREATE POLICY every_row ON public.email_deliveries TO brainops_admin, brainops_system USING (true) WITH CHECK (true);

CREATE POLICY every_row ON public.email_unsubscribe_links TO brainops_admin, brainops_system USING (true) WITH CHECK (true);

CREATE POLICY every_row ON public.lead_events TO brainops_admin, brainops_system USING (true) WITH CHECK (true);

CREATE POLICY every_row ON public.lead_forms TO brainops_admin, brainops_system USING (true) WITH CHECK (true);

CREATE POLICY every_row ON public.lead_score_events TO brainops_admin, brainops_system USING (true) WITH CHECK (true);

CREATE POLICY every_row ON public.lead_tasks TO brainops_admin, brainops_system USING (true) WITH CHECK (true);

CREATE POLICY every_row ON public.marketing_holds TO brainops_admin, brainops_system USING (true) WITH CHECK (true);

CREATE POLICY every_row ON public.onboarding_reminders TO brainops_admin, brainops_system USING (true) WITH CHECK (true);

CREATE POLICY every_row ON public.onboarding_templates TO brainops_admin, brainops_system USING (true) WITH CHECK (true);

CREATE POLICY every_row ON public.opt_in_requests TO brainops_admin, brainops_system USING (true) WITH CHECK (true);

CREATE POLICY every_row ON public.payment_disputes TO brainops_admin, brainops_system USING (true) WITH CHECK (true);

CREATE POLICY every_row ON public.payment_ledger TO brainops_admin, brainops_system USING (true) WITH CHECK (true);

CREATE POLICY every_row ON public.payment_link_closures TO brainops_admin, brainops_system USING (true) WITH CHECK (true);

CREATE POLICY every_row ON public.payment_requests TO brainops_admin, brainops_system USING (true) WITH CHECK (true);

CREATE POLICY every_row ON public.plans TO brainops_admin, brainops_system USING (true) WITH CHECK (true);

CREATE POLICY every_row ON public.provider_credentials TO brainops_admin, brainops_system USING (true) WITH CHECK (true);

CREATE POLICY every_row ON public.revenue_lead_aliases TO brainops_admin, brainops_system USING (true) WITH CHECK (true);

CREATE POLICY every_row ON public.revenue_leads TO brainops_admin, brainops_system USING (true) WITH CHECK (true);

CREATE POLICY every_row ON public.sender_warmups TO brainops_admin, brainops_system USING (true) WITH CHECK (true);

CREATE POLICY every_row ON public.sms_deliveries TO brainops_admin, brainops_system USING (true) WITH CHECK (true);

CREATE POLICY every_row ON public.sms_inbound TO brainops_admin, brainops_system USING (true) WITH CHECK (true);

CREATE POLICY every_row ON public.sms_numbers TO brainops_admin, brainops_system USING (true) WITH CHECK (true);

CREATE POLICY every_row ON public.sms_threads TO brainops_admin, brainops_system USING (true) WITH CHECK (true);

CREATE POLICY every_row ON public.stripe_objects TO brainops_admin, brainops_system USING (true) WITH CHECK (true);

CREATE POLICY every_row ON public.subscriptions TO brainops_admin, brainops_system USING (true) WITH CHECK (true);

CREATE POLICY every_row ON public.tenant_keys TO brainops_admin, brainops_system USING (true) WITH CHECK (true);

CREATE POLICY every_row ON public.tenant_notifications TO brainops_admin, brainops_system USING (true) WITH CHECK (true);

CREATE POLICY every_row ON public.tenants TO brainops_admin, brainops_system USING (true) WITH CHECK (true);

CREATE POLICY every_row ON public.webhook_events TO brainops_admin, brainops_system USING (true) WITH CHECK (true);

CREATE POLICY insert_own ON public.plans FOR INSERT TO brainops_tenant, brainops_worker, brainops_service WITH CHECK (((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)) OR ((tenant_id IS NOT NULL) AND ( SELECT brainops.may_name_tenant() AS may_name_tenant))));

ALTER TABLE public.lead_events ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.lead_forms ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.lead_score_events ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.lead_tasks ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.marketing_holds ENABLE ROW LEVEL SECURITY;

CREATE POLICY named_tenant ON public.ai_broadcasts TO brainops_service USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK (((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)) OR ( SELECT brainops.may_name_tenant() AS may_name_tenant)));

CREATE POLICY named_tenant ON public.ai_campaign_templates TO brainops_service USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK (((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)) OR ( SELECT brainops.may_name_tenant() AS may_name_tenant)));

CREATE POLICY named_tenant ON public.ai_campaign_touches TO brainops_service USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK (((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)) OR ( SELECT brainops.may_name_tenant() AS may_name_tenant)));

CREATE POLICY named_tenant ON public.ai_email_queue TO brainops_service USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK (((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)) OR ( SELECT brainops.may_name_tenant() AS may_name_tenant)));

CREATE POLICY named_tenant ON public.ai_nurture_campaigns TO brainops_service USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK (((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)) OR ( SELECT brainops.may_name_tenant() AS may_name_tenant)));

CREATE POLICY named_tenant ON public.ai_onboarding_steps TO brainops_service USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK (((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)) OR ( SELECT brainops.may_name_tenant() AS may_name_tenant)));

CREATE POLICY named_tenant ON public.ai_onboarding_workflows TO brainops_service USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK (((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)) OR ( SELECT brainops.may_name_tenant() AS may_name_tenant)));

CREATE POLICY named_tenant ON public.ai_sms_queue TO brainops_service USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK (((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)) OR ( SELECT brainops.may_name_tenant() AS may_name_tenant)));

CREATE POLICY named_tenant ON public.campaign_rules TO brainops_service USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK (((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)) OR ( SELECT brainops.may_name_tenant() AS may_name_tenant)));

CREATE POLICY named_tenant ON public.campaign_split_winners TO brainops_service USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK (((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)) OR ( SELECT brainops.may_name_tenant() AS may_name_tenant)));

CREATE POLICY named_tenant ON public.campaign_steps TO brainops_service USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK (((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)) OR ( SELECT brainops.may_name_tenant() AS may_name_tenant)));

CREATE POLICY named_tenant ON public.campaign_touch_events TO brainops_service USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK (((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)) OR ( SELECT brainops.may_name_tenant() AS may_name_tenant)));

CREATE POLICY named_tenant ON public.campaigns TO brainops_service USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK (((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)) OR ( SELECT brainops.may_name_tenant() AS may_name_tenant)));

CREATE POLICY named_tenant ON public.contact_consents TO brainops_service USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK (((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)) OR ( SELECT brainops.may_name_tenant() AS may_name_tenant)));

CREATE POLICY named_tenant ON public.contact_policies TO brainops_service USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK (((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)) OR ( SELECT brainops.may_name_tenant() AS may_name_tenant)));

CREATE POLICY named_tenant ON public.contact_suppressions TO brainops_service USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK (((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)) OR ( SELECT brainops.may_name_tenant() AS may_name_tenant)));

CREATE POLICY named_tenant ON public.contact_topic_optouts TO brainops_service USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK (((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)) OR ( SELECT brainops.may_name_tenant() AS may_name_tenant)));

CREATE POLICY named_tenant ON public.contact_topics TO brainops_service USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK (((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)) OR ( SELECT brainops.may_name_tenant() AS may_name_tenant)));

CREATE POLICY named_tenant ON public.email_bounces TO brainops_service USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK (((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)) OR ( SELECT brainops.may_name_tenant() AS may_name_tenant)));

CREATE POLICY named_tenant ON public.email_deliveries TO brainops_service USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK (((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)) OR ( SELECT brainops.may_name_tenant() AS may_name_tenant)));

CREATE POLICY named_tenant ON public.email_unsubscribe_links TO brainops_service USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK (((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)) OR ( SELECT brainops.may_name_tenant() AS may_name_tenant)));

CREATE POLICY named_tenant ON public.lead_events TO brainops_service USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK (((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)) OR ( SELECT brainops.may_name_tenant() AS may_name_tenant)));

CREATE POLICY named_tenant ON public.lead_forms TO brainops_service USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK (((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)) OR ( SELECT brainops.may_name_tenant() AS may_name_tenant)));

CREATE POLICY named_tenant ON public.lead_score_events TO brainops_service USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK (((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)) OR ( SELECT brainops.may_name_tenant() AS may_name_tenant)));

CREATE POLICY named_tenant ON public.lead_tasks TO brainops_service USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK (((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)) OR ( SELECT brainops.may_name_tenant() AS may_name_tenant)));

CREATE POLICY named_tenant ON public.marketing_holds TO brainops_service USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK (((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)) OR ( SELECT brainops.may_name_tenant() AS may_name_tenant)));

CREATE POLICY named_tenant ON public.onboarding_reminders TO brainops_service USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK (((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)) OR ( SELECT brainops.may_name_tenant() AS may_name_tenant)));

CREATE POLICY named_tenant ON public.onboarding_templates TO brainops_service USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK (((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)) OR ( SELECT brainops.may_name_tenant() AS may_name_tenant)));

CREATE POLICY named_tenant ON public.opt_in_requests TO brainops_service USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK (((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)) OR ( SELECT brainops.may_name_tenant() AS may_name_tenant)));

CREATE POLICY named_tenant ON public.payment_disputes TO brainops_service USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK (((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)) OR ( SELECT brainops.may_name_tenant() AS may_name_tenant)));

CREATE POLICY named_tenant ON public.payment_ledger TO brainops_service USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK (((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)) OR ( SELECT brainops.may_name_tenant() AS may_name_tenant)));

CREATE POLICY named_tenant ON public.payment_link_closures TO brainops_service USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK (((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)) OR ( SELECT brainops.may_name_tenant() AS may_name_tenant)));

CREATE POLICY named_tenant ON public.payment_requests TO brainops_service USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK (((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)) OR ( SELECT brainops.may_name_tenant() AS may_name_tenant)));

CREATE POLICY named_tenant ON public.provider_credentials TO brainops_service USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK (((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)) OR ( SELECT brainops.may_name_tenant() AS may_name_tenant)));

CREATE POLICY named_tenant ON public.revenue_lead_aliases TO brainops_service USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK (((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)) OR ( SELECT brainops.may_name_tenant() AS may_name_tenant)));

CREATE POLICY named_tenant ON public.revenue_leads TO brainops_service USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK (((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)) OR ( SELECT brainops.may_name_tenant() AS may_name_tenant)));

CREATE POLICY named_tenant ON public.sender_warmups TO brainops_service USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK (((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)) OR ( SELECT brainops.may_name_tenant() AS may_name_tenant)));

CREATE POLICY named_tenant ON public.sms_deliveries TO brainops_service USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK (((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)) OR ( SELECT brainops.may_name_tenant() AS may_name_tenant)));

CREATE POLICY named_tenant ON public.sms_inbound TO brainops_service USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK (((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)) OR ( SELECT brainops.may_name_tenant() AS may_name_tenant)));

CREATE POLICY named_tenant ON public.sms_numbers TO brainops_service USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK (((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)) OR ( SELECT brainops.may_name_tenant() AS may_name_tenant)));

CREATE POLICY named_tenant ON public.sms_threads TO brainops_service USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK (((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)) OR ( SELECT brainops.may_name_tenant() AS may_name_tenant)));

CREATE POLICY named_tenant ON public.stripe_objects TO brainops_service USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK (((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)) OR ( SELECT brainops.may_name_tenant() AS may_name_tenant)));

CREATE POLICY named_tenant ON public.subscriptions TO brainops_service USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK (((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)) OR ( SELECT brainops.may_name_tenant() AS may_name_tenant)));

CREATE POLICY named_tenant ON public.tenant_keys TO brainops_service USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK (((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)) OR ( SELECT brainops.may_name_tenant() AS may_name_tenant)));

CREATE POLICY named_tenant ON public.tenant_notifications TO brainops_service USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK (((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)) OR ( SELECT brainops.may_name_tenant() AS may_name_tenant)));

ALTER TABLE public.onboarding_reminders ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.onboarding_templates ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.opt_in_requests ENABLE ROW LEVEL SECURITY;

CREATE POLICY own_tenant ON public.ai_broadcasts TO brainops_tenant, brainops_worker USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)));

CREATE POLICY own_tenant ON public.ai_campaign_templates TO brainops_tenant, brainops_worker USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)));

CREATE POLICY own_tenant ON public.ai_campaign_touches TO brainops_tenant, brainops_worker USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)));

CREATE POLICY own_tenant ON public.ai_email_queue TO brainops_tenant, brainops_worker USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)));

CREATE POLICY own_tenant ON public.ai_nurture_campaigns TO brainops_tenant, brainops_worker USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)));

CREATE POLICY own_tenant ON public.ai_onboarding_steps TO brainops_tenant, brainops_worker USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)));

CREATE POLICY own_tenant ON public.ai_onboarding_workflows TO brainops_tenant, brainops_worker USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)));

CREATE POLICY own_tenant ON public.ai_sms_queue TO brainops_tenant, brainops_worker USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)));

CREATE POLICY own_tenant ON public.campaign_rules TO brainops_tenant, brainops_worker USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)));

CREATE POLICY own_tenant ON public.campaign_split_winners TO brainops_tenant, brainops_worker USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)));

CREATE POLICY own_tenant ON public.campaign_steps TO brainops_tenant, brainops_worker USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)));

CREATE POLICY own_tenant ON public.campaign_touch_events TO brainops_tenant, brainops_worker USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)));

CREATE POLICY own_tenant ON public.campaigns TO brainops_tenant, brainops_worker USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)));

CREATE POLICY own_tenant ON public.contact_consents TO brainops_tenant, brainops_worker USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)));

CREATE POLICY own_tenant ON public.contact_policies TO brainops_tenant, brainops_worker USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)));

CREATE POLICY own_tenant ON public.contact_suppressions TO brainops_tenant, brainops_worker USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)));

CREATE POLICY own_tenant ON public.contact_topic_optouts TO brainops_tenant, brainops_worker USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)));

CREATE POLICY own_tenant ON public.contact_topics TO brainops_tenant, brainops_worker USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)));

CREATE POLICY own_tenant ON public.email_bounces TO brainops_tenant, brainops_worker USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)));

CREATE POLICY own_tenant ON public.email_deliveries TO brainops_tenant, brainops_worker USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)));

CREATE POLICY own_tenant ON public.email_unsubscribe_links TO brainops_tenant, brainops_worker USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)));

CREATE POLICY own_tenant ON public.lead_events TO brainops_tenant, brainops_worker USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)));

CREATE POLICY own_tenant ON public.lead_forms TO brainops_tenant, brainops_worker USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)));

CREATE POLICY own_tenant ON public.lead_score_events TO brainops_tenant, brainops_worker USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)));

CREATE POLICY own_tenant ON public.lead_tasks TO brainops_tenant, brainops_worker USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)));

CREATE POLICY own_tenant ON public.marketing_holds TO brainops_tenant, brainops_worker USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)));

CREATE POLICY own_tenant ON public.onboarding_reminders TO brainops_tenant, brainops_worker USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)));

CREATE POLICY own_tenant ON public.onboarding_templates TO brainops_tenant, brainops_worker USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)));

CREATE POLICY own_tenant ON public.opt_in_requests TO brainops_tenant, brainops_worker USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)));

CREATE POLICY own_tenant ON public.payment_disputes TO brainops_tenant, brainops_worker USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)));

CREATE POLICY own_tenant ON public.payment_ledger TO brainops_tenant, brainops_worker USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)));

CREATE POLICY own_tenant ON public.payment_link_closures TO brainops_tenant, brainops_worker USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)));

CREATE POLICY own_tenant ON public.payment_requests TO brainops_tenant, brainops_worker USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)));

CREATE POLICY own_tenant ON public.provider_credentials TO brainops_tenant, brainops_worker USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)));

CREATE POLICY own_tenant ON public.revenue_lead_aliases TO brainops_tenant, brainops_worker USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)));

CREATE POLICY own_tenant ON public.revenue_leads TO brainops_tenant, brainops_worker USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)));

CREATE POLICY own_tenant ON public.sender_warmups TO brainops_tenant, brainops_worker USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)));

CREATE POLICY own_tenant ON public.sms_deliveries TO brainops_tenant, brainops_worker USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)));

CREATE POLICY own_tenant ON public.sms_inbound TO brainops_tenant, brainops_worker USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)));

CREATE POLICY own_tenant ON public.sms_numbers TO brainops_tenant, brainops_worker USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)));

CREATE POLICY own_tenant ON public.sms_threads TO brainops_tenant, brainops_worker USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)));

CREATE POLICY own_tenant ON public.stripe_objects TO brainops_tenant, brainops_worker USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)));

CREATE POLICY own_tenant ON public.subscriptions TO brainops_tenant, brainops_worker USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)));

CREATE POLICY own_tenant ON public.tenant_keys TO brainops_tenant, brainops_worker USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)));

CREATE POLICY own_tenant ON public.tenant_notifications TO brainops_tenant, brainops_worker USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)));

CREATE POLICY own_tenant ON public.tenants FOR SELECT TO brainops_tenant, brainops_worker, brainops_service USING ((id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)));

CREATE POLICY own_tenant ON public.webhook_events FOR SELECT TO brainops_tenant, brainops_worker, brainops_service USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)));

ALTER TABLE public.payment_disputes ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.payment_ledger ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.payment_link_closures ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.payment_requests ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.plans ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.provider_credentials ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.revenue_lead_aliases ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.revenue_leads ENABLE ROW LEVEL SECURITY;

CREATE POLICY select_own_and_common ON public.plans FOR SELECT TO brainops_tenant, brainops_worker, brainops_service USING (((tenant_id IS NULL) OR (tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))));

ALTER TABLE public.sender_warmups ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.sms_deliveries ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.sms_inbound ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.sms_numbers ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.sms_threads ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.stripe_objects ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.subscriptions ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.tenant_keys ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.tenant_notifications ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.tenants ENABLE ROW LEVEL SECURITY;

CREATE POLICY update_own ON public.plans FOR UPDATE TO brainops_tenant, brainops_worker, brainops_service USING ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id))) WITH CHECK ((tenant_id = ( SELECT brainops.current_tenant_id() AS current_tenant_id)));

ALTER TABLE public.webhook_events ENABLE ROW LEVEL SECURITY;

GRANT USAGE ON SCHEMA brainops TO brainops_tenant;
GRANT USAGE ON SCHEMA brainops TO brainops_worker;
GRANT USAGE ON SCHEMA brainops TO brainops_service;
GRANT USAGE ON SCHEMA brainops TO brainops_admin;
GRANT ALL ON SCHEMA brainops TO brainops_system;

GRANT USAGE ON SCHEMA brainops_internal TO brainops_worker;
GRANT USAGE ON SCHEMA brainops_internal TO brainops_admin;
GRANT ALL ON SCHEMA brainops_internal TO brainops_system;

GRANT USAGE ON SCHEMA public TO brainops_tenant;
GRANT USAGE ON SCHEMA public TO brainops_worker;
GRANT USAGE ON SCHEMA public TO brainops_service;
GRANT USAGE ON SCHEMA public TO brainops_admin;
GRANT USAGE ON SCHEMA public TO brainops_system;

REVOKE ALL ON FUNCTION brainops.address_zones(p_tenant_id uuid, p_lead_id uuid, p_address text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops.address_zones(p_tenant_id uuid, p_lead_id uuid, p_address text) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops.address_zones(p_tenant_id uuid, p_lead_id uuid, p_address text) TO brainops_worker;
GRANT ALL ON FUNCTION brainops.address_zones(p_tenant_id uuid, p_lead_id uuid, p_address text) TO brainops_service;
GRANT ALL ON FUNCTION brainops.address_zones(p_tenant_id uuid, p_lead_id uuid, p_address text) TO brainops_admin;

REVOKE ALL ON FUNCTION brainops.announce_public_url(p_public_url text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops.announce_public_url(p_public_url text) TO brainops_system;

REVOKE ALL ON FUNCTION brainops.archive_done(p_most integer) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops.archive_done(p_most integer) TO brainops_system;

REVOKE ALL ON FUNCTION brainops.broadcast_to_leads(p_broadcast_id uuid, p_where text, p_after uuid, p_most integer, OUT added integer, OUT last_id uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops.broadcast_to_leads(p_broadcast_id uuid, p_where text, p_after uuid, p_most integer, OUT added integer, OUT last_id uuid) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops.broadcast_to_leads(p_broadcast_id uuid, p_where text, p_after uuid, p_most integer, OUT added integer, OUT last_id uuid) TO brainops_worker;
GRANT ALL ON FUNCTION brainops.broadcast_to_leads(p_broadcast_id uuid, p_where text, p_after uuid, p_most integer, OUT added integer, OUT last_id uuid) TO brainops_service;
GRANT ALL ON FUNCTION brainops.broadcast_to_leads(p_broadcast_id uuid, p_where text, p_after uuid, p_most integer, OUT added integer, OUT last_id uuid) TO brainops_admin;
GRANT ALL ON FUNCTION brainops.broadcast_to_leads(p_broadcast_id uuid, p_where text, p_after uuid, p_most integer, OUT added integer, OUT last_id uuid) TO brainops_system;

GRANT SELECT ON TABLE brainops.job_tables TO brainops_tenant;
GRANT SELECT ON TABLE brainops.job_tables TO brainops_worker;
GRANT SELECT ON TABLE brainops.job_tables TO brainops_service;
GRANT SELECT ON TABLE brainops.job_tables TO brainops_system;
GRANT SELECT ON TABLE brainops.job_tables TO brainops_admin;

GRANT UPDATE(time_limit) ON TABLE brainops.job_tables TO brainops_admin;

GRANT UPDATE(max_deferrals) ON TABLE brainops.job_tables TO brainops_admin;

GRANT UPDATE(archive_after) ON TABLE brainops.job_tables TO brainops_admin;

GRANT UPDATE(bulk_max) ON TABLE brainops.job_tables TO brainops_admin;

REVOKE ALL ON FUNCTION brainops_internal.job_table(p_table text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.job_table(p_table text) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops_internal.job_table(p_table text) TO brainops_worker;
GRANT ALL ON FUNCTION brainops_internal.job_table(p_table text) TO brainops_service;
GRANT ALL ON FUNCTION brainops_internal.job_table(p_table text) TO brainops_admin;
GRANT ALL ON FUNCTION brainops_internal.job_table(p_table text) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.set_job_status(p_job brainops.job_tables, p_id uuid, p_from text[], p_to text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.set_job_status(p_job brainops.job_tables, p_id uuid, p_from text[], p_to text) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops_internal.set_job_status(p_job brainops.job_tables, p_id uuid, p_from text[], p_to text) TO brainops_worker;
GRANT ALL ON FUNCTION brainops_internal.set_job_status(p_job brainops.job_tables, p_id uuid, p_from text[], p_to text) TO brainops_service;
GRANT ALL ON FUNCTION brainops_internal.set_job_status(p_job brainops.job_tables, p_id uuid, p_from text[], p_to text) TO brainops_admin;
GRANT ALL ON FUNCTION brainops_internal.set_job_status(p_job brainops.job_tables, p_id uuid, p_from text[], p_to text) TO brainops_system;

REVOKE ALL ON FUNCTION brainops.cancel(p_table text, p_id uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops.cancel(p_table text, p_id uuid) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops.cancel(p_table text, p_id uuid) TO brainops_worker;
GRANT ALL ON FUNCTION brainops.cancel(p_table text, p_id uuid) TO brainops_service;
GRANT ALL ON FUNCTION brainops.cancel(p_table text, p_id uuid) TO brainops_admin;
GRANT ALL ON FUNCTION brainops.cancel(p_table text, p_id uuid) TO brainops_system;

REVOKE ALL ON FUNCTION brainops.capture_lead(p_tenant_id uuid, p_lead jsonb, p_source text, p_evidence jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops.capture_lead(p_tenant_id uuid, p_lead jsonb, p_source text, p_evidence jsonb) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops.capture_lead(p_tenant_id uuid, p_lead jsonb, p_source text, p_evidence jsonb) TO brainops_worker;
GRANT ALL ON FUNCTION brainops.capture_lead(p_tenant_id uuid, p_lead jsonb, p_source text, p_evidence jsonb) TO brainops_service;
GRANT ALL ON FUNCTION brainops.capture_lead(p_tenant_id uuid, p_lead jsonb, p_source text, p_evidence jsonb) TO brainops_admin;

REVOKE ALL ON FUNCTION brainops.complete_onboarding_step(p_workflow_id uuid, p_step_name text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops.complete_onboarding_step(p_workflow_id uuid, p_step_name text) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops.complete_onboarding_step(p_workflow_id uuid, p_step_name text) TO brainops_worker;
GRANT ALL ON FUNCTION brainops.complete_onboarding_step(p_workflow_id uuid, p_step_name text) TO brainops_service;
GRANT ALL ON FUNCTION brainops.complete_onboarding_step(p_workflow_id uuid, p_step_name text) TO brainops_admin;
GRANT ALL ON FUNCTION brainops.complete_onboarding_step(p_workflow_id uuid, p_step_name text) TO brainops_system;

REVOKE ALL ON FUNCTION brainops.confirm(p_table text, p_id uuid, p_happened boolean) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops.confirm(p_table text, p_id uuid, p_happened boolean) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops.confirm(p_table text, p_id uuid, p_happened boolean) TO brainops_worker;
GRANT ALL ON FUNCTION brainops.confirm(p_table text, p_id uuid, p_happened boolean) TO brainops_service;
GRANT ALL ON FUNCTION brainops.confirm(p_table text, p_id uuid, p_happened boolean) TO brainops_admin;
GRANT ALL ON FUNCTION brainops.confirm(p_table text, p_id uuid, p_happened boolean) TO brainops_system;

REVOKE ALL ON FUNCTION brainops.consent_state(p_tenant_id uuid, p_channel text, p_address text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops.consent_state(p_tenant_id uuid, p_channel text, p_address text) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops.consent_state(p_tenant_id uuid, p_channel text, p_address text) TO brainops_worker;
GRANT ALL ON FUNCTION brainops.consent_state(p_tenant_id uuid, p_channel text, p_address text) TO brainops_service;
GRANT ALL ON FUNCTION brainops.consent_state(p_tenant_id uuid, p_channel text, p_address text) TO brainops_admin;
GRANT ALL ON FUNCTION brainops.consent_state(p_tenant_id uuid, p_channel text, p_address text) TO brainops_system;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.contact_policies TO brainops_tenant;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.contact_policies TO brainops_service;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.contact_policies TO brainops_worker;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.contact_policies TO brainops_admin;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.contact_policies TO brainops_system;

REVOKE ALL ON FUNCTION brainops.contact_policy(p_tenant_id uuid, p_channel text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops.contact_policy(p_tenant_id uuid, p_channel text) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops.contact_policy(p_tenant_id uuid, p_channel text) TO brainops_worker;
GRANT ALL ON FUNCTION brainops.contact_policy(p_tenant_id uuid, p_channel text) TO brainops_service;
GRANT ALL ON FUNCTION brainops.contact_policy(p_tenant_id uuid, p_channel text) TO brainops_admin;
GRANT ALL ON FUNCTION brainops.contact_policy(p_tenant_id uuid, p_channel text) TO brainops_system;

REVOKE ALL ON FUNCTION brainops.create_login(p_tenant_slug text, p_role_name text, p_password text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops.create_login(p_tenant_slug text, p_role_name text, p_password text) TO brainops_admin;
GRANT ALL ON FUNCTION brainops.create_login(p_tenant_slug text, p_role_name text, p_password text) TO brainops_system;

REVOKE ALL ON FUNCTION brainops.create_tenant(p_slug text, p_name text, p_time_zone text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops.create_tenant(p_slug text, p_name text, p_time_zone text) TO brainops_admin;
GRANT ALL ON FUNCTION brainops.create_tenant(p_slug text, p_name text, p_time_zone text) TO brainops_system;

REVOKE ALL ON FUNCTION brainops.current_tenant_id() FROM PUBLIC;
GRANT ALL ON FUNCTION brainops.current_tenant_id() TO brainops_tenant;
GRANT ALL ON FUNCTION brainops.current_tenant_id() TO brainops_worker;
GRANT ALL ON FUNCTION brainops.current_tenant_id() TO brainops_service;
GRANT ALL ON FUNCTION brainops.current_tenant_id() TO brainops_admin;

REVOKE ALL ON FUNCTION brainops.default_onboarding_steps() FROM PUBLIC;
GRANT ALL ON FUNCTION brainops.default_onboarding_steps() TO brainops_tenant;
GRANT ALL ON FUNCTION brainops.default_onboarding_steps() TO brainops_worker;
GRANT ALL ON FUNCTION brainops.default_onboarding_steps() TO brainops_service;
GRANT ALL ON FUNCTION brainops.default_onboarding_steps() TO brainops_admin;
GRANT ALL ON FUNCTION brainops.default_onboarding_steps() TO brainops_system;

REVOKE ALL ON FUNCTION brainops.define_bulk(p_table text, p_column text) FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops.define_job_table(p_table regclass, p_task_identifier text, p_effect_is_idempotent boolean, p_channel text, p_gate text, p_sender text, p_result_columns text[], p_time_limit interval, p_max_attempts integer) FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops.enrol(p_lead_id uuid, p_campaign_type text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops.enrol(p_lead_id uuid, p_campaign_type text) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops.enrol(p_lead_id uuid, p_campaign_type text) TO brainops_worker;
GRANT ALL ON FUNCTION brainops.enrol(p_lead_id uuid, p_campaign_type text) TO brainops_service;
GRANT ALL ON FUNCTION brainops.enrol(p_lead_id uuid, p_campaign_type text) TO brainops_admin;

REVOKE ALL ON FUNCTION brainops.exit_enrolment(p_id uuid, p_reason text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops.exit_enrolment(p_id uuid, p_reason text) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops.exit_enrolment(p_id uuid, p_reason text) TO brainops_worker;
GRANT ALL ON FUNCTION brainops.exit_enrolment(p_id uuid, p_reason text) TO brainops_service;
GRANT ALL ON FUNCTION brainops.exit_enrolment(p_id uuid, p_reason text) TO brainops_admin;
GRANT ALL ON FUNCTION brainops.exit_enrolment(p_id uuid, p_reason text) TO brainops_system;

REVOKE ALL ON FUNCTION brainops.export_person(p_tenant text, p_address text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops.export_person(p_tenant text, p_address text) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops.export_person(p_tenant text, p_address text) TO brainops_worker;
GRANT ALL ON FUNCTION brainops.export_person(p_tenant text, p_address text) TO brainops_service;
GRANT ALL ON FUNCTION brainops.export_person(p_tenant text, p_address text) TO brainops_admin;

REVOKE ALL ON FUNCTION brainops.forget(p_tenant text, p_address text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops.forget(p_tenant text, p_address text) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops.forget(p_tenant text, p_address text) TO brainops_worker;
GRANT ALL ON FUNCTION brainops.forget(p_tenant text, p_address text) TO brainops_service;
GRANT ALL ON FUNCTION brainops.forget(p_tenant text, p_address text) TO brainops_admin;

REVOKE ALL ON FUNCTION brainops.guard_obstacles(p_table regclass) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops.guard_obstacles(p_table regclass) TO brainops_admin;
GRANT ALL ON FUNCTION brainops.guard_obstacles(p_table regclass) TO brainops_system;

REVOKE ALL ON FUNCTION brainops.hold_marketing(p_tenant text, p_channel text, p_reason text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops.hold_marketing(p_tenant text, p_channel text, p_reason text) TO brainops_admin;
GRANT ALL ON FUNCTION brainops.hold_marketing(p_tenant text, p_channel text, p_reason text) TO brainops_system;

REVOKE ALL ON FUNCTION brainops.import_leads(p_tenant_id uuid, p_rows jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops.import_leads(p_tenant_id uuid, p_rows jsonb) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops.import_leads(p_tenant_id uuid, p_rows jsonb) TO brainops_worker;
GRANT ALL ON FUNCTION brainops.import_leads(p_tenant_id uuid, p_rows jsonb) TO brainops_service;
GRANT ALL ON FUNCTION brainops.import_leads(p_tenant_id uuid, p_rows jsonb) TO brainops_admin;

REVOKE ALL ON FUNCTION brainops.launch_problems(p_tenant_id uuid, p_channel text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops.launch_problems(p_tenant_id uuid, p_channel text) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops.launch_problems(p_tenant_id uuid, p_channel text) TO brainops_worker;
GRANT ALL ON FUNCTION brainops.launch_problems(p_tenant_id uuid, p_channel text) TO brainops_service;
GRANT ALL ON FUNCTION brainops.launch_problems(p_tenant_id uuid, p_channel text) TO brainops_admin;

REVOKE ALL ON FUNCTION brainops.lift_marketing_hold(p_tenant text, p_channel text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops.lift_marketing_hold(p_tenant text, p_channel text) TO brainops_admin;
GRANT ALL ON FUNCTION brainops.lift_marketing_hold(p_tenant text, p_channel text) TO brainops_system;

REVOKE ALL ON FUNCTION brainops.may_name_tenant() FROM PUBLIC;
GRANT ALL ON FUNCTION brainops.may_name_tenant() TO brainops_tenant;
GRANT ALL ON FUNCTION brainops.may_name_tenant() TO brainops_worker;
GRANT ALL ON FUNCTION brainops.may_name_tenant() TO brainops_service;
GRANT ALL ON FUNCTION brainops.may_name_tenant() TO brainops_admin;

REVOKE ALL ON FUNCTION brainops.merge_leads(p_into uuid, p_from uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops.merge_leads(p_into uuid, p_from uuid) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops.merge_leads(p_into uuid, p_from uuid) TO brainops_worker;
GRANT ALL ON FUNCTION brainops.merge_leads(p_into uuid, p_from uuid) TO brainops_service;
GRANT ALL ON FUNCTION brainops.merge_leads(p_into uuid, p_from uuid) TO brainops_admin;

REVOKE ALL ON FUNCTION brainops.next_contact_time(p_at timestamp with time zone, p_zones text[], p_from time without time zone, p_to time without time zone, p_weekdays integer[]) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops.next_contact_time(p_at timestamp with time zone, p_zones text[], p_from time without time zone, p_to time without time zone, p_weekdays integer[]) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops.next_contact_time(p_at timestamp with time zone, p_zones text[], p_from time without time zone, p_to time without time zone, p_weekdays integer[]) TO brainops_worker;
GRANT ALL ON FUNCTION brainops.next_contact_time(p_at timestamp with time zone, p_zones text[], p_from time without time zone, p_to time without time zone, p_weekdays integer[]) TO brainops_service;
GRANT ALL ON FUNCTION brainops.next_contact_time(p_at timestamp with time zone, p_zones text[], p_from time without time zone, p_to time without time zone, p_weekdays integer[]) TO brainops_admin;

REVOKE ALL ON FUNCTION brainops.next_stages(p_stage text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops.next_stages(p_stage text) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops.next_stages(p_stage text) TO brainops_worker;
GRANT ALL ON FUNCTION brainops.next_stages(p_stage text) TO brainops_service;
GRANT ALL ON FUNCTION brainops.next_stages(p_stage text) TO brainops_admin;
GRANT ALL ON FUNCTION brainops.next_stages(p_stage text) TO brainops_system;

REVOKE ALL ON FUNCTION brainops.notify(p_tenant_id uuid, p_subject text, p_body text, p_key text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops.notify(p_tenant_id uuid, p_subject text, p_body text, p_key text) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops.notify(p_tenant_id uuid, p_subject text, p_body text, p_key text) TO brainops_worker;
GRANT ALL ON FUNCTION brainops.notify(p_tenant_id uuid, p_subject text, p_body text, p_key text) TO brainops_service;
GRANT ALL ON FUNCTION brainops.notify(p_tenant_id uuid, p_subject text, p_body text, p_key text) TO brainops_admin;
GRANT ALL ON FUNCTION brainops.notify(p_tenant_id uuid, p_subject text, p_body text, p_key text) TO brainops_system;

REVOKE ALL ON FUNCTION brainops.notify(p_tenant_id uuid, p_subject text, p_body text, p_key text, p_lead_id uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops.notify(p_tenant_id uuid, p_subject text, p_body text, p_key text, p_lead_id uuid) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops.notify(p_tenant_id uuid, p_subject text, p_body text, p_key text, p_lead_id uuid) TO brainops_worker;
GRANT ALL ON FUNCTION brainops.notify(p_tenant_id uuid, p_subject text, p_body text, p_key text, p_lead_id uuid) TO brainops_service;
GRANT ALL ON FUNCTION brainops.notify(p_tenant_id uuid, p_subject text, p_body text, p_key text, p_lead_id uuid) TO brainops_admin;

REVOKE ALL ON FUNCTION brainops.now() FROM PUBLIC;
GRANT ALL ON FUNCTION brainops.now() TO brainops_tenant;
GRANT ALL ON FUNCTION brainops.now() TO brainops_worker;
GRANT ALL ON FUNCTION brainops.now() TO brainops_service;
GRANT ALL ON FUNCTION brainops.now() TO brainops_admin;
GRANT ALL ON FUNCTION brainops.now() TO brainops_system;

REVOKE ALL ON FUNCTION brainops.pause(p_table text, p_tenant text, p_channel text, p_reason text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops.pause(p_table text, p_tenant text, p_channel text, p_reason text) TO brainops_admin;
GRANT ALL ON FUNCTION brainops.pause(p_table text, p_tenant text, p_channel text, p_reason text) TO brainops_system;

REVOKE ALL ON FUNCTION brainops.pause_campaign(p_code text, p_tenant text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops.pause_campaign(p_code text, p_tenant text) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops.pause_campaign(p_code text, p_tenant text) TO brainops_worker;
GRANT ALL ON FUNCTION brainops.pause_campaign(p_code text, p_tenant text) TO brainops_service;
GRANT ALL ON FUNCTION brainops.pause_campaign(p_code text, p_tenant text) TO brainops_admin;

REVOKE ALL ON FUNCTION brainops.person_sources() FROM PUBLIC;
GRANT ALL ON FUNCTION brainops.person_sources() TO brainops_tenant;
GRANT ALL ON FUNCTION brainops.person_sources() TO brainops_worker;
GRANT ALL ON FUNCTION brainops.person_sources() TO brainops_service;
GRANT ALL ON FUNCTION brainops.person_sources() TO brainops_admin;
GRANT ALL ON FUNCTION brainops.person_sources() TO brainops_system;

REVOKE ALL ON FUNCTION brainops.protect_table(p_table regclass) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops.protect_table(p_table regclass) TO brainops_admin;
GRANT ALL ON FUNCTION brainops.protect_table(p_table regclass) TO brainops_system;

REVOKE ALL ON FUNCTION brainops.publish_campaign(p_code text, p_move boolean, p_tenant text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops.publish_campaign(p_code text, p_move boolean, p_tenant text) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops.publish_campaign(p_code text, p_move boolean, p_tenant text) TO brainops_worker;
GRANT ALL ON FUNCTION brainops.publish_campaign(p_code text, p_move boolean, p_tenant text) TO brainops_service;
GRANT ALL ON FUNCTION brainops.publish_campaign(p_code text, p_move boolean, p_tenant text) TO brainops_admin;

REVOKE ALL ON FUNCTION brainops.record_reply(p_lead_id uuid, p_channel text, p_text text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops.record_reply(p_lead_id uuid, p_channel text, p_text text) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops.record_reply(p_lead_id uuid, p_channel text, p_text text) TO brainops_worker;
GRANT ALL ON FUNCTION brainops.record_reply(p_lead_id uuid, p_channel text, p_text text) TO brainops_service;
GRANT ALL ON FUNCTION brainops.record_reply(p_lead_id uuid, p_channel text, p_text text) TO brainops_admin;

REVOKE ALL ON FUNCTION brainops.resume(p_table text, p_tenant text, p_channel text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops.resume(p_table text, p_tenant text, p_channel text) TO brainops_admin;
GRANT ALL ON FUNCTION brainops.resume(p_table text, p_tenant text, p_channel text) TO brainops_system;

REVOKE ALL ON FUNCTION brainops.resume_campaign(p_code text, p_tenant text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops.resume_campaign(p_code text, p_tenant text) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops.resume_campaign(p_code text, p_tenant text) TO brainops_worker;
GRANT ALL ON FUNCTION brainops.resume_campaign(p_code text, p_tenant text) TO brainops_service;
GRANT ALL ON FUNCTION brainops.resume_campaign(p_code text, p_tenant text) TO brainops_admin;

REVOKE ALL ON FUNCTION brainops.retain_months() FROM PUBLIC;
GRANT ALL ON FUNCTION brainops.retain_months() TO brainops_system;

REVOKE ALL ON FUNCTION brainops.retry(p_table text, p_id uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops.retry(p_table text, p_id uuid) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops.retry(p_table text, p_id uuid) TO brainops_worker;
GRANT ALL ON FUNCTION brainops.retry(p_table text, p_id uuid) TO brainops_service;
GRANT ALL ON FUNCTION brainops.retry(p_table text, p_id uuid) TO brainops_admin;
GRANT ALL ON FUNCTION brainops.retry(p_table text, p_id uuid) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.retry_failed_rows(p_job brainops.job_tables, p_since timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.retry_failed_rows(p_job brainops.job_tables, p_since timestamp with time zone) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops_internal.retry_failed_rows(p_job brainops.job_tables, p_since timestamp with time zone) TO brainops_worker;
GRANT ALL ON FUNCTION brainops_internal.retry_failed_rows(p_job brainops.job_tables, p_since timestamp with time zone) TO brainops_service;
GRANT ALL ON FUNCTION brainops_internal.retry_failed_rows(p_job brainops.job_tables, p_since timestamp with time zone) TO brainops_admin;
GRANT ALL ON FUNCTION brainops_internal.retry_failed_rows(p_job brainops.job_tables, p_since timestamp with time zone) TO brainops_system;

REVOKE ALL ON FUNCTION brainops.retry_failed(p_table text, p_since timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops.retry_failed(p_table text, p_since timestamp with time zone) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops.retry_failed(p_table text, p_since timestamp with time zone) TO brainops_worker;
GRANT ALL ON FUNCTION brainops.retry_failed(p_table text, p_since timestamp with time zone) TO brainops_service;
GRANT ALL ON FUNCTION brainops.retry_failed(p_table text, p_since timestamp with time zone) TO brainops_admin;
GRANT ALL ON FUNCTION brainops.retry_failed(p_table text, p_since timestamp with time zone) TO brainops_system;

REVOKE ALL ON FUNCTION brainops.revise_campaign(p_code text, p_tenant text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops.revise_campaign(p_code text, p_tenant text) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops.revise_campaign(p_code text, p_tenant text) TO brainops_worker;
GRANT ALL ON FUNCTION brainops.revise_campaign(p_code text, p_tenant text) TO brainops_service;
GRANT ALL ON FUNCTION brainops.revise_campaign(p_code text, p_tenant text) TO brainops_admin;

REVOKE ALL ON FUNCTION brainops.start_onboarding(p_lead_id uuid, p_reason text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops.start_onboarding(p_lead_id uuid, p_reason text) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops.start_onboarding(p_lead_id uuid, p_reason text) TO brainops_worker;
GRANT ALL ON FUNCTION brainops.start_onboarding(p_lead_id uuid, p_reason text) TO brainops_service;
GRANT ALL ON FUNCTION brainops.start_onboarding(p_lead_id uuid, p_reason text) TO brainops_admin;

REVOKE ALL ON FUNCTION brainops.start_warmup(p_tenant text, p_channel text, p_plan integer[]) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops.start_warmup(p_tenant text, p_channel text, p_plan integer[]) TO brainops_admin;
GRANT ALL ON FUNCTION brainops.start_warmup(p_tenant text, p_channel text, p_plan integer[]) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.account_of(p_sender text, p_tenant_id uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.account_of(p_sender text, p_tenant_id uuid) TO brainops_worker;
GRANT ALL ON FUNCTION brainops_internal.account_of(p_sender text, p_tenant_id uuid) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.acquire_breaker(p_sender text, p_n integer, p_probe_lease interval, OUT allowed integer, OUT ask_at timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.acquire_breaker(p_sender text, p_n integer, p_probe_lease interval, OUT allowed integer, OUT ask_at timestamp with time zone) TO brainops_worker;

REVOKE ALL ON FUNCTION brainops_internal.add_delay(p_at timestamp with time zone, p_delay interval, p_time_zone text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.add_delay(p_at timestamp with time zone, p_delay interval, p_time_zone text) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops_internal.add_delay(p_at timestamp with time zone, p_delay interval, p_time_zone text) TO brainops_worker;
GRANT ALL ON FUNCTION brainops_internal.add_delay(p_at timestamp with time zone, p_delay interval, p_time_zone text) TO brainops_service;
GRANT ALL ON FUNCTION brainops_internal.add_delay(p_at timestamp with time zone, p_delay interval, p_time_zone text) TO brainops_admin;
GRANT ALL ON FUNCTION brainops_internal.add_delay(p_at timestamp with time zone, p_delay interval, p_time_zone text) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.add_job_columns(p_table regclass, p_max_attempts integer) FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.address_digest(p_address text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.address_digest(p_address text) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops_internal.address_digest(p_address text) TO brainops_worker;
GRANT ALL ON FUNCTION brainops_internal.address_digest(p_address text) TO brainops_service;
GRANT ALL ON FUNCTION brainops_internal.address_digest(p_address text) TO brainops_admin;
GRANT ALL ON FUNCTION brainops_internal.address_digest(p_address text) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.address_pattern(p_address text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.address_pattern(p_address text) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.address_sms(p_id uuid, p_lease uuid, p_number text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.address_sms(p_id uuid, p_lease uuid, p_number text) TO brainops_worker;
GRANT ALL ON FUNCTION brainops_internal.address_sms(p_id uuid, p_lease uuid, p_number text) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.adopt_touch() FROM PUBLIC;

GRANT SELECT,DELETE ON TABLE public.ai_nurture_campaigns TO brainops_tenant;
GRANT SELECT,DELETE ON TABLE public.ai_nurture_campaigns TO brainops_service;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.ai_nurture_campaigns TO brainops_worker;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.ai_nurture_campaigns TO brainops_admin;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.ai_nurture_campaigns TO brainops_system;

GRANT INSERT(id) ON TABLE public.ai_nurture_campaigns TO brainops_tenant;
GRANT INSERT(id) ON TABLE public.ai_nurture_campaigns TO brainops_service;

GRANT INSERT(tenant_id) ON TABLE public.ai_nurture_campaigns TO brainops_tenant;
GRANT INSERT(tenant_id) ON TABLE public.ai_nurture_campaigns TO brainops_service;

GRANT INSERT(lead_id) ON TABLE public.ai_nurture_campaigns TO brainops_tenant;
GRANT INSERT(lead_id) ON TABLE public.ai_nurture_campaigns TO brainops_service;

GRANT INSERT(campaign_type) ON TABLE public.ai_nurture_campaigns TO brainops_tenant;
GRANT INSERT(campaign_type) ON TABLE public.ai_nurture_campaigns TO brainops_service;

GRANT INSERT(status),UPDATE(status) ON TABLE public.ai_nurture_campaigns TO brainops_tenant;
GRANT INSERT(status),UPDATE(status) ON TABLE public.ai_nurture_campaigns TO brainops_service;

GRANT INSERT(next_touch_date) ON TABLE public.ai_nurture_campaigns TO brainops_tenant;
GRANT INSERT(next_touch_date) ON TABLE public.ai_nurture_campaigns TO brainops_service;

GRANT INSERT(touch_count) ON TABLE public.ai_nurture_campaigns TO brainops_tenant;
GRANT INSERT(touch_count) ON TABLE public.ai_nurture_campaigns TO brainops_service;

GRANT INSERT(created_at) ON TABLE public.ai_nurture_campaigns TO brainops_tenant;
GRANT INSERT(created_at) ON TABLE public.ai_nurture_campaigns TO brainops_service;

GRANT INSERT(name),UPDATE(name) ON TABLE public.ai_nurture_campaigns TO brainops_tenant;
GRANT INSERT(name),UPDATE(name) ON TABLE public.ai_nurture_campaigns TO brainops_service;

GRANT INSERT(is_active),UPDATE(is_active) ON TABLE public.ai_nurture_campaigns TO brainops_tenant;
GRANT INSERT(is_active),UPDATE(is_active) ON TABLE public.ai_nurture_campaigns TO brainops_service;

GRANT INSERT(exit_reason),UPDATE(exit_reason) ON TABLE public.ai_nurture_campaigns TO brainops_tenant;
GRANT INSERT(exit_reason),UPDATE(exit_reason) ON TABLE public.ai_nurture_campaigns TO brainops_service;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.campaign_steps TO brainops_tenant;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.campaign_steps TO brainops_service;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.campaign_steps TO brainops_worker;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.campaign_steps TO brainops_admin;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.campaign_steps TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.advance_enrolment(p_enrolment public.ai_nurture_campaigns, p_step public.campaign_steps, p_due_at timestamp with time zone, p_at timestamp with time zone) FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.advance_onboarding(p_tenant_id uuid, p_workflow_id uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.advance_onboarding(p_tenant_id uuid, p_workflow_id uuid) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.after_broadcast_status() FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.after_campaign_status() FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.after_credential_change() FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.after_delivery_report() FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.after_enrolment_insert() FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.after_enrolment_moves() FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.after_enrolment_update() FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.after_job_delete() FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.after_job_insert() FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.after_job_update() FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.after_lead_delete() FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.after_lead_events() FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.after_lead_events_campaigns() FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.after_lead_events_onboarding() FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.after_lead_insert() FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.after_lead_score_events() FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.after_lead_score_update() FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.after_lead_tier() FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.after_lead_update() FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.after_lead_won() FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.after_onboarding_insert() FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.after_onboarding_mail() FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.after_onboarding_step() FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.after_onboarding_step_delete() FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.after_onboarding_update() FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.after_payment_closure() FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.after_payment_update() FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.after_tenant_insert() FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.after_topic_optout() FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.after_touch_message() FROM PUBLIC;

GRANT SELECT ON TABLE public.stripe_objects TO brainops_tenant;
GRANT SELECT ON TABLE public.stripe_objects TO brainops_service;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.stripe_objects TO brainops_worker;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.stripe_objects TO brainops_admin;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.stripe_objects TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.apply_known_stripe_event(p_event jsonb, p_known public.stripe_objects) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.apply_known_stripe_event(p_event jsonb, p_known public.stripe_objects) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.apply_sendgrid_event(p_event jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.apply_sendgrid_event(p_event jsonb) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.apply_sms_callback(p_event jsonb, p_tenant_id uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.apply_sms_callback(p_event jsonb, p_tenant_id uuid) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.apply_sms_error(p_tenant_id uuid, p_number text, p_lead_id uuid, p_code integer, p_at timestamp with time zone, p_words text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.apply_sms_error(p_tenant_id uuid, p_number text, p_lead_id uuid, p_code integer, p_at timestamp with time zone, p_words text) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.apply_sms_inbound(p_event jsonb, p_tenant_id uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.apply_sms_inbound(p_event jsonb, p_tenant_id uuid) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.apply_sms_inbound_for(p_tenant_id uuid, p_sid text, p_from text, p_to text, p_body text, p_kind text, p_at timestamp with time zone, p_opt_out_type text, p_media text, p_sender text, p_start_agrees boolean) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.apply_sms_inbound_for(p_tenant_id uuid, p_sid text, p_from text, p_to text, p_body text, p_kind text, p_at timestamp with time zone, p_opt_out_type text, p_media text, p_sender text, p_start_agrees boolean) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.apply_stripe_dispute(p_known public.stripe_objects, p_event jsonb, p_at timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.apply_stripe_dispute(p_known public.stripe_objects, p_event jsonb, p_at timestamp with time zone) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.apply_stripe_event(p_event jsonb, p_tenant_id uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.apply_stripe_event(p_event jsonb, p_tenant_id uuid) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.apply_stripe_refund(p_known public.stripe_objects, p_refund jsonb, p_livemode boolean, p_at timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.apply_stripe_refund(p_known public.stripe_objects, p_refund jsonb, p_livemode boolean, p_at timestamp with time zone) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.apply_stripe_subscription(p_known public.stripe_objects, p_event jsonb, p_at timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.apply_stripe_subscription(p_known public.stripe_objects, p_event jsonb, p_at timestamp with time zone) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.apply_twilio_event(p_event jsonb, p_tenant_id uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.apply_twilio_event(p_event jsonb, p_tenant_id uuid) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.ask_for_opt_in() FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.ask_for_opt_in_by_text() FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.before_broadcast_recipient() FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.before_campaign() FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.before_campaign_rule() FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.before_campaign_step() FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.before_campaign_template() FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.before_enrolment_update() FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.before_job_insert() FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.before_job_update() FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.before_lead_insert() FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.before_lead_task() FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.before_lead_task() TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.before_lead_update() FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.before_onboarding_insert() FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.before_onboarding_step_insert() FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.before_onboarding_step_update() FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.before_onboarding_update() FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.before_payment_delete() FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.before_payment_delete() TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.before_payment_update() FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.before_tenant_delete() FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.before_webhook_update() FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.begin_payment_link(p_id uuid, p_account uuid, p_new_key boolean, OUT idempotency_key text, OUT key_generation integer, OUT look_first boolean, OUT same_account boolean, OUT stripe_payment_link_id text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.begin_payment_link(p_id uuid, p_account uuid, p_new_key boolean, OUT idempotency_key text, OUT key_generation integer, OUT look_first boolean, OUT same_account boolean, OUT stripe_payment_link_id text) TO brainops_worker;
GRANT ALL ON FUNCTION brainops_internal.begin_payment_link(p_id uuid, p_account uuid, p_new_key boolean, OUT idempotency_key text, OUT key_generation integer, OUT look_first boolean, OUT same_account boolean, OUT stripe_payment_link_id text) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.begin_sms(p_id uuid, p_lease uuid, p_number text, p_text text, p_segments integer, p_account_sid text, p_sender text, p_tells boolean) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.begin_sms(p_id uuid, p_lease uuid, p_number text, p_text text, p_segments integer, p_account_sid text, p_sender text, p_tells boolean) TO brainops_worker;
GRANT ALL ON FUNCTION brainops_internal.begin_sms(p_id uuid, p_lease uuid, p_number text, p_text text, p_segments integer, p_account_sid text, p_sender text, p_tells boolean) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.email_key(p_email text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.email_key(p_email text) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops_internal.email_key(p_email text) TO brainops_worker;
GRANT ALL ON FUNCTION brainops_internal.email_key(p_email text) TO brainops_service;
GRANT ALL ON FUNCTION brainops_internal.email_key(p_email text) TO brainops_admin;
GRANT ALL ON FUNCTION brainops_internal.email_key(p_email text) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.is_time_zone(p_name text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.is_time_zone(p_name text) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops_internal.is_time_zone(p_name text) TO brainops_worker;
GRANT ALL ON FUNCTION brainops_internal.is_time_zone(p_name text) TO brainops_service;
GRANT ALL ON FUNCTION brainops_internal.is_time_zone(p_name text) TO brainops_admin;
GRANT ALL ON FUNCTION brainops_internal.is_time_zone(p_name text) TO brainops_system;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.revenue_leads TO brainops_tenant;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.revenue_leads TO brainops_service;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.revenue_leads TO brainops_worker;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.revenue_leads TO brainops_admin;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.revenue_leads TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.broken_rules(p_lead public.revenue_leads) FROM PUBLIC;

GRANT SELECT,DELETE ON TABLE public.campaigns TO brainops_tenant;
GRANT SELECT,DELETE ON TABLE public.campaigns TO brainops_service;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.campaigns TO brainops_worker;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.campaigns TO brainops_admin;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.campaigns TO brainops_system;

GRANT INSERT(id) ON TABLE public.campaigns TO brainops_tenant;
GRANT INSERT(id) ON TABLE public.campaigns TO brainops_service;

GRANT INSERT(tenant_id) ON TABLE public.campaigns TO brainops_tenant;
GRANT INSERT(tenant_id) ON TABLE public.campaigns TO brainops_service;

GRANT INSERT(code) ON TABLE public.campaigns TO brainops_tenant;
GRANT INSERT(code) ON TABLE public.campaigns TO brainops_service;

GRANT INSERT(name),UPDATE(name) ON TABLE public.campaigns TO brainops_tenant;
GRANT INSERT(name),UPDATE(name) ON TABLE public.campaigns TO brainops_service;

GRANT INSERT(description),UPDATE(description) ON TABLE public.campaigns TO brainops_tenant;
GRANT INSERT(description),UPDATE(description) ON TABLE public.campaigns TO brainops_service;

GRANT INSERT(status),UPDATE(status) ON TABLE public.campaigns TO brainops_tenant;
GRANT INSERT(status),UPDATE(status) ON TABLE public.campaigns TO brainops_service;

GRANT INSERT(goal_event),UPDATE(goal_event) ON TABLE public.campaigns TO brainops_tenant;
GRANT INSERT(goal_event),UPDATE(goal_event) ON TABLE public.campaigns TO brainops_service;

GRANT INSERT(exit_on),UPDATE(exit_on) ON TABLE public.campaigns TO brainops_tenant;
GRANT INSERT(exit_on),UPDATE(exit_on) ON TABLE public.campaigns TO brainops_service;

GRANT INSERT(reentry),UPDATE(reentry) ON TABLE public.campaigns TO brainops_tenant;
GRANT INSERT(reentry),UPDATE(reentry) ON TABLE public.campaigns TO brainops_service;

GRANT INSERT(created_at) ON TABLE public.campaigns TO brainops_tenant;
GRANT INSERT(created_at) ON TABLE public.campaigns TO brainops_service;

REVOKE ALL ON FUNCTION brainops_internal.campaign_of(p_tenant text, p_code text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.campaign_of(p_tenant text, p_code text) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops_internal.campaign_of(p_tenant text, p_code text) TO brainops_worker;
GRANT ALL ON FUNCTION brainops_internal.campaign_of(p_tenant text, p_code text) TO brainops_service;
GRANT ALL ON FUNCTION brainops_internal.campaign_of(p_tenant text, p_code text) TO brainops_admin;
GRANT ALL ON FUNCTION brainops_internal.campaign_of(p_tenant text, p_code text) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.campaign_problems(p_campaign_id uuid, p_version integer) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.campaign_problems(p_campaign_id uuid, p_version integer) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops_internal.campaign_problems(p_campaign_id uuid, p_version integer) TO brainops_worker;
GRANT ALL ON FUNCTION brainops_internal.campaign_problems(p_campaign_id uuid, p_version integer) TO brainops_service;
GRANT ALL ON FUNCTION brainops_internal.campaign_problems(p_campaign_id uuid, p_version integer) TO brainops_admin;
GRANT ALL ON FUNCTION brainops_internal.campaign_problems(p_campaign_id uuid, p_version integer) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.cap_frees_at(p_now timestamp with time zone, p_same integer, p_ahead integer, p_times timestamp with time zone[], p_cap integer, p_window interval) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.cap_frees_at(p_now timestamp with time zone, p_same integer, p_ahead integer, p_times timestamp with time zone[], p_cap integer, p_window interval) TO brainops_worker;

REVOKE ALL ON FUNCTION brainops_internal.cap_verdicts(p_policy public.contact_policies, p_places brainops.recipient_context[]) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.cap_verdicts(p_policy public.contact_policies, p_places brainops.recipient_context[]) TO brainops_worker;

REVOKE ALL ON FUNCTION brainops_internal.capture_consent(p_tenant_id uuid, p_lead_id uuid, p_channel text, p_address text, p_granted jsonb, p_source text, p_evidence jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.capture_consent(p_tenant_id uuid, p_lead_id uuid, p_channel text, p_address text, p_granted jsonb, p_source text, p_evidence jsonb) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.check_broadcast() FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.check_cap_window() FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.check_email_row() FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.check_mail_text(p_subject text, p_body text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.check_mail_text(p_subject text, p_body text) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops_internal.check_mail_text(p_subject text, p_body text) TO brainops_worker;
GRANT ALL ON FUNCTION brainops_internal.check_mail_text(p_subject text, p_body text) TO brainops_service;
GRANT ALL ON FUNCTION brainops_internal.check_mail_text(p_subject text, p_body text) TO brainops_admin;
GRANT ALL ON FUNCTION brainops_internal.check_mail_text(p_subject text, p_body text) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.check_payment_request() FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.check_plan() FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.check_sms_number() FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.check_sms_number() TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.check_sms_row() FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.check_tenants() FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.choose_variant(p_enrolment public.ai_nurture_campaigns, p_step public.campaign_steps) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.choose_variant(p_enrolment public.ai_nurture_campaigns, p_step public.campaign_steps) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.claim(p_table text, p_ids uuid[], p_worker_id uuid, p_lease uuid, p_lacks_platform text, p_lacks_own text, p_batches boolean) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.claim(p_table text, p_ids uuid[], p_worker_id uuid, p_lease uuid, p_lacks_platform text, p_lacks_own text, p_batches boolean) TO brainops_worker;
GRANT ALL ON FUNCTION brainops_internal.claim(p_table text, p_ids uuid[], p_worker_id uuid, p_lease uuid, p_lacks_platform text, p_lacks_own text, p_batches boolean) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.claim_lead_key(p_tenant_id uuid, p_key text, p_lead_id uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.claim_lead_key(p_tenant_id uuid, p_key text, p_lead_id uuid) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.clamp_score(p_total numeric) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.clamp_score(p_total numeric) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops_internal.clamp_score(p_total numeric) TO brainops_worker;
GRANT ALL ON FUNCTION brainops_internal.clamp_score(p_total numeric) TO brainops_service;
GRANT ALL ON FUNCTION brainops_internal.clamp_score(p_total numeric) TO brainops_admin;
GRANT ALL ON FUNCTION brainops_internal.clamp_score(p_total numeric) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.close_enrolment(p_enrolment public.ai_nurture_campaigns) FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.condition_holds(p_condition jsonb, p_lead public.revenue_leads, p_since timestamp with time zone) FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.condition_problems(p_condition jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.condition_problems(p_condition jsonb) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops_internal.condition_problems(p_condition jsonb) TO brainops_worker;
GRANT ALL ON FUNCTION brainops_internal.condition_problems(p_condition jsonb) TO brainops_service;
GRANT ALL ON FUNCTION brainops_internal.condition_problems(p_condition jsonb) TO brainops_admin;
GRANT ALL ON FUNCTION brainops_internal.condition_problems(p_condition jsonb) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.condition_problems(p_condition jsonb, p_depth integer) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.condition_problems(p_condition jsonb, p_depth integer) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops_internal.condition_problems(p_condition jsonb, p_depth integer) TO brainops_worker;
GRANT ALL ON FUNCTION brainops_internal.condition_problems(p_condition jsonb, p_depth integer) TO brainops_service;
GRANT ALL ON FUNCTION brainops_internal.condition_problems(p_condition jsonb, p_depth integer) TO brainops_admin;
GRANT ALL ON FUNCTION brainops_internal.condition_problems(p_condition jsonb, p_depth integer) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.confirm_opt_in(p_token text, p_evidence jsonb) FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.consent_verdicts(p_policy public.contact_policies, p_rows brainops.contact[]) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.consent_verdicts(p_policy public.contact_policies, p_rows brainops.contact[]) TO brainops_worker;

REVOKE ALL ON FUNCTION brainops_internal.contact_address(p_tenant_id uuid, p_channel text, p_address text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.contact_address(p_tenant_id uuid, p_channel text, p_address text) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops_internal.contact_address(p_tenant_id uuid, p_channel text, p_address text) TO brainops_worker;
GRANT ALL ON FUNCTION brainops_internal.contact_address(p_tenant_id uuid, p_channel text, p_address text) TO brainops_service;
GRANT ALL ON FUNCTION brainops_internal.contact_address(p_tenant_id uuid, p_channel text, p_address text) TO brainops_admin;
GRANT ALL ON FUNCTION brainops_internal.contact_address(p_tenant_id uuid, p_channel text, p_address text) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.contact_history(p_tenant_id uuid, p_channel text, p_places brainops.recipient_context[], p_since timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.contact_history(p_tenant_id uuid, p_channel text, p_places brainops.recipient_context[], p_since timestamp with time zone) TO brainops_worker;

REVOKE ALL ON FUNCTION brainops_internal.contact_hours(p_policy public.contact_policies, p_country text, p_state text, OUT opens time without time zone[], OUT closes time without time zone[]) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.contact_hours(p_policy public.contact_policies, p_country text, p_state text, OUT opens time without time zone[], OUT closes time without time zone[]) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops_internal.contact_hours(p_policy public.contact_policies, p_country text, p_state text, OUT opens time without time zone[], OUT closes time without time zone[]) TO brainops_worker;
GRANT ALL ON FUNCTION brainops_internal.contact_hours(p_policy public.contact_policies, p_country text, p_state text, OUT opens time without time zone[], OUT closes time without time zone[]) TO brainops_service;
GRANT ALL ON FUNCTION brainops_internal.contact_hours(p_policy public.contact_policies, p_country text, p_state text, OUT opens time without time zone[], OUT closes time without time zone[]) TO brainops_admin;
GRANT ALL ON FUNCTION brainops_internal.contact_hours(p_policy public.contact_policies, p_country text, p_state text, OUT opens time without time zone[], OUT closes time without time zone[]) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.contact_opening(p_at timestamp with time zone, p_zones text[], p_opens time without time zone[], p_closes time without time zone[]) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.contact_opening(p_at timestamp with time zone, p_zones text[], p_opens time without time zone[], p_closes time without time zone[]) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops_internal.contact_opening(p_at timestamp with time zone, p_zones text[], p_opens time without time zone[], p_closes time without time zone[]) TO brainops_worker;
GRANT ALL ON FUNCTION brainops_internal.contact_opening(p_at timestamp with time zone, p_zones text[], p_opens time without time zone[], p_closes time without time zone[]) TO brainops_service;
GRANT ALL ON FUNCTION brainops_internal.contact_opening(p_at timestamp with time zone, p_zones text[], p_opens time without time zone[], p_closes time without time zone[]) TO brainops_admin;
GRANT ALL ON FUNCTION brainops_internal.contact_opening(p_at timestamp with time zone, p_zones text[], p_opens time without time zone[], p_closes time without time zone[]) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.contact_verdicts(p_channel text, p_rows brainops.contact[]) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.contact_verdicts(p_channel text, p_rows brainops.contact[]) TO brainops_worker;

REVOKE ALL ON FUNCTION brainops_internal.decayed(p_points numeric, p_half_life interval, p_occurred_at timestamp with time zone, p_now timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.decayed(p_points numeric, p_half_life interval, p_occurred_at timestamp with time zone, p_now timestamp with time zone) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops_internal.decayed(p_points numeric, p_half_life interval, p_occurred_at timestamp with time zone, p_now timestamp with time zone) TO brainops_worker;
GRANT ALL ON FUNCTION brainops_internal.decayed(p_points numeric, p_half_life interval, p_occurred_at timestamp with time zone, p_now timestamp with time zone) TO brainops_service;
GRANT ALL ON FUNCTION brainops_internal.decayed(p_points numeric, p_half_life interval, p_occurred_at timestamp with time zone, p_now timestamp with time zone) TO brainops_admin;
GRANT ALL ON FUNCTION brainops_internal.decayed(p_points numeric, p_half_life interval, p_occurred_at timestamp with time zone, p_now timestamp with time zone) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.delete_row_as_json(p_table regclass, p_tenant_id uuid, p_id uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.delete_row_as_json(p_table regclass, p_tenant_id uuid, p_id uuid) TO brainops_system;

GRANT SELECT,DELETE ON TABLE public.payment_requests TO brainops_tenant;
GRANT SELECT,DELETE ON TABLE public.payment_requests TO brainops_service;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.payment_requests TO brainops_worker;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.payment_requests TO brainops_admin;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.payment_requests TO brainops_system;

GRANT INSERT(id) ON TABLE public.payment_requests TO brainops_tenant;
GRANT INSERT(id) ON TABLE public.payment_requests TO brainops_service;

GRANT INSERT(tenant_id) ON TABLE public.payment_requests TO brainops_tenant;
GRANT INSERT(tenant_id) ON TABLE public.payment_requests TO brainops_service;

GRANT INSERT(lead_id),UPDATE(lead_id) ON TABLE public.payment_requests TO brainops_tenant;
GRANT INSERT(lead_id),UPDATE(lead_id) ON TABLE public.payment_requests TO brainops_service;

GRANT INSERT(product_service),UPDATE(product_service) ON TABLE public.payment_requests TO brainops_tenant;
GRANT INSERT(product_service),UPDATE(product_service) ON TABLE public.payment_requests TO brainops_service;

GRANT INSERT(plan_id),UPDATE(plan_id) ON TABLE public.payment_requests TO brainops_tenant;
GRANT INSERT(plan_id),UPDATE(plan_id) ON TABLE public.payment_requests TO brainops_service;

GRANT INSERT(plan_code),UPDATE(plan_code) ON TABLE public.payment_requests TO brainops_tenant;
GRANT INSERT(plan_code),UPDATE(plan_code) ON TABLE public.payment_requests TO brainops_service;

GRANT INSERT(amount),UPDATE(amount) ON TABLE public.payment_requests TO brainops_tenant;
GRANT INSERT(amount),UPDATE(amount) ON TABLE public.payment_requests TO brainops_service;

GRANT INSERT(currency),UPDATE(currency) ON TABLE public.payment_requests TO brainops_tenant;
GRANT INSERT(currency),UPDATE(currency) ON TABLE public.payment_requests TO brainops_service;

GRANT INSERT(payment_status),UPDATE(payment_status) ON TABLE public.payment_requests TO brainops_tenant;
GRANT INSERT(payment_status),UPDATE(payment_status) ON TABLE public.payment_requests TO brainops_service;

GRANT INSERT(expires_at),UPDATE(expires_at) ON TABLE public.payment_requests TO brainops_tenant;
GRANT INSERT(expires_at),UPDATE(expires_at) ON TABLE public.payment_requests TO brainops_service;

GRANT INSERT(success_url),UPDATE(success_url) ON TABLE public.payment_requests TO brainops_tenant;
GRANT INSERT(success_url),UPDATE(success_url) ON TABLE public.payment_requests TO brainops_service;

GRANT INSERT(deliver_by),UPDATE(deliver_by) ON TABLE public.payment_requests TO brainops_tenant;
GRANT INSERT(deliver_by),UPDATE(deliver_by) ON TABLE public.payment_requests TO brainops_service;

GRANT INSERT(metadata),UPDATE(metadata) ON TABLE public.payment_requests TO brainops_tenant;
GRANT INSERT(metadata),UPDATE(metadata) ON TABLE public.payment_requests TO brainops_service;

GRANT INSERT(status),UPDATE(status) ON TABLE public.payment_requests TO brainops_tenant;
GRANT INSERT(status),UPDATE(status) ON TABLE public.payment_requests TO brainops_service;

GRANT INSERT(scheduled_for),UPDATE(scheduled_for) ON TABLE public.payment_requests TO brainops_tenant;
GRANT INSERT(scheduled_for),UPDATE(scheduled_for) ON TABLE public.payment_requests TO brainops_service;

GRANT INSERT(job_priority),UPDATE(job_priority) ON TABLE public.payment_requests TO brainops_tenant;
GRANT INSERT(job_priority),UPDATE(job_priority) ON TABLE public.payment_requests TO brainops_service;

GRANT INSERT(idempotency_key),UPDATE(idempotency_key) ON TABLE public.payment_requests TO brainops_tenant;
GRANT INSERT(idempotency_key),UPDATE(idempotency_key) ON TABLE public.payment_requests TO brainops_service;

GRANT INSERT(max_attempts),UPDATE(max_attempts) ON TABLE public.payment_requests TO brainops_tenant;
GRANT INSERT(max_attempts),UPDATE(max_attempts) ON TABLE public.payment_requests TO brainops_service;

GRANT INSERT(created_at) ON TABLE public.payment_requests TO brainops_tenant;
GRANT INSERT(created_at) ON TABLE public.payment_requests TO brainops_service;

REVOKE ALL ON FUNCTION brainops_internal.deliver_payment_link(p_request public.payment_requests) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.deliver_payment_link(p_request public.payment_requests) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.dequeue(p_keys text[]) FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.deregister_worker(p_id uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.deregister_worker(p_id uuid) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.drop_merged_lead() FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.drop_partitions(p_parent regclass, p_before timestamp with time zone) FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.email_address(p_tenant_id uuid, p_recipient text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.email_address(p_tenant_id uuid, p_recipient text) TO brainops_worker;

REVOKE ALL ON FUNCTION brainops_internal.email_contacts(p_ids uuid[]) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.email_contacts(p_ids uuid[]) TO brainops_worker;

REVOKE ALL ON FUNCTION brainops_internal.embedded_connection_closed(p_connection_id text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.embedded_connection_closed(p_connection_id text) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.enqueue(p_table text, p_ids uuid[], p_tenant_ids uuid[], p_run_ats timestamp with time zone[], p_priorities smallint[]) FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.enqueue_rescores(p_lead_ids uuid[]) FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.enqueue_rows(p_table text, p_ids uuid[]) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.enqueue_rows(p_table text, p_ids uuid[]) TO brainops_worker;

REVOKE ALL ON FUNCTION brainops_internal.enrolment_exit_reason(p_enrolment_id uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.enrolment_exit_reason(p_enrolment_id uuid) TO brainops_worker;

REVOKE ALL ON FUNCTION brainops_internal.enrolment_hold_reason(p_enrolment public.ai_nurture_campaigns, p_campaign public.campaigns) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.enrolment_hold_reason(p_enrolment public.ai_nurture_campaigns, p_campaign public.campaigns) TO brainops_worker;
GRANT ALL ON FUNCTION brainops_internal.enrolment_hold_reason(p_enrolment public.ai_nurture_campaigns, p_campaign public.campaigns) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.enrolment_pause_reason(p_enrolment_id uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.enrolment_pause_reason(p_enrolment_id uuid) TO brainops_worker;

REVOKE ALL ON FUNCTION brainops_internal.ensure_partitions(p_parent regclass, p_from date, p_months integer) FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.enter_campaign() FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.entry_refusal(p_campaign public.campaigns, p_lead public.revenue_leads) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.entry_refusal(p_campaign public.campaigns, p_lead public.revenue_leads) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.exit_reason_of(p_campaign public.campaigns, p_event text, p_channel text, p_metadata jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.exit_reason_of(p_campaign public.campaigns, p_event text, p_channel text, p_metadata jsonb) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.fill_plan_tenant() FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.fill_tenant() FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.fill_tenant() TO brainops_admin;

REVOKE ALL ON FUNCTION brainops_internal.find_email(p_event jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.find_email(p_event jsonb) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.find_endpoint(p_provider text, p_token text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.find_endpoint(p_provider text, p_token text) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.find_lead(p_lead_id uuid, p_tenant_id uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.find_lead(p_lead_id uuid, p_tenant_id uuid) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops_internal.find_lead(p_lead_id uuid, p_tenant_id uuid) TO brainops_worker;
GRANT ALL ON FUNCTION brainops_internal.find_lead(p_lead_id uuid, p_tenant_id uuid) TO brainops_service;
GRANT ALL ON FUNCTION brainops_internal.find_lead(p_lead_id uuid, p_tenant_id uuid) TO brainops_admin;

REVOKE ALL ON FUNCTION brainops_internal.find_person(p_tenant_id uuid, p_address text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.find_person(p_tenant_id uuid, p_address text) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.find_sms(p_row uuid, p_message_sid text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.find_sms(p_row uuid, p_message_sid text) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.follow_payment(p_request public.payment_requests) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.follow_payment(p_request public.payment_requests) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.forget_sms_run() FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.forget_sms_run() TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.format_payment(p_minor bigint, p_currency text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.format_payment(p_minor bigint, p_currency text) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.gate_campaign_touch(p_ids uuid[]) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.gate_campaign_touch(p_ids uuid[]) TO brainops_worker;
GRANT ALL ON FUNCTION brainops_internal.gate_campaign_touch(p_ids uuid[]) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.gate_email(p_ids uuid[]) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.gate_email(p_ids uuid[]) TO brainops_worker;

REVOKE ALL ON FUNCTION brainops_internal.gate_onboarding_reminder(p_ids uuid[]) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.gate_onboarding_reminder(p_ids uuid[]) TO brainops_worker;
GRANT ALL ON FUNCTION brainops_internal.gate_onboarding_reminder(p_ids uuid[]) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.gate_payment_closure(p_ids uuid[]) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.gate_payment_closure(p_ids uuid[]) TO brainops_worker;
GRANT ALL ON FUNCTION brainops_internal.gate_payment_closure(p_ids uuid[]) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.gate_payment_request(p_ids uuid[]) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.gate_payment_request(p_ids uuid[]) TO brainops_worker;
GRANT ALL ON FUNCTION brainops_internal.gate_payment_request(p_ids uuid[]) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.gate_sms(p_ids uuid[]) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.gate_sms(p_ids uuid[]) TO brainops_worker;

REVOKE ALL ON FUNCTION brainops_internal.gate_tenant_notification(p_ids uuid[]) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.gate_tenant_notification(p_ids uuid[]) TO brainops_worker;
GRANT ALL ON FUNCTION brainops_internal.gate_tenant_notification(p_ids uuid[]) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.guard_reputation() FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.guard_reputation() TO brainops_admin;
GRANT ALL ON FUNCTION brainops_internal.guard_reputation() TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.guard_table(p_table regclass, p_reference_tenants boolean) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.guard_table(p_table regclass, p_reference_tenants boolean) TO brainops_admin;
GRANT ALL ON FUNCTION brainops_internal.guard_table(p_table regclass, p_reference_tenants boolean) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.hold_account(p_sender text, p_until timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.hold_account(p_sender text, p_until timestamp with time zone) TO brainops_worker;

REVOKE ALL ON FUNCTION brainops_internal.hold_enrolments(p_tenant_id uuid, p_ids uuid[]) FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.hold_sent_template() FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.hourly_limit(p_tenant_id uuid, p_channel text, p_at timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.hourly_limit(p_tenant_id uuid, p_channel text, p_at timestamp with time zone) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops_internal.hourly_limit(p_tenant_id uuid, p_channel text, p_at timestamp with time zone) TO brainops_worker;
GRANT ALL ON FUNCTION brainops_internal.hourly_limit(p_tenant_id uuid, p_channel text, p_at timestamp with time zone) TO brainops_service;
GRANT ALL ON FUNCTION brainops_internal.hourly_limit(p_tenant_id uuid, p_channel text, p_at timestamp with time zone) TO brainops_admin;
GRANT ALL ON FUNCTION brainops_internal.hourly_limit(p_tenant_id uuid, p_channel text, p_at timestamp with time zone) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.hourly_verdicts(p_policy public.contact_policies, p_places brainops.recipient_context[]) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.hourly_verdicts(p_policy public.contact_policies, p_places brainops.recipient_context[]) TO brainops_worker;

REVOKE ALL ON FUNCTION brainops_internal.is_free_mail(p_domain text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.is_free_mail(p_domain text) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops_internal.is_free_mail(p_domain text) TO brainops_worker;
GRANT ALL ON FUNCTION brainops_internal.is_free_mail(p_domain text) TO brainops_service;
GRANT ALL ON FUNCTION brainops_internal.is_free_mail(p_domain text) TO brainops_admin;
GRANT ALL ON FUNCTION brainops_internal.is_free_mail(p_domain text) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.is_interval(p_text text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.is_interval(p_text text) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops_internal.is_interval(p_text text) TO brainops_worker;
GRANT ALL ON FUNCTION brainops_internal.is_interval(p_text text) TO brainops_service;
GRANT ALL ON FUNCTION brainops_internal.is_interval(p_text text) TO brainops_admin;
GRANT ALL ON FUNCTION brainops_internal.is_interval(p_text text) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.is_yes(p_word text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.is_yes(p_word text) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops_internal.is_yes(p_word text) TO brainops_worker;
GRANT ALL ON FUNCTION brainops_internal.is_yes(p_word text) TO brainops_service;
GRANT ALL ON FUNCTION brainops_internal.is_yes(p_word text) TO brainops_admin;
GRANT ALL ON FUNCTION brainops_internal.is_yes(p_word text) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.job_table_name(p_schema name, p_table name) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.job_table_name(p_schema name, p_table name) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops_internal.job_table_name(p_schema name, p_table name) TO brainops_worker;
GRANT ALL ON FUNCTION brainops_internal.job_table_name(p_schema name, p_table name) TO brainops_service;
GRANT ALL ON FUNCTION brainops_internal.job_table_name(p_schema name, p_table name) TO brainops_admin;
GRANT ALL ON FUNCTION brainops_internal.job_table_name(p_schema name, p_table name) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.jwt_tenant_id() FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.jwt_tenant_id() TO brainops_tenant;
GRANT ALL ON FUNCTION brainops_internal.jwt_tenant_id() TO brainops_worker;
GRANT ALL ON FUNCTION brainops_internal.jwt_tenant_id() TO brainops_service;
GRANT ALL ON FUNCTION brainops_internal.jwt_tenant_id() TO brainops_admin;
GRANT ALL ON FUNCTION brainops_internal.jwt_tenant_id() TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.keep_contact_address() FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.keep_first_due() FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.keep_sent_template() FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.known_lead(p_lead public.revenue_leads) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.known_lead(p_lead public.revenue_leads) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.last_consents(p_tenant_id uuid, p_channel text, p_addresses text[]) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.last_consents(p_tenant_id uuid, p_channel text, p_addresses text[]) TO brainops_worker;

REVOKE ALL ON FUNCTION brainops_internal.lead_alias(p_lead_id uuid, p_tenant_id uuid) FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.lead_facts(p_lead public.revenue_leads) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.lead_facts(p_lead public.revenue_leads) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops_internal.lead_facts(p_lead public.revenue_leads) TO brainops_worker;
GRANT ALL ON FUNCTION brainops_internal.lead_facts(p_lead public.revenue_leads) TO brainops_service;
GRANT ALL ON FUNCTION brainops_internal.lead_facts(p_lead public.revenue_leads) TO brainops_admin;
GRANT ALL ON FUNCTION brainops_internal.lead_facts(p_lead public.revenue_leads) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.lead_time_zone(p_tenant_id uuid, p_lead_id uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.lead_time_zone(p_tenant_id uuid, p_lead_id uuid) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.lead_variable(p_lead public.revenue_leads) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.lead_variable(p_lead public.revenue_leads) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.leading_variant(p_step public.campaign_steps, OUT variant text, OUT figures jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.leading_variant(p_step public.campaign_steps, OUT variant text, OUT figures jsonb) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.leads_at(p_tenant_id uuid, p_address text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.leads_at(p_tenant_id uuid, p_address text) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.liveness_class() FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.liveness_class() TO brainops_admin;
GRANT ALL ON FUNCTION brainops_internal.liveness_class() TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.load_broadcast(p_id uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.load_broadcast(p_id uuid) TO brainops_worker;

REVOKE ALL ON FUNCTION brainops_internal.load_emails(p_ids uuid[]) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.load_emails(p_ids uuid[]) TO brainops_worker;

REVOKE ALL ON FUNCTION brainops_internal.load_payment_link_closures(p_ids uuid[]) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.load_payment_link_closures(p_ids uuid[]) TO brainops_worker;

REVOKE ALL ON FUNCTION brainops_internal.load_payment_requests(p_ids uuid[]) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.load_payment_requests(p_ids uuid[]) TO brainops_worker;

REVOKE ALL ON FUNCTION brainops_internal.load_recipients(p_ids uuid[]) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.load_recipients(p_ids uuid[]) TO brainops_worker;

REVOKE ALL ON FUNCTION brainops_internal.load_sms(p_ids uuid[]) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.load_sms(p_ids uuid[]) TO brainops_worker;

REVOKE ALL ON FUNCTION brainops_internal.load_tenant_notifications(p_ids uuid[]) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.load_tenant_notifications(p_ids uuid[]) TO brainops_worker;

REVOKE ALL ON FUNCTION brainops_internal.load_unconfirmed_sms(p_limit integer) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.load_unconfirmed_sms(p_limit integer) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.lock_broadcast(p_tenant_id uuid, p_broadcast_id uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.lock_broadcast(p_tenant_id uuid, p_broadcast_id uuid) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops_internal.lock_broadcast(p_tenant_id uuid, p_broadcast_id uuid) TO brainops_worker;
GRANT ALL ON FUNCTION brainops_internal.lock_broadcast(p_tenant_id uuid, p_broadcast_id uuid) TO brainops_service;
GRANT ALL ON FUNCTION brainops_internal.lock_broadcast(p_tenant_id uuid, p_broadcast_id uuid) TO brainops_admin;

REVOKE ALL ON FUNCTION brainops_internal.lock_bulk_rows(p_job brainops.job_tables, p_tenant_id uuid, p_ids uuid[], p_now timestamp with time zone, p_slot_kept interval, OUT ids uuid[], OUT in_slot uuid[], OUT next_ids uuid[]) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.lock_bulk_rows(p_job brainops.job_tables, p_tenant_id uuid, p_ids uuid[], p_now timestamp with time zone, p_slot_kept interval, OUT ids uuid[], OUT in_slot uuid[], OUT next_ids uuid[]) TO brainops_worker;
GRANT ALL ON FUNCTION brainops_internal.lock_bulk_rows(p_job brainops.job_tables, p_tenant_id uuid, p_ids uuid[], p_now timestamp with time zone, p_slot_kept interval, OUT ids uuid[], OUT in_slot uuid[], OUT next_ids uuid[]) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.lock_persons(p_tenant_id uuid, p_keys text[]) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.lock_persons(p_tenant_id uuid, p_keys text[]) TO brainops_worker;

REVOKE ALL ON FUNCTION brainops_internal.lock_sms_number(p_tenant_id uuid, p_number text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.lock_sms_number(p_tenant_id uuid, p_number text) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.lock_stripe_account(p_account text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.lock_stripe_account(p_account text) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.mail_notification(p_id uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.mail_notification(p_id uuid) TO brainops_worker;
GRANT ALL ON FUNCTION brainops_internal.mail_notification(p_id uuid) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.mail_opt_in(p_id uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.mail_opt_in(p_id uuid) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.major_units(p_minor bigint, p_currency text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.major_units(p_minor bigint, p_currency text) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops_internal.major_units(p_minor bigint, p_currency text) TO brainops_worker;
GRANT ALL ON FUNCTION brainops_internal.major_units(p_minor bigint, p_currency text) TO brainops_service;
GRANT ALL ON FUNCTION brainops_internal.major_units(p_minor bigint, p_currency text) TO brainops_admin;
GRANT ALL ON FUNCTION brainops_internal.major_units(p_minor bigint, p_currency text) TO brainops_system;

GRANT SELECT,DELETE ON TABLE public.ai_onboarding_workflows TO brainops_tenant;
GRANT SELECT,DELETE ON TABLE public.ai_onboarding_workflows TO brainops_service;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.ai_onboarding_workflows TO brainops_worker;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.ai_onboarding_workflows TO brainops_admin;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.ai_onboarding_workflows TO brainops_system;

GRANT INSERT(id) ON TABLE public.ai_onboarding_workflows TO brainops_tenant;
GRANT INSERT(id) ON TABLE public.ai_onboarding_workflows TO brainops_service;

GRANT INSERT(tenant_id) ON TABLE public.ai_onboarding_workflows TO brainops_tenant;
GRANT INSERT(tenant_id) ON TABLE public.ai_onboarding_workflows TO brainops_service;

GRANT INSERT(lead_id) ON TABLE public.ai_onboarding_workflows TO brainops_tenant;
GRANT INSERT(lead_id) ON TABLE public.ai_onboarding_workflows TO brainops_service;

GRANT INSERT(status),UPDATE(status) ON TABLE public.ai_onboarding_workflows TO brainops_tenant;
GRANT INSERT(status),UPDATE(status) ON TABLE public.ai_onboarding_workflows TO brainops_service;

GRANT INSERT(current_step) ON TABLE public.ai_onboarding_workflows TO brainops_tenant;
GRANT INSERT(current_step) ON TABLE public.ai_onboarding_workflows TO brainops_service;

GRANT INSERT(total_steps) ON TABLE public.ai_onboarding_workflows TO brainops_tenant;
GRANT INSERT(total_steps) ON TABLE public.ai_onboarding_workflows TO brainops_service;

GRANT INSERT(template) ON TABLE public.ai_onboarding_workflows TO brainops_tenant;
GRANT INSERT(template) ON TABLE public.ai_onboarding_workflows TO brainops_service;

GRANT INSERT(reason),UPDATE(reason) ON TABLE public.ai_onboarding_workflows TO brainops_tenant;
GRANT INSERT(reason),UPDATE(reason) ON TABLE public.ai_onboarding_workflows TO brainops_service;

GRANT INSERT(started_at) ON TABLE public.ai_onboarding_workflows TO brainops_tenant;
GRANT INSERT(started_at) ON TABLE public.ai_onboarding_workflows TO brainops_service;

GRANT INSERT(completed_at) ON TABLE public.ai_onboarding_workflows TO brainops_tenant;
GRANT INSERT(completed_at) ON TABLE public.ai_onboarding_workflows TO brainops_service;

GRANT INSERT(created_at) ON TABLE public.ai_onboarding_workflows TO brainops_tenant;
GRANT INSERT(created_at) ON TABLE public.ai_onboarding_workflows TO brainops_service;

REVOKE ALL ON FUNCTION brainops_internal.make_onboarding_steps(p_workflow public.ai_onboarding_workflows) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.make_onboarding_steps(p_workflow public.ai_onboarding_workflows) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.marketing_verdicts(p_tenant_id uuid, p_channel text, p_rows brainops.contact[]) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.marketing_verdicts(p_tenant_id uuid, p_channel text, p_rows brainops.contact[]) TO brainops_worker;

REVOKE ALL ON FUNCTION brainops_internal.masked_address(p_address text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.masked_address(p_address text) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.may_act_for(p_tenant_id uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.may_act_for(p_tenant_id uuid) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops_internal.may_act_for(p_tenant_id uuid) TO brainops_worker;
GRANT ALL ON FUNCTION brainops_internal.may_act_for(p_tenant_id uuid) TO brainops_service;
GRANT ALL ON FUNCTION brainops_internal.may_act_for(p_tenant_id uuid) TO brainops_admin;
GRANT ALL ON FUNCTION brainops_internal.may_act_for(p_tenant_id uuid) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.merge_lead_into(p_tenant_id uuid, p_into uuid, p_from uuid) FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.merge_row_into_lead(p_into uuid, p_row public.revenue_leads) FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.message_verdicts(p_tenant_id uuid, p_channel text, p_rows brainops.contact[]) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.message_verdicts(p_tenant_id uuid, p_channel text, p_rows brainops.contact[]) TO brainops_worker;

REVOKE ALL ON FUNCTION brainops_internal.minor_units(p_amount numeric, p_currency text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.minor_units(p_amount numeric, p_currency text) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops_internal.minor_units(p_amount numeric, p_currency text) TO brainops_worker;
GRANT ALL ON FUNCTION brainops_internal.minor_units(p_amount numeric, p_currency text) TO brainops_service;
GRANT ALL ON FUNCTION brainops_internal.minor_units(p_amount numeric, p_currency text) TO brainops_admin;
GRANT ALL ON FUNCTION brainops_internal.minor_units(p_amount numeric, p_currency text) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.move_lead_keys() FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.move_lead_rows(p_tenant_id uuid, p_into uuid, p_from uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.move_lead_rows(p_tenant_id uuid, p_into uuid, p_from uuid) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.move_touch() FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.names_no_tenant() FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.names_no_tenant() TO brainops_tenant;
GRANT ALL ON FUNCTION brainops_internal.names_no_tenant() TO brainops_worker;
GRANT ALL ON FUNCTION brainops_internal.names_no_tenant() TO brainops_service;
GRANT ALL ON FUNCTION brainops_internal.names_no_tenant() TO brainops_admin;
GRANT ALL ON FUNCTION brainops_internal.names_no_tenant() TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.normal_enrolment_status(p_word text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.normal_enrolment_status(p_word text) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops_internal.normal_enrolment_status(p_word text) TO brainops_worker;
GRANT ALL ON FUNCTION brainops_internal.normal_enrolment_status(p_word text) TO brainops_service;
GRANT ALL ON FUNCTION brainops_internal.normal_enrolment_status(p_word text) TO brainops_admin;
GRANT ALL ON FUNCTION brainops_internal.normal_enrolment_status(p_word text) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.normal_lead(p_lead public.revenue_leads) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.normal_lead(p_lead public.revenue_leads) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops_internal.normal_lead(p_lead public.revenue_leads) TO brainops_worker;
GRANT ALL ON FUNCTION brainops_internal.normal_lead(p_lead public.revenue_leads) TO brainops_service;
GRANT ALL ON FUNCTION brainops_internal.normal_lead(p_lead public.revenue_leads) TO brainops_admin;
GRANT ALL ON FUNCTION brainops_internal.normal_lead(p_lead public.revenue_leads) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.normal_onboarding_status(p_word text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.normal_onboarding_status(p_word text) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops_internal.normal_onboarding_status(p_word text) TO brainops_worker;
GRANT ALL ON FUNCTION brainops_internal.normal_onboarding_status(p_word text) TO brainops_service;
GRANT ALL ON FUNCTION brainops_internal.normal_onboarding_status(p_word text) TO brainops_admin;
GRANT ALL ON FUNCTION brainops_internal.normal_onboarding_status(p_word text) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.normal_stage(p_word text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.normal_stage(p_word text) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops_internal.normal_stage(p_word text) TO brainops_worker;
GRANT ALL ON FUNCTION brainops_internal.normal_stage(p_word text) TO brainops_service;
GRANT ALL ON FUNCTION brainops_internal.normal_stage(p_word text) TO brainops_admin;
GRANT ALL ON FUNCTION brainops_internal.normal_stage(p_word text) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.normal_status(p_word text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.normal_status(p_word text) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops_internal.normal_status(p_word text) TO brainops_worker;
GRANT ALL ON FUNCTION brainops_internal.normal_status(p_word text) TO brainops_service;
GRANT ALL ON FUNCTION brainops_internal.normal_status(p_word text) TO brainops_admin;
GRANT ALL ON FUNCTION brainops_internal.normal_status(p_word text) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.offset_change(p_from timestamp with time zone, p_to timestamp with time zone, p_zone text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.offset_change(p_from timestamp with time zone, p_to timestamp with time zone, p_zone text) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops_internal.offset_change(p_from timestamp with time zone, p_to timestamp with time zone, p_zone text) TO brainops_worker;
GRANT ALL ON FUNCTION brainops_internal.offset_change(p_from timestamp with time zone, p_to timestamp with time zone, p_zone text) TO brainops_service;
GRANT ALL ON FUNCTION brainops_internal.offset_change(p_from timestamp with time zone, p_to timestamp with time zone, p_zone text) TO brainops_admin;
GRANT ALL ON FUNCTION brainops_internal.offset_change(p_from timestamp with time zone, p_to timestamp with time zone, p_zone text) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.onboarding_status(p_word text, p_known text[]) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.onboarding_status(p_word text, p_known text[]) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops_internal.onboarding_status(p_word text, p_known text[]) TO brainops_worker;
GRANT ALL ON FUNCTION brainops_internal.onboarding_status(p_word text, p_known text[]) TO brainops_service;
GRANT ALL ON FUNCTION brainops_internal.onboarding_status(p_word text, p_known text[]) TO brainops_admin;
GRANT ALL ON FUNCTION brainops_internal.onboarding_status(p_word text, p_known text[]) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.onboarding_steps_of(p_tenant_id uuid, p_template text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.onboarding_steps_of(p_tenant_id uuid, p_template text) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops_internal.onboarding_steps_of(p_tenant_id uuid, p_template text) TO brainops_worker;
GRANT ALL ON FUNCTION brainops_internal.onboarding_steps_of(p_tenant_id uuid, p_template text) TO brainops_service;
GRANT ALL ON FUNCTION brainops_internal.onboarding_steps_of(p_tenant_id uuid, p_template text) TO brainops_admin;
GRANT ALL ON FUNCTION brainops_internal.onboarding_steps_of(p_tenant_id uuid, p_template text) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.open_onboarding(p_tenant_id uuid, p_lead_id uuid, p_reason text) FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.pause_account(p_table text, p_everyone boolean, p_reason text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.pause_account(p_table text, p_everyone boolean, p_reason text) TO brainops_worker;

REVOKE ALL ON FUNCTION brainops_internal.pause_reason(p_table text, p_tenant_id uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.pause_reason(p_table text, p_tenant_id uuid) TO brainops_worker;
GRANT ALL ON FUNCTION brainops_internal.pause_reason(p_table text, p_tenant_id uuid) TO brainops_admin;

REVOKE ALL ON FUNCTION brainops_internal.pause_sms(p_tenant_id uuid, p_reason text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.pause_sms(p_tenant_id uuid, p_reason text) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.payment_state(p_request public.payment_requests) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.payment_state(p_request public.payment_requests) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops_internal.payment_state(p_request public.payment_requests) TO brainops_worker;
GRANT ALL ON FUNCTION brainops_internal.payment_state(p_request public.payment_requests) TO brainops_service;
GRANT ALL ON FUNCTION brainops_internal.payment_state(p_request public.payment_requests) TO brainops_admin;
GRANT ALL ON FUNCTION brainops_internal.payment_state(p_request public.payment_requests) TO brainops_system;

GRANT SELECT ON TABLE public.ai_campaign_touches TO brainops_tenant;
GRANT SELECT ON TABLE public.ai_campaign_touches TO brainops_service;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.ai_campaign_touches TO brainops_worker;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.ai_campaign_touches TO brainops_admin;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.ai_campaign_touches TO brainops_system;

GRANT INSERT(id) ON TABLE public.ai_campaign_touches TO brainops_tenant;
GRANT INSERT(id) ON TABLE public.ai_campaign_touches TO brainops_service;

GRANT INSERT(tenant_id) ON TABLE public.ai_campaign_touches TO brainops_tenant;
GRANT INSERT(tenant_id) ON TABLE public.ai_campaign_touches TO brainops_service;

GRANT INSERT(campaign_id) ON TABLE public.ai_campaign_touches TO brainops_tenant;
GRANT INSERT(campaign_id) ON TABLE public.ai_campaign_touches TO brainops_service;

GRANT INSERT(touch_type) ON TABLE public.ai_campaign_touches TO brainops_tenant;
GRANT INSERT(touch_type) ON TABLE public.ai_campaign_touches TO brainops_service;

GRANT INSERT(scheduled_for),UPDATE(scheduled_for) ON TABLE public.ai_campaign_touches TO brainops_tenant;
GRANT INSERT(scheduled_for),UPDATE(scheduled_for) ON TABLE public.ai_campaign_touches TO brainops_service;

GRANT INSERT(content_template),UPDATE(content_template) ON TABLE public.ai_campaign_touches TO brainops_tenant;
GRANT INSERT(content_template),UPDATE(content_template) ON TABLE public.ai_campaign_touches TO brainops_service;

GRANT INSERT(status),UPDATE(status) ON TABLE public.ai_campaign_touches TO brainops_tenant;
GRANT INSERT(status),UPDATE(status) ON TABLE public.ai_campaign_touches TO brainops_service;

GRANT INSERT(job_priority),UPDATE(job_priority) ON TABLE public.ai_campaign_touches TO brainops_tenant;
GRANT INSERT(job_priority),UPDATE(job_priority) ON TABLE public.ai_campaign_touches TO brainops_service;

GRANT INSERT(idempotency_key),UPDATE(idempotency_key) ON TABLE public.ai_campaign_touches TO brainops_tenant;
GRANT INSERT(idempotency_key),UPDATE(idempotency_key) ON TABLE public.ai_campaign_touches TO brainops_service;

GRANT INSERT(max_attempts),UPDATE(max_attempts) ON TABLE public.ai_campaign_touches TO brainops_tenant;
GRANT INSERT(max_attempts),UPDATE(max_attempts) ON TABLE public.ai_campaign_touches TO brainops_service;

GRANT INSERT(created_at) ON TABLE public.ai_campaign_touches TO brainops_tenant;
GRANT INSERT(created_at) ON TABLE public.ai_campaign_touches TO brainops_service;

REVOKE ALL ON FUNCTION brainops_internal.perform_step(p_enrolment public.ai_nurture_campaigns, p_touch public.ai_campaign_touches, p_step public.campaign_steps, p_lead public.revenue_leads, OUT said text, OUT failed text, OUT to_number integer, OUT message_id uuid, OUT template_version integer, OUT split_key text, OUT variant text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.perform_step(p_enrolment public.ai_nurture_campaigns, p_touch public.ai_campaign_touches, p_step public.campaign_steps, p_lead public.revenue_leads, OUT said text, OUT failed text, OUT to_number integer, OUT message_id uuid, OUT template_version integer, OUT split_key text, OUT variant text) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.perform_touch(p_touch_id uuid, p_lease uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.perform_touch(p_touch_id uuid, p_lease uuid) TO brainops_worker;

REVOKE ALL ON FUNCTION brainops_internal.person_rows(p_person brainops.person) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.person_rows(p_person brainops.person) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.phone_e164(p_phone text, p_country text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.phone_e164(p_phone text, p_country text) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops_internal.phone_e164(p_phone text, p_country text) TO brainops_worker;
GRANT ALL ON FUNCTION brainops_internal.phone_e164(p_phone text, p_country text) TO brainops_service;
GRANT ALL ON FUNCTION brainops_internal.phone_e164(p_phone text, p_country text) TO brainops_admin;
GRANT ALL ON FUNCTION brainops_internal.phone_e164(p_phone text, p_country text) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.preference_phones(p_tenant_id uuid, p_address text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.preference_phones(p_tenant_id uuid, p_address text) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.preferences(p_token text) FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.process_webhook_events(p_ids uuid[]) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.process_webhook_events(p_ids uuid[]) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.prune_reports(p_most integer) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.prune_reports(p_most integer) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.prune_webhook_events(p_most integer) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.prune_webhook_events(p_most integer) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.queue_touch(p_enrolment public.ai_nurture_campaigns, p_touch public.ai_campaign_touches, p_step public.campaign_steps, p_lead public.revenue_leads, OUT message_id uuid, OUT template_version integer, OUT said text, OUT failed text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.queue_touch(p_enrolment public.ai_nurture_campaigns, p_touch public.ai_campaign_touches, p_step public.campaign_steps, p_lead public.revenue_leads, OUT message_id uuid, OUT template_version integer, OUT said text, OUT failed text) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.read_national_number() FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.rebuild_jobs_view() FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.recipient_contexts(p_channel text, p_rows brainops.contact[]) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.recipient_contexts(p_channel text, p_rows brainops.contact[]) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops_internal.recipient_contexts(p_channel text, p_rows brainops.contact[]) TO brainops_worker;
GRANT ALL ON FUNCTION brainops_internal.recipient_contexts(p_channel text, p_rows brainops.contact[]) TO brainops_service;
GRANT ALL ON FUNCTION brainops_internal.recipient_contexts(p_channel text, p_rows brainops.contact[]) TO brainops_admin;
GRANT ALL ON FUNCTION brainops_internal.recipient_contexts(p_channel text, p_rows brainops.contact[]) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.reconcile_sms(p_account_sid text, p_number text, p_messages jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.reconcile_sms(p_account_sid text, p_number text, p_messages jsonb) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.record_breaker_result(p_sender text, p_succeeded integer, p_failed integer, p_error text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.record_breaker_result(p_sender text, p_succeeded integer, p_failed integer, p_error text) TO brainops_worker;

REVOKE ALL ON FUNCTION brainops_internal.record_choice(p_tenant_id uuid, p_channel text, p_address text, p_granted boolean, p_source text, p_evidence jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.record_choice(p_tenant_id uuid, p_channel text, p_address text, p_granted boolean, p_source text, p_evidence jsonb) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.record_lead_event(p_tenant_id uuid, p_lead_id uuid, p_event text, p_channel text, p_occurred_at timestamp with time zone, p_source_key text, p_metadata jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.record_lead_event(p_tenant_id uuid, p_lead_id uuid, p_event text, p_channel text, p_occurred_at timestamp with time zone, p_source_key text, p_metadata jsonb) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops_internal.record_lead_event(p_tenant_id uuid, p_lead_id uuid, p_event text, p_channel text, p_occurred_at timestamp with time zone, p_source_key text, p_metadata jsonb) TO brainops_worker;
GRANT ALL ON FUNCTION brainops_internal.record_lead_event(p_tenant_id uuid, p_lead_id uuid, p_event text, p_channel text, p_occurred_at timestamp with time zone, p_source_key text, p_metadata jsonb) TO brainops_service;
GRANT ALL ON FUNCTION brainops_internal.record_lead_event(p_tenant_id uuid, p_lead_id uuid, p_event text, p_channel text, p_occurred_at timestamp with time zone, p_source_key text, p_metadata jsonb) TO brainops_admin;
GRANT ALL ON FUNCTION brainops_internal.record_lead_event(p_tenant_id uuid, p_lead_id uuid, p_event text, p_channel text, p_occurred_at timestamp with time zone, p_source_key text, p_metadata jsonb) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.record_payment(p_known public.stripe_objects, p_kind text, p_object_id text, p_charge_id text, p_minor bigint, p_currency text, p_livemode boolean, p_at timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.record_payment(p_known public.stripe_objects, p_kind text, p_object_id text, p_charge_id text, p_minor bigint, p_currency text, p_livemode boolean, p_at timestamp with time zone) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.record_payment_event(p_request public.payment_requests, p_event text, p_at timestamp with time zone, p_key text, p_metadata jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.record_payment_event(p_request public.payment_requests, p_event text, p_at timestamp with time zone, p_key text, p_metadata jsonb) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.record_sms_consent(p_tenant_id uuid, p_number text, p_lead_id uuid, p_state text, p_at timestamp with time zone, p_evidence jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.record_sms_consent(p_tenant_id uuid, p_number text, p_lead_id uuid, p_state text, p_at timestamp with time zone, p_evidence jsonb) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.record_sms_lead_event(p_tenant_id uuid, p_number text, p_lead_id uuid, p_event text, p_at timestamp with time zone, p_source_key text, p_metadata jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.record_sms_lead_event(p_tenant_id uuid, p_number text, p_lead_id uuid, p_event text, p_at timestamp with time zone, p_source_key text, p_metadata jsonb) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.record_sms_refusal(p_id uuid, p_lease uuid, p_code integer, p_words text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.record_sms_refusal(p_id uuid, p_lease uuid, p_code integer, p_words text) TO brainops_worker;

REVOKE ALL ON FUNCTION brainops_internal.record_stripe_objects(p_known public.stripe_objects, p_ids text[]) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.record_stripe_objects(p_known public.stripe_objects, p_ids text[]) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.record_twilio_event(p_event jsonb, p_tenant_id uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.record_twilio_event(p_event jsonb, p_tenant_id uuid) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.record_webhook_events(p_provider text, p_events jsonb, p_tenant_id uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.record_webhook_events(p_provider text, p_events jsonb, p_tenant_id uuid) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.references_to(p_table regclass) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.references_to(p_table regclass) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.refuse_change() FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.refuse_change() TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.refuse_consent_change() FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.refuse_large_metadata() FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.refuse_launch(p_tenant_id uuid, p_channel text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.refuse_launch(p_tenant_id uuid, p_channel text) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops_internal.refuse_launch(p_tenant_id uuid, p_channel text) TO brainops_worker;
GRANT ALL ON FUNCTION brainops_internal.refuse_launch(p_tenant_id uuid, p_channel text) TO brainops_service;
GRANT ALL ON FUNCTION brainops_internal.refuse_launch(p_tenant_id uuid, p_channel text) TO brainops_admin;
GRANT ALL ON FUNCTION brainops_internal.refuse_launch(p_tenant_id uuid, p_channel text) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.refuse_time_zone() FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.register_worker(p_id uuid, p_host text, p_pid integer, p_tasks text[]) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.register_worker(p_id uuid, p_host text, p_pid integer, p_tasks text[]) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.release_enrolments(p_tenant_id uuid, p_ids uuid[]) FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.release_rescores(p_tenant_id uuid, p_lead_ids uuid[]) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.release_rescores(p_tenant_id uuid, p_lead_ids uuid[]) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops_internal.release_rescores(p_tenant_id uuid, p_lead_ids uuid[]) TO brainops_worker;
GRANT ALL ON FUNCTION brainops_internal.release_rescores(p_tenant_id uuid, p_lead_ids uuid[]) TO brainops_service;
GRANT ALL ON FUNCTION brainops_internal.release_rescores(p_tenant_id uuid, p_lead_ids uuid[]) TO brainops_admin;

REVOKE ALL ON FUNCTION brainops_internal.remember_tenant() FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.remember_tenant() TO brainops_admin;
GRANT ALL ON FUNCTION brainops_internal.remember_tenant() TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.renumber_entrances(p_tenant_id uuid, p_into uuid, p_from uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.renumber_entrances(p_tenant_id uuid, p_into uuid, p_from uuid) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.replace_open_step(p_enrolment public.ai_nurture_campaigns, p_touch public.ai_campaign_touches) FROM PUBLIC;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.campaign_rules TO brainops_tenant;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.campaign_rules TO brainops_service;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.campaign_rules TO brainops_worker;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.campaign_rules TO brainops_admin;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.campaign_rules TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.report_broken_rule(p_rule public.campaign_rules, p_error text) FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.request_rescore(p_lead_ids uuid[]) FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.requeue(p_job brainops.job_tables, p_tenant_id uuid, p_most integer) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.requeue(p_job brainops.job_tables, p_tenant_id uuid, p_most integer) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.rescore_stale(p_after uuid, p_limit integer) FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.reserve_hourly_slots(p_tenant_id uuid, p_channel text, p_n integer) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.reserve_hourly_slots(p_tenant_id uuid, p_channel text, p_n integer) TO brainops_worker;

REVOKE ALL ON FUNCTION brainops_internal.reserve_rate_slots(p_table text, p_tenant_id uuid, p_n integer) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.reserve_rate_slots(p_table text, p_tenant_id uuid, p_n integer) TO brainops_worker;

REVOKE ALL ON FUNCTION brainops_internal.resolve_lead_id() FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.resolve_lead_id() TO brainops_admin;

REVOKE ALL ON FUNCTION brainops_internal.resolve_onboarding_workflow() FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.resolve_tenant(p_table regclass, p_row jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.resolve_tenant(p_table regclass, p_row jsonb) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops_internal.resolve_tenant(p_table regclass, p_row jsonb) TO brainops_worker;
GRANT ALL ON FUNCTION brainops_internal.resolve_tenant(p_table regclass, p_row jsonb) TO brainops_service;
GRANT ALL ON FUNCTION brainops_internal.resolve_tenant(p_table regclass, p_row jsonb) TO brainops_admin;

REVOKE ALL ON FUNCTION brainops_internal.resume_mail(p_tenant_id uuid, p_address text, p_source text, p_evidence jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.resume_mail(p_tenant_id uuid, p_address text, p_source text, p_evidence jsonb) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.retry_delay(p_attempt integer) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.retry_delay(p_attempt integer) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops_internal.retry_delay(p_attempt integer) TO brainops_worker;
GRANT ALL ON FUNCTION brainops_internal.retry_delay(p_attempt integer) TO brainops_service;
GRANT ALL ON FUNCTION brainops_internal.retry_delay(p_attempt integer) TO brainops_admin;
GRANT ALL ON FUNCTION brainops_internal.retry_delay(p_attempt integer) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.route_lead(p_old public.revenue_leads, p_new public.revenue_leads) FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.rule_fits(p_rule public.campaign_rules, p_lead public.revenue_leads) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.rule_fits(p_rule public.campaign_rules, p_lead public.revenue_leads) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.same_text(p_one text, p_other text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.same_text(p_one text, p_other text) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.save_preferences(p_token text, p_choices jsonb) FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.schedule_next_step(p_enrolment public.ai_nurture_campaigns, p_touch public.ai_campaign_touches, p_step public.campaign_steps, p_to_number integer) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.schedule_next_step(p_enrolment public.ai_nurture_campaigns, p_touch public.ai_campaign_touches, p_step public.campaign_steps, p_to_number integer) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.schedule_payment_closure(p_request public.payment_requests) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.schedule_payment_closure(p_request public.payment_requests) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.score_leads(p_lead_ids uuid[]) FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.score_total(p_tenant_id uuid, p_lead_id uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.score_total(p_tenant_id uuid, p_lead_id uuid) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops_internal.score_total(p_tenant_id uuid, p_lead_id uuid) TO brainops_worker;
GRANT ALL ON FUNCTION brainops_internal.score_total(p_tenant_id uuid, p_lead_id uuid) TO brainops_service;
GRANT ALL ON FUNCTION brainops_internal.score_total(p_tenant_id uuid, p_lead_id uuid) TO brainops_admin;
GRANT ALL ON FUNCTION brainops_internal.score_total(p_tenant_id uuid, p_lead_id uuid) TO brainops_system;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.provider_credentials TO brainops_worker;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.provider_credentials TO brainops_admin;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.provider_credentials TO brainops_system;

GRANT SELECT(id) ON TABLE public.provider_credentials TO brainops_tenant;
GRANT SELECT(id) ON TABLE public.provider_credentials TO brainops_service;

GRANT SELECT(tenant_id) ON TABLE public.provider_credentials TO brainops_tenant;
GRANT SELECT(tenant_id) ON TABLE public.provider_credentials TO brainops_service;

GRANT SELECT(provider) ON TABLE public.provider_credentials TO brainops_tenant;
GRANT SELECT(provider) ON TABLE public.provider_credentials TO brainops_service;

GRANT SELECT(name) ON TABLE public.provider_credentials TO brainops_tenant;
GRANT SELECT(name) ON TABLE public.provider_credentials TO brainops_service;

GRANT SELECT(hint) ON TABLE public.provider_credentials TO brainops_tenant;
GRANT SELECT(hint) ON TABLE public.provider_credentials TO brainops_service;

GRANT SELECT(active),UPDATE(active) ON TABLE public.provider_credentials TO brainops_tenant;
GRANT SELECT(active),UPDATE(active) ON TABLE public.provider_credentials TO brainops_service;

GRANT SELECT(endpoint_token) ON TABLE public.provider_credentials TO brainops_tenant;
GRANT SELECT(endpoint_token) ON TABLE public.provider_credentials TO brainops_service;

GRANT SELECT(created_at) ON TABLE public.provider_credentials TO brainops_tenant;
GRANT SELECT(created_at) ON TABLE public.provider_credentials TO brainops_service;

GRANT SELECT(updated_at) ON TABLE public.provider_credentials TO brainops_tenant;
GRANT SELECT(updated_at) ON TABLE public.provider_credentials TO brainops_service;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.tenant_keys TO brainops_worker;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.tenant_keys TO brainops_admin;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.tenant_keys TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.sealed_credential(p_credential public.provider_credentials, p_key public.tenant_keys) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.sealed_credential(p_credential public.provider_credentials, p_key public.tenant_keys) TO brainops_worker;
GRANT ALL ON FUNCTION brainops_internal.sealed_credential(p_credential public.provider_credentials, p_key public.tenant_keys) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.send_onboarding_reminder(p_id uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.send_onboarding_reminder(p_id uuid) TO brainops_worker;
GRANT ALL ON FUNCTION brainops_internal.send_onboarding_reminder(p_id uuid) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.sendgrid_message_id(p_event jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.sendgrid_message_id(p_event jsonb) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.set_next_touch(p_enrolment_id uuid, p_at timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.set_next_touch(p_enrolment_id uuid, p_at timestamp with time zone) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops_internal.set_next_touch(p_enrolment_id uuid, p_at timestamp with time zone) TO brainops_worker;
GRANT ALL ON FUNCTION brainops_internal.set_next_touch(p_enrolment_id uuid, p_at timestamp with time zone) TO brainops_service;
GRANT ALL ON FUNCTION brainops_internal.set_next_touch(p_enrolment_id uuid, p_at timestamp with time zone) TO brainops_admin;

GRANT SELECT,DELETE ON TABLE public.ai_onboarding_steps TO brainops_tenant;
GRANT SELECT,DELETE ON TABLE public.ai_onboarding_steps TO brainops_service;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.ai_onboarding_steps TO brainops_worker;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.ai_onboarding_steps TO brainops_admin;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.ai_onboarding_steps TO brainops_system;

GRANT INSERT(id) ON TABLE public.ai_onboarding_steps TO brainops_tenant;
GRANT INSERT(id) ON TABLE public.ai_onboarding_steps TO brainops_service;

GRANT INSERT(tenant_id) ON TABLE public.ai_onboarding_steps TO brainops_tenant;
GRANT INSERT(tenant_id) ON TABLE public.ai_onboarding_steps TO brainops_service;

GRANT INSERT(workflow_id) ON TABLE public.ai_onboarding_steps TO brainops_tenant;
GRANT INSERT(workflow_id) ON TABLE public.ai_onboarding_steps TO brainops_service;

GRANT INSERT(step_number) ON TABLE public.ai_onboarding_steps TO brainops_tenant;
GRANT INSERT(step_number) ON TABLE public.ai_onboarding_steps TO brainops_service;

GRANT INSERT(step_name) ON TABLE public.ai_onboarding_steps TO brainops_tenant;
GRANT INSERT(step_name) ON TABLE public.ai_onboarding_steps TO brainops_service;

GRANT INSERT(description),UPDATE(description) ON TABLE public.ai_onboarding_steps TO brainops_tenant;
GRANT INSERT(description),UPDATE(description) ON TABLE public.ai_onboarding_steps TO brainops_service;

GRANT INSERT(status),UPDATE(status) ON TABLE public.ai_onboarding_steps TO brainops_tenant;
GRANT INSERT(status),UPDATE(status) ON TABLE public.ai_onboarding_steps TO brainops_service;

GRANT INSERT(due_at),UPDATE(due_at) ON TABLE public.ai_onboarding_steps TO brainops_tenant;
GRANT INSERT(due_at),UPDATE(due_at) ON TABLE public.ai_onboarding_steps TO brainops_service;

GRANT INSERT(started_at) ON TABLE public.ai_onboarding_steps TO brainops_tenant;
GRANT INSERT(started_at) ON TABLE public.ai_onboarding_steps TO brainops_service;

GRANT INSERT(completed_at) ON TABLE public.ai_onboarding_steps TO brainops_tenant;
GRANT INSERT(completed_at) ON TABLE public.ai_onboarding_steps TO brainops_service;

GRANT INSERT(duration) ON TABLE public.ai_onboarding_steps TO brainops_tenant;
GRANT INSERT(duration) ON TABLE public.ai_onboarding_steps TO brainops_service;

GRANT INSERT(subject),UPDATE(subject) ON TABLE public.ai_onboarding_steps TO brainops_tenant;
GRANT INSERT(subject),UPDATE(subject) ON TABLE public.ai_onboarding_steps TO brainops_service;

GRANT INSERT(body),UPDATE(body) ON TABLE public.ai_onboarding_steps TO brainops_tenant;
GRANT INSERT(body),UPDATE(body) ON TABLE public.ai_onboarding_steps TO brainops_service;

GRANT INSERT(advance_on),UPDATE(advance_on) ON TABLE public.ai_onboarding_steps TO brainops_tenant;
GRANT INSERT(advance_on),UPDATE(advance_on) ON TABLE public.ai_onboarding_steps TO brainops_service;

GRANT INSERT(remind),UPDATE(remind) ON TABLE public.ai_onboarding_steps TO brainops_tenant;
GRANT INSERT(remind),UPDATE(remind) ON TABLE public.ai_onboarding_steps TO brainops_service;

GRANT INSERT(remind_before),UPDATE(remind_before) ON TABLE public.ai_onboarding_steps TO brainops_tenant;
GRANT INSERT(remind_before),UPDATE(remind_before) ON TABLE public.ai_onboarding_steps TO brainops_service;

GRANT INSERT(escalate_after),UPDATE(escalate_after) ON TABLE public.ai_onboarding_steps TO brainops_tenant;
GRANT INSERT(escalate_after),UPDATE(escalate_after) ON TABLE public.ai_onboarding_steps TO brainops_service;

GRANT INSERT(created_at) ON TABLE public.ai_onboarding_steps TO brainops_tenant;
GRANT INSERT(created_at) ON TABLE public.ai_onboarding_steps TO brainops_service;

REVOKE ALL ON FUNCTION brainops_internal.set_onboarding_reminders(p_step public.ai_onboarding_steps) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.set_onboarding_reminders(p_step public.ai_onboarding_steps) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.set_score(p_tenant_id uuid, p_lead_id uuid, p_score numeric, p_reason text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.set_score(p_tenant_id uuid, p_lead_id uuid, p_score numeric, p_reason text) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.set_waiting_reason(p_task_identifier text, p_reason text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.set_waiting_reason(p_task_identifier text, p_reason text) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.settle(p_table text, p_settlements brainops.settlement[]) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.settle(p_table text, p_settlements brainops.settlement[]) TO brainops_worker;

REVOKE ALL ON FUNCTION brainops_internal.settle_abandoned_rows(p_job brainops.job_tables, p_worker_id uuid, p_older_than interval, p_reason text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.settle_abandoned_rows(p_job brainops.job_tables, p_worker_id uuid, p_older_than interval, p_reason text) TO brainops_system;

GRANT SELECT,DELETE ON TABLE public.ai_sms_queue TO brainops_tenant;
GRANT SELECT,DELETE ON TABLE public.ai_sms_queue TO brainops_service;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.ai_sms_queue TO brainops_worker;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.ai_sms_queue TO brainops_admin;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.ai_sms_queue TO brainops_system;

GRANT INSERT(id) ON TABLE public.ai_sms_queue TO brainops_tenant;
GRANT INSERT(id) ON TABLE public.ai_sms_queue TO brainops_service;

GRANT INSERT(tenant_id) ON TABLE public.ai_sms_queue TO brainops_tenant;
GRANT INSERT(tenant_id) ON TABLE public.ai_sms_queue TO brainops_service;

GRANT INSERT(recipient),UPDATE(recipient) ON TABLE public.ai_sms_queue TO brainops_tenant;
GRANT INSERT(recipient),UPDATE(recipient) ON TABLE public.ai_sms_queue TO brainops_service;

GRANT INSERT(body),UPDATE(body) ON TABLE public.ai_sms_queue TO brainops_tenant;
GRANT INSERT(body),UPDATE(body) ON TABLE public.ai_sms_queue TO brainops_service;

GRANT INSERT(scheduled_for),UPDATE(scheduled_for) ON TABLE public.ai_sms_queue TO brainops_tenant;
GRANT INSERT(scheduled_for),UPDATE(scheduled_for) ON TABLE public.ai_sms_queue TO brainops_service;

GRANT INSERT(status),UPDATE(status) ON TABLE public.ai_sms_queue TO brainops_tenant;
GRANT INSERT(status),UPDATE(status) ON TABLE public.ai_sms_queue TO brainops_service;

GRANT INSERT(metadata),UPDATE(metadata) ON TABLE public.ai_sms_queue TO brainops_tenant;
GRANT INSERT(metadata),UPDATE(metadata) ON TABLE public.ai_sms_queue TO brainops_service;

GRANT INSERT(created_at) ON TABLE public.ai_sms_queue TO brainops_tenant;
GRANT INSERT(created_at) ON TABLE public.ai_sms_queue TO brainops_service;

GRANT INSERT(lead_id),UPDATE(lead_id) ON TABLE public.ai_sms_queue TO brainops_tenant;
GRANT INSERT(lead_id),UPDATE(lead_id) ON TABLE public.ai_sms_queue TO brainops_service;

GRANT INSERT(enrolment_id),UPDATE(enrolment_id) ON TABLE public.ai_sms_queue TO brainops_tenant;
GRANT INSERT(enrolment_id),UPDATE(enrolment_id) ON TABLE public.ai_sms_queue TO brainops_service;

GRANT INSERT(touch_id),UPDATE(touch_id) ON TABLE public.ai_sms_queue TO brainops_tenant;
GRANT INSERT(touch_id),UPDATE(touch_id) ON TABLE public.ai_sms_queue TO brainops_service;

GRANT INSERT(job_priority),UPDATE(job_priority) ON TABLE public.ai_sms_queue TO brainops_tenant;
GRANT INSERT(job_priority),UPDATE(job_priority) ON TABLE public.ai_sms_queue TO brainops_service;

GRANT INSERT(idempotency_key),UPDATE(idempotency_key) ON TABLE public.ai_sms_queue TO brainops_tenant;
GRANT INSERT(idempotency_key),UPDATE(idempotency_key) ON TABLE public.ai_sms_queue TO brainops_service;

GRANT INSERT(max_attempts),UPDATE(max_attempts) ON TABLE public.ai_sms_queue TO brainops_tenant;
GRANT INSERT(max_attempts),UPDATE(max_attempts) ON TABLE public.ai_sms_queue TO brainops_service;

REVOKE ALL ON FUNCTION brainops_internal.settle_absent_sms(p_sms public.ai_sms_queue, p_strangers integer) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.settle_absent_sms(p_sms public.ai_sms_queue, p_strangers integer) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.settle_by_events(p_tenant_id uuid, p_email_id uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.settle_by_events(p_tenant_id uuid, p_email_id uuid) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.settle_completed(p_table text, p_ids uuid[], p_lease uuid, p_result jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.settle_completed(p_table text, p_ids uuid[], p_lease uuid, p_result jsonb) TO brainops_worker;

REVOKE ALL ON FUNCTION brainops_internal.settle_consent(p_tenant_id uuid, p_address text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.settle_consent(p_tenant_id uuid, p_address text) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.settle_payment_request(p_tenant_id uuid, p_id uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.settle_payment_request(p_tenant_id uuid, p_id uuid) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.settle_sms_at_once() FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.settle_sms_at_once() TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.settle_sms_by_callbacks(p_tenant_id uuid, p_id uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.settle_sms_by_callbacks(p_tenant_id uuid, p_id uuid) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.settle_sms_consent(p_tenant_id uuid, p_number text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.settle_sms_consent(p_tenant_id uuid, p_number text) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.settle_unreachable(p_tenant_id uuid, p_number text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.settle_unreachable(p_tenant_id uuid, p_number text) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.ship_campaigns(p_tenant_id uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.ship_campaigns(p_tenant_id uuid) TO brainops_admin;

REVOKE ALL ON FUNCTION brainops_internal.show_inserted_row() FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.skip_cancelled_step() FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.skip_second_recipients(p_tenant_id uuid, p_into uuid, p_from uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.skip_second_recipients(p_tenant_id uuid, p_into uuid, p_from uuid) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.sms_address(p_sms public.ai_sms_queue) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.sms_address(p_sms public.ai_sms_queue) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops_internal.sms_address(p_sms public.ai_sms_queue) TO brainops_worker;
GRANT ALL ON FUNCTION brainops_internal.sms_address(p_sms public.ai_sms_queue) TO brainops_service;
GRANT ALL ON FUNCTION brainops_internal.sms_address(p_sms public.ai_sms_queue) TO brainops_admin;
GRANT ALL ON FUNCTION brainops_internal.sms_address(p_sms public.ai_sms_queue) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.sms_error_class(p_code integer) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.sms_error_class(p_code integer) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops_internal.sms_error_class(p_code integer) TO brainops_worker;
GRANT ALL ON FUNCTION brainops_internal.sms_error_class(p_code integer) TO brainops_service;
GRANT ALL ON FUNCTION brainops_internal.sms_error_class(p_code integer) TO brainops_admin;
GRANT ALL ON FUNCTION brainops_internal.sms_error_class(p_code integer) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.sms_keyword(p_body text, p_opt_out_type text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.sms_keyword(p_body text, p_opt_out_type text) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.sms_leads(p_tenant_id uuid, p_number text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.sms_leads(p_tenant_id uuid, p_number text) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.sms_needs_opt_out_notice(p_sms public.ai_sms_queue, p_number text, p_sender text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.sms_needs_opt_out_notice(p_sms public.ai_sms_queue, p_number text, p_sender text) TO brainops_worker;
GRANT ALL ON FUNCTION brainops_internal.sms_needs_opt_out_notice(p_sms public.ai_sms_queue, p_number text, p_sender text) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.sms_number(p_text text, p_country text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.sms_number(p_text text, p_country text) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops_internal.sms_number(p_text text, p_country text) TO brainops_worker;
GRANT ALL ON FUNCTION brainops_internal.sms_number(p_text text, p_country text) TO brainops_service;
GRANT ALL ON FUNCTION brainops_internal.sms_number(p_text text, p_country text) TO brainops_admin;
GRANT ALL ON FUNCTION brainops_internal.sms_number(p_text text, p_country text) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.sms_sender(p_tenant_id uuid, p_number text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.sms_sender(p_tenant_id uuid, p_number text) TO brainops_worker;
GRANT ALL ON FUNCTION brainops_internal.sms_sender(p_tenant_id uuid, p_number text) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.sms_status_rank(p_event text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.sms_status_rank(p_event text) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops_internal.sms_status_rank(p_event text) TO brainops_worker;
GRANT ALL ON FUNCTION brainops_internal.sms_status_rank(p_event text) TO brainops_service;
GRANT ALL ON FUNCTION brainops_internal.sms_status_rank(p_event text) TO brainops_admin;
GRANT ALL ON FUNCTION brainops_internal.sms_status_rank(p_event text) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.sms_tenants(p_from text, p_to text, p_tenant_id uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.sms_tenants(p_from text, p_to text, p_tenant_id uuid) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.split_key(p_step public.campaign_steps) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.split_key(p_step public.campaign_steps) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.split_problems(p_config jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.split_problems(p_config jsonb) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops_internal.split_problems(p_config jsonb) TO brainops_worker;
GRANT ALL ON FUNCTION brainops_internal.split_problems(p_config jsonb) TO brainops_service;
GRANT ALL ON FUNCTION brainops_internal.split_problems(p_config jsonb) TO brainops_admin;
GRANT ALL ON FUNCTION brainops_internal.split_problems(p_config jsonb) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.spread(p_n bigint, p_of bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.spread(p_n bigint, p_of bigint) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.spread_contact_time(p_at timestamp with time zone, p_zones text[], p_opens time without time zone[], p_closes time without time zone[], p_spread interval) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.spread_contact_time(p_at timestamp with time zone, p_zones text[], p_opens time without time zone[], p_closes time without time zone[], p_spread interval) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops_internal.spread_contact_time(p_at timestamp with time zone, p_zones text[], p_opens time without time zone[], p_closes time without time zone[], p_spread interval) TO brainops_worker;
GRANT ALL ON FUNCTION brainops_internal.spread_contact_time(p_at timestamp with time zone, p_zones text[], p_opens time without time zone[], p_closes time without time zone[], p_spread interval) TO brainops_service;
GRANT ALL ON FUNCTION brainops_internal.spread_contact_time(p_at timestamp with time zone, p_zones text[], p_opens time without time zone[], p_closes time without time zone[], p_spread interval) TO brainops_admin;
GRANT ALL ON FUNCTION brainops_internal.spread_contact_time(p_at timestamp with time zone, p_zones text[], p_opens time without time zone[], p_closes time without time zone[], p_spread interval) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.spread_rows(p_job brainops.job_tables, p_tenant_id uuid, p_waiting text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.spread_rows(p_job brainops.job_tables, p_tenant_id uuid, p_waiting text) TO brainops_admin;
GRANT ALL ON FUNCTION brainops_internal.spread_rows(p_job brainops.job_tables, p_tenant_id uuid, p_waiting text) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.stage_rank(p_stage text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.stage_rank(p_stage text) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops_internal.stage_rank(p_stage text) TO brainops_worker;
GRANT ALL ON FUNCTION brainops_internal.stage_rank(p_stage text) TO brainops_service;
GRANT ALL ON FUNCTION brainops_internal.stage_rank(p_stage text) TO brainops_admin;
GRANT ALL ON FUNCTION brainops_internal.stage_rank(p_stage text) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.step_due_at(p_enrolment public.ai_nurture_campaigns, p_step public.campaign_steps, p_base timestamp with time zone, p_zone text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.step_due_at(p_enrolment public.ai_nurture_campaigns, p_step public.campaign_steps, p_base timestamp with time zone, p_zone text) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.step_from(p_enrolment public.ai_nurture_campaigns, p_number integer) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.step_from(p_enrolment public.ai_nurture_campaigns, p_number integer) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.step_paths(p_kind text, p_config jsonb, p_next_step integer) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.step_paths(p_kind text, p_config jsonb, p_next_step integer) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops_internal.step_paths(p_kind text, p_config jsonb, p_next_step integer) TO brainops_worker;
GRANT ALL ON FUNCTION brainops_internal.step_paths(p_kind text, p_config jsonb, p_next_step integer) TO brainops_service;
GRANT ALL ON FUNCTION brainops_internal.step_paths(p_kind text, p_config jsonb, p_next_step integer) TO brainops_admin;
GRANT ALL ON FUNCTION brainops_internal.step_paths(p_kind text, p_config jsonb, p_next_step integer) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.stop_mail(p_tenant_id uuid, p_address text, p_source text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.stop_mail(p_tenant_id uuid, p_address text, p_source text) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.stranded_bulk_rows(p_job brainops.job_tables, p_tenant_id uuid, p_most integer) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.stranded_bulk_rows(p_job brainops.job_tables, p_tenant_id uuid, p_most integer) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.stripe_account(p_tenant_id uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.stripe_account(p_tenant_id uuid) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.stripe_id(p_value jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.stripe_id(p_value jsonb) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.stripe_ids(p_object jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.stripe_ids(p_object jsonb) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.stripe_time(p_value jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.stripe_time(p_value jsonb) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.submit_lead_form(p_tenant_id uuid, p_form text, p_submission_id text, p_lead jsonb, p_evidence jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.submit_lead_form(p_tenant_id uuid, p_form text, p_submission_id text, p_lead jsonb, p_evidence jsonb) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops_internal.submit_lead_form(p_tenant_id uuid, p_form text, p_submission_id text, p_lead jsonb, p_evidence jsonb) TO brainops_worker;
GRANT ALL ON FUNCTION brainops_internal.submit_lead_form(p_tenant_id uuid, p_form text, p_submission_id text, p_lead jsonb, p_evidence jsonb) TO brainops_service;
GRANT ALL ON FUNCTION brainops_internal.submit_lead_form(p_tenant_id uuid, p_form text, p_submission_id text, p_lead jsonb, p_evidence jsonb) TO brainops_admin;
GRANT ALL ON FUNCTION brainops_internal.submit_lead_form(p_tenant_id uuid, p_form text, p_submission_id text, p_lead jsonb, p_evidence jsonb) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.suppress(p_tenant_id uuid, p_channel text, p_address text, p_reason text, p_source text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.suppress(p_tenant_id uuid, p_channel text, p_address text, p_reason text, p_source text) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.suppression_rank(p_reason text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.suppression_rank(p_reason text) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.sweep(p_most integer) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.sweep(p_most integer) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.sweep_webhook_events() FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.sweep_webhook_events() TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.tenant_account(p_tenant_id uuid, p_provider text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.tenant_account(p_tenant_id uuid, p_provider text) TO brainops_worker;
GRANT ALL ON FUNCTION brainops_internal.tenant_account(p_tenant_id uuid, p_provider text) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.tenant_country(p_settings jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.tenant_country(p_settings jsonb) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops_internal.tenant_country(p_settings jsonb) TO brainops_worker;
GRANT ALL ON FUNCTION brainops_internal.tenant_country(p_settings jsonb) TO brainops_service;
GRANT ALL ON FUNCTION brainops_internal.tenant_country(p_settings jsonb) TO brainops_admin;
GRANT ALL ON FUNCTION brainops_internal.tenant_country(p_settings jsonb) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.tenant_id_of(p_tenant text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.tenant_id_of(p_tenant text) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops_internal.tenant_id_of(p_tenant text) TO brainops_worker;
GRANT ALL ON FUNCTION brainops_internal.tenant_id_of(p_tenant text) TO brainops_service;
GRANT ALL ON FUNCTION brainops_internal.tenant_id_of(p_tenant text) TO brainops_admin;
GRANT ALL ON FUNCTION brainops_internal.tenant_id_of(p_tenant text) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.tenant_of_caller(p_tenant text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.tenant_of_caller(p_tenant text) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.text_array(p_list jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.text_array(p_list jsonb) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.time_between(p_from timestamp with time zone, p_to timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.time_between(p_from timestamp with time zone, p_to timestamp with time zone) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops_internal.time_between(p_from timestamp with time zone, p_to timestamp with time zone) TO brainops_worker;
GRANT ALL ON FUNCTION brainops_internal.time_between(p_from timestamp with time zone, p_to timestamp with time zone) TO brainops_service;
GRANT ALL ON FUNCTION brainops_internal.time_between(p_from timestamp with time zone, p_to timestamp with time zone) TO brainops_admin;
GRANT ALL ON FUNCTION brainops_internal.time_between(p_from timestamp with time zone, p_to timestamp with time zone) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.timestamptz_or_null(p_text text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.timestamptz_or_null(p_text text) TO brainops_worker;

REVOKE ALL ON FUNCTION brainops_internal.topic_opted_out(p_tenant_id uuid, p_address text, p_topic text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.topic_opted_out(p_tenant_id uuid, p_address text, p_topic text) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops_internal.topic_opted_out(p_tenant_id uuid, p_address text, p_topic text) TO brainops_worker;
GRANT ALL ON FUNCTION brainops_internal.topic_opted_out(p_tenant_id uuid, p_address text, p_topic text) TO brainops_service;
GRANT ALL ON FUNCTION brainops_internal.topic_opted_out(p_tenant_id uuid, p_address text, p_topic text) TO brainops_admin;
GRANT ALL ON FUNCTION brainops_internal.topic_opted_out(p_tenant_id uuid, p_address text, p_topic text) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.touch_type_of(p_kind text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.touch_type_of(p_kind text) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops_internal.touch_type_of(p_kind text) TO brainops_worker;
GRANT ALL ON FUNCTION brainops_internal.touch_type_of(p_kind text) TO brainops_service;
GRANT ALL ON FUNCTION brainops_internal.touch_type_of(p_kind text) TO brainops_admin;
GRANT ALL ON FUNCTION brainops_internal.touch_type_of(p_kind text) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.touch_updated_at() FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.unbegin_sms() FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.unbegin_sms() TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.unclaim(p_table text, p_ids uuid[], p_lease uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.unclaim(p_table text, p_ids uuid[], p_lease uuid) TO brainops_worker;

REVOKE ALL ON FUNCTION brainops_internal.unconfirmed_sms(p_limit integer) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.unconfirmed_sms(p_limit integer) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.unexplained_messages(p_messages jsonb, p_id uuid, p_since timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.unexplained_messages(p_messages jsonb, p_id uuid, p_since timestamp with time zone) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.unsubscribe(p_token text) FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.unsubscribe_token(p_tenant_id uuid, p_address text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.unsubscribe_token(p_tenant_id uuid, p_address text) TO brainops_worker;

REVOKE ALL ON FUNCTION brainops_internal.unsubscribe_tokens(p_tenant_id uuid, p_addresses text[]) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.unsubscribe_tokens(p_tenant_id uuid, p_addresses text[]) TO brainops_worker;

REVOKE ALL ON FUNCTION brainops_internal.uuid_or_null(p_text text) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.uuid_or_null(p_text text) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops_internal.uuid_or_null(p_text text) TO brainops_worker;
GRANT ALL ON FUNCTION brainops_internal.uuid_or_null(p_text text) TO brainops_service;
GRANT ALL ON FUNCTION brainops_internal.uuid_or_null(p_text text) TO brainops_admin;
GRANT ALL ON FUNCTION brainops_internal.uuid_or_null(p_text text) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.wake_notifications() FROM PUBLIC;

REVOKE ALL ON FUNCTION brainops_internal.wake_onboarding_mail(p_step public.ai_onboarding_steps) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.wake_onboarding_mail(p_step public.ai_onboarding_steps) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.wake_rows(p_table text, p_tenant_id uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.wake_rows(p_table text, p_tenant_id uuid) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.wake_stripe_events(p_account text, p_tenant_id uuid, p_ids text[]) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.wake_stripe_events(p_account text, p_tenant_id uuid, p_ids text[]) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.watch_workers(p_self uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.watch_workers(p_self uuid) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.webhook_event_id(p_provider text, p_event jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.webhook_event_id(p_provider text, p_event jsonb) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.webhook_event_row(p_provider text, p_event jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.webhook_event_row(p_provider text, p_event jsonb) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.webhook_time(p_event jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.webhook_time(p_event jsonb) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.worker_is_alive(p_number integer, p_backend_pid integer) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.worker_is_alive(p_number integer, p_backend_pid integer) TO brainops_admin;
GRANT ALL ON FUNCTION brainops_internal.worker_is_alive(p_number integer, p_backend_pid integer) TO brainops_system;

REVOKE ALL ON FUNCTION brainops_internal.zone_opening(p_at timestamp with time zone, p_zone text, p_opens time without time zone[], p_closes time without time zone[]) FROM PUBLIC;
GRANT ALL ON FUNCTION brainops_internal.zone_opening(p_at timestamp with time zone, p_zone text, p_opens time without time zone[], p_closes time without time zone[]) TO brainops_tenant;
GRANT ALL ON FUNCTION brainops_internal.zone_opening(p_at timestamp with time zone, p_zone text, p_opens time without time zone[], p_closes time without time zone[]) TO brainops_worker;
GRANT ALL ON FUNCTION brainops_internal.zone_opening(p_at timestamp with time zone, p_zone text, p_opens time without time zone[], p_closes time without time zone[]) TO brainops_service;
GRANT ALL ON FUNCTION brainops_internal.zone_opening(p_at timestamp with time zone, p_zone text, p_opens time without time zone[], p_closes time without time zone[]) TO brainops_admin;
GRANT ALL ON FUNCTION brainops_internal.zone_opening(p_at timestamp with time zone, p_zone text, p_opens time without time zone[], p_closes time without time zone[]) TO brainops_system;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE brainops.circuit_breakers TO brainops_admin;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE brainops.circuit_breakers TO brainops_system;

GRANT SELECT ON TABLE brainops.breakers TO brainops_admin;
GRANT SELECT ON TABLE brainops.breakers TO brainops_system;

GRANT SELECT,DELETE ON TABLE public.ai_broadcasts TO brainops_tenant;
GRANT SELECT,DELETE ON TABLE public.ai_broadcasts TO brainops_service;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.ai_broadcasts TO brainops_worker;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.ai_broadcasts TO brainops_admin;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.ai_broadcasts TO brainops_system;

GRANT INSERT(id) ON TABLE public.ai_broadcasts TO brainops_tenant;
GRANT INSERT(id) ON TABLE public.ai_broadcasts TO brainops_service;

GRANT INSERT(tenant_id) ON TABLE public.ai_broadcasts TO brainops_tenant;
GRANT INSERT(tenant_id) ON TABLE public.ai_broadcasts TO brainops_service;

GRANT INSERT(name),UPDATE(name) ON TABLE public.ai_broadcasts TO brainops_tenant;
GRANT INSERT(name),UPDATE(name) ON TABLE public.ai_broadcasts TO brainops_service;

GRANT INSERT(audience),UPDATE(audience) ON TABLE public.ai_broadcasts TO brainops_tenant;
GRANT INSERT(audience),UPDATE(audience) ON TABLE public.ai_broadcasts TO brainops_service;

GRANT INSERT(template),UPDATE(template) ON TABLE public.ai_broadcasts TO brainops_tenant;
GRANT INSERT(template),UPDATE(template) ON TABLE public.ai_broadcasts TO brainops_service;

GRANT INSERT(subject),UPDATE(subject) ON TABLE public.ai_broadcasts TO brainops_tenant;
GRANT INSERT(subject),UPDATE(subject) ON TABLE public.ai_broadcasts TO brainops_service;

GRANT INSERT(body),UPDATE(body) ON TABLE public.ai_broadcasts TO brainops_tenant;
GRANT INSERT(body),UPDATE(body) ON TABLE public.ai_broadcasts TO brainops_service;

GRANT INSERT(metadata),UPDATE(metadata) ON TABLE public.ai_broadcasts TO brainops_tenant;
GRANT INSERT(metadata),UPDATE(metadata) ON TABLE public.ai_broadcasts TO brainops_service;

GRANT INSERT(status),UPDATE(status) ON TABLE public.ai_broadcasts TO brainops_tenant;
GRANT INSERT(status),UPDATE(status) ON TABLE public.ai_broadcasts TO brainops_service;

GRANT SELECT,DELETE ON TABLE public.ai_email_queue TO brainops_tenant;
GRANT SELECT,DELETE ON TABLE public.ai_email_queue TO brainops_service;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.ai_email_queue TO brainops_worker;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.ai_email_queue TO brainops_admin;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.ai_email_queue TO brainops_system;

GRANT INSERT(id) ON TABLE public.ai_email_queue TO brainops_tenant;
GRANT INSERT(id) ON TABLE public.ai_email_queue TO brainops_service;

GRANT INSERT(tenant_id) ON TABLE public.ai_email_queue TO brainops_tenant;
GRANT INSERT(tenant_id) ON TABLE public.ai_email_queue TO brainops_service;

GRANT INSERT(recipient),UPDATE(recipient) ON TABLE public.ai_email_queue TO brainops_tenant;
GRANT INSERT(recipient),UPDATE(recipient) ON TABLE public.ai_email_queue TO brainops_service;

GRANT INSERT(subject),UPDATE(subject) ON TABLE public.ai_email_queue TO brainops_tenant;
GRANT INSERT(subject),UPDATE(subject) ON TABLE public.ai_email_queue TO brainops_service;

GRANT INSERT(body),UPDATE(body) ON TABLE public.ai_email_queue TO brainops_tenant;
GRANT INSERT(body),UPDATE(body) ON TABLE public.ai_email_queue TO brainops_service;

GRANT INSERT(scheduled_for),UPDATE(scheduled_for) ON TABLE public.ai_email_queue TO brainops_tenant;
GRANT INSERT(scheduled_for),UPDATE(scheduled_for) ON TABLE public.ai_email_queue TO brainops_service;

GRANT INSERT(status),UPDATE(status) ON TABLE public.ai_email_queue TO brainops_tenant;
GRANT INSERT(status),UPDATE(status) ON TABLE public.ai_email_queue TO brainops_service;

GRANT INSERT(metadata),UPDATE(metadata) ON TABLE public.ai_email_queue TO brainops_tenant;
GRANT INSERT(metadata),UPDATE(metadata) ON TABLE public.ai_email_queue TO brainops_service;

GRANT INSERT(created_at) ON TABLE public.ai_email_queue TO brainops_tenant;
GRANT INSERT(created_at) ON TABLE public.ai_email_queue TO brainops_service;

GRANT INSERT(lead_id),UPDATE(lead_id) ON TABLE public.ai_email_queue TO brainops_tenant;
GRANT INSERT(lead_id),UPDATE(lead_id) ON TABLE public.ai_email_queue TO brainops_service;

GRANT INSERT(enrolment_id),UPDATE(enrolment_id) ON TABLE public.ai_email_queue TO brainops_tenant;
GRANT INSERT(enrolment_id),UPDATE(enrolment_id) ON TABLE public.ai_email_queue TO brainops_service;

GRANT INSERT(touch_id),UPDATE(touch_id) ON TABLE public.ai_email_queue TO brainops_tenant;
GRANT INSERT(touch_id),UPDATE(touch_id) ON TABLE public.ai_email_queue TO brainops_service;

GRANT INSERT(broadcast_id) ON TABLE public.ai_email_queue TO brainops_tenant;
GRANT INSERT(broadcast_id) ON TABLE public.ai_email_queue TO brainops_service;

GRANT INSERT(job_priority),UPDATE(job_priority) ON TABLE public.ai_email_queue TO brainops_tenant;
GRANT INSERT(job_priority),UPDATE(job_priority) ON TABLE public.ai_email_queue TO brainops_service;

GRANT INSERT(idempotency_key),UPDATE(idempotency_key) ON TABLE public.ai_email_queue TO brainops_tenant;
GRANT INSERT(idempotency_key),UPDATE(idempotency_key) ON TABLE public.ai_email_queue TO brainops_service;

GRANT INSERT(max_attempts),UPDATE(max_attempts) ON TABLE public.ai_email_queue TO brainops_tenant;
GRANT INSERT(max_attempts),UPDATE(max_attempts) ON TABLE public.ai_email_queue TO brainops_service;

GRANT SELECT ON TABLE brainops.broadcast_results TO brainops_tenant;
GRANT SELECT ON TABLE brainops.broadcast_results TO brainops_service;
GRANT SELECT ON TABLE brainops.broadcast_results TO brainops_worker;
GRANT SELECT ON TABLE brainops.broadcast_results TO brainops_admin;
GRANT SELECT ON TABLE brainops.broadcast_results TO brainops_system;

GRANT SELECT ON TABLE public.campaign_touch_events TO brainops_tenant;
GRANT SELECT ON TABLE public.campaign_touch_events TO brainops_service;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.campaign_touch_events TO brainops_worker;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.campaign_touch_events TO brainops_admin;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.campaign_touch_events TO brainops_system;

GRANT SELECT ON TABLE brainops.campaign_results TO brainops_tenant;
GRANT SELECT ON TABLE brainops.campaign_results TO brainops_service;
GRANT SELECT ON TABLE brainops.campaign_results TO brainops_worker;
GRANT SELECT ON TABLE brainops.campaign_results TO brainops_admin;

GRANT SELECT ON TABLE brainops.contact_caps TO brainops_tenant;
GRANT SELECT ON TABLE brainops.contact_caps TO brainops_worker;
GRANT SELECT ON TABLE brainops.contact_caps TO brainops_service;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE brainops.contact_caps TO brainops_admin;
GRANT SELECT ON TABLE brainops.contact_caps TO brainops_system;

GRANT SELECT ON TABLE brainops.contact_counts TO brainops_tenant;
GRANT SELECT ON TABLE brainops.contact_counts TO brainops_service;
GRANT SELECT ON TABLE brainops.contact_counts TO brainops_worker;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE brainops.contact_counts TO brainops_admin;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE brainops.contact_counts TO brainops_system;

GRANT SELECT ON TABLE brainops.contact_windows TO brainops_tenant;
GRANT SELECT ON TABLE brainops.contact_windows TO brainops_worker;
GRANT SELECT ON TABLE brainops.contact_windows TO brainops_service;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE brainops.contact_windows TO brainops_admin;
GRANT SELECT ON TABLE brainops.contact_windows TO brainops_system;

GRANT SELECT ON TABLE brainops.currencies TO brainops_tenant;
GRANT SELECT ON TABLE brainops.currencies TO brainops_worker;
GRANT SELECT ON TABLE brainops.currencies TO brainops_service;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE brainops.currencies TO brainops_admin;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE brainops.currencies TO brainops_system;

GRANT SELECT,DELETE ON TABLE public.onboarding_reminders TO brainops_tenant;
GRANT SELECT,DELETE ON TABLE public.onboarding_reminders TO brainops_service;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.onboarding_reminders TO brainops_worker;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.onboarding_reminders TO brainops_admin;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.onboarding_reminders TO brainops_system;

GRANT UPDATE(workflow_id) ON TABLE public.onboarding_reminders TO brainops_tenant;
GRANT UPDATE(workflow_id) ON TABLE public.onboarding_reminders TO brainops_service;

GRANT UPDATE(step_id) ON TABLE public.onboarding_reminders TO brainops_tenant;
GRANT UPDATE(step_id) ON TABLE public.onboarding_reminders TO brainops_service;

GRANT UPDATE(kind) ON TABLE public.onboarding_reminders TO brainops_tenant;
GRANT UPDATE(kind) ON TABLE public.onboarding_reminders TO brainops_service;

GRANT UPDATE(due_at) ON TABLE public.onboarding_reminders TO brainops_tenant;
GRANT UPDATE(due_at) ON TABLE public.onboarding_reminders TO brainops_service;

GRANT UPDATE(scheduled_for) ON TABLE public.onboarding_reminders TO brainops_tenant;
GRANT UPDATE(scheduled_for) ON TABLE public.onboarding_reminders TO brainops_service;

GRANT UPDATE(status) ON TABLE public.onboarding_reminders TO brainops_tenant;
GRANT UPDATE(status) ON TABLE public.onboarding_reminders TO brainops_service;

GRANT UPDATE(job_priority) ON TABLE public.onboarding_reminders TO brainops_tenant;
GRANT UPDATE(job_priority) ON TABLE public.onboarding_reminders TO brainops_service;

GRANT UPDATE(idempotency_key) ON TABLE public.onboarding_reminders TO brainops_tenant;
GRANT UPDATE(idempotency_key) ON TABLE public.onboarding_reminders TO brainops_service;

GRANT UPDATE(max_attempts) ON TABLE public.onboarding_reminders TO brainops_tenant;
GRANT UPDATE(max_attempts) ON TABLE public.onboarding_reminders TO brainops_service;

GRANT SELECT ON TABLE public.payment_link_closures TO brainops_tenant;
GRANT SELECT ON TABLE public.payment_link_closures TO brainops_service;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.payment_link_closures TO brainops_worker;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.payment_link_closures TO brainops_admin;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.payment_link_closures TO brainops_system;

GRANT UPDATE(status) ON TABLE public.payment_link_closures TO brainops_tenant;
GRANT UPDATE(status) ON TABLE public.payment_link_closures TO brainops_service;

GRANT UPDATE(scheduled_for) ON TABLE public.payment_link_closures TO brainops_tenant;
GRANT UPDATE(scheduled_for) ON TABLE public.payment_link_closures TO brainops_service;

GRANT UPDATE(job_priority) ON TABLE public.payment_link_closures TO brainops_tenant;
GRANT UPDATE(job_priority) ON TABLE public.payment_link_closures TO brainops_service;

GRANT UPDATE(idempotency_key) ON TABLE public.payment_link_closures TO brainops_tenant;
GRANT UPDATE(idempotency_key) ON TABLE public.payment_link_closures TO brainops_service;

GRANT UPDATE(max_attempts) ON TABLE public.payment_link_closures TO brainops_tenant;
GRANT UPDATE(max_attempts) ON TABLE public.payment_link_closures TO brainops_service;

GRANT SELECT,DELETE ON TABLE public.tenant_notifications TO brainops_tenant;
GRANT SELECT,DELETE ON TABLE public.tenant_notifications TO brainops_service;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.tenant_notifications TO brainops_worker;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.tenant_notifications TO brainops_admin;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.tenant_notifications TO brainops_system;

GRANT INSERT(id) ON TABLE public.tenant_notifications TO brainops_tenant;
GRANT INSERT(id) ON TABLE public.tenant_notifications TO brainops_service;

GRANT INSERT(tenant_id) ON TABLE public.tenant_notifications TO brainops_tenant;
GRANT INSERT(tenant_id) ON TABLE public.tenant_notifications TO brainops_service;

GRANT INSERT(subject),UPDATE(subject) ON TABLE public.tenant_notifications TO brainops_tenant;
GRANT INSERT(subject),UPDATE(subject) ON TABLE public.tenant_notifications TO brainops_service;

GRANT INSERT(body),UPDATE(body) ON TABLE public.tenant_notifications TO brainops_tenant;
GRANT INSERT(body),UPDATE(body) ON TABLE public.tenant_notifications TO brainops_service;

GRANT INSERT(lead_id),UPDATE(lead_id) ON TABLE public.tenant_notifications TO brainops_tenant;
GRANT INSERT(lead_id),UPDATE(lead_id) ON TABLE public.tenant_notifications TO brainops_service;

GRANT INSERT(scheduled_for),UPDATE(scheduled_for) ON TABLE public.tenant_notifications TO brainops_tenant;
GRANT INSERT(scheduled_for),UPDATE(scheduled_for) ON TABLE public.tenant_notifications TO brainops_service;

GRANT INSERT(created_at) ON TABLE public.tenant_notifications TO brainops_tenant;
GRANT INSERT(created_at) ON TABLE public.tenant_notifications TO brainops_service;

GRANT INSERT(status),UPDATE(status) ON TABLE public.tenant_notifications TO brainops_tenant;
GRANT INSERT(status),UPDATE(status) ON TABLE public.tenant_notifications TO brainops_service;

GRANT INSERT(job_priority),UPDATE(job_priority) ON TABLE public.tenant_notifications TO brainops_tenant;
GRANT INSERT(job_priority),UPDATE(job_priority) ON TABLE public.tenant_notifications TO brainops_service;

GRANT INSERT(idempotency_key),UPDATE(idempotency_key) ON TABLE public.tenant_notifications TO brainops_tenant;
GRANT INSERT(idempotency_key),UPDATE(idempotency_key) ON TABLE public.tenant_notifications TO brainops_service;

GRANT INSERT(max_attempts),UPDATE(max_attempts) ON TABLE public.tenant_notifications TO brainops_tenant;
GRANT INSERT(max_attempts),UPDATE(max_attempts) ON TABLE public.tenant_notifications TO brainops_service;

GRANT SELECT ON TABLE brainops.jobs TO brainops_tenant;
GRANT SELECT ON TABLE brainops.jobs TO brainops_worker;
GRANT SELECT ON TABLE brainops.jobs TO brainops_service;
GRANT SELECT ON TABLE brainops.jobs TO brainops_admin;
GRANT SELECT ON TABLE brainops.jobs TO brainops_system;

GRANT SELECT ON TABLE brainops.dead_letters TO brainops_tenant;
GRANT SELECT ON TABLE brainops.dead_letters TO brainops_worker;
GRANT SELECT ON TABLE brainops.dead_letters TO brainops_service;
GRANT SELECT ON TABLE brainops.dead_letters TO brainops_admin;
GRANT SELECT ON TABLE brainops.dead_letters TO brainops_system;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE brainops.embedded_connections TO brainops_system;
GRANT SELECT ON TABLE brainops.embedded_connections TO brainops_admin;

GRANT SELECT ON TABLE brainops.installation TO brainops_tenant;
GRANT SELECT ON TABLE brainops.installation TO brainops_worker;
GRANT SELECT ON TABLE brainops.installation TO brainops_service;
GRANT SELECT ON TABLE brainops.installation TO brainops_admin;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE brainops.installation TO brainops_system;

GRANT SELECT ON TABLE brainops.job_archive TO brainops_tenant;
GRANT SELECT ON TABLE brainops.job_archive TO brainops_worker;
GRANT SELECT ON TABLE brainops.job_archive TO brainops_service;
GRANT SELECT ON TABLE brainops.job_archive TO brainops_admin;

GRANT SELECT ON TABLE brainops.job_events TO brainops_tenant;
GRANT SELECT ON TABLE brainops.job_events TO brainops_worker;
GRANT SELECT ON TABLE brainops.job_events TO brainops_service;
GRANT SELECT ON TABLE brainops.job_events TO brainops_admin;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE brainops.lead_keys TO brainops_admin;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE brainops.lead_keys TO brainops_system;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE brainops.library_campaigns TO brainops_admin;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE brainops.library_campaigns TO brainops_system;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE brainops.library_templates TO brainops_admin;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE brainops.library_templates TO brainops_system;

GRANT SELECT ON TABLE brainops.onboarding_progress TO brainops_tenant;
GRANT SELECT ON TABLE brainops.onboarding_progress TO brainops_worker;
GRANT SELECT ON TABLE brainops.onboarding_progress TO brainops_service;
GRANT SELECT ON TABLE brainops.onboarding_progress TO brainops_admin;
GRANT SELECT ON TABLE brainops.onboarding_progress TO brainops_system;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE brainops.pauses TO brainops_admin;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE brainops.pauses TO brainops_system;

GRANT SELECT ON TABLE brainops.phone_zones TO brainops_tenant;
GRANT SELECT ON TABLE brainops.phone_zones TO brainops_worker;
GRANT SELECT ON TABLE brainops.phone_zones TO brainops_service;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE brainops.phone_zones TO brainops_admin;
GRANT SELECT ON TABLE brainops.phone_zones TO brainops_system;

GRANT SELECT ON TABLE public.webhook_events TO brainops_tenant;
GRANT SELECT ON TABLE public.webhook_events TO brainops_worker;
GRANT SELECT ON TABLE public.webhook_events TO brainops_service;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.webhook_events TO brainops_admin;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.webhook_events TO brainops_system;

GRANT SELECT ON TABLE brainops.queue_health TO brainops_tenant;
GRANT SELECT ON TABLE brainops.queue_health TO brainops_worker;
GRANT SELECT ON TABLE brainops.queue_health TO brainops_service;
GRANT SELECT ON TABLE brainops.queue_health TO brainops_admin;
GRANT SELECT ON TABLE brainops.queue_health TO brainops_system;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE brainops.rate_limits TO brainops_admin;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE brainops.rate_limits TO brainops_system;
GRANT SELECT ON TABLE brainops.rate_limits TO brainops_worker;

GRANT SELECT ON TABLE brainops.score_reasons TO brainops_tenant;
GRANT SELECT ON TABLE brainops.score_reasons TO brainops_worker;
GRANT SELECT ON TABLE brainops.score_reasons TO brainops_service;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE brainops.score_reasons TO brainops_admin;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE brainops.score_reasons TO brainops_system;

GRANT SELECT,UPDATE ON TABLE brainops.settings TO brainops_admin;
GRANT SELECT ON TABLE brainops.settings TO brainops_system;

GRANT SELECT ON TABLE public.sms_deliveries TO brainops_tenant;
GRANT SELECT ON TABLE public.sms_deliveries TO brainops_service;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.sms_deliveries TO brainops_worker;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.sms_deliveries TO brainops_admin;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.sms_deliveries TO brainops_system;

GRANT SELECT ON TABLE brainops.sms_results TO brainops_tenant;
GRANT SELECT ON TABLE brainops.sms_results TO brainops_worker;
GRANT SELECT ON TABLE brainops.sms_results TO brainops_service;
GRANT SELECT ON TABLE brainops.sms_results TO brainops_admin;
GRANT SELECT ON TABLE brainops.sms_results TO brainops_system;

GRANT SELECT ON TABLE brainops.stuck_onboarding TO brainops_tenant;
GRANT SELECT ON TABLE brainops.stuck_onboarding TO brainops_worker;
GRANT SELECT ON TABLE brainops.stuck_onboarding TO brainops_service;
GRANT SELECT ON TABLE brainops.stuck_onboarding TO brainops_admin;
GRANT SELECT ON TABLE brainops.stuck_onboarding TO brainops_system;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE brainops.tenant_logins TO brainops_admin;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE brainops.tenant_logins TO brainops_system;

GRANT SELECT ON TABLE brainops.unprotected_tables TO brainops_admin;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE brainops.waiting_stripe_events TO brainops_admin;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE brainops.waiting_stripe_events TO brainops_system;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE brainops.worker_processes TO brainops_system;
GRANT SELECT ON TABLE brainops.worker_processes TO brainops_admin;

GRANT SELECT ON TABLE brainops.workers TO brainops_admin;
GRANT SELECT ON TABLE brainops.workers TO brainops_system;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.ai_campaign_templates TO brainops_tenant;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.ai_campaign_templates TO brainops_service;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.ai_campaign_templates TO brainops_worker;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.ai_campaign_templates TO brainops_admin;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.ai_campaign_templates TO brainops_system;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.campaign_split_winners TO brainops_tenant;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.campaign_split_winners TO brainops_service;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.campaign_split_winners TO brainops_worker;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.campaign_split_winners TO brainops_admin;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.campaign_split_winners TO brainops_system;

GRANT SELECT,INSERT ON TABLE public.contact_consents TO brainops_tenant;
GRANT SELECT,INSERT ON TABLE public.contact_consents TO brainops_service;
GRANT SELECT,INSERT ON TABLE public.contact_consents TO brainops_worker;
GRANT SELECT,INSERT ON TABLE public.contact_consents TO brainops_admin;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.contact_consents TO brainops_system;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.contact_suppressions TO brainops_tenant;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.contact_suppressions TO brainops_service;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.contact_suppressions TO brainops_worker;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.contact_suppressions TO brainops_admin;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.contact_suppressions TO brainops_system;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.contact_topic_optouts TO brainops_tenant;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.contact_topic_optouts TO brainops_service;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.contact_topic_optouts TO brainops_worker;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.contact_topic_optouts TO brainops_admin;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.contact_topic_optouts TO brainops_system;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.contact_topics TO brainops_tenant;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.contact_topics TO brainops_service;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.contact_topics TO brainops_worker;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.contact_topics TO brainops_admin;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.contact_topics TO brainops_system;

GRANT SELECT ON TABLE public.email_bounces TO brainops_tenant;
GRANT SELECT ON TABLE public.email_bounces TO brainops_service;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.email_bounces TO brainops_worker;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.email_bounces TO brainops_admin;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.email_bounces TO brainops_system;

GRANT SELECT ON TABLE public.email_deliveries TO brainops_tenant;
GRANT SELECT ON TABLE public.email_deliveries TO brainops_service;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.email_deliveries TO brainops_worker;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.email_deliveries TO brainops_admin;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.email_deliveries TO brainops_system;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.email_unsubscribe_links TO brainops_worker;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.email_unsubscribe_links TO brainops_admin;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.email_unsubscribe_links TO brainops_system;

GRANT SELECT,INSERT ON TABLE public.lead_events TO brainops_tenant;
GRANT SELECT,INSERT ON TABLE public.lead_events TO brainops_service;
GRANT SELECT,INSERT ON TABLE public.lead_events TO brainops_worker;
GRANT SELECT,INSERT ON TABLE public.lead_events TO brainops_admin;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.lead_events TO brainops_system;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.lead_forms TO brainops_tenant;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.lead_forms TO brainops_service;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.lead_forms TO brainops_worker;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.lead_forms TO brainops_admin;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.lead_forms TO brainops_system;

GRANT SELECT,INSERT ON TABLE public.lead_score_events TO brainops_tenant;
GRANT SELECT,INSERT ON TABLE public.lead_score_events TO brainops_service;
GRANT SELECT,INSERT ON TABLE public.lead_score_events TO brainops_worker;
GRANT SELECT,INSERT ON TABLE public.lead_score_events TO brainops_admin;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.lead_score_events TO brainops_system;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.lead_tasks TO brainops_tenant;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.lead_tasks TO brainops_service;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.lead_tasks TO brainops_worker;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.lead_tasks TO brainops_admin;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.lead_tasks TO brainops_system;

GRANT SELECT ON TABLE public.marketing_holds TO brainops_tenant;
GRANT SELECT ON TABLE public.marketing_holds TO brainops_service;
GRANT SELECT ON TABLE public.marketing_holds TO brainops_worker;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.marketing_holds TO brainops_admin;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.marketing_holds TO brainops_system;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.onboarding_templates TO brainops_tenant;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.onboarding_templates TO brainops_service;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.onboarding_templates TO brainops_worker;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.onboarding_templates TO brainops_admin;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.onboarding_templates TO brainops_system;

GRANT SELECT ON TABLE public.opt_in_requests TO brainops_tenant;
GRANT SELECT ON TABLE public.opt_in_requests TO brainops_service;
GRANT SELECT ON TABLE public.opt_in_requests TO brainops_worker;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.opt_in_requests TO brainops_admin;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.opt_in_requests TO brainops_system;

GRANT SELECT ON TABLE public.payment_disputes TO brainops_tenant;
GRANT SELECT ON TABLE public.payment_disputes TO brainops_service;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.payment_disputes TO brainops_worker;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.payment_disputes TO brainops_admin;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.payment_disputes TO brainops_system;

GRANT SELECT ON TABLE public.payment_ledger TO brainops_tenant;
GRANT SELECT ON TABLE public.payment_ledger TO brainops_service;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.payment_ledger TO brainops_worker;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.payment_ledger TO brainops_admin;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.payment_ledger TO brainops_system;

GRANT SELECT ON TABLE public.payments_by_lead TO brainops_tenant;
GRANT SELECT ON TABLE public.payments_by_lead TO brainops_worker;
GRANT SELECT ON TABLE public.payments_by_lead TO brainops_service;
GRANT SELECT ON TABLE public.payments_by_lead TO brainops_admin;
GRANT SELECT ON TABLE public.payments_by_lead TO brainops_system;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.plans TO brainops_tenant;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.plans TO brainops_worker;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.plans TO brainops_service;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.plans TO brainops_admin;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.plans TO brainops_system;

GRANT SELECT ON TABLE public.revenue_lead_aliases TO brainops_tenant;
GRANT SELECT ON TABLE public.revenue_lead_aliases TO brainops_service;
GRANT SELECT ON TABLE public.revenue_lead_aliases TO brainops_worker;
GRANT SELECT ON TABLE public.revenue_lead_aliases TO brainops_admin;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.revenue_lead_aliases TO brainops_system;

GRANT SELECT ON TABLE public.revenue_summary TO brainops_tenant;
GRANT SELECT ON TABLE public.revenue_summary TO brainops_worker;
GRANT SELECT ON TABLE public.revenue_summary TO brainops_service;
GRANT SELECT ON TABLE public.revenue_summary TO brainops_admin;
GRANT SELECT ON TABLE public.revenue_summary TO brainops_system;

GRANT SELECT ON TABLE public.sender_warmups TO brainops_tenant;
GRANT SELECT ON TABLE public.sender_warmups TO brainops_service;
GRANT SELECT ON TABLE public.sender_warmups TO brainops_worker;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.sender_warmups TO brainops_admin;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.sender_warmups TO brainops_system;

GRANT SELECT ON TABLE public.sms_inbound TO brainops_tenant;
GRANT SELECT ON TABLE public.sms_inbound TO brainops_service;
GRANT SELECT ON TABLE public.sms_inbound TO brainops_worker;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.sms_inbound TO brainops_admin;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.sms_inbound TO brainops_system;

GRANT SELECT ON TABLE public.sms_numbers TO brainops_tenant;
GRANT SELECT ON TABLE public.sms_numbers TO brainops_service;
GRANT SELECT ON TABLE public.sms_numbers TO brainops_worker;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.sms_numbers TO brainops_admin;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.sms_numbers TO brainops_system;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.sms_threads TO brainops_worker;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.sms_threads TO brainops_admin;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.sms_threads TO brainops_system;

GRANT SELECT ON TABLE public.subscriptions TO brainops_tenant;
GRANT SELECT ON TABLE public.subscriptions TO brainops_service;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.subscriptions TO brainops_worker;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.subscriptions TO brainops_admin;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.subscriptions TO brainops_system;

GRANT SELECT ON TABLE public.tenants TO brainops_tenant;
GRANT SELECT ON TABLE public.tenants TO brainops_worker;
GRANT SELECT ON TABLE public.tenants TO brainops_service;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.tenants TO brainops_admin;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.tenants TO brainops_system;
