-- A version that only turns the vectors of the queries searches the index of the version that it builds on; null: its own.
ALTER TABLE version ADD COLUMN index_version_id bigint REFERENCES version CHECK (index_version_id <> version_id);

-- The adapter that a cycle has trained beside its candidate.
ALTER TABLE cycle ADD COLUMN adapter_version_id bigint REFERENCES version;
