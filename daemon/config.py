"""
The operator's settings: defaults, then relevanced.toml, then the environment (RELEVANCED_GATE__CONFIDENCE=0.99).

A section of the file is a policy of the stage it steers; what the stage asks of each value stands there.
"""

import difflib
import os
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, is_dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Final, get_type_hints

from annotated_types import Ge, Interval
from apscheduler.triggers.cron import CronTrigger
from pydantic import AfterValidator, Field, PrivateAttr, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from relevanced.consumers.dead_letters import IngestPolicy
from relevanced.daemon.bots import BotPolicy
from relevanced.daemon.click_model import ClickModelPolicy
from relevanced.daemon.cost import PricesPolicy
from relevanced.daemon.errors import BadInput
from relevanced.daemon.exploration import ExplorationPolicy
from relevanced.daemon.gate import GatePolicy
from relevanced.daemon.holdout import HoldoutPolicy
from relevanced.daemon.index import IndexPolicy
from relevanced.daemon.intake import IntakePolicy
from relevanced.daemon.keeping import RetentionPolicy
from relevanced.daemon.lists import Texts
from relevanced.daemon.llm import LlmPolicy
from relevanced.daemon.model_store import ModelPolicy
from relevanced.daemon.own_table import DocumentsPolicy
from relevanced.daemon.pooling import PoolingPolicy
from relevanced.daemon.privacy import PrivacyPolicy
from relevanced.daemon.promotion import PromotionPolicy
from relevanced.daemon.recipe import TrainingPolicy
from relevanced.daemon.reranking import RerankerPolicy
from relevanced.daemon.search import SearchPolicy
from relevanced.daemon.signals import SignalPolicy
from relevanced.daemon.trial import TrialPolicy
from relevanced.daemon.triplets import TripletPolicy
from relevanced.daemon.validation import ValidationPolicy
from relevanced.daemon.worth import AdapterPolicy

_ENVIRONMENT: Final = "RELEVANCED_"
_OUT_OF_BOUNDS: Final = ("greater_than", "greater_than_equal", "less_than", "less_than_equal")


def _cron(text: str) -> str:
    CronTrigger.from_crontab(text)
    return text


@dataclass(frozen=True, kw_only=True, slots=True)
class SchedulePolicy:
    """When a cycle begins by itself."""

    cron: Annotated[str, AfterValidator(_cron)] = (
        "0 3 * * *"  # minute hour day month weekday (mon is clearer than 0, which is Monday here), UTC
    )
    upkeep_cron: Annotated[str, AfterValidator(_cron)] = "30 1 * * *"  # of the log, likewise; before the cycle reads it
    # Seconds between two looks at a view that the documents come from: each reads it whole.
    refresh_seconds: Annotated[int, Ge(1)] = 60
    new_queries: Annotated[int, Ge(1)] = 1000  # newly clicked queries since the last cycle that begin one early
    min_triplets: Annotated[int, Ge(1)] = 100  # fewer teach nothing that the gate could see
    gate_documents: Annotated[int, Ge(1000)] = 50_000  # encoded to compare the arms; more cost more than they tell
    max_attempts: Annotated[int, Ge(1)] = 5  # of one step; one that kills its process must not do so for ever


@dataclass(frozen=True, kw_only=True, slots=True)
class KafkaPolicy:
    """Where events come from beside the spool; no broker is asked while bootstrap_servers is empty."""

    bootstrap_servers: str = ""  # host:port, several with commas
    query_topic: str = "ubi.queries"  # read, and where our own queries go
    event_topic: str = "ubi.events"  # read, and where our own events go
    # Further ones to read. Each topic may hold queries, events or both: a record says itself which it is.
    topics: Texts = ()
    group: str = "relevanced"  # of consumers that share the partitions; another name reads everything again
    # Settings of kafka-python by its names: security_protocol, sasl_plain_password and so on. Every text is a secret.
    client: Mapping[str, bool | int | float | SecretStr] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class ServingPolicy:
    """Where the search API listens; only loopback, since there are no tokens yet."""

    host: str = "127.0.0.1"
    port: Annotated[int, Interval(ge=1, le=65535)] = 8765
    # Names that it answers to beside localhost, for a proxy in front that passes on the name it was called by.
    allowed_hosts: Texts = ()


