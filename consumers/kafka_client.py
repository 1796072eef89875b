"""
How Kafka's brokers are reached, the same for reading and for writing.

In:  the settings of [kafka.client]. Out: what kafka-python's classes take; read by kafka and kafka_sink.
"""

import difflib
from collections.abc import Mapping
from typing import Any, Final, Protocol

from kafka import KafkaConsumer, KafkaProducer
from kafka.errors import KafkaConfigurationError, KafkaError

from relevanced.daemon.errors import BadInput, RelevancedError, Retry

ANSWER_MS: Final = 5_000  # a broker that is silent for longer does not answer

# Ours to choose, since what is stored, and that once, hangs on them; the rest is the operator's.
_OURS: Final = frozenset(
    {
        *("bootstrap_servers", "group_id", "enable_auto_commit", "auto_commit_interval_ms", "auto_offset_reset"),
        *("key_deserializer", "value_deserializer", "key_serializer", "value_serializer"),
        *("partition_assignment_strategy", "kafka_client", "selector", "metric_reporters", "acks"),
    }
)


class Secret(Protocol):
    """A text that no log shows: pydantic's SecretStr."""

    def get_secret_value(self) -> str: ...


Setting = bool | int | float | str | Secret


def client_settings(kind: type[KafkaConsumer] | type[KafkaProducer], settings: Mapping[str, Setting]) -> dict[str, Any]:
    """
    Choose what a class of kafka-python takes of the operator's settings; the environment gives numbers as texts.

    Raises: BadInput for a name that neither consumer nor producer knows, and for a value of another kind.
    """
    known = KafkaConsumer.DEFAULT_CONFIG | KafkaProducer.DEFAULT_CONFIG
    for name in settings:
        if name in _OURS:
            raise BadInput(f"[kafka.client] {name} is not the operator's to choose; leave it out.")
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            remedy = f"did you mean {near[0]}?" if near else "kafka-python's documentation lists what there is."
            raise BadInput(f"[kafka.client]: {name} is not a setting of kafka-python; {remedy}")
    return {
        name: _as_kind_of(known[name], name, value) for name, value in settings.items() if name in kind.DEFAULT_CONFIG
    }


def no_answer(servers: str) -> str:
    """The sentence about brokers that are away."""
    return f"No Kafka broker at {servers} answers; check that it runs, and what [kafka] says of it."


def not_begun(servers: str, error: Exception) -> RelevancedError:
    """What is done about a client of kafka-python that could not be made: brokers may come back, settings do not."""
    if isinstance(error, KafkaConfigurationError) or not isinstance(error, KafkaError):
        return BadInput(f"The settings of [kafka] cannot be used ({type(error).__name__}: {error}).")
    return Retry(no_answer(servers))


def _as_kind_of(default: object, name: str, value: Setting) -> bool | int | float | str:
    plain = value if isinstance(value, (bool, int, float, str)) else value.get_secret_value()
    if not isinstance(plain, str) or default is None or isinstance(default, str):
        return plain
    try:
        if isinstance(default, bool):
            return {"true": True, "false": False}[plain.lower()]
        return float(plain) if isinstance(default, float) else int(plain)
    except (KeyError, ValueError):
        raise BadInput(f"[kafka.client] {name}: the value is no {type(default).__name__}.") from None
