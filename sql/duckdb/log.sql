-- count_turns --
-- A new log store has no row yet of the kind that take_turn replaces.
SELECT count(*) FROM lake.source_offset WHERE source = '';

-- add_turn --
-- Give it one.
INSERT INTO lake.source_offset VALUES ('', '', 0);

-- offsets --
-- Where each partition of a source goes on.
SELECT partition, max(next_offset) FROM lake.source_offset WHERE source = $source GROUP BY partition;

-- remove_offsets --
-- Take out the rows of the partitions that are about to move, which the caller registers as `moved`, and with them the
-- row that every such transaction replaces: DuckLake takes two that delete the same row for a conflict, but not two that
-- insert the first offset of a partition. So of two consumers that overlap one gives way.
DELETE FROM lake.source_offset WHERE source = '' OR (source, partition) IN (SELECT (source, partition) FROM moved);

-- insert_offsets --
-- Say where they go on, and put that row back.
INSERT INTO lake.source_offset BY NAME
SELECT source, partition, next_offset FROM moved UNION ALL SELECT '', '', 0;

-- append_query --
-- Add the `rows` that the caller registered, without what names a person.
INSERT INTO lake.query BY NAME
SELECT * REPLACE (protected_id(client_id) AS client_id, protected_id(session_id) AS session_id,
                  masked(user_query) AS user_query),
       now() AS received_at
  FROM rows;

-- append_impression --
-- Add the `rows` that the caller registered, without what names a person.
INSERT INTO lake.impression BY NAME
SELECT * REPLACE (protected_id(client_id) AS client_id, protected_id(session_id) AS session_id), now() AS received_at
  FROM rows;

-- append_click --
-- Add the `rows` that the caller registered, without what names a person.
INSERT INTO lake.click BY NAME
SELECT * REPLACE (protected_id(client_id) AS client_id, protected_id(session_id) AS session_id), now() AS received_at
  FROM rows;

-- append_feedback --
-- Add the `rows` that the caller registered, without what names a person.
INSERT INTO lake.feedback BY NAME
SELECT * REPLACE (protected_id(client_id) AS client_id, protected_id(session_id) AS session_id), now() AS received_at
  FROM rows;

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

-- view_touched --
-- Likewise the searches whose hashes the caller registered as `touched`, and what belongs to them; copied, for to look for
-- them takes longer than what is done with them.
CREATE TEMP TABLE query AS
FROM lake.query AT (VERSION => getvariable('snapshot_id')) SEMI JOIN touched ON touched.search = hash(query_id);
CREATE TEMP TABLE impression AS
FROM lake.impression AT (VERSION => getvariable('snapshot_id')) SEMI JOIN touched ON touched.search = hash(query_id);
CREATE TEMP TABLE click AS
FROM lake.click AT (VERSION => getvariable('snapshot_id')) SEMI JOIN touched ON touched.search = hash(query_id);
CREATE TEMP TABLE feedback AS
FROM lake.feedback AT (VERSION => getvariable('snapshot_id')) SEMI JOIN touched ON touched.search = hash(query_id);
