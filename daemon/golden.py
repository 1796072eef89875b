"""
Golden labels: what people who know, or a language model, say of query and document.

In:  judgments as they are loaded; pairs that a gate wishes to know. Out: a second source beside the clicks. A golden
set is a sample of queries with their judgments, on which the gate compares too; a wish that was granted fills a gap of
the clicks, a document that only the candidate shows.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from relevanced import sql
from relevanced.daemon.database import Database
from relevanced.daemon.ports import Progress
from relevanced.daemon.queries import cluster_key, query_key
from relevanced.daemon.records import Outcome

Source = Literal["expert", "llm"]

MOST_WISHES = 500  # what an expert may look through in a day
MAX_PAIR_BYTES = 2000  # of query and document_id in UTF-8; a row of Postgres' index has 2,704 at most
_ROWS_BETWEEN_SIGNS = 1000  # of progress


class GoldenJudgment(NamedTuple):
    """
    One judgment; `grade` in the source's own unit, 0 for not relevant.

    `wished` says that it answers a gate's wish; else it is of the golden set, though a gate may wish for it by chance.
    """

    user_query: str
    document_id: str
    grade: float
    wished: bool = False


class Wish(NamedTuple):
    """A pair that a gate would like to have judged, and what it may change the query's NDCG@10 by, at most."""

    user_query: str
    document_id: str
    gain: float


@dataclass(frozen=True, slots=True)
class Golden:
    """All judgments by query_key and document_id, grades in [0, 1]."""

    texts: Mapping[str, str]
    qrels: Mapping[str, Mapping[str, float]]  # of the golden set; a query without a relevant document is left out
    granted: Mapping[str, Mapping[str, float]]  # what was wished for


def load_golden(database: Database, judgments: Iterable[GoldenJudgment], source: Source, progress: Progress) -> Outcome:
    """
    Add and replace judgments, all of them or, when reading them fails on the way, none.

    Raises: whatever reading them raises, such as BadInput for a broken line.
    """
    count = 0
    with database.connection() as connection:
        connection.execute(sql.postgres["create_golden_loaded"])
        with connection.cursor().copy(sql.postgres["copy_golden_loaded"]) as copy:
            copy.set_types(["text", "text", "float4", "bool"])
            for count, row in enumerate(judgments, start=1):
                copy.write_row(row)
                if count % _ROWS_BETWEEN_SIGNS == 0:
                    progress("Reading judgments", count, count)
        (merged,) = connection.execute(sql.postgres["merge_golden"], {"source": source})
    progress("Reading judgments", count, count)
    sentence = f"Loaded {merged['judgments']:,} judgments of {merged['queries']:,} queries"
    if merged["wished"]:
        sentence += f", {merged['wished']:,} of them wished for by a gate"
    if merged["without_document"]:
        sentence += f"; {merged['without_document']:,} are of documents that are not loaded"
    return Outcome(f"{sentence}.", merged)


def golden(database: Database) -> Golden:
    """
    Read all judgments. An expert's counts before a model's, whatever form of the query each has, then the newest.

    A pair is of the golden set where any judgment of it is: an answer to a wish changes its grade, and takes none out.
    """
    texts: dict[str, str] = {}
    grades: dict[tuple[str, str], float] = {}
    of_the_set: set[tuple[str, str]] = set()
    with database.connection() as connection:
        for row in connection.execute(sql.postgres["golden"]):
            key = query_key(row["user_query"])
            texts.setdefault(key, row["user_query"])
            grades.setdefault((key, row["document_id"]), float(row["grade"]))
            if not row["wished"]:
                of_the_set.add((key, row["document_id"]))
    qrels: dict[str, dict[str, float]] = {}
    granted: dict[str, dict[str, float]] = {}
    for (key, document_id), grade in grades.items():
        side = qrels if (key, document_id) in of_the_set else granted
        side.setdefault(key, {})[document_id] = grade
    relevant = {key: row for key, row in qrels.items() if any(grade > 0 for grade in row.values())}
    return Golden(texts, relevant, granted)


def golden_clusters(found: Golden) -> set[str]:
    """The clusters of the golden set, which no version may be trained on."""
    return {cluster_key(key) for key in found.qrels}


def judgments_of(database: Database, source: Source) -> list[GoldenJudgment]:
    """All that one source has judged, as it was loaded: by query, the best grades first."""
    with database.connection() as connection:
        rows = connection.execute(sql.postgres["golden_judgments"], {"source": source})
        return [GoldenJudgment(**row) for row in rows]


def golden_counts(database: Database) -> list[dict[str, Any]]:
    """How much each source has judged."""
    with database.connection() as connection:
        return connection.execute(sql.postgres["golden_counts"]).fetchall()


def drop_golden(database: Database, source: Source) -> Outcome:
    """Forget the judgments of one source."""
    with database.connection() as connection:
        dropped = len(connection.execute(sql.postgres["drop_golden"], {"source": source}).fetchall())
    whose = "experts" if source == "expert" else "the language model"
    return Outcome(f"Dropped {dropped:,} judgments of {whose}.", {"judgments": dropped})


def wish(database: Database, wanted: Sequence[Wish]) -> None:
    """
    Ask for the judgment of pairs that nobody has judged, those that would tell most, in place of all wishes before.

    What an older candidate showed tells little of the next. A pair that is too long for the table is passed over.

    Args:
        wanted: of queries that as many people typed as privacy asks for, since experts will read them.
    """
    short = [one for one in wanted if len(f"{one.user_query}{one.document_id}".encode()) <= MAX_PAIR_BYTES]
    columns = list(zip(*short, strict=True)) or [(), (), ()]
    names = ("user_queries", "document_ids", "gains")
    with database.connection() as connection:
        connection.execute(sql.postgres["clear_wishes"])
        connection.execute(
            sql.postgres["add_wishes"],
            {**{name: list(column) for name, column in zip(names, columns, strict=True)}, "most": MOST_WISHES},
        )


def wishes(database: Database, limit: int) -> list[dict[str, Any]]:
    """What is to be judged, that first which tells most: user_query, document_id, gain, and the document's words."""
    with database.connection() as connection:
        return connection.execute(sql.postgres["wishes"], {"limit": limit}).fetchall()