class Settings(BaseSettings):
    """Every setting there is."""

    model_config = SettingsConfigDict(
        env_prefix=_ENVIRONMENT, env_nested_delimiter="__", extra="ignore", frozen=True, validate_default=True
    )

    database_url: SecretStr | None = None  # None: an embedded Postgres in the state directory
    documents: DocumentsPolicy = Field(default_factory=DocumentsPolicy)
    model: ModelPolicy = Field(default_factory=ModelPolicy)
    serving: ServingPolicy = Field(default_factory=ServingPolicy)
    search: SearchPolicy = Field(default_factory=SearchPolicy)
    exploration: ExplorationPolicy = Field(default_factory=ExplorationPolicy)
    intake: IntakePolicy = Field(default_factory=IntakePolicy)
    kafka: KafkaPolicy = Field(default_factory=KafkaPolicy)
    ingest: IngestPolicy = Field(default_factory=IngestPolicy)
    bots: BotPolicy = Field(default_factory=BotPolicy)
    signals: SignalPolicy = Field(default_factory=SignalPolicy)
    click_model: ClickModelPolicy = Field(default_factory=ClickModelPolicy)
    pooling: PoolingPolicy = Field(default_factory=PoolingPolicy)
    holdout: HoldoutPolicy = Field(default_factory=HoldoutPolicy)
    triplets: TripletPolicy = Field(default_factory=TripletPolicy)
    training: TrainingPolicy = Field(default_factory=TrainingPolicy)
    adapter: AdapterPolicy = Field(default_factory=AdapterPolicy)
    gate: GatePolicy = Field(default_factory=GatePolicy)
    trial: TrialPolicy = Field(default_factory=TrialPolicy)
    reranker: RerankerPolicy = Field(default_factory=RerankerPolicy)
    llm: LlmPolicy = Field(default_factory=LlmPolicy)
    index: IndexPolicy = Field(default_factory=IndexPolicy)
    retention: RetentionPolicy = Field(default_factory=RetentionPolicy)
    promotion: PromotionPolicy = Field(default_factory=PromotionPolicy)
    schedule: SchedulePolicy = Field(default_factory=SchedulePolicy)
    prices: PricesPolicy = Field(default_factory=PricesPolicy)
    privacy: PrivacyPolicy = Field(default_factory=PrivacyPolicy)
    validation: ValidationPolicy = Field(default_factory=ValidationPolicy)

    _by_hand: Mapping[str, frozenset[str]] = PrivateAttr(default_factory=dict)

    def by_hand(self, section: str) -> frozenset[str]:
        """Name the settings of a section that a person has set, be it to the default."""
        return self._by_hand.get(section, frozenset())

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment goes before the file, which is what `load_settings` passes to the constructor."""
        return env_settings, init_settings


def home_directory() -> Path:
    """The state directory: RELEVANCED_HOME, or ~/.relevanced."""
    return Path(os.environ.get("RELEVANCED_HOME") or Path.home() / ".relevanced").expanduser().resolve()


def load_settings(file: Path | None, overrides: Mapping[str, Mapping[str, Any]] | None = None) -> Settings:
    """
    Read the settings.

    Args:
        file: relevanced.toml; None, or a file that is not there, leaves the defaults.
        overrides: section -> setting -> value, over file and environment; a command's options come this way.
    Raises: BadInput with one sentence for the first thing that is wrong.
    """
    given = _read(file) if file is not None and file.exists() else {}
    where = file.name if file is not None else "settings"
    sources = [(where, given), *_in_environment()]
    for source, found in sources:
        for place, key, known in _unknown(found):
            meant = difflib.get_close_matches(key, known, n=1)
            remedy = f"did you mean {meant[0]}?" if meant else f"the settings are {', '.join(sorted(known))}."
            raise BadInput(f"{source}{place}: {key} is not a setting; {remedy}")
    try:
        settings = Settings(**given)
    except ValidationError as error:
        raise BadInput(_sentence(where, given, error)) from None
    chosen = {section: replace(getattr(settings, section), **values) for section, values in (overrides or {}).items()}
    settings = settings.model_copy(update=chosen)
    settings._by_hand = _named([*(found for _, found in sources), overrides or {}])
    return settings


def _named(given: Iterable[Mapping[str, Any]]) -> dict[str, frozenset[str]]:
    """Give the settings that are named in any of these, by their section."""
    named: defaultdict[str, set[str]] = defaultdict(set)
    for found in given:
        for section, values in found.items():
            if isinstance(values, Mapping):
                named[section] |= values.keys()
    return {section: frozenset(names) for section, names in named.items()}


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{file.name} is not valid TOML: {error}.") from None


def _in_environment() -> Iterator[tuple[str, dict[str, Any]]]:
    """
    Yield each variable that names a setting of a section, in the form of the file.

    Others of our prefix are passed over: Kubernetes sets RELEVANCED_PORT and the like for a service of this name.
    """
    for name, value in os.environ.items():
        if name.upper().startswith(_ENVIRONMENT) and "__" in name:
            section, *rest = name[len(_ENVIRONMENT) :].lower().split("__")
            inner: Any = value
            for part in reversed(rest):
                inner = {part: inner}
            yield f"{name} in the environment", {section: inner}


def _unknown(given: Mapping[str, Any]) -> Iterator[tuple[str, str, list[str]]]:
    """Yield (place, key, known keys) for each key that no setting has."""
    sections = {name: field.annotation for name, field in Settings.model_fields.items()}
    yield from _unknown_in(given, "", sections)


def _unknown_in(
    given: Mapping[str, Any], section: str, known: Mapping[str, Any]
) -> Iterator[tuple[str, str, list[str]]]:
    for key, value in given.items():
        if key not in known:
            yield f", [{section}]" if section else "", key, list(known)
        elif isinstance(value, dict) and is_dataclass(known[key]):
            inner = get_type_hints(known[key])
            yield from _unknown_in(value, f"{section}.{key}".lstrip("."), inner)


def _sentence(where: str, given: Mapping[str, Any], error: ValidationError) -> str:
    first = error.errors()[0]
    section, *rest = [str(part) for part in first["loc"]]
    name = f"[{section}] {'.'.join(rest)}" if rest else section
    value, problem = first["input"], first["msg"].removeprefix("Value error, ")
    in_file = rest[0] in given.get(section, {}) if rest and isinstance(given.get(section), dict) else section in given
    place = where if in_file else f"{_ENVIRONMENT}{'__'.join([section, *rest]).upper()} in the environment"
    low, high = _bounds(section, rest)
    if low is not None and high is not None and first["type"] in _OUT_OF_BOUNDS:
        remedy = _percent(value, low, high)
        return f"{place}, {name}: {value} is not between {low} and {high}{remedy}."
    return f"{place}, {name}: {value!r} cannot be used: {problem[0].lower()}{problem[1:].rstrip('.')}."


def _bounds(section: str, rest: list[str]) -> tuple[float | None, float | None]:
    field = Settings.model_fields.get(section)
    if not rest or field is None or not isinstance(field.annotation, type):
        return None, None
    hint = get_type_hints(field.annotation, include_extras=True).get(rest[0])
    for bound in getattr(hint, "__metadata__", ()):
        if isinstance(bound, Interval):
            low = bound.gt if bound.gt is not None else bound.ge
            high = bound.lt if bound.lt is not None else bound.le
            return low, high  # type: ignore[return-value]
    return None, None


def _percent(value: float | str, low: float, high: float) -> str:
    """A share written as a percentage is the usual slip."""
    try:
        share = float(value) / 100
    except ValueError:
        return ""
    return f"; write {share:g} for {float(value):g} %" if high <= 1 and low < share < high else ""
