"""The flow of scripts/up."""

import os
import shlex
from typing import Any

from providers.ssh import typed
from scripts.lib import policy, recovery, stacks
from scripts.lib.paths import ROOT
from scripts.lib.process import attend
from scripts.lib.setup import Ready, set_up, where_state_is
from scripts.lib.stacks import PROJECT, Stack
from scripts.lib.ui import Consent, Failure, say, step, terminal

IMAGE = "docker:index/remoteImage:RemoteImage"
GREETINGS = "greetings/test-deployment"
URLS = {
    "prefect_url": "Prefect",
    "minio_console_url": "MinIO console",
    "dask_dashboard_url": "Dask dashboard",
    "prometheus_url": "Prometheus",
    "grafana_url": "Grafana",
}
"""Stack output on the host's loopback to what it opens."""
PUBLIC = {
    "public_url": "Prefect",
    "public_storage_console_url": "MinIO console",
    "public_metrics_url": "Prometheus",
    "public_dashboards_url": "Grafana",
}
"""Stack output by the proxy to what it opens."""


def up(wanted: str | None, *, yes: bool) -> int:
    """Set up, run `pulumi up` and the smoke test, and say what there is now; return the exit code."""
    ready = apply(wanted, yes=yes)
    code = prove(ready)
    outcome(ready)
    return code


def apply(wanted: str | None, *words: str, yes: bool, policies: bool = True) -> Ready:
    """Set up, and run `pulumi up` with `words`; a stack that is not there is made.

    Args:
        wanted: the stack, None to choose.
        words: more arguments.
        yes: ask nothing.
        policies: run the policy pack, which would see what `--exclude` leaves out without its inputs.

    Raises:
        Failure: it did not end well.
    """
    ready = set_up(wanted, Consent(given=yes))
    stack = Stack(ready.stack, ready.env)
    with step("state of the stack") as shown:
        shown.note = "new" if stack.ensure() else "there"
    gone = recovery.recover(stack, ready.engines)
    if gone:
        say(f"✓ deleted behind Pulumi's back, and made anew: {', '.join(sorted(gone))}")
        words = ("--refresh", *words)
    options, env = policy.prepare(ready.env) if policies else ([], ready.env)
    say(f"\npulumi up: stack {stack.name}")
    update(Stack(stack.name, env), "up", *options, *words, yes=yes)
    _remove_superseded(stack, ready)
    return ready


def prove(ready: Ready) -> int:
    """Run the smoke test, where the stack has its flow; return the exit code."""
    if GREETINGS in Stack(ready.stack, ready.env).outputs().get("deployments", {}):
        say("\nsmoke test: the flow greetings, on Dask")
        return attend([ROOT / "scripts" / "smoke", "--stack", ready.stack], env=ready.env, cwd=ROOT)
    # Other flows do somebody's work: they are not run for a test.
    say(f"\nno smoke test: this stack has no deployment {GREETINGS}")
    return 0


def outcome(ready: Ready) -> None:
    """Say where things are and how to see, stop and remove them."""
    say("\n" + ending(ready.stack, Stack(ready.stack, ready.env).outputs(), _afar(ready)))


def update(stack: Stack, command: str, *words: str, yes: bool) -> None:
    """Run `pulumi up` or `pulumi destroy` before the user's eyes; Pulumi asks at a terminal unless yes.

    Raises:
        Failure: it did not end well.
    """
    unasked = ["--yes", "--skip-preview"] if yes or not terminal() else []
    on = ["--stack", stack.name, "--config-file", str(stacks.config_file(stack.name))]
    env = {**stack.env, **recovery.mark(stack.name, stack.env)}
    code = attend(["pulumi", command, *on, *unasked, *words], env=env, cwd=ROOT)
    if code:
        raise Failure(
            f"pulumi {command} ended with {code}; what it said is above. "
            "Nothing is lost: mend the cause and run this again."
        )


def _remove_superseded(stack: Stack, ready: Ready) -> None:
    images = stacks.resources(stack.deployment(), IMAGE)
    current = frozenset(image["outputs"]["name"] for image in images)
    gone = [name for engine in ready.engines for name in engine.remove_images(PROJECT, stack.name, keep=current)]
    if gone:
        say(f"✓ superseded images removed: {', '.join(gone)}")


def _afar(ready: Ready) -> list[str] | None:
    """Return how ssh gets to where the URLs are, where that is another machine than the user's."""
    here = os.environ.get("SSH_CONNECTION")
    via = ready.engines[0].via
    return typed(via) if via else ["ssh", here.split()[2]] if here else None


def ending(stack: str, outputs: dict[str, Any], afar: list[str] | None) -> str:
    """Tell where things are and how to see, stop and remove them.

    Args:
        stack: its name.
        outputs: the stack's outputs; parts that are switched off are absent.
        afar: the ssh command to where the URLs are, where that is another machine than the user's.
    """
    urls = {title: outputs[name] for name, title in URLS.items() if name in outputs}
    public = {title: outputs[name] for name, title in PUBLIC.items() if name in outputs}
    lines = [f"{title:14} {', '.join(filter(None, [public.get(title), url]))}" for title, url in urls.items()]
    if "prefect_api_auth_string" in outputs:
        shown = f"scripts/pulumi stack --stack {stack} output prefect_api_auth_string --show-secrets"
        lines.append(f"{'password':14} Prefect's, as user:password: {shown}")
    if afar and urls:
        ports = [url.rsplit(":", 1)[-1].rstrip("/") for url in urls.values()]
        forwards = [word for port in ports for word in ("-L", f"{port}:127.0.0.1:{port}")]
        lines.append(f"{'from afar':14} {shlex.join([afar[0], '-N', *forwards, *afar[1:]])}")
    lines += [
        f"{'kept':14} {where_state_is()}",
        f"{'see':14} scripts/status --stack {stack}, scripts/logs --stack {stack}",
        f"{'change':14} edit Pulumi.{stack}.yaml or a flow, then scripts/up",
        f"{'stop':14} scripts/down (data stays)",
        f"{'remove':14} scripts/down --purge (data goes, too)",
    ]
    return "\n".join(lines)
