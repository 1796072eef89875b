"""
Places in Kafka topics: what a partition is called, where reading begins, and where a replay begins.

In:  a consumer, the log store's offsets, and what the operator asks for. Out: offsets; read by kafka.

A partition is called topic:partition. A topic that was deleted and created again has the same name and other records,
so the name carries the end of the topic's id where the broker gives ids (Kafka does from 2.8 on): topic@id:partition.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final

import structlog
from kafka import KafkaConsumer, TopicPartition

from relevanced.consumers.kafka_client import ANSWER_MS
from relevanced.daemon.errors import Retry, StopDaemon

ID_DIGITS: Final = 8  # of a topic's id; it need only tell topics of one name apart

_logger: Final = structlog.get_logger(__name__)


def source_name(consumer: KafkaConsumer, bootstrap_servers: str, group: str) -> str:
    """The group at its cluster, by the cluster's id; where brokers give none, by their addresses in order."""
    cluster = consumer._cluster.cluster_id or ",".join(sorted(bootstrap_servers.replace(" ", "").split(",")))
    return f"kafka:{group}@{cluster}"


class Names:
    """The names of partitions, by the topics' ids; kafka-python shows those nowhere but in its private parts."""

    def __init__(self, consumer: KafkaConsumer) -> None:
        self._consumer = consumer

    def of(self, places: Iterable[TopicPartition]) -> dict[TopicPartition, str]:
        """
        The names as of now.

        Raises: Retry when a topic is not there.
        """
        asked = self._consumer._cluster.request_update()
        self._consumer._net.run(self._consumer._manager.wait_for, asked, ANSWER_MS)
        names = {place: self.known(place) for place in places}
        for topic in {place.topic for place in names}:
            if self._consumer._cluster.partitions_for_topic(topic) is None:
                raise Retry(f"The Kafka topic {topic} is not there; it is waited for.")
        return names

    def known(self, place: TopicPartition) -> str:
        """The name by the id that was heard last."""
        topic_id = self._consumer._cluster.topic_id(place.topic)
        return f"{place.topic}{f'@{topic_id.hex[-ID_DIGITS:]}' if topic_id else ''}:{place.partition}"


def begin_at(
    consumer: KafkaConsumer, names: Mapping[TopicPartition, str], stored: Mapping[str, int]
) -> dict[TopicPartition, int]:
    """
    Where each of these partitions goes on: at its stored offset, or at its beginning when there is none.

    Says in the log when retention was faster than this consumer, and when a topic was created anew.
    """
    begins = consumer.beginning_offsets(list(names), timeout_ms=ANSWER_MS) if names else {}
    for place, name in names.items():
        begin, offset = begins[place], stored.get(name)
        if offset is None:
            if any(_plain(other) == _plain(name) for other in stored):
                _logger.warning("A Kafka topic was created anew and is read from its beginning.", partition=name)
        elif offset < begin:
            _logger.warning(
                "Records of a Kafka topic were removed before they were read; its retention is too short.",
                partition=name,
                lost=begin - offset,
            )
    return {place: max(begins[place], stored.get(name, 0)) for place, name in names.items()}


def beyond_the_end(name: str, offset: int) -> StopDaemon:
    """What is raised when a partition ends before what is stored of it."""
    return StopDaemon(
        f"Kafka {name} ends before {offset:,}, up to which records of it are stored: the brokers have lost some, or the"
        " topic is another one. `relevanced consume --from latest` goes on with what comes from now on, `--from"
        " beginning` reads all that is there."
    )


def _plain(name: str) -> str:
    return re.sub(rf"@[0-9a-f]{{{ID_DIGITS}}}(?=:\d+$)", "", name)
