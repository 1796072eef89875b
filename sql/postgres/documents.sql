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

-- delete_documents --
-- Delete some; the trigger tells the indexes. In the order of the key, as loads lock them.
DELETE FROM relevanced.document
 WHERE document_id IN (SELECT document_id FROM relevanced.document WHERE document_id = ANY(%(document_ids)s)
                        ORDER BY document_id FOR UPDATE);

-- document_ids --
-- Every document.
SELECT document_id FROM relevanced.document ORDER BY document_id;

-- count_documents --
-- How many documents there are.
SELECT count(*) AS documents FROM relevanced.document;

-- documents --
-- Some documents.
SELECT document_id, title, text FROM relevanced.document WHERE document_id = ANY(%(document_ids)s);

-- set_patience --
-- For one transaction: a statement that takes longer, in ms, is given up.
SELECT set_config('statement_timeout', %(patience_ms)s, true);

-- full_text_search --
-- The documents that hold words of each text, by the sum over the words of how much they are the document's subject,
-- times how rare they are (inverse document frequency). Postgres' own rank of several words knows nothing of rarity: on
-- 5,000 documents it found 15 of 100 relevant ones in the first ten, with every "the" looked up in 66 ms; this finds 50
-- in 3. How rare a word is, ANALYZE has noted. One that a fifth of the documents hold finds nothing and costs most.
WITH statistic AS MATERIALIZED (
    SELECT most_common_elems::text::text[] AS lexemes, most_common_elem_freqs AS shares
      FROM pg_stats
     WHERE schemaname = 'relevanced' AND tablename = 'document' AND attname = 'words'
), common AS MATERIALIZED (
    SELECT lexeme, share FROM statistic CROSS JOIN unnest(lexemes, shares[:cardinality(lexemes)]) AS one (lexeme, share)
), word AS MATERIALIZED (
    SELECT place, plainto_tsquery('simple', lexeme) AS query,
           -ln(coalesce(share, (SELECT min(share) FROM common), 0.001)) AS weight
      FROM unnest(%(texts)s::text[]) WITH ORDINALITY AS asked (text, place)
     CROSS JOIN unnest(tsvector_to_array(to_tsvector('simple', text))) AS lexeme
      LEFT JOIN common USING (lexeme)
     WHERE share IS NULL OR share < 0.2
), found AS (
    SELECT place, document_id,
           row_number() OVER (
               -- 1 + 32: longer documents hold more words by chance, and the tenth of a word says little
               PARTITION BY place ORDER BY sum(weight * ts_rank_cd(words, query, 1 + 32)) DESC, document_id
           ) AS rank
      FROM word JOIN relevanced.document ON words @@ query
     GROUP BY place, document_id
)
SELECT place, document_id FROM found WHERE rank <= %(k)s ORDER BY place, rank;
