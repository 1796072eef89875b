-- The checks of `relevanced validate`, over the log or a file that was read like one. Each gives found, of how many
-- (total), and up to five examples: query_ids, so that the records can be looked up; never a text of too few people.

-- check_searches_without_clicks --
-- Searches that showed something and got no click; the examples are texts that at least $k actors typed.
WITH shown AS (
    SELECT query_id, any_value(user_query) AS user_query,
           coalesce(max(nullif(client_id, '')), max(nullif(session_id, '')), query_id) AS actor
      FROM query
     GROUP BY query_id
    HAVING max(len(hit_ids)) > 0 OR query_id IN (SELECT query_id FROM impression)
), without AS (
    SELECT * FROM shown ANTI JOIN click USING (query_id)
)
SELECT (SELECT count(*) FROM without) AS found, (SELECT count(*) FROM shown) AS total,
       (SELECT list(user_query ORDER BY searches DESC, user_query)
          FROM (SELECT user_query, count(*) AS searches
                  FROM without
                 WHERE user_query <> ''
                 GROUP BY user_query
                HAVING count(DISTINCT actor) >= $k
                 ORDER BY searches DESC, user_query
                 LIMIT 5)) AS examples;

-- check_clicks_without_queries --
-- Clicks whose query_id no query record has.
SELECT count(*) FILTER (WHERE lost) AS found, count(*) AS total,
       list_slice(list_sort(list(DISTINCT query_id) FILTER (WHERE lost)), 1, 5) AS examples
  FROM (SELECT query_id, query_id NOT IN (SELECT query_id FROM query WHERE query_id IS NOT NULL) AS lost FROM click);

-- check_clicks_not_shown --
-- Clicks on documents that their search did not show, as its impressions say or else its hits.
WITH rendered AS (
    SELECT DISTINCT query_id, document_id FROM impression WHERE position IS NOT NULL
), shown AS (
    FROM rendered
     UNION
    SELECT query_id, unnest(hit_ids)
      FROM query
      SEMI JOIN click USING (query_id)
      ANTI JOIN rendered USING (query_id)
)
SELECT count(*) FILTER (WHERE lost) AS found, count(*) AS total,
       list_slice(list_sort(list(DISTINCT query_id) FILTER (WHERE lost)), 1, 5) AS examples
  FROM (SELECT click.query_id, shown.query_id IS NULL AS lost
          FROM click
          SEMI JOIN query ON query.query_id = click.query_id
          LEFT JOIN shown ON shown.query_id = click.query_id AND shown.document_id = click.document_id);

-- check_clicks_before_queries --
-- Clicks that are more than $clock_skew_seconds older than their query.
WITH asked AS (
    SELECT query_id, min("timestamp") AS "timestamp" FROM query GROUP BY query_id
)
SELECT count(*) FILTER (WHERE early) AS found, count(*) AS total,
       list_slice(list_sort(list(DISTINCT query_id) FILTER (WHERE early)), 1, 5) AS examples
  FROM (SELECT query_id, epoch(asked."timestamp") - epoch(click."timestamp") > $clock_skew_seconds AS early
          FROM click
          JOIN asked USING (query_id)
         WHERE asked."timestamp" IS NOT NULL);

-- check_nothing_shown --
-- Searches of which neither hits nor positions of impressions say what was shown.
SELECT count(*) FILTER (WHERE unknown) AS found, count(*) AS total,
       list_slice(list_sort(list(query_id) FILTER (WHERE unknown)), 1, 5) AS examples
  FROM (SELECT query_id,
               coalesce(max(len(hit_ids)), 0) = 0
               AND query_id NOT IN (SELECT query_id FROM impression WHERE position IS NOT NULL) AS unknown
          FROM query
         GROUP BY query_id);

-- check_impressions_fewer_than_hits --
-- Searches that have hits and impressions, and of these fewer than $shown_share.
WITH listed AS (
    SELECT query_id, max(len(hit_ids)) AS hits FROM query GROUP BY query_id HAVING hits > 0
), rendered AS (
    SELECT query_id, count(DISTINCT document_id) AS impressions FROM impression GROUP BY query_id
)
SELECT count(*) FILTER (WHERE few) AS found, count(*) AS total,
       list_slice(list_sort(list(query_id) FILTER (WHERE few)), 1, 5) AS examples
  FROM (SELECT query_id, impressions < $shown_share * hits AS few FROM listed JOIN rendered USING (query_id));

-- check_positions_missing --
-- Impressions that say no position.
SELECT count(*) FILTER (WHERE position IS NULL) AS found, count(*) AS total,
       list_slice(list_sort(list(DISTINCT query_id) FILTER (WHERE position IS NULL)), 1, 5) AS examples
  FROM impression;

