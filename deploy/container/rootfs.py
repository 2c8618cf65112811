# ruff: noqa: INP001  a command, not a package
"""Lay out the smallest root that runs an installed Python environment, in a folder: what a container image from scratch needs.

Purpose: an image without a shell, package tools or anything else that the agent does not use. Runs while the image is built, in the
base image, as root and with the base's own Python; uses nothing but the standard library and ``ld.so``.

What is carried over: the interpreter and its standard library (without what installs, draws or tests), the environment, every shared
library that a program or extension module of these names (asked of the dynamic loader), certificates of authorities, and of each Debian
package that a carried file belongs to its licence and its entry for scanners (``/var/lib/dpkg/status.d``).

Invariants: everything keeps its absolute path; a library that is not found ends the build; all Python is compiled, by content instead
of by time; every file has the time ``SOURCE_DATE_EPOCH``.
"""

from __future__ import annotations

import argparse
import compileall
import functools
import os
import py_compile
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

LEFT_OUT: Final = {
    "__pycache__", "dist-packages", "distutils", "ensurepip", "idlelib", "lib2to3", "pydoc_data", "site-packages", "test", "tkinter",
    "turtledemo", "venv",
}  # fmt: skip
"""Folders of the standard library that no agent loads."""

EXTENSIONS_LEFT_OUT: Final = re.compile(r"(_tkinter|_test\w*|_xx\w+|xx\w+|_ctypes_test|nis|ossaudiodev)\.")
"""Extension modules of the same kind: those for tests and graphics name libraries that nothing else needs."""

LOADED_LATE: Final = "libgcc_s.so.1"
"""What the C library loads only when a thread ends early, and aborts without."""

CERTIFICATES: Final = Path("/etc/ssl/certs/ca-certificates.crt")
FOLDERS: Final = {"dev": 0o755, "etc/trailseal": 0o755, "proc": 0o755, "run": 0o755, "sys": 0o755, "tmp": 0o1777, "var/lib": 0o755}
LINKED_TO_USR: Final = ("bin", "lib", "lib64", "sbin")


class Root:
    """Carry files into the folder, each to its own absolute path.

    Attributes:
        folder: The folder.
        files: The real path of every file carried so far.
    """

    def __init__(self, folder: Path) -> None:
        """Begin with an empty root that has the links of a merged ``/usr``."""
        self.folder = folder
        self.files: set[Path] = set()
        folder.mkdir(parents=True)
        for name in LINKED_TO_USR:
            if Path("/", name).is_symlink():
                (folder / name).symlink_to(Path("/", name).readlink())

    def inside(self, path: Path) -> Path:
        """Return where an absolute path lies in the folder."""
        return self.folder / path.relative_to("/")

    def carry(self, path: Path) -> None:
        """Carry one file or link, and what the link leads to."""
        real = path.parent.resolve() / path.name
        if real in self.files:
            return
        self.files.add(real)
        target = self.inside(real)
        target.parent.mkdir(parents=True, exist_ok=True)
        if real.is_symlink():
            target.symlink_to(real.readlink())
            self.carry(real.parent / real.readlink())
        else:
            shutil.copy2(real, target)

    def write(self, path: str, text: str) -> None:
        """Write a file of our own."""
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")


def standard_library() -> Iterator[Path]:
    """Yield the files of the standard library that are carried."""
    top = Path(sysconfig.get_path("stdlib"))
    for folder, names, files in os.walk(top):
        names[:] = sorted(name for name in names if name not in LEFT_OUT and not name.startswith("config-"))
        for name in sorted(files):
            if name != "turtle.py" and not (folder.endswith("lib-dynload") and EXTENSIONS_LEFT_OUT.match(name)):
                yield Path(folder, name)


def environment_files(environment: Path) -> Iterator[Path]:
    """Yield the environment's files: its packages, its interpreter's links and our command; not what activates it in a shell."""
    yield environment / "pyvenv.cfg"
    yield from (each for each in sorted((environment / "bin").iterdir()) if each.name == "trailseal" or each.is_symlink())
    for folder, names, files in os.walk(environment / "lib"):
        names[:] = sorted(name for name in names if name != "__pycache__")
        yield from (Path(folder, name) for name in sorted(files))


