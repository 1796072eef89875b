-- How likely a trial may promote a version without any gain: its part of the year's error. Null, for older trials and for
-- those that only observe, is what the confidence of [trial] says.
ALTER TABLE trial ADD COLUMN level double precision CHECK (level > 0 AND level < 1);

-- How often each cluster of held-out queries was asked for a verdict. A hash of it will do, for nobody reads it.
CREATE TABLE holdout_use (
    cluster_hash bytea PRIMARY KEY CHECK (length(cluster_hash) = 16),
    verdicts integer NOT NULL DEFAULT 1,
    last_cycle_id bigint NOT NULL REFERENCES cycle,
    retired_at timestamptz         -- from then on it is trained on, and asked no more
);
