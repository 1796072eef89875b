-- begin_trial --
-- Begin a trial. No row comes back while another is open, or when live has changed meanwhile.
INSERT INTO relevanced.trial (purpose, live_version_id, other_version_id, level)
SELECT %(purpose)s, live_version_id, %(other_version_id)s, %(level)s
  FROM relevanced.serving WHERE live_version_id = %(live_version_id)s
ON CONFLICT DO NOTHING
RETURNING trial_id;

-- open_trial --
-- The trial that has not ended, if there is one.
SELECT * FROM relevanced.trial WHERE ended_at IS NULL;

-- note_trial --
-- What the open trial has shown so far.
UPDATE relevanced.trial SET numbers = %(numbers)s WHERE trial_id = %(trial_id)s AND ended_at IS NULL;

-- end_trial --
-- What came of a trial. No row comes back when another process has ended it.
UPDATE relevanced.trial
   SET verdict = %(verdict)s, sentence = %(sentence)s, numbers = %(numbers)s, ended_at = now()
 WHERE trial_id = %(trial_id)s AND ended_at IS NULL
RETURNING trial_id;

-- trials --
-- Every trial, the newest first.
SELECT * FROM relevanced.trial ORDER BY trial_id DESC;
