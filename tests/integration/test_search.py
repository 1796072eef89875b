"""Search: one version per answer, one record per search, and no failure that the searcher need not see."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from structlog.testing import capture_logs

from relevanced import sql
from relevanced.consumers.decode import decode
from relevanced.consumers.memory import MemorySource
from relevanced.daemon import history
from relevanced.daemon.calibration import Calibration
from relevanced.daemon.database import Database
from relevanced.daemon.documents import document_text, load_documents
from relevanced.daemon.errors import BadInput, Retry, StopDaemon
from relevanced.daemon.exploration import ExplorationPolicy
from relevanced.daemon.holdout import HoldoutPolicy, is_held_out
from relevanced.daemon.index import Index, IndexPolicy
from relevanced.daemon.model_store import ModelPolicy, ModelStore
from relevanced.daemon.ports import silent
from relevanced.daemon.promotion import Promotion
from relevanced.daemon.queries import cluster_key, query_key
from relevanced.daemon.ranking import QueryVectors
from relevanced.daemon.records import Document, SearchRequest
from relevanced.daemon.search import NoLiveVersion, Search, SearchPolicy
from relevanced.daemon.trial import TrialPolicy

NOON = datetime(2026, 1, 31, 12, 0, 0, 250_000, tzinfo=UTC)
DOCUMENTS = [
    Document("HP:0002094", "Dyspnea", "Difficult or labored breathing."),
    Document("HP:0002015", "Dysphagia", "Difficulty in swallowing."),
    Document("HP:0002315", "Headache", "Cephalgia, or pain sensed in various parts of the head."),
    Document("HP:0000822", "Hypertension", "The presence of chronic increased pressure in the arteries."),
    Document("HP:0002829", "Arthralgia", "Joint pain."),
    Document("HP:0000421", "Epistaxis", "Bleeding from the nose."),
    Document("HP:0000365", "Hearing impairment", ""),
    Document("HP:0100749", "Chest pain", "An unpleasant sensation in the chest."),
]


class FullDisk:
    """A sink that takes nothing."""

    def write(self, records):
        raise Retry("The spool has no room left; make some.")


class StandingClock:
    def now(self):
        return NOON


class World:
    """Two verified versions of one model: the second reads texts behind prompts, so it is a space of its own."""

    def __init__(self, database, directory):
        self.database = database
        self.models = ModelStore(directory)
        self.index = Index(database, IndexPolicy())
        self.promotion = Promotion(database)
        self.encoders, self.vectors = {}, {}
        load_documents(database, DOCUMENTS, silent)
        other = ModelPolicy(query_prompt="Instruct: name the organ. Query: ", document_prompt="A finding of medicine: ")
        for policy in (ModelPolicy(), other):
            self._add(policy)

    def _add(self, policy):
        with self.database.connection() as connection:
            version_id = history.register_version(connection, None)
        directory = self.models.adopt(policy, version_id)
        self.models.write_manifest(directory, {"base": policy.base})
        encoder = self.encoders[version_id] = self.models.open(directory)
        history.complete_version(self.database, version_id, directory, encoder.fingerprint, encoder.dimension, {})
        texts = [document_text(document.title, document.text) for document in DOCUMENTS]
        self.vectors[version_id] = encoder.encode_documents(texts)
        self.index.prepare(version_id, encoder, silent)
        assert self.index.verify(version_id, encoder, []).verdict == "accepted"

    def search(self, sink, **changes):
        parts = {
            "database": self.database,
            "index": self.index,
            "models": self.models,
            "promotion": self.promotion,
            "sink": sink,
            "exploration": ExplorationPolicy(),
            "trial": TrialPolicy(),
            "holdout": HoldoutPolicy(),
            "policy": SearchPolicy(),
            "clock": StandingClock(),
            "seed": 0,
        }
        return Search(**{**parts, **changes})

    def exact(self, version_id, user_query):
        """document_id -> score, best first, without an index."""
        scores = (self.vectors[version_id] @ self.encoders[version_id].encode_queries([user_query])[0]).tolist()
        ids = [document.document_id for document in DOCUMENTS]
        return dict(sorted(zip(ids, scores, strict=True), key=lambda pair: -pair[1]))


@pytest.fixture(scope="module")
def world(postgres, tmp_path_factory):
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("CREATE DATABASE test_search")
    directory = tmp_path_factory.mktemp("search")
    database = Database.open(make_conninfo(postgres, dbname="test_search"), directory)
    yield World(database, directory / "versions")
    database.close()
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("DROP DATABASE test_search WITH (FORCE)")


@pytest.fixture(autouse=True)
def first_version_is_live(request):
    if "world" in request.fixturenames:
        world = request.getfixturevalue("world")
        world.promotion.promote(1, actor="test", reason="start")


@pytest.fixture
def sink():
    return MemorySource()


def records_of(sink):
    return [decode(record.value) for record in sink.poll(1000).records]


def scores_of(answer):
    return {hit.document_id: hit.score for hit in answer.hits}


def test_a_score_is_said_on_the_base_versions_scale_too_where_a_gate_has_mapped_it(world, sink):
    search = world.search(sink)
    (answer,) = search.search([SearchRequest("heart")])
    assert [hit.calibrated_score for hit in answer.hits] == [hit.score for hit in answer.hits]
    world.promotion.promote(2, actor="ada", reason="better")
    (answer,) = search.search([SearchRequest("heart")])
    assert {hit.calibrated_score for hit in answer.hits} == {None}
    halved = Calibration(1, [0.0, 1.0], [0.0, 0.5], 0.5)
    with world.database.connection() as connection:
        history.note_metrics(connection, 2, {"calibration": halved.numbers()})
    (answer,) = world.search(sink).search([SearchRequest("heart")])
    assert [hit.calibrated_score for hit in answer.hits] == pytest.approx([hit.score / 2 for hit in answer.hits])


def test_an_answer_has_the_documents_in_the_order_of_their_scores(world, sink):
    (answer,) = world.search(sink).search([SearchRequest("trouble breathing", k=3)])

    assert answer.version_id == 1
    assert [hit.position for hit in answer.hits] == [1, 2, 3]
    assert (answer.hits[0].document_id, answer.hits[0].title) == ("HP:0002094", "Dyspnea")
    assert answer.hits[0].text == "Difficult or labored breathing."
    exact = world.exact(1, "trouble breathing")
    assert [hit.document_id for hit in answer.hits] == list(exact)[:3]
    assert scores_of(answer) == pytest.approx({key: exact[key] for key in list(exact)[:3]}, abs=1e-3)  # halfvec


def test_each_search_leaves_the_record_that_its_clicks_are_joined_to(world, sink):
    request = SearchRequest("Trouble breathing?", 2, client_id="c1", session_id="s1", application="shop")
    (answer,) = world.search(sink).search([request])

    (raw,) = sink.poll(10).records
    record = json.loads(raw.value)
    assert record == {
        "query_id": answer.query_id,
        "user_query": "Trouble breathing?",
        "client_id": "c1",
        "session_id": "s1",
        "application": "shop",
        "timestamp": "2026-01-31T12:00:00.250+00:00",
        "object_id_field": "document_id",
        "query_response_id": record["query_response_id"],
        "query_response_hit_ids": [hit.document_id for hit in answer.hits],
        "query_attributes": {"version": "1", "policy": None, "propensities": None, "ranked_by": None},
    }


def test_what_the_caller_did_not_tell_is_left_out_and_a_given_time_is_kept(world, sink):
    world.search(sink).search([SearchRequest("nose bleed", timestamp=datetime(2020, 2, 2, tzinfo=UTC))])

    record = json.loads(sink.poll(1).records[0].value)
    assert not {"client_id", "session_id", "application"} & record.keys()
    assert record["timestamp"] == "2020-02-02T00:00:00.000+00:00"


def test_a_batch_answers_each_request_with_its_own_k_and_its_own_query_id(world, sink):
    requests = [SearchRequest("nose bleed", k=1), SearchRequest("sore joints", k=4), SearchRequest("nose bleed", k=2)]
    answers = world.search(sink).search(requests)

    assert [len(answer.hits) for answer in answers] == [1, 4, 2]
    assert [answer.hits[0].title for answer in answers] == ["Epistaxis", "Arthralgia", "Epistaxis"]
    assert len({answer.query_id for answer in answers}) == 3
    assert [record.query_id for record in records_of(sink)] == [answer.query_id for answer in answers]


def test_no_request_is_no_answer_and_no_record(world, sink):
    assert world.search(sink).search([]) == []
    assert records_of(sink) == []


def test_what_is_shown_under_exploration_is_what_is_logged(world, sink):
    search = world.search(sink, exploration=ExplorationPolicy(swap_probability=1.0))
    answers = search.search([SearchRequest("pain", k=5)] * 20)

    orders = [tuple(hit.document_id for hit in answer.hits) for answer in answers]
    assert len(set(orders)) > 1
    assert all([hit.position for hit in answer.hits] == [1, 2, 3, 4, 5] for answer in answers)
    assert all(scores_of(answer) == scores_of(answers[0]) for answer in answers)
    for record, order in zip(records_of(sink), orders, strict=True):
        assert tuple(record.query_response_hit_ids) == order
        assert record.query_attributes["policy"] == "fairpairs:1"
        assert len(record.query_attributes["propensities"]) == 5


@pytest.fixture
def on_trial(world):
    """Version 2 beside version 1, until the test ends."""
    row = {"purpose": "promotion", "live_version_id": 1, "other_version_id": 2, "level": 0.01}
    with world.database.connection() as connection:
        trial_id = connection.execute(sql.postgres["begin_trial"], row).fetchone()["trial_id"]
    yield trial_id
    with world.database.connection() as connection:
        connection.execute("DELETE FROM relevanced.trial")


def trial_search(world, sink, **changes):
    everybody = {"trial": TrialPolicy(share=1), "exploration": ExplorationPolicy(mix_share=1)}
    return world.search(sink, **{**everybody, **changes})


def test_in_a_trial_an_answer_is_out_of_both_versions_and_its_record_says_which_put_what_where(world, sink, on_trial):
    answers = trial_search(world, sink).search([SearchRequest("pain", k=5, session_id=f"s{n}") for n in range(20)])
    exact = {version: world.exact(version, "pain") for version in (1, 2)}

    for answer, record in zip(answers, records_of(sink), strict=True):
        assert answer.version_id == 1
        assert [hit.position for hit in answer.hits] == [1, 2, 3, 4, 5]
        for hit in answer.hits:
            assert hit.score == pytest.approx(exact[hit.version_id][hit.document_id], abs=1e-3)
        for hit, ranked_by in zip(answer.hits, record.query_attributes["ranked_by"], strict=True):
            assert ranked_by in (str(hit.version_id), "1+2")
        assert record.query_attributes["policy"] == f"team-draft:trial-{on_trial}"
        assert len(record.query_attributes["propensities"]) == 5
        assert {answer.hits[0].document_id} <= {next(iter(ranked)) for ranked in exact.values()}
    assert {hit.version_id for answer in answers for hit in answer.hits} == {1, 2}


def test_a_session_stays_on_its_side_of_a_trial_whichever_replica_answers(world, sink, on_trial):
    requests = [SearchRequest("pain", session_id=f"s{number}") for number in range(40)]
    half = {"trial": TrialPolicy(share=0.5), "exploration": ExplorationPolicy(mix_share=0.5)}
    first, second = (
        [record.query_attributes["policy"] for record in records_of(sink)]
        for seed in (1, 2)
        if world.search(sink, seed=seed, **half).search(requests)
    )
    assert first == second
    assert len(set(first)) == 2


def test_held_out_queries_are_for_the_trial_and_the_others_for_exploration(world, sink, on_trial):
    texts = [f"pain {number}" for number in range(30)]
    trial_search(world, sink, exploration=ExplorationPolicy()).search([SearchRequest(text) for text in texts])
    mixed = {record.user_query for record in records_of(sink) if record.query_attributes["policy"]}
    assert mixed == {text for text in texts if is_held_out(cluster_key(query_key(text)), HoldoutPolicy())}
    assert 0 < len(mixed) < 30


def test_an_earlier_version_under_observation_is_mixed_into_held_out_queries_alone(world, sink, on_trial):
    with world.database.connection() as connection:
        connection.execute("UPDATE relevanced.trial SET purpose = 'observation'")
    texts = [f"pain {number}" for number in range(30)]
    trial_search(world, sink).search([SearchRequest(text) for text in texts])
    mixed = {record.user_query for record in records_of(sink) if record.query_attributes["policy"]}
    assert mixed == {text for text in texts if is_held_out(cluster_key(query_key(text)), HoldoutPolicy())}


@pytest.mark.parametrize("column", ["fingerprint", "directory"])  # another model's files, and none at all
def test_a_version_on_trial_that_cannot_answer_costs_no_answer(world, sink, on_trial, column):
    with world.database.connection() as connection:
        connection.execute(f"UPDATE relevanced.version SET {column} = {column} || '!' WHERE version_id = 2")
    try:
        (answer,) = trial_search(world, sink).search([SearchRequest("pain")])
    finally:
        with world.database.connection() as connection:
            connection.execute(f"UPDATE relevanced.version SET {column} = rtrim({column}, '!')")
    assert {hit.version_id for hit in answer.hits} == {1}
    assert records_of(sink)[0].query_attributes["ranked_by"] is None


def test_a_trial_against_another_live_version_is_over(world, sink, on_trial):
    search = trial_search(world, sink)
    world.promotion.promote(2, actor="test", reason="better")
    (answer,) = search.search([SearchRequest("pain")])
    assert {hit.version_id for hit in answer.hits} == {2}


SEVEN_WORDS = "breathing swallowing cephalgia arteries joint nose hearing"  # each of another document


def slots(**changes):
    return ExplorationPolicy(**{"slot_share": 1.0, "first_slot": 2, **changes})


@pytest.mark.parametrize("slot_ranker", ["full_text", "deeper", "previous", "mixed"])
def test_a_slot_is_filled_with_what_live_leaves_out_and_scored_as_live_scores_it(world, sink, slot_ranker):
    world.promotion.promote(2, actor="test", reason="so that there is a previous version")
    search = world.search(sink, exploration=slots(slot_ranker=slot_ranker))
    answers = search.search([SearchRequest(SEVEN_WORDS, k=3)] * 20)
    exact = world.exact(2, SEVEN_WORDS)
    page, texts = list(exact)[:3], {document.document_id: document.text for document in DOCUMENTS}

    rankers = set()
    for answer, record in zip(answers, records_of(sink), strict=True):
        assert tuple(record.query_response_hit_ids) == tuple(hit.document_id for hit in answer.hits)
        assert [hit.position for hit in answer.hits] == [1, 2, 3]
        assert record.query_attributes["policy"] == f"slots:1:{slot_ranker}"
        assert len(record.query_attributes["propensities"]) == 3
        for hit, ranked_by in zip(answer.hits, record.query_attributes["ranked_by"], strict=True):
            assert (ranked_by == "2") == (hit.document_id in page)
            assert (hit.version_id, hit.text) == (2, texts[hit.document_id])
            assert hit.score == pytest.approx(exact[hit.document_id], abs=1e-3)
        assert answer.hits[0].document_id == page[0]
        rankers |= {one for name in record.query_attributes["ranked_by"] for one in name.split("+")} - {"2"}
    names = {"full_text": {"full_text"}, "deeper": {"deeper"}, "previous": {"1"}}
    assert rankers == (set().union(*names.values()) if slot_ranker == "mixed" else names[slot_ranker])


def test_only_the_share_of_the_answers_gives_slots_and_the_others_say_how_likely_they_were(world, sink):
    search = world.search(sink, exploration=slots(slot_share=0.3))
    search.search([SearchRequest("pain", k=5)] * 60)
    records = records_of(sink)

    given = [record for record in records if record.query_attributes["ranked_by"]]
    assert 0 < len(given) < 40
    assert {record.query_attributes["policy"] for record in records} == {"slots:0.3:mixed"}
    left = next(record for record in records if not record.query_attributes["ranked_by"])
    assert left.query_attributes["propensities"][:2] == pytest.approx([1, 1 - 0.3 * 2 / 4])


def test_a_session_in_a_trial_gets_no_slots_even_where_the_version_on_trial_cannot_answer(world, sink, on_trial):
    both = ExplorationPolicy(mix_share=1, slot_share=1.0, first_slot=2)
    trial_search(world, sink, exploration=both).search([SearchRequest("pain", k=5)] * 5)
    with world.database.connection() as connection:
        connection.execute("UPDATE relevanced.version SET fingerprint = fingerprint || '!' WHERE version_id = 2")
    try:
        trial_search(world, sink, exploration=both).search([SearchRequest("pain", k=5)])
    finally:
        with world.database.connection() as connection:
            connection.execute("UPDATE relevanced.version SET fingerprint = rtrim(fingerprint, '!')")
    assert [record.query_attributes["policy"] for record in records_of(sink)] == [
        *[f"team-draft:trial-{on_trial}"] * 5,
        None,
    ]


def test_a_ranker_that_fails_or_takes_too_long_costs_no_answer_and_the_others_fill_the_slots(world, sink, monkeypatch):
    world.promotion.promote(2, actor="test", reason="so that there is a previous version")
    world.promotion.rollback(actor="test", reason="and it is the second")
    monkeypatch.setitem(sql.postgres._by_name, "full_text_search", "SELECT pg_sleep(60), %(texts)s::text[], %(k)s")
    with world.database.connection() as connection:
        connection.execute("UPDATE relevanced.version SET fingerprint = fingerprint || '!' WHERE version_id = 2")
    try:
        with capture_logs() as logs:
            world.search(sink, exploration=slots(full_text_ms=10)).search([SearchRequest("pain", k=3)])
            world.search(sink, exploration=slots(full_text_ms=10, slot_ranker="full_text")).search(
                [SearchRequest("pain", k=3)]
            )
    finally:
        with world.database.connection() as connection:
            connection.execute("UPDATE relevanced.version SET fingerprint = rtrim(fingerprint, '!')")

    assert [line["ranker"] for line in logs] == ["full_text", "2", "full_text"]
    filled, empty = records_of(sink)
    assert sorted(filled.query_attributes["ranked_by"]) == ["1", "deeper", "deeper"]
    assert empty.query_attributes["ranked_by"] is None
    assert list(empty.query_response_hit_ids) == list(world.exact(1, "pain"))[:3]


def test_a_document_that_live_has_no_vector_of_fills_no_slot(world, sink):
    with world.database.connection() as connection:
        connection.execute("INSERT INTO relevanced.document VALUES ('new', 'Borborygmus', 'A rumbling.')")
    try:
        search = world.search(sink, exploration=slots(slot_ranker="full_text"))
        (answer,) = search.search([SearchRequest("borborygmus", k=3)])
    finally:
        with world.database.connection() as connection:
            connection.execute("DELETE FROM relevanced.document WHERE document_id = 'new'")
    assert "new" not in {hit.document_id for hit in answer.hits}


def test_with_slots_too_the_same_seed_shows_the_same(world, sink):
    requests = [SearchRequest(text, k=4) for text in ("pain", "nose bleed", SEVEN_WORDS)] * 5
    first, second = (
        [[hit.document_id for hit in answer.hits] for answer in search.search(requests)]
        for search in (world.search(sink, exploration=slots(slot_share=0.5), seed=3) for _ in range(2))
    )
    assert first == second


def test_after_a_promotion_the_next_search_is_in_the_new_space(world, sink):
    search = world.search(sink)
    search.search([SearchRequest("pain")])
    world.promotion.promote(2, actor="test", reason="better")
    (answer,) = search.search([SearchRequest("pain")])

    assert answer.version_id == 2
    assert scores_of(answer) == pytest.approx(world.exact(2, "pain"), abs=1e-3)
    assert max(abs(world.exact(1, "pain")[key] - score) for key, score in scores_of(answer).items()) > 0.05


def test_no_answer_mixes_two_versions_while_the_pointer_moves(world, sink):
    search, done = world.search(sink, policy=SearchPolicy(cached_queries=1)), threading.Event()
    texts = ["pain", "nose bleed", "cannot swallow"]
    exact = {(version, text): world.exact(version, text) for version in (1, 2) for text in texts}

    def move():
        while not done.is_set():
            world.promotion.promote(2, actor="test", reason="forth")
            world.promotion.rollback(actor="test", reason="back")

    with ThreadPoolExecutor(5) as pool:
        moving = pool.submit(move)
        batches = list(pool.map(lambda _: search.search([SearchRequest(text) for text in texts]), range(40)))
        done.set()
        moving.result()

    assert {answers[0].version_id for answers in batches} == {1, 2}
    for answers in batches:
        assert len({answer.version_id for answer in answers}) == 1
        for text, answer in zip(texts, answers, strict=True):
            assert scores_of(answer) == pytest.approx(exact[answer.version_id, text], abs=1e-3)


def test_a_model_that_did_not_make_the_vectors_is_never_asked(world, sink):
    with world.database.connection() as connection:
        connection.execute("UPDATE relevanced.version SET fingerprint = fingerprint || '!' WHERE version_id = 1")
    try:
        with pytest.raises(StopDaemon, match="is not the one that made version 1's vectors"):
            world.search(sink).search([SearchRequest("pain")])
    finally:
        with world.database.connection() as connection:
            connection.execute("UPDATE relevanced.version SET fingerprint = rtrim(fingerprint, '!')")


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"user_query": ""}, "The query is empty; type some words."),
        ({"user_query": " \t\n"}, "The query is empty; type some words."),
        ({"user_query": "a" * 2001}, "The query has 2,001 characters; shorten it to 2,000 at most."),
        ({"user_query": "a\x00b"}, "The query holds characters that are no text; send it as UTF-8, without U+0000."),
        ({"user_query": "a\udc80"}, "The query holds characters that are no text; send it as UTF-8, without U+0000."),
        ({"k": 0}, "k is 0; ask for 1 to 100 documents."),
        ({"k": 101}, "k is 101; ask for 1 to 100 documents."),
    ],
)
def test_a_request_that_cannot_be_answered_gets_a_sentence_and_leaves_no_record(world, sink, wrong, sentence):
    good = SearchRequest("pain")
    with pytest.raises(BadInput) as refused:
        world.search(sink).search([good, replace(good, **wrong)])
    assert str(refused.value) == sentence
    assert records_of(sink) == []


def test_the_longest_query_and_any_script_are_answered(world, sink):
    answers = world.search(sink).search([SearchRequest("ä" * 2000), SearchRequest("頭痛 🤕", k=100)])
    assert [len(answer.hits) for answer in answers] == [len(DOCUMENTS)] * 2


def test_a_sink_that_fails_costs_the_record_and_not_the_answer(world):
    search = world.search(FullDisk())
    with capture_logs() as logs:
        answers = search.search([SearchRequest("nose bleed"), SearchRequest("pain", client_id="c1")])

    assert len(answers) == 2
    assert search.lost_records == 2
    (warning,) = logs
    assert warning["log_level"] == "warning"
    assert "nose" not in str(warning)
    assert "c1" not in str(warning)


def test_before_the_first_version_the_remedy_is_told(world, database, sink):
    search = world.search(sink, database=database, promotion=Promotion(database))
    for ask in (search.ready, lambda: search.search([SearchRequest("pain")])):
        with pytest.raises(NoLiveVersion, match="`relevanced documents load FILE` makes the first"):
            ask()


def test_a_query_asked_again_is_not_encoded_again(new_encoder):
    vectors, encoder = QueryVectors(2), Counting(new_encoder())
    first = vectors.of(["a", "b"], encoder)
    again = vectors.of(["b", "a"], encoder)
    assert encoder.encoded == ["a", "b"]
    assert np.array_equal(again, first[::-1])

    vectors.of(["c"], encoder)  # "b" was asked least recently
    vectors.of(["a", "b"], encoder)
    assert encoder.encoded == ["a", "b", "c", "b"]


def test_two_spaces_never_share_a_vector_and_no_room_is_no_failure(new_encoder):
    vectors = QueryVectors(0)
    one, two = new_encoder(), new_encoder(seed=1)
    assert np.array_equal(vectors.of(["a", "b"], one), one.encode_queries(["a", "b"]))
    vectors = QueryVectors(10)
    vectors.of(["a"], one)
    assert np.array_equal(vectors.of(["a"], two), two.encode_queries(["a"]))


class Counting:
    """An encoder that notes what it was asked."""

    def __init__(self, encoder):
        self._encoder, self.encoded = encoder, []
        self.fingerprint, self.dimension = encoder.fingerprint, encoder.dimension

    def encode_queries(self, texts):
        self.encoded += texts
        return self._encoder.encode_queries(texts)
