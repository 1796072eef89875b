"""
Packing: texts of any length as one stream of tokens through the model, without padding.

In:  a model whose attention is transformers' own interface, on a GPU. Out: the same vectors as padded batches give.
An attention that keeps the texts of a stream apart is registered with transformers; whether a model's vectors come out
right with it is not assumed of its kind but tried, once, when it is loaded.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import structlog
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling
from torch import Tensor, nn
from torch.nn.functional import normalize, scaled_dot_product_attention
from transformers import PreTrainedModel
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from relevanced.daemon.batches import Row
from relevanced.daemon.forward import Forward, Padded, pass_tokens, transformer_of

log = structlog.get_logger(__name__)

_NAME: Final = "relevanced_packed"
_ALIKE: Final = 0.98  # cosine of packed and padded vectors, both in bf16, of texts that mean nothing
_POOLED: Final = ("mean", "cls", "lasttoken")


@dataclass(frozen=True, slots=True)
class Stream:
    """
    Texts behind one another.

    `ids`, `positions` and `texts` (the number of the text that a token is of) are int64 (n_tokens,); `ends` is int32
    (n_texts + 1,), from 0; `longest` is at least the tokens of the longest text.
    """

    ids: Tensor
    positions: Tensor
    texts: Tensor
    ends: Tensor
    longest: int

    @classmethod
    def of(cls, rows: Sequence[Row]) -> "Stream":
        lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
        ends = np.zeros(len(rows) + 1, dtype=np.int32)
        np.cumsum(lengths, out=ends[1:])
        return cls(
            ids=torch.from_numpy(np.concatenate(rows).astype(np.int64)),
            positions=torch.from_numpy(np.arange(ends[-1]) - np.repeat(ends[:-1], lengths).astype(np.int64)),
            texts=torch.from_numpy(np.repeat(np.arange(len(rows)), lengths)),
            ends=torch.from_numpy(ends),
            longest=int(lengths.max()),
        )

    def tensors(self) -> list[Tensor]:
        return [self.ids, self.positions, self.texts, self.ends]

    def to(self, device: torch.device) -> "Stream":
        """Move it without waiting."""
        return Stream.over([moved(tensor, device) for tensor in self.tensors()], self.longest)

    @classmethod
    def over(cls, tensors: Sequence[Tensor], longest: int) -> "Stream":
        """The stream of these tensors, in the order of `tensors`."""
        ids, positions, texts, ends = tensors
        return cls(ids, positions, texts, ends, longest)


class Packed:
    """A model that reads streams."""

    def __init__(self, model: SentenceTransformer) -> None:
        """
        Make the model read streams.

        Raises: NotImplementedError where its parts are none that a stream can go through.
        """
        self._model, self._transformer = model, transformer_of(model)
        pooling = model[1]
        if not isinstance(pooling, Pooling) or pooling.pooling_mode not in _POOLED or not pooling.include_prompt:
            raise NotImplementedError("the pooling is another than mean, cls or lasttoken")
        self._pooling = pooling.pooling_mode
        # RoBERTa and its kin count positions from behind the number of the pad token.
        table: Any = getattr(getattr(self._transformer, "embeddings", None), "position_embeddings", None)
        self._first_position = 0 if getattr(table, "padding_idx", None) is None else table.padding_idx + 1
        self._transformer.set_attn_implementation(_NAME)
        self.longest = int(model.max_seq_length or 0)

    def parts(self, rows: Sequence[Row], most: int | None = None) -> Iterator[list[int]]:
        """In their order, at most pass_tokens() each, or one text."""
        usual, batch, tokens = pass_tokens(self._model.device), list[int](), 0
        most = min(usual, most or usual)
        for place, row in enumerate(rows):
            if batch and tokens + len(row) > most:
                yield batch
                batch, tokens = [], 0
            batch.append(place)
            tokens += len(row)
        if batch:
            yield batch

    def cost(self, rows: Sequence[Row]) -> int:
        return sum(map(len, rows))

    def embed(self, rows: Sequence[Row]) -> Tensor:
        return self.embed_stream(Stream.of(rows).to(self._model.device))

    def embed_stream(self, stream: Stream) -> Tensor:
        """Return the unit vectors, float32 (n_texts, dimension), without a wait between host and device."""
        states = self._transformer(
            input_ids=stream.ids[None],
            position_ids=stream.positions[None] + self._first_position,
            stream_ends=stream.ends,
            stream_longest=stream.longest,
        ).last_hidden_state
        features: dict[str, Any] = {"sentence_embedding": self._pooled(states[0], stream)}
        for module in list(self._model)[2:]:
            features = module(features)
        return normalize(features["sentence_embedding"].float(), dim=1)

    def _pooled(self, states: Tensor, stream: Stream) -> Tensor:
        """One vector for each text out of those of its tokens, (n_tokens, width); nothing is asked of the device."""
        if self._pooling == "cls":
            return states[stream.ends[:-1]]
        if self._pooling == "lasttoken":
            return states[stream.ends[1:] - 1]
        sums = torch.zeros(len(stream.ends) - 1, states.shape[1], dtype=torch.float32, device=states.device)
        lengths = stream.ends.diff()[:, None]
        return (sums.index_add(0, stream.texts, states.float()) / lengths).to(states.dtype)


def forward_of(model: SentenceTransformer) -> Forward:
    """Choose how texts go through this model: packed where that is faster and gives the same vectors, else padded."""
    if model.device.type != "cuda":
        return Padded(model)
    packed = packed_or_none(model)
    return Padded(model) if packed is None else packed


def packed_or_none(model: SentenceTransformer) -> Packed | None:
    """Make the model read streams, if its vectors are then those that padded batches give; else leave it as it was."""
    transformer = transformer_of(model)
    if not isinstance(transformer, PreTrainedModel):
        return None
    before, rows = transformer.config._attn_implementation, _probe(model)
    with torch.inference_mode():
        expected = Padded(model).embed(rows)
        try:
            packed = Packed(model)
            alike = (expected * packed.embed(rows)).sum(dim=1).min().item()
        except Exception as error:  # noqa: BLE001 - whatever a model says to a stream, padding is the answer
            alike, reason = 0.0, str(error).split("\n")[0]
        else:
            reason = f"the cosine of the vectors is {alike:.3f}"
    if alike > _ALIKE:
        return packed
    log.info("texts are padded", model=type(transformer).__name__, reason=reason)
    transformer.set_attn_implementation(before)
    return None


def _probe(model: SentenceTransformer) -> list[Row]:
    """Texts of several lengths, the longest allowed among them; always the same."""
    rng = np.random.default_rng(0)
    most, words = int(model.max_seq_length or 128), len(model.tokenizer)
    return [rng.integers(0, words, size, dtype=np.int32) for size in (most, 1, max(most // 2, 1), min(7, most))]


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    _mask: Tensor | None,
    *,
    stream_ends: Tensor,
    stream_longest: int,
    scaling: float | None = None,
    sliding_window: int | None = None,
    is_causal: bool | None = None,
    **_others: Any,
) -> tuple[Tensor, None]:
    """
    Attention within each text of a stream, in the form that transformers asks of one.

    Args:
        query, key, value: (1, heads, n_tokens, head_dimension).
    Returns: (1, n_tokens, heads, head_dimension), and no weights.
    """
    causal = bool(getattr(module, "is_causal", False) if is_causal is None else is_causal)
    reach = -1 if sliding_window is None else sliding_window if causal else sliding_window // 2
    query, key, value = (one[0].transpose(0, 1) for one in (query, key, value))
    if query.device.type == "cuda":
        found = _on_gpu(query, key, value, stream_ends, stream_longest, scaling, (reach, 0 if causal else reach))
    else:
        found = _text_by_text(query, key, value, stream_ends, scaling, causal=causal, reach=reach)
    return found[None], None


def _on_gpu(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    ends: Tensor,
    longest: int,
    scaling: float | None,
    window: tuple[int, int],
) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn  # here, since torch has it from 2.10 on

    more: dict[str, Any] = {"window_size": window} if window != (-1, -1) else {}
    if query.size(1) != key.size(1):
        more["enable_gqa"] = True
    found = varlen_attn(query, key, value, ends, ends, longest, longest, scale=scaling, **more)
    assert isinstance(found, Tensor)  # more is returned only to who asks for it
    return found


def _text_by_text(
    query: Tensor, key: Tensor, value: Tensor, ends: Tensor, scaling: float | None, *, causal: bool, reach: int
) -> Tensor:
    """The same by torch's own attention, one text after the other: what the GPU's kernel is measured by."""
    if reach >= 0:
        raise NotImplementedError("windows are for the GPU's kernel")
    parts = []
    for begin, end in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True):
        q, k, v = (stream[begin:end].transpose(0, 1)[None] for stream in (query, key, value))
        found = scaled_dot_product_attention(q, k, v, scale=scaling, is_causal=causal, enable_gqa=True)
        parts.append(found[0].transpose(0, 1))
    return torch.cat(parts)


def moved(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy to the device without waiting for it."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


ALL_ATTENTION_FUNCTIONS.register(_NAME, attention)
ALL_MASK_ATTENTION_FUNCTIONS.register(_NAME, lambda *_args, **_more: None)
