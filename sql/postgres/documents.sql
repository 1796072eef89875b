-- create_loaded --
-- What was read lies here until it is merged.
CREATE TEMP TABLE loaded (document_id text, title text, text text) ON COMMIT DROP;

-- copy_loaded --
-- The fast way in.
COPY pg_temp.loaded (document_id, title, text) FROM STDIN (FORMAT BINARY);

-- merge_loaded --
-- Add what is new, change what differs, and leave the rest alone, so that it leaves no row in the outbox. xmax is 0 in a
-- row that was inserted. In the order of the key, so that two loads at once wait for one another instead of deadlocking.
WITH merged AS (
    INSERT INTO relevanced.document AS document (document_id, title, text)
    SELECT document_id, title, text FROM pg_temp.loaded ORDER BY document_id
    ON CONFLICT (document_id) DO UPDATE SET title = EXCLUDED.title, text = EXCLUDED.text
     WHERE (document.title, document.text) IS DISTINCT FROM (EXCLUDED.title, EXCLUDED.text)
    RETURNING document.xmax = 0 AS added
)
SELECT count(*) FILTER (WHERE added) AS added, count(*) FILTER (WHERE NOT added) AS changed FROM merged;

-- analyze_documents --
-- Tell the planner about the rows that just came.
ANALYZE relevanced.document;

-- document_ids --
-- Every document.
SELECT document_id FROM relevanced.document ORDER BY document_id;

-- count_documents --
-- How many documents there are.
SELECT count(*) AS documents FROM relevanced.document;

-- documents --
-- Some documents.
SELECT document_id, title, text FROM relevanced.document WHERE document_id = ANY(%(document_ids)s);
