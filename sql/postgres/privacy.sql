-- lock_privacy_keys --
-- One process at a time looks whether the key is old; held until the transaction ends.
SELECT pg_advisory_xact_lock(hashtext('relevanced.privacy_key'));

-- add_privacy_key --
-- A new key, where the newest is too old or there is none.
INSERT INTO relevanced.privacy_key (key)
SELECT %(key)s
 WHERE NOT EXISTS (SELECT FROM relevanced.privacy_key
                    WHERE created_at > now() - make_interval(days => %(key_days)s));

-- privacy_keys --
-- Every key, the one in use last.
SELECT key_number, key FROM relevanced.privacy_key ORDER BY key_number;
