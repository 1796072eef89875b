-- beat --
-- A replica lives, and this is what it has. The time is the server's: the clocks of replicas may differ.
INSERT INTO relevanced.replica
       (replica_id, process, seen_at, answering_version_id, ready_version_ids, failures)
VALUES (%(replica_id)s, %(process)s, clock_timestamp(), %(answering)s, %(ready)s, %(failures)s)
ON CONFLICT (replica_id) DO UPDATE
   SET seen_at = EXCLUDED.seen_at, answering_version_id = EXCLUDED.answering_version_id,
       ready_version_ids = EXCLUDED.ready_version_ids, failures = EXCLUDED.failures;

-- announced_versions --
-- What replicas shall make ready, beside what the pointer names.
SELECT DISTINCT version_id FROM relevanced.announcement WHERE expires_at > clock_timestamp();

-- forget_replica --
-- It has ended in order.
DELETE FROM relevanced.replica WHERE replica_id = %(replica_id)s;

-- forget_dead_replicas --
-- Those that died are shown for an hour.
DELETE FROM relevanced.replica WHERE seen_at < clock_timestamp() - interval '1 hour';

-- replicas --
-- The processes that search, and those that have stopped of late.
SELECT process, answering_version_id, ready_version_ids, failures,
       extract(epoch FROM clock_timestamp() - seen_at)::float8 AS silent_seconds
  FROM relevanced.replica ORDER BY process, replica_id;

-- announce --
-- Tell the replicas what is about to be promoted.
INSERT INTO relevanced.announcement (version_id, expires_at)
VALUES (%(version_id)s, clock_timestamp() + make_interval(secs => %(seconds)s))
RETURNING announcement_id;

-- withdraw_announcement --
-- It was promoted, or given up; those that ran out go too.
DELETE FROM relevanced.announcement
 WHERE announcement_id = %(announcement_id)s OR expires_at < clock_timestamp();

-- living_replicas --
-- The replicas that live, whether each has a version ready, and else why not. One that went silent answers nobody, or
-- else it reads the pointer before it does.
SELECT process, failures ->> %(version_id)s::text AS failure, ready_version_ids @> ARRAY[%(version_id)s::bigint] AS ready
  FROM relevanced.replica
 WHERE seen_at > clock_timestamp() - make_interval(secs => %(living_seconds)s)
 ORDER BY process;
