"""The flow of scripts/prepare-host."""

import subprocess
import sys
import time

from components.host_preparation import launch, preparation
from providers.ssh import SshHost, explained
from scripts.lib import setup, stacks
from scripts.lib.paths import ROOT
from scripts.lib.ui import Consent, Failure, say

SECONDS = 1800.0
"""Bound on one host: packages are installed over its own network."""


def prepare_hosts(stack: str, *, check: bool) -> int:
    """Prepare every host of a stack that is reached over ssh, or only look; return the exit code.

    Raises:
        Failure: a host can't be reached, or refused; nothing was done to those after it.
    """
    setup.python_packages(Consent(given=True))
    settings = stacks.settings(stacks.choose(stack, {}).name)
    hosts = [engine.via for engine in settings.engines if engine.via]
    if not hosts:
        raise Failure(
            f"The stack {stack} has no host with an ssh:// address, and a host is prepared over ssh. "
            f"Set host.address in Pulumi.{stack}.yaml."
        )
    ready = True
    for host in hosts:
        address = host["address"]
        say(f"{address}:")
        directory = settings.data_directory if host == settings.via else None
        text = preparation(directory, settings.private_addresses.get(address), check=check)
        ready &= _prepare(host, text, check=check)
    return 0 if ready else 1


def _prepare(host: SshHost, text: str, *, check: bool) -> bool:
    argv = [*launch(host), str(int(time.time()))]
    try:
        done = subprocess.run(
            argv, input=text, stderr=subprocess.PIPE, text=True, cwd=ROOT, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise Failure(f"{host['address']} was not prepared within {SECONDS / 60:.0f} min; run this again.") from error
    sys.stderr.write(done.stderr)
    if done.returncode and not (check and not done.stderr):
        meaning = explained(host, done.stderr)
        raise Failure(str(meaning) if meaning else f"{host['address']} was not prepared; why is above.")
    return done.returncode == 0
