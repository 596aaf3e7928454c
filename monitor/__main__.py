"""The program: `python -m monitor CONFIGURATION`, with secrets on standard input; both are JSON.

The configuration is what `components/alerts.py` writes; secrets are `token` and, where there are such, `webhook` and
`smtp_password`.
"""

from __future__ import annotations

import hmac
import json
import sys
import threading
import time
from collections.abc import Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from monitor.checks import Door, Watch, problems
from monitor.limits import Limits
from monitor.outlets import Alert, Mail, Outlet, Webhook

EVERY_SECONDS = 15
LONGEST_BODY = 100_000
"""Bytes of a notification."""


class Listener(ThreadingHTTPServer):
    """Takes notifications from Prefect, and says whether alerts arrive."""

    daemon_threads = True

    def __init__(self, port: int, token: str, outlets: Sequence[Outlet]) -> None:
        super().__init__(("", port), _Handler)
        self.token, self.outlets = token, outlets


class _Handler(BaseHTTPRequestHandler):
    timeout = 10
    server: Listener

    def do_GET(self) -> None:
        """`/health`: 503 while an alert can't be delivered."""
        failing = any(outlet.failing for outlet in self.server.outlets)
        self._answer(HTTPStatus.SERVICE_UNAVAILABLE if failing else HTTPStatus.OK)

    def do_POST(self) -> None:
        """`{"subject": ..., "body": ...}`, with the token."""
        length = self.headers.get("Content-Length") or "0"
        given = self.headers.get("Authorization") or ""
        if not hmac.compare_digest(given.encode(), f"Bearer {self.server.token}".encode()):
            self._answer(HTTPStatus.UNAUTHORIZED)
            return
        if not length.isdecimal() or int(length) > LONGEST_BODY:
            self._answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            return
        try:
            told = json.loads(self.rfile.read(int(length)))
            alert = Alert(str(told["subject"]), str(told["body"]))
        except (ValueError, KeyError, TypeError):
            self._answer(HTTPStatus.BAD_REQUEST)
            return
        for outlet in self.server.outlets:
            outlet.tell(alert)
        self._answer(HTTPStatus.ACCEPTED)

    def _answer(self, status: HTTPStatus) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing: outlets tell what matters."""


def main() -> None:
    """Run for ever."""
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    told, secrets = json.loads(Path(sys.argv[1]).read_text()), json.load(sys.stdin)
    outlets: list[Outlet] = []
    if webhook := secrets.get("webhook"):
        outlets.append(Outlet("webhook", Webhook(webhook), told["pause_seconds"]))
    if mail := told["mail"]:
        sender = Mail(**mail, password=secrets.get("smtp_password"))
        outlets.append(Outlet("mail", sender, told["pause_seconds"]))
    for outlet in outlets:
        outlet.start()
    listener = Listener(told["port"], secrets["token"], outlets)
    threading.Thread(target=listener.serve_forever, daemon=True).start()
    limits, doors = Limits(**told["limits"]), [Door(**door) for door in told["doors"]]
    watch = Watch(told["patience_seconds"])

    def tell(subject: str, body: str) -> None:
        for outlet in outlets:
            outlet.tell(Alert(f"[{told['stack']}] {subject}", body))

    tell("the monitor has started", "Alerts of this stack come here. What is wrong already is told anew.")
    while True:
        seen = list(problems(limits, told["disks"], told["backup"], doors, told["prefect"]))
        for subject, body in watch.news(seen, time.monotonic()):
            tell(subject, body)
        time.sleep(min(EVERY_SECONDS, told["patience_seconds"]))


if __name__ == "__main__":
    main()
