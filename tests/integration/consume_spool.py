"""The consumer process that test_ingest_kill kills: spool directory, database and lake folder are its arguments."""

import sys
import threading
from pathlib import Path

from relevanced.consumers import loop
from relevanced.consumers.spool import SpoolSource
from relevanced.daemon.log_store import LogStore

if __name__ == "__main__":
    spool, database_url, lake = sys.argv[1:]
    loop.MAX_RECORDS = 25  # so that a kill meets a batch at any of its lines
    log_store = LogStore.open(database_url, Path(lake))
    print("ready", flush=True)  # noqa: T201
    loop.run(SpoolSource(Path(spool)), log_store, threading.Event())
