"""
The model store: one directory for each model version, complete or not there at all.

In:  a base model (adopt), or a directory that training left. Out: encoders of versions whose files are as they were.
A version's directory holds safetensors, the tokenizer and the configuration as sentence-transformers writes them, with
prompts and token limit inside, so that it alone says how to encode; manifest.json has the sha256 of each file. An
adapter's directory holds the same files as the version's that it builds on, and its matrix.
"""

import hashlib
import json
import os
import shutil
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version as installed_version
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Annotated, Any, Final

from annotated_types import Ge, Gt
from safetensors import SafetensorError

from relevanced.daemon.adapted import ADAPTER, AdaptedEncoder, plain, read_matrix, write_matrix
from relevanced.daemon.base_models import BaseModel, base_model
from relevanced.daemon.errors import BadInput, FailStep
from relevanced.daemon.files import write_text
from relevanced.daemon.model_card import CARD, model_card
from relevanced.daemon.ports import Encoder, Vectors
from relevanced.daemon.presets import DEFAULT, PoolingMode

MANIFEST: Final = "manifest.json"
# What a version's bits depend on: how its triplets were mined, and how it was trained.
_LIBRARIES: Final = (
    "relevanced",
    "torch",
    "transformers",
    "sentence-transformers",
    "tokenizers",
    "duckdb",
    "numpy",
    "pyarrow",
    "scipy",
)
_KEPT_OPEN: Final = 3  # live, previous and candidate


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelPolicy:
    """Which model a new home begins with, and how it reads texts."""

    # A preset (`relevanced models` lists them), an id of the Hugging Face Hub such as org/name, or a directory.
    base: str = DEFAULT
    # Of a model that does not say how it pools, having no modules.json; None: as its preset does.
    pooling: PoolingMode | None = None
    max_download_gb: Annotated[float, Gt(0)] = 10.0  # GB of one model that are fetched at most
    # Put before each query, such as "query: " of E5; None: what the model says itself, or else its preset.
    query_prompt: str | None = None
    document_prompt: str | None = None  # put before each document
    # Tokens of a text that are read. None: as the model says; less is faster, and blind to what comes later.
    max_tokens: Annotated[int, Ge(8)] | None = None


class ModelStore:
    """The directory of all versions: v1, v2 and so on."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = Lock()
        self._opened: OrderedDict[Path, Encoder] = OrderedDict()

    def directory(self, version_id: int) -> Path:
        return self._directory / f"v{version_id}"

    def adopt(self, policy: ModelPolicy, version_id: int) -> Path:
        """
        Take over a base model as the directory of a new version; what a killed attempt has left is replaced.

        Raises: BadInput for a model that cannot be used, or that could bring code along.
        """
        partial = self._directory / f"v{version_id}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        _take_over(policy, partial)
        return self.place(partial, version_id)

    def adopt_adapter(self, source: Path, matrix: Vectors, version_id: int) -> Path:
        """
        Make the directory of a new version out of another's files and a matrix that its queries are multiplied by.

        The files are shared by hard links where the file system has them: nothing ever writes into one of them.

        Args:
            source: of a version; a matrix of its own is left behind.
            matrix: float32 (dimension, dimension); see adapter.
        Raises: FailStep when the files of the source are not as they were.
        """
        partial = self._directory / f"v{version_id}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        for name in self.check(source):
            if name not in (CARD, ADAPTER):
                (partial / name).parent.mkdir(parents=True, exist_ok=True)
                _share(source / name, partial / name)
        write_matrix(partial / ADAPTER, matrix)
        return self.place(partial, version_id)

    def write_manifest(self, directory: Path, manifest: Mapping[str, Any]) -> None:
        """Note where the version comes from, and the sha256 of each file; this makes the directory a version."""
        self._forget(directory)
        libraries = libraries_here()
        write_text(directory / CARD, model_card(directory.name, manifest))
        full = {**manifest, "libraries": libraries, "files": hashes(directory)}
        write_text(directory / MANIFEST, json.dumps(full, indent=2, default=str) + "\n")

    def check(self, directory: Path) -> Mapping[str, str]:
        """
        Compare each file with the manifest.

        Returns: path inside the directory -> sha256.
        Raises: FailStep when a file was changed, added or removed, or when there is no manifest.
        """
        if not directory.exists():
            raise FailStep(f"{directory} is not there; the model was dropped, or its files lie elsewhere.")
        try:
            expected: dict[str, str] = json.loads((directory / MANIFEST).read_bytes())["files"]
            found = hashes(directory)
        except (OSError, ValueError, KeyError) as error:
            raise FailStep(f"{directory} is no complete model version; {MANIFEST} cannot be read.") from error
        different = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
        if different:
            remedy = "restore it from a backup, or promote another version"
            raise FailStep(f"{directory / different[0]} is not the file that {MANIFEST} names; {remedy}.")
        return found

    def open(self, directory: Path) -> Encoder:
        """
        Load a version's encoder after a check of its files, or return the one that is loaded.

        Raises: FailStep when the files are not as they were.
        """
        with self._lock:
            if directory not in self._opened:
                from relevanced.daemon.encoder import TransformerEncoder  # here, as in _take_over

                hashes = self.check(directory)
                model = _fingerprint({name: digest for name, digest in hashes.items() if name != ADAPTER})
                encoder = self._same_model(model) or TransformerEncoder.load(directory, model)
                if ADAPTER in hashes:
                    matrix = read_matrix(directory / ADAPTER, encoder.dimension)
                    encoder = AdaptedEncoder(encoder, matrix, _fingerprint(hashes))
                self._opened[directory] = encoder
            self._opened.move_to_end(directory)
            while len(self._opened) > _KEPT_OPEN:
                self._opened.popitem(last=False)
            return self._opened[directory]

    def open_base(self, policy: ModelPolicy) -> Encoder:
        """
        Load a base model as the version that adopt would make of it, and keep no file of it.

        It is written and read once more, in the folder for temporary files (TMPDIR), so that it has the fingerprint of
        a version that was made of the same model.

        Raises: BadInput, as adopt.
        """
        with TemporaryDirectory(prefix="relevanced-model-") as folder:
            return _try_out(policy, Path(folder) / "model")

    @contextmanager
    def trying(self, policy: ModelPolicy) -> Iterator[tuple[Path, Encoder]]:
        """
        Give a base model as open_base does, and its directory until the block ends, for `place` to take.

        Raises: BadInput, as adopt.
        """
        self._directory.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix="trying-", dir=self._directory) as folder:
            directory = Path(folder) / "model"
            yield directory, _try_out(policy, directory)

    def place(self, directory: Path, version_id: int) -> Path:
        """Make a directory that of a new version; what a killed attempt has left is replaced."""
        shutil.rmtree(self.directory(version_id), ignore_errors=True)
        return directory.rename(self.directory(version_id))

    def remove(self, version_id: int) -> None:
        """Delete the directory of a version; what a killed attempt has left of it goes too."""
        self._forget(self.directory(version_id))
        shutil.rmtree(self.directory(version_id), ignore_errors=True)

    def _same_model(self, fingerprint: str) -> Encoder | None:
        """Give the encoder of the same model without an adapter, if it is loaded; its weights need no memory twice."""
        loaded = map(plain, self._opened.values())
        return next((encoder for encoder in loaded if encoder.fingerprint == fingerprint), None)

    def _forget(self, directory: Path) -> None:
        with self._lock:
            self._opened.pop(directory, None)


def libraries_here() -> dict[str, str]:
    """Give the installed versions of what a version's bits depend on."""
    return {name: installed_version(name) for name in _LIBRARIES}


