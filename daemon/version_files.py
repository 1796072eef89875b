"""
Versions out and in: complete directories that other tools read, and models made elsewhere as versions.

In:  a version, or a directory with a model. Out: a directory in sentence-transformers' layout with its model card and
the sha256 of each file, on a disk or the Hugging Face Hub; or a new version, a candidate.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np

from relevanced.daemon import history, hub
from relevanced.daemon.base_models import origin_of
from relevanced.daemon.database import Database
from relevanced.daemon.errors import BadInput
from relevanced.daemon.files import write_text
from relevanced.daemon.index import MOST_DIMENSIONS
from relevanced.daemon.model_card import CARD, front_matter, model_card, stated_in
from relevanced.daemon.model_store import MANIFEST, ModelPolicy, hashes
from relevanced.daemon.ports import Encoder
from relevanced.daemon.records import Outcome, Version
from relevanced.daemon.stages import Stages

_ORIGIN: Final = ("base", "revision", "licence", "preset", "imported")  # what a manifest says of where a model is from


def write_version(stages: Stages, version: Version, directory: Path, name: str, licence: str | None) -> None:
    """
    Write a version's files to a directory that is not there yet, complete or not at all.

    Args:
        name: by which its card tells people to load it.
        licence: as the Hub writes it; None: that of its base model, as far as it is known.
    Raises: FailStep when the version's own files are not as they were.
    """
    files = {file: digest for file, digest in stages.models.check(version.directory).items() if file != CARD}
    made_with = json.loads((version.directory / MANIFEST).read_bytes()).get("libraries")
    origin = _base_facts(stages.database, version)
    manifest = {
        "version": version.version_id,
        "fingerprint": version.fingerprint,
        "dimension": version.dimension,
        "created_at": version.created_at.isoformat(),
        **_without_paths(version.manifest),
        "origin": _without_paths(origin),
        "libraries": made_with,
    }
    partial = directory.with_name(f"{directory.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    for file in files:
        (partial / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(version.directory / file, partial / file)
    card = model_card(name, manifest, front_matter(licence or origin.get("licence"), _base_id(origin)))
    write_text(partial / CARD, card)
    full = {**manifest, "files": {**files, CARD: hashlib.sha256(card.encode()).hexdigest()}}
    write_text(partial / MANIFEST, json.dumps(full, indent=2, default=str) + "\n")
    partial.rename(directory)


def export_to_directory(stages: Stages, version: Version, directory: Path, licence: str | None) -> Outcome:
    """
    Write a version's files where a person wants them.

    Raises: BadInput when something is there, or no folder to write to.
    """
    directory = directory.resolve()
    if directory.is_file() or (directory.is_dir() and any(directory.iterdir())):
        raise BadInput(f"{directory} is there already; name a directory that is new or empty.")
    if not directory.parent.is_dir():
        raise BadInput(
            f"{directory} cannot be written: there is no folder {directory.parent}; make it, or name another."
        )
    try:
        write_version(stages, version, directory, directory.name, licence)
    except OSError as error:
        raise BadInput(f"{directory} cannot be written: {error.strerror}; name one in a folder with room.") from error
    return _exported(version, str(directory))


def export_to_hub(stages: Stages, version: Version, hf_id: str, licence: str | None, *, private: bool) -> Outcome:
    """
    Make a version the content of a model of the Hugging Face Hub.

    Raises: BadInput when the Hub does not take it.
    """
    with TemporaryDirectory(prefix="relevanced-export-") as folder:
        write_version(stages, version, Path(folder) / "model", hf_id, licence)
        message = f"Version {version.version_id} of relevanced"
        address = hub.upload(Path(folder) / "model", hf_id, private=private, message=message)
    return _exported(version, address)


def import_version(stages: Stages, policy: ModelPolicy, licence: str | None) -> Outcome:
    """
    Take a model made elsewhere in as a new version, a candidate; it is looked at as a base model is.

    Args:
        policy: its base is the directory; what is left open, the model says itself.
        licence: as the Hub writes it; None: what the model's own card says.
    Raises: BadInput for a model that cannot be used or is here already, and for files that its manifest does not name.
    """
    history.base_version(stages.database)  # before it there is none to compare with, and `base` says what becomes it
    source = Path(policy.base).expanduser().resolve()  # an absolute path is the name of no preset
    if not source.is_dir():
        raise BadInput(f"{policy.base} is no directory; `hf download ORG/NAME --local-dir DIR` makes one of a model.")
    manifest = _import_manifest(source, licence)
    with stages.models.trying(replace(policy, base=str(source))) as (made, encoder):
        _require_usable(stages.database, source, encoder)
        with stages.database.connection() as connection:
            version_id = history.register_version(connection, None)
            directory = stages.models.place(made, version_id)
            stages.models.write_manifest(directory, manifest)
            history.complete_registered(
                connection, version_id, directory, encoder.fingerprint, encoder.dimension, manifest
            )
    sentence = (
        f"Imported {source} as version {version_id}, a candidate with vectors of {encoder.dimension:,} dimensions;"
        f" `relevanced prepare {version_id}` builds its index."
    )
    numbers = {"version": version_id, "dimension": encoder.dimension, "fingerprint": encoder.fingerprint}
    return Outcome(sentence, numbers)


def _exported(version: Version, where: str) -> Outcome:
    numbers = {"version": version.version_id, "fingerprint": version.fingerprint, "to": where}
    return Outcome(f"Exported version {version.version_id} to {where}.", numbers)


def _base_facts(database: Database, version: Version) -> Mapping[str, Any]:
    """The manifest of the model that a version was trained from in the end, which says where it came from."""
    manifest = version.manifest
    while isinstance(manifest.get("base"), int):
        manifest = history.version(database, manifest["base"]).manifest
    return {name: manifest[name] for name in _ORIGIN if name in manifest}


def _without_paths(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """A manifest for others, whom the folders of this machine do not concern."""
    found = dict(manifest)
    if isinstance(base := found.get("base"), str) and Path(base).expanduser().is_dir():
        found["base"] = Path(base).name
    if "imported" in found:
        found["imported"] = {name: value for name, value in found["imported"].items() if name != "from"}
    return found


def _base_id(origin: Mapping[str, Any]) -> str | None:
    """The id of the base model on the Hub, where it is known: a directory's name would be a dead link there."""
    if "preset" in origin:
        return str(origin["preset"]["hf_id"])
    named = "revision" in origin or ("imported" in origin and "/" in origin["base"])
    return str(origin["base"]) if named else None


