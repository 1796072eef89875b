-- What the log knows about queries and documents. The log keeps a producer's retries; they are removed here, on reading.
-- An actor is a client, else a session, else the one search. The rows of marked `bots` (bots.sql) are passed over.

-- typed_queries --
-- Every text that at least $min_actors actors typed, how many did, when first and last, and where mostly. No query was
-- typed after it came in, whatever it says: one record from the future must not make all others old.
SELECT user_query, count(DISTINCT coalesce(nullif(client_id, ''), nullif(session_id, ''), query_id)) AS actors,
       min(least("timestamp", received_at)) AS first_typed, max(least("timestamp", received_at)) AS last_typed,
       mode(nullif(application, '')) AS application, mode(nullif(device, '')) AS device
  FROM query
  ANTI JOIN bots ON bots.actor = coalesce(nullif(client_id, ''), nullif(session_id, ''))
 WHERE user_query IS NOT NULL
 GROUP BY user_query
HAVING actors >= $min_actors
 ORDER BY user_query;

-- applications_from_0 --
-- UBI counts positions from 1; some applications count from 0, which only their events together show.
SELECT application
  FROM impression
  SEMI JOIN query USING (query_id)
  ANTI JOIN bots ON bots.actor = coalesce(nullif(impression.client_id, ''), nullif(impression.session_id, ''))
 WHERE position <= 0
 GROUP BY application
HAVING min(position) = 0;

-- evidence --
-- How many actors were shown a document for a query at a position, and what they did with it there: `clicks` counts those
-- who did anything, `response` names it. Rows of position 0 are what actors said of a document that this query did not
-- show them. After_click tells whether the same answer had a click further up: who has found something reads on less.
-- What one actor can say is bounded: of a pair one thing, the most telling, and of a document one over all queries
-- together, in equal parts; who reports the same document under a hundred queries is heard once. So the counts are no
-- whole numbers, but whole numbers of parts, of which a voice has 720,720,000, the first 16 numbers' multiple: so sums
-- are the same in any order, and of evidence some may be taken away again to the last digit.
-- Registered: query_keys, bots, `signals`, what counts at all and how telling each is, and applications_from_0.
--
-- Ids are compared by their hashes of 64 bits: among a hundred million two are alike once in three thousand logs, and
-- then two searches or actors count as one. Most searches are `plain`: reported once, by their hits, and the actor's only
-- one for these words. The plain ones that showed the same list are counted together, and then what is different about
-- a few documents is taken away: that was done with them, or that the actor is heard under other words too.
-- Step by step, for one statement would hold all its hash tables at once: five million searches need more than 1 GB.
-- Of two actions that are as telling the one that speaks against the document, as a thumb that was turned.
CREATE OR REPLACE TEMP TABLE said AS
SELECT action, row_number() OVER (ORDER BY telling, -lift, action) AS said, lift >= $good_lift AS is_good
  FROM signals;

CREATE OR REPLACE TEMP TABLE keyed AS
SELECT user_query, query_key, hash(query_key) AS key FROM query_keys;

CREATE OR REPLACE TEMP TABLE several AS
SELECT hash(query_id) AS search
  FROM query
  ANTI JOIN bots ON bots.actor = coalesce(nullif(client_id, ''), nullif(session_id, ''))
 GROUP BY search
HAVING count(*) > 1;

-- A page may make several requests under one query_id, mostly only one of them with hits. The record with most
-- hits stands for all; the fields after `hits` only make the choice the same on every reading.
CREATE OR REPLACE TEMP TABLE page AS
SELECT query_id, search, page_offset,
       max({'hits': coalesce(len(hit_ids), 0), 'list': hash(hit_ids), 'user_query': user_query,
            'surface': concat_ws('/', application, device)}) AS record,
       max(nullif(client_id, '')) AS client_id,
       max(nullif(session_id, '')) AS session_id,
       min("timestamp") AS asked_at
  FROM (SELECT * REPLACE (coalesce(page_offset, 0) AS page_offset), hash(query_id) AS search FROM query)
  SEMI JOIN several USING (search)
  ANTI JOIN bots ON bots.actor = coalesce(nullif(client_id, ''), nullif(session_id, ''))
 GROUP BY query_id, search, page_offset;

