-- What prevents a version of a campaign from being published. Start at campaign_problems.

create or replace function brainops_internal.campaign_problems(p_campaign_id uuid, p_version int)
returns setof text
language plpgsql
stable
set search_path = ''
as $$
declare
  v_step public.campaign_steps;
  v_numbers int[];
  v_reached int[] := '{}';
  v_unknown text;
  v_path record;
  v_item jsonb;
  v_keys text[];
  v_start text;
begin
  select array_agg(step_number order by step_number) into v_numbers
    from public.campaign_steps where campaign_id = p_campaign_id and version = p_version;
  if v_numbers is null then
    return next format('version %s has no steps; insert them into campaign_steps, or copy those in force with brainops.revise_campaign', p_version);
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
    select string_agg(quote_literal(k), ', ') into v_unknown from jsonb_object_keys(v_step.config) as k where k <> all (v_keys);
    if v_unknown is not null then
      return next v_start || format('config has the unknown keys %s; known are %s', v_unknown, coalesce(nullif(array_to_string(v_keys, ', '), ''), 'none'));
    end if;

    if v_step.kind in ('send_email', 'send_sms') then
      if not exists (
        select from public.ai_campaign_templates as t
        where t.tenant_id = v_step.tenant_id and t.name = v_step.template
          and t.channel = case v_step.kind when 'send_email' then 'email' else 'sms' end
      ) then
        return next v_start || format('template %s does not exist in ai_campaign_templates for this channel', coalesce(quote_literal(v_step.template), 'null'));
      end if;
      if v_step.config ? 'high_priority_when' then
        return query select v_start || 'high_priority_when: ' || p from brainops_internal.condition_problems(v_step.config -> 'high_priority_when') as p;
      end if;
      if jsonb_typeof(coalesce(v_step.config -> 'variables', '{}')) <> 'object' then
        return next v_start || format('variables %s is not an object', v_step.config -> 'variables');
      end if;
      if jsonb_typeof(coalesce(v_step.config -> 'transactional', 'true')) <> 'boolean' then
        return next v_start || format('transactional %s is neither true nor false', v_step.config -> 'transactional');
      end if;
    elsif v_step.template is not null then
      return next v_start || format('template %s is given, but the step sends nothing', quote_literal(v_step.template));
    end if;

    if v_step.kind in ('wait', 'wait_for') and v_step.delay = '0' then
      return next v_start || 'delay is 0; set how long the step waits';
    end if;
    if v_step.kind = 'wait_for' then
      if not coalesce(v_step.config ->> 'event', '') ~ '^[a-z][a-z0-9_]{0,62}$' then
        return next v_start || format('event %s is not the name of an event (a-z, 0-9 and _, starting with a letter)', coalesce(quote_literal(v_step.config ->> 'event'), 'null'));
      end if;
      if coalesce(v_step.config ->> 'since', 'step') not in ('step', 'enrolment') then
        return next v_start || format('since %s is neither step nor enrolment', quote_literal(v_step.config ->> 'since'));
      end if;
    elsif v_step.kind = 'branch' then
      if jsonb_typeof(v_step.config -> 'when') is distinct from 'array' or v_step.config -> 'when' = '[]' then
        return next v_start || format('when %s is not a list of one or more {"if": condition, "to": step}', coalesce(left(v_step.config ->> 'when', 80), 'null'));
      elsif jsonb_array_length(v_step.config -> 'when') > 100 then
        return next v_start || format('when has %s items; at most 100 are allowed', jsonb_array_length(v_step.config -> 'when'));
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
        return next v_start || 'title is missing; set what the person has to do';
      end if;
      if coalesce(v_step.config ->> 'priority', 'normal') not in ('high', 'normal', 'low') then
        return next v_start || format('priority %s is unknown; expected high, normal or low', quote_literal(v_step.config ->> 'priority'));
      end if;
      if not brainops_internal.is_interval(coalesce(v_step.config ->> 'due_in', '1 day')) then
        return next v_start || format('due_in %s is not a positive interval of at most 100 years, such as 1 day', quote_literal(v_step.config ->> 'due_in'));
      end if;
    elsif v_step.kind = 'notify' and coalesce(btrim(v_step.config ->> 'subject'), '') = '' then
      return next v_start || 'subject is missing; set what the notification is about';
    end if;

    for v_path in select * from brainops_internal.step_paths(v_step.kind, v_step.config, v_step.next_step)
    loop
      if jsonb_typeof(v_path.target) <> 'number' or not v_path.target::numeric = any (v_numbers) then
        return next v_start || format('%s %s is not a step of this version', v_path.path, v_path.target);
      elsif v_path.target::numeric <= v_step.step_number then
        -- A step never happens twice, so no path leads back.
        return next v_start || format('%s %s is not a later step', v_path.path, v_path.target);
      elsif v_step.step_number = any (v_reached) then
        v_reached := v_reached || v_path.target::numeric::int;
      end if;
    end loop;
    -- A step without a target for every case also leads to the next number.
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
$$;

