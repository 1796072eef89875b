"""A small labelled collection in BEIR layout: ten documents in Latin words, asked for in plain ones."""

import json
from pathlib import Path

from relevanced.consumers.documents import read_corpus
from relevanced.daemon.config import load_settings
from relevanced.daemon.documents import load_documents
from relevanced.daemon.first_version import make_first_version
from relevanced.daemon.ports import silent
from relevanced.daemon.wiring import Parts
from tests.tiny import make_tiny_model

ORGANS = {"heart": "cardiac", "liver": "hepatic", "kidney": "renal", "bone": "osseous", "skin": "cutaneous"}


def write_labels(directory: Path) -> Path:
    """Write two documents of each organ, a test query of the first in other words, a train query of the second."""
    documents = [
        {"_id": f"{latin}{number}", "title": f"{latin} disease {number}", "text": ""}
        for latin in ORGANS.values()
        for number in range(2)
    ]
    (directory / "corpus.jsonl").write_text("".join(json.dumps(one) + "\n" for one in documents))
    queries = [{"_id": plain, "text": f"illness of the {plain}"} for plain in ORGANS]
    queries += [{"_id": f"t{number}", "text": f"{latin} disease"} for number, latin in enumerate(ORGANS.values())]
    (directory / "queries.jsonl").write_text("".join(json.dumps(one) + "\n" for one in queries))
    (directory / "qrels").mkdir()
    test = [f"{plain}\t{latin}0\t1\n" for plain, latin in ORGANS.items()]
    train = [f"t{number}\t{latin}1\t1\n" for number, latin in enumerate(ORGANS.values())]
    (directory / "qrels" / "test.tsv").write_text("".join(test))
    (directory / "qrels" / "train.tsv").write_text("".join(train))
    return directory


def add_query(directory: Path, split: str, query_id: str, text: str, document_id: str) -> None:
    """Add one query to a split."""
    with (directory / "queries.jsonl").open("a") as queries, (directory / "qrels" / f"{split}.tsv").open("a") as qrels:
        queries.write(json.dumps({"_id": query_id, "text": text}) + "\n")
        qrels.write(f"{query_id}\t{document_id}\t1\n")


def open_parts(home: Path, directory: Path) -> Parts:
    """Load the documents and make a tiny model the first version, in a state directory of its own."""
    directory.mkdir()
    model = make_tiny_model(directory / "tiny")
    parts = Parts(home, load_settings(None, {"model": {"base": str(model)}}))
    load_documents(parts.database, read_corpus(write_labels(directory) / "corpus.jsonl"), silent)
    make_first_version(parts.stages, parts.settings.model, silent)
    return parts