CREATE OR REPLACE TEMP TABLE rendered AS
SELECT hash(query_id) AS search, document_id,
       min(position + CASE WHEN application IN (SELECT coalesce(application, '') FROM applications_from_0)
                           THEN 1 ELSE 0 END) AS ordinal
  FROM (SELECT * REPLACE (coalesce(application, '') AS application) FROM impression)
  ANTI JOIN bots ON bots.actor = coalesce(nullif(client_id, ''), nullif(session_id, ''))
 WHERE position IS NOT NULL
 GROUP BY search, document_id;

CREATE OR REPLACE TEMP TABLE rendered_search AS
SELECT DISTINCT search FROM rendered;

-- Who asked what, where and when. One of the page's requests may lack the ids, so they are of any of them.
CREATE OR REPLACE TEMP TABLE search AS
SELECT search, list, page_offset, key, surface, hash(actor) AS actor,
       CASE WHEN session IS NOT NULL THEN hash(session) END AS session, asked_at
  FROM (SELECT hash(query_id) AS search, hash(hit_ids) AS list, coalesce(page_offset, 0) AS page_offset, user_query,
               concat_ws('/', application, device) AS surface,
               CASE WHEN $one_voice THEN coalesce(nullif(client_id, ''), nullif(session_id, ''), query_id)
                    ELSE query_id
               END AS actor,
               coalesce(nullif(session_id, ''), nullif(client_id, '')) AS session,
               "timestamp" AS asked_at
          FROM query
          ANTI JOIN bots ON bots.actor = coalesce(nullif(client_id, ''), nullif(session_id, ''))
          ANTI JOIN several ON several.search = hash(query_id)
         UNION ALL
        SELECT search, NULL, min(page_offset),
               max({'hits': record.hits, 'user_query': record.user_query, 'surface': record.surface}).user_query,
               max({'hits': record.hits, 'user_query': record.user_query, 'surface': record.surface}).surface,
               CASE WHEN $one_voice THEN coalesce(max(client_id), max(session_id), query_id) ELSE query_id END,
               coalesce(max(session_id), max(client_id)),
               min(asked_at)
          FROM page
         GROUP BY query_id, search)
  JOIN keyed USING (user_query);

CREATE OR REPLACE TEMP TABLE again AS
SELECT actor, key FROM search GROUP BY actor, key HAVING count(*) > 1;

CREATE OR REPLACE TEMP TABLE plain AS
SELECT search, list, page_offset, key, surface, actor, asked_at
  FROM search
  ANTI JOIN again USING (actor, key)
  ANTI JOIN rendered_search USING (search)
 WHERE list IS NOT NULL AND $half_life_days = 0;

-- What each list shows, and where: a document that is listed twice is seen at the first place.
CREATE OR REPLACE TEMP TABLE place AS
SELECT list, document_id, min(position) AS position
  FROM (SELECT list, unnest(hit_ids) AS document_id, generate_subscripts(hit_ids, 1) AS position
          FROM (SELECT hash(hit_ids) AS list, any_value(hit_ids) AS hit_ids
                  FROM query
                 WHERE hit_ids IS NOT NULL
                 GROUP BY list))
 WHERE document_id IS NOT NULL
 GROUP BY list, document_id;

CREATE OR REPLACE TEMP TABLE responded AS
SELECT hash(query_id) AS search, document_id, max(said) AS said
  FROM (SELECT query_id, document_id,
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
         WHERE document_id IS NOT NULL)
  JOIN said USING (action)
 GROUP BY search, document_id;

CREATE OR REPLACE TEMP TABLE plain_answer AS
SELECT plain.*, document_id, page_offset + position AS position, said
  FROM responded
  JOIN plain USING (search)
  JOIN place USING (list, document_id)
 WHERE page_offset + position BETWEEN 1 AND 50;

