"""How a Docker engine is asked: by the docker command, on this machine or, for `ssh://`, on the engine's own.

Standard library only: scripts use this before there is a virtual environment.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from providers import ssh


def command(
    address: str, words: Sequence[str], *, via: ssh.SshHost | None = None, tls_directory: str | None = None
) -> list[str]:
    """Return the command that runs docker with `words` on an engine.

    Args:
        address: of the engine, as docker's `--host` takes it.
        words: what follows `docker`.
        via: the engine's machine, which docker then runs on: a docker here would take no options of ssh. The last
            word is a line for the shell there.
        tls_directory: with ca.pem, cert.pem and key.pem, for `tcp://`.
    """
    if via:
        return [*ssh.words(via), shlex.join(["docker", *words])]
    files = {"--tlscacert": "ca.pem", "--tlscert": "cert.pem", "--tlskey": "key.pem"}
    tls = [word for flag, name in files.items() for word in (flag, f"{tls_directory}/{name}")]
    return ["docker", "--host", address, *(["--tlsverify", *tls] if tls_directory else []), *words]
