-- What failed is counted by whoever looks at brainops.queue_health, among 30 days of events.
create index concurrently if not exists webhook_events_failed on public.webhook_events (tenant_id)
where status = 'failed';
