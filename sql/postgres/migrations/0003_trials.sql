-- A version may be tried on people before it is promoted, and the one before it after that.
ALTER TYPE step_verdict ADD VALUE 'trial';

CREATE TYPE trial_purpose AS ENUM ('promotion', 'observation');
CREATE TYPE trial_verdict AS ENUM ('better', 'worse', 'undecided', 'void');

CREATE TABLE trial (
    trial_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    purpose trial_purpose NOT NULL,
    live_version_id bigint NOT NULL REFERENCES version,
    other_version_id bigint NOT NULL REFERENCES version,
    verdict trial_verdict,         -- of the other version; null while it runs
    sentence text,
    numbers jsonb NOT NULL DEFAULT '{}',
    started_at timestamptz NOT NULL DEFAULT now(),
    ended_at timestamptz,
    CHECK (live_version_id <> other_version_id),
    CHECK ((verdict IS NULL) = (ended_at IS NULL))
);
CREATE UNIQUE INDEX trial_one_at_a_time ON trial ((true)) WHERE ended_at IS NULL;
