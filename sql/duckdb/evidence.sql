-- What the log knows about queries and documents. The log keeps a producer's retries; they are removed here, on reading.
-- An actor is a client, else a session, else the one search. The rows of marked `bots` (bots.sql) are passed over.

-- typed_queries --
-- Every text that at least $min_actors actors typed, how many did, and when first and last. No query was typed after it
-- came in, whatever it says: one record from the future must not make all others old.
SELECT user_query, count(DISTINCT coalesce(nullif(client_id, ''), nullif(session_id, ''), query_id)) AS actors,
       min(least("timestamp", received_at)) AS first_typed, max(least("timestamp", received_at)) AS last_typed
  FROM query
  ANTI JOIN bots ON bots.actor = coalesce(nullif(client_id, ''), nullif(session_id, ''))
 WHERE user_query IS NOT NULL
 GROUP BY user_query
HAVING actors >= $min_actors
 ORDER BY user_query;

-- evidence --
-- How many actors were shown a document for a query at a position by a version, and how many of them clicked it there.
-- What one actor can say is bounded: of a pair one click, and of a document one click over all queries together, in
-- equal parts; who reports the same document under a hundred queries is heard once. So the counts are no whole numbers.
WITH page AS (
    -- A page may make several requests under one query_id, mostly only one of them with hits. The record with most
    -- hits stands for all; the fields after `hits` only make the choice the same on every reading.
    SELECT query_id,
           coalesce(page_offset, 0) AS page_offset,
           max({
               'hits': coalesce(len(hit_ids), 0),
               'hit_ids': hit_ids,
               'user_query': user_query,
               'version': coalesce(version, '')
           }) AS record,
           max(nullif(client_id, '')) AS client_id,
           max(nullif(session_id, '')) AS session_id,
           min("timestamp") AS asked_at
      FROM query
      ANTI JOIN bots ON bots.actor = coalesce(nullif(client_id, ''), nullif(session_id, ''))
     GROUP BY query_id, page_offset
), search AS (
    -- Who asked what of which version: joined here, while there is one row per search and not one per document. One of
    -- the page's requests may lack the ids, so they are of any of them.
    SELECT query_id, page_offset, query_key, said.version AS version, actor, asked_at
      FROM (SELECT query_id,
                   min(page_offset) AS page_offset,
                   min(asked_at) AS asked_at,
                   max({
                       'hits': record.hits, 'user_query': record.user_query, 'version': record.version
                   }) AS said,
                   coalesce(max(client_id), max(session_id), query_id) AS actor
              FROM page
             GROUP BY query_id)
      JOIN query_keys ON query_keys.user_query = said.user_query
), seen AS (
    SELECT query_id, document_id, position, application
      FROM impression
      SEMI JOIN page USING (query_id)
      ANTI JOIN bots ON bots.actor = coalesce(nullif(client_id, ''), nullif(session_id, ''))
     WHERE position IS NOT NULL
), first_ordinal AS (
    -- UBI counts positions from 1; some applications count from 0, which only their events together show.
    SELECT application, min(position) AS ordinal
      FROM seen
     GROUP BY application
), rendered AS (
    SELECT query_id, document_id, min(position + CASE WHEN ordinal = 0 THEN 1 ELSE 0 END) AS ordinal
      FROM seen
      JOIN first_ordinal ON seen.application IS NOT DISTINCT FROM first_ordinal.application
     GROUP BY query_id, document_id
), listed AS (
    SELECT query_id,
           unnest(record.hit_ids) AS document_id,
           page_offset + generate_subscripts(record.hit_ids, 1) AS position
      FROM page
      ANTI JOIN rendered USING (query_id)
), shown AS (
    SELECT query_id, document_id, min(position) AS position
      FROM listed
     GROUP BY query_id, document_id
     UNION ALL
    SELECT query_id, document_id, page_offset + ordinal
      FROM rendered
      JOIN search USING (query_id)
), clicked AS (
    SELECT DISTINCT query_id, document_id, true AS clicked
      FROM click
      ANTI JOIN bots ON bots.actor = coalesce(nullif(client_id, ''), nullif(session_id, ''))
), seen_by AS (
    -- One row per actor: whoever reloads a page ten times or clicks ten times still counts once.
    SELECT query_key, document_id, position, version, actor,
           coalesce(bool_or(clicked), false) AS clicked, min(asked_at) AS asked_at
      FROM shown
      JOIN search USING (query_id)
      LEFT JOIN clicked USING (query_id, document_id)
     WHERE document_id IS NOT NULL AND position BETWEEN 1 AND 50
     GROUP BY query_key, document_id, position, version, actor
), counted AS (
    -- Up to its first click: whoever comes back to what it has found, elsewhere or under a later version, says nothing
    -- new. A sequence that ends with its first click has the likelihood of the whole one, so no propensity is bent.
    FROM seen_by
 QUALIFY count(*) FILTER (WHERE clicked) OVER (
             PARTITION BY query_key, document_id, actor ORDER BY asked_at NULLS FIRST, version, position
             ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) = 0
), weighed AS (
    -- Its skips of the document weigh no more than its clicks, or documents that many queries find would look worse.
    SELECT query_key, document_id, position, version, clicked,
           1 / greatest(1, count(*) FILTER (WHERE clicked) OVER (PARTITION BY actor, document_id)) AS weight
      FROM counted
)
SELECT query_key, document_id, position::INTEGER AS position, version,
       sum(weight)::DOUBLE AS shown, coalesce(sum(weight) FILTER (WHERE clicked), 0)::DOUBLE AS clicks
  FROM weighed
 GROUP BY query_key, document_id, position, version
 ORDER BY query_key, document_id, position, version;
