-- What full-text search looks through. 'simple' keeps words as they are, which is right in every language; a stored column
-- can have one configuration only, and 'english' would ruin others for the sake of a few percent. A tsvector has 1 MB at
-- most, and a longer document could not be loaded at all.
ALTER TABLE document ADD COLUMN words tsvector NOT NULL
    GENERATED ALWAYS AS (to_tsvector('simple', left(title || ' ' || text, 100000))) STORED;
CREATE INDEX document_words ON document USING gin (words);
