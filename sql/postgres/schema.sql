-- What the migrations arrive at, in one piece; a test compares the two. Nothing runs this file but that test.
CREATE SCHEMA relevanced;
SET search_path = relevanced, public;

CREATE TABLE migration (
    name text PRIMARY KEY,
    applied_at timestamptz NOT NULL DEFAULT now()
);

CREATE TYPE version_state AS ENUM ('candidate', 'prepared', 'verified', 'rejected', 'retired');
CREATE TYPE cycle_step_name AS ENUM ('mine', 'train', 'gate', 'index', 'verify', 'promote', 'ended');
CREATE TYPE step_verdict AS ENUM ('done', 'nothing', 'accepted', 'rejected', 'inconclusive', 'failed', 'trial', 'waiting');
CREATE TYPE serving_verb AS ENUM ('promote', 'rollback');
CREATE TYPE trial_purpose AS ENUM ('promotion', 'observation');
CREATE TYPE trial_verdict AS ENUM ('better', 'worse', 'undecided', 'void');
CREATE TYPE approval_decision AS ENUM ('approved', 'rejected', 'replaced');
CREATE TYPE golden_source AS ENUM ('expert', 'llm');

-- What tells one content from another. Its own function, because convert_to is only STABLE: it depends on the encoding
-- of the database, which cannot change. The length keeps "a", "bc" apart from "ab", "c".
CREATE FUNCTION content_sha(title text, text text) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT encode(sha256(convert_to(length(title) || ' ' || title || text, 'UTF8')), 'hex')
$$;

-- Documents of those who have no table of their own.
CREATE TABLE document (
    document_id text PRIMARY KEY,
    title text NOT NULL,
    text text NOT NULL,
    content_sha text NOT NULL GENERATED ALWAYS AS (content_sha(title, text)) STORED,
    -- What full-text search looks through. 'simple' keeps words as they are, which is right in every language; a stored
    -- column can have one configuration only, and 'english' would ruin others for the sake of a few percent. A tsvector
    -- has 1 MB at most, and a longer document could not be loaded at all.
    words tsvector NOT NULL GENERATED ALWAYS AS (to_tsvector('simple', left(title || ' ' || text, 100000))) STORED
);
CREATE INDEX document_words ON document USING gin (words);

-- One row for each change of a document. A reader goes on in the order of (transaction_id, position) and stops before
-- the oldest transaction that is still open: positions alone become visible out of order.
CREATE TABLE outbox (
    transaction_id xid8 NOT NULL DEFAULT pg_current_xact_id(),
    position bigint GENERATED ALWAYS AS IDENTITY,
    document_id text NOT NULL,
    PRIMARY KEY (transaction_id, position)
);

CREATE FUNCTION note_document_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        INSERT INTO relevanced.outbox (document_id) VALUES (OLD.document_id);
    ELSIF TG_OP = 'INSERT' OR OLD.document_id <> NEW.document_id OR OLD.content_sha <> NEW.content_sha THEN
        INSERT INTO relevanced.outbox (document_id) VALUES (NEW.document_id);
        IF TG_OP = 'UPDATE' AND OLD.document_id <> NEW.document_id THEN
            INSERT INTO relevanced.outbox (document_id) VALUES (OLD.document_id);
        END IF;
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER document_to_outbox AFTER INSERT OR UPDATE OR DELETE ON document
    FOR EACH ROW EXECUTE FUNCTION note_document_change();

