select brainops.protect_table('public.lead_forms');
