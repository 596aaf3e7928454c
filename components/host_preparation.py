"""What makes a fresh Debian or Ubuntu machine a Docker host: a shell script, and how it gets there over ssh.

Pure functions; standard library only, since scripts/prepare-host sends the same text where Pulumi can't. It holds no
secret.
"""

from __future__ import annotations

import shlex
from pathlib import Path, PurePath
from typing import Final

from providers.ssh import SshHost, words

HERE: Final = Path(__file__).parent
FREE_MB: Final = 5120
"""Images take 2 to 3 GB, and their builds as much for a while."""

_LAUNCH: Final = """
user=$(id -un)
[ "$(id -u)" != 0 ] || exec sh -c "$script" sh "$user" "$1"
! sudo -n true 2> /dev/null || exec sudo -n sh -c "$script" sh "$user" "$1"
echo "prepare: $user may not run sudo without a password here, so nothing was done. Name a user who may in \
the address, or let an administrator run there: echo '$user ALL=(ALL) NOPASSWD: ALL' \
| sudo tee /etc/sudoers.d/$user" >&2
exit 1
"""


def preparation(
    data_directory: PurePath | None = None, private_address: str | None = None, *, check: bool = False
) -> str:
    """Return the text that `launch` reads; it changes nothing on a host where nothing is missing.

    Args:
        data_directory: absolute path on the host, made for root alone where it doesn't exist.
        private_address: of the host, where ports are published on it: they are closed to those who come in from the
            default route's network.
        check: only say what is missing, and end with 1 if anything is.
    """
    given = {
        "CHECK": "yes" if check else "no",
        "FREE_MB": str(FREE_MB),
        "DATA_DIRECTORY": data_directory.as_posix() if data_directory else "",
        "PRIVATE_ADDRESS": private_address or "",
        "FIREWALL": (HERE / "host_firewall.sh").read_text().rstrip(),
    }
    head = "".join(f"{name}={shlex.quote(value)}\n" for name, value in given.items())
    script = head + (HERE / "prepare_host.sh").read_text()
    return f"script={shlex.quote(script)}\n{_LAUNCH}"


def launch(host: SshHost) -> list[str]:
    """Return the command that runs what it reads, as root where its user may.

    One more word belongs to it: the time now, in seconds since 1970, which the host's is compared with.
    """
    return [*words(host), "sh", "-s"]
