-- Conditions of branch steps, of high_priority_when and of campaign_rules: JSON that condition_problems checks when it
-- is written, and that condition_holds evaluates for a lead. A condition without problems can be evaluated for every
-- lead without an error (test/campaigns/conditions.test.ts).

-- Never returns null, which a list of conditions would take as true: a comparison with a missing value is false. Never
-- raises an error because of a lead's fields: comparing text with a number is false. p_since: from when events count,
-- unless the condition says within.
create or replace function brainops_internal.condition_holds(
  p_condition jsonb,
  p_lead public.revenue_leads,
  p_since timestamptz
)
returns boolean
language plpgsql
stable
security definer
set search_path = ''
as $$
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
        -- An event that was reported late counts from the time of the report.
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
        -- A cast of text that is not a number would fail the nightly scoring.
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
$$;

comment on function brainops_internal.condition_holds(jsonb, public.revenue_leads, timestamptz) is
  'Whether a condition is true for a lead now; never null. Events count from p_since on, unless the condition says within.';

alter function brainops_internal.condition_holds(jsonb, public.revenue_leads, timestamptz) owner to brainops_system;
revoke execute on function brainops_internal.condition_holds(jsonb, public.revenue_leads, timestamptz) from public;

create or replace function brainops_internal.condition_problems(p_condition jsonb)
returns setof text
language plpgsql
stable
set search_path = ''
as $$
declare
  -- Each part is a query when the condition is evaluated, and a rule's condition is evaluated for each new lead.
  c_most_parts constant int := 100;
  c_most_bytes constant int := 65536;
  v_parts int;
begin
  if pg_column_size(p_condition) > c_most_bytes then
    return next format('the condition has %s bytes; at most %s are allowed', pg_column_size(p_condition), c_most_bytes);
    return;
  end if;
  select count(*) into v_parts from jsonb_path_query(p_condition, 'strict $.** ? (@.type() == "object")');
  if v_parts > c_most_parts then
    return next format('the condition has %s parts; at most %s are allowed', v_parts, c_most_parts);
    return;
  end if;
  return query select brainops_internal.condition_problems(p_condition, 0);
end;
$$;

comment on function brainops_internal.condition_problems(jsonb) is
  'What is wrong with a condition, one sentence each; no rows if it is valid. At most 100 parts. Forms: {"all": […]}, {"any": […]}, {"not": …}, {"field": "score", "op": ">=", "value": 80}, {"event": "email_clicked", "within": "7 days", "at_least": 2, "channel": "email"}.';

revoke execute on function brainops_internal.condition_problems(jsonb) from public;
grant execute
on function brainops_internal.condition_problems(jsonb)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

-- The limit of the depth keeps the recursion of condition_holds within the stack.
create or replace function brainops_internal.condition_problems(p_condition jsonb, p_depth int)
returns setof text
language plpgsql
stable
set search_path = ''
as $$
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
    return next format('condition %s is not an object; expected one with all, any, not, field or event', coalesce(left(p_condition::text, 80), 'null'));
    return;
  elsif p_depth > c_deepest then
    return next format('condition %s is nested in more than %s others', left(p_condition::text, 80), c_deepest);
    return;
  end if;

  if p_condition ?| array['all', 'any'] then
    v_key := case when p_condition ? 'all' then 'all' else 'any' end;
    if jsonb_typeof(p_condition -> v_key) <> 'array' or p_condition -> v_key = '[]' then
      return next format('%s %s is not a list of one or more conditions', v_key, left((p_condition -> v_key)::text, 80));
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
      return next format('value %s is not a list, which op in requires', coalesce(left((p_condition -> 'value')::text, 80), 'null'));
    elsif p_condition ->> 'op' in ('<', '<=', '>', '>=') and jsonb_typeof(p_condition -> 'value') is distinct from 'number' then
      return next format('value %s is not a number, which op %s requires', coalesce(left((p_condition -> 'value')::text, 80), 'null'), p_condition ->> 'op');
    elsif p_condition ->> 'op' = 'exists' and jsonb_typeof(coalesce(p_condition -> 'value', 'true')) <> 'boolean' then
      return next format('value %s is neither true nor false, which op exists requires', left((p_condition -> 'value')::text, 80));
    elsif not p_condition ? 'value' and p_condition ->> 'op' is distinct from 'exists' then
      return next format('field %s has no value to compare with; give value', coalesce(quote_literal(left(p_condition ->> 'field', 80)), 'null'));
    end if;
  elsif p_condition ? 'event' then
    if not coalesce(p_condition ->> 'event', '') ~ '^[a-z][a-z0-9_]{0,62}$' then
      return next format('event %s is not the name of an event (a-z, 0-9 and _, starting with a letter)', coalesce(quote_literal(left(p_condition ->> 'event', 80)), 'null'));
    end if;
    if p_condition ? 'within' and not brainops_internal.is_interval(p_condition ->> 'within') then
      return next format('within %s is not a positive interval of at most 100 years, such as 7 days', coalesce(quote_literal(left(p_condition ->> 'within', 80)), 'null'));
    end if;
    if not coalesce(p_condition ->> 'at_least', '1') ~ '^[1-9][0-9]{0,5}$' then
      return next format('at_least %s is not a whole number from 1 to 999999', left((p_condition -> 'at_least')::text, 80));
    end if;
  else
    return next format('condition %s has none of the keys all, any, not, field and event', left(p_condition::text, 80));
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
    return next format('key %s is unknown in condition %s', quote_literal(left(v_key, 80)), left(p_condition::text, 80));
  end loop;
end;
$$;

comment on function brainops_internal.condition_problems(jsonb, int) is
  'The same for a condition that is nested in p_depth others.';

revoke execute on function brainops_internal.condition_problems(jsonb, int) from public;
grant execute
on function brainops_internal.condition_problems(jsonb, int)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;
