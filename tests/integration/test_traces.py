"""Spans of a real OpenTelemetry SDK and a real OpenInference instrumentor, over HTTP, become rows of the log store."""

import gzip
import json

import httpx
import pytest
from fastapi import FastAPI
from google.rpc.status_pb2 import Status
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from openinference.instrumentation import using_attributes
from openinference.instrumentation.langchain import LangChainInstrumentor
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from relevanced.consumers.decode import decode
from relevanced.consumers.memory import MemorySource
from relevanced.consumers.otlp import read_traces
from relevanced.daemon.consuming import consume_until_empty
from relevanced.daemon.errors import Retry
from relevanced.daemon.web.collector import create_collector
from relevanced.daemon.web.doors import Doors
from tests.lake import Lake
from tests.serving import served_app

TRACE, SPAN = "5b8efff798038103d269b633813fc60c", "eee19b7ec3c1b174"
AS_JSON = {"content-type": "application/json"}


class Retriever(BaseRetriever):
    """A retriever of a RAG system, without the vector store."""

    def _get_relevant_documents(self, query, *, run_manager):
        return [
            Document(id="HP:0000360", page_content="Tinnitus"),
            Document(page_content="Hearing loss", metadata={"document_id": "HP:0000365"}),
        ]


def doors(sink) -> FastAPI:
    return create_collector(Doors(intake=sink, decode=decode, read_traces=read_traces))


@pytest.fixture
def traced(request):
    """A tracer provider whose exporter posts to a real server, and the server's sink."""
    sink = MemorySource()
    with served_app(doors(sink)) as client:
        provider = TracerProvider(resource=Resource({"service.name": "help-desk"}))
        exporter = OTLPSpanExporter(f"{client.base_url}/v1/traces", compression=getattr(request, "param", None))
        provider.add_span_processor(BatchSpanProcessor(exporter))
        yield provider, sink
        provider.shutdown()


def rows(sink, new_database_url, tmp_path):
    """What the log store then holds: the query, impression and feedback tables."""
    lake = Lake(new_database_url(), tmp_path / "lake")
    log = lake.open()
    sink.seek({})
    consume_until_empty(sink, log)
    log.close()
    return (
        lake.rows("SELECT user_query, hit_ids, application FROM query"),
        lake.rows("SELECT document_id, position FROM impression ORDER BY position"),
        lake.rows("SELECT action, value, document_id FROM feedback ORDER BY action"),
    )


@pytest.mark.parametrize("traced", [Compression.NoCompression, Compression.Gzip, Compression.Deflate], indirect=True)
def test_a_genai_retrieval_and_its_evaluation_become_rows(traced, new_database_url, tmp_path):
    provider, sink = traced
    tracer = provider.get_tracer("rag")
    documents = [{"id": "d2", "score": 0.9}, {"id": "d1", "score": 0.4}]
    told = {"gen_ai.operation.name": "retrieval", "gen_ai.retrieval.query.text": "stiff neck", "session.id": "s1"}
    said = {"gen_ai.evaluation.name": "relevance", "gen_ai.evaluation.score.value": 0.8}
    with tracer.start_as_current_span("chat"), tracer.start_as_current_span("retrieval kb", attributes=told) as span:
        span.set_attribute("gen_ai.retrieval.documents", json.dumps(documents))
        span.add_event("gen_ai.evaluation.result", said)
        thumb = {"gen_ai.evaluation.name": "user-feedback", "gen_ai.evaluation.score.label": "thumbs_up"}
        span.add_event("gen_ai.evaluation.result", thumb)
    assert provider.force_flush()

    queries, impressions, feedback = rows(sink, new_database_url, tmp_path)
    assert queries == [("stiff neck", ["d2", "d1"], "help-desk")]
    assert impressions == []  # the hit list stands for them
    assert feedback == [("rating:relevance", 0.8, None), ("upvote", None, None)]


def test_a_langchain_retriever_traced_by_openinference_becomes_rows(traced, new_database_url, tmp_path):
    provider, sink = traced
    instrumentor = LangChainInstrumentor()
    instrumentor.instrument(tracer_provider=provider)
    with using_attributes(session_id="s1", user_id="u1"):
        Retriever().invoke("ringing in the ears")
    instrumentor.uninstrument()
    assert provider.force_flush()

    queries, impressions, feedback = rows(sink, new_database_url, tmp_path)
    # This instrumentor leaves document.id out; the ids stand in output.value, one of them in the metadata.
    assert queries == [("ringing in the ears", ["HP:0000360", "HP:0000365"], "help-desk")]
    assert impressions == []
    assert feedback == []


def export(*spans):
    return {"resourceSpans": [{"scopeSpans": [{"spans": list(spans)}]}]}


def span(**attributes):
    return {
        "traceId": TRACE,
        "spanId": SPAN,
        "startTimeUnixNano": "1767225600000000000",
        "endTimeUnixNano": "1767225601000000000",
        "aFieldOfTomorrow": 1,
        "attributes": [
            {"key": name.replace("__", "."), "value": {"stringValue": value}} for name, value in attributes.items()
        ],
    }


def test_json_has_hexadecimal_ids_and_a_second_delivery_has_the_same():
    sink = MemorySource()
    retrieval = span(openinference__span__kind="RETRIEVER", input__value="stiff neck")
    with served_app(doors(sink)) as client:
        for _ in range(2):
            answer = client.post("/v1/traces", json=export(retrieval, span(other="x")))
            assert (answer.status_code, answer.json()) == (200, {})
    first, second = (record.value for record in sink.poll(10).records)
    assert first == second
    assert json.loads(first)["query_id"] == f"{TRACE}-{SPAN}"


def test_a_retrieval_that_cannot_be_used_is_rejected_with_the_reason_and_the_others_are_taken():
    sink = MemorySource()
    body = export(span(openinference__span__kind="RETRIEVER"), span(gen_ai__retrieval__query__text="a",
                  gen_ai__operation__name="retrieval"))  # fmt: skip
    with served_app(doors(sink)) as client:
        partial = client.post("/v1/traces", json=body).json()["partialSuccess"]
    assert partial["rejectedSpans"] == "1"
    assert "query text" in partial["errorMessage"]
    assert len(sink.poll(10).records) == 1


class Full:
    def write(self, records):
        if records:
            raise Retry("The disk is nearly full.")


def test_errors_are_statuses_in_the_encoding_of_the_request():
    with served_app(doors(Full())) as client:

        def post(**options) -> httpx.Response:
            return client.post("/v1/traces", **options)

        as_protobuf = {"content-type": "application/x-protobuf"}
        broken = post(content=b"\xff\xff", headers=as_protobuf)
        assert broken.status_code == 400
        assert Status.FromString(broken.content).message
        assert post(content=b"{", headers=AS_JSON).json()["message"].endswith(".")
        assert post(content=b'{"resourceSpans": 7}', headers=AS_JSON).status_code == 400
        assert post(content=b"x", headers={"content-type": "text/plain"}).status_code == 415
        bomb = gzip.compress(b"\0" * 100_000_000)
        assert post(content=bomb, headers={**as_protobuf, "content-encoding": "gzip"}).status_code == 413
        full = post(json=export(span(openinference__span__kind="RETRIEVER", input__value="a")))
        assert (full.status_code, full.headers["retry-after"]) == (503, "5")
        empty = post(content=b"", headers=as_protobuf)
        assert ExportTraceServiceResponse.FromString(empty.content) == ExportTraceServiceResponse()
