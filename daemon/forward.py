"""
The one way from tokens to unit vectors, which training, gate, index and serving share.

In:  a model and the token ids of texts. Out: unit vectors, with or without a way back for gradients.
Padded, in small batches of like length, goes everywhere; packed (packing.py) is for GPUs.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, Final, Protocol

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn
from torch.nn.functional import normalize
from transformers import PreTrainedModel

from relevanced.daemon.batches import Row
from relevanced.daemon.ports import Vectors

# Tokens of one padded forward pass, padding included. On a CPU small ones stay in its cache: MiniLM on 2 AVX2 cores
# encodes 150 documents of 33 tokens a second at 512, 155 at 1,024, 140 at 4,096 and 107 at 8,192; 32 at a time, sorted
# by characters, as SentenceTransformer.encode does it, 115. In bf16, which halves what has to stay there, 2,048 take a
# tenth less of a core's time than 1,024, and 4,096 more again.
_PASS_TOKENS: Final = {"cpu": 1024, "cpu in bf16": 2048, "cuda": 32_768}


class Forward(Protocol):
    """How texts go through a model: Padded, packing.Packed."""

    def parts(self, rows: Sequence[Row], most: int | None = None) -> Iterator[list[int]]:
        """
        Part the texts, by their places, into what goes through the model at once; each place comes once.

        Args:
            most: tokens of a part, where that is fewer than is usual.
        """
        ...

    def cost(self, rows: Sequence[Row]) -> int:
        """Count the tokens that a pass over these texts computes, padding included."""
        ...

    def embed(self, rows: Sequence[Row]) -> Tensor:
        """Return the unit vectors of texts, float32 (n_rows, dimension), in one forward pass."""
        ...


Embedded = list[tuple[list[int], Tensor]]  # places of texts, and their vectors, which a GPU may still work on


def embedded(forward: Forward, rows: Sequence[Row]) -> Embedded:
    """Let texts go through a model in its parts, without waiting for the device."""
    return [(places, forward.embed([rows[place] for place in places])) for places in forward.parts(rows)]


def fetched(parts: Embedded) -> Vectors:
    """Wait for the vectors, float32 (n_rows, dimension), in the order of the rows; there is at least one."""
    vectors = np.empty((sum(len(places) for places, _ in parts), parts[0][1].shape[1]), dtype=np.float32)
    for places, part in parts:
        vectors[places] = part.cpu().numpy()
    return vectors


class Padded:
    """Texts of like length, each filled up to the longest."""

    def __init__(self, model: SentenceTransformer) -> None:
        self._model = model
        self._fill = model.tokenizer.pad_token_id or 0
        self._left = model.tokenizer.padding_side == "left"

    def parts(self, rows: Sequence[Row], most: int | None = None) -> Iterator[list[int]]:
        """The shortest first, so that little is spent on padding; at most pass_tokens() each, or one text."""
        usual, batch = pass_tokens(self._model.device), list[int]()
        most = min(usual, most or usual)
        for place in sorted(range(len(rows)), key=lambda place: len(rows[place])):
            if batch and (len(batch) + 1) * len(rows[place]) > most:
                yield batch
                batch = []
            batch.append(place)
        if batch:
            yield batch

    def cost(self, rows: Sequence[Row]) -> int:
        return len(rows) * max(map(len, rows))

    def embed(self, rows: Sequence[Row]) -> Tensor:
        ids = np.full((len(rows), max(map(len, rows))), self._fill, dtype=np.int64)
        mask = np.zeros(ids.shape, dtype=np.int64)
        for row, tokens in enumerate(rows):
            place = slice(ids.shape[1] - len(tokens), None) if self._left else slice(len(tokens))
            ids[row, place], mask[row, place] = tokens, 1
        features: dict[str, Any] = {
            "input_ids": torch.from_numpy(ids).to(self._model.device),
            "attention_mask": torch.from_numpy(mask).to(self._model.device),
        }
        with _autocast(self._model.device):
            vectors = self._model(features)["sentence_embedding"]
        return normalize(vectors.float(), dim=1)


def pass_tokens(device: torch.device) -> int:
    """Tell how many tokens one forward pass takes at most, where its texts are not longer."""
    return _PASS_TOKENS["cpu in bf16" if device.type == "cpu" and computes_bf16(device) else device.type]


def computes_bf16(device: torch.device) -> bool:
    """Whether it has the instructions: 2.5 times as fast with them, and many times slower without."""
    if device.type == "cpu":
        able = torch.cpu.get_capabilities()
        return bool(able.get("avx512_bf16", False) or able.get("amx_bf16", False))
    return bool(torch.cuda.is_bf16_supported(including_emulation=False))


def transformer_of(model: SentenceTransformer) -> Any:
    """The transformer in a model; None where its first part has none."""
    return getattr(model[0], "model", None)


def lighten(model: SentenceTransformer, gpu: torch.dtype = torch.bfloat16) -> None:
    """
    Keep the weights in the form that the device computes in, so that no pass has to convert them.

    On a GPU all of them, in bf16, or fp16 where nothing is learned: three more bits, and twice the cosine's digits. On
    a CPU the matrices only; the rest goes on in float32, as under autocast alone.
    """
    if not computes_bf16(model.device):
        return
    if model.device.type == "cuda":
        model.to(gpu)
        return
    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.to(torch.bfloat16)


def ready_to_learn(model: SentenceTransformer) -> None:
    """
    Let nothing on the way back cost more than it must.

    On a CPU torch's fused attention goes back at a fraction of the speed of plain products, and each part of a batch
    would fill and add the whole table of word embeddings for the few words that it has: MiniLM took 2.8 s for a step of
    32 triplets with both, and takes 1.9 s without.
    """
    lighten(model)
    if model.device.type == "cuda":
        return
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            module.sparse = True
    transformer = transformer_of(model)
    if isinstance(transformer, PreTrainedModel):
        with suppress(ValueError):  # a model without that way keeps its own
            transformer.set_attn_implementation("eager")


def _autocast(device: torch.device) -> torch.autocast:
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=device.type == "cpu" and computes_bf16(device))
