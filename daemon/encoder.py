"""
The encoder: texts to unit vectors in the space of one model version.

In:  a version's directory, as model_store keeps it; queries and documents. Out: vectors for index, contest and search.
The trainer batches and embeds texts by the same functions, so training sees a text as serving does.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Lock
from typing import Any, Final, cast

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor
from torch.nn.functional import normalize
from transformers.utils import logging as transformers_logging

from relevanced.daemon.ports import Vectors

# Tokens of one forward pass, padding included. On a CPU small ones stay in its cache: MiniLM on 2 AVX2 cores encodes
# 150 documents of 33 tokens a second at 512, 155 at 1,024, 140 at 4,096 and 107 at 8,192; 32 at a time, sorted by
# characters, as SentenceTransformer.encode does it, 115.
BATCH_TOKENS: Final = {"cpu": 1024, "cuda": 32_768}


class TransformerEncoder:
    """A model version ready to encode, from any number of threads."""

    def __init__(self, model: SentenceTransformer, fingerprint: str) -> None:
        self.fingerprint = fingerprint
        self.dimension = cast(int, model.get_embedding_dimension())
        self._model = model
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
        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)
        with self._tokenizer:
            rows = tokenize(self._model, texts, kind)
        for places in batches_by_length(rows, self._model.device):
            with torch.inference_mode():
                vectors[places] = embed(self._model, [rows[place] for place in places]).cpu().numpy()
        return vectors


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
        device="cuda" if torch.cuda.is_available() else "cpu",
        trust_remote_code=False,
        local_files_only=True,
        model_kwargs={"use_safetensors": True, "dtype": torch.float32},
    )
    return model.eval()


def tokenize(model: SentenceTransformer, texts: Sequence[str], kind: str) -> list[list[int]]:
    """Give the token ids of each text behind the prompt of its kind ("query", "document"), cut at the model's limit."""
    if not texts:
        return []
    prompt = model.prompts.get(kind) or ""
    rows = model.tokenizer([prompt + text for text in texts], truncation=True, return_attention_mask=False)
    return cast(list[list[int]], rows["input_ids"])


def batches_by_length(rows: Sequence[Sequence[int]], device: torch.device) -> Iterator[list[int]]:
    """
    Part texts into batches of similar length, the shortest first, so that little is spent on padding.

    Yields: places in rows, each once; a batch has at most BATCH_TOKENS tokens, padding included, or one text.
    """
    batch: list[int] = []
    for place in sorted(range(len(rows)), key=lambda place: len(rows[place])):
        if batch and (len(batch) + 1) * len(rows[place]) > BATCH_TOKENS[device.type]:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def embed(model: SentenceTransformer, rows: Sequence[Sequence[int]]) -> Tensor:
    """Return the unit vectors of tokenised texts, float32 (n_rows, dimension), in one forward pass."""
    features: dict[str, Any] = dict(
        model.tokenizer.pad({"input_ids": list(rows)}, return_tensors="pt").to(model.device)
    )
    with _autocast(model.device):
        vectors = model(features)["sentence_embedding"]
    return normalize(vectors.float(), dim=1)


def _autocast(device: torch.device) -> torch.autocast:
    """bf16 where the device computes in it: 2.5 times as fast there, and many times slower elsewhere."""
    if device.type == "cpu":
        able = torch.cpu.get_capabilities()
        fast = able.get("avx512_bf16", False) or able.get("amx_bf16", False)
    else:
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=fast)