-- What the other searches showed.
CREATE OR REPLACE TEMP TABLE shown AS
SELECT search, document_id, min(position) AS position
  FROM (SELECT search, document_id, page_offset + position AS position
          FROM search
          ANTI JOIN plain USING (search)
          ANTI JOIN rendered_search USING (search)
          JOIN place USING (list)
         UNION ALL
        SELECT search, document_id, page_offset + position
          FROM page
          ANTI JOIN rendered_search USING (search)
          JOIN place ON place.list = record.list
         UNION ALL
        SELECT search, document_id, page_offset + ordinal
          FROM rendered
          JOIN search USING (search))
 WHERE document_id IS NOT NULL
 GROUP BY search, document_id
HAVING min(position) BETWEEN 1 AND 50;

CREATE OR REPLACE TEMP TABLE answered AS
SELECT search, document_id, position, said FROM plain_answer
 UNION ALL
SELECT search, document_id, position, said FROM responded JOIN shown USING (search, document_id);

CREATE OR REPLACE TEMP TABLE first_click AS
SELECT search, min(position) AS first_click FROM answered GROUP BY search;

-- One row per actor: whoever reloads a page ten times or clicks ten times still counts once.
CREATE OR REPLACE TEMP TABLE seen_by AS
SELECT key, document_id, shown.position AS position, coalesce(shown.position > first_click, false) AS after_click,
       surface, actor, max(said) AS said, min(asked_at) AS asked_at
  FROM shown
  JOIN search USING (search)
  LEFT JOIN first_click USING (search)
  LEFT JOIN answered USING (search, document_id)
 GROUP BY ALL;

-- What each actor said of each pair: the most telling, at the first place where it said anything.
CREATE OR REPLACE TEMP TABLE spoken AS
SELECT key, document_id, actor, max(said) AS said,
       min({
           'asked_at': asked_at, 'position': position, 'after_click': after_click, 'surface': surface
       }) AS first
  FROM seen_by
 WHERE said IS NOT NULL
 GROUP BY ALL
 UNION ALL
SELECT key, document_id, actor, said,
       {'asked_at': asked_at, 'position': position, 'after_click': position > first_click, 'surface': surface}
  FROM plain_answer
  JOIN first_click USING (search);

-- Up to there: whoever comes back to what it has found, elsewhere or under a later version, says nothing new. A
-- sequence that ends with its first click has the likelihood of the whole one, so no propensity is bent.
CREATE OR REPLACE TEMP TABLE unmoved AS
SELECT key, document_id, seen_by.position AS position, seen_by.after_click AS after_click,
       seen_by.surface AS surface, actor, seen_by.asked_at AS asked_at
  FROM seen_by
  LEFT JOIN spoken USING (key, document_id, actor)
 WHERE seen_by.said IS NULL
   AND (spoken.first IS NULL OR seen_by.asked_at < spoken.first.asked_at OR seen_by.asked_at IS NULL);

CREATE OR REPLACE TEMP TABLE good AS
SELECT search, document_id FROM answered JOIN said USING (said) WHERE is_good;

CREATE OR REPLACE TEMP TABLE chain AS
SELECT session FROM search WHERE session IS NOT NULL GROUP BY session HAVING count(*) > 1;

CREATE OR REPLACE TEMP TABLE found AS
SELECT session, asked_at, key AS found_by, document_id
  FROM good
  JOIN search USING (search)
  SEMI JOIN chain USING (session)
 WHERE asked_at IS NOT NULL;

