"""Prints `NAME ADDRESS` for each of the names that resolves; runs in a container.

usage: python - NAME... < resolve.py
"""

from __future__ import annotations

import socket
import sys

for name in sys.argv[1:]:
    try:
        sys.stdout.write(f"{name} {socket.gethostbyname(name)}\n")
    except OSError:
        continue
