"""
Which versions follow the documents, and which keep their index and their model.

In:  rows of serving_history, versions, the policy. Out: numbers of versions; promotion and retention act on them.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from annotated_types import Ge

from relevanced.daemon.records import Version


@dataclass(frozen=True, kw_only=True, slots=True)
class RetentionPolicy:
    """How much is kept of versions that are not live."""

    # Versions that were live before the present one and go on following the documents; a rollback to them is instant.
    fresh: Annotated[int, Ge(1)] = 2
    # Versions that keep their index, live among them; 0: all. Five: live, two fresh, the base, and one on trial.
    keep_indexes: Annotated[int, Ge(0)] = 5
    # Versions that keep their model, from which an index can be built again; 0: all. A model is smaller than an index.
    keep_models: Annotated[int, Ge(0)] = 20


def lived_before(changes: Sequence[Mapping[str, Any]]) -> list[int]:
    """
    Versions that were live before the present one, the latest first, but for those that were rolled back from.

    Args:
        changes: rows of serving_history, the newest first.
    """
    live = changes[0]["live_version_id"] if changes else None
    taken_back: set[int] = set()
    before: list[int] = []
    for row in changes:
        if row["verb"] == "rollback":
            taken_back.add(row["previous_version_id"])
        number = row["live_version_id"]
        if number != live and number not in taken_back and number not in before:
            before.append(number)
    return before


def fresh_versions(changes: Sequence[Mapping[str, Any]], count: int) -> list[int]:
    """The versions before the present one that follow the documents: what `rollback` returns to, then the latest."""
    previous = changes[0]["previous_version_id"] if changes else None
    return list(dict.fromkeys([*([previous] if previous is not None else []), *lived_before(changes)]))[:count]


def by_worth(versions: Sequence[Version], changes: Sequence[Mapping[str, Any]]) -> list[int]:
    """All versions: those that were live, the latest first, and then those that never were, the youngest first."""
    lived = [row["live_version_id"] for row in changes]
    numbers = sorted((version.version_id for version in versions), reverse=True)
    return [number for number in dict.fromkeys([*lived, *numbers]) if number in set(numbers)]


def beyond(order: Sequence[int], keep: int, needed: Collection[int]) -> list[int]:
    """
    Those of an order that are too many, the least worth first; what is needed counts, and is never among them.

    Args:
        keep: how many stay; 0: all.
    """
    if not keep:
        return []
    left = max(0, keep - len([number for number in order if number in needed]))
    others = [number for number in order if number not in needed]
    return others[left:][::-1]
