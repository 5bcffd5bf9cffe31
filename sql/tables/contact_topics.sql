select brainops.protect_table('public.contact_topics');
