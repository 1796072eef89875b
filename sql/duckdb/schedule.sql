-- clicked_queries --
-- How many different texts were typed and then clicked; the scheduler compares it with what the last cycle knew.
SELECT count(DISTINCT query.user_query) AS clicked_queries
  FROM query SEMI JOIN click ON click.query_id = query.query_id;

-- log_counts --
-- How much has come in, for the status.
SELECT (SELECT count(DISTINCT query_id) FROM query) AS queries,
       (SELECT count(*) FROM click) AS clicks,
       (SELECT count(*) FROM dead_letter) AS dead_letters,
       (SELECT max("timestamp") FROM query) AS last_query_at;
