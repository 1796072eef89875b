"""
The recipe that a search has found, kept for the cycles to come.

In:  what tuning has found to be better than the present recipe. Out: [training] with what it lacks filled in, for
whoever trains; and the sentence about it. A file in the state directory: absent, [training] alone counts.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from relevanced.daemon.errors import BadInput
from relevanced.daemon.files import write_text
from relevanced.daemon.recipe import TrainingPolicy
from relevanced.daemon.recipe_space import Value, applicable


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """A recipe, where it comes from, and how much better it is than the one before on the validation part."""

    search: int
    trial: int
    cycle_id: int
    settings: Mapping[str, Value]  # those that were searched
    rank: int  # LoRA's, with which they were found
    gain: float  # NDCG@10 over the present recipe of then
    low: float  # at least so much of it is no luck
    found_at: str  # ISO 8601

    @property
    def origin(self) -> str:
        return f"search {self.search}, trial {self.trial}"

    @property
    def sentence(self) -> str:
        return (
            f"Cycles train by the recipe from {self.origin}, since {self.found_at[:10]}: {said(self.settings)};"
            f" NDCG@10 rose by {self.gain:.3f} ({self.low:.3f} at least) on the validation part of cycle"
            f" {self.cycle_id}. `relevanced tune drop` returns to [training] alone."
        )


class Tuned:
    """Where the found recipe is kept, and which settings of [training] a person has set: those go before it."""

    def __init__(self, directory: Path, by_hand: frozenset[str]) -> None:
        self.directory, self.by_hand = directory, by_hand
        self._file = directory / "recipe.json"

    def found(self) -> Found | None:
        """
        Read what is kept, if anything.

        Raises: BadInput when the file is broken.
        """
        try:
            return Found(**json.loads(self._file.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError) as error:
            raise BadInput(f"{self._file} is no recipe ({error}); `relevanced tune drop` removes it.") from error

    def over(self, present: TrainingPolicy) -> tuple[TrainingPolicy, Found | None]:
        """Give the recipe to train by: the found one where a person has set nothing, and where it is from."""
        found = self.found()
        settings = applicable(found.settings, found.rank, present, self.by_hand) if found else {}
        return (replace(present, **settings), found) if settings else (present, None)  # type: ignore[arg-type]

    def keep(self, found: Found) -> None:
        """Let cycles train by it from now on."""
        self.directory.mkdir(parents=True, exist_ok=True)
        write_text(self._file, json.dumps(asdict(found), indent=2))

    def drop(self) -> bool:
        """Return to [training] alone; says whether there was anything else."""
        there = self._file.exists()
        self._file.unlink(missing_ok=True)
        return there


def said(settings: Mapping[str, Value]) -> str:
    """Say settings in one line."""
    return ", ".join(f"{name} {'none' if value is None else f'{value:g}'}" for name, value in sorted(settings.items()))
