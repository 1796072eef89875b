"""
The reranker behind the index: a better embedder is no gain where it worsens what comes out of the whole stack.

In:  runs, and the words of queries and documents. Out: the same runs with their first documents in the reranker's
order. A reranker is a cross-encoder by name or directory, or an HTTP endpoint.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol

import tenacity
from annotated_types import Ge, Gt, Interval
from pydantic import SecretStr

from relevanced.daemon.endpoints import first_line, key_of
from relevanced.daemon.errors import BadInput, Retry
from relevanced.daemon.metrics import Run, best_first
from relevanced.daemon.ports import Progress

if TYPE_CHECKING:
    import httpx


@dataclass(frozen=True, kw_only=True, slots=True)
class RerankerPolicy:
    """What reranks the answers in the team's own stack, if anything."""

    # A cross-encoder of sentence-transformers by its Hugging Face name or directory, or the URL of an endpoint, such as
    # http://reranker.internal/v1/rerank. Empty: nothing is reranked.
    model: str = ""
    # Documents of an answer that are reranked, as many as in the stack. Each is read with its query by a model that is
    # much slower than the embedder: 1,000 queries at 20 are 20,000 pairs for each version, those in common once.
    depth: Annotated[int, Interval(ge=2, le=100)] = 20
    # Documents read at once: one request to an endpoint, one pass of a cross-encoder. Text Embeddings Inference takes
    # no more than 32 unless it is told to.
    batch: Annotated[int, Interval(ge=1, le=100)] = 32
    # What the endpoint speaks: as Cohere, Jina, vLLM and Infinity do, or as Text Embeddings Inference does.
    protocol: Literal["cohere", "tei"] = "cohere"
    endpoint_model: str = ""  # the model's name at the endpoint, where that asks for one
    api_key: SecretStr | None = None  # of the endpoint; better left to RELEVANCED_RERANKER__API_KEY
    timeout_s: Annotated[float, Gt(0)] = 30.0  # of one answer of the endpoint
    retries: Annotated[int, Ge(0)] = 4  # of one answer, with growing pauses, where the endpoint is busy or away


class Reranker(Protocol):
    """Scores documents for a query, higher first: CrossEncoderReranker, HttpReranker."""

    def score(self, query: str, documents: Sequence[str]) -> list[float]: ...


class CrossEncoderReranker:
    """A cross-encoder on this machine; safetensors only, and no code of the model is run."""

    def __init__(self, policy: RerankerPolicy) -> None:
        """
        Load it.

        Raises: BadInput for what is no usable cross-encoder.
        """
        import torch
        from sentence_transformers import CrossEncoder

        name = policy.model
        try:
            self._model = CrossEncoder(
                name,
                device="cuda" if torch.cuda.is_available() else "cpu",
                trust_remote_code=False,
                model_kwargs={"use_safetensors": True},
            )
        except Exception as error:  # the libraries raise whatever comes to them
            raise BadInput(
                f"[reranker] model: {name} cannot be loaded as a cross-encoder: {first_line(error)}"
            ) from error
        if self._model.num_labels != 1:
            raise BadInput(
                f"[reranker] model: {name} tells {self._model.num_labels} classes apart; a reranker gives one score."
            )
        self._batch = policy.batch

    def score(self, query: str, documents: Sequence[str]) -> list[float]:
        pairs = [(query, text) for text in documents]
        scores = self._model.predict(pairs, batch_size=self._batch, show_progress_bar=False)
        return [float(score) for score in scores]


