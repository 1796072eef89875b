"""
What a cycle has mined, read again for people.

In:  cycles/<id>/ with triplets.parquet, judgments.parquet and click_model.json. Out: triplets, and the Reason of one.
The words of a query that too few people typed are left out of all of it; the documents are the operator's own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from relevanced.daemon.click_model import ClickModel
from relevanced.daemon.click_model_file import from_json
from relevanced.daemon.errors import BadInput
from relevanced.daemon.queries import query_key
from relevanced.daemon.reasons import Judged, Reason, reason_of

_LISTED = [
    "triplet_id",
    "anchor",
    "actors",
    "positive_id",
    "negative_ids",
    "grade",
    "weight",
    "source",
    "negative_source",
]


@dataclass(frozen=True, slots=True)
class Mined:
    """The files of one cycle."""

    cycle_id: int
    directory: Path

    def listed(self, text: str | None, limit: int, k: int) -> tuple[int, list[dict[str, Any]]]:
        """
        Count the triplets, and give those of most weight first: in the order of the queries, the hidden ones would lie
        between their neighbours of the alphabet.

        Args:
            text: only those of queries that hold it, among the queries that may be shown.
            k: actors who must have typed a query before it is shown; of others `user_query` is None.
        """
        rows = pq.read_table(self.directory / "triplets.parquet", columns=_LISTED).to_pylist()
        for row in rows:
            row["user_query"] = _shown(row.pop("anchor"), row.pop("actors"), k)
        if text is not None:
            wanted = query_key(text)
            rows = [row for row in rows if row["user_query"] and wanted in query_key(row["user_query"])]
        rows.sort(key=lambda row: (-row["weight"], row["triplet_id"]))
        return len(rows), rows[:limit]

    def reason(self, prefix: str, k: int) -> Reason:
        """
        Tell why one triplet is what it is.

        Raises: BadInput where no triplet of the cycle, or more than one, has an id that begins so.
        """
        rows = pq.read_table(self.directory / "triplets.parquet").to_pylist()
        found = [row for row in rows if row["triplet_id"].startswith(prefix.lower())]
        if not found:
            raise BadInput(
                f"Cycle {self.cycle_id} has no triplet {prefix}; "
                f"`relevanced triplets list --cycle {self.cycle_id}` names them."
            )
        if len(found) > 1:
            raise BadInput(f"{len(found)} triplets of cycle {self.cycle_id} begin with {prefix}; type more of the id.")
        (row,) = found
        return reason_of(
            row, self._judged(row), self._click_model(), self.cycle_id, _shown(row["anchor"], row["actors"], k)
        )

    def _judged(self, row: Mapping[str, Any]) -> Judged:
        """The judgments of a triplet's documents."""
        names = pa.array([row["positive_id"], *row["negative_ids"]], pa.string())
        file = self.directory / "judgments.parquet"
        table = pq.read_table(file, filters=pc.field("query_key") == row["query_key"])
        return {
            judged["document_id"]: judged for judged in table.filter(pc.is_in(table["document_id"], names)).to_pylist()
        }

    def _click_model(self) -> ClickModel:
        return from_json((self.directory / "click_model.json").read_text(encoding="utf-8"))[0]


def mined_by(cycles: Path, cycle_id: int | None) -> Mined:
    """
    Find what a cycle has mined; None: the newest that has mined anything.

    Raises: BadInput where there is nothing, or what there is comes from a release that kept no reasons.
    """
    have = {int(path.parent.name) for path in cycles.glob("*/triplets.parquet") if path.parent.name.isdecimal()}
    if not have:
        raise BadInput("No cycle has mined triplets yet; `relevanced cycle run` begins one.")
    if cycle_id is not None and cycle_id not in have:
        raise BadInput(
            f"Cycle {cycle_id} has mined no triplets; there are those of {', '.join(map(str, sorted(have)))}."
        )
    chosen = max(have) if cycle_id is None else cycle_id
    directory = cycles / str(chosen)
    complete = (directory / "click_model.json").exists() and (directory / "judgments.parquet").exists()
    if not complete or "actors" not in pq.read_schema(directory / "triplets.parquet").names:
        raise BadInput(f"Cycle {chosen} is of an older release, which kept no reasons; the next cycle keeps them.")
    return Mined(chosen, directory)


def _shown(user_query: str, actors: int, k: int) -> str | None:
    return user_query if actors >= k else None
