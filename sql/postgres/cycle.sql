-- begin_cycle --
-- Begin a cycle. No row comes back while another one is open: cycle_one_at_a_time forbids two.
INSERT INTO relevanced.cycle (trigger) VALUES (%(trigger)s)
ON CONFLICT DO NOTHING
RETURNING cycle_id;

-- open_cycle --
-- The cycle that has not ended, if there is one.
SELECT * FROM relevanced.cycle WHERE ended_at IS NULL;

-- cycle --
-- One cycle.
SELECT * FROM relevanced.cycle WHERE cycle_id = %(cycle_id)s;

-- last_cycle --
-- The youngest cycle that has ended.
SELECT * FROM relevanced.cycle WHERE ended_at IS NOT NULL ORDER BY cycle_id DESC LIMIT 1;

-- begin_step --
-- Begin a step, or begin it again after its process died; the number of attempts tells which.
INSERT INTO relevanced.cycle_step (cycle_id, step) VALUES (%(cycle_id)s, %(step)s)
ON CONFLICT (cycle_id, step) DO UPDATE SET attempts = relevanced.cycle_step.attempts + 1, progress = NULL
RETURNING attempts;

-- take_back_attempt --
-- An attempt that was asked to stop, or to wait, does not count.
UPDATE relevanced.cycle_step SET attempts = attempts - 1
 WHERE cycle_id = %(cycle_id)s AND step = %(step)s AND verdict IS NULL AND attempts > 0;

-- note_progress --
-- How far the running step is, for who watches from outside.
UPDATE relevanced.cycle_step SET progress = %(progress)s
 WHERE cycle_id = %(cycle_id)s AND step = %(step)s AND verdict IS NULL;

-- end_step --
-- The step's sentence and numbers.
UPDATE relevanced.cycle_step
   SET verdict = %(verdict)s, sentence = %(sentence)s, numbers = %(numbers)s, progress = NULL, ended_at = now()
 WHERE cycle_id = %(cycle_id)s AND step = %(step)s;

-- move_cycle --
-- On to the next step; the last one ends the cycle.
UPDATE relevanced.cycle
   SET step = %(next_step)s::relevanced.cycle_step_name, sentence = %(sentence)s,
       ended_at = CASE WHEN %(next_step)s::relevanced.cycle_step_name = 'ended' THEN now() END
 WHERE cycle_id = %(cycle_id)s AND step = %(step)s;

-- note_snapshot --
-- The log as of which this cycle mines, however often the step is begun.
UPDATE relevanced.cycle SET snapshot_id = coalesce(snapshot_id, %(snapshot_id)s) WHERE cycle_id = %(cycle_id)s
RETURNING snapshot_id;

-- note_judged_queries --
-- How many clicked queries this cycle knew; the scheduler counts on from here.
UPDATE relevanced.cycle SET judged_queries = %(judged_queries)s WHERE cycle_id = %(cycle_id)s;

-- replace_candidate --
-- The gate found a candidate of an earlier cycle better, once it could ask enough queries.
UPDATE relevanced.cycle SET candidate_version_id = %(version_id)s WHERE cycle_id = %(cycle_id)s;

-- note_candidate --
-- The version that this cycle trains; a step begun again goes on with the same.
UPDATE relevanced.cycle SET candidate_version_id = %(version_id)s
 WHERE cycle_id = %(cycle_id)s AND candidate_version_id IS NULL;

-- note_adapter --
-- The adapter that this cycle trains beside its candidate, likewise.
UPDATE relevanced.cycle SET adapter_version_id = %(version_id)s
 WHERE cycle_id = %(cycle_id)s AND adapter_version_id IS NULL;

-- reject_candidate --
-- What comes of what a failed cycle has trained; unless it is live already, the outbox keeps nothing for it.
UPDATE relevanced.version SET state = 'rejected'
 WHERE version_id IN (SELECT unnest(ARRAY[candidate_version_id, adapter_version_id])
                        FROM relevanced.cycle WHERE cycle_id = %(cycle_id)s)
   AND version_id NOT IN (SELECT unnest(ARRAY[live_version_id, previous_version_id]) FROM relevanced.serving
                           WHERE live_version_id IS NOT NULL AND previous_version_id IS NOT NULL);
