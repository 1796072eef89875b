-- serving --
-- What answers now, what rollback returns to, and what live is tried against. A trial against an earlier live version is
-- over, though its row may not say so yet.
SELECT serving.live_version_id, previous_version_id, trial_id, other_version_id, purpose AS trial_purpose
  FROM relevanced.serving
  LEFT JOIN relevanced.trial ON trial.live_version_id = serving.live_version_id AND trial.ended_at IS NULL;

-- promote_version --
-- Point serving at a verified version. No row comes back when another promotion came first.
UPDATE relevanced.serving
   SET previous_version_id = live_version_id, live_version_id = %(version_id)s
 WHERE live_version_id IS NOT DISTINCT FROM %(expected_live_version_id)s
   AND live_version_id IS DISTINCT FROM %(version_id)s
   AND EXISTS (SELECT FROM relevanced.version WHERE version_id = %(version_id)s AND state = 'verified')
RETURNING live_version_id, previous_version_id;

-- rollback_version --
-- Swap live and previous. No row comes back when another change came first.
UPDATE relevanced.serving
   SET previous_version_id = live_version_id, live_version_id = previous_version_id
 WHERE live_version_id = %(expected_live_version_id)s
   AND EXISTS (SELECT FROM relevanced.version WHERE version_id = previous_version_id AND state = 'verified')
RETURNING live_version_id, previous_version_id;

-- lock_serving --
-- Let no other change of the pointer, and no retirement of a version, come in between until this transaction ends. A
-- statement of its own, so that what follows sees what the one before has committed.
SELECT FROM relevanced.serving FOR UPDATE;

-- retire_versions --
-- Versions that were live once, and are further back than those that may follow the documents. The first goes on: mining
-- ranks by it.
UPDATE relevanced.version SET state = 'retired'
 WHERE state IN ('prepared', 'verified')
   AND version_id > (SELECT min(version_id) FROM relevanced.version)
   AND version_id IN (SELECT live_version_id FROM relevanced.serving_history)
   AND version_id <> ALL(%(following)s);

-- note_serving_change --
-- Who changed what is live, and why.
INSERT INTO relevanced.serving_history (verb, live_version_id, previous_version_id, actor, reason, host)
VALUES (%(verb)s, %(live_version_id)s, %(previous_version_id)s, %(actor)s, %(reason)s, %(host)s);

-- tell_serving_change --
-- Wake whoever listens; those that miss it see the pointer at their next request.
SELECT pg_notify('relevanced_serving', %(live_version_id)s::text);
