-- ask_approval --
-- Let a version wait; one that was asked about already stays as it is.
INSERT INTO relevanced.approval (version_id, live_version_id, why)
VALUES (%(version_id)s, %(live_version_id)s, %(why)s)
ON CONFLICT (version_id) DO NOTHING;

-- replace_approval --
-- A better one has come: whatever else waits is not asked about any more.
UPDATE relevanced.approval
   SET decision = 'replaced', actor = %(actor)s, reason = %(reason)s, decided_at = now()
 WHERE decided_at IS NULL AND version_id <> %(version_id)s
RETURNING version_id;

-- decide_approval --
-- What a person has decided. No row comes back when it was decided before.
UPDATE relevanced.approval
   SET decision = %(decision)s, actor = %(actor)s, reason = %(reason)s, decided_at = now()
 WHERE decided_at IS NULL AND version_id = %(version_id)s
RETURNING version_id;

-- approvals --
-- Every version that has waited or waits, the newest first.
SELECT * FROM relevanced.approval ORDER BY approval_id DESC;
