"""
Closed embedding models, measured beside the live one for reference; never served.

In:  an endpoint in OpenAI's protocol. Out: an Encoder.
"""

from collections.abc import Sequence

import numpy as np

from relevanced.daemon.errors import BadInput, Retry
from relevanced.daemon.llm import LlmPolicy
from relevanced.daemon.ports import Vectors

_AT_ONCE = 100  # texts of one request


class OpenAiEncoder:
    """An embedding model behind an endpoint."""

    def __init__(self, model: str, policy: LlmPolicy) -> None:
        """Take the model's name, and the endpoint and key of [llm]."""
        import openai

        self._model, self._url = model, policy.base_url
        key = policy.api_key.get_secret_value() if policy.api_key else "none"
        self._client = openai.OpenAI(
            base_url=policy.base_url, api_key=key, timeout=policy.timeout_s, max_retries=policy.retries
        )
        self.fingerprint = f"{policy.base_url} {model}"
        self.dimension = self._encode(["dimension"]).shape[1]

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        return self._encode(texts)

    def encode_documents(self, texts: Sequence[str]) -> Vectors:
        return self._encode(texts)

    def _encode(self, texts: Sequence[str]) -> Vectors:
        import openai

        rows: list[list[float]] = []
        try:
            for start in range(0, len(texts), _AT_ONCE):
                some = [text or " " for text in texts[start : start + _AT_ONCE]]
                answer = self._client.embeddings.create(model=self._model, input=some, encoding_format="float")
                rows += [one.embedding for one in sorted(answer.data, key=lambda one: one.index)]
        except (openai.APIConnectionError, openai.RateLimitError, openai.InternalServerError) as error:
            raise Retry(f"The embedding model {self._model} at {self._url} does not answer: {error}.") from error
        except openai.APIStatusError as error:
            raise BadInput(
                f"The embedding model {self._model} at {self._url} refused with {error.status_code}; look at the name,"
                " and at base_url and api_key under [llm]."
            ) from error
        vectors: Vectors = np.array(rows, dtype=np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors
