-- known_versions --
-- The versions there have been, as query records name them.
SELECT version_id::text AS version FROM relevanced.version ORDER BY version_id;

-- any_documents --
-- Whether documents have been loaded at all.
SELECT EXISTS (SELECT FROM relevanced.document) AS loaded;

-- unknown_documents --
-- Which of these the documents' table does not have.
SELECT document_id FROM unnest(%(document_ids)s::text[]) AS named (document_id)
EXCEPT
SELECT document_id FROM relevanced.document WHERE document_id = ANY(%(document_ids)s);
