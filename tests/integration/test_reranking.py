"""Rerankers: a real cross-encoder on this machine, and endpoints over real HTTP."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from sentence_transformers import CrossEncoder
from transformers import BertForSequenceClassification

from relevanced.daemon.errors import BadInput, Retry
from relevanced.daemon.ports import silent
from relevanced.daemon.reranking import (
    CrossEncoderReranker,
    HttpReranker,
    RerankerPolicy,
    RunReranker,
    open_reranker,
)
from tests.endpoints import endpoint
from tests.tiny import save_tokenizer, tiny_config

DOCUMENTS = ["pain of the heart", "red skin", "the left ear"]


def make_cross_encoder(directory: Path, labels: int) -> Path:
    """Save a cross-encoder of the real classes with random weights."""
    BertForSequenceClassification(tiny_config(num_labels=labels)).save_pretrained(directory)
    save_tokenizer(directory)
    return directory


@pytest.fixture(scope="module")
def cross_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_cross_encoder(tmp_path_factory.mktemp("cross-encoder"), labels=1)


def test_a_cross_encoder_in_a_directory_scores_each_document(cross_encoder: Path) -> None:
    policy = RerankerPolicy(model=str(cross_encoder))
    reranker = open_reranker(policy)
    expected = CrossEncoder(str(cross_encoder)).predict([("heart pain", text) for text in DOCUMENTS])
    assert reranker.score("heart pain", DOCUMENTS) == pytest.approx(list(expected), abs=1e-5)
    assert open_reranker(policy) is reranker


def test_what_is_no_cross_encoder_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(BadInput, match=r"\[reranker\] model: .* cannot be loaded as a cross-encoder: ") as raised:
        CrossEncoderReranker(RerankerPolicy(model=str(tmp_path)))
    assert "\n" not in str(raised.value)


def test_a_cross_encoder_of_several_classes_gives_no_score_to_rank_by(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="tells 3 classes apart; a reranker gives one score"):
        CrossEncoderReranker(RerankerPolicy(model=str(make_cross_encoder(tmp_path, labels=3))))


def test_a_cross_encoder_reads_no_more_at_once_than_it_is_told_to(
    cross_encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    forward = BertForSequenceClassification.forward

    def counting(self: Any, *args: Any, **inputs: Any) -> Any:
        read.append(len(inputs["input_ids"]))
        return forward(self, *args, **inputs)

    monkeypatch.setattr(BertForSequenceClassification, "forward", counting)
    CrossEncoderReranker(RerankerPolicy(model=str(cross_encoder), batch=2)).score("heart pain", DOCUMENTS)
    assert sorted(read) == [1, 2]


def test_pickled_weights_are_not_read(cross_encoder: Path, tmp_path: Path) -> None:
    for file in cross_encoder.iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04N.")
    with pytest.raises(BadInput, match="cannot be loaded"):
        CrossEncoderReranker(RerankerPolicy(model=str(tmp_path)))


def test_an_endpoint_as_coheres_is_asked_once_for_all_and_its_order_does_not_matter() -> None:
    results = [{"index": place, "relevance_score": score} for place, score in ((2, 0.3), (0, 0.9), (1, 0))]
    with endpoint(lambda *_: (200, {"results": results})) as known:
        policy = RerankerPolicy(model=f"{known.url}/rerank", endpoint_model="m", api_key=SecretStr("k3y"))
        assert open_reranker(policy).score("ear", DOCUMENTS) == [0.9, 0.0, 0.3]
    assert known.asked == [{"query": "ear", "documents": DOCUMENTS, "model": "m"}]
    assert known.keys == ["Bearer k3y"]


def test_an_endpoint_of_text_embeddings_inference_is_understood() -> None:
    scores = [{"index": place, "score": -place} for place in (1, 0, 2)]
    with endpoint(lambda *_: (200, scores)) as known:
        reranker = HttpReranker(RerankerPolicy(model=f"{known.url}/rerank", protocol="tei"))
        assert reranker.score("ear", DOCUMENTS) == [0.0, -1.0, -2.0]
    assert (known.asked, known.keys) == ([{"query": "ear", "texts": DOCUMENTS, "truncate": True}], [None])


def test_an_endpoint_is_asked_for_no_more_at_once_than_it_takes_and_each_score_finds_its_document() -> None:
    def by_length(_: str, body: Any) -> tuple[int, Any]:
        texts = body["documents"]
        if len(texts) > 2:
            return 422, {"error": f"batch size {len(texts)} > maximum allowed batch size 2"}
        return 200, {"results": [{"index": place, "relevance_score": len(text)} for place, text in enumerate(texts)]}

    with endpoint(by_length) as known:
        reranker = HttpReranker(RerankerPolicy(model=f"{known.url}/rerank", batch=2))
        assert reranker.score("ear", DOCUMENTS) == [float(len(text)) for text in DOCUMENTS]
        assert reranker.score("ear", []) == []
    assert [body["documents"] for body in known.asked] == [DOCUMENTS[:2], DOCUMENTS[2:]]


def test_a_key_read_with_the_end_of_its_line_is_that_key() -> None:
    with endpoint(lambda *_: (200, {"results": [{"index": 0, "relevance_score": 1}]})) as known:
        HttpReranker(RerankerPolicy(model=f"{known.url}/rerank", api_key=SecretStr("k3y\n"))).score("ear", ["x"])
    assert known.keys == ["Bearer k3y"]


@pytest.mark.parametrize("key", ["s3cr\net", "s3crét", "s3cr\x00et"])
def test_a_key_that_no_header_can_hold_is_refused_and_not_told(key: str) -> None:
    with pytest.raises(BadInput, match=r"\[reranker\] api_key holds a character that no key has") as raised:
        HttpReranker(RerankerPolicy(model="http://127.0.0.1:9/rerank", api_key=SecretStr(key)))
    assert "s3cr" not in str(raised.value)


@pytest.mark.parametrize(
    ("status", "answer", "error", "sentence"),
    [
        (503, {}, Retry, "answers with 503"),
        (429, {}, Retry, "answers with 429"),
        (422, {}, BadInput, "refused with 422; look at model, protocol, batch"),
        (200, {"results": []}, BadInput, "gave no score for each document; look at protocol"),
        (200, {"data": 1}, BadInput, "gave no score for each document"),
        (200, [{"index": 0, "score": "high"}], BadInput, "gave no score for each document"),
        (200, [{"index": place, "score": float("nan")} for place in range(3)], BadInput, "gave no score for each"),
        (200, [{"index": place, "score": 10**400} for place in range(3)], BadInput, "gave no score for each document"),
        (200, [{"index": place % 3, "score": place} for place in range(4)], BadInput, "gave no score for each"),
    ],
)
def test_an_endpoint_that_gives_no_scores_is_one_sentence(status, answer, error, sentence) -> None:
    with endpoint(lambda *_: (status, answer)) as known, pytest.raises(error, match=sentence):
        HttpReranker(RerankerPolicy(model=f"{known.url}/rerank", retries=0)).score("ear", DOCUMENTS)


def test_an_endpoint_that_is_busy_for_a_moment_is_asked_again() -> None:
    answers = iter([(503, {}), (200, [{"index": 0, "score": 0.5}])])
    with endpoint(lambda *_: next(answers)) as known:
        assert HttpReranker(RerankerPolicy(model=known.url, retries=1)).score("ear", ["the ear"]) == [0.5]


def test_only_the_batch_that_was_not_answered_is_asked_for_again() -> None:
    answers = iter([(200, [{"index": 0, "score": 1}]), (503, {}), (200, [{"index": 0, "score": 2}])])
    with endpoint(lambda *_: next(answers)) as known:
        policy = RerankerPolicy(model=known.url, batch=1, retries=1)
        assert HttpReranker(policy).score("ear", DOCUMENTS[:2]) == [1.0, 2.0]
    assert [body["documents"] for body in known.asked] == [DOCUMENTS[:1], DOCUMENTS[1:2], DOCUMENTS[1:2]]


def test_where_nobody_listens_it_is_said() -> None:
    with pytest.raises(Retry, match=r"The reranker at http://127\.0\.0\.1:9/rerank does not answer"):
        HttpReranker(RerankerPolicy(model="http://127.0.0.1:9/rerank", retries=0)).score("ear", DOCUMENTS)


@pytest.mark.parametrize("address", ["http://", "http:///rerank", "http://127.0.0.1:port/rerank"])
def test_what_can_be_no_address_is_not_tried_again(address: str) -> None:
    with pytest.raises(BadInput, match="is no URL; write it as http://host:port/rerank"):
        HttpReranker(RerankerPolicy(model=address)).score("ear", DOCUMENTS)


class ByLength:
    """The longest first; remembers what it has read."""

    def __init__(self) -> None:
        self.read: list[str] = []

    def score(self, query: str, documents: Any) -> list[float]:
        self.read += documents
        return [float(len(text)) for text in documents]


def test_the_first_documents_are_put_in_its_order_and_what_runs_have_in_common_is_read_once() -> None:
    texts = {"a": "x", "b": "xxx", "c": "xx", "d": "xxxx"}
    reranker = ByLength()
    reranking = RunReranker(reranker, lambda names: {name: texts[name] for name in names}, depth=3)
    first = reranking.rerank({"q": "words"}, {"q": {"a": 0.9, "b": 0.8, "c": 0.7, "d": 0.6}}, silent)
    assert sorted(first["q"], key=first["q"].__getitem__, reverse=True) == ["b", "c", "a"]
    second = reranking.rerank({"q": "words"}, {"q": {"d": 0.9, "b": 0.8, "c": 0.7, "a": 0.6}}, silent)
    assert sorted(second["q"], key=second["q"].__getitem__, reverse=True) == ["d", "b", "c"]
    assert sorted(reranker.read) == sorted(texts.values())
