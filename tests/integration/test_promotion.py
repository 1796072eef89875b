"""The pointer: only a verified version, one change at a time, all of them in the history."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import psycopg
import pytest

from relevanced.daemon import history
from relevanced.daemon.database import Database
from relevanced.daemon.errors import BadInput
from relevanced.daemon.promotion import Promotion
from relevanced.daemon.records import Outcome, Serving, VersionState

NewVersion = Callable[[VersionState], int]


@pytest.fixture
def promotion(database: Database) -> Promotion:
    return Promotion(database)


@pytest.fixture
def new_version(database: Database) -> NewVersion:
    def make(state: VersionState) -> int:
        with database.connection() as connection:
            version_id = history.register_version(connection, None)
        history.complete_version(database, version_id, Path(f"/models/v{version_id}"), f"words-{version_id}", 64, {})
        history.set_state(database, version_id, state)
        return version_id

    return make


def test_a_version_that_nobody_noted_leaves_no_gap(new_version: NewVersion, database: Database) -> None:
    first = new_version("verified")

    def die_before_noting_it() -> None:
        with database.connection() as connection:
            history.register_version(connection, first)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        die_before_noting_it()
    assert new_version("candidate") == first + 1


def test_versions_that_are_registered_at_once_get_one_number_each(database: Database) -> None:
    together = Barrier(4)

    def register(_: int) -> int:
        together.wait()
        with database.connection() as connection:
            return history.register_version(connection, None)

    with ThreadPoolExecutor(4) as threads:
        assert sorted(threads.map(register, range(4))) == [1, 2, 3, 4]


def promote(promotion: Promotion, version_id: int) -> Outcome:
    return promotion.promote(version_id, actor="ada", reason="better")


def test_promote_and_rollback_move_the_pointer_and_can_be_repeated(
    promotion: Promotion, new_version: NewVersion, database: Database
) -> None:
    first, second = new_version("verified"), new_version("verified")
    assert promotion.serving() == Serving(None, None)
    assert promote(promotion, first).sentence == "Promoted version 1, the first to be live."
    assert promote(promotion, second).sentence == (
        "Promoted version 2 in place of 1; `relevanced rollback` returns to 1."
    )
    assert promotion.serving() == Serving(second, first)
    back = promotion.rollback(actor="ada", reason="worse after all")
    assert back.sentence == "Rolled back from version 2 to 1; `relevanced rollback` again returns to 2."
    assert promotion.serving() == Serving(first, second)
    promotion.rollback(actor="ada", reason="no, better")
    assert promotion.serving() == Serving(second, first)
    told = [(row["verb"], row["live_version_id"], row["reason"]) for row in history.serving_history(database)]
    assert told == [
        ("rollback", 2, "no, better"),
        ("rollback", 1, "worse after all"),
        ("promote", 2, "better"),
        ("promote", 1, "better"),
    ]


def test_promoting_the_live_version_changes_nothing(
    promotion: Promotion, new_version: NewVersion, database: Database
) -> None:
    version_id = new_version("verified")
    promote(promotion, version_id)
    assert promote(promotion, version_id).sentence == "Version 1 is live already; nothing was changed."
    assert len(history.serving_history(database)) == 1


@pytest.mark.parametrize("state", ["candidate", "prepared", "rejected"])
def test_only_a_verified_version_can_be_promoted(
    promotion: Promotion, new_version: NewVersion, state: VersionState
) -> None:
    version_id = new_version(state)
    with pytest.raises(
        BadInput, match=f"Version 1 is {state}, and only a verified version can be promoted; `relevanced"
    ):
        promote(promotion, version_id)
    assert promotion.serving() == Serving(None, None)


def test_an_unknown_version_is_answered_with_the_known_ones(promotion: Promotion, new_version: NewVersion) -> None:
    new_version("verified")
    new_version("verified")
    with pytest.raises(BadInput, match="There is no version 9; there are: 1, 2"):
        promote(promotion, 9)


def test_a_version_without_a_model_is_no_version_yet(promotion: Promotion, database: Database) -> None:
    with database.connection() as connection:
        history.register_version(connection, None)
    with pytest.raises(BadInput, match="Version 1 has no model yet"):
        promote(promotion, 1)


def test_rollback_needs_a_version_that_was_live_before(promotion: Promotion, new_version: NewVersion) -> None:
    with pytest.raises(BadInput, match="No version is live yet"):
        promotion.rollback(actor="ada", reason="")
    promote(promotion, new_version("verified"))
    with pytest.raises(
        BadInput, match=r"Version 1 cannot be rolled back: no version was live before it. `relevanced v"
    ):
        promotion.rollback(actor="ada", reason="")


def test_rollback_does_not_return_to_a_version_that_was_rejected_since(
    promotion: Promotion, new_version: NewVersion, database: Database
) -> None:
    promote(promotion, new_version("verified"))
    promote(promotion, new_version("verified"))
    history.set_state(database, 1, "rejected")
    with pytest.raises(BadInput, match="Version 2 cannot be rolled back: version 1 is rejected"):
        promotion.rollback(actor="ada", reason="")
    assert promotion.serving() == Serving(2, 1)


def test_the_live_version_cannot_be_rejected(promotion: Promotion, new_version: NewVersion, database: Database) -> None:
    promote(promotion, new_version("verified"))
    history.set_state(database, 1, "rejected")
    assert history.version(database, 1).state == "verified"


def test_of_promotions_at_the_same_moment_exactly_one_wins(
    promotion: Promotion, new_version: NewVersion, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    promote(promotion, new_version("verified"))
    rivals = [new_version("verified") for _ in range(4)]
    barrier = Barrier(len(rivals))
    change = Promotion._change

    def change_together(*arguments: object) -> object:
        barrier.wait()  # each has read the pointer; now all want to move it
        return change(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Promotion, "_change", change_together)

    with ThreadPoolExecutor(len(rivals)) as threads:
        attempts = [threads.submit(promote, promotion, version_id) for version_id in rivals]
    refused = [str(attempt.exception()) for attempt in attempts if attempt.exception()]
    assert len(refused) == 3
    assert all(sentence.startswith("Another change of the live version came first") for sentence in refused)
    (winner,) = [version_id for version_id, attempt in zip(rivals, attempts, strict=True) if not attempt.exception()]
    assert promotion.serving() == Serving(winner, 1)
    assert len(history.serving_history(database)) == 2


def test_a_version_that_is_rejected_at_the_last_moment_is_not_promoted(
    promotion: Promotion, new_version: NewVersion, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    version_id = new_version("verified")
    change = Promotion._change

    def change_late(*arguments: object) -> object:
        history.set_state(database, version_id, "rejected")
        return change(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Promotion, "_change", change_late)
    with pytest.raises(BadInput, match="Another change"):
        promote(promotion, version_id)
    assert promotion.serving() == Serving(None, None)


def test_listeners_hear_of_a_change_once_it_is_committed(
    promotion: Promotion, new_version: NewVersion, database: Database
) -> None:
    with psycopg.connect(database.url, autocommit=True) as listener:
        listener.execute("LISTEN relevanced_serving")
        promote(promotion, new_version("verified"))
        assert [notice.payload for notice in listener.notifies(timeout=10, stop_after=1)] == ["1"]


def test_a_promotion_whose_history_cannot_be_written_does_not_happen(
    promotion: Promotion, new_version: NewVersion, database: Database
) -> None:
    version_id = new_version("verified")
    with database.connection() as connection:
        connection.execute("ALTER TABLE relevanced.serving_history ADD CHECK (actor <> 'ada')")
    with pytest.raises(psycopg.errors.CheckViolation):
        promote(promotion, version_id)
    assert promotion.serving() == Serving(None, None)
