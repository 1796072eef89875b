-- note_holdout_use --
-- These clusters were asked for a verdict; a cycle that is begun again asks them once.
INSERT INTO relevanced.holdout_use AS known (cluster_hash, last_cycle_id)
SELECT cluster_hash, %(cycle_id)s FROM unnest(%(cluster_hashes)s::bytea[]) AS cluster_hash
ON CONFLICT (cluster_hash) DO UPDATE
   SET verdicts = known.verdicts + 1, last_cycle_id = excluded.last_cycle_id
 WHERE known.last_cycle_id < excluded.last_cycle_id;

-- holdout_use --
-- How often these clusters were asked.
SELECT coalesce(avg(verdicts), 0)::double precision AS mean_uses, coalesce(max(verdicts), 0) AS most_uses
  FROM relevanced.holdout_use WHERE cluster_hash = ANY(%(cluster_hashes)s);

-- retire_holdout --
-- Let go of the clusters that were asked often enough, as long as enough of the others stay. What the last gate did not
-- ask has left the log, as rare queries do.
UPDATE relevanced.holdout_use SET retired_at = now()
 WHERE retired_at IS NULL AND verdicts >= %(max_verdicts)s
   AND (SELECT count(*) FROM relevanced.holdout_use
         WHERE retired_at IS NULL AND verdicts < %(max_verdicts)s
           AND last_cycle_id = (SELECT max(last_cycle_id) FROM relevanced.holdout_use)) >= %(min_kept)s;

-- retired_holdout --
-- The clusters that are asked no more.
SELECT cluster_hash FROM relevanced.holdout_use WHERE retired_at IS NOT NULL;
