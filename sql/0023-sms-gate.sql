-- Text messages under the rules of sql/0014: what they need of them, and their gate.
set local lock_timeout = '2s';

alter table public.ai_sms_queue add column first_due_at timestamptz;

comment on column public.ai_sms_queue.first_due_at is
  'When the text was due before the engine first put it off; null while it never did. A move by a client, or running it again, starts anew.';

revoke insert (first_due_at), update (first_due_at) on public.ai_sms_queue from brainops_tenant, brainops_service;

-- What counts against a cap: marketing that went, or may have gone.
create index ai_sms_queue_contacted_lead on public.ai_sms_queue (tenant_id, lead_id, started_at)
where is_marketing and lead_id is not null and status in ('processing', 'completed', 'unconfirmed');
create index ai_sms_queue_contacted_address on public.ai_sms_queue (tenant_id, recipient, started_at)
where is_marketing and status in ('processing', 'completed', 'unconfirmed');

create trigger b2_keep_first_due
before update of scheduled_for, status on public.ai_sms_queue
for each row
when
  (
    old.is_marketing
    and new.status = 'pending'
    and (old.scheduled_for is distinct from new.scheduled_for or old.status not in ('pending', 'processing'))
  )
execute function brainops.keep_first_due();

create function brainops.gate_sms(p_ids uuid[])
returns setof brainops.verdict
language sql
volatile
set search_path = ''
as $$
  select v.*
  from
    brainops.contact_verdicts(
      'sms',
      (
        select
          array_agg(
            row(
              q.id,
              q.tenant_id,
              q.lead_id,
              brainops.sms_address(q),
              q.is_marketing,
              q.enrolment_id,
              q.recipient,
              coalesce(q.first_due_at, q.scheduled_for),
              q.metadata ->> 'expires_at'
            )::brainops.contact
            order by q.job_priority, q.scheduled_for, q.id
          )
        from public.ai_sms_queue as q
        where q.id = any (p_ids)
      )
    ) as v;
$$;

comment on function brainops.gate_sms(uuid[]) is
  'Which of the texts may not go now: the rules of brainops.contact_verdicts.';

revoke execute on function brainops.gate_sms(uuid[]) from public;
grant execute on function brainops.gate_sms(uuid[]) to brainops_worker;
