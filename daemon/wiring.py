"""
Where the parts are built, once, and joined: consumers and learning half, stores and policies.

In:  the state directory and the settings. Out: Parts; cli, daemon and rehearsal take from it what they need.
Each part is made when first asked for, so that `relevanced status` does not wait for torch.
"""

import shutil
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from relevanced.consumers.documents import read_corpus
from relevanced.consumers.fallback_sink import FallbackSink
from relevanced.consumers.spool import SpoolSource, SpoolWriter
from relevanced.daemon.clock import SystemClock
from relevanced.daemon.config import KafkaPolicy, Settings
from relevanced.daemon.cycle import run_cycle
from relevanced.daemon.database import Database
from relevanced.daemon.errors import BadInput
from relevanced.daemon.index import Index
from relevanced.daemon.intake import Intake
from relevanced.daemon.log_store import LogStore
from relevanced.daemon.model_store import ModelStore
from relevanced.daemon.ports import ClosableSink, EventSource, Progress
from relevanced.daemon.promotion import Promotion
from relevanced.daemon.records import Cycle, Outcome, Step
from relevanced.daemon.replica import Replica
from relevanced.daemon.search import Search
from relevanced.daemon.stages import Stages
from relevanced.daemon.steps import steps_of
from relevanced.daemon.tuned import Tuned


class Parts:
    """The parts of one daemon: one state directory, one Postgres schema, one embedding model in service."""

    def __init__(self, home: Path, settings: Settings, *, seed: int | None = None) -> None:
        """Take the state directory; `seed` is of the exploration, and None wherever real people search."""
        self.home, self.settings, self.seed, self.clock = home, settings, seed, SystemClock()
        home.mkdir(parents=True, exist_ok=True)

    @cached_property
    def database(self) -> Database:
        url = self.settings.database_url
        return Database.open(url.get_secret_value() if url else None, self.home)

    @cached_property
    def log_store(self) -> LogStore:
        return LogStore.open(self.database.url, self.home / "lake", self.settings.privacy)

    @cached_property
    def models(self) -> ModelStore:
        return ModelStore(self.home / "versions")

    @cached_property
    def index(self) -> Index:
        return Index(self.database, self.settings.index, self._free_bytes)

    @cached_property
    def promotion(self) -> Promotion:
        return Promotion(self.database, self.settings.retention, self.settings.promotion)

    @cached_property
    def sink(self) -> ClosableSink:
        """Where our own UBI records go: the broker when there is one and it answers, else the spool."""
        kafka, spool = self.settings.kafka, SpoolWriter(self.home / "spool")
        if not kafka.bootstrap_servers:
            return spool

        def open_broker() -> ClosableSink:
            from relevanced.consumers.kafka_sink import KafkaSink  # here, since most commands need no broker

            return KafkaSink(
                kafka.bootstrap_servers,
                query_topic=kafka.query_topic,
                event_topic=kafka.event_topic,
                client=kafka.client,
            )

        return FallbackSink(open_broker, spool)

    @cached_property
    def intake(self) -> Intake:
        """Where the records of others go that come in over HTTP: the spool, which needs nothing but a disk."""
        spool = self.home / "spool"
        return Intake(SpoolWriter(spool), spool, self.settings.intake)

    def source_openers(self) -> dict[str, Callable[[], EventSource]]:
        """What opens a source, for each kind that is set up: `spool`, `kafka`. Who opens it closes it."""
        kafka = self.settings.kafka
        openers: dict[str, Callable[[], EventSource]] = {"spool": lambda: SpoolSource(self.home / "spool")}

        def open_kafka() -> EventSource:
            from relevanced.consumers.kafka import KafkaSource  # here, as above

            return KafkaSource(
                kafka.bootstrap_servers,
                _topics(kafka),
                kafka.group,
                stored=self.log_store.offsets,
                client=kafka.client,
            )

        return openers | ({"kafka": open_kafka} if kafka.bootstrap_servers else {})

    def replay(self, start: str) -> Outcome:
        """
        Let the Kafka topics go on from another place, as `--from` names it.

        Raises: BadInput when no broker is set up or there is no such place, Retry when no broker answers.
        """
        from relevanced.consumers.kafka_replay import read_start, replay_offsets  # here, as above

        kafka = self.settings.kafka
        where = read_start(start, self.clock.now())
        if not kafka.bootstrap_servers:
            raise BadInput("--from is for Kafka topics, and no broker is set up; set [kafka] bootstrap_servers.")
        name, offsets = replay_offsets(kafka.bootstrap_servers, _topics(kafka), kafka.group, where, kafka.client)
        with self.log_store.transaction() as rows:
            rows.advance(name, offsets)
        sentence = f"{name} goes on from {start} in {len(offsets)} partitions."
        return Outcome(sentence, {"source": name, "offsets": offsets})

    @cached_property
    def search(self) -> Search:
        return Search(
            database=self.database,
            index=self.index,
            models=self.models,
            promotion=self.promotion,
            sink=self.sink,
            exploration=self.settings.exploration,
            trial=self.settings.trial,
            holdout=self.settings.holdout,
            policy=self.settings.search,
            clock=self.clock,
            seed=self.seed,
        )

    @cached_property
    def replica(self) -> Replica:
        """What this process tells the others of its search; for those that serve it."""
        return Replica(self.database, self.promotion, self.search, self.settings.promotion)

    @cached_property
    def tuned(self) -> Tuned:
        return Tuned(self.home / "tuning", self.settings.by_hand("training"))

    @cached_property
    def stages(self) -> Stages:
        return Stages(
            database=self.database,
            log_store=self.log_store,
            models=self.models,
            index=self.index,
            promotion=self.promotion,
            directory=self.home / "cycles",
            bots=self.settings.bots,
            signals=self.settings.signals,
            click_model=self.settings.click_model,
            pooling=self.settings.pooling,
            holdout=self.settings.holdout,
            triplets=self.settings.triplets,
            training=self.settings.training,
            adapter=self.settings.adapter,
            gate=self.settings.gate,
            trial=self.settings.trial,
            reranker=self.settings.reranker,
            privacy=self.settings.privacy,
            retention=self.settings.retention,
            tuned=self.tuned,
            min_triplets=self.settings.schedule.min_triplets,
            gate_documents=self.settings.schedule.gate_documents,
            read_corpus=read_corpus,
        )

    def _free_bytes(self) -> int | None:
        """Room on the disk of the embedded Postgres; an operator's server may be anywhere."""
        return None if self.settings.database_url else shutil.disk_usage(self.home).free

    def close(self) -> None:
        """Close what was opened, the readers before what they read from."""
        for name in ("sink", "intake", "log_store", "database"):
            part = self.__dict__.get(name)
            if part is not None:
                part.close()


def _topics(kafka: KafkaPolicy) -> list[str]:
    """The topics that are read, each once."""
    return list(dict.fromkeys([kafka.query_topic, kafka.event_topic, *kafka.topics]))


def run_open_cycle(
    parts: Parts, cycle: Cycle, progress: Progress, tell: Callable[[Step, Outcome, float], None]
) -> Cycle:
    """Do what is left of a cycle, with the parts that are built."""
    return run_cycle(
        parts.database,
        cycle,
        steps_of(parts.stages),
        max_attempts=parts.settings.schedule.max_attempts,
        progress=progress,
        tell=tell,
    )
