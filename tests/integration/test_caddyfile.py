"""Every form of the routes is a Caddyfile that the real Caddy takes; what it then does, the end-to-end tests show."""

from __future__ import annotations

import subprocess
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from components.caddyfile import LogIn, Routes, caddyfile, global_options
from settings import AuthEndpoint, ProxySettings
from toolchain.artefacts import artefact, built

PROXIES: dict[str, dict[str, Any]] = {
    "acme": {"acme_email": "you@example.com", "acme_directory": "https://ca.example.com/directory"},
    "internal": {"certificates": "internal", "https_port": 8443, "http_port": 8080},
    "external": {"mode": "external"},
}
LOG_INS = {
    "nobody": None,
    "verify": LogIn("authelia:9091", AuthEndpoint.VERIFY, "https://auth.example.com/", served=True),
    "forward-auth": LogIn("authelia:9091", AuthEndpoint.FORWARD_AUTH, "https://who.example.com/", served=False),
}


@pytest.mark.parametrize(("proxy", "log_in"), list(product(PROXIES, LOG_INS)))
def test_caddy_takes_it(proxy: str, log_in: str, tmp_path: Path) -> None:
    caddy = artefact("caddy")
    if not built(caddy):
        pytest.fail(f"{caddy.path} is missing: run `scripts/toolchain caddy` (about {caddy.minutes} minutes)")
    settings = ProxySettings.model_validate({"mode": "managed", "domain": "example.com", **PROXIES[proxy]})
    routes = Routes(
        settings,
        LOG_INS[log_in],
        "prefect-server:4200",
        "Basic eA==",
        "minio:9000",
        "minio:9001",
        "prometheus:9090",
        "grafana:3000",
    )
    options = "" if proxy == "external" else global_options(settings, own_authorities=False)
    file = tmp_path / "Caddyfile"
    file.write_text(options + caddyfile(routes))
    validate = [str(caddy.path), "validate", "--config", str(file), "--adapter", "caddyfile"]
    done = subprocess.run(
        validate, env={"HOME": str(tmp_path)}, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Valid configuration" in done.stdout + done.stderr
