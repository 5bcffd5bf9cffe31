-- Forms that may post leads.
select brainops.protect_table('public.lead_forms');
