drop view if exists brainops.stuck_onboarding;

create view brainops.stuck_onboarding
with (security_invoker = true)
as
  select
    w.id as workflow_id,
    w.tenant_id,
    w.lead_id,
    s.id as step_id,
    s.step_number,
    s.step_name,
    case
      when s.id is null then format('no step is in progress: %s of %s steps exist', n.total, w.total_steps)
      when s.problem is not null then s.problem
      else 'overdue'
    end as reason,
    case
      when s.id is null then w.started_at
      when s.problem is not null then s.started_at
      else s.due_at
    end as since
  from
    public.ai_onboarding_workflows as w
    left join public.ai_onboarding_steps as s
      on s.tenant_id = w.tenant_id and s.workflow_id = w.id and s.status = 'in_progress'
    cross join lateral (
      select count(*) as total
      from public.ai_onboarding_steps as a
      where a.tenant_id = w.tenant_id and a.workflow_id = w.id
    ) as n
  where w.status = 'in_progress' and (s.id is null or s.problem is not null or s.due_at < brainops.now());

comment on view brainops.stuck_onboarding is
  'Onboardings in progress that need a person: a step is overdue, its mail was not sent, or no step is in progress. reason says which; since is the time when it began.';

grant select
on brainops.stuck_onboarding
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;
