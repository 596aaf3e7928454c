"""What alerts arrive at: a webhook and a mail server of the tests' own, which keep what they get."""

from __future__ import annotations

import base64
import json
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

SECRET_PATH = "/hooks/f4e1c0"


@dataclass
class Posts:
    """A webhook at `url`."""

    url: str
    texts: list[str] = field(default_factory=list)
    """Each `text` that was posted to SECRET_PATH, in order."""
    status: int = 200
    """How it answers; others than 200 keep nothing."""
    tries: int = 0

    def about(self, words: str) -> list[str]:
        """The texts that have these words."""
        return [text for text in self.texts if words in text]


@contextmanager
def posts(address: str) -> Iterator[Posts]:
    """Listen on a free port of `address`."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told = json.loads(self.rfile.read(int(self.headers["content-length"])))
            received.tries += 1
            if self.path == SECRET_PATH and received.status == 200:
                received.texts.append(told["text"])
            self.send_response(received.status)
            self.send_header("location", "/elsewhere")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer((address, 0), Handler) as server:
        received = Posts(f"http://{address}:{server.server_port}{SECRET_PATH}")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield received
        server.shutdown()


@dataclass
class Mails:
    """A mail server."""

    host: str
    port: int
    messages: list[EmailMessage] = field(default_factory=list)
    log_ins: list[tuple[str, str]] = field(default_factory=list)
    """User and password of each."""

    def about(self, words: str) -> list[EmailMessage]:
        """The messages that have these words in subject or text."""
        return [each for each in self.messages if words in f"{each['Subject']}\n{each.get_content()}"]


@contextmanager
def mails(address: str, *, tls: ssl.SSLContext | None = None) -> Iterator[Mails]:
    """Listen on a free port of `address`; with `tls` it takes mail by STARTTLS and after a log-in alone."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            secured = entered = tls is None
            self._say("220 receiver")
            while words := self.rfile.readline().decode().split():
                match [words[0].upper(), *words[1:]]:
                    case ["EHLO", *_]:
                        offered = "AUTH PLAIN" if secured else "STARTTLS"
                        self._say(f"250-receiver\r\n250 {offered}" if tls else "250 receiver")
                    case ["STARTTLS"] if tls and not secured:
                        self._say("220 go on")
                        self.request = tls.wrap_socket(self.request, server_side=True)
                        self.setup()
                        secured = True
                    case ["AUTH", "PLAIN", given] if secured:
                        _, user, password = base64.b64decode(given).decode().split("\0")
                        received.log_ins.append((user, password))
                        entered = True
                        self._say("235 welcome")
                    case ["DATA"] if entered:
                        self._say("354 go on")
                        lines = list(iter(self.rfile.readline, b".\r\n"))
                        received.messages.append(message_from_bytes(b"".join(lines), policy=policy.default))
                        self._say("250 taken")
                    case ["QUIT"]:
                        self._say("221 bye")
                        return
                    case _:
                        self._say("250 fine" if entered else "530 sign in")

        def _say(self, line: str) -> None:
            self.wfile.write(f"{line}\r\n".encode())

    with socketserver.ThreadingTCPServer((address, 0), Handler) as server:
        received = Mails(address, server.server_address[1])
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield received
        server.shutdown()


def certificate(directory: Path, whole: timedelta, left: timedelta, name: str = "localhost") -> ssl.SSLContext:
    """A server's TLS with a certificate that lasts so long, in fullchain.pem and privkey.pem."""
    key, subject = ec.generate_private_key(ec.SECP256R1()), x509.Name.from_rfc4514_string(f"CN={name}")
    end = datetime.now(UTC) + left
    names = x509.SubjectAlternativeName([x509.DNSName(name)])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(end - whole)
        .not_valid_after(end)
        .add_extension(names, critical=False)
        .sign(key, hashes.SHA256())
    )
    (directory / "fullchain.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8
    (directory / "privkey.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "fullchain.pem", directory / "privkey.pem")
    return context