CREATE TABLE version (
    version_id bigint PRIMARY KEY,  -- 1, 2, 3: no gaps, even where a process died
    parent_version_id bigint REFERENCES version,
    state version_state NOT NULL DEFAULT 'candidate',
    directory text,                -- null until the model's files are complete
    fingerprint text,              -- of the vector space; null likewise
    dimension integer CHECK (dimension > 0),
    manifest jsonb NOT NULL DEFAULT '{}',
    outbox_transaction_id xid8,    -- catch-up has come to here; null before the first backfill
    outbox_position bigint,
    created_at timestamptz NOT NULL DEFAULT now(),
    -- A version that only turns the vectors of the queries searches the index of the one that it builds on; null: its own.
    index_version_id bigint REFERENCES version,
    model_dropped_at timestamptz,  -- the files of its model were deleted; null while they are there
    ef_search integer CHECK (ef_search > 0),  -- candidates of a search, chosen by verify; null: as the config says
    CHECK ((directory IS NULL) = (fingerprint IS NULL)),
    CHECK ((directory IS NULL) = (dimension IS NULL)),
    CHECK (state IN ('candidate', 'rejected') OR directory IS NOT NULL),
    CHECK (index_version_id <> version_id)
);

-- One row: what is live, and what rollback returns to.
CREATE TABLE serving (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    live_version_id bigint REFERENCES version,
    previous_version_id bigint REFERENCES version,
    CHECK (live_version_id <> previous_version_id)
);
INSERT INTO serving DEFAULT VALUES;

CREATE TABLE serving_history (
    serving_history_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    changed_at timestamptz NOT NULL DEFAULT now(),
    verb serving_verb NOT NULL,
    live_version_id bigint NOT NULL REFERENCES version,
    previous_version_id bigint REFERENCES version,
    actor text NOT NULL,
    reason text NOT NULL,
    host text                      -- from which machine; null for changes that older releases made
);

-- Two versions whose answers are interleaved for a share of the sessions. `promotion` tries a candidate before it is
-- live; `observation` goes on comparing the live version with the one before it.
CREATE TABLE trial (
    trial_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    purpose trial_purpose NOT NULL,
    live_version_id bigint NOT NULL REFERENCES version,
    other_version_id bigint NOT NULL REFERENCES version,
    verdict trial_verdict,         -- of the other version; null while it runs
    sentence text,
    numbers jsonb NOT NULL DEFAULT '{}',
    started_at timestamptz NOT NULL DEFAULT now(),
    ended_at timestamptz,
    level double precision CHECK (level > 0 AND level < 1),  -- how likely it may promote without any gain
    CHECK (live_version_id <> other_version_id),
    CHECK ((verdict IS NULL) = (ended_at IS NULL))
);
CREATE UNIQUE INDEX trial_one_at_a_time ON trial ((true)) WHERE ended_at IS NULL;

-- Versions that were found better and wait, or waited, for a person's word.
CREATE TABLE approval (
    approval_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    version_id bigint NOT NULL UNIQUE REFERENCES version,
    live_version_id bigint NOT NULL REFERENCES version,
    why text NOT NULL,
    asked_at timestamptz NOT NULL DEFAULT now(),
    decision approval_decision,    -- null while it waits
    actor text,
    reason text,
    decided_at timestamptz,
    CHECK ((decision IS NULL) = (decided_at IS NULL)),
    CHECK ((decision IS NULL) = (actor IS NULL))
);
CREATE UNIQUE INDEX approval_one_at_a_time ON approval ((true)) WHERE decided_at IS NULL;

CREATE TABLE cycle (
    cycle_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    trigger text NOT NULL,         -- who began it: a person, the cron, enough new queries
    step cycle_step_name NOT NULL DEFAULT 'mine',  -- the one to do next
    snapshot_id bigint,            -- of the log store; set by mine
    candidate_version_id bigint REFERENCES version,
    judged_queries bigint,         -- at this cycle's snapshot; the scheduler counts on from here
    sentence text,                 -- of the last step that ended
    started_at timestamptz NOT NULL DEFAULT now(),
    ended_at timestamptz,
    adapter_version_id bigint REFERENCES version,  -- trained beside the candidate
    CHECK ((step = 'ended') = (ended_at IS NOT NULL))
);
CREATE UNIQUE INDEX cycle_one_at_a_time ON cycle ((true)) WHERE ended_at IS NULL;

