-- Leads from files and forms. capture_lead takes one person, import_leads part of a file, submit_lead_form one
-- submission of a form.

-- Idempotent: the same call again changes nothing. A person who is known by every address in p_lead is found
-- without an insert (known_lead); anything else goes through the insert and its merge.
create or replace function brainops.capture_lead(p_tenant_id uuid, p_lead jsonb, p_source text, p_evidence jsonb)
returns table (lead_id uuid, is_new boolean)
language plpgsql
security definer
set search_path = ''
as $$
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
    raise exception 'tenant_id: this login may not add leads to tenant %', p_tenant_id
      using errcode = 'insufficient_privilege', hint = 'Connect as a login of that tenant, or as a service.';
  end if;
  v_row := jsonb_populate_record(
    null::public.revenue_leads,
    (select coalesce(jsonb_object_agg(e.key, e.value), '{}') from jsonb_each(p_lead) as e where e.key = any (c_columns))
  );
  v_row.tenant_id := p_tenant_id;
  v_row.source := coalesce(v_row.source, p_source);
  v_row := brainops_internal.normal_lead(v_row);
  if brainops_internal.email_key(v_row.email) is null and v_row.phone_e164 is null then
    raise exception 'email: % is not an e-mail address, and phone: % is not a complete phone number',
      coalesce(quote_literal(left(v_row.email, 120)), 'null'), coalesce(quote_literal(left(v_row.phone, 60)), 'null')
      using errcode = 'OP013', column = 'email',
        hint = 'Give an e-mail address, or a phone number with its country code; leads are recognised by them.';
  end if;
  if brainops_internal.normal_stage(v_stage) is null then
    raise exception 'stage: unknown stage %', quote_literal(left(v_stage, 80))
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

comment on function brainops.capture_lead(uuid, jsonb, text, jsonb) is
  'Adds a person as a lead, or adds to the lead that the person already is. p_lead: columns of revenue_leads, and email_consent and sms_consent (true or false; with any other value no consent is recorded). p_source: import, form or another name; it is the source of the lead unless p_lead has one. p_evidence: what proves the consents, stored with them. Returns the lead''s id, and whether it is new. OP013 without a usable address, OP011 for an unknown stage, 42501 for another tenant.';

alter function brainops.capture_lead(uuid, jsonb, text, jsonb) owner to brainops_system;
revoke execute on function brainops.capture_lead(uuid, jsonb, text, jsonb) from public;
grant execute
on function brainops.capture_lead(uuid, jsonb, text, jsonb)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin;

-- An import is old information: it grants consent only where nothing is recorded yet. A form is the person's own
-- current decision.
create or replace function brainops_internal.capture_consent(
  p_tenant_id uuid,
  p_lead_id uuid,
  p_channel text,
  p_address text,
  p_granted jsonb,
  p_source text,
  p_evidence jsonb
)
returns void
language plpgsql
set search_path = ''
as $$
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
  -- Anyone can fill in a form with anyone's address: only the person's own word lifts the person's own no.
  if v_state = 'granted' and brainops_internal.person_denies(p_tenant_id, p_channel, lower(btrim(p_address))) then
    return;
  end if;
  insert into public.contact_consents (tenant_id, lead_id, channel, address, state, source, evidence)
  values (p_tenant_id, p_lead_id, p_channel, p_address, v_state, p_source, coalesce(p_evidence, '{}'));
end;
$$;

comment on function brainops_internal.capture_consent(uuid, uuid, text, text, jsonb, text, jsonb) is
  'Records the consent that came with a lead, unless the address already has it, or the person''s own denial stands. p_granted: true or false; otherwise nothing is recorded.';

revoke execute on function brainops_internal.capture_consent(uuid, uuid, text, text, jsonb, text, jsonb) from public;
grant execute
on function brainops_internal.capture_consent(uuid, uuid, text, text, jsonb, text, jsonb)
to brainops_system;

-- The rows are independent: a rejected row is reported, and does not affect the others. Scoring is queued once, at the
-- end.
create or replace function brainops.import_leads(p_tenant_id uuid, p_rows jsonb)
returns table (line int, lead_id uuid, outcome text, column_name text, problem text, expected text)
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_row jsonb;
  v_is_new boolean;
  v_ids uuid[];
begin
  -- Before the lock: a tenant could hold up the imports of another. capture_lead checks it again for each row.
  if not brainops_internal.may_act_for(p_tenant_id) then
    raise exception 'tenant_id: this login may not add leads to tenant %', p_tenant_id
      using errcode = 'insufficient_privilege', hint = 'Connect as a login of that tenant, or as a service.';
  end if;
  -- Without this lock, two imports of the same people in different orders would deadlock.
  perform brainops_internal.lock_keys(p_tenant_id, 'import', '{all}');
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

comment on function brainops.import_leads(uuid, jsonb) is
  'capture_lead for a list of rows {line, lead, evidence}. Returns one row for each, with the outcome new, known or rejected; for a rejected one also the column, the problem, and what was expected. Used by `brainops leads import`.';

alter function brainops.import_leads(uuid, jsonb) owner to brainops_system;
revoke execute on function brainops.import_leads(uuid, jsonb) from public;
grant execute
on function brainops.import_leads(uuid, jsonb)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

-- A repeated submission changes nothing, so that an old "yes" cannot replace a later "no".
create or replace function brainops_internal.submit_lead_form(
  p_tenant_id uuid,
  p_form text,
  p_submission_id text,
  p_lead jsonb,
  p_evidence jsonb
)
returns table (lead_id uuid, is_new boolean)
language plpgsql
set search_path = ''
as $$
declare
  v_form public.lead_forms;
  v_key text := 'form:' || p_form || ':' || p_submission_id;
begin
  select * into v_form from public.lead_forms where tenant_id = p_tenant_id and name = p_form and active;
  if not found then
    raise exception 'form: % does not exist, or is not active', quote_literal(left(p_form, 80))
      using errcode = 'OP009', hint = 'Create it with `brainops leads form`, or set active: select name, active from lead_forms.';
  end if;
  -- A concurrent repetition waits here, and then finds the event.
  perform brainops_internal.lock_keys(p_tenant_id, 'form', array[v_key]);
  -- A merge moves the event, so its lead is the remaining one.
  select e.lead_id, false into lead_id, is_new
    from public.lead_events as e
    where e.tenant_id = p_tenant_id and e.event = 'form_submitted' and e.source_key = v_key
    -- The unique key includes the lead, so there may be several; the first one is the submission.
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

comment on function brainops_internal.submit_lead_form(uuid, text, text, jsonb, jsonb) is
  'Takes a submission of a form, once for each p_submission_id: captures the lead with its consents, and records the event form_submitted. Used by POST /forms/<token>. OP009 if the form does not exist or is not active.';

revoke execute on function brainops_internal.submit_lead_form(uuid, text, text, jsonb, jsonb) from public;
grant execute
on function brainops_internal.submit_lead_form(uuid, text, text, jsonb, jsonb)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;
