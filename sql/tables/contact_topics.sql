-- Topics of the preference page, written by their tenant.
select brainops.protect_table('public.contact_topics');
