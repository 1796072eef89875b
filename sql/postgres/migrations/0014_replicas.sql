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
