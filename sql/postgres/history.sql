-- versions --
-- Every version, the oldest first.
SELECT version_id, parent_version_id, state, directory, fingerprint, dimension, created_at, manifest, index_version_id,
       model_dropped_at
  FROM relevanced.version ORDER BY version_id;

-- serving_history --
-- What was live when, who changed it and why, the newest change first.
SELECT serving_history_id, changed_at, verb, live_version_id, previous_version_id, actor, reason, host
  FROM relevanced.serving_history ORDER BY serving_history_id DESC;

-- cycles --
-- Every cycle, the newest first.
SELECT * FROM relevanced.cycle ORDER BY cycle_id DESC;

-- steps --
-- The steps of one cycle in the order in which they began.
SELECT step, attempts, verdict, sentence, numbers, progress, started_at, ended_at
  FROM relevanced.cycle_step WHERE cycle_id = %(cycle_id)s ORDER BY started_at, step;

-- lock_versions --
-- One number at a time; readers, and changes of a version that is there, do not wait for long.
LOCK TABLE relevanced.version IN SHARE ROW EXCLUSIVE MODE;

-- register_version --
-- Take the next number for a version whose model is still to be made.
INSERT INTO relevanced.version (version_id, parent_version_id)
SELECT coalesce(max(version_id), 0) + 1, %(parent_version_id)s FROM relevanced.version
RETURNING version_id;

-- complete_version --
-- The files of a version's model are complete.
UPDATE relevanced.version
   SET directory = %(directory)s, fingerprint = %(fingerprint)s, dimension = %(dimension)s, manifest = %(manifest)s,
       index_version_id = %(index_version_id)s
 WHERE version_id = %(version_id)s;

-- note_metrics --
-- What the gate measured.
UPDATE relevanced.version SET manifest = manifest || jsonb_build_object('metrics', %(metrics)s::jsonb)
 WHERE version_id = %(version_id)s;

-- add_cost --
-- Add seconds to what a version has cost: by kind, and by where they were spent.
UPDATE relevanced.version
   SET manifest = manifest || jsonb_build_object('cost',
           coalesce(manifest->'cost', '{}') || jsonb_build_object(%(kind)s::text,
               coalesce(manifest->'cost'->%(kind)s::text, '{}') || jsonb_build_object(%(where)s::text,
                   round((coalesce((manifest->'cost'->%(kind)s::text->>%(where)s::text)::float8, 0)
                          + %(seconds)s)::numeric, 3))))
 WHERE version_id = %(version_id)s;

-- set_version_state --
-- How far a version has come. The live one cannot be rejected: it answers, and rollback is how it is replaced.
UPDATE relevanced.version SET state = %(state)s::relevanced.version_state
 WHERE version_id = %(version_id)s
   AND NOT (%(state)s::text = 'rejected' AND EXISTS (SELECT FROM relevanced.serving WHERE live_version_id = %(version_id)s));
