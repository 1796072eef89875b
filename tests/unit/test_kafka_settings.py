"""What an operator may say about Kafka: settings of the client, and the place where a replay begins."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka import KafkaConsumer, KafkaProducer
from pydantic import SecretStr

from relevanced.consumers.kafka_client import client_settings
from relevanced.consumers.kafka_replay import read_start
from relevanced.daemon.config import load_settings
from relevanced.daemon.errors import BadInput

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


def test_each_class_gets_the_settings_it_knows_and_secrets_in_plain() -> None:
    given = {"sasl_plain_password": SecretStr("hush"), "fetch_max_bytes": 1000, "linger_ms": 5}
    assert client_settings(KafkaConsumer, given) == {"sasl_plain_password": "hush", "fetch_max_bytes": 1000}
    assert client_settings(KafkaProducer, given) == {"sasl_plain_password": "hush", "linger_ms": 5}


def test_numbers_and_switches_may_come_as_texts_of_the_environment() -> None:
    given = {"request_timeout_ms": SecretStr("20000"), "ssl_check_hostname": SecretStr("false")}
    assert client_settings(KafkaConsumer, given) == {"request_timeout_ms": 20000, "ssl_check_hostname": False}


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ({"sasl_mechanizm": "PLAIN"}, "sasl_mechanizm is not a setting of kafka-python; did you mean sasl_mechanism"),
        ({"zzz": 1}, "documentation lists"),
        ({"enable_auto_commit": True}, "enable_auto_commit is not the operator's to choose"),
        ({"request_timeout_ms": "soon"}, "request_timeout_ms: the value is no int"),
        ({"ssl_check_hostname": "perhaps"}, "ssl_check_hostname: the value is no bool"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(setting: dict[str, str], sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        client_settings(KafkaConsumer, setting)


def test_topics_and_settings_come_from_file_and_environment_and_no_text_of_them_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "relevanced.toml").write_text('[kafka.client]\nsasl_plain_username = "shop"\n')
    monkeypatch.setenv("RELEVANCED_KAFKA__CLIENT__SASL_PLAIN_PASSWORD", "hush")
    monkeypatch.setenv("RELEVANCED_KAFKA__TOPICS", "shop.ubi, ubi.events")
    kafka = load_settings(tmp_path / "relevanced.toml").kafka
    assert kafka.topics == ("shop.ubi", "ubi.events")
    assert client_settings(KafkaConsumer, kafka.client) == {
        "sasl_plain_username": "shop",
        "sasl_plain_password": "hush",
    }
    assert "hush" not in repr(kafka)


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("beginning", "beginning"),
        ("latest", "latest"),
        ("0", 0),
        ("1200", 1200),
        ("90m", NOW - timedelta(minutes=90)),
        ("7d", NOW - timedelta(days=7)),
        ("2026-01-30T00:00Z", datetime(2026, 1, 30, tzinfo=UTC)),
        ("2026-01-30T01:00+01:00", datetime(2026, 1, 30, tzinfo=UTC)),
    ],
)
def test_a_replay_may_begin_at_each_of_these(text: str, start: object) -> None:
    assert read_start(text, NOW) == start


@given(st.text().filter(lambda text: not text.isascii()))
def test_anything_else_is_bad_input_that_lists_what_there_is(text: str) -> None:
    with pytest.raises(BadInput, match="write beginning, latest, an offset"):
        read_start(text, NOW)


@pytest.mark.parametrize("text", ["", "-5", "2026-01-30T00:00", "7 days", "9999999999w"])
def test_a_place_that_is_none_is_bad_input(text: str) -> None:
    with pytest.raises(BadInput, match="is no place to begin at"):
        read_start(text, NOW)
