"""
The graph over the rows of one version's table, built in a transaction of its own.

In:  a table that is filled. Out: its HNSW, or none; index works through it. Postgres builds while this process asks how
far it has come, so that a person sees a bar move, and so that an interrupted build ends there too.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Final

import psycopg

from relevanced import sql
from relevanced.daemon.database import Database
from relevanced.daemon.embeddings import Connection, Embeddings
from relevanced.daemon.errors import FailStep
from relevanced.daemon.ports import Progress

_SECONDS_BETWEEN_LOOKS: Final = 0.5
_SECONDS_TO_CANCEL: Final = 5


def build(
    database: Database,
    embeddings: Embeddings,
    progress: Progress,
    *,
    m: int,
    ef_construction: int,
    memory_mb: int,
    workers: int,
) -> str:
    """
    Build the HNSW unless it is there, and tell how many blocks of the table are in it.

    Args:
        m, ef_construction: neighbours of a node, and candidates while building, as pgvector takes them.
        memory_mb: for the graph, in MB; one that does not fit is built slowly.
        workers: processes that help.

    Returns: a remark for the sentence, mostly none.
    Raises: FailStep when Postgres has too little shared memory. What `progress` raises goes upwards once the build is
        cancelled.
    """
    label, remarks = f"Building the index of version {embeddings.version_id}", list[str]()

    def hear(notice: psycopg.errors.Diagnostic) -> None:
        if "no longer fits" in (notice.message_primary or ""):
            remarks.append(notice.message_primary or "")

    def work(connection: Connection) -> None:
        connection.execute(sql.postgres["set_build_memory"], {"memory": f"{memory_mb}MB", "workers": str(workers)})
        embeddings.build_hnsw(connection, m=m, ef_construction=ef_construction)

    progress(label, 0, 1)
    with database.connection() as connection, _listening(connection, hear), _shared_memory(memory_mb):
        with ThreadPoolExecutor(1, "hnsw") as thread:
            building = thread.submit(work, connection)
            try:
                _watch(building, database, embeddings, progress, label)
            except BaseException:
                connection.cancel_safe(timeout=_SECONDS_TO_CANCEL)
                raise
        building.result()
    progress(label, 1, 1)
    if not remarks:
        return ""
    return f" The build was slow: {remarks[0]}; raise build_memory_mb, now {memory_mb}, under [index]."


def _watch(building: Future[None], database: Database, embeddings: Embeddings, progress: Progress, label: str) -> None:
    """Tell how far the build is until it ends, well or not."""
    while not wait([building], _SECONDS_BETWEEN_LOOKS).done:
        with database.connection() as connection:
            row = connection.execute(sql.postgres["build_progress"], {"table": embeddings.table}).fetchone()
        if row is not None and row["blocks_total"]:
            progress(label, row["blocks_done"], row["blocks_total"])


@contextmanager
def _listening(connection: Connection, hear: Callable[[psycopg.errors.Diagnostic], None]) -> Iterator[None]:
    connection.add_notice_handler(hear)
    try:
        yield
    finally:
        connection.remove_notice_handler(hear)


@contextmanager
def _shared_memory(memory_mb: int) -> Iterator[None]:
    try:
        yield
    except psycopg.errors.DiskFull as error:
        if "shared memory" not in str(error):
            raise
        raise FailStep(
            f"Postgres has less than {memory_mb}MB of shared memory for the build; give it more "
            "(docker run --shm-size=1g), or set build_workers = 0 under [index]."
        ) from error