class HttpReranker:
    """An endpoint."""

    def __init__(self, policy: RerankerPolicy, client: "httpx.Client | None" = None) -> None:
        """
        Take the policy.

        Raises: BadInput for a key that no header can hold.
        """
        import httpx

        key = key_of(policy.api_key, "reranker")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._policy = policy
        self._client = client or httpx.Client(timeout=policy.timeout_s, headers=headers)

    def score(self, query: str, documents: Sequence[str]) -> list[float]:
        """
        Ask for all, a batch at a time.

        Raises: Retry when the endpoint does not answer; BadInput when it refuses, its answer is none, or its address is
            no URL.
        """
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(Retry),
            stop=tenacity.stop_after_attempt(1 + self._policy.retries),
            wait=tenacity.wait_exponential_jitter(multiplier=0.5, max=8.0),
            reraise=True,
        )
        batch = self._policy.batch
        parts = (documents[start : start + batch] for start in range(0, len(documents), batch))
        return list(chain.from_iterable(retrying(self._asked, query, part) for part in parts))

    def _asked(self, query: str, documents: Sequence[str]) -> list[float]:
        import httpx

        policy, where = self._policy, f"The reranker at {self._policy.model}"
        asked: dict[str, Any] = {"query": query}
        if policy.protocol == "tei":
            # It refuses what is longer than its model reads; a cross-encoder here cuts it.
            asked |= {"texts": list(documents), "truncate": True}
        else:
            asked["documents"] = list(documents)
        if policy.endpoint_model:
            asked["model"] = policy.endpoint_model
        try:
            answer = self._client.post(policy.model, json=asked)
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise BadInput(
                f"[reranker] model: {policy.model} is no URL; write it as http://host:port/rerank."
            ) from error
        except httpx.HTTPError as error:
            raise Retry(f"{where} does not answer: {first_line(error)}") from error
        if answer.status_code == 429 or answer.status_code >= 500:
            raise Retry(f"{where} answers with {answer.status_code}; it may be busy.")
        if answer.status_code != 200:
            raise BadInput(
                f"{where} refused with {answer.status_code}; look at model, protocol, batch and api_key under"
                " [reranker]."
            )
        try:
            scores = _scores(answer.json(), len(documents))
        except (ValueError, KeyError, TypeError, OverflowError):
            raise BadInput(
                f"{where} gave no score for each document; look at protocol under [reranker], now {policy.protocol}."
            ) from None
        return scores


@lru_cache(maxsize=1)
def open_reranker(policy: RerankerPolicy) -> Reranker:
    """Open the reranker that the policy names; it is kept, for loading takes long."""
    if policy.model.startswith(("http://", "https://")):
        return HttpReranker(policy)
    return CrossEncoderReranker(policy)


class RunReranker:
    """Reranks runs of the same documents; what two of them have in common is read once."""

    def __init__(self, reranker: Reranker, texts: Callable[[Sequence[str]], Mapping[str, str]], depth: int) -> None:
        """Take the reranker, what reads the documents' words by document_id, and how many of a query are reranked."""
        self._reranker, self._texts, self._depth = reranker, texts, depth
        self._known: dict[str, dict[str, float]] = {}

    def rerank(self, queries: Mapping[str, str], run: Run, progress: Progress) -> dict[str, dict[str, float]]:
        """
        Put the first documents of each query into the reranker's order; those behind them go.

        Args:
            queries: query -> its words, of those to rerank.
        Returns: query -> document_id -> the reranker's score.
        """
        reranked = {}
        for place, (query, words) in enumerate(queries.items(), start=1):
            first = best_first(run[query])[: self._depth]
            known = self._known.setdefault(query, {})
            texts = self._texts([name for name in first if name not in known])
            if texts:
                known |= dict(zip(texts, self._reranker.score(words, list(texts.values())), strict=True))
            reranked[query] = {name: known[name] for name in first if name in known}
            progress("Reranking", place, len(queries))
        return reranked


def _scores(answer: Any, count: int) -> list[float]:
    """Read the scores by the documents' places, whichever of both protocols the answer is of."""
    rows = answer["results"] if isinstance(answer, dict) else answer
    scores = {row["index"]: float(row["relevance_score"] if "relevance_score" in row else row["score"]) for row in rows}
    if len(rows) != count or scores.keys() != set(range(count)) or not all(map(math.isfinite, scores.values())):
        raise ValueError("not one number for each document")
    return [scores[place] for place in range(count)]
