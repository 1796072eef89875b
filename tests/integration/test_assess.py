"""Assess, as a person or a script gives it: real models, a real database, a closed model's endpoint over real HTTP."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.endpoints import endpoint
from tests.organs import ORGANS, write_labels


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_labels(tmp_path_factory.mktemp("labels"))


def test_before_there_are_documents_it_says_what_to_do(give, labels):
    status, _, complaint = give("assess", "--qrels", str(labels))
    assert (status, complaint.count("\n")) == (2, 1)
    assert "documents load" in complaint


def test_each_way_is_measured_beside_live_and_advice_is_given(give, labels, tmp_path):
    assert give("documents", "load", str(labels / "corpus.jsonl"))[0] == 0
    contexts = tmp_path / "contexts.jsonl"
    contexts.write_text(
        "".join(
            json.dumps({"document_id": f"{latin}0", "context": f"illness of the {plain}"}) + "\n"
            for plain, latin in ORGANS.items()
        )
    )
    command = ["assess", "--qrels", str(labels), "--contexts", str(contexts)]
    status, said, complaint = give(*command, "--no-curve", "--json")
    assert (status, complaint) == (0, "")
    found = json.loads(said)
    assert found["queries"] == 5
    assert found["ways"]["live model"]["difference"] == 0
    assert found["ways"]["contextual retrieval"]["ndcg"] == 1, "the words of each query stand before its document"
    assert found["ways"]["full-text search"]["ndcg"] < found["ways"]["live model"]["ndcg"]
    assert (found["curve"], found["stacked"], found["doubling"]) == ([], {}, None)
    assert found["reindex"]["documents"] == 10
    assert found["advice"][0] == "5 queries tell little; judge 100 or more before you decide."

    status, said, complaint = give(*command, "--pairs", "4")
    assert (status, complaint) == (0, "")
    lines = [" ".join(line.split()) for line in said.splitlines()]
    assert lines[0] == "5 labelled queries of labels0; differences from the live model with their 95 % intervals."
    for begins in ("way NDCG@10", "live model 0.", "fine-tuned on 2 pairs 0.", "fine-tuned on 4 pairs 0."):
        assert len([line for line in lines if line.startswith(begins)]) == 1
    behind = lines.index("The model that 4 pairs taught, in the place of the live model:")
    assert [line.split()[0] for line in lines[behind + 2 : behind + 5]] == ["behind", "hybrid", "contextual"]
    assert any(line.startswith("Fine-tuning on 4 pairs brings") for line in lines)
    assert lines[-1] == "Of 5 pairs 4 were taught at most; --pairs takes more."
    assert len(json.loads(give("versions", "--json")[1])["versions"]) == 1, "nothing of it is kept"


def test_a_closed_model_is_measured_beside_and_told_only_words(give, home, labels):
    """This one knows what it is asked: its vectors are of the organs."""

    def embeddings(path, body):
        assert path == "/v1/embeddings"
        rows = [
            [float(plain in text or latin in text) + 0.01 for plain, latin in ORGANS.items()] for text in body["input"]
        ]
        data = [{"object": "embedding", "index": place, "embedding": row} for place, row in enumerate(rows)]
        usage = {"prompt_tokens": 0, "total_tokens": 0}
        return 200, {"object": "list", "model": body["model"], "usage": usage, "data": data[::-1]}

    with endpoint(embeddings) as known:
        (home / "relevanced.toml").write_text(f'[llm]\nbase_url = "{known.url}/v1"\n')
        command = ["assess", "--qrels", str(labels), "--no-curve", "--reference", "knowing-3-small"]
        status, said, _ = give(*command)
        assert status == 0
        assert {body["model"] for body in known.asked} == {"knowing-3-small"}
        assert "knowing-3-small" in said
        assert "nothing to teach" in said
        found = json.loads(give(*command, "--json")[1])
    assert found["ways"]["knowing-3-small"]["ndcg"] > 0.6, "the right document is one of the first two"
    assert np.isfinite(found["ways"]["knowing-3-small"]["low"])
    (home / "relevanced.toml").unlink()


def test_a_broken_line_of_contexts_is_named(give, labels, tmp_path):
    (tmp_path / "contexts.jsonl").write_text('{"document_id": "d1"}\n')
    status, _, complaint = give("assess", "--qrels", str(labels), "--contexts", str(tmp_path / "contexts.jsonl"))
    assert status == 2
    assert "contexts.jsonl, line 1: write a line as" in complaint


def test_without_a_cycle_and_labels_it_says_where_queries_come_from(give):
    status, _, complaint = give("assess")
    assert status == 2
    assert "--qrels DIR" in complaint
