"""
What all trials of a search for a recipe have in common.

In:  the triplets that a cycle has mined, the base model, the present recipe. Out: a Lesson, which says what is learned,
what measures it and where there is to look; read by tuning.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from hashlib import file_digest
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from relevanced.daemon import history
from relevanced.daemon.batches import Triplets
from relevanced.daemon.errors import BadInput
from relevanced.daemon.recipe import TrainingPolicy
from relevanced.daemon.recipe_space import Point, Space, Value, point_of, settings_of, space_of
from relevanced.daemon.stages import Stages
from relevanced.daemon.validating import Validation, parted

# Of the training queries, measured behind each half of an epoch and by nothing chosen; where [training] has a part of
# its own, that one measures.
_WATCHED: Final[Mapping[str, Any]] = {"validation_share": 0.2, "validations": 2, "keep_best": False}
# What only says where and how fast a training runs, and changes nothing of what it learns.
_MACHINE: Final = frozenset(
    {"kept_tokens", "checkpoint_seconds", "silence_seconds", "threads", "processes", "runner"}
    | {"ray_address", "ray_gpus", "ray_wait_seconds"}
)
# Validation queries; of fewer the bootstrap knows too little. Of 20 recipes without any difference one was kept in 5 to
# 6 % of 1,000 searches with 20, 60 and 200 queries, and in 11 % with 10, where 5 % are asked for.
_FEWEST: Final = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Lesson:
    """What all trials have in common."""

    cycle_id: int
    file: Path
    sha256: str
    base: Path
    base_fingerprint: str
    triplets: Triplets
    validation: Validation
    policy: TrainingPolicy  # the present recipe, with what measures it
    space: Space

    @property
    def most_negatives(self) -> int:
        return max(map(len, self.triplets.negatives))

    @property
    def first(self) -> Point:
        """The point of the present recipe."""
        here = point_of(self.policy, self.most_negatives)
        return {name: here[name] for name in self.space}

    def settings(self, point: Point) -> dict[str, Value]:
        return settings_of(point, self.policy, self.most_negatives)

    def setup(self) -> dict[str, Any]:
        """Give what makes two searches the same."""
        fixed = {
            name: value
            for name, value in asdict(self.policy).items()
            if name not in self.space and name not in _MACHINE
        }
        return {
            "cycle_id": self.cycle_id,
            "triplets_sha256": self.sha256,
            "base": self.base_fingerprint,
            "settings": fixed,
            "space": {name: asdict(dimension) for name, dimension in self.space.items()},
        }


def lesson_of(stages: Stages, cycle_id: int | None) -> Lesson:
    """
    Take the triplets of a cycle and the present recipe.

    Args:
        cycle_id: None: the newest that has ended with triplets.
    Raises: BadInput where there are none, or too few to measure by.
    """
    cycle_id, file = _mined(stages, cycle_id)
    present, _ = stages.tuned.over(stages.training)
    policy = present if present.validation_share else replace(present, **_WATCHED)
    try:
        with file.open("rb") as opened:
            sha256 = file_digest(opened, "sha256").hexdigest()
        triplets = Triplets.read(file)
    except (OSError, pa.ArrowException) as error:
        raise BadInput(f"{file} cannot be read ({error}); --cycle names another one.") from error
    teach, measure = parted(triplets, policy.validation_share)
    validation = Validation(triplets, measure)
    if len(validation.queries) < _FEWEST:
        raise BadInput(
            f"Of the {len(set(triplets.keys)):,} training queries of cycle {cycle_id} {len(validation.queries)} would"
            f" measure, and fewer than {_FEWEST} tell nothing; come back when more queries have clicks."
        )
    most_negatives = max(map(len, triplets.negatives))
    space = space_of(present, stages.tuned.by_hand, len(teach), most_negatives)
    if not space:
        raise BadInput("[training] sets all that a search may choose; take out what it shall choose.")
    base = history.base_version(stages.database)
    return Lesson(
        cycle_id=cycle_id,
        file=file,
        sha256=sha256,
        base=base.directory,
        base_fingerprint=base.fingerprint,
        triplets=triplets,
        validation=validation,
        policy=policy,
        space=space,
    )


def _mined(stages: Stages, cycle_id: int | None) -> tuple[int, Path]:
    """Find the triplets of a cycle, or of the newest that has ended."""
    ended = [row["cycle_id"] for row in history.cycles(stages.database) if row["ended_at"] is not None]
    files = {number: stages.directory / str(number) / "triplets.parquet" for number in ended}
    have = [number for number, file in files.items() if file.exists()]
    if not have:
        raise BadInput("No cycle has mined triplets yet and ended; `relevanced cycle run` begins one.")
    if cycle_id is not None and cycle_id not in have:
        raise BadInput(
            f"Cycle {cycle_id} has not ended with triplets; there are those of {', '.join(map(str, sorted(have)))}."
        )
    chosen = max(have) if cycle_id is None else cycle_id
    return chosen, files[chosen]
