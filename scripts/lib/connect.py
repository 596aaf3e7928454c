"""The flow of scripts/connect: ways to a stack's servers, and the environment that leads programs there."""

import os
import shlex
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from providers.ssh import LOOPBACK, HostError, SshHost, forwarded, is_open
from scripts.lib import stacks
from scripts.lib.paths import ROOT, VENV
from scripts.lib.process import attend
from scripts.lib.ui import Failure, say

SERVERS = {
    "prefect_url": "Prefect",
    "minio_url": "MinIO's S3 API",
    "minio_console_url": "MinIO console",
    "dask_dashboard_url": "Dask dashboard",
    "prometheus_url": "Prometheus",
    "grafana_url": "Grafana",
}
"""Stack output to what it opens."""
PREFECT_AUTH = "prefect_api_auth_string"
BUCKET_KEY = "bucket_secret_key"
LOOK_SECONDS = 1.0
"""Between two looks at the forwards."""
SIGNALLED = 128
"""What a shell adds to the number of the signal that ended a command."""


@dataclass(frozen=True)
class Variable:
    """One of the environment."""

    name: str
    value: str
    secret_output: str | None = None
    """The stack output that it is, where that is secret."""


class Ways:
    """URLs of a stack's servers as this machine reaches them."""

    def __init__(self, outputs: Mapping[str, Any], via: SshHost | None) -> None:
        self.outputs = outputs
        self.forwards: dict[str, int] = {}
        """Output to the port on its host, of those that were forwarded."""
        self._via = via

    def url(self, output: str) -> str:
        """Return a server's URL; what is on another host's loopback is forwarded where it is not yet.

        Raises:
            HostError: it can't be.
        """
        url = urlsplit(str(self.outputs[output]))
        if self._via and url.hostname == LOOPBACK and url.port:
            here = forwarded(self._via, url.port)
            self.forwards[output] = url.port
            url = url._replace(netloc=f"{LOOPBACK}:{here}")
        return url.geturl()

    def variables(self) -> Iterator[Variable]:
        """Return what leads Prefect's clients and those of S3 here.

        https://docs.prefect.io/v3/api-ref/settings-ref,
        https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html
        """
        if "prefect_url" in self.outputs:
            url = self.url("prefect_url")
            yield Variable("PREFECT_API_URL", f"{url}/api")
            yield Variable("PREFECT_UI_URL", url)
            yield Variable("PREFECT_API_AUTH_STRING", self.outputs[PREFECT_AUTH], PREFECT_AUTH)
        if BUCKET_KEY in self.outputs:
            yield Variable("AWS_ENDPOINT_URL_S3", self.url("minio_url"))
            yield Variable("AWS_ACCESS_KEY_ID", self.outputs["bucket_access_key"])
            yield Variable("AWS_SECRET_ACCESS_KEY", self.outputs[BUCKET_KEY], BUCKET_KEY)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Say when a forward is lost, and open it again."""
        done = threading.Event()
        watcher = threading.Thread(target=self._watch, args=[done], daemon=True)
        with _uninterrupted():
            watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()

    def _watch(self, done: threading.Event) -> None:
        lost: set[str] = set()
        while self._via and not done.wait(LOOK_SECONDS):
            for output, port in self.forwards.items():
                if done.is_set() or is_open(self._via, port):
                    continue
                title = SERVERS[output]
                if output not in lost:
                    _tell(f"✗ the way to {title} is lost")
                    lost.add(output)
                try:
                    url = self.url(output)
                except HostError:
                    continue
                lost.discard(output)
                _tell(f"✓ {title} is at {url} again")


def connect(wanted: str | None, command: Sequence[str], *, show_secrets: bool) -> int:
    """Open the ways, then run a command with the environment set, or stay until an interrupt; return the exit code.

    Args:
        wanted: the stack, None for the one that exists.
        command: the words of the command; none to stay.
        show_secrets: print them, too.

    Raises:
        Failure: there is no such stack, its host can't be reached, or the command can't be started.
    """
    stack = stacks.found(wanted)
    ways = Ways(stack.outputs(show_secrets=True), stacks.settings(stack.name).via)
    try:
        with _uninterrupted():
            variables = list(ways.variables())
            opened = () if command else [each for each in SERVERS if each in ways.outputs]
            urls = [f"{SERVERS[output]:16} {ways.url(output)}" for output in opened]
    except HostError as error:
        raise Failure(str(error)) from None
    if command:
        with ways.watched():
            return _run(command, variables)
    exports = [_export(each, stack.name, show_secrets=show_secrets) for each in variables]
    say("\n".join([*urls, "", *exports, ""]))
    if ways.forwards:
        say("Open until Ctrl-C.")
        with suppress(KeyboardInterrupt), ways.watched():
            threading.Event().wait()
    else:
        say("All of it is reached from here as it is: there is nothing to keep open.")
    return 0


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Hold Ctrl-C back from this thread, and for good from the processes and threads that it starts.

    A terminal sends it to all of them: a command that takes it for the end still has something to tell the API.
    """
    former = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)


def _run(command: Sequence[str], variables: Sequence[Variable]) -> int:
    try:
        code = attend(command, env=environment(os.environ, variables), cwd=Path.cwd())
    except OSError as error:
        raise Failure(f"{command[0]} can't be started: {error.strerror}") from None
    return code if code >= 0 else SIGNALLED - code


def environment(ours: Mapping[str, str], variables: Sequence[Variable]) -> dict[str, str]:
    """Return the environment of a command: ours, with the variables."""
    # A token is for the key of another, and a proxy does not know this machine's loopback.
    kept = {name: value for name, value in ours.items() if name != "AWS_SESSION_TOKEN"}
    direct = ",".join(filter(None, [ours.get("NO_PROXY") or ours.get("no_proxy"), LOOPBACK]))
    return {
        **kept,
        "NO_PROXY": direct,
        "no_proxy": direct,
        # For those who have no Prefect of their own.
        "PATH": os.pathsep.join([ours.get("PATH", os.defpath), str(VENV / "bin")]),
        **{each.name: each.value for each in variables},
    }


def _export(variable: Variable, stack: str, *, show_secrets: bool) -> str:
    """The line for a shell; a secret is fetched by it, if it is not to be seen."""
    value = shlex.quote(variable.value)
    if variable.secret_output and not show_secrets:
        pulumi = shlex.quote(str(ROOT / "scripts" / "pulumi"))
        value = f'"$({pulumi} stack output {variable.secret_output} --show-secrets --stack {stack})"'
    return f"export {variable.name}={value}"


def _tell(text: str) -> None:
    """Beside what the command prints."""
    print(text, file=sys.stderr, flush=True)
