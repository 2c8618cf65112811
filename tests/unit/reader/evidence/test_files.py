"""Files that are written for a person, and zip files that come from one."""

from __future__ import annotations

import csv
import io
import stat
import zipfile

import pytest

from agent.errors import ConfigError, FormatError
from agent.reader.evidence.packing import csv_line, entry
from agent.reader.evidence.packzip import PackFile
from agent.reader.writing import new_file, read_file, write_file
from tests.unit.reader.ask.test_spreadsheet import FORMULAS


def test_a_file_appears_whole_and_for_its_owner_only(tmp_path):
    write_file(tmp_path / "x", b"abc", force=False)
    assert (tmp_path / "x").read_bytes() == b"abc"
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_writing_that_fails_leaves_nothing(tmp_path):
    def fail():
        with new_file(tmp_path / "x", force=False) as file:
            file.write(b"half")
            raise FormatError("no more")

    with pytest.raises(FormatError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_link_that_leads_nowhere_counts_as_there(tmp_path):
    (tmp_path / "x").symlink_to(tmp_path / "none")
    with pytest.raises(ConfigError, match="there already"):
        write_file(tmp_path / "x", b"", force=False)
    write_file(tmp_path / "x", b"new", force=True)
    assert not (tmp_path / "x").is_symlink()
    assert not (tmp_path / "none").exists()


def test_a_folder_that_is_not_there_is_said_to_be_so(tmp_path):
    with pytest.raises(ConfigError, match="cannot write there"):
        write_file(tmp_path / "none" / "x", b"", force=False)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_file(tmp_path / "none", 10)
    (tmp_path / "long").write_bytes(b"x" * 11)
    with pytest.raises(ConfigError, match="more than 10 bytes"):
        read_file(tmp_path / "long", 10)


def made(path, **entries):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, raw in entries.items():
            archive.writestr(entry(name), raw)
    return path


def test_an_entry_is_never_read_beyond_its_limit(tmp_path):
    with PackFile(made(tmp_path / "x.zip", bomb=b"0" * 50_000_000)) as pack:
        with pytest.raises(FormatError, match="more than 100 bytes"):
            pack.read("bomb", 100)
        with pytest.raises(FormatError, match="whole line"):
            list(pack.lines("bomb", 100))
        with pytest.raises(FormatError, match="is missing"):
            pack.read("none", 100)


def test_an_encrypted_entry_is_one_that_cannot_be_read(tmp_path):
    path = made(tmp_path / "x.zip", x=b"abc")
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"PK\x03\x04") + 6] |= 1
    raw[raw.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(raw)
    with PackFile(path) as pack, pytest.raises(FormatError, match="cannot be read"):
        pack.read("x", 100)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.parametrize("whole", [True, False])
def test_what_is_compressed_as_no_pack_is_cannot_be_read(tmp_path, method, whole):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("x", b"abc\n" * 1000)
    if not whole:
        raw = bytearray(path.read_bytes())
        raw[40:50] = b"\xff" * 10
        path.write_bytes(raw)
    with PackFile(path) as pack:
        for reading in (lambda: pack.read("x", 10_000), lambda: pack.hash("x"), lambda: list(pack.lines("x", 100))):
            with pytest.raises(FormatError, match=f"by method {method}, which no pack uses"):
                reading()


def with_stated_sizes(path, size):
    """Let a zip say that each entry has so many bytes, unpacked."""
    raw = bytearray(path.read_bytes())
    at = -1
    while (at := raw.find(b"PK\x01\x02", at + 1)) >= 0:
        raw[at + 24 : at + 28] = size.to_bytes(4, "little")
    path.write_bytes(raw)
    return path


def test_many_entries_that_unpack_to_too_much_are_refused_before_any_is_read(tmp_path):
    path = made(tmp_path / "x.zip", **{f"e{number}": b"0" for number in range(100)})
    with pytest.raises(ConfigError, match="unpacked it has 50,000,000,000 bytes, more than any pack"):
        PackFile(with_stated_sizes(path, 500_000_000))
    with PackFile(with_stated_sizes(path, 40_000_000)) as pack:
        assert sum(pack.sizes.values()) == 4_000_000_000


def test_an_entry_is_never_read_beyond_the_size_it_states(tmp_path):
    path = with_stated_sizes(made(tmp_path / "x.zip", bomb=b"0" * 50_000_000), 10)
    with PackFile(path) as pack:
        with pytest.raises(FormatError, match="cannot be read"):
            pack.hash("bomb")
        with pytest.raises(FormatError, match="cannot be read"):
            pack.read("bomb", 100)


def test_a_list_of_entries_that_is_too_long_is_not_read(tmp_path):
    path = made(tmp_path / "x.zip", x=b"abc")
    raw = bytearray(path.read_bytes())
    begins, ends = raw.index(b"PK\x01\x02"), raw.index(b"PK\x05\x06")
    long = 49 << 20
    raw[ends + 12 : ends + 16] = long.to_bytes(4, "little")
    with path.open("wb") as file:
        file.write(raw[:begins])
        file.write(raw[begins:ends])
        file.truncate(begins + long)
        file.seek(begins + long)
        file.write(raw[ends:])
    with pytest.raises(ConfigError, match="a list of entries that has 51,380,224 bytes is none of a pack"):
        PackFile(path)


def test_too_many_entries_are_refused(tmp_path, monkeypatch):
    path = made(tmp_path / "x.zip", a=b"", b=b"", c=b"")
    monkeypatch.setattr("agent.reader.evidence.packzip.MAX_ENTRIES", 2)
    with pytest.raises(ConfigError, match="3 entries, more than any pack"):
        PackFile(path)


@pytest.mark.parametrize("formula", FORMULAS)
def test_cells_that_are_formulas_are_made_text(formula):
    (row,) = csv.reader(io.StringIO(csv_line([formula, "x"]), newline=""))
    assert row == [f"'{formula}", "x"]


def test_other_cells_are_what_they_were():
    assert csv_line(["a=b", "", None, 5, 'a,b"c\nd', {"k": "v"}]) == 'a=b,,,5,"a,b""c\nd","{""k"": ""v""}"\r\n'
