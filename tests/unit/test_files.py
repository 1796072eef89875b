"""A file is read to its end or refused with one sentence, and written whole or not at all."""

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevanced.daemon.errors import BadInput
from relevanced.daemon.files import read_lines, require_folder, whole_file, write_text


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzipped"])
@given(lines=st.lists(st.binary().map(lambda line: line.translate(None, b"\r\n"))))
def test_the_lines_come_back_with_their_numbers(tmp_path_factory, pack, lines):
    file = tmp_path_factory.mktemp("lines") / "file"
    file.write_bytes(pack(b"\n".join([b"first", *lines])))
    expected = [(number, line) for number, line in enumerate([b"first", *lines], start=1) if line.strip()]
    assert list(read_lines(file)) == expected


def test_a_byte_order_mark_belongs_to_no_line(tmp_path):
    (tmp_path / "file").write_bytes(b"\xef\xbb\xbffirst\r\nsecond")
    assert list(read_lines(tmp_path / "file")) == [(1, b"first"), (2, b"second")]


def test_a_file_that_cannot_be_read_is_bad_input(tmp_path):
    (tmp_path / "cut").write_bytes(gzip.compress(b"a\n" * 100_000)[:-20])
    with pytest.raises(BadInput, match=r"cut, after line \d+: the gzip data is broken; "):
        list(read_lines(tmp_path / "cut"))
    with pytest.raises(BadInput, match=r"missing does not exist; "):
        list(read_lines(tmp_path / "missing"))
    with pytest.raises(BadInput, match=r"cannot be read: Is a directory"):
        list(read_lines(tmp_path))


def interrupted_write(file):
    file.write_text("half of the n")
    raise InterruptedError


def test_a_write_that_fails_leaves_the_file_as_it_was(tmp_path):
    file = tmp_path / "note.json"
    write_text(file, "old")
    with pytest.raises(InterruptedError), whole_file(file) as partial:
        interrupted_write(partial)
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_before_long_work_a_file_without_a_place_is_refused(tmp_path):
    require_folder(tmp_path / "page.html")
    with pytest.raises(BadInput, match=r"page\.html cannot be written: there is no folder .*nowhere; make it, or"):
        require_folder(tmp_path / "nowhere" / "page.html")
    with pytest.raises(BadInput, match="is a folder; name a file in it"):
        require_folder(tmp_path)
