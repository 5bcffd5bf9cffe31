-- Splits: which variant an enrolment takes. Start at choose_variant. Variants are drawn by weight until one of them
-- has won; campaign_split_winners keeps the winner of each split.

-- Returns the winner, once one is decided; a winner that the step does not have is ignored. Until then the variant is
-- drawn by a hash of enrolment and step, so that it is the same each time.
create or replace function brainops_internal.choose_variant(
  p_enrolment public.ai_nurture_campaigns,
  p_step public.campaign_steps
)
returns jsonb
language plpgsql
set search_path = ''
as $$
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

comment on function brainops_internal.choose_variant(public.ai_nurture_campaigns, public.campaign_steps) is
  'The variant, an item of config.variants, that an enrolment takes. Also decides the winner, once there are enough touches or enough time has passed.';

revoke execute
on function brainops_internal.choose_variant(public.ai_nurture_campaigns, public.campaign_steps)
from public;
grant execute
on function brainops_internal.choose_variant(public.ai_nurture_campaigns, public.campaign_steps)
to brainops_system;

-- The rate of a variant is its hits (touches whose message was opened, clicked or replied to, as winner.by says)
-- divided by its touches; equal rates go to the higher weight.
create or replace function brainops_internal.leading_variant(
  p_step public.campaign_steps,
  out variant text,
  out figures jsonb
)
language plpgsql
stable
set search_path = ''
as $$
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

comment on function brainops_internal.leading_variant(public.campaign_steps) is
  'The variant with the best rate; null before after_touches or after is reached, or if no variant has a hit. figures: touches and hits of each variant.';

revoke execute on function brainops_internal.leading_variant(public.campaign_steps) from public;
grant execute on function brainops_internal.leading_variant(public.campaign_steps) to brainops_system;

create or replace function brainops_internal.split_key(p_step public.campaign_steps)
returns text
language sql
immutable
set search_path = ''
as $$
  select p_step.campaign_id || '/' || p_step.version || '/' || p_step.step_key;
$$;

comment on function brainops_internal.split_key(public.campaign_steps) is
  'The key under which touches and enrolments store the variant of a split: campaign/version/step_key.';

revoke execute on function brainops_internal.split_key(public.campaign_steps) from public;
grant execute on function brainops_internal.split_key(public.campaign_steps) to brainops_system;
