-- For brainops.queue_health, which counts the failed events among 30 days of processed ones.
create index concurrently if not exists webhook_events_failed on public.webhook_events (tenant_id)
where status = 'failed';
