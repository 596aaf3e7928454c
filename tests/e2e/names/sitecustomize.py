"""Leads names below a domain to one address, in this process alone.

Python imports it at its start where this directory is on PYTHONPATH; then `NAMES_BELOW=<domain>=<address>` says which.
"""

from __future__ import annotations

import os
import socket
from typing import Any


def lead_below(domain: str, address: str) -> None:
    """Let whatever asks `socket.getaddrinfo` (httpx, boto3, aiohttp, websockets) find names below `domain`."""
    resolve = socket.getaddrinfo

    def resolved(host: str | bytes | None, *args: Any, **options: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host or ""
        below = name.rstrip(".").lower().endswith(f".{domain}")
        return resolve(address if below else host, *args, **options)

    socket.getaddrinfo = resolved


if below := os.environ.get("NAMES_BELOW"):
    lead_below(*below.split("=", 1))
