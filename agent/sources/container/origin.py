"""Read from a log file's names which container wrote it.

The kubelet names files (Kubernetes, pkg/kubelet/kuberuntime, ``BuildContainerLogsDirectory`` and ``LegacyLogSymlink``)

    /var/log/pods/<namespace>_<pod>_<uid>/<container>/<restart count>.log
    /var/log/containers/<pod>_<namespace>_<container>-<container id>.log      a symbolic link to it

and Docker ``<root>/containers/<id>/<id>-json.log``, to which either may lead. No part holds an underscore, so a name is read in one
way only; one that has another form says nothing.

Invariants: a name is looked at, never believed to be complete: what it does not say is left out. This module must not open files.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from ..file import discover

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..file.discover import Scan

_PODS: Final = re.compile(r"/(?P<namespace>[^/_]+)_(?P<pod>[^/_]+)_(?P<uid>[^/_]+)/(?P<container>[^/_]+)/(?P<restart_count>\d{1,9})\.log")
_LINK: Final = re.compile(r"/(?P<pod>[^/_]+)_(?P<namespace>[^/_]+)_(?P<container>[^/_]+)-(?P<id>[0-9a-f]{64})\.log")
_DOCKER: Final = re.compile(r"/(?P<id>[0-9a-f]{64})/(?P=id)-json\.log")
_ORDER: Final = ("namespace", "pod", "uid", "container", "restart_count", "id")
_MOST_LINKS: Final = 16


def read_names(names: Iterable[str]) -> dict[str, str | int]:
    """Return what a file's names say about its container, in the order of the trail format.

    Returns:
        Any of ``namespace``, ``pod``, ``uid``, ``container``, ``restart_count`` (a number) and ``id``.
    """
    said: dict[str, str] = {}
    for name in names:
        for form in (_PODS, _LINK, _DOCKER):
            found = form.search(name)
            if found is not None and found.end() == len(name):
                said |= found.groupdict()
    return {key: int(said[key]) if key == "restart_count" else said[key] for key in _ORDER if key in said}


def chain(path: str) -> list[str]:
    """Return a name and every further one that its symbolic links lead through, the real one last."""
    names = [path]
    while len(names) < _MOST_LINKS:
        try:
            target = os.readlink(names[-1])  # noqa: PTH115 -- thousands of names a scan; a Path object each would double its cost
        except OSError:
            break
        names.append(os.path.normpath(os.path.join(os.path.dirname(names[-1]), target)))  # noqa: PTH118, PTH120 -- as above
    real = os.path.realpath(path)
    return names if names[-1] == real else [*names, real]


@dataclass(slots=True)
class Origins:
    """Know under which names each log file was found.

    Files are known by the name that is no symbolic link, because rotation happens beside it.
    """

    names: dict[str, list[str]] = field(default_factory=dict)

    def scan(self, patterns: Iterable[str]) -> Scan:
        """Look for the files that patterns name, and return them under their real names."""
        found = discover.scan(patterns)
        result = discover.Scan()
        seen: dict[str, list[str]] = {}
        for path, one in found.by_path.items():
            links = chain(path)
            known = seen.setdefault(links[-1], [])
            known += [name for name in links if name not in known]
            if links[-1] not in result.by_path:
                real = discover.Found(links[-1], one.key, one.size, one.modified_ns)
                result.by_path[real.path] = real
                result.names.setdefault(real.key, []).append(real.path)
        # A pod's links go before its last line is read, so what was learnt stays while the file is there.
        self.names = {real: names + [old for old in self.names.get(real, ()) if old not in names] for real, names in seen.items()} | {
            real: names for real, names in self.names.items() if real not in seen
        }
        while len(self.names) > max(_REMEMBERED, len(seen)):
            self.names.pop(next(real for real in self.names if real not in seen))
        for names in result.names.values():
            names.sort()
        return result

    def of(self, path: str) -> dict[str, str | int]:
        """Return what is known of the container whose log has, or had, this real name."""
        return read_names([path, *self.names.get(path, ())])


_REMEMBERED: Final = 4096
