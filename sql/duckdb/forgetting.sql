-- One person's rows, found and removed. `person` holds the hashes of the id under every key.

-- gather_person --
-- The searches of a client or a session. An event that names nobody is theirs when it belongs to one of these searches,
-- or to a session of that client; an event that names another client never is.
CREATE TEMP TABLE their_session AS
SELECT id AS session_id FROM person WHERE getvariable('by_session')
 UNION
SELECT session_id
  FROM (SELECT client_id, session_id FROM lake.query UNION SELECT client_id, session_id FROM lake.impression
         UNION SELECT client_id, session_id FROM lake.click UNION SELECT client_id, session_id FROM lake.feedback)
 WHERE NOT getvariable('by_session') AND client_id IN (FROM person) AND session_id IS NOT NULL;
CREATE TEMP MACRO names_them(client, session) AS
    CASE WHEN getvariable('by_session') THEN session IN (SELECT session_id FROM their_session)
         ELSE client IN (SELECT id FROM person)
              OR (client IS NULL AND session IN (SELECT session_id FROM their_session)) END;
CREATE TEMP TABLE their_query AS
SELECT DISTINCT query_id FROM lake.query WHERE names_them(client_id, session_id);
CREATE TEMP MACRO is_theirs(client, session, query) AS
    coalesce(names_them(client, session), false)
    OR (client IS NULL AND (session IS NULL OR NOT getvariable('by_session'))
        AND query IN (SELECT query_id FROM their_query));

-- their_query_ids --
-- Their searches.
SELECT query_id FROM their_query WHERE query_id IS NOT NULL;

-- their_texts --
-- What they typed and nobody else did.
SELECT user_query
  FROM lake.query
 WHERE user_query <> ''
 GROUP BY user_query
HAVING bool_and(is_theirs(client_id, session_id, query_id));

-- others_texts --
-- What others typed.
SELECT DISTINCT user_query
  FROM lake.query
 WHERE user_query IS NOT NULL AND NOT is_theirs(client_id, session_id, query_id);

-- their_first_time --
-- When they first searched, by the clock of who sent the events.
SELECT min("timestamp") FROM lake.query WHERE is_theirs(client_id, session_id, query_id);

-- their_rows_at --
-- How many searches of theirs a snapshot holds.
SELECT count(*) FROM lake.query AT (VERSION => {snapshot_id}) WHERE is_theirs(client_id, session_id, query_id);

-- known_snapshots --
-- The snapshots that can still be read.
SELECT snapshot_id FROM ducklake_snapshots('lake');

-- dead_letter_payloads --
-- Every record that could not be read, as it came.
SELECT dead_letter_id, payload FROM lake.dead_letter;

-- forget_query --
-- Remove their searches.
DELETE FROM lake.query WHERE is_theirs(client_id, session_id, query_id);

-- forget_impression --
-- Remove what they were shown.
DELETE FROM lake.impression WHERE is_theirs(client_id, session_id, query_id);

-- forget_click --
-- Remove what they clicked.
DELETE FROM lake.click WHERE is_theirs(client_id, session_id, query_id);

-- forget_feedback --
-- Remove what else they did.
DELETE FROM lake.feedback WHERE is_theirs(client_id, session_id, query_id);

-- forget_dead_letter --
-- Remove the dead letters that name them, which the caller registers as `their_letters`.
DELETE FROM lake.dead_letter WHERE dead_letter_id IN (SELECT dead_letter_id FROM their_letters);
