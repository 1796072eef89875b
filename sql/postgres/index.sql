-- create_embeddings --
-- The vectors of one version. halfvec and the inner product of unit vectors: half the memory of vector, same ranks.
CREATE TABLE IF NOT EXISTS {table} (
    document_id text NOT NULL,
    passage integer NOT NULL,
    embedding halfvec({dimension}) NOT NULL,
    content_sha text NOT NULL,
    PRIMARY KEY (document_id, passage)
);

-- begin_backfill --
-- From here on the outbox counts: every change before the oldest open transaction is seen by whoever reads from now on.
-- Where another version searches this index, it has followed the documents all along, and its place must not jump.
UPDATE relevanced.version AS owner
   SET state = 'candidate',
       outbox_transaction_id = CASE WHEN shared THEN outbox_transaction_id
                                    ELSE pg_snapshot_xmin(pg_current_snapshot()) END,
       outbox_position = CASE WHEN shared THEN outbox_position ELSE 0 END
  FROM (SELECT EXISTS (SELECT FROM relevanced.version
                        WHERE index_version_id = %(version_id)s AND state NOT IN ('rejected', 'retired')) AS shared) AS others
 WHERE version_id = %(version_id)s AND state IN ('candidate', 'rejected', 'retired');

-- index_of_version --
-- Whose index a version searches, once its model is there, and how many candidates it looks at.
SELECT coalesce(index_version_id, version_id) AS index_id, ef_search FROM relevanced.version
 WHERE version_id = %(version_id)s AND directory IS NOT NULL;

-- other_readers --
-- How many other versions search an index and have it follow the documents, its owner among them.
SELECT count(*) AS readers FROM relevanced.version
 WHERE version_id <> %(version_id)s
   AND (version_id = %(index_id)s AND state IN ('prepared', 'verified')
        OR index_version_id = %(index_id)s AND state NOT IN ('rejected', 'retired'));

-- count_missing --
-- How many documents, of some or of all, have no vector of their present content.
SELECT count(*) AS missing FROM relevanced.document AS document
 WHERE (%(document_ids)s::text[] IS NULL OR document_id = ANY(%(document_ids)s))
   AND NOT EXISTS (SELECT FROM {table} AS stored
                    WHERE stored.document_id = document.document_id AND stored.content_sha = document.content_sha);

-- missing_documents --
-- The next of them in the order of the key.
SELECT document_id, title, text, content_sha FROM relevanced.document AS document
 WHERE (%(document_ids)s::text[] IS NULL OR document_id = ANY(%(document_ids)s))
   AND (%(after)s::text IS NULL OR document_id > %(after)s)
   AND NOT EXISTS (SELECT FROM {table} AS stored
                    WHERE stored.document_id = document.document_id AND stored.content_sha = document.content_sha
                      -- said twice, so that a merge need not begin at the first row for each chunk
                      AND (%(after)s::text IS NULL OR stored.document_id > %(after)s))
 ORDER BY document_id LIMIT %(limit)s;

-- create_encoded --
-- Where vectors lie until they are merged.
CREATE TEMP TABLE encoded (document_id text, embedding halfvec, content_sha text) ON COMMIT DROP;

-- copy_encoded --
-- The fast way in.
COPY pg_temp.encoded (document_id, embedding, content_sha) FROM STDIN (FORMAT BINARY);

-- merge_encoded --
-- Keep the vectors of documents that have not changed since they were read; the others have a row in the outbox.
INSERT INTO {table} (document_id, passage, embedding, content_sha)
SELECT document_id, 0, embedding, content_sha
  FROM pg_temp.encoded JOIN relevanced.document USING (document_id, content_sha)
 ORDER BY document_id
ON CONFLICT (document_id, passage) DO UPDATE SET embedding = EXCLUDED.embedding, content_sha = EXCLUDED.content_sha;

-- delete_gone --
-- Remove the vectors of documents, of some or of all, that are no more.
DELETE FROM {table} AS stored
 WHERE (%(document_ids)s::text[] IS NULL OR document_id = ANY(%(document_ids)s))
   AND NOT EXISTS (SELECT FROM relevanced.document WHERE document.document_id = stored.document_id);

-- set_build_memory --
-- For the build alone. A build whose client has died ends within a second, rather than holding its locks to the end.
SELECT set_config('maintenance_work_mem', %(memory)s, true),
       set_config('max_parallel_maintenance_workers', %(workers)s, true),
       set_config('client_connection_check_interval', '1s', true);

-- create_hnsw --
-- pgvector builds HNSW faster over loaded rows than row by row, so it comes after the backfill.
CREATE INDEX IF NOT EXISTS {index} ON {table} USING hnsw (embedding halfvec_ip_ops)
  WITH (m = {m}, ef_construction = {ef_construction});

-- build_progress --
-- How far the build of a table's index is; no row before it has begun, nor to a user who may not see it.
SELECT blocks_done, blocks_total FROM pg_stat_progress_create_index WHERE relid = to_regclass(%(table)s);

-- analyze_embeddings --
-- Tell the planner about the rows that just came.
ANALYZE {table};

-- outbox_changes --
-- The changes that a version has not applied, in the order in which readers may take them. Those of transactions that
-- began after the oldest open one wait: an earlier one might still commit among them.
SELECT change.transaction_id::text, change.position, change.document_id
  FROM relevanced.version, relevanced.outbox AS change
 WHERE version_id = %(version_id)s
   AND (change.transaction_id, change.position) > (outbox_transaction_id, outbox_position)
   AND change.transaction_id < pg_snapshot_xmin(pg_current_snapshot())
 ORDER BY change.transaction_id, change.position LIMIT %(limit)s;

