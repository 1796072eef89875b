"""
What mining was given beside the log, kept so that the same snapshot can be mined again.

In:  policies, the models' runs, the documents' texts, and what is held out beside the hash. Out: mined_with/ in the
directory of a cycle, written by mining and read by reproduction. Indexes and documents go on changing, and so does what
experts say; the texts here are those of the triplets' documents, and of the others there is the key of the text alone.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import TypeAdapter, ValidationError

from relevanced.daemon.errors import BadInput
from relevanced.daemon.files import whole_file, write_text
from relevanced.daemon.judging import MiningPolicies

FOLDER: Final = "mined_with"
_SETTINGS: Final = "settings.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class MinedWith:
    """All of it."""

    live_version_id: int  # whose run near misses are taken from
    policies: MiningPolicies
    golden: frozenset[bytes]  # cluster_hashes, as is retired; see holdout.split
    retired: frozenset[bytes]
    live_run: pa.Table  # RUN
    ranks: pa.Table  # RANKS
    text_keys: Mapping[str, str]  # document_id -> key of its text
    texts: Mapping[str, str]  # document_id -> its text


def write_mined_with(files: Path, given: MinedWith) -> None:
    """Keep it in the directory of a cycle."""
    folder = files / FOLDER
    folder.mkdir(exist_ok=True)
    names = sorted({*given.text_keys, *given.texts})
    columns = {
        "document_id": names,
        "text_key": [given.text_keys.get(name) for name in names],
        "text": [given.texts.get(name) for name in names],
    }
    documents = pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})
    for name, table in (("live_run", given.live_run), ("ranks", given.ranks), ("documents", documents)):
        with whole_file(folder / f"{name}.parquet") as partial:
            pq.write_table(table, partial)
    settings = {
        "live_version": given.live_version_id,
        **asdict(given.policies),
        "golden": sorted(one.hex() for one in given.golden),
        "retired": sorted(one.hex() for one in given.retired),
    }
    write_text(folder / _SETTINGS, json.dumps(settings, indent=2) + "\n")


def settings_mined_with(files: Path) -> dict[str, Any] | None:
    """Give the live version and the policies, for the manifest; None where an older release has mined."""
    try:
        settings: dict[str, Any] = json.loads((files / FOLDER / _SETTINGS).read_bytes())
    except FileNotFoundError:
        return None
    return {name: value for name, value in settings.items() if name not in ("golden", "retired")}


def read_mined_with(files: Path, settings: Mapping[str, Any]) -> MinedWith:
    """
    Read it again.

    Args:
        settings: as the manifest of the version has them.
    Raises: BadInput when a file is gone or broken, or the settings are those of another release.
    """
    folder = files / FOLDER
    try:
        policies = TypeAdapter(MiningPolicies).validate_python(settings)
        sides = json.loads((folder / _SETTINGS).read_bytes())
        documents = pq.read_table(folder / "documents.parquet").to_pylist()
        return MinedWith(
            live_version_id=settings["live_version"],
            policies=policies,
            golden=frozenset(map(bytes.fromhex, sides["golden"])),
            retired=frozenset(map(bytes.fromhex, sides["retired"])),
            live_run=pq.read_table(folder / "live_run.parquet"),
            ranks=pq.read_table(folder / "ranks.parquet"),
            text_keys={row["document_id"]: row["text_key"] for row in documents if row["text_key"] is not None},
            texts={row["document_id"]: row["text"] for row in documents if row["text"] is not None},
        )
    except ValidationError as error:
        reason = error.errors()[0]
        raise BadInput(
            f"The settings that the triplets were mined with are of another release: {reason['loc']}: {reason['msg']}."
        ) from None
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise BadInput(f"What the triplets were mined with is not whole in {folder}: {error}.") from error
