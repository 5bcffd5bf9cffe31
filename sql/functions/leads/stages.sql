-- Words that clients write -> our stages. Spaces and hyphens are as underscores. Null for a word
-- that nobody knows.
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
  'The stage that a word means (WON, paid, invoiced: won; replied, outreach_sent: contacted; …); null for an unknown word.';

revoke execute on function brainops_internal.normal_stage(text) from public;
grant execute
on function brainops_internal.normal_stage(text)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

-- The stage machine. Forwards one may skip; backwards leads only what really happens: a proposal is
-- withdrawn or made anew. Nothing becomes new again. Won and lost end it; by an explicit update they
-- open again as contacted or nurturing. Who pays has won, whatever was thought of him before; and a
-- deal that was won can fall through.
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
  'The stages that a lead may go to from this one. A lead may be inserted at any.';

revoke execute on function brainops.next_stages(text) from public;
grant execute
on function brainops.next_stages(text)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

-- How far a stage is, for merging two rows of one person: the further one holds.
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
  'How far a stage is along the way, from 1; lost counts as further than negotiating.';

revoke execute on function brainops_internal.stage_rank(text) from public;
grant execute
on function brainops_internal.stage_rank(text)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

create or replace function brainops_internal.is_yes(p_word text)
returns boolean
language sql
immutable
parallel safe
set search_path = ''
as $$
  select coalesce(lower(btrim(p_word)) in ('true', 't', 'yes', 'y', '1', 'on', 'x', 'ja', 'si', 'oui'), false);
$$;

comment on function brainops_internal.is_yes(text) is
  'Whether a word of a form or a file means yes; false for null and for anything else.';

revoke execute on function brainops_internal.is_yes(text) from public;
grant execute
on function brainops_internal.is_yes(text)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

-- Mail services where people have an address without having a company.
create or replace function brainops_internal.is_free_mail(p_domain text)
returns boolean
language sql
immutable
parallel safe
set search_path = ''
as $$
  select
    p_domain ~ '^(gmail|googlemail|icloud|me|mac|aol|aim|msn|proton|protonmail|pm|fastmail|hey|zoho|tutanota|tuta|mail|email|inbox|comcast|verizon|att|sbcglobal|bellsouth|cox|charter|earthlink|qq|163|126|sina|foxmail|rediffmail|naver|hanmail|web|freenet|t-online|arcor|posteo|orange|wanadoo|free|laposte|libero|virgilio|seznam|wp|o2|bk|list|ya|rambler|uol|terra|bigpond|optusnet|btinternet|ntlworld|sky|talktalk|shaw|rogers|telus|sympatico)\.(com|net|org|de|fr|it|cz|pl|ru|co\.uk|uk|ca|me|us|kr|cn|com\.br|com\.au|net\.au)$'
    or p_domain ~ '^(yahoo|ymail|rocketmail|hotmail|outlook|live|gmx|yandex)\.([a-z]{2,3}|com?\.[a-z]{2})$';
$$;

comment on function brainops_internal.is_free_mail(text) is
  'Whether the domain is a mail service for everybody (gmail.com, yahoo.*, outlook.*, gmx.*, …).';

revoke execute on function brainops_internal.is_free_mail(text) from public;
grant execute
on function brainops_internal.is_free_mail(text)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;
