"""
The operator's own table or view, as a source of documents.

In:  the settings, the catalogue of Postgres. Out: a Source: which relation, which columns, and the statements over
them, which attaching runs. Identifiers go in through psycopg.sql; an expression of the settings is SQL as it stands.
"""

import difflib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import psycopg
from psycopg import sql as psycopg_sql
from psycopg.rows import DictRow

from relevanced import sql
from relevanced.daemon.errors import BadInput

Connection = psycopg.Connection[DictRow]

_WITH_TRIGGERS: Final = ("r", "p")  # tables and partitioned tables; a foreign table changes behind its triggers' back
_EVERY: Final = psycopg_sql.SQL("true")


@dataclass(frozen=True, kw_only=True, slots=True)
class DocumentsPolicy:
    """Which table or view of the operator's the documents come from; `relevanced documents attach` reads it."""

    table: str = ""  # with its schema, shop.article; empty: documents come by `relevanced documents load`
    id: str = ""  # the column that tells its rows apart
    title: str = ""  # a column, or SQL over the columns of a row; empty: the documents have no titles
    text: str = ""  # likewise; a row in which it is null is no document


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """
    A relation whose rows are documents.

    schema, table: None when it is no more. id_type: None when that column is no more.
    title, text: SQL over its columns.
    """

    relation: int
    name: str
    schema: str | None
    table: str | None
    id_column: str
    id_type: str | None
    title: str
    text: str
    has_triggers: bool

    def statement(
        self, name: str, document_ids: Sequence[str] | None = None, *, by_key: bool = False
    ) -> psycopg_sql.Composed:
        """Fill in a statement of own_table.sql for its rows, all of them or those of some ids that its key has."""
        ids = psycopg_sql.Literal(list(document_ids or ()))
        chosen: psycopg_sql.Composable = _EVERY
        if document_ids is not None:
            chosen = psycopg_sql.SQL(sql.postgres["chosen_by_key" if by_key else "chosen_by_text"]).format(
                id=psycopg_sql.Identifier(self.id_column),
                document_ids=ids,
                type=psycopg_sql.SQL(self.id_type or "text"),
            )
        own = self._documents(psycopg_sql.Identifier(self.schema or "", self.table or ""), chosen)
        return psycopg_sql.SQL(sql.postgres[name]).format(own=own, document_ids=ids)

    def trigger_statements(self, connection: Connection) -> Iterator[psycopg_sql.Composed]:
        """Make what creates the function and its triggers, in their order."""
        written, removed = (self._documents(psycopg_sql.Identifier(rows), _EVERY) for rows in ("written", "removed"))
        body = psycopg_sql.SQL(sql.postgres["take_over_body"]).format(written=written, removed=removed)
        yield psycopg_sql.SQL(sql.postgres["create_take_over"]).format(
            body=psycopg_sql.Literal(body.as_string(connection))
        )
        table = psycopg_sql.Identifier(self.schema or "", self.table or "")
        yield psycopg_sql.SQL(sql.postgres["create_triggers"]).format(table=table)

    def _documents(self, rows: psycopg_sql.Composable, chosen: psycopg_sql.Composable) -> psycopg_sql.Composed:
        return psycopg_sql.SQL(sql.postgres["own_documents"]).format(
            id=psycopg_sql.Identifier(self.id_column),
            title=psycopg_sql.SQL(self.title),
            text=psycopg_sql.SQL(self.text),
            rows=rows,
            alias=psycopg_sql.Identifier(self.name.partition(".")[2]),  # an expression may name it, renamed or not
            chosen=chosen,
        )


