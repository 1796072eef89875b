-- lock_log_store --
-- Let one process at a time open the log store, which creates it when it is not there; held until the transaction ends.
SELECT pg_advisory_xact_lock(hashtext('relevanced_log'));

-- take_turn --
-- Wait for the log store's other writers; the lock ends with the connection. Whoever holds it longer is stuck, and then
-- the wait ends with an error.
SELECT set_config('lock_timeout', '5s', false), pg_advisory_lock(hashtext('relevanced_log.turn'));
