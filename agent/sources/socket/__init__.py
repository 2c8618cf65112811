"""Take events over HTTP, on the loopback interface and on a socket in the file system; answer when they are durable.

`judge` says what each line of a request is, `seals` finds the records of a request in a sealed batch and proves them, `replies`
words the answers, `door` speaks HTTP, `addresses` opens and closes what is listened on, `source` holds the order and the cursor.
"""

from __future__ import annotations

from .settings import SocketSettings
from .source import SocketSource

__all__ = ["SocketSettings", "SocketSource"]
