-- lock_migrations --
-- One process migrates at a time; the lock ends with the transaction.
SELECT pg_advisory_xact_lock(hashtext('relevanced.migration'));

-- create_schema --
-- Our schema, and the list of the migrations that it has had.
CREATE SCHEMA IF NOT EXISTS relevanced;
CREATE TABLE IF NOT EXISTS relevanced.migration (
    name text PRIMARY KEY,
    applied_at timestamptz NOT NULL DEFAULT now()
);

-- create_extension --
-- pgvector, where the server has it.
CREATE EXTENSION IF NOT EXISTS vector;

-- extension_version --
-- The version of pgvector in this database.
SELECT extversion FROM pg_extension WHERE extname = 'vector';

-- search_our_schema_first --
-- Migrations name our tables without the schema; the rest of the path may be where pgvector's types live.
SELECT set_config('search_path', 'relevanced, ' || current_setting('search_path'), true);

-- applied_migrations --
-- Names of the migrations that are already in.
SELECT name FROM relevanced.migration;

-- record_migration --
-- Remember that this migration is in.
INSERT INTO relevanced.migration (name) VALUES (%(name)s);
