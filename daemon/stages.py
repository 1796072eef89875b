"""What the steps of a cycle work with, built once by wiring: the stores, and the policy of each decision."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from relevanced.daemon.bots import BotPolicy
from relevanced.daemon.click_model import ClickModelPolicy
from relevanced.daemon.database import Database
from relevanced.daemon.gate import GatePolicy
from relevanced.daemon.holdout import HoldoutPolicy
from relevanced.daemon.index import Index
from relevanced.daemon.keeping import RetentionPolicy
from relevanced.daemon.log_store import LogStore
from relevanced.daemon.model_store import ModelStore
from relevanced.daemon.pooling import PoolingPolicy
from relevanced.daemon.privacy import PrivacyPolicy
from relevanced.daemon.promotion import Promotion
from relevanced.daemon.recipe import TrainingPolicy
from relevanced.daemon.records import Cycle, Document
from relevanced.daemon.reranking import RerankerPolicy
from relevanced.daemon.signals import SignalPolicy
from relevanced.daemon.trial import TrialPolicy
from relevanced.daemon.triplets import TripletPolicy
from relevanced.daemon.tuned import Tuned
from relevanced.daemon.worth import AdapterPolicy


@dataclass(frozen=True, kw_only=True, slots=True)
class Stages:
    """The parts and policies of a cycle; `directory` is where its Parquet files lie."""

    database: Database
    log_store: LogStore
    models: ModelStore
    index: Index
    promotion: Promotion
    directory: Path
    bots: BotPolicy
    signals: SignalPolicy
    click_model: ClickModelPolicy
    pooling: PoolingPolicy
    holdout: HoldoutPolicy
    triplets: TripletPolicy
    training: TrainingPolicy
    adapter: AdapterPolicy
    gate: GatePolicy
    trial: TrialPolicy
    reranker: RerankerPolicy
    privacy: PrivacyPolicy
    retention: RetentionPolicy
    tuned: Tuned
    min_triplets: int
    gate_documents: int
    read_corpus: Callable[[Path], Iterable[Document]]  # of a data set, whose documents are not those searched

    def files(self, cycle: Cycle) -> Path:
        """The directory of one cycle: what mining leaves, and training/."""
        directory = self.directory / str(cycle.cycle_id)
        directory.mkdir(parents=True, exist_ok=True)
        return directory
