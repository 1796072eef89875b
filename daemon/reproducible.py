"""
Whether a version can be made once more here, and all that it takes.

In:  a version's manifest, its files and its base's, the log's snapshots, the libraries and the machine. Out: Made, or
one sentence that says what is missing.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from relevanced.daemon import history
from relevanced.daemon.cost import CPU
from relevanced.daemon.devices import cpu_kind, has_gpu
from relevanced.daemon.errors import BadInput, FailStep
from relevanced.daemon.log_store import LogStore
from relevanced.daemon.mined_with import MinedWith, read_mined_with
from relevanced.daemon.model_store import MANIFEST, libraries_here
from relevanced.daemon.recipe import TrainingPolicy
from relevanced.daemon.records import Version
from relevanced.daemon.stages import Stages


@dataclass(frozen=True, kw_only=True, slots=True)
class Made:
    """How a version was made."""

    cycle_id: int
    snapshot_id: int
    triplets: int
    triplets_sha256: str
    mined_with: MinedWith
    recipe: TrainingPolicy
    base: Path
    bit_for_bit: bool  # whether the same weights can be asked for: where a CPU has trained, and trains again
    threads: int
    processes: int
    weights: Mapping[str, str]  # safetensors file -> sha256
    losses: Sequence[float]  # as the manifest has them
    remarks: Sequence[str]  # of what disturbed its training


def made_of(stages: Stages, version: Version) -> Made:
    """
    Gather how a version was made.

    Raises: BadInput when it cannot be made again here, with the reason.
    """
    _require_trained(version)
    manifest, files, base = version.manifest, _files(stages, version), _base(stages, version)
    training = manifest["training"]
    bit_for_bit = training["device"] == CPU and not has_gpu()
    if bit_for_bit:
        require_same_machine(version, cpu_kind(), len(os.sched_getaffinity(0)))
    _require_same_libraries(version)
    _require_snapshot(stages.log_store, version)
    return Made(
        cycle_id=manifest["cycle_id"],
        snapshot_id=manifest["snapshot_id"],
        triplets=sum(manifest["triplets"].values()),
        triplets_sha256=manifest["triplets_sha256"],
        mined_with=read_mined_with(stages.directory / str(manifest["cycle_id"]), manifest["mining"]),
        recipe=_recipe(version),
        base=base,
        bit_for_bit=bit_for_bit,
        threads=training["threads"],
        processes=training["processes"],
        weights={name: digest for name, digest in files.items() if name.endswith(".safetensors")},
        losses=training["losses"],
        remarks=training["remarks"],
    )


def _require_trained(version: Version) -> None:
    manifest, name = version.manifest, f"Version {version.version_id}"
    if "imported" in manifest:
        raise BadInput(f"{name} was imported, and how it was trained is not known here; nothing can be reproduced.")
    if "adapter" in manifest:
        raise BadInput(
            f"{name} is an adapter, taught on the vectors of an index as it was then, which are not kept; only full"
            " fine-tunings can be reproduced."
        )
    if "cycle_id" not in manifest:
        raise BadInput(f"{name} is the base model as it came: nothing was trained, so nothing can be reproduced.")
    if manifest.get("trained_from", manifest["base"]) != manifest["base"] or manifest.get("taught", {}).get("replayed"):
        raise BadInput(
            f"{name} went on from version {manifest['trained_from']} or was taught anchors again, as the indexes ranked"
            " them then; only versions that were taught all history once, from the base model, can be reproduced."
        )
    if "mining" not in manifest or manifest["training"].get("threads") is None:
        raise BadInput(
            f"{name} was trained by an older release, which did not keep what it was mined with; versions from now on"
            " can be reproduced."
        )


def _files(stages: Stages, version: Version) -> Mapping[str, str]:
    try:
        return stages.models.check(version.directory)
    except FailStep as error:
        raise BadInput(f"Version {version.version_id} is not as it was, so nothing can be compared: {error}") from None


def _base(stages: Stages, version: Version) -> Path:
    number = version.manifest["base"]
    directory = history.version(stages.database, number).directory
    try:
        stages.models.check(directory)
    except FailStep as error:
        raise BadInput(f"The base model, version {number}, is not there as it was: {error}") from None
    return directory


def require_same_machine(version: Version, kind: str, cores: int) -> None:
    """
    See that this machine can compute the same bits as the one that trained.

    Args:
        kind, cores: of the CPU here; see devices.cpu_kind.
    Raises: BadInput when it cannot.
    """
    training = version.manifest["training"]
    trained = f"Version {version.version_id} was trained"
    # A number that the operator has set is given to the libraries, however many cores there are.
    if version.manifest["recipe"].get("threads") is None and training["threads"] > cores:
        raise BadInput(
            f"{trained} with {training['threads']} threads, and there are {cores} cores here; the same bits take"
            " a machine with as many."
        )
    if training["cpu_kind"] != kind:
        lacking = sorted({*training["cpu_kind"].split()} ^ {*kind.split()})
        raise BadInput(
            f"{trained} on a CPU of another kind, which differs in {', '.join(lacking)}; the same bits take one alike."
        )


def _require_same_libraries(version: Version) -> None:
    then = json.loads((version.directory / MANIFEST).read_bytes())["libraries"]
    here = libraries_here()
    others = [f"{name} {made} ({here.get(name, 'none')} here)" for name, made in then.items() if here.get(name) != made]
    if others:
        raise BadInput(
            f"Version {version.version_id} was made with {', '.join(others)}; install the same to reproduce it."
        )


def _require_snapshot(log_store: LogStore, version: Version) -> None:
    snapshot_id = version.manifest["snapshot_id"]
    known = log_store.read("known_snapshots", log_store.snapshot())["snapshot_id"].to_pylist()
    if snapshot_id not in known:
        raise BadInput(
            f"The log as of snapshot {snapshot_id}, from which version {version.version_id} was trained, is gone:"
            " snapshots are kept for versions that may serve, and none outlives a `forget`."
        )


def _recipe(version: Version) -> TrainingPolicy:
    recipe: dict[str, Any] = version.manifest["recipe"]
    try:
        return TypeAdapter(TrainingPolicy).validate_python(recipe)
    except ValidationError as error:
        first = error.errors()[0]
        raise BadInput(
            f"The recipe of version {version.version_id} is of another release: {first['loc']}: {first['msg']}."
        ) from None
