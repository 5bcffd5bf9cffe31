-- The plan of an onboarding: which steps it has. onboarding_steps_of gives the steps for a tenant and a template,
-- from onboarding_templates or the default.

create or replace function brainops_internal.onboarding_steps_of(p_tenant_id uuid, p_template text)
returns setof brainops.onboarding_plan
language plpgsql
stable
set search_path = ''
as $$
begin
  return query
    select t.step_number, t.step_name, t.description, t.duration, t.subject, t.body, t.advance_on, t.remind, t.remind_before, t.escalate_after
    from public.onboarding_templates as t
    where t.tenant_id = p_tenant_id and t.template = p_template
    order by t.step_number;
  if not found then
    return query
      select t.step_number, t.step_name, t.description, t.duration, t.subject, t.body, t.advance_on, t.remind, t.remind_before, t.escalate_after
      from public.onboarding_templates as t
      where t.tenant_id = p_tenant_id and t.template = 'default'
      order by t.step_number;
  end if;
  if not found then
    return query select * from brainops.default_onboarding_steps();
  end if;
end;
$$;

comment on function brainops_internal.onboarding_steps_of(uuid, text) is
  'The steps of a tenant''s template: those of onboarding_templates with this name, else those with the name default, else brainops.default_onboarding_steps().';

revoke execute on function brainops_internal.onboarding_steps_of(uuid, text) from public;
grant execute
on function brainops_internal.onboarding_steps_of(uuid, text)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

create or replace function brainops.default_onboarding_steps()
returns setof brainops.onboarding_plan
language sql
immutable
set search_path = ''
as $$
  values
    (
      1,
      'welcome_email',
      'Send welcome email and credentials',
      interval '1 day',
      'Welcome to {{ tenant.name }}',
      '<p>Hello{% if lead.contact_name %} {{ lead.contact_name }}{% endif %},</p>' || '<p>thank you for choosing {{ tenant.name }}. From here on we take it step by step:</p>' || '<ol><li>we collect what we need from you,</li><li>we set everything up,</li>' || '<li>we agree on a time to show you around,</li><li>and your first project begins.</li></ol>' || '<p>You don''t need to do anything now; we will write to you about each step. ' || 'If you have a question, reply to this email.</p><p>{{ tenant.name }}</p>',
      'email_sent',
      'nobody',
      interval '0',
      interval '0'
    ),
    (
      2,
      'data_collection',
      'Collect the customer''s data and requirements',
      interval '3 days',
      null,
      null,
      null,
      'owner',
      interval '1 day',
      interval '1 day'
    ),
    (
      3,
      'system_setup',
      'Set up the customer''s system and accounts',
      interval '5 days',
      null,
      null,
      null,
      'owner',
      interval '1 day',
      interval '1 day'
    ),
    (
      4,
      'training_schedule',
      'Schedule the training',
      interval '5 days',
      null,
      null,
      'meeting_booked',
      'owner',
      interval '1 day',
      interval '1 day'
    ),
    (
      5,
      'first_project',
      'Start the first project',
      interval '14 days',
      null,
      null,
      null,
      'owner',
      interval '2 days',
      interval '2 days'
    );
$$;

comment on function brainops.default_onboarding_steps is
  'The onboarding steps of tenants that have none in onboarding_templates. To change them, copy them there with your tenant_id and edit the copy.';

revoke execute on function brainops.default_onboarding_steps() from public;
grant execute
on function brainops.default_onboarding_steps()
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;
