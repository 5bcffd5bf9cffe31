-- Rules (campaign_rules): leads that come to fit a rule are enrolled in its campaign. Start at route_lead, which the
-- trigger after_lead_tier calls for each lead that is inserted or changed.

-- A rule applies if the lead fits it now and did not before. rule_fits may be null, for example without a source,
-- which counts as not fitting. All rules are evaluated in one query. Only if that fails is each evaluated by itself,
-- and those that fail do not apply. The block with the exception handler writes nothing, so it costs next to nothing.
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
          -- The lead that is being merged into this one keeps its enrolment, which continues for this lead.
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

comment on function brainops_internal.route_lead(public.revenue_leads, public.revenue_leads) is
  'Enrols a lead in the active campaigns whose rules it has come to fit, and ends the enrolments in the campaigns that these rules name in leaves. p_old: the lead before the change; null for a new lead.';

alter function brainops_internal.route_lead(public.revenue_leads, public.revenue_leads) owner to brainops_system;
revoke execute on function brainops_internal.route_lead(public.revenue_leads, public.revenue_leads) from public;

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

comment on function brainops_internal.after_lead_tier is
  'Trigger of revenue_leads after insert or update: applies the tenant''s rules to the lead.';

alter function brainops_internal.after_lead_tier() owner to brainops_system;
revoke execute on function brainops_internal.after_lead_tier() from public;

create or replace function brainops_internal.rule_fits(p_rule public.campaign_rules, p_lead public.revenue_leads)
returns boolean
language sql
stable
set search_path = ''
as $$
  select
    -- Until a lead is scored, its tier means nothing.
    (p_rule.tiers is null or (p_lead.scored_at is not null and p_lead.tier = any (p_rule.tiers)))
    and case
      when p_rule.stages is null then p_lead.stage not in ('won', 'lost')
      else p_lead.stage = any (p_rule.stages)
    end
    and (p_rule.sources is null or p_lead.source = any (p_rule.sources))
    and (p_rule.condition is null or brainops_internal.condition_holds(p_rule.condition, p_lead, '-infinity'));
$$;

comment on function brainops_internal.rule_fits(public.campaign_rules, public.revenue_leads) is
  'Whether a lead fits a rule: its tiers, stages, sources and condition, as far as they are set. Without stages, a lead that is won or lost does not fit.';

revoke execute on function brainops_internal.rule_fits(public.campaign_rules, public.revenue_leads) from public;
grant execute on function brainops_internal.rule_fits(public.campaign_rules, public.revenue_leads) to brainops_system;

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
  'Ids of the active rules of the lead''s tenant whose condition raises an error for this lead; each is reported to the tenant.';

alter function brainops_internal.broken_rules(public.revenue_leads) owner to brainops_system;
revoke execute on function brainops_internal.broken_rules(public.revenue_leads) from public;

-- Does not wait for another transaction that is reporting the same condition at this moment, nor for one that is
-- changing the rule: it skips the rule's row if that is locked, and the next lead reports it. Inserts into the table
-- rather than by brainops.notify, because the nightly scoring acts for no tenant.
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
  ) then
    return;
  end if;
  perform from public.campaign_rules
    where tenant_id = p_rule.tenant_id and id = p_rule.id
    for no key update skip locked;
  if not found then
    return;
  end if;
  insert into public.tenant_notifications (tenant_id, subject, body, idempotency_key, scheduled_for)
  values (
    p_rule.tenant_id,
    left(regexp_replace(format('Campaign rule %L cannot be evaluated', p_rule.name), '\s+', ' ', 'g'), 300),
    left(
      format(
        E'Campaign rule %L enrols no lead, because its condition cannot be evaluated: %s.\n\nCorrect the condition in campaign_rules. Leads that come to fit the rule after that are enrolled.',
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
  'Notifies the tenant, once for each condition, that a rule enrols no lead because its condition cannot be evaluated.';

alter function brainops_internal.report_broken_rule(public.campaign_rules, text) owner to brainops_system;
revoke execute on function brainops_internal.report_broken_rule(public.campaign_rules, text) from public;

-- A condition that cannot be evaluated, such as {"event": "visited", "within": "soon"}, would fail every insert of a
-- lead of its tenant, and the nightly scoring of all tenants. So it is refused when it is written, as in a step when it
-- is published. If a stored condition still fails, its rule enrols no lead and the tenant is notified
-- (report_broken_rule).
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
    raise exception 'campaign_rules: the condition of rule % is not valid: %', quote_literal(left(new.name, 120)), v_problems
      using errcode = 'OP022', column = 'condition', hint = 'Correct the condition, which has the form of a condition of a branch step, and write the rule again.';
  end if;
  return new;
end;
$$;

comment on function brainops_internal.before_campaign_rule is
  'Trigger of campaign_rules before its condition is written or the rule is switched on: OP022 if the condition is not valid.';

alter function brainops_internal.before_campaign_rule() owner to brainops_system;
revoke execute on function brainops_internal.before_campaign_rule() from public;
