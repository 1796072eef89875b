"""
Evidence by pair of query and document: the form in which the click model reads it.

In:  EVIDENCE (actors shown and clicked, by query, document, position, surface and what they did), RANKS of the models.
Out: Pairs; read by click_model and judgments.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import csr_array

from relevanced.daemon.signals import CLICK

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

POSITIONS: Final = 50  # the statement `evidence` leaves out what lies deeper
RANKS: Final = ["query_key", "document_id", "rank"]
# A device is what the client says it is: beyond the commonest ones all are one, or each new name would add a curve.
SURFACES: Final = 20
OTHERS: Final = "(others)"
PLACES: Final = 2 * POSITIONS  # of a surface: each position without a click further up, then each with one


@dataclass(frozen=True)
class Pairs:
    """
    Evidence by pair; by cell, which is a pair at a place; and by answer, which is what was done with a pair.

    A place is a position of a surface, with or without a click further up in the same answer. All versions are pooled.
    Rows of position 0 are answers to a document that was not shown.
    """

    names: pa.Table  # query_key, document_id, shown, clicks; one row a pair, in the order of the names
    prior: Integers  # (pairs,), place in ClickModel.priors
    pair: Integers  # (cells,), row of the pair
    place: Integers  # (cells,), PLACES * surface + POSITIONS * after_click + position - 1
    clicks: Floats  # (cells,)
    skips: Floats  # (cells,), shown and not clicked
    responses: Sequence[str]  # what people did, in order
    answered: Integers  # (answers,), row of the pair
    response: Integers  # (answers,), place in responses
    actors: Floats  # (answers,)
    surfaces: Sequence[str]  # where searches are typed, in order

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def clicked(self) -> Any:
        """Clicks as a sparse matrix, (pairs, places): its products are the sums over cells, at a third of the cost."""
        did = self.clicks > 0
        return self._matrix(self.clicks[did], self.pair[did], self.place[did], PLACES * len(self.surfaces))

    @cached_property
    def skipped(self) -> Any:
        """Likewise the skips, (pairs, places)."""
        return self._matrix(self.skips, self.pair, self.place, PLACES * len(self.surfaces))

    @cached_property
    def did(self) -> Any:
        """Likewise the actors of each answer, (pairs, responses)."""
        return self._matrix(self.actors, self.answered, self.response, len(self.responses))

    def _matrix(self, values: Floats, pair: Integers, column: Integers, columns: int) -> Any:
        starts = np.searchsorted(pair, np.arange(len(self) + 1)).astype(np.int32)
        return csr_array((values, column.astype(np.int32), starts), shape=(len(self), columns))


def gather(evidence: pa.Table, ranks: pa.Table, deepest: int) -> Pairs:
    """
    Pool the versions, number the pairs in the order of their names, and find the prior of each.

    Args:
        evidence: EVIDENCE; without a column `response` all clicks are of one kind, without `after_click` nothing is
            known of clicks further up, without `surface` all is of one.
        ranks: RANKS; a rank below `deepest`, or none, is the one behind it.
    """
    (queries, query), (documents, document) = (_numbered(evidence[name]) for name in ("query_key", "document_id"))
    # One number for each pair, and for each cell, in the order of the names: joins of texts took four times as long.
    by_row = query * len(documents) + document
    position = evidence["position"].to_numpy().astype(np.int64)
    shown, clicks = (evidence[name].to_numpy().astype(np.float64) for name in ("shown", "clicks"))
    named, row = _distinct(by_row)

    surfaces, places = _places(evidence, position)
    cells, of_cell = _grouped((row * len(surfaces) * PLACES + places)[position > 0])
    shown_of_cell, clicks_of_cell = (of_cell(values[position > 0]) for values in (shown, clicks))
    responses, response = _responses(evidence)
    did = clicks > 0
    answers, of_answer = _grouped((row * len(responses) + response)[did])
    names = pa.table(
        {
            "query_key": queries.take(pa.array(named // max(len(documents), 1))),
            "document_id": documents.take(pa.array(named % max(len(documents), 1))),
            "shown": sums(row, shown * (position > 0), len(named)),
            "clicks": sums(row, clicks, len(named)),
        }
    )
    return Pairs(
        names=names,
        prior=_ranks_of(named, ranks, queries, documents, deepest) - 1,
        pair=cells // (len(surfaces) * PLACES),
        place=cells % (len(surfaces) * PLACES),
        clicks=clicks_of_cell,
        skips=shown_of_cell - clicks_of_cell,
        responses=responses,
        answered=answers // max(len(responses), 1),
        response=answers % max(len(responses), 1),
        actors=of_answer(clicks[did]),
        surfaces=surfaces,
    )


def prior_ranks(base: pa.Table, live: pa.Table, newest: pa.Table, taught: Collection[str]) -> pa.Table:
    """
    Give the RANKS that the prior goes by, of each query by models that never saw its labels, as far as there are any.

    A query that the newest candidate was not taught is one more of which it knows only what it learned from others:
    there its ranks are those of a cross-fitted model, for nothing. Elsewhere base and live have to do. In a rehearsal
    on clihelp (2,000 documents) the candidate of the third cycle came to .578 with it and to .573 without, the share of
    the true pairs that were found to .59 and .57.

    Args:
        base, live, newest: RANKS of the same queries by the base model, the live version and the newest candidate.
        taught: query_keys of that candidate's triplets.
    """
    mask = pc.is_in(base["query_key"], value_set=pa.array(sorted(taught), pa.string()))
    taught_base, other_base = base.filter(mask), base.filter(pc.invert(mask))
    parts = []
    for some, model in ((taught_base, live), (other_base, newest)):
        known = pc.is_in(model["query_key"], value_set=pc.unique(some["query_key"]))
        # Base itself is given as live until something was promoted, and is pooled with nothing.
        parts.append(some.select(RANKS) if model is base else pool_ranks(some, model.filter(known)))
    return pa.concat_tables(parts)


def pool_ranks(base: pa.Table, live: pa.Table) -> pa.Table:
    """
    Give RANKS by the geometric mean of two models' ranks, for the prior once the live version is no longer the base.

    What a later version lifts to the top is likelier relevant than the base model's rank says; left out, that goes into
    the propensities. Live alone would confirm the labels it was trained on. Simulated over three trained versions, by
    base, live and both: propensities 14, 4 and 4 % off; precision of grades from .5 .85, .87 and .89, and what they
    claim too much .03, .04 and .03.

    Args:
        base, live: RANKS of the same queries; what one leaves out counts as next after its deepest.
    """
    pair = RANKS[:2]
    both = base.select(RANKS).join(live.select(RANKS), pair, join_type="full outer", right_suffix="_live")
    ranks = [
        both[column].fill_null((pc.max(table["rank"]).as_py() or 0) + 1).to_numpy().astype(np.float64)
        for column, table in (("rank", base), ("rank_live", live))
    ]
    return both.select(pair).append_column("rank", pa.array(np.rint(np.sqrt(ranks[0] * ranks[1])), pa.int32()))


def pool_words(ranks: pa.Table, words: pa.Table) -> pa.Table:
    """
    Pool the models' RANKS with those of full-text search, of each query whose words it finds anywhere.

    It has learned nothing, so it confirms no label; and it errs elsewhere than a model does. By the train qrels the log
    likelihood of a query's relevant documents, given the prior of their bins, is -5.03 by the base model's ranks, -4.60
    by those of full text and -4.21 by both on clihelp (1,500 documents), -5.64, -4.42 and -4.38 on obliqa (1,000).

    Args:
        words: RANKS by full-text search; a query that is not there keeps the models'.
    """
    mask = pc.is_in(ranks["query_key"], value_set=pc.unique(words["query_key"]))
    return pa.concat_tables([ranks.filter(pc.invert(mask)).select(RANKS), pool_ranks(ranks.filter(mask), words)])


def some_pairs(pairs: Pairs, chosen: npt.NDArray[np.bool_]) -> Pairs:
    """Keep the pairs that are chosen, (pairs,), with their cells and answers."""
    row = np.cumsum(chosen) - 1
    cells, answers = chosen[pairs.pair], chosen[pairs.answered]
    return replace(
        pairs,
        names=pairs.names.filter(pa.array(chosen)),
        prior=pairs.prior[chosen],
        pair=row[pairs.pair[cells]],
        place=pairs.place[cells],
        clicks=pairs.clicks[cells],
        skips=pairs.skips[cells],
        answered=row[pairs.answered[answers]],
        response=pairs.response[answers],
        actors=pairs.actors[answers],
    )


def numbers(column: pa.ChunkedArray, names: pa.Array) -> Integers:
    """Number each text of a column by its place in names; -1 where it is not there."""
    distinct, codes = _codes(column)
    places = pc.index_in(distinct, value_set=names).fill_null(-1).to_numpy(zero_copy_only=False)
    return np.append(places, -1).astype(np.int64)[codes]  # a null is last, and nowhere


def sums(group: Integers, values: Floats, groups: int) -> Floats:
    """Sum the values of each group, (groups,)."""
    return np.bincount(group, weights=values, minlength=groups).astype(np.float64)


def _grouped(codes: Integers) -> tuple[Integers, Callable[[Floats], Floats]]:
    """Give the distinct codes in order, and what sums the values of each."""
    distinct, group = _distinct(codes)
    return distinct, lambda values: sums(group, values, len(distinct))


def _distinct(codes: Integers) -> tuple[Integers, Integers]:
    """Give the distinct codes in order, and the place of each; evidence comes in order, and sorts for nothing."""
    steps = np.diff(codes)
    if np.any(steps < 0):
        distinct, place = np.unique(codes, return_inverse=True)
        return distinct, place
    new = np.append(True, steps > 0)[: len(codes)]
    return codes[new], np.cumsum(new) - 1


def _places(evidence: pa.Table, position: Integers) -> tuple[Sequence[str], Integers]:
    """Name the surfaces, in order, and number the place of each row."""
    after = np.zeros(len(evidence), dtype=np.int64)
    if "after_click" in evidence.column_names:
        after = evidence["after_click"].to_numpy().astype(np.int64)
    places = POSITIONS * after + position - 1
    if "surface" not in evidence.column_names or not len(evidence):
        return [""], places
    surfaces = _commonest(evidence["surface"], evidence["shown"])
    names, surface = _numbered(surfaces)
    return names.to_pylist(), PLACES * surface + places


def _commonest(surfaces: pa.ChunkedArray, shown: pa.ChunkedArray) -> pa.ChunkedArray:
    """Name the surface of each row, OTHERS where it is not among the SURFACES - 1 of most impressions."""
    totals = pa.table({"name": surfaces, "shown": shown}).group_by("name").aggregate([("shown", "sum")])
    if len(totals) <= SURFACES:
        return surfaces
    totals = totals.sort_by([("shown_sum", "descending"), ("name", "ascending")])
    known = pc.is_in(surfaces, value_set=totals["name"][: SURFACES - 1])
    return pc.if_else(known, surfaces, OTHERS)


def _responses(evidence: pa.Table) -> tuple[Sequence[str], Integers]:
    """Name what was done, in order, and number each row by it; -1 where nothing was done."""
    if "response" not in evidence.column_names:
        return [CLICK], np.zeros(len(evidence), dtype=np.int64)
    names = pc.unique(evidence["response"].drop_null())
    names = names.take(pc.sort_indices(names))
    return names.to_pylist(), numbers(evidence["response"], names)


def _numbered(column: pa.ChunkedArray) -> tuple[pa.Array, Integers]:
    """Give the distinct texts of a column in their order, and the place of each row's among them."""
    distinct, codes = _codes(column)
    order = pc.sort_indices(distinct)
    place = np.empty(len(distinct), dtype=np.int64)
    place[order.to_numpy()] = np.arange(len(distinct))
    return distinct.take(order), place[codes]


def _codes(column: pa.ChunkedArray) -> tuple[pa.Array, Integers]:
    """Give the distinct texts as they come, and the place of each row's; of a null the one behind the last."""
    encoded = column.combine_chunks().dictionary_encode()
    codes = encoded.indices.fill_null(len(encoded.dictionary)).to_numpy(zero_copy_only=False)
    return encoded.dictionary, codes.astype(np.int64)


def _ranks_of(pairs: Integers, ranks: pa.Table, queries: pa.Array, documents: pa.Array, deepest: int) -> Integers:
    """The rank of each pair, from 1, at most the one behind the deepest; which is also that of pairs without one."""
    query, document = numbers(ranks["query_key"], queries), numbers(ranks["document_id"], documents)
    ranked = np.where((query < 0) | (document < 0), -1, query * len(documents) + document)
    found = np.full(len(pairs), deepest + 1, dtype=np.int64)
    if len(pairs):
        place = np.minimum(np.searchsorted(pairs, ranked), len(pairs) - 1)
        hit = pairs[place] == ranked
        found[place[hit]] = np.minimum(ranks["rank"].to_numpy()[hit], deepest + 1)
    return found
