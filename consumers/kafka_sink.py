"""
Our own records, written to Kafka topics.

In:  UBI records. Out: messages that the brokers have acknowledged; read by kafka, and by whoever else reads the topics.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from kafka import KafkaProducer
from kafka.errors import KafkaError

from relevanced.consumers.kafka_client import ANSWER_MS, Setting, client_settings, not_begun
from relevanced.daemon.errors import Retry


class KafkaSink:
    """Writes records to the topic of their kind; safe to share between threads."""

    def __init__(
        self,
        bootstrap_servers: str,
        *,
        query_topic: str = "ubi.queries",
        event_topic: str = "ubi.events",
        client: Mapping[str, Setting] | None = None,
    ) -> None:
        """
        Raises: Retry when no broker answers, BadInput when kafka-python cannot use the settings.
        """
        self._servers = bootstrap_servers
        self._query_topic, self._event_topic = query_topic, event_topic
        settings = {
            "client_id": "relevanced",
            "bootstrap_timeout_ms": ANSWER_MS,
            "max_block_ms": ANSWER_MS,
            "request_timeout_ms": ANSWER_MS,
            "delivery_timeout_ms": 2 * ANSWER_MS,  # what was refused by then is given up, not sent late
        } | client_settings(KafkaProducer, client or {})
        try:
            self._producer = KafkaProducer(bootstrap_servers=bootstrap_servers, acks="all", **settings)
        except (KafkaError, ValueError, OSError) as error:
            raise not_begun(bootstrap_servers, error) from error

    def write(self, records: Sequence[Mapping[str, Any]]) -> None:
        """
        Return once the brokers have acknowledged the records; those of one query_id stay in their order.

        Raises: Retry when they do not; some may have arrived all the same, and a reader of the log takes each once.
        """
        try:
            sent = [
                self._producer.send(
                    self._event_topic if record.get("action_name") else self._query_topic,
                    key=str(record.get("query_id", "")).encode(),
                    value=msgspec.json.encode(record),
                )
                for record in records
            ]
            self._producer.flush()
            for future in sent:
                future.get(timeout=0)
        except KafkaError as error:
            raise Retry(f"Kafka at {self._servers} did not take the records ({type(error).__name__}).") from error

    def close(self) -> None:
        """Let go of the brokers; what was written is with them."""
        self._producer.close(timeout=1)
