"""Sends a result from each Dask worker to each other one, and says between which hosts; runs in a container of theirs.

usage: python - SCHEDULER < across.py
"""

from __future__ import annotations

import socket
import sys

from distributed import Client


def path(*before: str) -> tuple[str, ...]:
    """Host names of the tasks up to this one."""
    return (*before, socket.gethostname())


with Client(sys.argv[1], timeout=30) as client:
    workers = list(client.scheduler_info()["workers"])
    for sender in workers:
        sent = client.submit(path, workers=sender, pure=False)
        for receiver in workers:
            received = client.submit(lambda before: path(*before), sent, workers=receiver, pure=False)
            sys.stdout.write(" ".join(received.result(timeout=30)) + "\n")
