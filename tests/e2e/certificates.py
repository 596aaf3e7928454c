"""An authority of the tests' own, and a certificate that it signed."""

from __future__ import annotations

import subprocess
from pathlib import Path


def certificates(directory: Path, *names: str) -> None:
    """ca.crt and ca.key; private.key and public.crt for a server of these names, as openssl takes them: `IP:...`."""
    (directory / "san").write_text(f"subjectAltName={','.join(names)}\n")
    new = ["openssl", "req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=theirs"]
    sign = ["openssl", "x509", "-req", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2"]
    for argv in (
        [*new, "-x509", "-days", "2", "-keyout", "ca.key", "-out", "ca.crt"],
        [*new, "-keyout", "private.key", "-out", "request"],
        [*sign, "-in", "request", "-extfile", "san", "-out", "public.crt"],
    ):
        subprocess.run(argv, cwd=directory, check=True, capture_output=True, timeout=60)
