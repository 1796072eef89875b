"""Values that more than one stage passes on. They are frozen, and know nothing of stores, brokers or models."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

Step = Literal["mine", "train", "gate", "index", "verify", "promote", "ended"]
Verdict = Literal["done", "nothing", "accepted", "rejected", "inconclusive", "failed", "trial", "waiting"]
VersionState = Literal["candidate", "prepared", "verified", "rejected", "retired"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a step did: the sentence for people, the numbers for the dashboard and the metrics."""

    sentence: str
    numbers: Mapping[str, Any] = field(default_factory=dict)
    verdict: Verdict = "done"


class RawRecord(NamedTuple):  # made for every record that comes in, and a dataclass takes four times as long
    """One record as it came, with its place; `offset` is where it starts, in the unit of its source."""

    partition: str
    offset: int
    value: bytes


@dataclass(frozen=True, slots=True)
class Batch:
    """Records of one poll, and for each partition the offset at which the next poll goes on."""

    source: str
    records: Sequence[RawRecord]
    next_offsets: Mapping[str, int]

    @property
    def begins(self) -> dict[str, int]:
        """The offset of each partition's first record; they are in their order, so that backwards it is the last."""
        return {partition: offset for partition, offset, _ in reversed(self.records)}


@dataclass(frozen=True, slots=True)
class Document:
    """A document of the default table."""

    document_id: str
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Version:
    """
    A model version as the `version` table has it; `directory` holds its files.

    index_version_id: whose index it searches, since it only turns the vectors of the queries; None: its own.
    model_dropped_at: when its files were deleted, by retention or by hand; None: they are there.
    """

    version_id: int
    parent_version_id: int | None
    state: VersionState
    directory: Path
    fingerprint: str
    dimension: int
    created_at: datetime
    manifest: Mapping[str, Any]
    index_version_id: int | None = None
    model_dropped_at: datetime | None = None

    @property
    def index_id(self) -> int:
        """The version whose index it searches."""
        return self.index_version_id or self.version_id


@dataclass(frozen=True, slots=True)
class Serving:
    """The pointer: what answers now, what `rollback` returns to, and what live is tried against, if anything."""

    live_version_id: int | None
    previous_version_id: int | None
    trial_id: int | None = None
    other_version_id: int | None = None
    trial_purpose: str | None = None  # promotion, or observation of a version that was live before


@dataclass(frozen=True, slots=True)
class Cycle:
    """A cycle as its row has it; `step` is the one to do next, or "ended"."""

    cycle_id: int
    trigger: str
    step: Step
    snapshot_id: int | None
    candidate_version_id: int | None
    judged_queries: int | None
    started_at: datetime
    ended_at: datetime | None
    sentence: str | None
    adapter_version_id: int | None = None  # trained beside the candidate


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """One search: `client_id` and `session_id` are who asks, as far as the caller knows; `k` from 1."""

    user_query: str
    k: int = 10
    client_id: str | None = None
    session_id: str | None = None
    application: str | None = None
    timestamp: datetime | None = None  # None: now; the rehearsal gives its own
    device: str | None = None  # the kind, such as mobile or desktop


@dataclass(frozen=True, slots=True)
class Hit:
    """
    One document of an answer; `position` from 1, `score` the inner product of unit vectors of `version_id`.

    calibrated_score: the same on the scale of the base version, which never changes; None where no gate has mapped it.
    """

    position: int
    document_id: str
    score: float
    title: str
    text: str
    version_id: int
    calibrated_score: float | None = None


@dataclass(frozen=True, slots=True)
class SearchAnswer:
    """One answer of the live version; in a trial some of its hits are another version's, and name it."""

    query_id: str
    version_id: int
    hits: Sequence[Hit]
