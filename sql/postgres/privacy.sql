-- lock_privacy_keys --
-- One process at a time looks whether the key is old; held until the transaction ends.
SELECT pg_advisory_xact_lock(hashtext('relevanced.privacy_key'));

-- add_privacy_key --
-- A new key, where the newest is too old or there is none.
INSERT INTO relevanced.privacy_key (key)
SELECT %(key)s
 WHERE NOT EXISTS (SELECT FROM relevanced.privacy_key
                    WHERE created_at > now() - make_interval(days => %(key_days)s));

-- privacy_keys --
-- Every key, the one in use last.
SELECT key_number, key FROM relevanced.privacy_key ORDER BY key_number;

-- drop_privacy_keys --
-- Keys whose last row is too old to be kept; the one in use stays.
DELETE FROM relevanced.privacy_key AS old
 WHERE EXISTS (SELECT FROM relevanced.privacy_key AS next
                WHERE next.key_number > old.key_number AND next.created_at < %(before)s);

-- needed_snapshots --
-- The log as of which the open cycle mines or the last one did, from which the next goes on, and those of which versions
-- that may serve were trained.
(SELECT snapshot_id FROM relevanced.cycle WHERE snapshot_id IS NOT NULL ORDER BY cycle_id DESC LIMIT 1)
 UNION
SELECT (manifest->>'snapshot_id')::bigint
  FROM relevanced.version
 WHERE manifest->>'snapshot_id' IS NOT NULL
   AND (state IN ('prepared', 'verified') OR state = 'retired' AND model_dropped_at IS NULL
        OR version_id IN (SELECT unnest(ARRAY[live_version_id, previous_version_id]) FROM relevanced.serving));

-- trained_versions --
-- Every version that was trained, and the log as of which.
SELECT version_id, (manifest->>'snapshot_id')::bigint AS snapshot_id, created_at
  FROM relevanced.version WHERE manifest->>'snapshot_id' IS NOT NULL ORDER BY version_id;

-- mine_anew --
-- A cycle that has begun to mine takes a new snapshot: the old one is about to go.
UPDATE relevanced.cycle SET snapshot_id = NULL WHERE step = 'mine';

-- begin_forgetting --
-- Note what is about to be removed, so that an attempt that is killed is still accounted for; of whom is not said.
INSERT INTO relevanced.forgetting (removed_rows, version_ids) VALUES (%(removed_rows)s, %(version_ids)s);

-- end_forgetting --
-- All that was begun is done, and its versions.
UPDATE relevanced.forgetting SET ended_at = now() WHERE ended_at IS NULL RETURNING removed_rows, version_ids;

-- log_catalog_tables --
-- The tables of DuckLake's catalog.
SELECT tablename FROM pg_tables WHERE schemaname = 'relevanced_log';

-- vacuum_table --
-- Write a table anew without its dead rows, and the planner's samples of it.
VACUUM (FULL, ANALYZE) relevanced_log.{table};

-- vacuum_statistics --
-- The samples that were replaced are dead rows too. Only an owner of the database may; for others it is a warning.
VACUUM (FULL) pg_catalog.pg_statistic;

-- keep_no_old_log --
-- Postgres renames old segments of its log for later use, with what is in them; from now on it deletes them.
ALTER SYSTEM SET wal_recycle = off;

-- read_configuration --
-- Let the server see it.
SELECT pg_reload_conf();

-- switch_log --
-- Go on in a new segment of the log.
SELECT pg_switch_wal();

-- checkpoint --
-- After it no older segment is needed.
CHECKPOINT;

-- old_log_segments --
-- Segments of the log beside the one that is written to.
SELECT count(*) AS segments FROM pg_ls_waldir()
 WHERE name ~ '^[0-9A-F]{24}$' AND name <> pg_walfile_name(pg_current_wal_lsn());
