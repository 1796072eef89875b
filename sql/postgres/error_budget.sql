-- tests_since_promotion --
-- How many tests had a chance to promote since live was promoted, within the horizon, but for those of one cycle.
SELECT coalesce((SELECT sum(coalesce((numbers->>'tests')::integer, 1)) FROM relevanced.cycle_step
                  WHERE step = 'gate' AND verdict IN ('accepted', 'rejected', 'inconclusive', 'trial')
                    AND ended_at > since AND cycle_id IS DISTINCT FROM %(cycle_id)s), 0)
     + (SELECT count(*) FROM relevanced.trial WHERE purpose = 'promotion' AND started_at > since) AS tests
  FROM (SELECT greatest(now() - make_interval(days => %(days)s), max(changed_at)) AS since
          FROM relevanced.serving_history
         WHERE verb = 'promote' AND live_version_id = (SELECT live_version_id FROM relevanced.serving));
