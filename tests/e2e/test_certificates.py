"""Where the front door's certificates come from: Caddy's own authority, files, another authority over ACME."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from tests.e2e.certificates import certificates
from tests.e2e.environment import LABEL, Environment, docker, environment, eventually
from tests.e2e.front_door import authority

pytestmark = pytest.mark.xdist_group("certificates")

DOMAIN: Final = "certificates.test"
ADDRESS: Final = "127.0.0.79"
HOSTS: Final = (f"storage.{DOMAIN}", f"storage-console.{DOMAIN}")
AUTHORITY: Final = f"authority.{DOMAIN}"
# Authorities call back at the standard ports alone.
OFFSET: Final = 60
PROXY: Final = {
    "mode": "managed",
    "domain": DOMAIN,
    "address": ADDRESS,
    "http_port": 80 - OFFSET,
    "https_port": 443 - OFFSET,
}
ACME_SERVER: Final = f"""
{{
	admin off
	skip_install_trust
	auto_https disable_redirects
	pki {{
		ca local {{
			intermediate_lifetime 1d
			root {{
				cert /authority/ca.crt
				key /authority/ca.key
			}}
		}}
	}}
}}
{AUTHORITY} {{
	tls /authority/public.crt /authority/private.key
	acme_server
}}
"""


@dataclass(frozen=True)
class Store:
    """A stack of a MinIO and its front door alone."""

    env: Environment
    files: Path
    """An authority of the test's own, ca.crt and ca.key, and what it signed."""

    def apply(self, certificates: str, **settings: Any) -> None:
        """Serve with other certificates."""
        self.env.write_settings(proxy={**PROXY, "certificates": certificates, **settings})
        self.env.up()


@pytest.fixture(scope="module", name="store")
def _store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    directory = tmp_path_factory.mktemp("certificates")
    files = directory / "files"
    files.mkdir(mode=0o755)
    certificates(files, *(f"DNS:{name}" for name in (*HOSTS, AUTHORITY)))
    for env in environment(
        directory, "certificates", OFFSET,
        flows={}, profiles={"orion": False, "agent": False, "cli": False, "dask": False},
        images={"source": "build", "ca_bundle": "their-ca.pem"},
    ):  # fmt: skip
        (env.root / "their-ca.pem").write_bytes((files / "ca.crt").read_bytes())
        yield Store(env, files)


def served(name: str, trusted: Path) -> dict[str, Any] | None:
    """The certificate that a host shows to somebody who trusts `trusted`; None where there is none yet."""
    trust = ssl.create_default_context(cafile=str(trusted))
    try:
        with (
            socket.create_connection((ADDRESS, 443), 10) as plain,
            trust.wrap_socket(plain, server_hostname=name) as secured,
        ):
            secured.sendall(f"GET /minio/health/live HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
            assert secured.recv(100).startswith(b"HTTP/1.1 ")
            return dict(secured.getpeercert() or {})
    except (ssl.SSLError, OSError):
        return None


def certificate(name: str, trusted: Path) -> Any:
    """The certificate that a host shows once Caddy is ready."""

    def certificate_of_the_host() -> dict[str, Any] | None:
        return served(name, trusted)

    return eventually(certificate_of_the_host, 60)


def test_certificates_outlive_the_containers(store: Store, tmp_path: Path) -> None:
    store.apply("internal")
    root = authority(store.env, tmp_path)
    before = [certificate(name, root) for name in HOSTS]
    store.env.down()
    assert store.env.name("caddy") not in store.env.objects("container")
    store.env.up()
    assert [certificate(name, root) for name in HOSTS] == before


def test_certificates_from_files(store: Store) -> None:
    given = store.files.parent / "given"
    given.mkdir(mode=0o755)
    (given / "fullchain.pem").write_bytes((store.files / "public.crt").read_bytes())
    (given / "privkey.pem").write_bytes((store.files / "private.key").read_bytes())
    (given / "privkey.pem").chmod(0o600)
    store.apply("files", certificate_directory=str(given))
    for name in HOSTS:
        found = certificate(name, store.files / "ca.crt")
        assert ("DNS", AUTHORITY) in found["subjectAltName"], "the one that was given"


@pytest.fixture(name="acme_directory")
def _acme_directory(store: Store) -> Iterator[str]:
    """Another Caddy is an authority that answers ACME; URL of its directory."""
    network, name = store.env.name("test-acme"), store.env.name("test-authority")
    docker("network", "create", network)
    try:
        # Else it would bear the label of its image, and the next `scripts/up` would take it for one of the stack's.
        nobodys = ("--label", f"{LABEL}.stack=")
        docker("create", "--name", name, *nobodys, "--network", network, store.env.image("caddy"))
        (store.files / "Caddyfile").write_text(ACME_SERVER)
        docker("cp", str(store.files), f"{name}:/authority")
        docker("cp", str(store.files / "Caddyfile"), f"{name}:/etc/caddy/Caddyfile")
        docker("network", "connect", "--alias", AUTHORITY, store.env.name("caddy-network"), name)
        docker("start", name)
        yield f"https://{AUTHORITY}/acme/local/directory"
    finally:
        docker("rm", "--force", "--volumes", name, ok=False)
        docker("network", "disconnect", "--force", network, store.env.name("caddy"), ok=False)
        docker("network", "rm", network, ok=False)


def test_certificates_from_another_authority(store: Store, acme_directory: str) -> None:
    store.apply("acme", acme_directory=acme_directory, acme_email=f"ops@{DOMAIN}")
    # The names that the world would resolve; then again at once, instead of when Caddy tries it again.
    aliases = [word for name in HOSTS for word in ("--alias", name)]
    docker("network", "connect", *aliases, store.env.name("test-acme"), store.env.name("caddy"))
    docker("restart", store.env.name("caddy"))
    for name in HOSTS:
        found = certificate(name, store.files / "ca.crt")
        assert found["subjectAltName"] == (("DNS", name),), "one that the authority made for it"
