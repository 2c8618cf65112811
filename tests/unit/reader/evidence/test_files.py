"""Files that are written for a person, and zip files that come from one."""

from __future__ import annotations

import stat
import zipfile

import pytest

from agent.errors import ConfigError, FormatError
from agent.reader.evidence.packing import csv_line, entry, folder_of
from agent.reader.evidence.packzip import PackFile
from agent.reader.writing import new_file, read_file, write_file


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


def test_cells_that_are_formulas_are_made_text():
    line = csv_line(["=1+1", "+1", "-1", "@x", "\tx", "\rx", "a=b", "", None, 5, 'a,b"c\nd', {"k": "v"}])
    assert line == '\'=1+1,\'+1,\'-1,\'@x,\'\tx,"\'\rx",a=b,,,5,"a,b""c\nd","{""k"": ""v""}"\r\n'


def test_origins_that_would_share_a_folder_do_not():
    assert folder_of("a/b/c/d") == "a.b.c.d"
    assert folder_of("a.b/c/d/e", {"a.b.c.d.e"}) == "a.b.c.d.e-2"
