"""
The recipe: how a model is fine-tuned, as one frozen policy.

In:  the section [training] of the settings. Out: read by the trainer, written into the manifest of each version.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Interval

from relevanced.daemon.lists import Numbers


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingPolicy:
    """How a candidate is trained; docs/training.md has what the defaults were chosen by."""

    # contrastive: an anchor's own document against all others of the batch (MNRL). margin: the triplet loss, against
    # the hardest of them.
    loss: Literal["contrastive", "margin"] = "contrastive"
    batch_size: Annotated[int, Ge(2)] = 64  # triplets of one step, up to thousands; their documents are all negatives
    temperature: Annotated[float, Interval(gt=0, le=1)] = 0.05  # of the softmax over cosines, as in SimCSE
    margin: Annotated[float, Interval(gt=0, le=2)] = 0.2  # cosine by which the own document shall be ahead, for margin
    # Documents of the batch whose cosine is higher than the own document's by this are no negatives: likely they are
    # relevant, and nobody has clicked them. None: only those that are known to answer the query are left out.
    mask_above: Annotated[float, Interval(ge=-1, le=2)] | None = None
    # Hard negatives of a triplet that are used, of those that were mined, in their order; None: all.
    negatives: Annotated[int, Ge(0)] | None = None
    matryoshka: Numbers = ()  # dimensions that shall do alone, such as 256, 128, 64; the full one is always trained
    matryoshka_weights: Numbers = ()  # of the losses at these, against 1 of the full one; none given: 1 each

    # base: the base model, on all history. live: the live version, on what was mined since its own training.
    start: Literal["base", "live"] = "base"
    # Share of the triplets that are of anchors: queries outside of the holdout that the base model and every version
    # since answer well. From live these are old ones, so that they are not unlearned; from base they count twice. 0: it
    # did not pay on clihelp and obliqa, see docs/forgetting.md.
    replay_share: Annotated[float, Interval(ge=0, le=0.9)] = 0.0
    epochs: Annotated[int, Ge(1)] = 1  # passes over the triplets; a second one pays where they are clean
    max_steps: Annotated[int, Ge(1)] | None = None  # ends earlier than the epochs do
    learning_rate: Annotated[float, Interval(gt=0, lt=1)] = 2e-4  # at its peak; models larger than MiniLM want less
    schedule: Literal["linear", "cosine", "constant"] = "linear"  # after the warm-up, down to 0 or not
    warmup_share: Annotated[float, Interval(ge=0, lt=1)] = 0.1  # of all steps, rising to the peak
    weight_decay: Annotated[float, Interval(ge=0, lt=1)] = 0.01  # AdamW's, of matrices; biases and norms are left alone
    max_gradient_norm: Annotated[float, Gt(0)] = 1.0
    # 0: all weights are trained. Else LoRA of this rank beside each matrix of the attention and the feed-forward part,
    # merged at the end; it wants five to ten times the learning rate.
    lora_rank: Annotated[int, Ge(0)] = 0
    lora_alpha: Annotated[float, Gt(0)] = 32.0  # LoRA's update is scaled by alpha / rank
    # Share of the weights that training begins with, the base model's but for `start`, in the finished ones: what it
    # keeps of general ability, for what it learns (WiSE-FT, arXiv:2109.01903).
    keep_base: Annotated[float, Interval(ge=0, lt=1)] = 0.0
    average_share: Annotated[float, Interval(ge=0, lt=1)] = (
        0.0  # of the steps, the last ones, whose weights are averaged
    )

    # Share of the training queries that measures instead of teaching; 0 trains on all of them, to the end.
    validation_share: Annotated[float, Interval(ge=0, le=0.5)] = 0.0
    validations: Annotated[int, Ge(1)] = 4  # measurements in each epoch
    keep_best: bool = True  # the weights that measured best; False: the last ones, for then validation only watches
    patience: Annotated[int, Ge(1)] = 3  # measurements without gain that end the training, where the best are kept

    # Tokens of a step whose activations stay in memory; what is over is computed twice (GradCache). None: 8,192 on a
    # CPU, where a step of short texts has 5,000, and as many as fit on a GPU. Halved by itself when memory runs out.
    kept_tokens: Annotated[int, Ge(0)] | None = None
    checkpoint_seconds: Annotated[float, Ge(0)] = 60.0  # what a kill costs at most, and a step
    silence_seconds: Annotated[float, Gt(0)] = 900.0  # without a sign of life, after which the child is ended
    threads: Annotated[int, Ge(1)] | None = None  # None: all cores
    processes: Annotated[int, Ge(1)] | None = None  # that share each batch; None: one for each GPU, or one
    seed: int = 0  # of the order of the triplets, and of LoRA's first weights

    runner: Literal["local", "ray"] = "local"  # here, or on a worker of a Ray cluster: docs/training-elsewhere.md
    ray_address: str = "auto"  # host:port or ray://host:port; "auto": RAY_ADDRESS, or the cluster of this machine
    ray_gpus: Annotated[float, Ge(0)] | None = None  # that a worker sets aside; None: one where the cluster has any
    ray_wait_seconds: Annotated[float, Gt(0)] = 600.0  # for a worker with as much to spare
