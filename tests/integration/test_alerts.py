"""The monitor as a process, with real receivers, and the Prefect server that hands it what it noticed."""

from __future__ import annotations

import json
import os
import socketserver
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import httpx
import pytest

from components.alerts import BLOCK, BLOCK_TYPE, notices, notification
from providers.base import Props
from providers.connection import ResultT, UnreachableError, probing
from providers.prefect.automation import AutomationArgs, AutomationProvider
from providers.prefect.block import BlockArgs, BlockProvider
from providers.prefect.server import PrefectProvider, PrefectServer
from tests.integration.ports import free_port
from tests.integration.prefect_server import RunningPrefect, running_prefect
from tests.receivers import Posts, certificate, mails, posts

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "a-token"
NOWHERE = "http://127.0.0.1:9/api"


def eventually(look: Callable[[], Any], seconds: float) -> Any:
    end = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.1)
    return found


@dataclass(frozen=True)
class Monitor:
    url: str
    log: Path

    def told(self, subject: str, token: str = TOKEN) -> int:
        """Status of the answer to what Prefect would post."""
        body = {"subject": subject, "body": "text"}
        return self._client().post(self.url, json=body, headers={"authorization": f"Bearer {token}"}).status_code

    def health(self) -> int:
        return self._client().get(f"{self.url}health").status_code

    @staticmethod
    def _client() -> httpx.Client:
        return httpx.Client(trust_env=False)


@contextmanager
def monitor(directory: Path, secrets: dict[str, str], **changes: Any) -> Iterator[Monitor]:
    """Run the monitor as its container does, on a configuration with `changes`."""
    port, log = free_port(), directory / "monitor.log"
    configuration = {
        "stack": "test",
        "port": port,
        "prefect": NOWHERE,
        "doors": [],
        "disks": {},
        "backup": None,
        "limits": {},
        "patience_seconds": 1,
        "pause_seconds": 0.2,
        "mail": None,
        **changes,
    }
    (directory / "monitor.json").write_text(json.dumps(configuration))
    environment = {"PATH": os.environ["PATH"], "SSL_CERT_FILE": str(directory / "fullchain.pem")}
    command = [sys.executable, "-m", "monitor", str(directory / "monitor.json")]
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=out, stderr=subprocess.STDOUT
        )
    assert process.stdin
    with process.stdin as stdin:
        stdin.write(json.dumps({"token": TOKEN, **secrets}).encode())
    running = Monitor(f"http://127.0.0.1:{port}/", log)
    try:
        eventually(lambda: "started" in log.read_text() or process.poll() is not None, 20)
        yield running
        assert process.poll() is None, log.read_text()
    finally:
        process.kill()
        process.wait(10)


@pytest.fixture(name="received")
def _received() -> Iterator[Posts]:
    with posts("127.0.0.1") as received:
        yield received


def test_disks_backups_certificates_and_a_silent_prefect(tmp_path: Path, received: Posts) -> None:
    ending = certificate(tmp_path, timedelta(days=90), timedelta(days=3))
    marks = tmp_path / "marks"
    marks.mkdir()
    (marks / "failed").touch()
    with (
        tls_server(ending) as port,
        monitor(
            tmp_path,
            {"webhook": received.url},
            doors=[
                {"host": "tasks.test", "address": "localhost", "port": port},
                {"host": "dark.test", "address": "localhost", "port": free_port()},
            ],
            disks={str(tmp_path / "gone"): "/srv/backup"},
            backup=str(marks),
        ),
    ):
        wanted = [
            "[test] the monitor has started",
            "[test] lost disk: /srv/backup",
            "[test] the last backup failed",
            "[test] expiring certificate: tasks.test",
            "[test] no certificate: dark.test",
            "[test] Prefect does not answer",
        ]
        eventually(lambda: all(received.about(each) for each in wanted), 30)
        (marks / "failed").unlink()
        eventually(lambda: received.about("[test] over: the last backup failed"), 10)
        for each in wanted:
            assert len(received.about(each)) == 1, "nothing is told twice"


