-- The mail that a step sends when it starts. after_onboarding_step (steps.sql) queues it; its result comes back to
-- the step here.

-- An error here must not roll back the mail's result, so it becomes a warning. Transient errors, such as a deadlock,
-- are raised: then the settlement is retried.
create or replace function brainops_internal.after_onboarding_mail()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  if new.status = 'completed' then
    update public.ai_onboarding_steps
    set
      status = case when advance_on = 'email_sent' then 'completed' else status end,
      problem = null
    where tenant_id = new.tenant_id and email_id = new.id and status = 'in_progress';
  else
    update public.ai_onboarding_steps
    set problem = case
      when new.status in ('failed', 'skipped', 'cancelled', 'unconfirmed')
        then format('its mail is %s: %s', new.status, coalesce(new.skip_reason, new.last_error, 'no reason given'))
    end
    where tenant_id = new.tenant_id and email_id = new.id and status = 'in_progress';
  end if;
  return null;
exception
  when serialization_failure or deadlock_detected or lock_not_available or query_canceled then
    raise;
  when others then
    raise warning 'onboarding: the step of mail % could not be updated: %', new.id, sqlerrm;
    return null;
end;
$$;

comment on function brainops_internal.after_onboarding_mail is
  'Trigger after update on ai_email_queue: completes a step with advance_on email_sent once its mail was sent, and shows in problem why a mail was not sent.';

alter function brainops_internal.after_onboarding_mail() owner to brainops_system;
revoke execute on function brainops_internal.after_onboarding_mail() from public;

-- A mail that was only cancelled with its step is queued again. For any other result of an earlier start, the step
-- shows the problem again.
create or replace function brainops_internal.wake_onboarding_mail(p_step public.ai_onboarding_steps)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_mail public.ai_email_queue;
  v_problem text;
begin
  update public.ai_email_queue
  set status = 'pending'
  where tenant_id = (p_step).tenant_id and id = (p_step).email_id and status = 'cancelled' and sent_at is null;
  if found then
    return;
  end if;
  select * into v_mail from public.ai_email_queue where tenant_id = (p_step).tenant_id and id = (p_step).email_id;
  if v_mail.status in ('failed', 'skipped', 'unconfirmed') then
    v_problem := format('its mail is %s: %s', v_mail.status, coalesce(v_mail.skip_reason, v_mail.last_error, 'no reason given'));
  elsif v_mail.id is null and not exists (
    select from brainops.job_archive as a
    where a.tenant_id = (p_step).tenant_id and a.row_id = (p_step).email_id and a.status = 'completed'
  ) then
    v_problem := 'its mail was not sent and is no longer in the queue: write to the lead, then complete the step';
  end if;
  if v_problem is not null then
    update public.ai_onboarding_steps set problem = v_problem where tenant_id = (p_step).tenant_id and id = (p_step).id;
  end if;
end;
$$;

comment on function brainops_internal.wake_onboarding_mail(public.ai_onboarding_steps) is
  'Queues the cancelled mail of a step that starts again; if that is not possible, sets the step''s problem.';

revoke execute on function brainops_internal.wake_onboarding_mail(public.ai_onboarding_steps) from public;
grant execute on function brainops_internal.wake_onboarding_mail(public.ai_onboarding_steps) to brainops_system;
