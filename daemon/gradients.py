"""
One step's gradient: a batch goes through the model, and its loss back.

In:  a batch. Out: its loss, and its gradient at the model's parameters. The loss needs all vectors of a batch at once,
but back from it each part of the batch goes alone; a part whose activations were not kept is computed again, which
bounds the memory at any batch size. Without dropout both ways give the same.
Source: Gao et al., arXiv:2101.06983 (gradient cache), for the parts that are not kept.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor

from relevanced.daemon.batches import Answers, Batch, Batches, Row, filled
from relevanced.daemon.forward import Forward, transformer_of
from relevanced.daemon.graphs import Recorded
from relevanced.daemon.losses import batch_loss
from relevanced.daemon.packing import Packed, Stream, moved
from relevanced.daemon.recipe import TrainingPolicy
from relevanced.daemon.team import Team

_ON_CPU: Final = 8192  # tokens kept there: some 0.3 MB each for MiniLM, and four times that for BERT-base
_PER_TOKEN: Final = 48  # bytes a token keeps for each dimension of each layer in bf16; 33 were measured on BERT-base
_FILLERS: Final = 8  # texts that bring a stream to a round length
_LEAST_KEPT: Final = 256


class Gradients:
    """Works out the gradients of batches, within the memory that there is."""

    def __init__(
        self, model: SentenceTransformer, forward: Forward, batches: Batches, policy: TrainingPolicy, team: Team
    ) -> None:
        self._model, self._forward, self._policy, self._team = model, forward, policy, team
        self.kept_tokens = _kept_tokens(model) if policy.kept_tokens is None else policy.kept_tokens
        self._most: int | None = None  # tokens that go through the model at once, once memory has run out
        self._anchors = policy.batch_size
        self._documents = policy.batch_size * batches.most_documents
        whole = isinstance(forward, Packed) and self.alone and model.device.type == "cuda"
        self._recorded = Recorded(self.whole_step) if whole else None

    def add(self, batch: Batch) -> Tensor:
        """
        Add the gradient of the batch's loss to those that the parameters have.

        Returns: the loss, float32 (), which on a GPU may not be known yet.
        Raises: torch.OutOfMemoryError, and gradients are then half done.
        """
        if self._recorded is not None and batch.tokens <= self.kept_tokens:
            return self._recorded(self.whole_step_tensors(batch))
        return self._in_parts(batch)

    @property
    def alone(self) -> bool:
        """Whether no other process shares the batches."""
        return self._team.size == 1

    def halve(self) -> int | None:
        """Keep half as many tokens from now on; give how many, or None where it is of no use any more."""
        kept = min(self.kept_tokens, self._anchors * 1024) // 2
        if kept < _LEAST_KEPT:
            return None
        self.kept_tokens = self._most = kept
        if self._recorded is not None:
            self._recorded = Recorded(self.whole_step)
            torch.cuda.empty_cache()
        return kept

    def _in_parts(self, batch: Batch) -> Tensor:
        lengths = [len(row) for row in batch.rows]
        share = self._team.share(lengths)
        rows = [batch.rows[place] for place in share]
        places = list(self._forward.parts(rows, self._most))
        texts = [[rows[place] for place in part] for part in places]
        parts: list[Tensor] = []
        kept = 0
        for part in texts:
            kept += self._forward.cost(part)
            with torch.set_grad_enabled(kept <= self.kept_tokens):
                parts.append(self._forward.embed(part))
        order = torch.tensor([place for part in places for place in part], dtype=torch.int64)
        own = torch.cat([part.detach() for part in parts])[order.argsort().to(self._model.device)]
        all_ = self._team.gathered(own, lengths).requires_grad_()
        loss = batch_loss(all_, self._answers(batch.answers), self._policy)
        (gradient,) = torch.autograd.grad(loss, all_)
        mine = gradient[share]
        for part_places, part, vectors in zip(places, texts, parts, strict=True):
            again = vectors if vectors.requires_grad else self._forward.embed(part)
            again.backward(mine[part_places])  # type: ignore[no-untyped-call]
        self._team.add_up([one.grad for one in self._model.parameters() if one.grad is not None])
        return loss.detach()

    def whole_step(self, tensors: Sequence[Tensor]) -> Tensor:
        """Add the gradient of a batch that goes through a packed model at once; returns the loss."""
        assert isinstance(self._forward, Packed)  # _recorded is there for no other
        *stream, positive, excluded, weights = tensors
        vectors = self._forward.embed_stream(Stream.over(stream, self._forward.longest))
        loss = batch_loss(vectors, Answers(positive, excluded, weights), self._policy)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def whole_step_tensors(self, batch: Batch) -> list[Tensor]:
        """Give what whole_step reads: the stream, brought to one of few lengths, and the answers, of one shape."""
        batch = filled(batch, self._anchors, self._documents)
        assert isinstance(self._forward, Packed)  # as in whole_step
        stream = Stream.of([*batch.rows, *_fillers(batch, self._forward.longest)])
        tensors = [*stream.tensors(), *batch.answers.tensors()]
        return [moved(tensor, self._model.device) for tensor in tensors]

    def _answers(self, answers: Answers) -> Answers:
        return Answers(*(moved(tensor, self._model.device) for tensor in answers.tensors()))


def patiently(
    step: Callable[[], Tensor], gradients: Gradients, forget: Callable[[], None]
) -> tuple[Tensor, int | None]:
    """
    Do a step, with half the kept tokens again whenever memory runs out.

    Args:
        forget: drops the gradients of a step that was half done.
    Returns: what the step returns, and how many tokens are kept from now on if that has changed.
    Raises: torch.OutOfMemoryError when hardly any are kept and it still runs out, or several processes share the batch.
    """
    kept: int | None = None
    while True:
        try:
            return step(), kept
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
            kept = gradients.halve() if gradients.alone else None  # the others would not know of it
            if kept is None:
                raise torch.OutOfMemoryError(str(error)) from error
        forget()  # here, where the error no longer holds what the step has left


def _is_out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _kept_tokens(model: SentenceTransformer) -> int:
    """As many as fit: three quarters of the GPU's free memory, or what a step of short texts has on a CPU."""
    if model.device.type != "cuda":
        return _ON_CPU
    config = transformer_of(model).config
    free, _ = torch.cuda.mem_get_info()
    with suppress(AttributeError, TypeError):
        return int(free * 0.75 / (_PER_TOKEN * config.hidden_size * config.num_hidden_layers))
    return _ON_CPU


def _fillers(batch: Batch, longest: int) -> list[Row]:
    """Texts that count for nothing and bring a stream to one of few lengths, at most an eighth longer."""
    tokens = batch.tokens + _FILLERS
    grain = min(max(256, 1 << max((tokens // 8).bit_length() - 1, 0)), _FILLERS * longest // 2)
    over = _FILLERS + -tokens % grain
    return list(np.array_split(np.full(over, batch.rows[0][0], dtype=np.int32), _FILLERS))
