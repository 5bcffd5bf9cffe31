-- As in sql/0016, but that a rule which cannot be asked does not hold, and that a lead which had no source comes to fit
-- by getting one. All rules are asked at once; only where that fails, each by itself. The block around it writes
-- nothing, and so costs next to nothing.
create or replace function brainops_internal.route_lead(p_old public.revenue_leads, p_new public.revenue_leads)
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

alter function brainops_internal.route_lead(revenue_leads, revenue_leads) owner to brainops_system;
revoke execute on function brainops_internal.route_lead(revenue_leads, revenue_leads) from public;

create or replace function brainops_internal.rule_fits(p_rule public.campaign_rules, p_lead public.revenue_leads)
returns boolean
language sql
stable
set search_path = ''
as $$
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

comment on function brainops_internal.rule_fits(public.campaign_rules, public.revenue_leads) is
  'Whether a rule of campaign_rules is true of a lead as it is.';

revoke execute on function brainops_internal.rule_fits(campaign_rules, revenue_leads) from public;
grant execute on function brainops_internal.rule_fits(campaign_rules, revenue_leads) to brainops_system;

-- The tenant's rules that cannot be asked about this lead, each of which is told.
create or replace function brainops_internal.broken_rules(p_lead public.revenue_leads)
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

comment on function brainops_internal.broken_rules(public.revenue_leads) is
  'Rules of the lead''s tenant that cannot be asked about it; each is told to the tenant.';

alter function brainops_internal.broken_rules(revenue_leads) owner to brainops_system;
revoke execute on function brainops_internal.broken_rules(revenue_leads) from public;

-- Once for each condition. Where somebody else is telling it at this moment, a lead does not wait for that. Written to
-- the table, not by brainops.notify: the nightly scoring acts for no tenant.
create or replace function brainops_internal.report_broken_rule(p_rule public.campaign_rules, p_error text)
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

comment on function brainops_internal.report_broken_rule(public.campaign_rules, text) is
  'Tells the tenant, once for each condition, that a rule cannot be asked and takes nobody.';

alter function brainops_internal.report_broken_rule(campaign_rules, text) owner to brainops_system;
revoke execute on function brainops_internal.report_broken_rule(campaign_rules, text) from public;

create or replace function brainops_internal.after_lead_tier()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  perform brainops_internal.route_lead(case when tg_op = 'UPDATE' then old end, new);
  return null;
end;
$$;

alter function brainops_internal.after_lead_tier() owner to brainops_system;
revoke execute on function brainops_internal.after_lead_tier() from public;

-- A rule's condition was never looked at before it was asked: one that cannot be asked ({"event": "visited",
-- "within": "soon"}) failed every insert of a lead of its tenant, and the nightly scoring of all tenants. Now it is
-- refused where it is written, as in a step that is published; what condition_problems lets pass, condition_holds can
-- answer; and a rule that is stored already takes nobody, and is told to its tenant once.
create or replace function brainops_internal.before_campaign_rule()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
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

alter function brainops_internal.before_campaign_rule() owner to brainops_system;
revoke execute on function brainops_internal.before_campaign_rule() from public;
