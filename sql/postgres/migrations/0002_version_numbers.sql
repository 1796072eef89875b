-- A sequence does not roll back: a process that died before it noted its version would leave a gap. Versions are
-- numbered by the rows that are there instead (register_version).
ALTER TABLE version ALTER COLUMN version_id DROP IDENTITY;