-- Searches that found nothing good, and when the next of the session did. A click that came to nothing is none, and who
-- votes a document down seeks on.
CREATE OR REPLACE TEMP TABLE unhappy AS
SELECT seeking.session AS session, actor, key, surface, seeking.asked_at AS asked_at, finding.asked_at AS found_at
  FROM (SELECT session, actor, key, surface, asked_at
          FROM search
          SEMI JOIN chain USING (session)
          ANTI JOIN good USING (search)
         WHERE asked_at IS NOT NULL) AS seeking
  ASOF JOIN (SELECT DISTINCT session, asked_at FROM found) AS finding
    ON seeking.session = finding.session AND seeking.asked_at < finding.asked_at
 WHERE finding.asked_at <= seeking.asked_at + to_seconds($reformulation_within);

-- What the next search of the session found answers the unhappy one too, if it came soon.
CREATE OR REPLACE TEMP TABLE reformulated AS
SELECT key, document_id, actor, surface, min(unhappy.asked_at) AS asked_at
  FROM unhappy
  JOIN found ON found.session = unhappy.session AND found.asked_at = found_at AND found_by <> key
  ANTI JOIN spoken USING (key, document_id, actor)
 GROUP BY ALL;

CREATE OR REPLACE TEMP TABLE heard AS
SELECT key, document_id, first.position AS position, first.after_click AS after_click,
       first.surface AS surface, actor, said, first.asked_at AS asked_at
  FROM spoken
 UNION ALL
SELECT key, document_id, 0, false, surface, actor, said, asked_at
  FROM reformulated
  JOIN said ON action = 'reformulation';

CREATE OR REPLACE TEMP TABLE voice AS
SELECT actor, document_id, count(*) AS pairs FROM heard GROUP BY actor, document_id HAVING count(*) > 1;

-- Its skips of the document weigh no more than its clicks, or documents that many queries find would look worse.
CREATE OR REPLACE TEMP TABLE part AS
SELECT key, document_id, position, after_click, surface, said,
       round(720720000 * CASE WHEN $half_life_days > 0 AND asked_at IS NOT NULL
                              THEN pow(2, -epoch((SELECT max(asked_at) FROM search) - asked_at)
                                          / 86400 / $half_life_days)
                              ELSE 1
                         END / coalesce(pairs, 1))::BIGINT AS parts
  FROM (FROM heard UNION ALL SELECT * EXCLUDE asked_at, NULL, asked_at FROM unmoved)
  LEFT JOIN voice USING (actor, document_id);

CREATE OR REPLACE TEMP TABLE counted AS
SELECT key, surface, list, page_offset, first_click, count(*) AS searches
  FROM plain
  LEFT JOIN first_click USING (search)
 GROUP BY ALL;

INSERT INTO part
SELECT key, document_id, page_offset + position, coalesce(page_offset + position > first_click, false), surface, NULL,
       sum(720720000 * searches)::BIGINT
  FROM counted
  JOIN place USING (list)
 WHERE page_offset + position BETWEEN 1 AND 50
 GROUP BY ALL;

INSERT INTO part
SELECT key, document_id, position, position > first_click, surface, NULL, -720720000
  FROM plain_answer
  JOIN first_click USING (search);

INSERT INTO part
SELECT key, document_id, page_offset + place.position, coalesce(page_offset + place.position > first_click, false),
       surface, NULL, round(720720000 / pairs)::BIGINT - 720720000
  FROM voice
  JOIN plain USING (actor)
  JOIN place USING (list, document_id)
  LEFT JOIN first_click USING (search)
  ANTI JOIN plain_answer USING (search, document_id)
 WHERE page_offset + place.position BETWEEN 1 AND 50;

CREATE OR REPLACE TEMP TABLE summed AS
SELECT key, document_id, position::INTEGER AS position, after_click, surface, said, sum(parts)::BIGINT AS parts
  FROM part
 GROUP BY ALL
HAVING sum(parts) > 0;

SELECT query_key, document_id, position, after_click, surface, action AS response,
       CASE WHEN position > 0 THEN parts ELSE 0 END / 720720000 AS shown,
       CASE WHEN said IS NOT NULL THEN parts ELSE 0 END / 720720000 AS clicks
  FROM summed
  JOIN (SELECT DISTINCT key, query_key FROM keyed) USING (key)
  LEFT JOIN said USING (said)
 ORDER BY query_key, document_id, surface, after_click, position, response;

