"""
The command `models`: the base models that need no settings.

In:  nothing but the local cache of the Hugging Face Hub. Out: a table, or JSON.
"""

from relevanced.daemon.console import say, say_json, say_table
from relevanced.daemon.hub import cached
from relevanced.daemon.opening import Json
from relevanced.daemon.presets import DEFAULT, PRESETS


def models(as_json: Json = False) -> None:
    """
    List the base models that are known well enough to need no settings; others work too, see docs/models.md.

    A name goes to `base` under [model], before the first documents are loaded. What is not here yet is fetched then.

    Examples:

      relevanced models

      relevanced models --json    with prompts, ids and Matryoshka dimensions
    """
    here = {name: preset.wheel or cached(preset.hf_id) is not None for name, preset in PRESETS.items()}
    if as_json:
        say_json(
            [{**preset.facts(), "default": name == DEFAULT, "here": here[name]} for name, preset in PRESETS.items()]
        )
        return
    say_table(
        ("name", "dimensions", "tokens", "pooling", "licence", "here"),
        [
            (
                name,
                preset.dimension,
                preset.max_tokens,
                preset.pooling,
                preset.licence,
                "yes" if here[name] else "",
            )
            for name, preset in PRESETS.items()
        ],
    )
    say(f"\n{DEFAULT} is the default; `base` under [model] chooses another.")
