"""
Closed embedding models, measured beside the live one for reference; never served.

In:  an endpoint in OpenAI's protocol. Out: an Encoder.
"""

from collections.abc import Sequence

import msgspec
import numpy as np

from relevanced.daemon.endpoints import first_line
from relevanced.daemon.errors import BadInput, Retry
from relevanced.daemon.llm import LlmPolicy, open_client
from relevanced.daemon.ports import Vectors

_AT_ONCE = 100  # texts of one request


class _Row(msgspec.Struct):
    index: int
    embedding: list[float]


class _Embeddings(msgspec.Struct):
    data: list[_Row]


class OpenAiEncoder:
    """An embedding model behind an endpoint."""

    def __init__(self, model: str, policy: LlmPolicy) -> None:
        """
        Take the model's name, and the endpoint and key of [llm].

        Raises: what encoding raises, since the dimension is asked for.
        """
        self._model, self._where = model, f"The embedding model {model} at {policy.base_url}"
        self._client = open_client(policy)
        self.fingerprint = self.document_fingerprint = f"{policy.base_url} {model}"
        self.dimension = self._ask(["dimension"]).shape[1]
        self.device = policy.base_url

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        return self._encode(texts)

    def encode_documents(self, texts: Sequence[str]) -> Vectors:
        return self._encode(texts)

    def _encode(self, texts: Sequence[str]) -> Vectors:
        """
        Ask for all vectors, some at a time.

        Raises: Retry when the endpoint does not answer, BadInput when it refuses or answers something else.
        """
        parts = [self._ask(texts[start : start + _AT_ONCE]) for start in range(0, len(texts), _AT_ONCE)]
        return np.concatenate(parts) if parts else np.empty((0, self.dimension), dtype=np.float32)

    def _ask(self, texts: Sequence[str]) -> Vectors:
        import openai

        asked = [text or " " for text in texts]  # an empty text is refused
        try:
            answer = self._client.embeddings.with_raw_response.create(
                model=self._model, input=asked, encoding_format="float"
            )
        except (openai.APIConnectionError, openai.RateLimitError, openai.InternalServerError) as error:
            raise Retry(f"{self._where} does not answer: {first_line(error)}") from error
        except openai.APIStatusError as error:
            raise BadInput(
                f"{self._where} refused with {error.status_code}; look at the name, and at base_url and api_key under"
                " [llm]."
            ) from error
        try:
            rows = sorted(msgspec.json.decode(answer.content, type=_Embeddings).data, key=lambda row: row.index)
            vectors = np.array([row.embedding for row in rows], dtype=np.float32)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise BadInput(f"{self._where} gives no embeddings; look at base_url under [llm].") from error
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True) if vectors.ndim == 2 else np.zeros(0)
        if [row.index for row in rows] != list(range(len(asked))) or not (lengths > 0).all():
            raise BadInput(f"{self._where} gives not one embedding for each text; another model may.")
        unit: Vectors = vectors / lengths
        return unit
