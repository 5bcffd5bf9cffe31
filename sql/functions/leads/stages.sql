-- Stages of the pipeline: the names that clients use for them (normal_stage), which stage may follow which
-- (next_stages), and which of two is further (stage_rank).

-- Moving forwards, stages may be skipped. Only the steps back that occur in practice are allowed: a proposal is
-- withdrawn or revised. A lead never becomes new again. Won and lost end the pipeline, but an explicit update reopens
-- them as contacted or nurturing. A lost lead that pays becomes won, and a deal that was won can fall through.
create or replace function brainops.next_stages(p_stage text)
returns text[]
language sql
immutable
parallel safe
as $$
  select
    case p_stage
      when 'new' then '{contacted,qualified,proposal_sent,negotiating,won,lost,nurturing}'::text[]
      when 'contacted' then '{qualified,proposal_sent,negotiating,won,lost,nurturing}'
      when 'qualified' then '{contacted,proposal_sent,negotiating,won,lost,nurturing}'
      when 'proposal_sent' then '{qualified,negotiating,won,lost,nurturing}'
      when 'negotiating' then '{proposal_sent,won,lost,nurturing}'
      when 'nurturing' then '{contacted,qualified,proposal_sent,negotiating,won,lost}'
      when 'won' then '{lost,contacted,nurturing}'
      when 'lost' then '{won,contacted,nurturing}'
      else '{}'
    end;
$$;

comment on function brainops.next_stages(text) is
  'The stages that a lead in stage p_stage may move to; empty for an unknown stage. A lead may be inserted in any stage.';

revoke execute on function brainops.next_stages(text) from public;
grant execute
on function brainops.next_stages(text)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

-- Ignores case; spaces and hyphens count as underscores.
create or replace function brainops_internal.normal_stage(p_word text)
returns text
language sql
immutable
parallel safe
as $$
  select
    case pg_catalog.regexp_replace(pg_catalog.lower(pg_catalog.btrim(p_word)), '[\s-]+', '_', 'g')
      when 'new' then 'new'
      when 'new_real' then 'new'
      when 'enriched' then 'new'
      when 'open' then 'new'
      when 'contacted' then 'contacted'
      when 'outreach_enrolled' then 'contacted'
      when 'outreach_sent' then 'contacted'
      when 'replied' then 'contacted'
      when 'qualified' then 'qualified'
      when 'contact_ready' then 'qualified'
      when 'outreach_pending_approval' then 'qualified'
      when 'proposal_drafted' then 'qualified'
      when 'proposal_approved' then 'qualified'
      when 'proposal_sent' then 'proposal_sent'
      when 'proposal' then 'proposal_sent'
      when 'negotiating' then 'negotiating'
      when 'negotiation' then 'negotiating'
      when 'meeting_booked' then 'negotiating'
      when 'won' then 'won'
      when 'closed_won' then 'won'
      when 'won_invoice_pending' then 'won'
      when 'invoiced' then 'won'
      when 'paid' then 'won'
      when 'customer' then 'won'
      when 'lost' then 'lost'
      when 'closed_lost' then 'lost'
      when 'nurturing' then 'nurturing'
      when 'nurture' then 'nurturing'
    end;
$$;

comment on function brainops_internal.normal_stage(text) is
  'The stage that a client''s value stands for (WON, paid, invoiced: won; replied, outreach_sent: contacted; …); null if it is unknown.';

revoke execute on function brainops_internal.normal_stage(text) from public;
grant execute
on function brainops_internal.normal_stage(text)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

-- For merging two rows of one person, which keeps the further stage.
create or replace function brainops_internal.stage_rank(p_stage text)
returns int
language sql
immutable
parallel safe
as $$
  select
    pg_catalog.array_position(
      array['new', 'nurturing', 'contacted', 'qualified', 'proposal_sent', 'negotiating', 'lost', 'won'],
      p_stage
    );
$$;

comment on function brainops_internal.stage_rank(text) is
  'How far a stage is, from 1 (new) to 8 (won); lost is 7, further than negotiating. Null for an unknown stage.';

revoke execute on function brainops_internal.stage_rank(text) from public;
grant execute
on function brainops_internal.stage_rank(text)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;