def _import_manifest(source: Path, licence: str | None) -> dict[str, Any]:
    """
    Where an import comes from, for the manifest of its version.

    Raises: BadInput when the directory has a manifest of ours, and the files are not those that it names.
    """
    try:
        theirs = json.loads((source / MANIFEST).read_bytes())
        expected = theirs.pop("files")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        theirs, expected = None, None  # it was made by others, who may call a file of their own so
    if expected is not None and (different := _different(expected, hashes(source))):
        raise BadInput(f"{source / different} is not the file that {MANIFEST} names; fetch the directory again.")
    known = origin_of(str(source))
    preset = known.get("preset") or (theirs or {}).get("origin", {}).get("preset")
    licence = licence or known.get("licence")
    imported = {"from": str(source), **({"manifest": theirs} if theirs else {})}
    return {
        "base": stated_in(source, "base_model") or source.name,
        "imported": imported,
        **({"licence": licence} if licence else {}),
        **({"preset": preset} if preset else {}),
    }


def _different(expected: Mapping[str, str], found: Mapping[str, str]) -> str | None:
    """The first file that was changed, added or removed."""
    return next((name for name in sorted({*expected, *found}) if expected.get(name) != found.get(name)), None)


def _require_usable(database: Database, source: Path, encoder: Encoder) -> None:
    """
    See that a model gives vectors that can be indexed, and is none that is here.

    Raises: BadInput when it does not, or is.
    """
    for version in history.versions(database):
        if version.fingerprint == encoder.fingerprint:
            raise BadInput(f"The model in {source} is version {version.version_id} already; nothing was imported.")
    if encoder.dimension > MOST_DIMENSIONS:
        raise BadInput(
            f"The model in {source} gives vectors of {encoder.dimension:,} dimensions; {MOST_DIMENSIONS:,} is the most"
            " that pgvector can index."
        )
    if not np.isfinite(encoder.encode_queries(["a text"])).all():
        raise BadInput(f"The model in {source} gives vectors that are no numbers; its files are broken.")
