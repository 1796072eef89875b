"""
The encoder: texts to unit vectors in the space of one model version.

In:  a version's directory, as model_store keeps it; queries and documents. Out: vectors for index, contest and search.
Training tokenises and embeds by the same functions (forward.py), so it sees a text as serving does.
"""

from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Final, cast

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from transformers.utils import logging as transformers_logging

from relevanced.daemon.batches import Row
from relevanced.daemon.cost import CPU
from relevanced.daemon.devices import device_name, has_gpu
from relevanced.daemon.forward import Embedded, Padded, embedded, fetched, lighten
from relevanced.daemon.packing import forward_of
from relevanced.daemon.ports import Vectors

_AT_ONCE: Final = 4096  # texts tokenised ahead, while a GPU is busy with those before


class TransformerEncoder:
    """A model version ready to encode, from any number of threads."""

    def __init__(self, model: SentenceTransformer, fingerprint: str) -> None:
        self.fingerprint = self.document_fingerprint = fingerprint
        self.dimension = cast(int, model.get_embedding_dimension())
        self.device = device_name(model.device)
        self._model = model
        lighten(model, gpu=torch.float16)
        self._forward = forward_of(model)
        # transformers sets truncation at each call, on an object that all threads share; before tokenizers 0.23.1 that
        # could raise "Already borrowed" in another thread (huggingface/transformers#47085).
        self._tokenizer = Lock()

    @classmethod
    def load(cls, directory: Path, fingerprint: str) -> "TransformerEncoder":
        return cls(load_model(directory), fingerprint)

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        return self._encode(texts, "query")

    def encode_documents(self, texts: Sequence[str]) -> Vectors:
        return self._encode(texts, "document")

    def _encode(self, texts: Sequence[str], kind: str) -> Vectors:
        found = [np.empty((0, self.dimension), dtype=np.float32)]
        under_way: Embedded | None = None
        # Padded batches want to choose among all texts; a stream takes them as they come.
        size = max(len(texts), 1) if isinstance(self._forward, Padded) else _AT_ONCE
        for start in range(0, len(texts), size):
            with self._tokenizer:
                rows = tokenize(self._model, texts[start : start + size], kind)
            with torch.inference_mode():
                begun = embedded(self._forward, rows)
            if under_way:
                found.append(fetched(under_way))
            under_way = begun
        if under_way:
            found.append(fetched(under_way))
        return np.concatenate(found)


def load_model(directory: Path) -> SentenceTransformer:
    """
    Load a model from its directory, onto the GPU if there is one; nothing is fetched and no code of the model is run.

    Raises: OSError, ValueError and others of the libraries for a directory that holds no usable model.
    """
    # Both libraries speak to the terminal while they load, which belongs to the daemon's own sentences.
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    model = SentenceTransformer(
        str(directory),
        device="cuda" if has_gpu() else CPU,
        trust_remote_code=False,
        local_files_only=True,
        model_kwargs={"use_safetensors": True, "dtype": torch.float32},
    )
    return model.eval()


def tokenize(model: SentenceTransformer, texts: Sequence[str], kind: str) -> list[Row]:
    """Give the token ids of each text behind the prompt of its kind ("query", "document"), cut at the model's limit."""
    if not texts:
        return []
    prompt = model.prompts.get(kind) or ""
    rows = model.tokenizer([prompt + text for text in texts], truncation=True, return_attention_mask=False)
    return [np.asarray(row, dtype=np.int32) for row in rows["input_ids"]]
