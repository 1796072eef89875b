"""
LoRA: small matrices beside the large ones, which alone learn (Hu et al., arXiv:2106.09685).

In:  a model. Out: the same, with few weights to train; and at the end a plain model again.
"""

from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from torch import nn

from relevanced.daemon.forward import transformer_of
from relevanced.daemon.recipe import TrainingPolicy


def inject(model: SentenceTransformer, policy: TrainingPolicy) -> None:
    """Put LoRA beside each matrix of the transformer, and let nothing else learn; the seed decides how it begins."""
    from peft import LoraConfig, inject_adapter_in_model  # here, since it takes seconds to load

    transformer = transformer_of(model)
    names = {name for name, module in transformer.named_modules() if isinstance(module, nn.Linear)}
    with torch.random.fork_rng():
        torch.manual_seed(policy.seed)
        config = LoraConfig(
            r=policy.lora_rank,
            lora_alpha=policy.lora_alpha,  # type: ignore[arg-type] # it divides by the rank
            target_modules=sorted(names),
            lora_dropout=0.0,
        )
        for one in model.parameters():
            one.requires_grad_(False)
        inject_adapter_in_model(config, transformer)


def merge(model: SentenceTransformer) -> None:
    """Add what LoRA has learned to the matrices, and take LoRA away."""
    from peft.tuners.lora import LoraLayer  # as above

    for name, module in list(model.named_modules()):
        if isinstance(module, LoraLayer):
            layer: Any = module
            layer.merge()
            above, _, last = name.rpartition(".")
            setattr(model.get_submodule(above), last, layer.get_base_layer())
    transformer = transformer_of(model)
    if hasattr(transformer, "peft_config"):
        del transformer.peft_config