-- check_positions_from_0 --
-- Impressions of applications that count positions from 0, where UBI counts from 1.
SELECT coalesce(sum(impressions) FILTER (WHERE first = 0), 0)::BIGINT AS found,
       coalesce(sum(impressions), 0)::BIGINT AS total,
       list_slice(list_sort(list(coalesce(application, '(none)')) FILTER (WHERE first = 0)), 1, 5) AS examples
  FROM (SELECT application, min(position) AS first, count(*) AS impressions
          FROM impression
         WHERE position IS NOT NULL
         GROUP BY application);

-- check_positions_constant --
-- Searches that show several documents, all at one position.
SELECT count(*) FILTER (WHERE positions = 1) AS found, count(*) AS total,
       list_slice(list_sort(list(query_id) FILTER (WHERE positions = 1)), 1, 5) AS examples
  FROM (SELECT query_id, count(DISTINCT position) AS positions
          FROM impression
         WHERE position IS NOT NULL
         GROUP BY query_id
        HAVING count(DISTINCT document_id) > 1);

-- check_one_client --
-- Clicks of the actor that clicked most, where it is known who clicked.
WITH clicked AS (
    SELECT coalesce(nullif(client_id, ''), nullif(session_id, '')) AS actor, count(*) AS clicks
      FROM click
     WHERE actor IS NOT NULL
     GROUP BY actor
)
SELECT coalesce(max(clicks), 0)::BIGINT AS found, coalesce(sum(clicks), 0)::BIGINT AS total,
       CASE WHEN count(*) > 0 THEN [max({'clicks': clicks, 'actor': actor}).actor] END AS examples
  FROM clicked;

-- check_nobody_named --
-- Searches without client_id and session_id: each counts as another person.
SELECT count(*) FILTER (WHERE nobody) AS found, count(*) AS total,
       list_slice(list_sort(list(query_id) FILTER (WHERE nobody)), 1, 5) AS examples
  FROM (SELECT query_id, bool_and(coalesce(nullif(client_id, ''), nullif(session_id, '')) IS NULL) AS nobody
          FROM query
         GROUP BY query_id);

-- check_bots --
-- Searches and clicks of the marked `bots`, with the bound that each broke.
SELECT (SELECT coalesce(sum(searches + clicks), 0)::BIGINT FROM bots) AS found,
       (SELECT count(*) FROM (SELECT DISTINCT query_id, client_id, session_id FROM query))
       + (SELECT count(*) FROM (SELECT DISTINCT query_id, document_id, client_id, "timestamp" FROM click)) AS total,
       (SELECT list(actor || ' (' || bound || ')' ORDER BY searches + clicks DESC, actor)
          FROM (FROM bots ORDER BY searches + clicks DESC, actor LIMIT 5)) AS examples;

-- check_times_in_the_future --
-- Records whose time is more than $clock_skew_seconds after $now.
SELECT count(*) FILTER (WHERE future) AS found, count(*) AS total,
       list_slice(list_sort(list(DISTINCT query_id) FILTER (WHERE future)), 1, 5) AS examples
  FROM (SELECT query_id, epoch("timestamp") > epoch($now::TIMESTAMPTZ) + $clock_skew_seconds AS future
          FROM (SELECT query_id, "timestamp" FROM query UNION ALL SELECT query_id, "timestamp" FROM impression
                 UNION ALL SELECT query_id, "timestamp" FROM click UNION ALL SELECT query_id, "timestamp" FROM feedback)
         WHERE "timestamp" IS NOT NULL);

-- check_times_missing --
-- Query records without a time; retention and the order of events cannot know them.
SELECT count(*) FILTER (WHERE "timestamp" IS NULL) AS found, count(*) AS total,
       list_slice(list_sort(list(DISTINCT query_id) FILTER (WHERE "timestamp" IS NULL)), 1, 5) AS examples
  FROM query;

-- check_duplicates --
-- Events that came more than once, as a producer's retries do; reading counts them once.
WITH event AS (
    SELECT query_id, document_id, 'impression' AS action, client_id, "timestamp" FROM impression
     UNION ALL
    SELECT query_id, document_id, 'click', client_id, "timestamp" FROM click
     UNION ALL
    SELECT query_id, document_id, action, client_id, "timestamp" FROM feedback
), counted AS (
    SELECT query_id, count(*) AS copies FROM event GROUP BY query_id, document_id, action, client_id, "timestamp"
)
SELECT coalesce(sum(copies - 1), 0)::BIGINT AS found, coalesce(sum(copies), 0)::BIGINT AS total,
       list_slice(list_sort(list(DISTINCT query_id) FILTER (WHERE copies > 1)), 1, 5) AS examples
  FROM counted;

