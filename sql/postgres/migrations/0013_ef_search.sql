-- How many candidates a search of this version looks at; verify chooses it. Null before, and where the config says it.
ALTER TABLE version ADD COLUMN ef_search integer CHECK (ef_search > 0);
