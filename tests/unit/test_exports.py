"""Exports of Langfuse and Phoenix, in the shapes that they have, become the records that OTLP would have given."""

import gzip
import json

import pytest

from relevanced.consumers.memory import MemorySource
from relevanced.daemon.errors import BadInput
from relevanced.daemon.events_cli import _format, load_events
from relevanced.daemon.ports import silent

TRACE, SPAN = "5b8efff798038103d269b633813fc60c", "eee19b7ec3c1b174"
OBSERVATION = {
    "id": SPAN,
    "trace_id": TRACE,
    "project_id": "p",
    "type": "RETRIEVER",
    "start_time": "2024-05-29 13:46:19.963000",
    "input": "stiff neck",
    "output": json.dumps(
        [{"id": "d2", "metadata": {}, "page_content": "x", "type": "Document"}, {"metadata": {"doc_id": "d1"}}]
    ),
    "user_id": "u1",
    "session_id": "s1",
}
GENERATION = {**OBSERVATION, "id": "eee19b7ec3c1b175", "type": "GENERATION"}
SCORE = {
    "id": "7",
    "timestamp": "2024-05-29 13:50:00.000000",
    "project_id": "p",
    "trace_id": TRACE,
    "observation_id": None,
    "name": "user-feedback",
    "value": 1,
    "source": "API",
    "data_type": "BOOLEAN",
    "string_value": None,
}
SPANS = {
    "data": [
        {
            "name": "retrieve",
            "context": {"trace_id": TRACE, "span_id": SPAN},
            "span_kind": "RETRIEVER",
            "start_time": "2024-01-01T12:00:00Z",
            "end_time": "2024-01-01T12:00:01Z",
            "status_code": "OK",
            "attributes": {
                "input.value": "stiff neck",
                "retrieval.documents.0.document.id": "d2",
                "retrieval.documents.1.document.id": "d1",
                "session.id": "s1",
            },
            "events": [],
        }
    ],
    "next_cursor": None,
}
ANNOTATION = {
    "id": "U3Bhbg==",
    "created_at": "2024-01-01T12:05:00+00:00",
    "source": "APP",
    "user_id": None,
    "name": "relevance",
    "annotator_kind": "HUMAN",
    "span_id": SPAN,
    "result": {"label": "relevant", "score": 0.5},
}
CITED = {"name": "cited", "annotator_kind": "CODE", "span_id": SPAN, "document_position": 1, "result": {"score": 1}}


def loaded(tmp_path, *contents):
    files = {}
    for number, content in enumerate(contents):
        file = tmp_path / f"{number}.json"
        file.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        files[file] = _format(file, "auto")
    sink = MemorySource()
    account = load_events(files, sink, silent)
    return account, [json.loads(record.value) for record in sink.poll(1000).records]


def lines(*rows):
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def told(record):
    about = record.get("event_attributes", {})
    return record.get("action_name"), record["query_id"], about.get("rating"), about.get("object", {}).get("object_id")


def test_langfuses_observations_and_scores_become_a_search_and_a_thumb(tmp_path):
    account, (query, thumb) = loaded(tmp_path, gzip.compress(lines(OBSERVATION, GENERATION)), lines(SCORE))
    assert query == {
        "query_id": f"{TRACE}-{SPAN}",
        "user_query": "stiff neck",
        "timestamp": "2024-05-29T13:46:19.963Z",
        "client_id": "u1",
        "session_id": "s1",
        "query_response_hit_ids": ["d2", "d1"],
    }
    assert told(thumb) == ("upvote", TRACE, 1.0, None)
    assert (account.queries, account.events, account.passed_over, account.refused) == (1, 1, 1, [])


def test_the_camel_case_of_langfuses_api_gives_the_same(tmp_path):
    camel = {"id": SPAN, "traceId": TRACE, "type": "RETRIEVER", "startTime": "2024-05-29T13:46:19.963Z"}
    whole = {**camel, "projectId": "p", "input": "stiff neck", "output": OBSERVATION["output"]}
    _, (query,) = loaded(tmp_path, {"data": [whole], "meta": {}})
    assert (query["query_id"], query["query_response_hit_ids"]) == (f"{TRACE}-{SPAN}", ["d2", "d1"])


@pytest.mark.parametrize("annotations_first", [False, True])
def test_phoenixs_spans_and_annotations_meet_in_either_order(tmp_path, annotations_first):
    files = [SPANS, lines(ANNOTATION, CITED)]
    account, records = loaded(tmp_path, *(reversed(files) if annotations_first else files))
    query, relevance, cited = records
    assert (query["query_id"], query["query_response_hit_ids"]) == (f"{TRACE}-{SPAN}", ["d2", "d1"])
    assert told(relevance) == ("rating:relevance", f"{TRACE}-{SPAN}", 0.5, None)
    assert told(cited) == ("cite", f"{TRACE}-{SPAN}", 1.0, "d1")
    assert account.refused == []


def test_an_annotation_without_its_span_is_named_and_the_rest_is_loaded(tmp_path):
    account, records = loaded(tmp_path, SPANS, lines({**ANNOTATION, "span_id": "0" * 16}))
    assert len(records) == 1
    (refused,) = account.refused
    assert refused["object"] == 1
    assert "not in these files" in refused["reason"]


def test_ubi_lines_pass_through_and_a_broken_one_is_named(tmp_path):
    click = {"action_name": "click", "query_id": "q", "timestamp": "2024-01-01T00:00:00Z"}
    good = {**click, "event_attributes": {"object": {"object_id": "d"}}}
    account, records = loaded(tmp_path, lines({"index": {}}, good, click) + b"{broken\n")
    assert records == [good]
    assert [refused["object"] for refused in account.refused] == [3, 4]


@pytest.mark.parametrize("content", [b"", b"no json", b"[1]", b'{"a": 1}'])
def test_a_file_that_is_none_of_them_is_told_in_one_sentence(tmp_path, content):
    with pytest.raises(BadInput, match=r"\.$"):
        loaded(tmp_path, content)
