-- Leads: the people a tenant writes to. Stages, scores and their rules come with the revenue
-- pipeline; here is the table that mails refer to.
set local lock_timeout = '2s';

create table public.revenue_leads (
  id uuid primary key default gen_random_uuid(),
  tenant_id uuid not null references public.tenants (id),
  company_name text,
  contact_name text,
  email text,
  phone text,
  website text,
  stage text not null default 'new',
  score numeric not null default 0,
  value_estimate numeric,
  source text,
  time_zone text,
  metadata jsonb not null default '{}',
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  last_contact timestamptz,
  next_action text,
  next_action_date timestamptz,
  constraint revenue_leads_tenant_row unique (tenant_id, id),
  constraint revenue_leads_score_range check (score between 0 and 100),
  constraint revenue_leads_time_zone_known check (brainops.is_time_zone(time_zone)),
  constraint revenue_leads_metadata_is_object check (jsonb_typeof(metadata) = 'object')
);

create index revenue_leads_email on public.revenue_leads (tenant_id, lower(email));

comment on table public.revenue_leads is 'People and companies that may become customers of a tenant.';
comment on column public.revenue_leads.score is '0 (cold) to 100 (hot).';
comment on column public.revenue_leads.value_estimate is
  'What the deal may be worth, in the tenant''s currency; null for not known.';
comment on column public.revenue_leads.time_zone is 'IANA name; null for not known, then the tenant''s zone counts.';

select brainops.protect_table('public.revenue_leads');

create trigger touch_updated_at
before update on public.revenue_leads
for each row
execute function brainops.touch_updated_at();
