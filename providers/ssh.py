"""How a Docker host is reached over OpenSSH: a command there, a port of its loopback here, and what a failure means.

OpenSSH itself does the work, so its configuration and agent count. Standard library only: scripts use this before
there is a virtual environment.
"""

from __future__ import annotations

import atexit
import os
import re
import select
import shlex
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping
from typing import IO, Final, NamedTuple, TypedDict
from urllib.parse import urlsplit

SCHEME: Final = "ssh"

FIXED: Final = {
    # Nobody sits at a provider's terminal; and a key that nobody checked may be anybody's.
    "BatchMode": "yes",
    "StrictHostKeyChecking": "yes",
    # A shared connection would outlive its owner, and has the options of whoever opened it.
    "ControlMaster": "no",
    "ControlPath": "none",
}
"""Options that settings can't change (https://man.openbsd.org/ssh_config)."""

LIMITS: Final = {"ConnectTimeout": "5", "ServerAliveInterval": "3", "ServerAliveCountMax": "2"}
"""Seconds, seconds and count: a host that is dead or frozen is an error within 20 s."""

OPEN_SECONDS: Final = 60.0
"""Bound on opening a forward, should ssh's own limits have been raised."""

CLOSE_SECONDS: Final = 5.0
LOOPBACK: Final = "127.0.0.1"
PORT_TRIES: Final = 3
READY: Final = "forwarding"


class SshHost(TypedDict):
    """A host and how to reach it."""

    address: str
    """`ssh://[user@]host[:port]`."""
    options: list[str]
    """OpenSSH client options as `Name=value`; of two with one name the first counts."""


class HostError(Exception):
    """The host itself can't be reached or lets nobody in; the text says what to run."""

    def __init__(self, text: str, *, passing: bool) -> None:
        super().__init__(text)
        self.passing = passing
        """It may be over in a moment: the network, not a key."""


def ssh_host(address: str, options: Mapping[str, object]) -> SshHost:
    """Return a host with the options that always hold, the given ones (as YAML has them), and the limits in time."""
    # Some readers of YAML take OpenSSH's yes and no for truth values.
    words_of = {True: "yes", False: "no"}
    given = [(name, words_of[value] if isinstance(value, bool) else value) for name, value in options.items()]
    ordered = [*FIXED.items(), *given, *LIMITS.items()]
    return SshHost(address=address, options=[f"{name}={value}" for name, value in ordered])


def flags(host: SshHost) -> list[str]:
    """Return the options as words of a command."""
    return [word for option in host["options"] for word in ("-o", option)]


def destination(address: str) -> list[str]:
    """Return an address as words of a command."""
    url = urlsplit(address)
    user = f"{url.username}@" if url.username else ""
    return [*(["-p", str(url.port)] if url.port else []), "--", f"{user}{url.hostname}"]


def words(host: SshHost, *more: str) -> list[str]:
    """Return the ssh command up to and with the destination; `more` are further options. The command follows."""
    return ["ssh", *flags(host), *more, *destination(host["address"])]


def typed(host: SshHost, *more: str) -> list[str]:
    """Return the ssh command as people type it: with the options that settings give and without those of ours."""
    given = host["options"][len(FIXED) : len(host["options"]) - len(LIMITS)]
    return [word for word in words(SshHost(address=host["address"], options=given), *more) if word != "--"]


def forwarded(host: SshHost, port: int, address: str = LOOPBACK) -> int:
    """Return a port on this machine's loopback that leads to `port` at one of the host's addresses, its loopback.

    The forward is opened when it is first asked for, shared by all threads of the process, opened anew when it
    broke, on the same port if that is free, and ends with the process, however that ends.

    Raises:
        HostError: it can't be opened.
    """
    return _forwards.get(host, f"{address}:{port}").open()


def is_open(host: SshHost, port: int) -> bool:
    """Say whether a forward that was asked for still leads to `port` on the host's loopback."""
    return _forwards.get(host, f"{LOOPBACK}:{port}").is_open()


def explained(host: SshHost, said: str) -> HostError | None:
    """Return what ssh's or docker's words about a host mean and what to run, or None for words of other things.

    Args:
        host: the host.
        said: what the command printed.
    """
    for each in _MEANINGS:
        if re.search(each.pattern, said):
            fix = each.fix.format(ssh=shlex.join(typed(host)), forget=shlex.join(_forget(host["address"], said)))
            return HostError(f"{host['address']}: {each.meaning}. {fix}", passing=each.passing)
    return None


def _forget(address: str, said: str) -> list[str]:
    """Return the command that forgets a host's old key, under the name and in the file that ssh told."""
    url = urlsplit(address)
    name = re.search(r"Host key for (\S+) has changed", said)
    file = re.search(r"Offending \S+ key in (.+):\d+", said)
    known = name[1] if name else f"[{url.hostname}]:{url.port}" if url.port else f"{url.hostname}"
    return ["ssh-keygen", *(["-f", file[1]] if file else []), "-R", known]


class _Meaning(NamedTuple):
    pattern: str
    """Found in what a command printed."""
    meaning: str
    fix: str
    passing: bool = False


