"""Dead letters over a real log store: replayed once, whatever happens in between, and shown without what is private."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from relevanced.consumers.loop import step
from relevanced.consumers.memory import MemorySource
from relevanced.consumers.replaying import replay
from relevanced.daemon.__main__ import run
from relevanced.daemon.config import load_settings
from relevanced.daemon.errors import Retry
from relevanced.daemon.log_store import LogStore
from relevanced.daemon.wiring import Parts

CLICK = {
    "action_name": "click",
    "query_id": "q1",
    "client_id": "ann",
    "timestamp": "2026-01-31T09:12:45Z",
    "event_attributes": {"object": {"object_id": "d1"}},
}
MENDABLE, HOPELESS = json.dumps(CLICK).encode(), b'{"query_id": "q2", "user_query": "ann\'s own wor'


@pytest.fixture(scope="module")
def home(new_home: Callable[[], Path]) -> Path:
    return new_home()


@pytest.fixture
def parts(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Parts]:
    """With two dead letters: one that an older reader refused, and one that is no JSON."""
    found = Parts(home, load_settings(None))
    with found.log_store._connection.cursor() as cursor:
        for table in ("click", "dead_letter", "source_offset"):
            cursor.execute(f"DELETE FROM lake.{table} WHERE $1 = $1", ["all"])
        cursor.execute("INSERT INTO lake.source_offset VALUES ('', '', 0)")
    step(MemorySource([b"old", HOPELESS]), found.log_store)
    with found.log_store._connection.cursor() as cursor:
        cursor.execute("UPDATE lake.dead_letter SET payload = $1 WHERE payload = 'old'::BLOB", [MENDABLE])
    yield found
    found.close()


@pytest.fixture
def give(parts: Parts, home: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    def command(*arguments: str) -> tuple[int, str]:
        status = run(["--home", str(home), "dead-letters", *arguments], debug=False)
        said = capsys.readouterr()
        return status, said.out + said.err

    return command


def letters(log: LogStore) -> dict[str, bytes]:
    with log._connection.cursor() as cursor:
        return dict(cursor.execute("SELECT dead_letter_id, payload FROM lake.dead_letter").fetchall())


def clicks(log: LogStore) -> int:
    with log._connection.cursor() as cursor:
        ((count,),) = cursor.execute("SELECT count(*) FROM lake.click").fetchall()
        return int(count)


def test_replay_stores_what_can_be_read_now_and_leaves_the_rest(parts, give):
    assert give("replay", "--all") == (0, "Replayed 1 dead letters; 1 still cannot be used.\n")
    assert (clicks(parts.log_store), list(letters(parts.log_store).values())) == (1, [HOPELESS])
    give("replay", "--all")
    assert clicks(parts.log_store) == 1


def test_a_replay_that_breaks_off_has_neither_lost_nor_stored_anything(parts, monkeypatch):
    before = letters(parts.log_store)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("relevanced.consumers.replaying._append", killed)  # the letter is out, its rows are not in
    with pytest.raises(KeyboardInterrupt):
        replay(before, parts.log_store)
    assert (letters(parts.log_store), clicks(parts.log_store)) == (before, 0)


def test_of_two_replays_of_one_letter_the_second_stores_nothing(parts):
    before = letters(parts.log_store)
    assert replay(before, parts.log_store) == 1
    with pytest.raises(Retry, match="Another process"):
        replay(before, parts.log_store)
    assert clicks(parts.log_store) == 1


def test_list_counts_by_reason_and_pages(give):
    status, said = give("list", "--json", "--size", "1", "--page", "2")
    found = json.loads(said)
    assert (status, [group["records"] for group in found["groups"]], len(found["dead_letters"])) == (0, [1, 1], 1)
    assert json.loads(give("list", "--json", "--reason", "no such reason")[1])["groups"] == []


def test_show_withholds_what_people_typed_unless_asked(parts, give):
    for name, payload in letters(parts.log_store).items():
        private = "ann"
        assert private not in give("show", name)[1].replace(name, "")
        assert private in give("show", name, "--raw")[1]
        assert payload.decode() in give("show", name, "--raw")[1]


@pytest.mark.parametrize("typed", [["my", "own words"], {"text": "own words"}])
def test_show_withholds_a_text_of_another_type(parts, give, typed):
    source = MemorySource([json.dumps({"query_id": "q9", "user_query": typed}).encode()])
    source.name = f"memory of {type(typed).__name__}"
    step(source, parts.log_store)
    for name in letters(parts.log_store):
        assert "own words" not in give("show", name)[1]


def test_drop_asks_first_and_removes_what_was_named(parts, give):
    name = next(iter(letters(parts.log_store)))
    assert give("drop", name[:12])[0] != 0  # nobody answers
    assert len(letters(parts.log_store)) == 2
    assert give("drop", name[:12], "--yes") == (0, "Removed 1 dead letters.\n")
    assert name not in letters(parts.log_store)


@pytest.mark.parametrize("arguments", [["replay"], ["drop", "--yes"], ["show", "zz"], ["replay", "zz"]])
def test_what_names_no_dead_letter_is_one_sentence(give, arguments):
    status, said = give(*arguments)
    assert (status, said.count("\n")) == (2, 1)
