from pathlib import Path

import pytest

from relevanced.daemon.config import load_settings
from relevanced.daemon.errors import BadInput


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    return tmp_path / "relevanced.toml"


def test_without_a_file_every_setting_has_its_default(toml: Path) -> None:
    assert load_settings(toml).gate.confidence == 0.9


def test_the_file_is_read_and_the_environment_goes_before_it(toml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toml.write_text("[gate]\nconfidence = 0.9\nmin_queries = 50\n")
    monkeypatch.setenv("RELEVANCED_GATE__CONFIDENCE", "0.99")
    settings = load_settings(toml)
    assert (settings.gate.confidence, settings.gate.min_queries) == (0.99, 50)


def test_an_option_goes_before_file_and_environment(toml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toml.write_text("[exploration]\nswap_probability = 0.5\n")
    monkeypatch.setenv("RELEVANCED_EXPLORATION__SWAP_PROBABILITY", "0.7")
    assert load_settings(toml, {"exploration": {"swap_probability": 0.1}}).exploration.swap_probability == 0.1


def test_what_a_person_has_set_is_known_even_where_it_is_the_default(
    toml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toml.write_text("[training]\nepochs = 1\n")
    monkeypatch.setenv("RELEVANCED_TRAINING__LEARNING_RATE", "1e-4")
    settings = load_settings(toml, {"training": {"batch_size": 32}})
    assert settings.by_hand("training") == {"epochs", "learning_rate", "batch_size"}
    assert settings.by_hand("gate") == frozenset()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "[gate]\nmin_queris = 3",
            r"relevanced.toml, \[gate\]: min_queris is not a setting; did you mean min_queries\?",
        ),
        ("[gates]\nx = 3", r"relevanced.toml: gates is not a setting; did you mean gate\?"),
        (
            "[index.verify]\nmin_recal = 0.9",
            r"relevanced.toml, \[index.verify\]: min_recal is not a setting; did you mean min_recall\?",
        ),
        (
            "[gate]\nconfidence = 95",
            r"relevanced.toml, \[gate\] confidence: 95 is not between 0 and 1; write 0.95 for 95 %\.",
        ),
        ("[serving]\nport = 99999", r"\[serving\] port: 99999 is not between 1 and 65535\."),
        ("[gate]\nconfidence = 'high'", r"\[gate\] confidence: 'high' cannot be used: "),
        ("[schedule]\ncron = 'every night'", r"\[schedule\] cron: 'every night' cannot be used: "),
        ("gate = 3", r"relevanced.toml, gate: 3 cannot be used: "),
        ("[gate\nconfidence = 1", r"relevanced.toml is not valid TOML: "),
    ],
)
def test_a_setting_that_cannot_be_used_is_answered_in_one_sentence(toml: Path, text: str, sentence: str) -> None:
    toml.write_text(text)
    with pytest.raises(BadInput, match=sentence) as caught:
        load_settings(toml)
    assert "\n" not in str(caught.value)


def test_a_wrong_variable_is_named_as_such(toml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELEVANCED_GATE__CONFIDENCE", "95")
    with pytest.raises(BadInput, match=r"RELEVANCED_GATE__CONFIDENCE in the environment, \[gate\] confidence: 95"):
        load_settings(toml)


def test_a_list_stands_in_a_variable_with_commas(toml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELEVANCED_INTAKE__ALLOWED_ORIGINS", "https://a.example, https://b.example")
    monkeypatch.setenv("RELEVANCED_KAFKA__TOPICS", "one,two")
    settings = load_settings(toml)
    assert settings.intake.allowed_origins == ("https://a.example", "https://b.example")
    assert settings.kafka.topics == ("one", "two")


def test_a_variable_that_is_no_setting_is_named(toml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELEVANCED_PORT", "tcp://10.0.0.7:8765")  # as Kubernetes does for a service
    load_settings(toml)
    monkeypatch.setenv("RELEVANCED_GATE__CONFIDNCE", "0.9")
    with pytest.raises(BadInput, match=r"CONFIDNCE in the environment.*: confidnce .*; did you mean confidence\?"):
        load_settings(toml)


def test_the_password_of_the_database_is_not_shown(toml: Path) -> None:
    toml.write_text('database_url = "postgresql://me:secret@db/search"\n')
    assert "secret" not in repr(load_settings(toml))
