select brainops.protect_table('public.campaign_split_winners');
