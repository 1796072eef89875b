"""Which versions follow, which keep index and model, and the way back to those that do not; with a real Postgres."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from relevanced import sql
from relevanced.daemon import history
from relevanced.daemon.database import Database
from relevanced.daemon.documents import load_documents
from relevanced.daemon.errors import BadInput, FailStep, Retry
from relevanced.daemon.index import Index, IndexPolicy
from relevanced.daemon.keeping import RetentionPolicy
from relevanced.daemon.lease import leased
from relevanced.daemon.model_store import ModelStore
from relevanced.daemon.ports import silent
from relevanced.daemon.promotion import Promotion
from relevanced.daemon.records import Document
from relevanced.daemon.retention import drop, retain, surplus

POLICY = RetentionPolicy(fresh=1, keep_indexes=3, keep_models=3)


class World:
    """Versions of the words encoder, each with its table and a directory."""

    def __init__(self, database: Database, directory: Path, new_encoder: Callable) -> None:
        self.database, self.models, self.new_encoder = database, ModelStore(directory), new_encoder
        self.index, self.promotion = Index(database, IndexPolicy()), Promotion(database, POLICY)
        load_documents(database, [Document(f"d{n}", f"Title {n}", "text") for n in range(5)], silent)

    def encoder(self, number: int):
        return self.new_encoder(dimension=16, seed=number)

    def register(self, *, owner: int | None = None, manifest: dict | None = None) -> int:
        with self.database.connection() as connection:
            number = history.register_version(connection, None)
        directory = self.models.directory(number)
        directory.mkdir(parents=True)
        (directory / "model.safetensors").write_bytes(b"weights")
        print_of = f"words-16-{number}"
        history.complete_version(self.database, number, directory, print_of, 16, manifest or {}, owner)
        return number

    def verified(self) -> int:
        number = self.register()
        self.index.prepare(number, self.encoder(number), silent)
        history.set_state(self.database, number, "verified")
        return number

    def promoted(self) -> int:
        number = self.verified()
        self.promotion.promote(number, actor="ada", reason="better")
        return number

    def states(self) -> dict[int, str]:
        return {version.version_id: version.state for version in history.versions(self.database)}

    def execute(self, statement: str) -> list:
        with self.database.connection() as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []


@pytest.fixture
def world(database: Database, tmp_path: Path, new_encoder: Callable) -> World:
    return World(database, tmp_path / "versions", new_encoder)


def test_what_is_too_far_back_is_retired_by_the_change_itself_and_the_outbox_is_trimmed(world: World) -> None:
    for _ in range(4):
        world.promoted()
    assert world.states() == {1: "verified", 2: "retired", 3: "verified", 4: "verified"}, "1: mining ranks by it"
    assert [version.version_id for version in history.followers(world.database)] == [1, 3, 4]
    load_documents(world.database, [Document("d9", "New", "text")], silent)
    for number in (1, 3, 4):
        world.index.catch_up(number, world.encoder(number))
    assert world.execute("SELECT position FROM relevanced.outbox") == [], "version 2 holds nothing back"


def test_what_was_rolled_back_from_is_retired_once_rollback_no_longer_returns_to_it(world: World) -> None:
    for _ in range(3):
        world.promoted()
    world.promotion.rollback(actor="ada", reason="worse")
    assert world.states()[3] == "verified"
    assert world.promoted() == 4
    assert world.states() == {1: "verified", 2: "verified", 3: "retired", 4: "verified"}
    with pytest.raises(
        BadInput, match=r"Version 3 is retired, and only a verified .* `relevanced rollback --to 3` builds"
    ):
        world.promotion.promote(3, actor="ada", reason="")


def test_a_prepared_retired_version_follows_until_the_next_change(world: World) -> None:
    for _ in range(4):
        world.promoted()
    world.index.prepare(2, world.encoder(2), silent)
    history.set_state(world.database, 2, "verified")
    back = world.promotion.rollback_to(2, actor="ada", reason="it was the best")
    assert back.sentence == "Rolled back from version 4 to 2; `relevanced rollback` returns to 4."
    assert world.states() == {1: "verified", 2: "verified", 3: "retired", 4: "verified"}
    (newest, *_) = history.serving_history(world.database)
    assert (newest["verb"], newest["live_version_id"], newest["previous_version_id"]) == ("rollback", 2, 4)
    assert newest["host"]


def test_what_is_retired_while_another_change_waits_is_not_made_live(world: World) -> None:
    """The state is read after the wait for the other change, and not before it."""
    live = world.promoted()
    other = world.verified()
    with ThreadPoolExecutor(1) as threads, world.database.connection() as connection:
        connection.execute(sql.postgres["lock_serving"])
        connection.execute("UPDATE relevanced.version SET state = 'retired' WHERE version_id = %s", [other])
        waiting = threads.submit(world.promotion.promote, other, actor="ada", reason="")
        while not world.execute("SELECT 1 FROM pg_locks WHERE NOT granted"):
            assert not waiting.done()
        connection.commit()
        with pytest.raises(BadInput, match="Another change of the live version came first"):
            waiting.result()
    assert world.promotion.serving().live_version_id == live


def test_there_is_no_way_back_to_what_never_was_live(world: World) -> None:
    live, other = world.promoted(), world.verified()
    with pytest.raises(BadInput, match=f"Version {other} was never live"):
        world.promotion.rollback_to(other, actor="ada", reason="")
    with pytest.raises(BadInput, match=f"Version {live} is live already"):
        world.promotion.rollback_to(live, actor="ada", reason="")


def test_retention_keeps_so_many_and_those_that_were_live_the_longest(world: World) -> None:
    for _ in range(5):
        world.promoted()
    rejected = world.verified()
    history.set_state(world.database, rejected, "rejected")
    assert surplus(world.database, POLICY) == ([6, 2, 3], [6, 2, 3])
    assert surplus(world.database, RetentionPolicy(fresh=1, keep_indexes=0, keep_models=0)) == ([], [])
    assert surplus(world.database, RetentionPolicy(fresh=1, keep_indexes=4, keep_models=5)) == ([6, 2], [6])
    outcome = retain(world.database, world.models, RetentionPolicy(fresh=1, keep_indexes=3, keep_models=4))
    assert outcome.sentence == "Dropped the indexes of 6, 2, 3 and the models of 6, 2."
    assert set(history.index_sizes(world.database)) == {1, 4, 5}
    assert sorted(path.name for path in world.models.directory(1).parent.iterdir()) == ["v1", "v3", "v4", "v5"]
    assert world.states()[6] == "rejected"
    assert retain(world.database, world.models, POLICY).numbers["models"] == [3]


def test_what_a_killed_deletion_has_left_goes_the_next_time(world: World) -> None:
    for _ in range(4):
        world.promoted()
    drop(world.database, world.models, POLICY, 2, model=True)
    world.models.directory(2).mkdir()
    retain(world.database, world.models, POLICY)
    assert not world.models.directory(2).exists()


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (1, "Version 1 is the base model, by which mining ranks"),
        (3, "Version 3 is kept for a rollback that takes no time; to drop it all the same, add --confirm v3"),
        (4, "Version 4 is live, so its index and model stay"),
        (5, "Version 5 is what a cycle works on"),
        (6, "Version 6 is on trial"),
        (7, "Version 7 is waiting for approval"),
        (8, "Version 9 searches the index of version 8, so it stays"),
        (9, "Version 9 has no index of its own, it searches that of version 8; --model drops its files"),
    ],
)
def test_what_serves_or_is_worked_on_stays(world: World, number: int, sentence: str) -> None:
    for _ in range(4):
        world.promoted()
    for _ in range(4):
        world.register()
    world.register(owner=8)
    world.execute("INSERT INTO relevanced.cycle (trigger, candidate_version_id) VALUES ('cron', 5)")
    world.execute(
        "INSERT INTO relevanced.trial (purpose, live_version_id, other_version_id) VALUES ('promotion', 4, 6);"
        "INSERT INTO relevanced.approval (version_id, live_version_id, why) VALUES (7, 4, 'better')"
    )
    before = set(history.index_sizes(world.database))
    with pytest.raises(BadInput, match=sentence):
        drop(world.database, world.models, POLICY, number)
    with pytest.raises(BadInput):
        drop(world.database, world.models, POLICY, number, confirmed="v33")
    none = RetentionPolicy(fresh=1, keep_indexes=1, keep_models=1)
    assert number not in retain(world.database, world.models, none).numbers["indexes"]
    assert before - {2} == set(history.index_sizes(world.database))


def test_a_typed_name_drops_what_rollback_returns_to_and_prepare_builds_it_again(world: World) -> None:
    for _ in range(3):
        world.promoted()
    drop(world.database, world.models, POLICY, 2, confirmed="v2")
    assert world.states()[2] == "retired"
    with pytest.raises(BadInput, match=r"Version 3 cannot be rolled back: version 2 is retired; .* --to 2` builds"):
        world.promotion.rollback(actor="ada", reason="")
    assert world.index.prepare(2, world.encoder(2), silent).numbers["encoded"] == 5
    assert world.states()[2] == "prepared"


def test_nothing_is_dropped_while_it_is_prepared_and_nothing_prepared_while_it_is_dropped(world: World) -> None:
    for _ in range(4):
        world.promoted()
    with leased(world.database, "index 2", seconds=30, busy=AssertionError()):
        with pytest.raises(BadInput, match="Version 2 is being prepared"):
            drop(world.database, world.models, POLICY, 2)
        with pytest.raises(Retry, match="Another process is at the index of version 2"):
            world.index.prepare(2, world.encoder(2), silent)
        waiting = retain(world.database, world.models, RetentionPolicy(fresh=1, keep_indexes=1)).numbers["waiting"]
    assert waiting == ["Version 2 is being prepared; drop it when that has ended."]
    assert 2 in history.index_sizes(world.database)


def test_an_adapter_keeps_the_index_of_a_retired_owner_fresh(world: World) -> None:
    for _ in range(2):
        world.promoted()
    adapter = world.register(owner=2)
    history.set_state(world.database, adapter, "verified")
    world.promotion.promote(adapter, actor="ada", reason="")
    world.promoted()
    assert world.states() == {1: "verified", 2: "retired", 3: "verified", 4: "verified"}
    assert [version.version_id for version in history.followers(world.database)] == [1, 3, 4]
    assert surplus(world.database, RetentionPolicy(fresh=1, keep_indexes=1, keep_models=1)) == ([], [])
    load_documents(world.database, [Document("d9", "New", "text")], silent)
    for number in (1, 4):
        world.index.catch_up(number, world.encoder(number))
    assert len(world.execute("SELECT position FROM relevanced.outbox")) == 1, "the index of version 2 still needs it"
    world.promoted()
    assert world.states()[3] == "retired"
    assert surplus(world.database, RetentionPolicy(fresh=1, keep_indexes=3, keep_models=3)) == ([2], [2, 3])


def test_prepare_refuses_what_the_disk_cannot_hold(world: World) -> None:
    number = world.register()
    full = Index(world.database, IndexPolicy(), lambda: 1000)
    with pytest.raises(
        FailStep, match=f"The index of version {number} takes about 0 MB more, and the disk of Postgres"
    ):
        full.prepare(number, world.encoder(number), silent)
    assert history.index_sizes(world.database) == {}, "and nothing was begun"
