-- What keeps the lake small: DuckLake writes a file, or rows in its catalog, for each commit, and removes nothing itself.

-- snapshots_before --
-- Snapshots that are older than $before and not among the `needed`; the newest is what the log is.
SELECT snapshot_id
  FROM ducklake_snapshots('lake') ANTI JOIN needed USING (snapshot_id)
 WHERE snapshot_time < $before AND snapshot_id < (SELECT max(snapshot_id) FROM ducklake_snapshots('lake'));

-- expire_snapshots --
-- Let them go; the files that only they read are noted for deletion.
CALL ducklake_expire_snapshots('lake', versions => $snapshot_ids);

-- flush_inlined --
-- Rows of small commits lie in the catalog; write them to files.
CALL ducklake_flush_inlined_data('lake');

-- rewrite_files --
-- Write files anew of which at least this share was deleted.
CALL ducklake_rewrite_data_files('lake', delete_threshold => $deleted_share);

-- merge_files --
-- Many small files become few.
CALL ducklake_merge_adjacent_files('lake');

-- clean_up_files --
-- Delete what was noted for deletion before; whoever reads it may take so long.
CALL ducklake_cleanup_old_files('lake', older_than => $before);

-- delete_orphans --
-- Delete what transactions left that were killed; one that is under way has younger files.
CALL ducklake_delete_orphaned_files('lake', older_than => $before);

-- drop_old_query --
-- What was typed before, or came in before whatever it says of its time; least passes over NULL.
DELETE FROM lake.query WHERE least("timestamp", received_at) < $before;

-- drop_old_impression --
-- What was shown before.
DELETE FROM lake.impression WHERE least("timestamp", received_at) < $before;

-- drop_old_click --
-- What was clicked before.
DELETE FROM lake.click WHERE least("timestamp", received_at) < $before;

-- drop_old_feedback --
-- What else was done before.
DELETE FROM lake.feedback WHERE least("timestamp", received_at) < $before;

-- drop_old_dead_letter --
-- What could not be read before.
DELETE FROM lake.dead_letter WHERE received_at < $before;