comment on function brainops_internal.campaign_problems(uuid, int) is
  'What prevents a version of a campaign from being published, one sentence each, naming step and value; no rows if nothing does.';

revoke execute on function brainops_internal.campaign_problems(uuid, int) from public;
grant execute
on function brainops_internal.campaign_problems(uuid, int)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

create or replace function brainops_internal.split_problems(p_config jsonb)
returns setof text
language plpgsql
stable
set search_path = ''
as $$
declare
  v_variant jsonb;
  v_winner jsonb := p_config -> 'winner';
begin
  if jsonb_typeof(p_config -> 'variants') is distinct from 'array' or jsonb_array_length(p_config -> 'variants') < 2 then
    return next format('variants %s is not a list of two or more {"name": …, "weight": …, "to": step}', coalesce(left(p_config ->> 'variants', 120), 'null'));
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
      return next format('weight %s of variant %s is not a whole number from 1 to 10000', coalesce(v_variant ->> 'weight', 'null'), coalesce(quote_literal(v_variant ->> 'name'), 'null'));
    end if;
  end loop;
  if (select count(distinct v ->> 'name') from jsonb_array_elements(p_config -> 'variants') as v) < jsonb_array_length(p_config -> 'variants') then
    return next 'two variants have the same name';
  end if;
  if v_winner is not null then
    if coalesce(v_winner ->> 'by', '') not in ('open', 'click', 'reply') then
      return next format('winner.by %s is unknown; expected open, click or reply', coalesce(quote_literal(v_winner ->> 'by'), 'null'));
    end if;
    if not v_winner ?| array['after_touches', 'after'] then
      return next 'winner has neither after_touches (touches of each variant) nor after (an interval)';
    end if;
    if not coalesce(v_winner ->> 'after_touches', '1') ~ '^[1-9][0-9]{0,6}$' then
      return next format('winner.after_touches %s is not a whole number from 1 to 9999999', v_winner ->> 'after_touches');
    end if;
    if not brainops_internal.is_interval(coalesce(v_winner ->> 'after', '1 day')) then
      return next format('winner.after %s is not a positive interval of at most 100 years, such as 7 days', quote_literal(v_winner ->> 'after'));
    end if;
  end if;
end;
$$;

comment on function brainops_internal.split_problems(jsonb) is
  'What is wrong with the config of a split, one sentence each; no rows if it is valid.';

revoke execute on function brainops_internal.split_problems(jsonb) from public;
grant execute
on function brainops_internal.split_problems(jsonb)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

create or replace function brainops_internal.step_paths(p_kind text, p_config jsonb, p_next_step int)
returns table (path text, target jsonb)
language sql
immutable
set search_path = ''
as $$
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

comment on function brainops_internal.step_paths(text, jsonb, int) is
  'Where a step may lead, besides the next number: the name of each path, and the step number that it names, as JSON and unchecked.';

revoke execute on function brainops_internal.step_paths(text, jsonb, int) from public;
grant execute
on function brainops_internal.step_paths(text, jsonb, int)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;
