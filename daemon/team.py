"""
The processes that share each batch, one for each GPU: as torchrun would start them, and joined by torch.distributed.

In:  the vectors that each of them has made. Out: all vectors, so that every document of the batch is a negative for
every anchor, wherever it was encoded; and the sum of the gradients.
"""

import socket
import subprocess
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor


def recruit(command: Sequence[str], size: int, seat: str) -> tuple[str, list["subprocess.Popen[bytes]"]]:
    """
    Start the processes that help this one, unless it is one of them.

    Args:
        command: of one of them, which gets its seat as one argument more; each dies with this process.
        seat: of this process; empty: it leads.
    Returns: the seat of this process, and the others.
    """
    if seat or size == 1:
        return seat, []
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return f"0/{size}:{port}", [
        subprocess.Popen([*command, f"{rank}/{size}:{port}"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        for rank in range(1, size)
    ]


class Team:
    """
    All processes of a training; one alone is a team too.

    Args:
        seat: "rank/size:port" of this process, where the one of rank 0 listens at that port; empty: it is alone.
    """

    def __init__(self, seat: str = "") -> None:
        place, _, port = seat.partition(":")
        self.rank, self.size = (int(one) for one in (place or "0/1").split("/"))
        if self.size > 1:
            on_gpu = torch.cuda.is_available()
            if on_gpu:
                torch.cuda.set_device(self.rank)
            address = f"tcp://127.0.0.1:{port}"
            backend = "nccl" if on_gpu else "gloo"
            dist.init_process_group(backend, init_method=address, rank=self.rank, world_size=self.size)

    @property
    def leads(self) -> bool:
        """Whether this is the one that speaks and writes."""
        return self.rank == 0

    def share(self, lengths: Sequence[int]) -> list[int]:
        """Give the places of the texts that this process encodes: of each length as many as the others."""
        return _share(lengths, self.rank, self.size)

    def gathered(self, vectors: Tensor, lengths: Sequence[int]) -> Tensor:
        """Put together what all have encoded, float32 (n_texts, dimension), in the order of the texts."""
        if self.size == 1:
            return vectors
        places = [_share(lengths, rank, self.size) for rank in range(self.size)]
        # Gloo and NCCL both want parts of one size, so the shorter ones are filled up.
        most = max(map(len, places))
        full = [vectors.new_zeros(most, vectors.shape[1]) for _ in places]
        dist.all_gather(full, torch.nn.functional.pad(vectors, (0, 0, 0, most - len(vectors))))
        parts = [one[: len(place)] for one, place in zip(full, places, strict=True)]
        order = torch.tensor([place for one in places for place in one], device=vectors.device)
        return torch.cat(parts)[order.argsort()]

    def add_up(self, gradients: Sequence[Tensor]) -> None:
        """Replace each gradient by the sum of all processes'."""
        if self.size == 1:
            return
        together = torch.cat([one.flatten().float() for one in gradients])
        dist.all_reduce(together)
        for one, total in zip(gradients, torch.split(together, [one.numel() for one in gradients]), strict=True):
            one.copy_(total.view_as(one))

    def any(self, told: bool) -> bool:
        """Whether one of them says so: all then do the same."""
        if self.size == 1:
            return told
        device = torch.device("cuda") if torch.cuda.is_available() else torch.device("cpu")
        asked = torch.tensor(int(told), device=device)
        dist.all_reduce(asked, op=dist.ReduceOp.MAX)
        return bool(asked.item())

    def leave(self) -> None:
        """Part from the others."""
        if self.size > 1:
            dist.destroy_process_group()


def _share(lengths: Sequence[int], rank: int, size: int) -> list[int]:
    by_length = sorted(range(len(lengths)), key=lambda place: lengths[place])
    return sorted(by_length[rank::size])