CREATE TABLE cycle_step (
    cycle_id bigint NOT NULL REFERENCES cycle,
    step cycle_step_name NOT NULL,
    attempts integer NOT NULL DEFAULT 1 CHECK (attempts >= 0),
    verdict step_verdict,          -- null while it runs
    sentence text,
    numbers jsonb NOT NULL DEFAULT '{}',
    progress jsonb,                -- label, done, total, detail
    started_at timestamptz NOT NULL DEFAULT now(),
    ended_at timestamptz,
    PRIMARY KEY (cycle_id, step),
    CHECK ((verdict IS NULL) = (ended_at IS NULL))
);

-- How often each cluster of held-out queries was asked for a verdict. A hash of it will do, for nobody reads it.
CREATE TABLE holdout_use (
    cluster_hash bytea PRIMARY KEY CHECK (length(cluster_hash) = 16),
    verdicts integer NOT NULL DEFAULT 1,
    last_cycle_id bigint NOT NULL REFERENCES cycle,
    retired_at timestamptz         -- from then on it is trained on, and asked no more
);

-- What people who know, or a language model, say of query and document: a second opinion beside the clicks.
CREATE TABLE golden_judgment (
    user_query text NOT NULL,
    document_id text NOT NULL,
    source golden_source NOT NULL,
    grade real NOT NULL CHECK (grade >= 0),
    wished boolean NOT NULL,       -- asked for by a gate, which fills a gap of the clicks; else part of a golden set
    judged_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_query, document_id, source)
);

-- Pairs whose judgment would tell the next gate most: what a candidate shows and nobody has judged.
CREATE TABLE judgment_wish (
    user_query text NOT NULL,
    document_id text NOT NULL,
    gain real NOT NULL,            -- in NDCG@10 of the query, at most
    asked_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_query, document_id)
);

-- Who may do what, until when. The token grows with each new holder; work done under an older token is refused.
CREATE TABLE lease (
    name text PRIMARY KEY,
    holder text NOT NULL,
    token bigint NOT NULL DEFAULT 1,
    expires_at timestamptz NOT NULL
);

-- The keys of the hash under which the log keeps ids; the newest is in use, the others find what was stored under them.
CREATE TABLE privacy_key (
    key_number integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key bytea NOT NULL CHECK (length(key) = 32),
    created_at timestamptz NOT NULL DEFAULT now()
);

-- What was removed at the wish of a person, for the operator's account of it; of whom is not kept.
CREATE TABLE forgetting (
    forgetting_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    begun_at timestamptz NOT NULL DEFAULT now(),
    ended_at timestamptz,          -- null while it runs, or when it was killed: the next one ends it too
    removed_rows bigint NOT NULL,
    version_ids bigint[] NOT NULL  -- trained from a log with rows of theirs
);

-- The operator's own table or view, where the documents come from one; title and text are SQL over its columns.
CREATE TABLE document_source (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    relation regclass NOT NULL,    -- follows it when it is renamed
    name text NOT NULL,            -- as the settings gave it, for when it is no more
    id_column text NOT NULL,
    title text NOT NULL,
    text text NOT NULL,
    has_triggers boolean NOT NULL, -- a view has none
    attached_at timestamptz NOT NULL DEFAULT now()
);

-- Changes of it that could not be taken over; the writer's transaction went on. A refresh that succeeds empties it.
CREATE TABLE document_source_failure (
    failure_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    failed_at timestamptz NOT NULL DEFAULT now(),
    problem text NOT NULL
);

-- The processes that search. Each writes its row about once a second; one that does not is not waited for.
CREATE TABLE replica (
    replica_id uuid PRIMARY KEY,
    process text NOT NULL,         -- host:pid
    seen_at timestamptz NOT NULL,  -- by the clock of this server, which all of them share
    answering_version_id bigint,
    ready_version_ids bigint[] NOT NULL,
    failures jsonb NOT NULL        -- version -> why its model could not be made ready
);

-- Versions that somebody is about to promote; replicas make them ready. One whose promoter died runs out.
CREATE TABLE announcement (
    announcement_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    version_id bigint NOT NULL REFERENCES version ON DELETE CASCADE,
    expires_at timestamptz NOT NULL
);
