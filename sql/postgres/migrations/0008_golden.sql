-- What people who know, or a language model, say of query and document: a second opinion beside the clicks.
CREATE TYPE golden_source AS ENUM ('expert', 'llm');

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