def shared_libraries(files: Iterable[Path]) -> set[Path]:
    """Return every shared library that these programs and modules name, and the loader itself.

    Raises:
        SystemExit: A library is not there.
    """
    named: set[Path] = set()
    for file in files:
        with file.open("rb") as opened:
            if opened.read(4) != b"\x7fELF":
                continue
        listed = subprocess.run(["/usr/bin/ldd", str(file)], capture_output=True, text=True, check=False).stdout
        if "not found" in listed:
            sys.exit(f"rootfs.py: {file} needs what is not there:\n{listed}")
        named.update(Path(found) for found in re.findall(r"(/\S+) \(0x[0-9a-f]+\)", listed))
    return named | {path.with_name(LOADED_LATE) for path in named if path.name.startswith("libc.so.")}


def debian_packages(files: set[Path]) -> list[str]:
    """Return the names of the installed Debian packages that any of these files belongs to."""
    real_folder = functools.cache(lambda folder: Path(folder).resolve())
    owners = set()
    for listing in Path("/var/lib/dpkg/info").glob("*.list"):
        for line in listing.read_text(encoding="utf-8").splitlines():
            folder, _, name = line.rpartition("/")
            if name and real_folder(folder or "/") / name in files:
                owners.add(listing.name.removesuffix(".list").partition(":")[0])
                break
    return sorted(owners)


def note_packages(root: Root, names: list[str]) -> None:
    """Write each package's entry where scanners of images look for it, and carry its licence."""
    entries = Path("/var/lib/dpkg/status").read_text(encoding="utf-8").strip().split("\n\n")
    by_name = {entry.partition("\n")[0].removeprefix("Package: "): entry for entry in entries}
    for name in names:
        root.write(f"var/lib/dpkg/status.d/{name}", f"{by_name[name]}\n")
        licence = Path("/usr/share/doc", name, "copyright")
        if licence.exists():
            root.carry(licence)


def compile_python(root: Root, folders: Iterable[Path]) -> None:
    """Compile all of it, so that a start costs no compiling and needs no place to write to.

    The compiled files name the content of their source instead of its time, and are believed without a look at it.
    """
    for folder in folders:
        done = compileall.compile_dir(
            root.inside(folder), maxlevels=50, quiet=1, workers=os.cpu_count() or 1, stripdir=str(root.folder), prependdir="/",
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )  # fmt: skip
        if not done:
            sys.exit(f"rootfs.py: not everything below {folder} could be compiled")


def set_times(top: Path) -> None:
    """Give everything the time that builds agree on."""
    when = int(os.environ.get("SOURCE_DATE_EPOCH", "1580601600"))
    for folder, _, files in os.walk(top, topdown=False):
        for path in [*(Path(folder, name) for name in files), Path(folder)]:
            os.utime(path, (when, when), follow_symlinks=False)


def main() -> None:
    """Lay out the root and the state directory."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("root", type=Path, help="the folder to lay out the root in; must not exist")
    parser.add_argument("--environment", type=Path, required=True, help="the installed environment")
    parser.add_argument("--state", type=Path, required=True, help="the folder to make for the agent's state")
    parser.add_argument("--user", type=int, required=True, help="the number of the user, and of its group, that the agent runs as")
    options = parser.parse_args()

    root = Root(options.root)
    environment: Path = options.environment
    for path in [*standard_library(), *environment_files(environment)]:
        root.carry(path)
    for path in sorted(shared_libraries(sorted(path for path in root.files if not path.is_symlink()))):
        root.carry(path)
    for path in (CERTIFICATES, Path("/etc/os-release"), *sorted(Path("/etc/ld.so.conf.d").iterdir()), Path("/etc/ld.so.conf")):
        root.carry(path)
    for name, mode in FOLDERS.items():
        (root.folder / name).mkdir(parents=True, exist_ok=True)
        (root.folder / name).chmod(mode)
    home = "/var/lib/trailseal"
    root.write("etc/passwd", f"root:x:0:0:root:/:/nonexistent\ntrailseal:x:{options.user}:{options.user}:Trailseal:{home}:/nonexistent\n")
    root.write("etc/group", f"root:x:0:\ntrailseal:x:{options.user}:\n")
    root.write("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\nservices: files\n")
    note_packages(root, [*dict.fromkeys([*debian_packages(root.files), "ca-certificates"])])
    subprocess.run(["/sbin/ldconfig", "-X", "-r", str(root.folder)], check=True)
    shutil.rmtree(root.folder / "var/cache", ignore_errors=True)
    compile_python(root, [Path(sysconfig.get_path("stdlib")), environment / "lib"])
    options.state.mkdir(parents=True)
    options.state.chmod(0o700)
    set_times(root.folder)
    set_times(options.state.parent)


if __name__ == "__main__":
    main()
