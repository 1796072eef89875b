"""
Model cards: the page that lies in a version's directory, with the front matter that the Hugging Face Hub reads.

In:  a version's manifest and what is known of its base model. Out: Markdown; and what the card of another model says.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

CARD: Final = "README.md"
_TAGS: Final = ("sentence-transformers", "feature-extraction", "sentence-similarity", "relevanced")


def front_matter(licence: str | None, base_model: str | None) -> dict[str, Any]:
    """What the Hub files a model under; see https://huggingface.co/docs/hub/model-cards."""
    return {
        **({"license": licence} if licence else {}),
        **({"base_model": base_model} if base_model else {}),
        "library_name": "sentence-transformers",
        "pipeline_tag": "sentence-similarity",
        "tags": list(_TAGS),
    }


def model_card(name: str, manifest: Mapping[str, Any], header: Mapping[str, Any] | None = None) -> str:
    """
    Write the page.

    Args:
        name: by which the model is loaded: its folder, or its id on the Hub.
        header: its front matter; None: it has none.
    """
    rows = "".join(f"| {key} | {json.dumps(value, default=str)} |\n" for key, value in manifest.items())
    turned = (
        "A query's vector is multiplied, as a row, by the matrix in query_adapter.safetensors, and made a unit vector"
        " again; sentence-transformers alone does not do so.\n"
        if "adapter" in manifest
        else ""
    )
    page = (
        f"# {name}\n\nAn embedding model for sentence-transformers, kept by relevanced. Read it with\n"
        f'`SentenceTransformer("{name}")`, queries with `prompt_name="query"`, documents with `"document"`.\n'
        f"manifest.json beside this page has the same and the sha256 of each file.\n{turned}\n| | |\n|---|---|\n{rows}"
    )
    if header is None:
        return page
    # JSON is YAML; the Hub's own writer would ask for a library more.
    lines = "".join(f"{key}: {json.dumps(value, ensure_ascii=False)}\n" for key, value in header.items())
    return f"---\n{lines}---\n\n{page}"


def stated_in(directory: Path, key: str) -> str | None:
    """
    What a model's own card states in its front matter, if it has any.

    Args:
        key: such as license or base_model; one that is stated as a list counts as not stated.
    """
    try:
        page = (directory / CARD).read_text(encoding="utf-8-sig", errors="replace")
    except OSError:
        return None
    header = re.match(r"---\r?\n(.*?)\r?\n---", page, re.DOTALL)
    found = re.search(rf"""^{key}:[ \t]*["']?([\w./-]+)["']?[ \t]*\r?$""", header[1], re.MULTILINE) if header else None
    return found[1] if found else None
