-- create_golden_loaded --
-- Where loaded judgments wait until all are read.
CREATE TEMPORARY TABLE golden_loaded (user_query text, document_id text, grade real, wished boolean) ON COMMIT DROP;

-- copy_golden_loaded --
-- Judgments as they are read.
COPY pg_temp.golden_loaded (user_query, document_id, grade, wished) FROM STDIN (FORMAT BINARY);

-- merge_golden --
-- The last judgment of a pair counts, and what is of the golden set stays of it; what is judged is wished for no more.
WITH last AS (
    SELECT DISTINCT ON (user_query, document_id) user_query, document_id, grade, wished
      FROM pg_temp.golden_loaded ORDER BY user_query, document_id, ctid DESC
), granted AS (
    DELETE FROM relevanced.judgment_wish USING last
     WHERE judgment_wish.user_query = last.user_query AND judgment_wish.document_id = last.document_id
), merged AS (
    INSERT INTO relevanced.golden_judgment AS known (user_query, document_id, source, grade, wished)
    SELECT user_query, document_id, %(source)s::relevanced.golden_source, grade, wished
      FROM last
    ON CONFLICT (user_query, document_id, source)
        DO UPDATE SET grade = excluded.grade, wished = known.wished AND excluded.wished, judged_at = now()
    RETURNING user_query, document_id, wished
)
SELECT count(*) AS judgments, count(DISTINCT user_query) AS queries, count(*) FILTER (WHERE wished) AS wished,
       count(*) FILTER (WHERE NOT EXISTS (SELECT FROM relevanced.document
                                           WHERE document.document_id = merged.document_id)) AS without_document
  FROM merged;

-- golden --
-- Every judgment, experts' and the newest first. Grades above 1 as shares of their source's largest.
SELECT user_query, document_id, (grade / greatest(max(grade) OVER (PARTITION BY source), 1))::real AS grade, wished
  FROM relevanced.golden_judgment ORDER BY source, judged_at DESC, user_query, document_id;

-- golden_judgments --
-- What one source has judged, as it was loaded.
SELECT user_query, document_id, grade::double precision AS grade, wished
  FROM relevanced.golden_judgment WHERE source = %(source)s::relevanced.golden_source
 ORDER BY user_query, grade DESC, document_id;

-- golden_counts --
-- How much each source has judged.
SELECT source, wished, count(*) AS judgments, count(DISTINCT user_query) AS queries, max(judged_at) AS latest
  FROM relevanced.golden_judgment GROUP BY source, wished ORDER BY source, wished;

-- drop_golden --
-- Forget the judgments of one source.
DELETE FROM relevanced.golden_judgment WHERE source = %(source)s RETURNING user_query;

-- clear_wishes --
-- Wish for nothing.
DELETE FROM relevanced.judgment_wish;

-- add_wishes --
-- Pairs to be judged, those that would tell most, but for those that are.
INSERT INTO relevanced.judgment_wish (user_query, document_id, gain)
SELECT user_query, document_id, max(gain) AS gain
  FROM unnest(%(user_queries)s::text[], %(document_ids)s::text[], %(gains)s::real[]) AS wish (user_query, document_id, gain)
 WHERE NOT EXISTS (SELECT FROM relevanced.golden_judgment AS known
                    WHERE known.user_query = wish.user_query AND known.document_id = wish.document_id)
 GROUP BY user_query, document_id
 ORDER BY gain DESC, user_query, document_id LIMIT %(most)s;

-- wishes --
-- What is to be judged, that first which would tell most.
SELECT user_query, document_id, gain, title, text
  FROM relevanced.judgment_wish JOIN relevanced.document USING (document_id)
 ORDER BY gain DESC, user_query, document_id LIMIT %(limit)s;
