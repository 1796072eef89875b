-- What a trial has shown. A policy names one trial; the rows of marked `bots` (bots.sql) are passed over.

-- preferences --
-- In the order in which they began, whose documents each actor clicked more of for a typed text: those that $other put there, 1, or $live, -1. What both
-- would have put there speaks for neither, and so does a tie.
WITH page AS (
    SELECT query_id,
           max({'hit_ids': hit_ids, 'ranked_by': ranked_by, 'user_query': user_query}) AS record,
           max(coalesce(nullif(client_id, ''), nullif(session_id, ''), query_id)) AS actor,
           min(received_at) AS received_at
      FROM query
      ANTI JOIN bots ON bots.actor = coalesce(nullif(client_id, ''), nullif(session_id, ''))
     WHERE policy = $policy AND user_query IS NOT NULL AND len(hit_ids) = len(ranked_by)
     GROUP BY query_id
), shown AS (
    SELECT query_id, record.user_query AS user_query, actor, received_at,
           unnest(record.hit_ids) AS document_id, unnest(record.ranked_by) AS ranked_by
      FROM page
), clicked AS (
    SELECT DISTINCT query_id, document_id
      FROM click
      SEMI JOIN page USING (query_id)
      ANTI JOIN bots ON bots.actor = coalesce(nullif(client_id, ''), nullif(session_id, ''))
)
SELECT user_query, actor, min(received_at) AS since, sign(sum(CASE ranked_by WHEN $other THEN 1 WHEN $live THEN -1 ELSE 0 END))::INTEGER AS preference
  FROM shown
  JOIN clicked USING (query_id, document_id)
 GROUP BY user_query, actor
HAVING preference <> 0
 ORDER BY since, user_query, actor;
