-- lock_log_store --
-- Let one process at a time open the log store, which creates it when it is not there; held until the transaction ends.
SELECT pg_advisory_xact_lock(hashtext('relevanced_log'));
