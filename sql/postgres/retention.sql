-- needed_versions --
-- Versions that serve, or that something is about: a trial, an approval, a cycle, every cycle to come; with what that is.
SELECT live_version_id AS version_id, 'live' AS need FROM relevanced.serving WHERE live_version_id IS NOT NULL
 UNION ALL
SELECT previous_version_id, 'previous' FROM relevanced.serving WHERE previous_version_id IS NOT NULL
 UNION ALL
SELECT other_version_id, 'on trial' FROM relevanced.trial WHERE ended_at IS NULL
 UNION ALL
SELECT version_id, 'waiting for approval' FROM relevanced.approval WHERE decided_at IS NULL
 UNION ALL
SELECT one, 'what a cycle works on'
  FROM relevanced.cycle CROSS JOIN unnest(ARRAY[candidate_version_id, adapter_version_id]) AS one
 WHERE ended_at IS NULL AND one IS NOT NULL
 UNION ALL
SELECT min(version_id), 'the base model, by which mining ranks and from which training begins'
  FROM relevanced.version HAVING count(*) > 0;

-- index_readers --
-- Other versions that search the index of one, but for those that nothing follows for any more.
SELECT version_id FROM relevanced.version
 WHERE index_version_id = %(version_id)s AND state NOT IN ('rejected', 'retired') ORDER BY version_id;

-- set_lock_patience --
-- For one transaction: what searches or is filled now is waited for, and nobody queues behind that for long.
SELECT set_config('lock_timeout', '5s', true);

-- drop_embeddings --
-- A version's vectors and their HNSW.
DROP TABLE IF EXISTS {table};

-- note_dropped --
-- Its index is gone, so that nothing follows for it; and its model, where that was asked.
UPDATE relevanced.version
   SET state = CASE WHEN state = 'rejected' OR state = 'candidate' AND NOT %(model)s THEN state ELSE 'retired' END,
       outbox_transaction_id = NULL, outbox_position = NULL,
       model_dropped_at = CASE WHEN %(model)s THEN coalesce(model_dropped_at, now()) ELSE model_dropped_at END
 WHERE version_id = %(version_id)s;

-- index_sizes --
-- The tables of vectors that there are, in bytes with their indexes.
SELECT substring(relname FROM '[0-9]+$')::bigint AS version_id, pg_total_relation_size(oid) AS bytes
  FROM pg_class
 WHERE relnamespace = 'relevanced'::regnamespace AND relkind = 'r' AND relname ~ '^embeddings_v[0-9]+$';

-- has_hnsw --
-- Whether the HNSW of a version's table is built.
SELECT to_regclass('relevanced.' || %(name)s) IS NOT NULL AS built;

-- document_sizes --
-- How many documents there are, and the bytes of their ids.
SELECT count(*) AS documents, coalesce(avg(octet_length(document_id)), 0)::float8 AS id_bytes FROM relevanced.document;

-- probe_documents --
-- Some documents, always the same ones, to see how long a model takes for them.
SELECT title, text FROM relevanced.document ORDER BY hashtext(document_id), document_id LIMIT %(limit)s;
