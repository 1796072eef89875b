"""
The commands `triplets list` and `triplets show`: what a cycle has taught, and why.

In:  options, the files of a cycle. Out: a table, sentences, or JSON.
"""

from typing import Annotated

import typer

from relevanced.daemon.console import say, say_json, say_table
from relevanced.daemon.opening import Json, opened

triplets_app = typer.Typer(no_args_is_help=True, help="What a cycle has taught the model, and why.")

Cycle = Annotated[int | None, typer.Option(help="Number of the cycle; else the newest that has mined any.", min=1)]
_ID_CHARACTERS = 10  # of a triplet's id that the list shows; so many are unique among a million triplets
_TEXT_CHARACTERS = 160  # of a document that are shown


@triplets_app.command("list")
def list_triplets(
    context: typer.Context,
    cycle: Cycle = None,
    query: Annotated[str | None, typer.Option(help="Only of queries that hold these words.")] = None,
    limit: Annotated[int, typer.Option(help="How many, those of most weight first.", min=1)] = 20,
    as_json: Json = False,
) -> None:
    """
    List the triplets of a cycle.

    Example:

      relevanced triplets list --query "itchy skin" --limit 5
    """
    from relevanced.daemon.mined import mined_by

    with opened(context) as parts:
        k = parts.settings.privacy.k
        mined = mined_by(parts.stages.directory, cycle)
        count, rows = mined.listed(query, limit, k)
        if as_json:
            say_json({"cycle": mined.cycle_id, "triplets_in_all": count, "triplets": rows})
            return
        of_query = f" of queries that hold {query!r} and that {k} people or more typed" if query is not None else ""
        say(f"Cycle {mined.cycle_id} has {count:,} triplets{of_query}.")
        if rows:
            say_table(
                ("triplet", "query", "positive", "grade", "weight", "negatives", "which are"),
                [
                    (
                        row["triplet_id"][:_ID_CHARACTERS],
                        row["user_query"] or f"(of fewer than {k} people)",
                        row["positive_id"],
                        f"{row['grade']:.2f}",
                        f"{row['weight']:.2f}",
                        ", ".join(row["negative_ids"]),
                        row["negative_source"],
                    )
                    for row in rows
                ],
            )


@triplets_app.command()
def show(
    context: typer.Context,
    triplet_id: Annotated[str, typer.Argument(metavar="ID", help="A triplet's id, or a part of its beginning.")],
    cycle: Cycle = None,
    as_json: Json = False,
) -> None:
    """
    Tell why a triplet's positive is one, and why each of its negatives is.

    Example:

      relevanced triplets show 3f2a9c
    """
    from relevanced.daemon.documents import document_texts
    from relevanced.daemon.mined import mined_by

    with opened(context) as parts:
        k = parts.settings.privacy.k
        reason = mined_by(parts.stages.directory, cycle).reason(triplet_id, k)
        documents = [reason.positive, *reason.negatives]
        texts = document_texts(parts.database, [one.document_id for one in documents])
        if as_json:
            say_json({**reason.to_dict(), "texts": texts})
            return
        query = f'"{reason.user_query}"' if reason.user_query else f"a query that fewer than {k} people typed"
        say(f"Triplet {reason.triplet_id} of cycle {reason.cycle_id}, for {query}.")
        say(f"Grade {reason.grade:.3f}, weight {reason.weight:.3f} in training, from {reason.source}.")
        for one in documents:
            text = texts.get(one.document_id, "(deleted since)")
            heading = "Positive" if one.kind == "positive" else "Negative"
            cut = text if len(text) <= _TEXT_CHARACTERS else f"{text[:_TEXT_CHARACTERS]}…"
            say(f"\n{heading} {one.document_id}: {cut}")
            for sentence in one.sentences(reason.near_miss_bar):
                say(f"  {sentence}")
            if one.places:
                say_table(
                    ("  position", "surface", "below a click", "shown", "chosen", "P(examined)"),
                    [
                        (
                            f"  {place['position']}",
                            place["surface"] or "-",
                            "yes" if place["after_click"] else "no",
                            f"{place['shown']:.4g}",
                            f"{place['clicks']:.4g}",
                            f"{place['propensity']:.2f}",
                        )
                        for place in one.places
                    ],
                )
        if not reason.negatives:
            say("\nNo negatives of its own; the other triplets of its batch provide them.")
