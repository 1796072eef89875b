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