-- check_dead_letters --
-- Records that could not be used, the commonest reasons as examples.
SELECT (SELECT count(*) FROM dead_letter) AS found,
       (SELECT count(*)
          FROM (SELECT 1 FROM dead_letter UNION ALL SELECT 1 FROM query UNION ALL SELECT 1 FROM impression
                 UNION ALL SELECT 1 FROM click UNION ALL SELECT 1 FROM feedback)) AS total,
       (SELECT list(records || ' × ' || reason ORDER BY records DESC, reason)
          FROM (SELECT reason, count(*) AS records
                  FROM dead_letter
                 GROUP BY reason
                 ORDER BY records DESC, reason
                 LIMIT 5)) AS examples;

-- check_versions_unknown --
-- Query records that name a version which is none of the `known_versions`.
SELECT count(*) FILTER (WHERE unknown) AS found, count(*) AS total,
       list_slice(list_sort(list(DISTINCT version) FILTER (WHERE unknown)), 1, 5) AS examples
  FROM (SELECT version, version NOT IN (SELECT version FROM known_versions) AS unknown
          FROM query
         WHERE version <> '');

-- check_documents_unknown --
-- Documents that were shown or clicked and are in the `unknown_documents`.
WITH named AS (
    SELECT document_id FROM click UNION SELECT document_id FROM impression UNION SELECT unnest(hit_ids) FROM query
)
SELECT count(unknown_documents.document_id) AS found, count(*) AS total,
       list_slice(list_sort(list(named.document_id) FILTER (WHERE unknown_documents.document_id IS NOT NULL)), 1, 5) AS examples
  FROM named
  LEFT JOIN unknown_documents USING (document_id)
 WHERE named.document_id IS NOT NULL;

-- named_documents --
-- Every document that the log names.
SELECT document_id FROM click WHERE document_id IS NOT NULL
 UNION
SELECT document_id FROM impression WHERE document_id IS NOT NULL
 UNION
SELECT document_id FROM (SELECT unnest(hit_ids) AS document_id FROM query) WHERE document_id IS NOT NULL;

-- account --
-- What came in, by application and action: how many records, and how many of them find their other half by query_id.
WITH event AS (
    SELECT query_id, application, 'impression' AS action FROM impression
     UNION ALL
    SELECT query_id, application, 'click' FROM click
     UNION ALL
    SELECT query_id, application, action FROM feedback
), joined AS (
    SELECT 1 AS place, application, '(query)' AS action, query_id IN (SELECT query_id FROM event) AS joins FROM query
     UNION ALL
    SELECT 2, application, action, query_id IN (SELECT query_id FROM query) FROM event
)
SELECT coalesce(application, '(none)') AS application, action, count(*) AS records,
       count(*) FILTER (WHERE joins) AS joined, count(*) FILTER (WHERE NOT joins) AS alone
  FROM joined
 GROUP BY application, place, action
 ORDER BY application, place, records DESC, action;

-- orphans --
-- The events whose query_id no query record has, by the first reason that holds; the reasons are explained in
-- daemon/validation.py.
WITH event AS (
    SELECT query_id, document_id, application, 'impression' AS action, "timestamp" FROM impression
     UNION ALL
    SELECT query_id, document_id, application, 'click', "timestamp" FROM click
     UNION ALL
    SELECT query_id, document_id, application, action, "timestamp" FROM feedback
), orphan AS (
    SELECT *, bool_or(document_id IS NOT NULL) OVER (PARTITION BY query_id) AS shown
      FROM event
      ANTI JOIN query USING (query_id)
), sent AS (
    SELECT application, count(*) AS records, min("timestamp") AS first, max("timestamp") AS last
      FROM query
     GROUP BY application
), refused AS (
    SELECT DISTINCT regexp_extract(record, '"query_id"\s*:\s*"([^"]*)"', 1) AS query_id
      FROM (SELECT TRY(decode(payload)) AS record FROM dead_letter)
     WHERE record IS NOT NULL AND NOT regexp_matches(record, '"action_name"\s*:\s*"')
), explained AS (
    SELECT orphan.*,
           CASE WHEN refused.query_id IS NOT NULL THEN 'query_refused'
                WHEN sent.records IS NULL THEN 'application_sends_no_queries'
                WHEN NOT shown THEN 'nothing_shown'
                WHEN orphan."timestamp" < first THEN 'before_first_query'
                WHEN orphan."timestamp" > last THEN 'after_last_query'
                ELSE 'query_lost'
           END AS reason
      FROM orphan
      LEFT JOIN refused USING (query_id)
      LEFT JOIN sent ON sent.application IS NOT DISTINCT FROM orphan.application
)
SELECT coalesce(application, '(none)') AS application, reason, count(*) AS events,
       count(DISTINCT query_id) AS searches,
       count(*) FILTER (WHERE action IN ('impression', 'click')) AS impressions_and_clicks
  FROM explained
 GROUP BY application, reason
 ORDER BY application, events DESC, reason;
