-- begin_turn --
-- Replace the one row that every writing transaction replaces. DuckLake takes two transactions that delete the same row
-- for a conflict, but not two that insert the first offset of a partition; so of two writers that overlap one gives way.
DELETE FROM lake.source_offset WHERE source = '';

-- end_turn --
-- Put that row back.
INSERT INTO lake.source_offset VALUES ('', '', 0);

-- count_turns --
-- There is one such row, or none yet in a new log store.
SELECT count(*) FROM lake.source_offset WHERE source = '';

-- offsets --
-- Where each partition of a source goes on.
SELECT partition, max(next_offset) FROM lake.source_offset WHERE source = $source GROUP BY partition;

-- remove_offsets --
-- Take out the rows of the partitions that are about to move; `moved` is registered by the caller.
DELETE FROM lake.source_offset WHERE (source, partition) IN (SELECT (source, partition) FROM moved);

-- insert_offsets --
-- Say where they go on.
INSERT INTO lake.source_offset BY NAME SELECT source, partition, next_offset FROM moved;

-- append_query --
-- Add the `rows` that the caller registered.
INSERT INTO lake.query BY NAME FROM rows;

-- append_impression --
-- Add the `rows` that the caller registered.
INSERT INTO lake.impression BY NAME FROM rows;

-- append_click --
-- Add the `rows` that the caller registered.
INSERT INTO lake.click BY NAME FROM rows;

-- append_feedback --
-- Add the `rows` that the caller registered.
INSERT INTO lake.feedback BY NAME FROM rows;

-- append_dead_letter --
-- Add the `rows` that the caller registered.
INSERT INTO lake.dead_letter BY NAME FROM rows;

-- snapshot --
-- The log as of now; reading it again as of this id finds the same rows for ever.
FROM ducklake_current_snapshot('lake');

-- view_snapshot --
-- The tables as of the snapshot in the variable snapshot_id, under their own names, for one cursor.
CREATE TEMP VIEW query AS FROM lake.query AT (VERSION => getvariable('snapshot_id'));
CREATE TEMP VIEW impression AS FROM lake.impression AT (VERSION => getvariable('snapshot_id'));
CREATE TEMP VIEW click AS FROM lake.click AT (VERSION => getvariable('snapshot_id'));
CREATE TEMP VIEW feedback AS FROM lake.feedback AT (VERSION => getvariable('snapshot_id'));
CREATE TEMP VIEW dead_letter AS FROM lake.dead_letter AT (VERSION => getvariable('snapshot_id'));
CREATE TEMP VIEW source_offset AS FROM lake.source_offset AT (VERSION => getvariable('snapshot_id'));
