"""
How large an index will be: bytes on disk, and of memory while its HNSW is built.

In:  rows, dimension, m. Out: bytes. Read by prepare, which refuses what the disk cannot hold, and by the plan.
The layouts are Postgres' of a heap and of TOAST, and pgvector 0.8's of HNSW. Measured on tables of 2,000 to 8,000 rows,
64 to 1,536 dimensions, m 4 to 32: HNSW and memory are within 1 %, the table up to 12 % larger (pages come in blocks).
"""

from dataclasses import dataclass
from typing import Final

_PAGE: Final = 8192
_HEAP: Final = _PAGE - 24  # of a page, for rows
_HNSW: Final = _PAGE - 24 - 8  # of a page of an index, which has a tail
_ITEM: Final = 4  # pointer to a row in its page
_SHA: Final = 65  # content_sha, with its header
_TOASTED: Final = 2032  # a longer row has its vector elsewhere, in pieces
_CHUNK: Final = 1996  # of such a piece
_ELEMENT: Final = 72  # of a node beside its vector
_GRAPH_NODE: Final = 176  # of a node in memory, beside vector and neighbours; measured
FILLED: Final = 0.9  # of a page of a B-tree


@dataclass(frozen=True, slots=True)
class IndexSize:
    """Bytes of a version's table with its key, of its HNSW, and of the memory in which the HNSW is built."""

    table: int
    hnsw: int
    graph: int

    @property
    def disk(self) -> int:
        """What both take."""
        return self.table + self.hnsw


def index_size(rows: int, dimension: int, *, m: int, id_bytes: float) -> IndexSize:
    """
    Work out how large the index of so many vectors becomes.

    Args:
        m: neighbours of a node of the HNSW.
        id_bytes: of a document's id, on average.
    Source: pgvector 0.8, src/hnsw.h (HNSW_ELEMENT_TUPLE_SIZE, HNSW_NEIGHBOR_TUPLE_SIZE) and src/hnswbuild.c.
    """
    vector = 8 + 2 * dimension
    key = _aligned(id_bytes + 1, 4) + 4
    row = _aligned(24 + key + vector + _SHA, 8)
    if row > _TOASTED:
        pieces = [_CHUNK] * (vector // _CHUNK) + [vector % _CHUNK]
        elsewhere = _share(sum(_aligned(36 + piece, 8) + _ITEM for piece in pieces), _HEAP)
        elsewhere += len(pieces) * (16 + _ITEM) / FILLED
        table = _share(_aligned(24 + key + 18 + _SHA, 8) + _ITEM, _HEAP) + elsewhere
    else:
        table = _share(row + _ITEM, _HEAP)
    table += (_aligned(8 + key, 8) + _ITEM) / FILLED
    higher = 1 / (m - 1)  # levels of a node above the lowest, on average
    node = _aligned(_ELEMENT + vector, 8) + _ITEM
    neighbours = _aligned(4 + 6 * 2 * m, 8) + 6 * m * higher + _ITEM
    # pgvector writes both into one page where one can hold both, and else each into one of its own.
    hnsw = _share(node + neighbours, _HNSW) if node + neighbours <= _HNSW else 2 * _PAGE
    graph = _GRAPH_NODE + vector + 16 * 2 * m + (16 * m + 8) * higher
    return IndexSize(round(rows * table), round(rows * hnsw) + 2 * _PAGE, round(rows * graph))


def _aligned(size: float, to: int) -> int:
    return -int(-size // to) * to


def _share(size: float, page: int) -> float:
    """What one of this size takes of the pages that it is written to, whose rest is too small for another."""
    return _PAGE / (page // size) if size <= page else size * _PAGE / page
