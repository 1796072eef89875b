"""
What computes: a GPU, or the CPU with what decides about its last bits.

In:  this machine. Out: names for manifests and costs; read by trainer, encoder and reproduction.
"""

import torch

from relevanced.daemon.cost import CPU


def device_name(device: torch.device) -> str:
    """Give cpu, or the GPU's name, such as NVIDIA H200."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else CPU


def has_gpu() -> bool:
    """Whether models are loaded onto a GPU here."""
    return torch.cuda.is_available()


def cpu_kind() -> str:
    """
    Name the instructions that the libraries choose their kernels by, such as "amx_bf16 avx avx2 avx512_bf16".

    Where these differ, so do the last bits of what is computed.
    """
    able = torch.cpu.get_capabilities()
    return " ".join(sorted(name for name, value in able.items() if value is True and name.startswith(("amx", "avx"))))
