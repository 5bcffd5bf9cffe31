-- A form's submission that was sent again took back what the person had said since: the event was written once, but the
-- lead and its consents were taken anew, so an old "yes" came after a later "no". Now what was taken once changes nothing.
-- Old workers go on meanwhile.
set local lock_timeout = '2s';

-- squawk-ignore require-concurrent-index-creation
create index lead_events_form_submitted on public.lead_events (tenant_id, source_key) where event = 'form_submitted';

create or replace function brainops.submit_lead_form(
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
    raise exception 'form: % is none, or is switched off', quote_literal(left(p_form, 80))
      using errcode = 'OP009', hint = 'select name, active from lead_forms';
  end if;
  -- The same one at the same moment waits here, and then finds the event.
  perform pg_advisory_xact_lock(hashtextextended('brainops.submit_lead_form:' || p_tenant_id || ':' || v_key, 0));
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
  perform brainops.record_lead_event(
    p_tenant_id, lead_id, 'form_submitted', 'web', null, v_key, jsonb_build_object('form', p_form, 'fields', p_lead)
  );
  return next;
end;
$$;
