"""How providers reach Prefect: its own client, the reading of its errors, and the mark of a stack."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TypeVar

from providers.base import Args, Provider, matching
from providers.connection import (
    CredentialsError,
    PrefectConnection,
    ResultT,
    Server,
    UnreachableError,
    plain,
    reachable,
)

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

NOT_READY: Final = frozenset({502, 503, 504})
REFUSED: Final = frozenset({401, 403})
MARK: Final = "Managed by Pulumi: "
"""Precedes the mark in the last line of a description; it warns who looks at it in Prefect's UI, too."""

PrefectArgsT = TypeVar("PrefectArgsT", bound=Args[PrefectConnection])

name_rule = matching(
    r"[^/%&<>\s]([^/%&<>]*[^/%&<>\s])?", "must be a name without /, %, &, < and >, and no blanks around it"
)
"""What Prefect takes as the name of a flow, deployment, pool or queue."""


class PrefectServer(Server[PrefectConnection, "SyncPrefectClient"]):
    """A self-hosted Prefect server."""

    title = "Prefect"

    @contextmanager
    def session(self, connection: PrefectConnection, timeout: float) -> Iterator[SyncPrefectClient]:
        """Yield a client; see Server.session. The user's own Prefect profile has no say in it."""
        import httpx
        from prefect.client.orchestration import SyncPrefectClient
        from prefect.settings import (
            PREFECT_API_URL,
            PREFECT_CLIENT_CUSTOM_HEADERS,
            PREFECT_CLIENT_MAX_RETRIES,
            temporary_settings,
        )

        url = reachable(connection["url"], connection.get("via"))
        auth = plain(connection["auth"]) if "auth" in connection else None
        ours = temporary_settings(
            {
                PREFECT_API_URL: url,
                # Those of the user's profile may hold credentials for another server.
                PREFECT_CLIENT_CUSTOM_HEADERS: {},
                PREFECT_CLIENT_MAX_RETRIES: 0,
            }
        )
        # A transport of our own: no retries, and no proxy from the environment, for an address on loopback.
        settings = {"transport": httpx.HTTPTransport(), "timeout": timeout}
        try:
            with ours, SyncPrefectClient(url, auth_string=auth, httpx_settings=settings) as client:
                yield client
        except httpx.TransportError as error:
            raise UnreachableError(type(error).__name__) from None
        except httpx.HTTPStatusError as error:
            status = error.response.status_code
            if status in NOT_READY:
                raise UnreachableError(f"HTTP {status}") from None
            if status in REFUSED:
                raise CredentialsError(f"HTTP {status}") from None
            raise


class PrefectProvider(Provider[PrefectArgsT, PrefectConnection, "SyncPrefectClient"]):
    """The lifecycle of a resource in Prefect."""

    server = PrefectServer()


def unless_missing(call: Callable[[], ResultT]) -> ResultT | None:
    """Return what `call` returns, or None where Prefect answers that there is no such thing."""
    from prefect.exceptions import ObjectNotFound

    try:
        return call()
    except ObjectNotFound:
        return None


def marked(description: str | None, owner: str) -> str:
    """Return a description with the stack's mark, if there is one, as its last line.

    Prefect has no other place for it.
    """
    if not owner:
        return description or ""
    return f"{description}\n\n{MARK}{owner}" if description else f"{MARK}{owner}"


def unmarked(description: str | None) -> tuple[str | None, str | None]:
    """Return a description without the mark, and the mark; None for what is not there."""
    match = re.fullmatch(rf"(?:(.*)\n\n)?{MARK}(\S+)", (description or "").strip(), re.DOTALL)
    if match is None:
        return description or None, None
    return match.group(1), match.group(2)
