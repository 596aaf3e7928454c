"""Where alerts go: a webhook and a mail server, each with its own patience."""

from __future__ import annotations

import json
import queue
import smtplib
import ssl
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from http.client import HTTPException
from typing import Final

SECONDS: Final = 20.0
"""How long one delivery may take."""
SUBMISSIONS_PORT: Final = 465
KEPT: Final = 1000
"""Alerts that wait for a receiver that is away; more of them are dropped."""
SHOWN: Final = 20
"""Alerts in one message; of more it says how many."""


@dataclass(frozen=True)
class Alert:
    """A message to people."""

    subject: str
    body: str


def merged(alerts: Sequence[Alert]) -> Alert:
    """Return one alert for several, so that a thousand failed runs are no thousand messages."""
    if len(alerts) == 1:
        return alerts[0]
    texts = [f"{alert.subject}\n{alert.body}" for alert in alerts[:SHOWN]]
    if len(alerts) > SHOWN:
        texts.append(f"and {len(alerts) - SHOWN} more")
    return Alert(f"{alerts[0].subject}, and {len(alerts) - 1} more", "\n\n".join(texts))


class Outlet(threading.Thread):
    """Delivers alerts one after the other, again and again until each is taken."""

    def __init__(self, name: str, deliver: Callable[[Alert], None], pause: float) -> None:
        """Collect for `pause` seconds after each delivery, and for longer and longer after each that failed."""
        super().__init__(name=name, daemon=True)
        self.failing = False
        self._deliver, self._pause = deliver, pause
        self._waiting: queue.Queue[Alert] = queue.Queue(KEPT)

    def tell(self, alert: Alert) -> None:
        """Have an alert delivered."""
        try:
            self._waiting.put_nowait(alert)
        except queue.Full:
            print(f"{self.name}: too many alerts wait; dropped: {alert.subject}", file=sys.stderr)  # noqa: T201

    def run(self) -> None:
        """Deliver for ever."""
        while True:
            alerts = [self._waiting.get()]
            # What is told by one look comes together.
            time.sleep(min(1, self._pause))
            alerts += self._collected()
            wait = self._pause
            while not self._delivered(merged(alerts)):
                time.sleep(wait)
                wait = min(2 * wait, 900)
                alerts += self._collected()
            time.sleep(self._pause)

    def _collected(self) -> list[Alert]:
        return [self._waiting.get_nowait() for _ in range(self._waiting.qsize())]

    def _delivered(self, alert: Alert) -> bool:
        try:
            self._deliver(alert)
        except (OSError, HTTPException, ValueError) as error:
            # Texts of errors may quote the URL, whose path or query is mostly the secret.
            reason = f"HTTP {error.code}" if isinstance(error, urllib.error.HTTPError) else type(error).__name__
            print(f"{self.name}: not delivered ({reason}): {alert.subject}", file=sys.stderr)  # noqa: T201
            self.failing = True
        else:
            print(f"{self.name}: delivered: {alert.subject}")  # noqa: T201
            self.failing = False
        return not self.failing


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A POST that is redirected would arrive as a GET, without what is told."""

    def redirect_request(self, *_: object) -> None:
        return None


@dataclass(frozen=True)
class Webhook:
    """Takes `{"text": ...}` by POST."""

    url: str

    def __call__(self, alert: Alert) -> None:
        """Post it; OSError where it is not taken."""
        body = json.dumps({"text": f"{alert.subject}\n{alert.body}"}).encode()
        request = urllib.request.Request(self.url, body, {"Content-Type": "application/json"})  # noqa: S310  (settings)
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=SECONDS):
            pass


@dataclass(frozen=True)
class Mail:
    """A mail server, and whom it reaches."""

    host: str
    port: int
    sender: str
    to: Sequence[str]
    user: str | None = None
    password: str | None = None

    def __call__(self, alert: Alert) -> None:
        """Send it; OSError where not all of the receivers are taken."""
        message = EmailMessage()
        message["From"], message["To"] = self.sender, ", ".join(self.to)
        # A name in Prefect may hold a line's end, a header may not.
        message["Subject"] = " ".join(alert.subject.split())
        message["Date"], message["Message-ID"] = formatdate(), make_msgid(domain=self.sender.rpartition("@")[2])
        message.set_content(alert.body)
        with self._connected() as server:
            if self.user and self.password:
                server.login(self.user, self.password)
            if refused := server.send_message(message):
                raise smtplib.SMTPRecipientsRefused(refused)

    def _connected(self) -> smtplib.SMTP:
        trusted = ssl.create_default_context()
        if self.port == SUBMISSIONS_PORT:
            return smtplib.SMTP_SSL(self.host, self.port, timeout=SECONDS, context=trusted)
        server = smtplib.SMTP(self.host, self.port, timeout=SECONDS)
        server.ehlo()
        if self.user:
            server.starttls(context=trusted)
        elif server.has_extn("starttls"):
            # Without a password to keep, as mail servers do among themselves (RFC 3207): whoever signed it.
            server.starttls()
        return server
