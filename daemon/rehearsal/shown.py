"""
What exploration costs: the answers as people saw them, beside what live alone would have shown.

In:  the honest searchers' sessions of a cycle and their answers, the train qrels. Out: two means of NDCG@10.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from relevanced.daemon import history
from relevanced.daemon.metrics import ndcg_at_10
from relevanced.daemon.ports import Encoder
from relevanced.daemon.records import SearchAnswer
from relevanced.daemon.rehearsal.dataset import Dataset
from relevanced.daemon.rehearsal.searchers import Session
from relevanced.daemon.stages import Stages

SAMPLE: Final = 2_000  # sessions of a cycle that live alone is asked about too; the mean is then good to about .005
DEPTH: Final = 10  # documents of an answer
_SAMPLE: Final = 5  # beside the seed


@dataclass(frozen=True, kw_only=True, slots=True)
class Exposure:
    """Sums of NDCG@10 over the searches of a cycle that something relevant could have answered."""

    searches: float = 0.0
    shown: float = 0.0
    sampled: float = 0.0  # searches of the sample
    sampled_shown: float = 0.0
    sampled_alone: float = 0.0  # as live alone would have ordered them

    def plus(self, other: "Exposure") -> "Exposure":
        """Add the sums of further searches."""
        return Exposure(**{name: getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__})

    @property
    def shown_ndcg(self) -> float | None:
        """Mean over all searches."""
        return self.shown / self.searches if self.searches else None

    @property
    def unexplored_ndcg(self) -> float | None:
        """The same for live alone: the difference is the sample's, the level that of all searches."""
        if not self.sampled:
            return None
        return self.shown / self.searches + (self.sampled_alone - self.sampled_shown) / self.sampled


def sample(sessions: Sequence[Session], seed: int, cycle: int) -> set[str]:
    """Draw the sessions that live alone is asked about too, the same again after a stop."""
    honest = [session.session_id for session in sessions if session.pushed is None]
    places = np.random.default_rng([seed, _SAMPLE, cycle]).permutation(len(honest))[:SAMPLE]
    return {honest[place] for place in places.tolist()}


class Shown:
    """Measures the answers of one cycle, through which live stays the same."""

    def __init__(self, stages: Stages, dataset: Dataset, sampled: Collection[str]) -> None:
        """Take the sessions of the sample; `dataset` says what is relevant now."""
        self._stages, self._dataset, self._sampled = stages, dataset, sampled
        self._encoder: Encoder | None = None
        self._alone: dict[str, list[str]] = {}  # user_query -> document_ids, best first

    def measure(self, sessions: Sequence[Session], answers: Sequence[SearchAnswer]) -> Exposure:
        """Sum up the searches of honest people; each answer is its session's."""
        honest = [pair for pair in zip(sessions, answers, strict=True) if pair[0].pushed is None]
        qrels = {str(place): self._dataset.train_qrels[one.dataset_query_id] for place, (one, _) in enumerate(honest)}
        shown = {str(place): [hit.document_id for hit in answer.hits] for place, (_, answer) in enumerate(honest)}
        ndcg = _ndcg(qrels, shown)
        some = {place: pair for place, pair in enumerate(honest) if pair[0].session_id in self._sampled}
        self._ask({pair[0].user_query for pair in some.values()}, [answer.version_id for answer in answers])
        alone = {str(place): self._alone[pair[0].user_query] for place, pair in some.items()}
        ndcg_alone = _ndcg({place: qrels[place] for place in alone}, alone)
        return Exposure(
            searches=len(ndcg),
            shown=sum(ndcg.values()),
            sampled=len(ndcg_alone),
            sampled_shown=sum(ndcg[place] for place in ndcg_alone),
            sampled_alone=sum(ndcg_alone.values()),
        )

    def _ask(self, texts: Collection[str], versions: Sequence[int]) -> None:
        """Let live rank what was not asked before; a search would leave a record that nobody's search made."""
        missing = sorted(set(texts) - self._alone.keys())
        if not missing:
            return
        live = versions[0]
        if self._encoder is None:
            self._encoder = self._stages.models.open(history.version(self._stages.database, live).directory)
        runs = self._stages.index.search(live, self._encoder.encode_queries(missing), DEPTH)
        self._alone.update((text, [hit.document_id for hit in run]) for text, run in zip(missing, runs, strict=True))


def _ndcg(qrels: Mapping[str, Mapping[str, int]], rankings: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """NDCG@10 by search, of those that have a relevant document."""
    run = {name: {one: 1 / (1 + place) for place, one in enumerate(ranked)} for name, ranked in rankings.items()}
    return ndcg_at_10(qrels, run)