@contextmanager
def tls_server(context: ssl.SSLContext) -> Iterator[int]:
    """Whatever speaks TLS at first."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with suppress(OSError):
                context.wrap_socket(self.request, server_side=True).close()

    with socketserver.ThreadingTCPServer(("localhost", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def mail(host: str, port: int, user: str | None) -> dict[str, Any]:
    return {"to": ["a@x.test", "b@x.test"], "sender": "prefect@x.test", "host": host, "port": port, "user": user}


def test_mail_by_tls_with_a_log_in(tmp_path: Path) -> None:
    whole = certificate(tmp_path, timedelta(days=2), timedelta(days=1))
    with (
        mails("localhost", tls=whole) as server,
        monitor(tmp_path, {"smtp_password": "secret"}, mail=mail("localhost", server.port, "robot")) as running,
    ):
        eventually(lambda: server.about("[test] the monitor has started"), 20)
        running.told("[test] a name\nwith a line's end is Failed")
        [message] = eventually(lambda: server.about("is Failed"), 20)
    assert message["Subject"] == "[test] a name with a line's end is Failed"
    assert message["To"] == "a@x.test, b@x.test"
    assert message.get_content().strip() == "text"
    assert server.log_ins[0] == ("robot", "secret")


def test_a_password_is_not_told_to_whom_nobody_vouches_for(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    certificate(tmp_path, timedelta(days=2), timedelta(days=1))
    with (
        mails("localhost", tls=certificate(foreign, timedelta(days=2), timedelta(days=1))) as server,
        monitor(tmp_path, {"smtp_password": "secret"}, mail=mail("localhost", server.port, "robot")) as running,
    ):
        eventually(lambda: "not delivered (SSLCertVerificationError)" in running.log.read_text(), 20)
        assert running.health() == 503
        assert not server.log_ins


def test_mail_to_a_relay_that_asks_for_nothing(tmp_path: Path) -> None:
    with mails("127.0.0.1") as server, monitor(tmp_path, {}, mail=mail("127.0.0.1", server.port, None)):
        eventually(lambda: server.about("[test] the monitor has started"), 20)


def test_a_receiver_that_is_away_is_tried_again_and_its_secret_is_not_logged(tmp_path: Path, received: Posts) -> None:
    received.status = 302
    with monitor(tmp_path, {"webhook": received.url}) as running:
        eventually(lambda: received.tries >= 2, 20)
        assert running.health() == 503
        assert running.told("[test] long is Failed") == 202
        received.status = 200
        eventually(lambda: received.about("[test] long is Failed"), 20)
        eventually(lambda: running.health() == 200, 10)
        assert len(received.about("[test] the monitor has started")) == 1
        assert "webhook: not delivered (HTTP 302)" in running.log.read_text()
        assert "f4e1c0" not in running.log.read_text()


def test_only_prefect_has_the_token(tmp_path: Path, received: Posts) -> None:
    with monitor(tmp_path, {"webhook": received.url}) as running:
        assert running.told("[test] a lie", token="another") == 401
        assert httpx.post(running.url, content=b"no JSON", trust_env=False).status_code == 401
        whole = {"authorization": f"Bearer {TOKEN}"}
        assert httpx.post(running.url, content=b"no JSON", headers=whole, trust_env=False).status_code == 400
        for length in ("-1", "1000000"):
            raw = HTTPConnection("127.0.0.1", httpx.URL(running.url).port, timeout=10)
            raw.request("POST", "/", headers={**whole, "content-length": length})
            assert raw.getresponse().status == 413
            raw.close()
        assert running.told("[test] the truth") == 202
        eventually(lambda: received.about("[test] the truth"), 10)
        assert not received.about("a lie")


PATIENCE = 10
SERVICES = {
    "PREFECT_UI_URL": "https://tasks.test",
    "PREFECT_SERVER_SERVICES_LATE_RUNS_LOOP_SECONDS": "1",
    "PREFECT_SERVER_SERVICES_LATE_RUNS_AFTER_SECONDS": "1",
    "PREFECT_SERVER_SERVICES_FOREMAN_LOOP_SECONDS": "1",
    "PREFECT_SERVER_SERVICES_FOREMAN_WORK_QUEUE_LAST_POLLED_TIMEOUT_SECONDS": "3",
}


def patiently(call: Callable[[], ResultT]) -> ResultT:
    """Call it again while SQLite, on which Prefect's own services work beside us, is busy."""
    for _ in range(20):
        try:
            return call()
        except (UnreachableError, httpx.HTTPStatusError):
            time.sleep(0.5)
    return call()


def declare(server: RunningPrefect, url: str) -> None:
    """What the component declares, made by the same providers."""

    def make(provider: PrefectProvider[Any], args: Any) -> Props:
        return patiently(
            lambda: probing(
                PrefectServer(), [server.connection], lambda client: provider.make(client, args), timeout=10
            )
        )

    block = BlockArgs(server.connection, block_type=BLOCK_TYPE, block=BLOCK, data=notification(url, TOKEN))
    block_id = make(BlockProvider(), block)["block_id"]
    for notice in notices(PATIENCE):
        subject = f"[test] {notice.subject}"
        action = {"type": "send-notification", "block_document_id": block_id, "subject": subject, "body": notice.body}
        make(
            AutomationProvider(),
            AutomationArgs(server.connection, automation=notice.name, trigger=notice.trigger, actions=[action]),
        )


def test_what_prefect_tells_of(tmp_path: Path, received: Posts) -> None:
    with (
        running_prefect(tmp_path, settings=SERVICES) as server,
        monitor(tmp_path, {"webhook": received.url}, prefect=server.connection["url"]) as running,
    ):
        declare(server, running.url)

        def sent(path: str, body: Mapping[str, Any] | None = None) -> Any:
            return patiently(lambda: server.send("POST", path, body or {}))

        flow = sent("/flows/", {"name": "greet"})["id"]
        sent("/work_pools/", {"name": "pool", "type": "process"})
        deployment = sent("/deployments/", {"name": "daily", "flow_id": flow, "work_pool_name": "pool"})["id"]

        def run(*states: str) -> str:
            made = sent(f"/deployments/{deployment}/create_flow_run")["id"]
            for state in states:
                sent(f"/flow_runs/{made}/set_state", {"state": {"type": state}})
            return str(made)

        # As a worker does: from then on the queue is served.
        sent("/work_pools/pool/get_scheduled_flow_runs")
        failed, late = run("PENDING", "RUNNING", "FAILED"), run()
        run("PENDING")
        links = {
            "[test] greet is Failed": f"https://tasks.test/runs/flow-run/{failed}",
            "[test] greet/daily is late": f"https://tasks.test/runs/flow-run/{late}",
            "[test] no worker for pool": "https://tasks.test/work-pools/work-pool/pool",
        }
        eventually(lambda: all(received.about(each) for each in links), 60)
        for subject, link in links.items():
            [text] = received.about(subject)
            assert link in text
        assert not received.about("does not answer"), "it is asked without a credential"