-- rows_unaccounted_for --
-- How many rows came or went between two snapshots of which DuckLake's list of changes says nothing.
SELECT sum(abs(now - before - come + gone))::BIGINT AS missed
  FROM (
        SELECT (SELECT count(*) FROM lake.query AT (VERSION => $now)),
               (SELECT count(*) FROM lake.query AT (VERSION => $before)),
               (SELECT count(*) FROM ducklake_table_insertions('lake', 'main', 'query', $before + 1, $now)),
               (SELECT count(*) FROM ducklake_table_deletions('lake', 'main', 'query', $before + 1, $now))
         UNION ALL
        SELECT (SELECT count(*) FROM lake.impression AT (VERSION => $now)),
               (SELECT count(*) FROM lake.impression AT (VERSION => $before)),
               (SELECT count(*) FROM ducklake_table_insertions('lake', 'main', 'impression', $before + 1, $now)),
               (SELECT count(*) FROM ducklake_table_deletions('lake', 'main', 'impression', $before + 1, $now))
         UNION ALL
        SELECT (SELECT count(*) FROM lake.click AT (VERSION => $now)),
               (SELECT count(*) FROM lake.click AT (VERSION => $before)),
               (SELECT count(*) FROM ducklake_table_insertions('lake', 'main', 'click', $before + 1, $now)),
               (SELECT count(*) FROM ducklake_table_deletions('lake', 'main', 'click', $before + 1, $now))
         UNION ALL
        SELECT (SELECT count(*) FROM lake.feedback AT (VERSION => $now)),
               (SELECT count(*) FROM lake.feedback AT (VERSION => $before)),
               (SELECT count(*) FROM ducklake_table_insertions('lake', 'main', 'feedback', $before + 1, $now)),
               (SELECT count(*) FROM ducklake_table_deletions('lake', 'main', 'feedback', $before + 1, $now))
       ) AS counted(now, before, come, gone);

-- touched_searches --
-- The searches, by their hashes, of everybody whom it concerns what has changed $before and $now: rows that came or went,
-- bots that were marked or are no more, and texts that have another key. A search is of its actor, what an actor says of
-- a document depends on all its searches, and what it found under other words on the searches of its sessions: so whoever
-- shares an id with a search that is touched is touched too.
CREATE OR REPLACE TEMP MACRO moved_in(name, first, last) AS TABLE
SELECT query_id, client_id, session_id FROM ducklake_table_insertions('lake', 'main', name, first, last)
 UNION ALL
SELECT query_id, client_id, session_id FROM ducklake_table_deletions('lake', 'main', name, first, last);

CREATE OR REPLACE TEMP TABLE moved AS
FROM moved_in('query', $before + 1, $now)
 UNION ALL
FROM moved_in('impression', $before + 1, $now)
 UNION ALL
FROM moved_in('click', $before + 1, $now)
 UNION ALL
FROM moved_in('feedback', $before + 1, $now);

CREATE OR REPLACE TEMP TABLE changed_bot AS
(FROM bots EXCEPT FROM bots_before) UNION ALL (FROM bots_before EXCEPT FROM bots);

CREATE OR REPLACE TEMP TABLE still_bot AS
FROM bots INTERSECT FROM bots_before;

CREATE OR REPLACE TEMP TABLE changed_text AS
SELECT user_query
  FROM ((FROM query_keys EXCEPT FROM query_keys_before) UNION ALL (FROM query_keys_before EXCEPT FROM query_keys));

CREATE OR REPLACE TEMP TABLE of_bots AS
SELECT query_id FROM query SEMI JOIN changed_bot ON actor = coalesce(nullif(client_id, ''), nullif(session_id, ''))
 UNION ALL
SELECT query_id FROM click SEMI JOIN changed_bot ON actor = coalesce(nullif(client_id, ''), nullif(session_id, ''))
 UNION ALL
