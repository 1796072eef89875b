"""
Losses that a GPU has not worked out yet, while the steps behind them are already on their way.

In:  the loss of each step, as it is put into the queue. Out: the same as numbers, once they are known.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import torch
from torch import Tensor

_AHEAD: Final = 2  # steps that the host may be in front of the GPU


class _Expected(NamedTuple):
    values: Tensor  # loss and norm, on the host
    event: torch.cuda.Event | None  # behind which they are there
    places: Sequence[int]


class Ahead:
    """The losses of the last steps; on a CPU each is known at once."""

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self._expected: deque[_Expected] = deque()

    def put(self, loss: Tensor, norm: Tensor, places: Sequence[int]) -> None:
        """Note the loss and the gradient's norm of a step over these triplets, each float32 ()."""
        values, event = torch.stack([loss, norm.to(loss.dtype)]), None
        if self._on_gpu:
            host = torch.empty(2, dtype=values.dtype, pin_memory=True)
            values, event = host.copy_(values, non_blocking=True), torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record()
        self._expected.append(_Expected(values, event, places))

    def known(self, *, wait: bool) -> Iterator[tuple[float, float, Sequence[int]]]:
        """Yield loss, norm and triplets of the steps that are done; with `wait` of all."""
        ahead = _AHEAD if self._on_gpu and not wait else 0
        while len(self._expected) > ahead:
            values, event, places = self._expected.popleft()
            if event is not None:
                event.synchronize()
            loss, norm = values.tolist()
            yield loss, norm, places
