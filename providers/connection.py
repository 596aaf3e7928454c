"""How a provider reaches a server: who to call, with which credentials, and how long to wait for it.

A connection is plain data that travels through state; `Server` is what each family (MinIO, Prefect) adds: a
client and the reading of its library's errors. `waiting` and `probing` are the only two ways to make a call.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Final, Generic, NotRequired, TypedDict, TypeVar, cast
from urllib.parse import urlsplit

import pulumi

from providers.ssh import HostError, SshHost, forwarded

DEADLINE = 300.0
"""Seconds that create, update and delete wait for a server that does not answer."""

PROBE: Final = 3.0
"""Seconds that read gives a server, once."""

REQUEST: Final = 60.0
"""Seconds that one request may take once a server is waited for."""

HOST_SECONDS: Final = 8.0
"""Seconds that a call goes on trying to reach a host that was lost, beside ssh's own limits."""

LONGEST_PAUSE: Final = 5.0


class MinioConnection(TypedDict):
    """An S3 API and the credentials to administer it."""

    server: str
    """Stable name of the server, e.g. `prefect-environment-dev-minio`: one name, one server."""
    url: str
    """Base URL as seen from the Docker host, e.g. `http://127.0.0.1:9000`."""
    access_key: str
    secret_key: pulumi.Input[str]
    """Pass it as a secret output."""
    region: NotRequired[str]
    """Of its buckets; asked for where it is not given."""
    ca_bundle: NotRequired[str]
    """PEM file with authorities to trust as well; relative to the program."""
    via: NotRequired[SshHost]
    """The host whose loopback `url` is on, where that is not this machine."""


class PrefectConnection(TypedDict):
    """A Prefect API."""

    server: str
    """Stable name of the server, e.g. `prefect-environment-dev-prefect-server`."""
    url: str
    """API URL as seen from the Docker host, e.g. `http://127.0.0.1:4200/api`."""
    auth: NotRequired[pulumi.Input[str]]
    """`user:password` where the API asks for one; pass it as a secret output."""
    via: NotRequired[SshHost]
    """The host whose loopback `url` is on, where that is not this machine."""


class EngineConnection(TypedDict):
    """A Docker engine, for what is done inside a container."""

    server: str
    """Stable name of the engine, e.g. `host`."""
    url: str
    """As docker's `--host` takes it, e.g. `unix:///var/run/docker.sock` or `ssh://ops@host`."""
    via: NotRequired[SshHost]
    """The engine's machine, for an `ssh://` address: docker runs there."""
    tls_directory: NotRequired[str]
    """With ca.pem, cert.pem and key.pem, for a `tcp://` address; relative to the program."""


ConnectionT = TypeVar("ConnectionT", MinioConnection, PrefectConnection, EngineConnection)
ClientT = TypeVar("ClientT")
ResultT = TypeVar("ResultT")
ValueT = TypeVar("ValueT")


def plain(value: pulumi.Input[ValueT]) -> ValueT:
    """Return an input as the value it is by the time that a provider sees it."""
    return cast("ValueT", value)


class UnreachableError(Exception):
    """The server did not answer, or answered that it is not ready."""


class CredentialsError(Exception):
    """The server answered and refused the credentials."""


def reachable(url: str, via: SshHost | None) -> str:
    """Return `url` as this process reaches it: through a forward where it is on another host's loopback.

    Raises:
        HostError: that host can't be reached.
    """
    if via is None:
        return url
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return parts._replace(netloc=f"127.0.0.1:{forwarded(via, port)}").geturl()


class Server(ABC, Generic[ConnectionT, ClientT]):
    """One kind of server. Stateless: an instance is shared by all threads of the provider process."""

    title: str
    """For error texts, e.g. `MinIO`."""

    @abstractmethod
    def session(self, connection: ConnectionT, timeout: float) -> AbstractContextManager[ClientT]:
        """Yield a client whose requests take at most `timeout` seconds each; the library never retries them.

        Library errors that leave the `with` block become UnreachableError (no connection, time-out, 502, 503,
        504) or CredentialsError (401, 403 for the caller itself); all others pass unchanged, HostError included.
        """


class Newest(Generic[ConnectionT]):
    """The connections that this process was handed last, by server.

    Delete gets the properties of old: after a rotation their credentials, after a move their address, are no
    longer good, while the checks of the same run have brought the current ones.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_server: dict[str, ConnectionT] = {}

    def remember(self, connection: ConnectionT) -> None:
        """Hold `connection` as the current one of its server."""
        with self._lock:
            self._by_server[connection["server"]] = connection

    def candidates(self, stored: ConnectionT) -> list[ConnectionT]:
        """Return the connections to try, best first: the newest known, then the stored one."""
        with self._lock:
            newest = self._by_server.get(stored["server"], stored)
        return [newest] if newest == stored else [newest, stored]


class Once:
    """Keys that were seen before, in this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: set[str] = set()

    def __contains__(self, key: str) -> bool:
        with self._lock:
            return key in self._seen

    def add(self, key: str) -> bool:
        """Add `key`; return whether it is new."""
        with self._lock:
            new = key not in self._seen
            self._seen.add(key)
        return new


def probing(
    server: Server[ConnectionT, ClientT],
    connections: Iterable[ConnectionT],
    call: Callable[[ClientT], ResultT],
    *,
    timeout: float = PROBE,
) -> ResultT:
    """Try `call` once on each connection until one is let in.

    Raises: CredentialsError or UnreachableError, whichever the first (newest) met; HostError; what else `call` raises.
    """
    failure: CredentialsError | UnreachableError | None = None
    for connection in connections:
        try:
            with server.session(connection, timeout) as client:
                return call(client)
        except (CredentialsError, UnreachableError) as error:
            failure = failure or error
    raise failure or UnreachableError("no connection known")


def waiting(
    server: Server[ConnectionT, ClientT],
    connections: Iterable[ConnectionT],
    call: Callable[[ClientT], ResultT],
    *,
    seconds: float | None = None,
) -> ResultT:
    """Make `call`, again with growing pauses while the server is unreachable, for `seconds` (default: DEADLINE).

    `call` starts from the beginning each time, so it must look before it makes.

    A waiting call holds one of the provider process's four threads, and no lock here could give it back. It
    is no deadlock, because each resource depends on the container that serves it, so that nothing which the
    container needs is still to be made, and because a generated secret depends on nothing and never waits.

    Raises: UnreachableError after the deadline; HostError when the host itself stays lost; CredentialsError at once;
        whatever else `call` raises.
    """
    known = list(connections)
    longest = DEADLINE if seconds is None else seconds
    end = time.monotonic() + longest
    lost_since: float | None = None
    pause = 0.1
    while True:
        try:
            return probing(server, known, call, timeout=REQUEST)
        except HostError as error:
            lost_since = lost_since or time.monotonic()
            if not error.passing or time.monotonic() + pause > lost_since + HOST_SECONDS:
                raise
        except UnreachableError as error:
            lost_since = None
            if time.monotonic() + pause > end:
                raise UnreachableError(f"{error}, for {longest:g} s") from None
        time.sleep(pause)
        pause = min(pause * 1.6, LONGEST_PAUSE)