def source_of(connection: Connection, policy: DocumentsPolicy) -> Source:
    """
    Look up what the settings name.

    Raises: BadInput when there is no such table or column, its id is no key, or its expressions cannot be asked.
    """
    for setting in ("table", "id", "text"):
        if not getattr(policy, setting):
            raise BadInput(
                f"[documents] {setting} is not set; to take documents from a table of yours, write"
                ' table = "shop.article", id = "article_id" and text = "body" under [documents].'
            )
    schema, _, table = policy.table.partition(".")
    if not table:
        raise BadInput(f"[documents] table: write {policy.table} with its schema, such as public.{policy.table}.")
    connection.execute(sql.postgres["trust_no_search_path"])
    found = connection.execute(sql.postgres["find_relation"], {"schema": schema, "table": table}).fetchone()
    if found is None or schema == "relevanced":
        names = [row["name"] for row in connection.execute(sql.postgres["relation_names"])]
        raise BadInput(f"[documents] table: there is no table or view {policy.table}{_meant(policy.table, names)}")
    rows = connection.execute(sql.postgres["relation_columns"], {"relation": found["oid"]}).fetchall()
    columns = {row["name"]: row for row in rows}
    if policy.id not in columns:
        raise BadInput(f"[documents] id: {policy.table} has no column {policy.id}{_meant(policy.id, list(columns))}")
    source = Source(
        relation=found["oid"],
        name=policy.table,
        schema=schema,
        table=table,
        id_column=policy.id,
        id_type=columns[policy.id]["type"],
        title=_expression(policy.title or "''", connection, columns),
        text=_expression(policy.text, connection, columns),
        has_triggers=found["relkind"] in _WITH_TRIGGERS,
    )
    if source.has_triggers and not columns[policy.id]["is_key"]:
        raise BadInput(
            f"[documents] id: {policy.table} has neither a primary key nor a unique index on {policy.id} alone, so two"
            " rows could be one document; create one, or attach a view with an id of its own."
        )
    with told(source):
        connection.execute(source.statement("probe_own_documents"))
        require_distinct(connection, source)
    return source


def attached_source(connection: Connection) -> Source | None:
    """Where the documents come from, None when they are loaded; from here on names mean what they mean in triggers."""
    connection.execute(sql.postgres["trust_no_search_path"])
    row = connection.execute(sql.postgres["attached_source"]).fetchone()
    return Source(**row) if row else None


def require_distinct(connection: Connection, source: Source) -> None:
    """Raise BadInput when two rows of a view have one id; a table has a key."""
    if source.has_triggers:
        return
    row = connection.execute(source.statement("duplicate_own_documents")).fetchone()
    if row is not None:
        raise BadInput(
            f"{source.name} has {row['rows']:,} rows with the {source.id_column} {row['document_id']}; each document"
            " needs an id of its own."
        )


@contextmanager
def told(source: Source) -> Iterator[None]:
    """Say in one sentence what keeps Postgres from reading a source, or from changing its triggers."""
    if source.table is None:
        raise BadInput(
            f"{source.name}, which the documents come from, is no more; `relevanced documents detach` lets go of it."
        )
    try:
        yield
    except psycopg.errors.InsufficientPrivilege as error:
        rights = "SELECT and TRIGGER" if source.has_triggers else "SELECT"
        raise BadInput(
            f"{source.name} cannot be attached or read: {_first_line(error)}; let its owner grant {rights} on it, and"
            f" USAGE on the schema {source.schema}, to the user of [database_url]."
        ) from error
    except (psycopg.ProgrammingError, psycopg.DataError) as error:
        raise BadInput(
            f"{source.name} cannot be read as documents: {_first_line(error)}; set id, title and text under [documents]"
            " right, functions with their schema, then run `relevanced documents attach`."
        ) from error


def _expression(given: str, connection: Connection, columns: dict[str, DictRow]) -> str:
    """A column's name, quoted, or else the operator's SQL as it is."""
    return psycopg_sql.Identifier(given).as_string(connection) if given in columns else given


def _meant(name: str, names: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {close[0]}?" if close else f"; there are {', '.join(sorted(names)[:20]) or 'none'}."


def _first_line(error: psycopg.Error) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".:")
