-- Where [gate] approval is manual, a version that is better waits until a person has decided.
ALTER TYPE step_verdict ADD VALUE 'waiting';

CREATE TYPE approval_decision AS ENUM ('approved', 'rejected', 'replaced');

CREATE TABLE approval (
    approval_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    version_id bigint NOT NULL UNIQUE REFERENCES version,
    live_version_id bigint NOT NULL REFERENCES version,
    why text NOT NULL,
    asked_at timestamptz NOT NULL DEFAULT now(),
    decision approval_decision,    -- null while it waits
    actor text,
    reason text,
    decided_at timestamptz,
    CHECK ((decision IS NULL) = (decided_at IS NULL)),
    CHECK ((decision IS NULL) = (actor IS NULL))
);
CREATE UNIQUE INDEX approval_one_at_a_time ON approval ((true)) WHERE decided_at IS NULL;
