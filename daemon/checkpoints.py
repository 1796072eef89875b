"""
Checkpoints: a training under way, as one file; and what it leaves when it is done.

In:  weights, the optimiser's state, how far it is. Out: the same again after a kill, or a model's directory.
Either is complete or not there.
"""

import io
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor

from relevanced.daemon.encoder import load_model
from relevanced.daemon.files import whole_file
from relevanced.daemon.lora import inject, merge
from relevanced.daemon.optimizer import blend
from relevanced.daemon.recipe import TrainingPolicy
from relevanced.daemon.training import CHECKPOINT


@dataclass(slots=True)
class Done:
    """What has been done so far; part of a checkpoint."""

    step: int = 0
    triplets: int = 0
    seconds: float = 0.0
    tokens: int = 0
    losses: list[float] = field(default_factory=list)  # of each step
    validations: list[tuple[int, float]] = field(default_factory=list)  # step, NDCG@10
    remarks: list[str] = field(default_factory=list)

    @property
    def best_step(self) -> int | None:
        """The step behind which validation found the best model."""
        return max(self.validations, key=lambda one: one[1])[0] if self.validations else None

    @property
    def stale(self) -> int:
        """How many validations have brought nothing since the best."""
        return sum(step > (self.best_step or 0) for step, _ in self.validations)


def save(directory: Path, state: Mapping[str, Any]) -> None:
    """Write a checkpoint in place of the one before."""
    buffer = io.BytesIO()  # torch itself would report a full disk as a RuntimeError without a reason
    torch.save(dict(state), buffer)
    with whole_file(directory / CHECKPOINT) as partial:
        partial.write_bytes(buffer.getbuffer())


def load(directory: Path, device: torch.device) -> dict[str, Any] | None:
    """Read the checkpoint, if there is one; tensors only, nothing of it is run."""
    file = directory / CHECKPOINT
    if not file.exists():
        return None
    state: dict[str, Any] = torch.load(file, map_location=device, weights_only=True)
    return state


def finished(base: Path, weights: Mapping[str, Tensor], policy: TrainingPolicy) -> SentenceTransformer:
    """
    Make the model that is left: the base model's parts with what was learned, in float32.

    Args:
        weights: by the names that they had in training.
    """
    model = load_model(base)
    before = {name: one.detach().clone() for name, one in model.named_parameters()}
    if policy.lora_rank:
        inject(model, policy)
    with torch.no_grad():
        for name, one in model.named_parameters():
            if name in weights:
                one.copy_(weights[name])
        if policy.lora_rank:
            merge(model)
        if policy.keep_base:
            for name, mixed in blend(before, dict(model.named_parameters()), policy.keep_base).items():
                model.get_parameter(name).copy_(mixed)
    return model


def leave(model: SentenceTransformer, directory: Path) -> None:
    """Write the model's directory."""
    partial = directory.with_name(f"{directory.name}.partial")
    for path in (directory, partial):
        shutil.rmtree(path, ignore_errors=True)
    model.save(str(partial), create_model_card=False)
    partial.rename(directory)
