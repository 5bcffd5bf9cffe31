-- A circuit breaker opens on a sender that is away, not on one that refuses a few of many.
set local lock_timeout = '2s';

-- As in sql/0004, but that outcomes which are told together count by what most of them were: a
-- hundred rows with five failures among them opened it before.
create or replace function brainops.tell_breaker(p_sender text, p_succeeded int, p_failed int, p_error text)
returns void
language plpgsql
security definer
set search_path = ''
as $$
begin
  if p_succeeded > p_failed then
    -- Closes only when it is time: answers to rows that were under way when it opened, or when the
    -- sender asked to wait, do not end the wait.
    update brainops.circuit_breakers
    set
      failures = 0,
      opened_at = case when retry_at > brainops.now() then opened_at end,
      current_delay = case when retry_at > brainops.now() then current_delay end,
      probe_expires_at = case when retry_at > brainops.now() then probe_expires_at end,
      retry_at = case when retry_at > brainops.now() then retry_at end
    where sender = p_sender and (failures > 0 or retry_at <= brainops.now());
  elsif p_failed > 0 then
    insert into brainops.circuit_breakers as b (sender, failures, last_error)
    values (p_sender, p_failed, left(p_error, 500))
    on conflict (sender) do update
      set
        -- Successes beside the failures show that the sender is there: start to count anew.
        failures = case when p_succeeded > 0 then p_failed else b.failures + p_failed end,
        last_error = excluded.last_error;
    -- Opens at the threshold; an open one whose probe failed waits twice as long as before.
    update brainops.circuit_breakers
    set
      opened_at = coalesce(opened_at, brainops.now()),
      current_delay = least(coalesce(current_delay * 2, base_delay), max_delay),
      retry_at = brainops.now() + least(coalesce(current_delay * 2, base_delay), max_delay),
      probe_expires_at = null
    where sender = p_sender
      and case
        when opened_at is null then failures >= threshold
        -- Rows that were under way when it opened count, but only a probe's failure prolongs it.
        else probe_expires_at is not null and retry_at <= brainops.now()
      end;
  else
    -- The row that probed never reached the sender: another may.
    update brainops.circuit_breakers
    set probe_expires_at = null
    where sender = p_sender and probe_expires_at is not null;
  end if;
end;
$$;

comment on function brainops.tell_breaker(text, int, int, text) is
  'Counts successes and failures of a sender; opens its breaker at the threshold, closes it on success. Told together they count by what most of them were.';
