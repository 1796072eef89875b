-- trust_no_search_path --
-- For one transaction: an expression of the settings means here what it means in the triggers, and nobody's temporary
-- table or function in a schema that all may write to stands in for another.
SELECT set_config('search_path', 'pg_catalog, pg_temp', true);

-- find_relation --
-- A table or view by its schema and name.
SELECT pg_class.oid, relkind FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
 WHERE nspname = %(schema)s AND relname = %(table)s AND relkind = ANY('{r,p,v,m,f}');

-- relation_names --
-- What else there is, for whom the name does not exist.
SELECT nspname || '.' || relname AS name FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
 WHERE relkind = ANY('{r,p,v,m,f}') AND nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast', 'relevanced');

-- relation_columns --
-- Its columns in their order, with their types, and whether one alone tells every row apart.
SELECT attname AS name, format_type(atttypid, NULL) AS type,
       EXISTS (SELECT FROM pg_index
                WHERE indrelid = attrelid AND indisunique AND indisvalid AND indpred IS NULL
                  AND indnkeyatts = 1 AND indkey[0] = attnum) AS is_key
  FROM pg_attribute WHERE attrelid = %(relation)s AND attnum > 0 AND NOT attisdropped ORDER BY attnum;

-- attached_source --
-- Where the documents come from, by its present name; schema and table are null when it is no more.
SELECT source.relation::oid AS relation, name, nspname AS schema, relname AS table, id_column, title, text, has_triggers,
       (SELECT format_type(atttypid, NULL) FROM pg_attribute
         WHERE attrelid = source.relation AND attname = id_column AND NOT attisdropped) AS id_type
  FROM relevanced.document_source AS source
  LEFT JOIN pg_class ON pg_class.oid = source.relation
  LEFT JOIN pg_namespace ON pg_namespace.oid = relnamespace;

-- attached_name --
-- What it is called, for who may not change documents beside it.
SELECT name FROM relevanced.document_source;

-- own_documents --
-- Its rows as documents. One without a text is none; without an id it could not be named.
SELECT document_id, title, text
  FROM (SELECT ({id})::text AS document_id, coalesce(({title})::text, '') AS title, ({text})::text AS text
          FROM {rows} AS {alias} WHERE {chosen}) AS own
 WHERE text IS NOT NULL AND btrim(document_id) <> ''

-- probe_own_documents --
-- Only whether that can be asked.
SELECT FROM ({own}) AS own LIMIT 0;

-- chosen_by_key --
-- Some of its rows, found by its own key.
{id} = ANY({document_ids}::text[]::{type}[])

-- chosen_by_text --
-- Some of its rows, where it may have no key.
({id})::text = ANY({document_ids}::text[])

-- duplicate_own_documents --
-- An id that several rows have.
SELECT document_id, count(*) AS rows FROM ({own}) AS own
 GROUP BY document_id HAVING count(*) > 1 ORDER BY document_id LIMIT 1;

-- count_strays --
-- Documents that are not from it.
SELECT count(*) AS strays FROM relevanced.document
 WHERE NOT EXISTS (SELECT FROM ({own}) AS own WHERE own.document_id = document.document_id);

-- differing_documents --
-- Every document that is not as it should be; where there is a row for it, it is new or changed.
SELECT document_id, own.text IS NOT NULL AS has_row
  FROM ({own}) AS own FULL JOIN relevanced.document AS document USING (document_id)
 WHERE (own.title, own.text) IS DISTINCT FROM (document.title, document.text)
 ORDER BY document_id;

-- count_differing --
-- How many those are.
SELECT count(*) AS differing
  FROM ({own}) AS own FULL JOIN relevanced.document AS document USING (document_id)
 WHERE (own.title, own.text) IS DISTINCT FROM (document.title, document.text);

-- bound_waiting --
-- For one transaction: whoever waits for a lock makes those wait who come after.
SELECT set_config('lock_timeout', %(lock_ms)s, true);

-- hold_changes --
-- The triggers hold this lock shared until their transaction ends. So nobody's change is under way while a chunk is
-- compared once more and written, which a snapshot from before the change could otherwise undo.
SELECT pg_advisory_xact_lock(hashtext('relevanced.documents'));

-- merge_own --
-- Add and change documents; those that are right by now stay as they are.
WITH merged AS (
    INSERT INTO relevanced.document AS document (document_id, title, text)
    SELECT document_id, title, text FROM ({own}) AS own ORDER BY document_id
    ON CONFLICT (document_id) DO UPDATE SET title = EXCLUDED.title, text = EXCLUDED.text
     WHERE (document.title, document.text) IS DISTINCT FROM (EXCLUDED.title, EXCLUDED.text)
    RETURNING document.xmax = 0 AS added
)
SELECT count(*) FILTER (WHERE added) AS added, count(*) FILTER (WHERE NOT added) AS changed FROM merged;

-- delete_strays --
-- Delete documents that still have no row.
WITH deleted AS (
    DELETE FROM relevanced.document
     WHERE document_id = ANY({document_ids}::text[])
       AND NOT EXISTS (SELECT FROM ({own}) AS own WHERE own.document_id = document.document_id)
    RETURNING document_id
)
SELECT count(*) AS deleted FROM deleted;

