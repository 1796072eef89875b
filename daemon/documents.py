"""
The documents' table.

In:  documents, read by consumers.documents. Out: rows of relevanced.document, and through its trigger one row in the
outbox for each change, which index follows. index, training and gate read the texts; full-text search finds by words.
"""

from collections.abc import Iterable, Sequence

import psycopg
from psycopg.rows import DictRow

from relevanced import sql
from relevanced.daemon.database import Database
from relevanced.daemon.errors import BadInput
from relevanced.daemon.ports import Progress
from relevanced.daemon.records import Document, Outcome

_ROWS_BETWEEN_SIGNS = 1000  # of progress


def document_text(title: str, text: str) -> str:
    """What a model reads of a document: the title as a first sentence, then the text; either alone if it is all."""
    title, text = title.strip(), text.strip()
    if not title or not text:
        return title or text
    return f"{title} {text}" if title[-1] in ".!?:" else f"{title}. {text}"


def load_documents(database: Database, documents: Iterable[Document], progress: Progress) -> Outcome:
    """
    Add and update documents, all of them or, when reading them fails on the way, none.

    Raises: BadInput where they come from a table of the operator's, and whatever reading the documents raises, such as
        BadInput for a broken line.
    """
    count = 0
    with database.connection() as connection:
        _require_own(connection)
        connection.execute(sql.postgres["create_loaded"])
        with connection.cursor().copy(sql.postgres["copy_loaded"]) as copy:
            copy.set_types(["text", "text", "text"])
            for count, document in enumerate(documents, start=1):
                copy.write_row((document.document_id, document.title, document.text))
                if count % _ROWS_BETWEEN_SIGNS == 0:
                    progress("Reading documents", count, count)
        (merged,) = connection.execute(sql.postgres["merge_loaded"])
        connection.execute(sql.postgres["analyze_documents"])
    progress("Reading documents", count, count)
    numbers = {"documents": count, **merged}
    sentence = f"Loaded {count:,} documents: {merged['added']:,} new, {merged['changed']:,} changed."
    return Outcome(sentence, numbers)


def delete_documents(database: Database, document_ids: Sequence[str]) -> Outcome:
    """
    Delete documents; ids that no document has are counted.

    Raises: BadInput where they come from a table of the operator's.
    """
    wanted = set(document_ids)
    with database.connection() as connection:
        _require_own(connection)
        deleted = connection.execute(sql.postgres["delete_documents"], {"document_ids": sorted(wanted)}).rowcount
    unknown = len(wanted) - deleted
    remark = f" {unknown:,} ids are those of no document." if unknown else ""
    return Outcome(f"Deleted {deleted:,} documents.{remark}", {"deleted": deleted, "unknown": unknown})


def _require_own(connection: psycopg.Connection[DictRow]) -> None:
    if attached := connection.execute(sql.postgres["attached_name"]).fetchone():
        raise BadInput(
            f"The documents come from {attached['name']}; change them there, or let go of it first:"
            " `relevanced documents detach`."
        )


def document_ids(database: Database) -> list[str]:
    """Every document, in the order of the key."""
    with database.connection() as connection:
        return [row["document_id"] for row in connection.execute(sql.postgres["document_ids"])]


def document_texts(database: Database, document_ids: Sequence[str]) -> dict[str, str]:
    """What a model reads of these documents; one that was deleted is left out."""
    with database.connection() as connection:
        rows = connection.execute(sql.postgres["documents"], {"document_ids": list(document_ids)})
        return {row["document_id"]: document_text(row["title"], row["text"]) for row in rows}


def document_titles(database: Database, document_ids: Sequence[str]) -> dict[str, str]:
    """What people call these documents: the title, or where it is empty the text; one that was deleted is left out."""
    with database.connection() as connection:
        rows = connection.execute(sql.postgres["documents"], {"document_ids": list(document_ids)})
        return {row["document_id"]: row["title"].strip() or row["text"].strip() for row in rows}


def shortened(title: str, characters: int) -> str:
    """A title on one line, cut where it is longer."""
    words = " ".join(title.split())
    return words if len(words) <= characters else f"{words[: characters - 1]}…"


def full_text_search(database: Database, texts: Sequence[str], k: int, patience_ms: int) -> dict[str, list[str]]:
    """
    Find the documents that hold words of each text: text -> at most k document_ids, best first.

    Args:
        patience_ms: for each text.
    Raises: Retry when it takes longer, or Postgres is away.
    """
    found: dict[str, list[str]] = {text: [] for text in texts}
    with database.connection() as connection:
        connection.execute(sql.postgres["set_patience"], {"patience_ms": str(patience_ms * len(texts))})
        for row in connection.execute(sql.postgres["full_text_search"], {"texts": list(texts), "k": k}):
            found[texts[row["place"] - 1]].append(row["document_id"])
    return found
