-- A rule's condition was never looked at before it was asked: one that cannot be asked ({"event": "visited",
-- "within": "soon"}) failed every insert of a lead of its tenant, and the nightly scoring of all tenants. Now it is
-- refused where it is written, as in a step that is published; what condition_problems lets pass, condition_holds can
-- answer; and a rule that is stored already takes nobody, and is told to its tenant once.
set local lock_timeout = '2s';

-- Adding more than this to an instant may lead past the end of time.
create or replace function brainops.is_interval(p_text text)
returns boolean
language plpgsql
stable
set search_path = ''
as $$
begin
  return coalesce(p_text::interval > '0' and p_text::interval <= '100 years', false);
exception
  when data_exception then return false;
end;
$$;

comment on function brainops.is_interval(text) is
  'Whether the text spells a positive interval of at most 100 years, such as 7 days.';

-- As in sql/0016, but that exists asks for true or false, nulls are named as well, and conditions are not nested so
-- deep that asking them would need more of the stack than there is. p_depth: how deep this one lies.
create function brainops.condition_problems(p_condition jsonb, p_depth int)
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
      return query select brainops.condition_problems(v_part, p_depth + 1);
    end loop;
  elsif p_condition ? 'not' then
    v_key := 'not';
    return query select brainops.condition_problems(p_condition -> 'not', p_depth + 1);
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
    if p_condition ? 'within' and not brainops.is_interval(p_condition ->> 'within') then
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
$$;

create or replace function brainops.condition_problems(p_condition jsonb)
returns setof text
language sql
stable
set search_path = ''
as $$
  select brainops.condition_problems(p_condition, 0);
$$;

-- As in sql/0016, but that it is never null, which a list of conditions took as true; and that a lead's own words,
-- however many digits they have, are no error.
create or replace function brainops.condition_holds(p_condition jsonb, p_lead public.revenue_leads, p_since timestamptz)
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
      if not brainops.condition_holds(v_part, p_lead, p_since) then
        return false;
      end if;
    end loop;
    return true;
  elsif p_condition ? 'any' then
    for v_part in select * from jsonb_array_elements(p_condition -> 'any')
    loop
      if brainops.condition_holds(v_part, p_lead, p_since) then
        return true;
      end if;
    end loop;
    return false;
  elsif p_condition ? 'not' then
    return not brainops.condition_holds(p_condition -> 'not', p_lead, p_since);
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
$$;

-- The rules themselves ----------------------------------------------------------------------------

create function brainops.before_campaign_rule()
returns trigger
language plpgsql
set search_path = ''
as $$
declare
  v_problems text;
begin
  select string_agg(p, '; ') into v_problems from brainops.condition_problems(new.condition) as p;
  if v_problems is not null then
    raise exception 'campaign_rules: rule % cannot be asked: %', quote_literal(left(new.name, 120)), v_problems
      using errcode = 'OP022', column = 'condition', hint = 'Mend its condition, which speaks the language of branch steps, and write the rule again.';
  end if;
  return new;
end;
$$;

create trigger b0_before_campaign_rule
before insert on public.campaign_rules
for each row
when (new.condition is not null)
execute function brainops.before_campaign_rule();
-- One that is stored already may be renamed and switched off, but not on.
create trigger b1_before_campaign_rule
before update on public.campaign_rules
for each row
when (new.condition is not null and (old.condition is distinct from new.condition or (new.active and not old.active)))
execute function brainops.before_campaign_rule();

-- Once for each condition. Where somebody else is telling it at this moment, a lead does not wait for that. Written to
-- the table, not by brainops.notify: the nightly scoring acts for no tenant.
create function brainops.tell_broken_rule(p_rule public.campaign_rules, p_error text)
returns void
language plpgsql
security definer
set search_path = ''
as $$
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
        coalesce((select string_agg(p, '; ') from brainops.condition_problems(p_rule.condition) as p), p_error)
      ),
      20000
    ),
    c_key,
    brainops.now()
  )
  on conflict (tenant_id, idempotency_key) where idempotency_key is not null do nothing;
end;
$$;

-- The tenant's rules that cannot be asked about this lead, each of which is told.
create function brainops.broken_rules(p_lead public.revenue_leads)
returns uuid[]
language plpgsql
security definer
set search_path = ''
as $$
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
      perform brainops.condition_holds(v_rule.condition, p_lead, '-infinity');
    exception
      when data_exception or program_limit_exceeded then
        v_broken := v_broken || v_rule.id;
        perform brainops.tell_broken_rule(v_rule, sqlerrm);
    end;
  end loop;
  return v_broken;
end;
$$;

-- As in sql/0016, but that a rule which cannot be asked does not hold, and that a lead which had no source comes to fit
-- by getting one. All rules are asked at once; only where that fails, each by itself. The block around it writes
-- nothing, and so costs next to nothing.
create or replace function brainops.route_lead(p_old public.revenue_leads, p_new public.revenue_leads)
returns void
language plpgsql
security definer
set search_path = ''
as $$
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
            else brainops.rule_fits(r, p_new) and (p_old.id is null or brainops.rule_fits(r, p_old) is not true)
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
        v_broken := brainops.broken_rules(p_new) || brainops.broken_rules(p_old);
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

alter function brainops.tell_broken_rule(public.campaign_rules, text) owner to brainops_system;
alter function brainops.broken_rules(public.revenue_leads) owner to brainops_system;

comment on function brainops.condition_problems(jsonb, int) is
  'The same about a condition that lies in p_depth others.';
comment on function brainops.tell_broken_rule(public.campaign_rules, text) is
  'Tells the tenant, once for each condition, that a rule cannot be asked and takes nobody.';
comment on function brainops.broken_rules(public.revenue_leads) is
  'Rules of the lead''s tenant that cannot be asked about it; each is told to the tenant.';

revoke execute
on function brainops.condition_problems(jsonb, int),
brainops.before_campaign_rule(),
brainops.tell_broken_rule(public.campaign_rules, text),
brainops.broken_rules(public.revenue_leads)
from public;
grant execute
on function brainops.condition_problems(jsonb, int)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;
grant execute
on function brainops.tell_broken_rule(public.campaign_rules, text), brainops.broken_rules(public.revenue_leads)
to brainops_system;
