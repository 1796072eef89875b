"""The assessment itself: a real database, a real tiny model that is really taught, a reranker over real HTTP."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from relevanced.daemon.assessing import Assessor, assess
from relevanced.daemon.assessment import CONTEXTUAL, FULL_TEXT, HYBRID, LIVE, RERANKED
from relevanced.daemon.contrast import JudgedQueries
from relevanced.daemon.errors import BadInput, Retry
from relevanced.daemon.lessons import lessons_of_labels
from relevanced.daemon.ports import silent
from relevanced.daemon.reranking import RerankerPolicy
from relevanced.daemon.stages import Stages
from tests.endpoints import endpoint
from tests.organs import ORGANS, open_parts

Lessons = tuple[Stages, JudgedQueries, pa.Table]


@pytest.fixture(scope="module")
def lessons(new_home: Callable[[], Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lessons]:
    labels = tmp_path_factory.mktemp("organs") / "labels"
    parts = open_parts(new_home(), labels)
    judged, triplets = lessons_of_labels(parts.stages, labels, teach=True, progress=silent)
    yield parts.stages, judged, triplets
    parts.close()


def knows_organs(_path, body):
    """A reranker that knows which Latin word a plain one is."""
    (organ,) = [latin for plain, latin in ORGANS.items() if plain in body["query"]]
    scores = [float(organ in text and "0" in text) for text in body["documents"]]
    return 200, {"results": [{"index": place, "relevance_score": score} for place, score in enumerate(scores)]}


def test_each_way_is_measured_against_live_and_what_is_taught_also_behind_the_others(lessons):
    stages, judged, triplets = lessons
    contexts = {f"{latin}0": "heart" for latin in ORGANS.values()} | {"gone": "words"}
    with endpoint(knows_organs) as known:
        found = assess(
            replace(stages, reranker=RerankerPolicy(model=f"{known.url}/rerank")),
            judged,
            contexts=contexts,
            references=[],
            triplets=triplets,
            most_pairs=4,
            progress=silent,
        )
    assert list(found.ways) == [FULL_TEXT, LIVE, HYBRID, RERANKED, CONTEXTUAL]
    assert found.ways[RERANKED].ndcg == 1
    assert found.ways[RERANKED].difference == pytest.approx(1 - found.ways[LIVE].ndcg)
    assert (found.rerank_seconds or 0) > 0
    assert [pairs for pairs, _ in found.curve] == [2, 4]
    assert found.doubling is not None
    assert found.doubling.difference == pytest.approx(found.curve[1][1].ndcg - found.curve[0][1].ndcg)
    assert found.stacked.keys() == {HYBRID, RERANKED, CONTEXTUAL}
    assert (found.stacked[RERANKED].ndcg, found.stacked[RERANKED].difference) == (1, 0), "it leaves nothing to gain"
    assert found.remarks == [
        "1 of the 6 contexts are of no document that is loaded.",
        "Of 5 pairs 4 were taught at most; --pairs takes more.",
    ]
    assert list(stages.directory.glob("assess-*")) == []


def test_when_a_person_stops_it_nothing_is_left(lessons):
    stages, judged, triplets = lessons

    def stop(label: str, _done: int, _total: int, _detail: str = "") -> None:
        if label == "Training":
            assert list(stages.directory.glob("assess-*/triplets.parquet")), "`forget` looks for words here"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Assessor(stages, judged, None, stop).curve(triplets, 5)
    assert list(stages.directory.glob("assess-*")) == []


def test_what_a_killed_assessment_has_left_is_cleared_away_and_that_of_another_at_work_is_not(lessons):
    stages, judged, triplets = lessons
    ended = subprocess.Popen(["true"])
    ended.wait()
    left, other = (stages.directory / f"assess-{pid}-x" for pid in (ended.pid, os.getpid()))
    for folder in (left, other):
        folder.mkdir(parents=True)
        (folder / "triplets.parquet").touch()
    Assessor(stages, judged, None, silent).curve(triplets[:0], 5)
    assert list(stages.directory.glob("assess-*")) == [other]
    shutil.rmtree(other)


def test_contexts_of_other_documents_alone_are_refused(lessons):
    stages, judged, _ = lessons
    with pytest.raises(BadInput, match="No context is of a document that is loaded"):
        Assessor(stages, judged, {"gone": "words"}, silent)


def test_full_text_search_that_takes_too_long_is_left_out_with_hybrid_search(lessons, monkeypatch):
    stages, judged, _ = lessons

    def slow(*_: object) -> Mapping[str, list[str]]:
        raise Retry("Postgres could not finish.")

    monkeypatch.setattr("relevanced.daemon.runs.full_text_search", slow)
    assessor = Assessor(stages, judged, None, silent)
    assert assessor.ways([]).keys() == {LIVE}
    assert assessor.remarks == [
        "Full-text search, and hybrid search with it, takes too long here: Postgres could not finish."
    ]


def test_another_model_hears_only_of_queries_that_may_be_shown(lessons, encoder):
    stages, judged, _ = lessons
    asked: list[str] = []

    class Reference(type(encoder)):
        def encode_queries(self, texts):
            asked.extend(texts)
            return super().encode_queries(texts)

    assessor = Assessor(stages, replace(judged, shown={"heart", "liver"}), None, silent)
    assert "x" in assessor.ways([("x", Reference())])
    assert sorted(asked) == ["illness of the heart", "illness of the liver"]
    assert assessor.remarks == [
        "2 of the 5 queries were typed by enough people to be told to another model; its figures are of those."
    ]
    reference = Reference()
    assert "x" not in Assessor(stages, replace(judged, shown=set()), None, silent).ways([("x", reference)])
    assert reference.encoded == [], "nor does it hear of documents for nothing"
