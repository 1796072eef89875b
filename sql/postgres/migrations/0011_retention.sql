-- A version that was live once, and is too far back to follow the documents.
ALTER TYPE version_state ADD VALUE 'retired';

-- When the files of its model were deleted; null while they are there.
ALTER TABLE version ADD COLUMN model_dropped_at timestamptz;

-- From which machine the live version was changed; null for changes that older releases made.
ALTER TABLE serving_history ADD COLUMN host text;