SELECT query_id
  FROM impression
  SEMI JOIN changed_bot ON actor = coalesce(nullif(client_id, ''), nullif(session_id, ''))
 UNION ALL
SELECT query_id
  FROM feedback
  SEMI JOIN changed_bot ON actor = coalesce(nullif(client_id, ''), nullif(session_id, ''));

CREATE OR REPLACE TEMP TABLE changed AS
SELECT DISTINCT hash(query_id) AS search
  FROM (SELECT query_id
          FROM moved
          ANTI JOIN still_bot ON actor = coalesce(nullif(client_id, ''), nullif(session_id, ''))
         UNION ALL
        FROM of_bots
         UNION ALL
        SELECT query_id FROM query SEMI JOIN changed_text USING (user_query));

CREATE OR REPLACE TEMP TABLE link AS
WITH line AS MATERIALIZED (
    SELECT hash(query_id) AS search, CASE WHEN client_id <> '' THEN hash(client_id) END AS client,
           CASE WHEN session_id <> '' THEN hash(session_id) END AS session
      FROM (SELECT query_id, client_id, session_id FROM query
             UNION ALL
            SELECT query_id, client_id, session_id
              FROM ducklake_table_deletions('lake', 'main', 'query', $before + 1, $now))
      ANTI JOIN still_bot ON actor = coalesce(nullif(client_id, ''), nullif(session_id, ''))
)
SELECT search, client AS id FROM line WHERE client IS NOT NULL
 UNION ALL
SELECT search, session FROM line WHERE session IS NOT NULL;

CREATE OR REPLACE TEMP TABLE near AS
FROM changed
 UNION
SELECT search FROM link SEMI JOIN (SELECT DISTINCT id FROM link SEMI JOIN changed USING (search)) USING (id);

CREATE OR REPLACE TEMP TABLE far AS
FROM near
 UNION
SELECT search FROM link SEMI JOIN (SELECT DISTINCT id FROM link SEMI JOIN near USING (search)) USING (id);

-- Two steps suffice where each session is of one client; the steps of others follow.
WITH RECURSIVE beyond AS (
    FROM far ANTI JOIN near USING (search)
     UNION
    SELECT other.search
      FROM beyond
      JOIN link USING (search)
      JOIN (FROM link WHERE (SELECT count(*) FROM far) > (SELECT count(*) FROM near)) AS other USING (id)
), touched AS MATERIALIZED (
    FROM far UNION FROM beyond
)
SELECT search, (SELECT count(*) FROM touched) > $most * (SELECT count(*) FROM query) AS too_many FROM touched;

-- add_evidence --
-- The evidence that was `kept`, without what is `gone` and with what has `come`, in whole parts of a voice.
CREATE OR REPLACE TEMP TABLE change AS
SELECT query_key, document_id, position, after_click, surface, response,
       sum(shown)::BIGINT AS shown, sum(clicks)::BIGINT AS clicks
  FROM (SELECT * REPLACE (round(shown * 720720000)::BIGINT AS shown, round(clicks * 720720000)::BIGINT AS clicks)
          FROM come
         UNION ALL
        SELECT * REPLACE (-round(shown * 720720000)::BIGINT AS shown, -round(clicks * 720720000)::BIGINT AS clicks)
          FROM gone)
 GROUP BY ALL
HAVING sum(shown) <> 0 OR sum(clicks) <> 0;

SELECT query_key, document_id, position, after_click, surface, response,
       sum(shown)::BIGINT / 720720000 AS shown, sum(clicks)::BIGINT / 720720000 AS clicks
  FROM (SELECT * REPLACE (round(shown * 720720000)::BIGINT AS shown, round(clicks * 720720000)::BIGINT AS clicks)
          FROM kept
         UNION ALL
        FROM change)
 GROUP BY ALL
HAVING sum(shown) > 0 OR sum(clicks) > 0
 ORDER BY query_key, document_id, surface, after_click, position, response;
