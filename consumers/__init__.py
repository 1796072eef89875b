"""Events in: one file per stage, one loop, one source per transport."""
