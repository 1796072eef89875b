"""The log: readable by its reader, and silent about who searched for what."""

import json
import logging
import sys

import pytest
import structlog

from relevanced.daemon.telemetry import configure_logging


@pytest.fixture
def logged(capsys):
    """Gives what was logged; the set-up of the other tests comes back afterwards."""
    before = logging.root.handlers[:], logging.root.level
    yield lambda: capsys.readouterr().err
    structlog.reset_defaults()
    logging.root.handlers[:], logging.root.level = before


TYPED = "lump in my throat"


def fail(user_query):
    raise ValueError("no such place")


def test_one_event_is_one_line_of_json_with_its_numbers(logged):
    configure_logging(debug=False)
    structlog.get_logger("relevanced.daemon.search").info("Stored 3 events.", events=3)

    line = json.loads(logged())
    assert (line["event"], line["events"], line["level"]) == ("Stored 3 events.", 3, "info")
    assert line["timestamp"].endswith("Z")


def test_what_people_typed_and_who_they_are_is_withheld(logged):
    configure_logging(debug=True)
    structlog.get_logger("relevanced").warning("slow", user_query=TYPED, client_id="c-7", k=10)

    line = logged()
    assert TYPED not in line
    assert "c-7" not in line
    assert json.loads(line)["k"] == 10


@pytest.mark.parametrize("terminal", [True, False])
def test_a_stack_trace_shows_the_lines_and_not_the_values(logged, monkeypatch, terminal):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    configure_logging(debug=False)
    try:
        fail(TYPED)
    except ValueError:
        structlog.get_logger("relevanced").exception("Failed.")
        logging.getLogger("uvicorn.error").exception("Exception in ASGI application")

    text = logged()
    assert text.count("ValueError: no such place") == 2
    assert TYPED not in text


def test_details_are_said_when_asked_for_and_those_of_libraries_never(logged):
    for debug in (False, True):
        configure_logging(debug=debug)
        structlog.get_logger("relevanced.daemon.index").debug(f"debug {debug}")
        logging.getLogger("httpx").info("GET https://example.org/?q=throat")

    text = logged()
    assert "debug True" in text
    assert "debug False" not in text
    assert "throat" not in text