def _try_out(policy: ModelPolicy, directory: Path) -> Encoder:
    """Write a base model to this directory, and read it there."""
    _take_over(policy, directory)
    from relevanced.daemon.encoder import TransformerEncoder  # here, as in _take_over

    return TransformerEncoder.load(directory, _fingerprint(hashes(directory)))


def _take_over(policy: ModelPolicy, directory: Path) -> None:
    """
    Write a base model, with the prompts and the limit of the policy, as a directory that alone says how to encode.

    Raises: BadInput for a model that cannot be used, or that could bring code along.
    """
    from relevanced.daemon.encoder import load_model  # here, since light commands shall not wait for torch

    with base_model(policy.base, policy.pooling, policy.max_download_gb) as found:
        try:
            model = load_model(found.directory)
            _complete(model, found, policy)
            directory.mkdir(parents=True)
            model.save(str(directory), create_model_card=False)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError, SafetensorError) as error:
            reason = str(error).splitlines()[0]
            raise BadInput(f"The model in {found.source} cannot be taken over: {reason}") from error


def _share(source: Path, target: Path) -> None:
    """Let a file have a second name, or copy it where it cannot."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _complete(model: Any, found: BaseModel, policy: ModelPolicy) -> None:
    """
    Put to a model the prompts and the limit: those that are set, else its own, else its preset's.

    Raises: BadInput for a limit that does not fit, and for a model that only bears the name of a preset.
    """
    preset = found.preset
    dimension = model.get_embedding_dimension()
    if preset is not None and dimension != preset.dimension:
        raise BadInput(
            f"{found.source} is not {preset.name}: its vectors have {dimension:,} dimensions, not {preset.dimension:,}."
            " Give its directory another name."
        )
    given = {"query": policy.query_prompt, "document": policy.document_prompt}
    known = {"query": preset.query_prompt, "document": preset.document_prompt} if preset else {}
    for kind, prompt in given.items():
        model.prompts[kind] = prompt if prompt is not None else model.prompts.get(kind) or known.get(kind, "")
    model.max_seq_length = _max_tokens(policy, model)


def _max_tokens(policy: ModelPolicy, model: Any) -> int:
    positions = getattr(model.config, "max_position_embeddings", None)
    if policy.max_tokens is not None and positions is not None and policy.max_tokens > positions:
        raise BadInput(
            f"[model] max_tokens: {policy.max_tokens} is more than the {positions} that {policy.base} reads."
        )
    limit = policy.max_tokens or model.max_seq_length
    if limit is None or limit > (positions or 1_000_000):  # tokenizers without a limit write a huge number
        raise BadInput(f"[model] max_tokens: {policy.base} does not say how much it reads; set a number, such as 512.")
    return int(limit)


def _fingerprint(hashes: Mapping[str, str]) -> str:
    """
    Name the vector space: all that is in a version's directory shapes its vectors, but for manifest and model card.

    Returns: 64 hexadecimal digits, the same wherever the same files lie.
    """
    shaping = sorted((name, digest) for name, digest in hashes.items() if name != CARD)
    return hashlib.sha256(json.dumps(shaping).encode()).hexdigest()


def hashes(directory: Path) -> dict[str, str]:
    """Give the sha256 of each file of a version's directory, by its path in it; the manifest itself has none."""
    return {str(file.relative_to(directory)): _sha256(file) for file in _files(directory) if file.name != MANIFEST}


def _files(directory: Path) -> Iterator[Path]:
    # What a killed write has left half done belongs to no version.
    return (path for path in sorted(directory.rglob("*")) if path.is_file() and path.suffix != ".partial")


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
