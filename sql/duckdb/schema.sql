-- The log store's tables. DuckLake has neither primary keys nor ON CONFLICT: a producer's retries are removed when
-- reading, and a batch delivered twice by source_offset, which is written with the rows. received_at is our own clock's:
-- what a record says of its time may be missing or wrong, and retention must not believe it.

-- One row for each UBI query record that came in; hit_ids in the order shown, the first at position page_offset + 1;
-- ranked_by says for each which version put it there, or both (1+2), where that was not `version` alone; in a slot, which
-- ranker would: another version, full_text or deeper (of `version`, but from below the page), or several (full_text+1).
-- device is a kind, such as mobile, on which people see another page; it names nobody.
CREATE TABLE IF NOT EXISTS query (
    query_id VARCHAR, user_query VARCHAR, client_id VARCHAR, session_id VARCHAR, application VARCHAR,
    "timestamp" TIMESTAMPTZ, hit_ids VARCHAR[], page_offset INTEGER,
    version VARCHAR, policy VARCHAR, propensities DOUBLE[], ranked_by VARCHAR[], received_at TIMESTAMPTZ, device VARCHAR
);

-- Impression events: a document that was really rendered. Where a query has any, they replace hit_ids.
CREATE TABLE IF NOT EXISTS impression (
    query_id VARCHAR, document_id VARCHAR, position INTEGER, client_id VARCHAR, session_id VARCHAR,
    application VARCHAR, "timestamp" TIMESTAMPTZ, received_at TIMESTAMPTZ
);

CREATE TABLE IF NOT EXISTS click (
    query_id VARCHAR, document_id VARCHAR, position INTEGER, client_id VARCHAR, session_id VARCHAR,
    application VARCHAR, "timestamp" TIMESTAMPTZ, dwell_seconds DOUBLE,
    received_at TIMESTAMPTZ
);

-- Every other action: purchase, upvote, downvote, cite, search and so on. A search has no document.
CREATE TABLE IF NOT EXISTS feedback (
    query_id VARCHAR, document_id VARCHAR, action VARCHAR, value DOUBLE, client_id VARCHAR, session_id VARCHAR,
    application VARCHAR, "timestamp" TIMESTAMPTZ, received_at TIMESTAMPTZ
);

CREATE TABLE IF NOT EXISTS dead_letter (
    dead_letter_id VARCHAR, reason VARCHAR, source VARCHAR, partition VARCHAR, "offset" BIGINT, payload BLOB,
    received_at TIMESTAMPTZ
);

-- Where each source goes on; written in the transaction that stores the rows before it.
CREATE TABLE IF NOT EXISTS source_offset (
    source VARCHAR, partition VARCHAR, next_offset BIGINT
);

-- Log stores that were begun before it.
ALTER TABLE query ADD COLUMN IF NOT EXISTS received_at TIMESTAMPTZ;
ALTER TABLE query ADD COLUMN IF NOT EXISTS ranked_by VARCHAR[];
ALTER TABLE query ADD COLUMN IF NOT EXISTS device VARCHAR;
ALTER TABLE impression ADD COLUMN IF NOT EXISTS received_at TIMESTAMPTZ;
ALTER TABLE click ADD COLUMN IF NOT EXISTS received_at TIMESTAMPTZ;
ALTER TABLE feedback ADD COLUMN IF NOT EXISTS received_at TIMESTAMPTZ;
