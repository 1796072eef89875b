"""
A model whose query vectors a matrix turns, while its documents stay where they are.

In:  an encoder, a matrix in safetensors. Out: an encoder that needs no index of its own; model_store opens it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from relevanced.daemon.errors import FailStep
from relevanced.daemon.ports import Encoder, Vectors

ADAPTER: Final = "query_adapter.safetensors"  # in a version's directory
_NAME: Final = "matrix"


class AdaptedEncoder:
    """An encoder with a matrix on its queries; `plain` is the encoder without it."""

    def __init__(self, plain: Encoder, matrix: Vectors, fingerprint: str) -> None:
        self.plain, self.fingerprint = plain, fingerprint
        self.document_fingerprint, self.dimension = plain.document_fingerprint, plain.dimension
        self.device = plain.device
        self._matrix = matrix

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        return adapt(self.plain.encode_queries(texts), self._matrix)

    def encode_documents(self, texts: Sequence[str]) -> Vectors:
        return self.plain.encode_documents(texts)


def plain(encoder: Encoder) -> Encoder:
    """Give the encoder without its matrix, or the encoder itself where it has none."""
    return encoder.plain if isinstance(encoder, AdaptedEncoder) else encoder


def adapt(vectors: Vectors, matrix: Vectors) -> Vectors:
    """Multiply query vectors, float32 (n, d), by a matrix, float32 (d, d), as rows; again of unit length."""
    adapted: Vectors = vectors @ matrix
    adapted /= np.linalg.norm(adapted, axis=1, keepdims=True)
    return adapted


def write_matrix(file: Path, matrix: Vectors) -> None:
    """Write a matrix, float32 (d, d)."""
    save_file({_NAME: np.ascontiguousarray(matrix)}, file)


def read_matrix(file: Path, dimension: int) -> Vectors:
    """
    Read a matrix, float32 (dimension, dimension).

    Raises: FailStep when the file holds none that fits.
    """
    try:
        matrix: Vectors = load_file(file)[_NAME]
    except (OSError, KeyError, SafetensorError) as error:
        raise FailStep(f"{file} holds no adapter: {error}") from error
    if matrix.shape != (dimension, dimension) or matrix.dtype != np.float32 or not np.isfinite(matrix).all():
        raise FailStep(f"{file} holds no adapter of {dimension} dimensions; restore it, or promote another version.")
    return matrix
