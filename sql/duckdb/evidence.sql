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
-- How many actors were shown a document for a query at a position, and what they did with it there: `clicks` counts those
-- who did anything, `response` names it. Rows of position 0 are what actors said of a document that this query did not
-- show them. After_click tells whether the same answer had a click further up: who has found something reads on less.
-- What one actor can say is bounded: of a pair one thing, the most telling, and of a document one over all queries
-- together, in equal parts; who reports the same document under a hundred queries is heard once. So the counts are no
-- whole numbers. Registered: query_keys, bots, and `signals`, what counts at all and how telling each is.
WITH page AS (
    -- A page may make several requests under one query_id, mostly only one of them with hits. The record with most
    -- hits stands for all; the fields after `hits` only make the choice the same on every reading.
    SELECT query_id,
           coalesce(page_offset, 0) AS page_offset,
           max({
               'hits': coalesce(len(hit_ids), 0),
               'hit_ids': hit_ids,
               'user_query': user_query,
               'surface': concat_ws('/', application, device)
           }) AS record,
           max(nullif(client_id, '')) AS client_id,
           max(nullif(session_id, '')) AS session_id,
           min("timestamp") AS asked_at
      FROM query
      ANTI JOIN bots ON bots.actor = coalesce(nullif(client_id, ''), nullif(session_id, ''))
     GROUP BY query_id, page_offset
), search AS (
    -- Who asked what, where and when: joined here, while there is one row per search and not one per document. One of
    -- the page's requests may lack the ids, so they are of any of them.
    SELECT query_id, page_offset, query_key, said.surface AS surface, actor, session, asked_at
      FROM (SELECT query_id,
                   min(page_offset) AS page_offset,
                   min(asked_at) AS asked_at,
                   max({
                       'hits': record.hits, 'user_query': record.user_query, 'surface': record.surface
                   }) AS said,
                   CASE WHEN $one_voice THEN coalesce(max(client_id), max(session_id), query_id) ELSE query_id END AS actor,
                   coalesce(max(session_id), max(client_id)) AS session
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
), acted AS (
    SELECT query_id, document_id,
           CASE WHEN dwell_seconds < $short_dwell THEN 'click:short'
                WHEN dwell_seconds >= $long_dwell THEN 'click:long'
                ELSE 'click'
           END AS action
      FROM click
      ANTI JOIN bots ON bots.actor = coalesce(nullif(client_id, ''), nullif(session_id, ''))
     UNION ALL
    SELECT query_id, document_id, action
      FROM feedback
      ANTI JOIN bots ON bots.actor = coalesce(nullif(client_id, ''), nullif(session_id, ''))
     WHERE document_id IS NOT NULL
), responded AS (
    -- Of two that are as telling the one that speaks against the document, as a thumb that was turned.
    SELECT query_id, document_id, max({'telling': telling, 'against': -lift, 'action': action}) AS said
      FROM acted
      JOIN signals USING (action)
     GROUP BY query_id, document_id
), answered AS (
    SELECT query_id, document_id, position, said
      FROM responded
      JOIN shown USING (query_id, document_id)
     WHERE position BETWEEN 1 AND 50
), first_click AS (
    SELECT query_id, min(position) AS position
      FROM answered
     GROUP BY query_id
), seen_by AS (
    -- One row per actor: whoever reloads a page ten times or clicks ten times still counts once.
    SELECT query_key, document_id, shown.position AS position, shown.position > first_click.position AS after_click,
           surface, actor, max(said) AS said, min(asked_at) AS asked_at
      FROM shown
      JOIN search USING (query_id)
      LEFT JOIN first_click USING (query_id)
      LEFT JOIN answered USING (query_id, document_id)
     WHERE document_id IS NOT NULL AND shown.position BETWEEN 1 AND 50
     GROUP BY ALL
), spoken AS (
    -- What each actor said of each pair: the most telling, at the first place where it said anything.
    SELECT query_key, document_id, actor, max(said) AS said,
           min({
               'asked_at': asked_at, 'position': position, 'after_click': coalesce(after_click, false), 'surface': surface
           }) AS first
      FROM seen_by
     WHERE said IS NOT NULL
     GROUP BY ALL
), unmoved AS (
    -- Up to there: whoever comes back to what it has found, elsewhere or under a later version, says nothing new. A
    -- sequence that ends with its first click has the likelihood of the whole one, so no propensity is bent.
    SELECT query_key, document_id, seen_by.position AS position, coalesce(seen_by.after_click, false) AS after_click,
           seen_by.surface AS surface, actor, NULL AS response, seen_by.asked_at AS asked_at
      FROM seen_by
      LEFT JOIN spoken USING (query_key, document_id, actor)
     WHERE seen_by.said IS NULL
       AND (spoken.first IS NULL OR seen_by.asked_at < spoken.first.asked_at OR seen_by.asked_at IS NULL)
), unhappy AS (
    -- Searches that found nothing good. A click that came to nothing is none, and who votes a document down seeks on.
    SELECT session, actor, query_key, surface, asked_at
      FROM search
      ANTI JOIN (FROM answered WHERE said.against <= -$good_lift) AS good USING (query_id)
     WHERE session IS NOT NULL AND asked_at IS NOT NULL
), found AS (
    SELECT session, asked_at, query_key AS found_by, list(document_id) AS document_ids
      FROM search
      JOIN answered USING (query_id)
     WHERE said.against <= -$good_lift AND session IS NOT NULL AND asked_at IS NOT NULL
     GROUP BY session, asked_at, query_key
), reformulated AS (
    -- What the next search of the session found answers the unhappy one too, if it came soon.
    SELECT query_key, document_id, actor, surface, min(asked_at) AS asked_at
      FROM (SELECT unhappy.query_key AS query_key, unnest(document_ids) AS document_id, actor, surface,
                   unhappy.asked_at AS asked_at
              FROM unhappy
              ASOF JOIN found ON unhappy.session = found.session AND unhappy.asked_at < found.asked_at
             WHERE unhappy.query_key <> found_by
               AND found.asked_at <= unhappy.asked_at + to_seconds($reformulation_within))
      ANTI JOIN spoken USING (query_key, document_id, actor)
     GROUP BY ALL
), said AS (
    SELECT query_key, document_id, first.position AS position, first.after_click AS after_click,
           first.surface AS surface, actor, said.action AS response, first.asked_at AS asked_at
      FROM spoken
     UNION ALL
    SELECT query_key, document_id, 0, false, surface, actor, action, asked_at
      FROM reformulated
      JOIN signals ON action = 'reformulation'
), voices AS (
    SELECT actor, document_id, count(*) AS pairs
      FROM said
     GROUP BY actor, document_id
), weighed AS (
    -- Its skips of the document weigh no more than its clicks, or documents that many queries find would look worse.
    SELECT query_key, document_id, position, after_click, surface, response,
           CASE WHEN $half_life_days > 0 AND asked_at IS NOT NULL
                THEN pow(2, -epoch((SELECT max(asked_at) FROM search) - asked_at) / 86400 / $half_life_days)
                ELSE 1
           END / coalesce(pairs, 1) AS weight
      FROM (FROM said UNION ALL FROM unmoved)
      LEFT JOIN voices USING (actor, document_id)
)
-- Rounded, so that the sum is the same in whichever order the threads add.
SELECT query_key, document_id, position::INTEGER AS position, after_click, surface, response,
       round(sum(CASE WHEN position > 0 THEN weight ELSE 0 END), 9)::DOUBLE AS shown,
       round(coalesce(sum(weight) FILTER (WHERE response IS NOT NULL), 0), 9)::DOUBLE AS clicks
  FROM weighed
 GROUP BY ALL
 ORDER BY ALL;
