"""The flow of scripts/rotate."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scripts.lib import stacks
from scripts.lib.setup import set_up
from scripts.lib.stacks import PROJECT, Stack
from scripts.lib.ui import Consent, Failure, confirm, must_be_asked, say
from scripts.lib.up import up


@dataclass(frozen=True)
class Credential:
    """One that can be made anew."""

    what: str
    effect: str
    """What the stack does meanwhile."""
    section: str
    """The setting of the server that asks for it."""
    given: str | None = None
    """The setting below `section` that would hold it instead."""
    mode: str = "managed"
    """The default of the server's mode; with another than `managed` there is nothing to rotate."""


CREDENTIALS = {
    "postgres": Credential(
        "the password of Prefect's role in Postgres",
        "the Prefect server restarts; Postgres does not",
        "postgres",
        "password",
    ),
    "minio-root": Credential("the password of MinIO's administrator", "MinIO restarts", "minio", "root_password"),
    "minio-key": Credential(
        "the access key that flows use", "nothing restarts; the former key stays valid until the next time", "minio"
    ),
    "api": Credential(
        "the credential of Prefect's API",
        "the Prefect server restarts, workers finish their runs and restart; the former one stays valid until the "
        "next time",
        "server",
        "password",
    ),
    "authelia": Credential(
        "Authelia's session and link secrets, and its database's password",
        "everybody logs in anew",
        "auth",
        mode="none",
    ),
}
"""By name."""


def rotate(wanted: str | None, names: Sequence[str], *, yes: bool) -> int:
    """Raise the numbers of credentials in the stack's settings, and run scripts/up; return the exit code.

    Raises:
        Failure: one is not generated, or the answer was no; nothing was changed then. Or what `up` raises.
    """
    must_be_asked("It restarts servers", yes=yes)
    ready = set_up(wanted, Consent(given=yes), images=False, engines=False)
    stack = Stack(ready.stack, ready.env)
    config = stacks.configuration(stack.name)
    file = stacks.tracked(stack.name).name
    names = list(dict.fromkeys(names))
    problems = [problem for name in names if (problem := _problem(name, config, file))]
    if problems:
        raise Failure("\n".join(["Nothing was changed.", *problems]))
    say(
        "\n".join(
            [f"\nnew on the stack {stack.name}:", *(f"  {CREDENTIALS[n].what}: {CREDENTIALS[n].effect}" for n in names)]
        )
    )
    if not yes:
        confirm("Go on?")
    former = _section(config, "rotation")
    for name in names:
        key = name.replace("-", "_")
        number = str(int(former.get(key, 1)) + 1)
        stack.pulumi("config", "set", "--path", f"{PROJECT}:rotation.{key}", number, "--type", "int")
        say(f"rotation.{key} is {number} in {file}.")
    return up(stack.name, yes=yes)


def _section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = config.get(f"{PROJECT}:{name}")
    return section if isinstance(section, Mapping) else {}


def _problem(name: str, config: Mapping[str, Any], file: str) -> str | None:
    """Why it can't be rotated, and what to do instead."""
    credential = CREDENTIALS[name]
    section = _section(config, credential.section)
    mode = section.get("mode", credential.mode)
    if mode == "none":
        return f"{name}: {credential.section}.mode is `none` in {file}, so there is none."
    if mode != "managed":
        return (
            f"{name}: {credential.section}.mode is `{mode}` in {file}, so it is made elsewhere. Change it there, and "
            f"set what {credential.section}.{mode} has of it."
        )
    if credential.given and credential.given in section:
        return (
            f"{name}: {credential.section}.{credential.given} is set in {file}, by you. Set another with\n"
            f"  scripts/pulumi config set --secret --path '{PROJECT}:{credential.section}.{credential.given}'\n"
            "and run scripts/up."
        )
    return None
