"""The program: `python -m metrics PORT URL`; on standard input, the value of the header that opens the API at URL."""

from __future__ import annotations

import sys
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from metrics.prefect import PrefectCollector

SECONDS = 5.0
"""How long Prefect may take to answer one question; Prometheus waits ten for all."""


class Exporter(ThreadingHTTPServer):
    """Answers Prometheus, and a health check meanwhile."""

    daemon_threads = True

    def __init__(self, port: int, api: httpx.Client) -> None:
        super().__init__(("", port), _Handler)
        self.registry = CollectorRegistry()
        self.registry.register(PrefectCollector(api))


class _Handler(BaseHTTPRequestHandler):
    timeout = 10
    server: Exporter

    def do_GET(self) -> None:
        """`/metrics`: 503 while Prefect does not answer, which is a target that is down; `/health`."""
        if self.path == "/health":
            self._answer(HTTPStatus.OK)
        elif self.path == "/metrics":
            try:
                self._answer(HTTPStatus.OK, generate_latest(self.server.registry), CONTENT_TYPE_LATEST)
            except (httpx.HTTPError, ValueError) as error:
                print(f"Prefect does not answer: {error!r}", flush=True)  # noqa: T201
                self._answer(HTTPStatus.SERVICE_UNAVAILABLE)
        else:
            self._answer(HTTPStatus.NOT_FOUND)

    def _answer(self, status: HTTPStatus, body: bytes = b"", kind: str = "text/plain") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        # Who asks may be gone: a health check reads the first line, and Prometheus does not wait for ever.
        with suppress(ConnectionError):
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing of what goes well."""


def main() -> None:
    """Run for ever."""
    _, port, url = sys.argv
    # Prefect is a neighbour, whatever proxy the image's environment names.
    with httpx.Client(
        base_url=url, headers={"Authorization": sys.stdin.read()}, timeout=SECONDS, trust_env=False
    ) as api:
        Exporter(int(port), api).serve_forever()


if __name__ == "__main__":
    main()
