-- lease_holder --
-- Who holds a lease, or held it last.
SELECT holder FROM relevanced.lease WHERE name = %(name)s;

-- take_lease --
-- Take a lease that is free, has run out, or whose holder is known to be dead. No row comes back while it is held.
INSERT INTO relevanced.lease AS lease (name, holder, expires_at)
VALUES (%(name)s, %(holder)s, clock_timestamp() + make_interval(secs => %(seconds)s))
ON CONFLICT (name) DO UPDATE
   SET holder = EXCLUDED.holder, token = lease.token + 1, expires_at = EXCLUDED.expires_at
 WHERE lease.expires_at < clock_timestamp() OR lease.holder = %(dead_holder)s
RETURNING token;

-- renew_lease --
-- Hold a lease for longer. No row comes back when another holder has taken it.
UPDATE relevanced.lease SET expires_at = clock_timestamp() + make_interval(secs => %(seconds)s)
 WHERE name = %(name)s AND token = %(token)s
RETURNING token;

-- release_lease --
-- Let it go. The row stays, so that tokens go on growing.
UPDATE relevanced.lease SET expires_at = '-infinity' WHERE name = %(name)s AND token = %(token)s;

-- check_lease --
-- Make sure that the lease is still ours, and keep others from taking it until this transaction has ended.
SELECT token FROM relevanced.lease WHERE name = %(name)s AND token = %(token)s FOR UPDATE;
