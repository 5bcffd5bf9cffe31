-- The variant that won a split; tenants may also decide and undo it by hand.

select brainops.protect_table('public.campaign_split_winners');