_MEANINGS: Final = (
    _Meaning(
        pattern=r"REMOTE HOST IDENTIFICATION HAS CHANGED|host key .* has changed",
        meaning="the host's key is not the one that is known: another machine answers, or it was installed anew",
        fix="Ask who runs it; if the change is right, run `{forget}` and then `{ssh}`, and "
        "compare the fingerprint before you say yes",
    ),
    _Meaning(
        pattern=r"Host key verification failed|[Nn]o .* host key is known",
        meaning="the host's key is not known here",
        fix="Run `{ssh}` once and compare the fingerprint, or name a file that has the key in "
        "host.ssh_options.UserKnownHostsFile",
    ),
    _Meaning(
        pattern=r"Permission denied \(|Too many authentication failures|Load key .*: ",
        meaning="the host refused our key",
        fix="Try `{ssh}`; load the key with `ssh-add`, or name it in host.ssh_options.IdentityFile",
    ),
    _Meaning(
        pattern=r"permission denied while trying to connect to the [Dd]ocker",
        meaning="the user may not use the Docker engine",
        fix="On the host run `sudo usermod -aG docker USER` and sign in again",
    ),
    _Meaning(
        pattern=r"docker: (command )?not found|docker.*: No such file or directory",
        meaning="there is no docker command",
        fix="Install the Docker engine there, as docs/host-preparation.md tells",
    ),
    _Meaning(
        pattern=r"[Cc]onnection (timed out|refused|reset|closed)|Operation timed out|No route to host"
        r"|Network is unreachable|not responding|Broken pipe|kex_exchange_identification"
        r"|Could not resolve|Name or service not known",
        meaning="the host does not answer over ssh",
        fix="Check that it runs, and try `{ssh}`",
        passing=True,
    ),
)


class _Forward:
    """One ssh process that listens on a port of ours."""

    def __init__(self, host: SshHost, target: str) -> None:
        self._host = host
        self._target = target
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._local = 0
        self._failure: tuple[float, HostError] | None = None

    def open(self) -> int:
        asked = time.monotonic()
        with self._lock:
            if not self._lives():
                if self._failure and self._failure[0] > asked:
                    # It failed for another thread while this one waited: it would only fail again.
                    raise HostError(str(self._failure[1]), passing=self._failure[1].passing)
                try:
                    self._process, self._local = self._started()
                except HostError as error:
                    self._failure = (time.monotonic(), error)
                    raise
            return self._local

    def is_open(self) -> bool:
        with self._lock:
            return self._lives()

    def _lives(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def close(self) -> None:
        with self._lock:
            if self._process and self._process.stdin:
                self._process.stdin.close()
                _end(self._process)
            self._process = None

    def _started(self) -> tuple[subprocess.Popen[bytes], int]:
        said = ""
        for _ in range(PORT_TRIES):
            local = self._local or _free_port()
            with tempfile.TemporaryFile("w+") as errors:
                process = self._ssh(local, errors)
                if _is_ready(process):
                    return process, local
                _end(process)
                errors.seek(0)
                said = errors.read().strip()
            if "forwarding" not in said.lower():
                break
            self._local = 0  # Somebody took the port meanwhile.
        address = self._host["address"]
        last = said.splitlines()[-1] if said else f"no answer within {OPEN_SECONDS:g} s"
        raise explained(self._host, said) or HostError(f"{address}: ssh failed: {last}", passing=True)

    def _ssh(self, local: int, errors: IO[str]) -> subprocess.Popen[bytes]:
        # In place of -N a command that ends when its input does: with this process, even a killed one, goes the
        # pipe, with the pipe `cat`, with it ssh.
        forward = ["-T", "-o", "ExitOnForwardFailure=yes", "-L", f"127.0.0.1:{local}:{self._target}"]
        return subprocess.Popen(
            [*words(self._host, *forward), f"echo {READY}; exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
        )


class _Forwards:
    """The forwards of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[tuple[str, tuple[str, ...], str], _Forward] = {}

    def get(self, host: SshHost, target: str) -> _Forward:
        with self._lock:
            if not self._known:
                atexit.register(self.close)
            key = (host["address"], tuple(host["options"]), target)
            return self._known.setdefault(key, _Forward(host, target))

    def close(self) -> None:
        with self._lock:
            forwards: Iterable[_Forward] = list(self._known.values())
        for forward in forwards:
            forward.close()


_forwards: Final = _Forwards()


def _is_ready(process: subprocess.Popen[bytes]) -> bool:
    """Wait for the remote side's word; what a login script prints before it is passed over."""
    said = b""
    end = time.monotonic() + OPEN_SECONDS
    while process.stdout and (left := end - time.monotonic()) > 0 and select.select([process.stdout], [], [], left)[0]:
        more = os.read(process.stdout.fileno(), 4096)
        said += more
        if READY in said.decode(errors="replace").split():
            return True
        if not more:
            return False
    return False


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(CLOSE_SECONDS if process.stdin and process.stdin.closed else 0.5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