-- delete_all_documents --
-- Delete every document.
DELETE FROM relevanced.document;

-- record_source --
-- Remember where the documents come from.
INSERT INTO relevanced.document_source (relation, name, id_column, title, text, has_triggers)
VALUES (%(relation)s, %(name)s, %(id_column)s, %(title)s, %(text)s, %(has_triggers)s)
ON CONFLICT (only_row) DO UPDATE
   SET relation = EXCLUDED.relation, name = EXCLUDED.name, id_column = EXCLUDED.id_column, title = EXCLUDED.title,
       text = EXCLUDED.text, has_triggers = EXCLUDED.has_triggers, attached_at = now();

-- forget_source --
-- Nor what went wrong with it.
WITH failures AS (DELETE FROM relevanced.document_source_failure)
DELETE FROM relevanced.document_source;

-- source_failures --
-- What could not be taken over.
SELECT failure_id, failed_at, problem FROM relevanced.document_source_failure ORDER BY failure_id;

-- forget_failures --
-- A refresh has made them good.
DELETE FROM relevanced.document_source_failure WHERE failure_id = ANY(%(failure_ids)s);

-- source_triggers --
-- How many of our triggers there are, and are enabled.
SELECT count(*) AS triggers, count(*) FILTER (WHERE tgenabled IN ('O', 'A')) AS enabled FROM pg_trigger
 WHERE tgfoid = to_regprocedure('relevanced.take_over_documents()');

-- drop_take_over --
-- The function and every trigger that calls it, whatever the table is called by now. Nothing else can depend on it.
DROP FUNCTION IF EXISTS relevanced.take_over_documents() CASCADE;

-- create_take_over --
-- As its owner, since those who write to the table need no right to our schema.
CREATE FUNCTION relevanced.take_over_documents() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS {body};
REVOKE ALL ON FUNCTION relevanced.take_over_documents() FROM PUBLIC;

-- take_over_body --
-- What it does once for a statement, however many rows that has written: a savepoint for each row would cost more than
-- the row. What fails is noted, and the writer's own work stands; only what cancels the writer, such as its own
-- statement_timeout, still does.
DECLARE
    problem text;
BEGIN
    BEGIN
        PERFORM pg_advisory_xact_lock_shared(hashtext('relevanced.documents'));
        IF TG_OP = 'TRUNCATE' THEN
            DELETE FROM relevanced.document;
        ELSIF TG_OP = 'DELETE' THEN
            DELETE FROM relevanced.document WHERE document_id IN (SELECT document_id FROM ({removed}) AS removed);
        ELSE
            IF TG_OP = 'UPDATE' THEN
                DELETE FROM relevanced.document WHERE document_id IN (
                    SELECT document_id FROM ({removed}) AS removed
                    EXCEPT SELECT document_id FROM ({written}) AS written);
                INSERT INTO relevanced.document AS document (document_id, title, text)
                SELECT document_id, title, text
                  FROM (SELECT * FROM ({written}) AS written EXCEPT SELECT * FROM ({removed}) AS removed) AS own
                 ORDER BY document_id
                ON CONFLICT (document_id) DO UPDATE SET title = EXCLUDED.title, text = EXCLUDED.text
                 WHERE (document.title, document.text) IS DISTINCT FROM (EXCLUDED.title, EXCLUDED.text);
            ELSE
                INSERT INTO relevanced.document AS document (document_id, title, text)
                SELECT document_id, title, text FROM ({written}) AS written ORDER BY document_id
                ON CONFLICT (document_id) DO UPDATE SET title = EXCLUDED.title, text = EXCLUDED.text
                 WHERE (document.title, document.text) IS DISTINCT FROM (EXCLUDED.title, EXCLUDED.text);
            END IF;
        END IF;
    EXCEPTION WHEN OTHERS THEN
        problem := TG_OP || ': ' || SQLERRM;
        -- A table that fails at every write shall not fill the disk.
        INSERT INTO relevanced.document_source_failure (problem)
        SELECT problem WHERE (SELECT count(*) FROM relevanced.document_source_failure) < 1000;
    END;
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    RAISE WARNING 'relevanced could not note that it has not taken over a change: %', SQLERRM;
    RETURN NULL;
END

-- create_triggers --
-- One for each kind of statement, since a trigger that sees the rows of a statement may be for one kind alone.
CREATE TRIGGER relevanced_insert AFTER INSERT ON {table} REFERENCING NEW TABLE AS written
    FOR EACH STATEMENT EXECUTE FUNCTION relevanced.take_over_documents();
CREATE TRIGGER relevanced_update AFTER UPDATE ON {table} REFERENCING OLD TABLE AS removed NEW TABLE AS written
    FOR EACH STATEMENT EXECUTE FUNCTION relevanced.take_over_documents();
CREATE TRIGGER relevanced_delete AFTER DELETE ON {table} REFERENCING OLD TABLE AS removed
    FOR EACH STATEMENT EXECUTE FUNCTION relevanced.take_over_documents();
CREATE TRIGGER relevanced_truncate AFTER TRUNCATE ON {table}
    FOR EACH STATEMENT EXECUTE FUNCTION relevanced.take_over_documents();
