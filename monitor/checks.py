"""What the monitor looks at by itself: what Prefect can't see, or would not outlive."""

from __future__ import annotations

import os
import socket
import ssl
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.client import HTTPException
from pathlib import Path

from cryptography import x509

from monitor.limits import Limits, archive_is_late

SECONDS = 5.0
"""How long a server may take to answer."""
GB = 1e9


@dataclass(frozen=True)
class Problem:
    """Something that needs a person."""

    thing: str
    """What it is about: each thing is told once."""
    subject: str
    body: str


@dataclass(frozen=True)
class Door:
    """A host of the front door, and where it is asked."""

    host: str
    address: str
    port: int


def problems(
    limits: Limits, disks: Mapping[str, str], backup: str | None, doors: Sequence[Door], prefect: str
) -> Iterator[Problem]:
    """Look at everything once.

    Args:
        limits: what is too much or too little.
        disks: path in this container to what it is called on the host.
        backup: directory in which the backup leaves its marks; None without backups.
        doors: hosts whose certificates are read.
        prefect: URL of Prefect's API.
    """
    yield from low_disks(limits, disks)
    if backup:
        yield from late_backups(limits, Path(backup), datetime.now(UTC))
        yield from late_archive(Path(backup), datetime.now(UTC))
    for door in doors:
        yield from ending_certificate(limits, door, datetime.now(UTC))
    yield from silent_prefect(prefect)


def low_disks(limits: Limits, disks: Mapping[str, str]) -> Iterator[Problem]:
    """Name the disks that are nearly full, each once, whatever leads to it."""
    seen: set[int] = set()
    for path, place in disks.items():
        try:
            disk = os.statvfs(path)
        except OSError as error:
            meaning = f"How full {place} is, can't be told: {error.strerror}.\nFirst: look whether it is mounted."
            yield Problem(f"disk {place}", f"lost disk: {place}", meaning)
            continue
        free = disk.f_bavail * disk.f_frsize
        # Less than the whole: some of it is only root's.
        total = free + (disk.f_blocks - disk.f_bfree) * disk.f_frsize
        if total in seen:
            continue
        seen.add(total)
        if limits.disk_is_low(total, free):
            yield Problem(
                f"disk {place}",
                f"low disk: {place}",
                f"{free / GB:.3g} of {total / GB:.3g} GB are free for {place}. Postgres and MinIO stop when theirs is "
                "full, and backups fail.\n"
                "First: on the host, `docker image prune` removes what no container uses; else it needs a larger disk.",
            )


def late_backups(limits: Limits, marks: Path, now: datetime) -> Iterator[Problem]:
    """Tell of a backup that failed, or has not been made for too long."""
    first = "First: `scripts/logs backup` says why; `scripts/backup` makes one now."
    succeeded, attempt = marks / "succeeded", marks / "attempt"
    if (marks / "failed").exists():
        yield Problem("backup", "the last backup failed", f"It is tried again every hour.\n{first}")
        return
    # A new stack waits for its first backup from the first start on.
    last = next((mark for mark in (succeeded, attempt) if mark.exists()), None)
    if last is None:
        return
    age = now - datetime.fromtimestamp(last.stat().st_mtime, UTC)
    if limits.backup_is_old(age):
        old = f"{age / timedelta(hours=1):.0f} h"
        yield Problem("backup", f"no backup for {old}", f"The last one was made {old} ago.\n{first}")


def late_archive(marks: Path, now: datetime) -> Iterator[Problem]:
    """Tell of a write-ahead log that is kept minute by minute, and does not arrive."""
    archived = marks / "archived"
    if not archived.exists():
        return
    age = now - datetime.fromtimestamp(archived.stat().st_mtime, UTC)
    if archive_is_late(age):
        yield Problem(
            "archive",
            "Postgres is not saved minute by minute",
            f"What happened in it since {now - age:%Y-%m-%d %H:%M} UTC is in no backup, and would be lost with the "
            "host.\nFirst: `scripts/logs backup` says why; it is tried again all the time.",
        )


def ending_certificate(limits: Limits, door: Door, now: datetime) -> Iterator[Problem]:
    """Tell of a host of the front door that has no certificate, or one that was not renewed in time."""
    first = "First: `scripts/status` names it, `scripts/logs caddy` says why."
    try:
        begin, end = validity((door.address, door.port), door.host, SECONDS)
    except (OSError, ValueError) as error:
        reason = type(error).__name__
        yield Problem(door.host, f"no certificate: {door.host}", f"Nobody gets in at {door.host} ({reason}).\n{first}")
        return
    if limits.ends_soon(end - now, end - begin):
        verb = "ends" if end > now else "ended"
        yield Problem(
            door.host,
            f"expiring certificate: {door.host}",
            f"The certificate of {door.host} {verb} on {end:%Y-%m-%d at %H:%M} UTC, and was not renewed: browsers "
            f"refuse it from then on.\n{first}",
        )


def validity(place: tuple[str, int], host: str, seconds: float) -> tuple[datetime, datetime]:
    """Return begin and end of the certificate that `place` shows for `host`.

    Raises:
        OSError: nobody answers, or not by TLS.
        ValueError: what is shown is no certificate.
    """
    # It is read, not trusted: the time is all that is asked for, and an internal authority is nobody's to know.
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection(place, seconds) as plain,
        context.wrap_socket(plain, server_hostname=host) as secured,
    ):
        certificate = x509.load_der_x509_certificate(secured.getpeercert(binary_form=True) or b"")
    return certificate.not_valid_before_utc, certificate.not_valid_after_utc


def silent_prefect(url: str) -> Iterator[Problem]:
    """Tell when Prefect, which tells of runs and workers, can't: it is asked with its database."""
    try:
        with urllib.request.urlopen(f"{url}/ready", timeout=SECONDS):  # noqa: S310  (http, by the program)
            return
    except (OSError, HTTPException):
        pass
    yield Problem(
        "prefect",
        "Prefect does not answer",
        "It or its database is silent: no flow run starts or ends, and none that fails is told of.\n"
        "First: `scripts/status` names what is wrong.",
    )


class Watch:
    """Which problems are news: those that last, once, and once more each day; and that they are over."""

    def __init__(self, patience: float, again: float = 86400) -> None:
        """Wait `patience` seconds before a problem is told, and `again` seconds before it is told anew."""
        self._patience, self._again = patience, again
        self._since: dict[str, float] = {}
        self._told: dict[str, tuple[float, Problem]] = {}

    def news(self, seen: Sequence[Problem], now: float) -> Iterator[tuple[str, str]]:
        """Return subject and body of each piece of news.

        Args:
            seen: all problems that there are.
            now: seconds of a clock that only goes on.
        """
        things = {problem.thing for problem in seen}
        self._since = {thing: since for thing, since in self._since.items() if thing in things}
        for problem in seen:
            since = self._since.setdefault(problem.thing, now)
            told = self._told.get(problem.thing)
            if now - since >= self._patience and (told is None or now - told[0] >= self._again):
                self._told[problem.thing] = now, problem
                yield problem.subject, problem.body
        for thing in [thing for thing in self._told if thing not in things]:
            yield f"over: {self._told.pop(thing)[1].subject}", "It has been mended, or has mended itself."
