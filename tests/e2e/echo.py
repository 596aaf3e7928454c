"""Stands for every server behind the front door, and tells what each is sent; runs in a container.

Each request is a line of JSON on standard output: port, method, path, headers. On Authelia's port everybody is
somebody called `known`, with no groups.

usage: python - AUTHELIA_PORT PORT... < echo.py
"""

from __future__ import annotations

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

AUTHELIA, *PORTS = map(int, sys.argv[1:])


class Echo(BaseHTTPRequestHandler):
    """Answers 200 to everything."""

    def handle_one_request(self) -> None:
        """Whatever the method is."""
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline or not self.parse_request():
            self.close_connection = True
            return
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        port = self.connection.getsockname()[1]
        seen = {"port": port, "method": self.command, "path": self.path, "headers": self.headers.items()}
        sys.stdout.write(json.dumps(seen) + "\n")
        sys.stdout.flush()
        self.send_response(200)
        if port == AUTHELIA:
            self.send_header("Remote-User", "known")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """The lines of JSON say it."""


for each in (AUTHELIA, *PORTS):
    server = ThreadingHTTPServer(("", each), Echo)
    threading.Thread(target=server.serve_forever).start()
