-- dead_letter_groups --
-- How many dead letters there are for each reason and source, of those whose reason holds $reason.
SELECT reason, source, count(*) AS records, min(received_at) AS first_at, max(received_at) AS last_at
  FROM dead_letter
 WHERE contains(lower(reason), lower($reason)) AND contains(source, $source)
 GROUP BY reason, source
 ORDER BY records DESC, reason, source;

-- dead_letter_page --
-- Some of them, the oldest first.
SELECT dead_letter_id, reason, source, partition, "offset", octet_length(payload) AS bytes, received_at
  FROM dead_letter
 WHERE contains(lower(reason), lower($reason)) AND contains(source, $source)
 ORDER BY received_at, source, partition, "offset"
 LIMIT $size OFFSET $skip;

-- dead_letter_ids --
-- The ids of those whose reason holds $reason.
SELECT DISTINCT dead_letter_id
  FROM dead_letter
 WHERE contains(lower(reason), lower($reason)) AND contains(source, $source)
 ORDER BY dead_letter_id;

-- dead_letters_named --
-- The dead letters of the `named` ids, of which the beginning is enough.
SELECT DISTINCT ON (dead_letter_id) dead_letter_id, reason, source, partition, "offset", payload, received_at
  FROM dead_letter
  JOIN named ON starts_with(dead_letter_id, named.prefix)
 ORDER BY dead_letter_id;

-- remove_dead_letters --
-- Take out the `removed` dead letters.
DELETE FROM lake.dead_letter WHERE dead_letter_id IN (SELECT dead_letter_id FROM removed);
