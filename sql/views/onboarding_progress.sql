drop view if exists brainops.onboarding_progress;

create view brainops.onboarding_progress
with (security_invoker = true)
as
  select
    w.id as workflow_id,
    w.tenant_id,
    w.lead_id,
    l.contact_name,
    l.company_name,
    w.status,
    w.current_step,
    c.step_name as current_step_name,
    c.due_at,
    coalesce(c.due_at < brainops.now() and w.status = 'in_progress' and c.status = 'in_progress', false) as overdue,
    w.total_steps,
    n.closed as closed_steps,
    case
      when w.total_steps = 0 then 0
      else least(100, round(100.0 * n.closed / w.total_steps))::int
    end as percent,
    w.started_at,
    w.completed_at
  from
    public.ai_onboarding_workflows as w
    inner join public.revenue_leads as l on l.tenant_id = w.tenant_id and l.id = w.lead_id
    left join public.ai_onboarding_steps as c
      on c.tenant_id = w.tenant_id and c.workflow_id = w.id and c.step_number = w.current_step
    cross join lateral (
      select count(*) filter (where s.status in ('completed', 'skipped', 'cancelled'))::int as closed
      from public.ai_onboarding_steps as s
      where s.tenant_id = w.tenant_id and s.workflow_id = w.id
    ) as n;

comment on view brainops.onboarding_progress is
  'Each onboarding with its current step, that step''s due date, whether it is overdue, and how many steps are closed.';

grant select
on brainops.onboarding_progress
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;
