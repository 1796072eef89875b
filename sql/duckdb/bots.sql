-- Which actors no person can be. They are marked on reading, from the snapshot alone, and never deleted: a bound that is
-- changed changes what the next cycle reads. An actor is a client, else a session; a search without either is nobody's.

-- bots --
-- The actors beyond a bound, with the bound that each broke first and how much it did.
WITH searched AS (
    SELECT query_id, coalesce(nullif(client_id, ''), nullif(session_id, '')) AS actor, min("timestamp") AS acted_at
      FROM query
     GROUP BY ALL
), chosen AS (
    -- A click without ids is one of whoever searched.
    SELECT DISTINCT click.query_id, document_id, click."timestamp" AS acted_at,
           coalesce(nullif(click.client_id, ''), nullif(click.session_id, ''), searched.actor) AS actor
      FROM click
      LEFT JOIN searched ON searched.query_id = click.query_id AND searched.actor IS NOT NULL
), active AS (
    -- Nobody with fewer actions can break a bound, and most have fewer.
    SELECT actor, count(*) FILTER (WHERE NOT is_click) AS searches, count(*) FILTER (WHERE is_click) AS clicks
      FROM (SELECT actor, false AS is_click FROM searched UNION ALL SELECT actor, true FROM chosen)
     WHERE actor IS NOT NULL
     GROUP BY actor
    HAVING count(*) > least($searches_per_day, $clicks_per_day, $min_actions)
), action AS (
    SELECT actor, acted_at, false AS is_click FROM searched SEMI JOIN active USING (actor)
     UNION ALL
    SELECT actor, acted_at, true FROM chosen SEMI JOIN active USING (actor)
), busiest AS (
    SELECT actor, max(searches) AS searches, max(clicks) AS clicks
      FROM (SELECT actor, count(*) FILTER (WHERE NOT is_click) AS searches, count(*) FILTER (WHERE is_click) AS clicks
              FROM action
             WHERE acted_at IS NOT NULL  -- else all of a year would be one day
             GROUP BY actor, floor(epoch(acted_at) / 86400))
     GROUP BY actor
), moment AS (
    -- What has one time has no gap between it: the producer stamped it together.
    SELECT actor, acted_at, bool_or(is_click) AS is_click
      FROM action
     WHERE acted_at IS NOT NULL
     GROUP BY actor, acted_at
), gap AS (
    SELECT actor, is_click, epoch(acted_at - lag(acted_at) OVER (PARTITION BY actor ORDER BY acted_at)) AS seconds
      FROM moment
), rhythm AS (
    SELECT actor,
           count(*) FILTER (WHERE is_click) AS clicks,
           count(*) FILTER (WHERE is_click AND seconds < $reaction_seconds) AS hasty_clicks,
           count(*) FILTER (WHERE seconds >= $pause_seconds) AS pauses,
           quantile_cont(seconds, [0.1, 0.5, 0.9]) FILTER (WHERE seconds >= $pause_seconds) AS deciles
      FROM gap
     WHERE seconds IS NOT NULL
     GROUP BY actor
)
SELECT actor, active.searches, active.clicks,
       CASE WHEN busiest.searches > $searches_per_day THEN 'searches_per_day'
            WHEN busiest.clicks > $clicks_per_day THEN 'clicks_per_day'
            WHEN rhythm.clicks >= $min_actions AND hasty_clicks > $hasty_share * rhythm.clicks THEN 'hasty_clicks'
            WHEN pauses >= $min_actions AND deciles[3] - deciles[1] < $pause_spread * deciles[2] THEN 'even_pauses'
       END AS bound
  FROM active
  LEFT JOIN busiest USING (actor)
  LEFT JOIN rhythm USING (actor)
 WHERE bound IS NOT NULL
 ORDER BY actor;