-- advance_outbox --
-- A version has applied the changes up to here.
UPDATE relevanced.version
   SET outbox_transaction_id = %(transaction_id)s::xid8, outbox_position = %(position)s
 WHERE version_id = %(version_id)s
   AND (outbox_transaction_id, outbox_position) < (%(transaction_id)s::xid8, %(position)s);

-- trim_outbox --
-- Forget the changes that every index has applied which some version searches, its own or that of another.
DELETE FROM relevanced.outbox AS change
 WHERE transaction_id < pg_snapshot_xmin(pg_current_snapshot())
   AND NOT EXISTS (SELECT FROM relevanced.version AS owner
                     JOIN relevanced.version AS reader
                       ON owner.version_id = coalesce(reader.index_version_id, reader.version_id)
                    WHERE reader.state NOT IN ('rejected', 'retired')
                      AND (owner.outbox_transaction_id, owner.outbox_position)
                          < (change.transaction_id, change.position));

-- embeddings --
-- The vectors of some documents, or of all.
SELECT document_id, embedding FROM {table}
 WHERE %(document_ids)s::text[] IS NULL OR document_id = ANY(%(document_ids)s)
 ORDER BY document_id, passage;

-- set_search --
-- For one search. The planner would read a small table whole; and a scan that met deleted rows goes on for more.
SELECT set_config('enable_seqscan', 'off', true), set_config('enable_indexscan', 'on', true),
       set_config('hnsw.ef_search', %(ef_search)s, true),
       set_config('hnsw.iterative_scan', 'strict_order', true);

-- has_prewarm --
-- Whether the extension pg_prewarm was created here, by one who may.
SELECT to_regprocedure('pg_prewarm(regclass, text, text, bigint, bigint)') IS NOT NULL AS has_prewarm;

-- prewarm_index --
-- Read an HNSW into memory. One that is large beside shared_buffers goes to the system's cache instead, since it would push
-- out of them what live answers with.
SELECT pg_prewarm(%(index)s::regclass,
                  CASE WHEN pg_relation_size(%(index)s::regclass) * 2 < pg_size_bytes(current_setting('shared_buffers'))
                       THEN 'buffer' ELSE 'prefetch' END, 'main', NULL, NULL);

-- set_exact_search --
-- For a comparison: every row is read.
SELECT set_config('enable_seqscan', 'on', true), set_config('enable_indexscan', 'off', true);

-- search_embeddings --
-- The nearest documents of each query vector, each document once by its best passage. Ten more than asked for are looked
-- up: some may have been deleted since the index followed the documents.
SELECT place, document_id, score, title, text
  FROM (SELECT asked.place, document_id, nearest.score, document.title, document.text,
               row_number() OVER (PARTITION BY asked.place ORDER BY nearest.score DESC, document_id) AS rank
          FROM unnest(%(vectors)s::halfvec[]) WITH ORDINALITY AS asked (embedding, place)
         CROSS JOIN LATERAL (
               SELECT document_id, max(score) AS score
                 FROM (SELECT document_id, -(embedding <#> asked.embedding) AS score FROM {table}
                        ORDER BY embedding <#> asked.embedding LIMIT %(candidates)s) AS candidate
                GROUP BY document_id ORDER BY score DESC, document_id LIMIT %(k)s + 10) AS nearest
          JOIN relevanced.document USING (document_id)) AS found
 WHERE rank <= %(k)s
 ORDER BY place, rank;

-- score_embeddings --
-- Some documents by one query vector, each by its best passage; those that have none are left out.
SELECT document.document_id, max(-(embedding <#> %(vector)s)) AS score, title, text
  FROM {table} AS stored JOIN relevanced.document ON document.document_id = stored.document_id
 WHERE stored.document_id = ANY(%(document_ids)s)
 GROUP BY document.document_id
 ORDER BY score DESC, document.document_id;

-- compare_with_documents --
-- What a version holds against what the documents are; changes that still wait in the outbox are no fault.
WITH waiting AS (
    SELECT change.document_id FROM relevanced.version, relevanced.outbox AS change
     WHERE version_id = %(version_id)s
       AND (change.transaction_id, change.position) > (outbox_transaction_id, outbox_position)
), compared AS (
    SELECT document.document_id IS NULL AS gone, stored.document_id IS NULL AS missing,
           stored.content_sha IS DISTINCT FROM document.content_sha AS different
      FROM relevanced.document AS document
      FULL JOIN (SELECT document_id, content_sha FROM {table} WHERE passage = 0) AS stored USING (document_id)
     WHERE document_id NOT IN (SELECT document_id FROM waiting)
)
SELECT count(*) FILTER (WHERE NOT gone) AS documents,
       count(*) FILTER (WHERE missing) AS missing,
       count(*) FILTER (WHERE gone) AS gone,
       count(*) FILTER (WHERE different AND NOT missing AND NOT gone) AS outdated
  FROM compared;

-- sample_embeddings --
-- Some documents whose vectors are up to date, always the same ones.
SELECT document_id, title, text, embedding
  FROM relevanced.document JOIN {table} USING (document_id, content_sha)
 ORDER BY hashtext(document_id), document_id LIMIT %(limit)s;

-- see_one_moment --
-- For one transaction: all its statements see the rows as the first one did.
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ;

-- accept_version --
-- Its index was found complete and true.
UPDATE relevanced.version SET state = 'verified', ef_search = %(ef_search)s
 WHERE version_id = %(version_id)s AND state IN ('prepared', 'verified');
