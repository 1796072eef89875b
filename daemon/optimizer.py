"""
The optimiser: AdamW over float32 weights, whatever the model computes in.

In:  the gradients that a step has left at the model's parameters. Out: the parameters, one step further.
A parameter in bf16 has a master in float32, which learns and of which it is the rounded copy; else small steps would
be lost in rounding (Micikevicius et al., arXiv:1710.03740).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from relevanced.daemon.recipe import TrainingPolicy


class Optimizer:
    """The named parameters that learn, their masters, and AdamW's state."""

    def __init__(self, model: nn.Module, policy: TrainingPolicy) -> None:
        self._policy = policy
        named = [(name, one) for name, one in model.named_parameters() if one.requires_grad]
        self.names = [name for name, _ in named]
        self.parameters = [one for _, one in named]
        self._masters = [one if one.dtype == torch.float32 else _master(one) for one in self.parameters]
        pairs = list(zip(self._masters, self.parameters, strict=True))
        self._rounded = [(master, one) for master, one in pairs if master is not one]
        # Gradients keep their place in memory: a recorded step adds to where it has added before.
        for one in (*self.parameters, *self._masters):
            if one.grad is None:
                one.grad = torch.zeros_like(one)
        matrices = [one for one in self._masters if one.dim() > 1]
        groups = [
            {"params": matrices, "weight_decay": policy.weight_decay},
            {"params": [one for one in self._masters if one.dim() <= 1], "weight_decay": 0.0},
        ]
        self._adamw = torch.optim.AdamW(
            [group for group in groups if group["params"]], lr=policy.learning_rate, fused=True
        )

    @property
    def gradients(self) -> list[Tensor]:
        return self._gradients_of(self.parameters)

    @staticmethod
    def _gradients_of(tensors: Sequence[Tensor]) -> list[Tensor]:
        return [one.grad for one in tensors if one.grad is not None]

    @torch.no_grad()
    def step(self, rate_share: float) -> Tensor:
        """
        Take the step and forget the gradients; nothing here waits for the device.

        Args:
            rate_share: of the peak learning rate.
        Returns: the norm of the gradient before it was clipped, float32 ().
        """
        if self._rounded:
            torch._foreach_copy_(
                self._gradients_of([master for master, _ in self._rounded]),
                self._gradients_of([one for _, one in self._rounded]),
            )
        norm = nn.utils.clip_grad_norm_(self._masters, self._policy.max_gradient_norm)
        for group in self._adamw.param_groups:
            group["lr"] = self._policy.learning_rate * rate_share
        self._adamw.step()
        self._round()
        self.forget()
        return norm

    def forget(self) -> None:
        """Drop the gradients, such as those of a step that ran out of memory."""
        torch._foreach_zero_(self.gradients)

    def weights(self) -> dict[str, Tensor]:
        """The float32 weights by name, not copies."""
        return {name: master.detach() for name, master in zip(self.names, self._masters, strict=True)}

    @torch.no_grad()
    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Take other weights."""
        for name, master in zip(self.names, self._masters, strict=True):
            master.copy_(weights[name])
        self._round()

    def state(self) -> dict[str, Any]:
        """AdamW's state, for a checkpoint."""
        return self._adamw.state_dict()

    def load_state(self, state: dict[str, Any]) -> None:
        self._adamw.load_state_dict(state)

    def _round(self) -> None:
        if self._rounded:
            torch._foreach_copy_([one for _, one in self._rounded], [master for master, _ in self._rounded])


def _master(parameter: nn.Parameter) -> Tensor:
    return parameter.detach().float().requires_grad_()


def rate_share(step: int, steps: int, policy: TrainingPolicy) -> float:
    """Give the share of the peak learning rate at a step (from 0): up in a line over the warm-up, then by schedule."""
    warmup = round(steps * policy.warmup_share)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    left = (steps - step) / (steps - warmup)
    if policy.schedule == "constant":
        return 1.0
    return left if policy.schedule == "linear" else (1 - math.cos(math.pi * left)) / 2


class Average:
    """The running mean of weights over the last steps (Izmailov et al., arXiv:1803.05407)."""

    def __init__(self) -> None:
        self.count = 0
        self.weights: dict[str, Tensor] = {}

    def add(self, weights: Mapping[str, Tensor]) -> None:
        self.count += 1
        if not self.weights:
            self.weights = {name: one.clone() for name, one in weights.items()}
        else:
            torch._foreach_lerp_(list(self.weights.values()), list(weights.values()), 1 / self.count)

    def state(self) -> dict[str, Any]:
        return {"count": self.count, "weights": self.weights}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.count, self.weights = state["count"], dict(state["weights"])


def blend(base: Mapping[str, Tensor], tuned: Mapping[str, Tensor], keep_base: float) -> dict[str, Tensor]:
    """Mix two models' weights (WiSE-FT, Wortsman et al., arXiv:2109.01903)."""
    return {name: torch.lerp(one.float(), base[name].to(one.device).float(), keep_base) for name, one in tuned.items()}
