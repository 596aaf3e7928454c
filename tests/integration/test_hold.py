"""The gateway of the images, in front of a server that comes and goes."""

from __future__ import annotations

import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import anyio
import httpx
import pytest
from prefect.client.orchestration import get_client
from prefect.events import Event, Resource
from prefect.events.clients import PrefectEventsClient
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from tests.integration.ports import free_port
from tests.integration.prefect_server import AUTH, RunningPrefect

HOLD = Path(__file__).parents[2] / "images" / "prefect" / "hold"
AWAY_SECONDS = 3.0


@contextmanager
def gateway(to: int) -> Iterator[int]:
    """Run one that leads to a port of loopback; its own."""
    port = free_port()
    with subprocess.Popen([sys.executable, HOLD, str(port), f"127.0.0.1:{to}"]) as process:
        try:
            end = time.monotonic() + 10
            while not _listens(port):
                assert time.monotonic() < end
                time.sleep(0.05)
            yield port
        finally:
            process.terminate()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Answering(BaseHTTPRequestHandler):
    """Answers with a megabyte; ends without an answer where it is asked for `/broken`."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/broken":
            self.close_connection = True
            return
        self.send_response(200)
        self.send_header("Content-Length", str(1 << 20))
        self.end_headers()
        self.wfile.write(bytes(1 << 20))

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@contextmanager
def answering(port: int) -> Iterator[None]:
    with ThreadingHTTPServer(("127.0.0.1", port), Answering) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


def after(seconds: float, what: Callable[[], object]) -> threading.Thread:
    def wait() -> None:
        time.sleep(seconds)
        what()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def test_connections_wait_for_a_server_that_is_away() -> None:
    port, ends = free_port(), threading.Event()

    def serve() -> None:
        with answering(port):
            ends.wait(30)

    with gateway(port) as own:
        begin = time.monotonic()
        coming = after(AWAY_SECONDS, serve)
        try:
            with httpx.Client(trust_env=False, timeout=30) as client:
                assert len(client.get(f"http://127.0.0.1:{own}/").content) == 1 << 20
                assert AWAY_SECONDS < time.monotonic() - begin < AWAY_SECONDS + 2
                # On the same connection, too.
                assert client.get(f"http://127.0.0.1:{own}/").status_code == 200
        finally:
            ends.set()
            coming.join()


def test_a_connection_that_breaks_is_closed() -> None:
    port = free_port()
    with answering(port), gateway(port) as own, pytest.raises(httpx.RemoteProtocolError):
        httpx.get(f"http://127.0.0.1:{own}/broken", timeout=10, trust_env=False)


def test_a_client_that_goes_is_forgotten() -> None:
    """Those who wait after it are served none the less."""
    port = free_port()
    with gateway(port) as own:
        for _ in range(50):
            with socket.create_connection(("127.0.0.1", own), 10) as gone:
                gone.sendall(b"GET / HTTP/1.1\r\n\r\n")
        with answering(port):
            assert httpx.get(f"http://127.0.0.1:{own}/", timeout=10, trust_env=False).status_code == 200


def test_a_new_client_of_prefect_waits_and_its_events_arrive(prefect_server: RunningPrefect) -> None:
    """Over HTTP and over a websocket, both of which the gateway never heard of."""
    there = httpx.URL(prefect_server.connection["url"]).port
    assert there
    mark = f"hold.{secrets.token_hex(4)}"

    async def talk() -> None:
        async with get_client() as client:
            assert await client.read_work_pools() is not None
        async with PrefectEventsClient() as events:
            await events.emit(Event(event=mark, resource=Resource({"prefect.resource.id": mark})))
            await events._force_checkpoint()

    with gateway(there) as own:
        url = f"http://127.0.0.1:{own}/api"
        with temporary_settings({PREFECT_API_URL: url, PREFECT_API_AUTH_STRING: AUTH}):
            anyio.run(talk)
