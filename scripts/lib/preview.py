"""The flow of scripts/preview, and the part of scripts/drift that asks Pulumi."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from providers import ssh
from scripts.lib import policy, recovery, report, stacks
from scripts.lib.paths import ROOT
from scripts.lib.process import finish
from scripts.lib.report import Report
from scripts.lib.setup import Ready, set_up
from scripts.lib.stacks import Stack
from scripts.lib.ui import Consent, say, step

SECONDS = 900.0
CHANGES = 7
"""Exit code where no changes were expected and there are some; Pulumi's own."""


@dataclass(frozen=True)
class Previewed:
    """How a preview ended."""

    code: int
    report: Report
    why: str
    """What stands in its way and what to run, where that is known."""

    def outcome(self) -> str:
        """Return it in a few words."""
        if self.code == CHANGES:
            return f"changes where none were expected: {self.report.summary()}"
        if self.code and self.report.violations and not self.report.failed:
            return f"refused by the policy pack; {self.report.summary()}"
        return f"the preview failed. {self.why}".rstrip() if self.code else self.report.summary()


def preview(wanted: str | None, *, refresh: bool, expect_no_changes: bool, comment: Path | None) -> int:
    """Say what an `up` would change; return the exit code.

    Args:
        wanted: the stack, None to choose.
        refresh: compare with what is really there, instead of with what the last `up` left.
        expect_no_changes: any change is a failure.
        comment: file for a Markdown body of a pull request's comment; written whatever comes out.
    """
    ready = set_up(wanted, Consent(given=False), engines=False)
    words = {"--refresh": refresh, "--expect-no-changes": expect_no_changes}
    done = ask(ready, [word for word, wished in words.items() if wished])
    say("\n" + "\n".join([*done.report.lines(), f"stack {ready.stack}: {done.outcome()}"]))
    if comment:
        comment.write_text(report.markdown(ready.stack, done.report, done.outcome()))
    return done.code


def ask(ready: Ready, words: Sequence[str]) -> Previewed:
    """Run `pulumi preview` quietly, with no prompt, and read what it found.

    A stack that is not in the backend yet is previewed in an empty one of its own, so that nothing is written.
    """
    with tempfile.TemporaryDirectory() as place:
        # For --event-log, as the automation API has it; and the mark by which an up finds what an interrupt left.
        env = {**ready.env, "PULUMI_DEBUG_COMMANDS": "true", **recovery.mark(ready.stack, ready.env)}
        if ready.stack not in stacks.existing(ready.env):
            say(f"the stack {ready.stack} does not exist yet: this is what its first up would make")
            env["PULUMI_BACKEND_URL"] = Path(place).as_uri()
            Stack(ready.stack, env).init()
        options, env = policy.prepare(env)
        log = Path(place) / "events"
        argv = [
            *("pulumi", "preview", "--stack", ready.stack, "--config-file", str(stacks.config_file(ready.stack))),
            *("--non-interactive", "--color", "never", "--event-log", str(log), *options, *words),
        ]
        with step("pulumi preview"):
            done = finish(argv, timeout=SECONDS, env=env, cwd=ROOT)
        found = report.read(log.read_text().splitlines() if log.exists() else [])
    if done.code in {0, CHANGES}:
        return Previewed(done.code, found, "")
    said = done.output + done.errors
    if not (found.failed or found.violations):
        say(said.rstrip())
    meanings = (ssh.explained(each.via, said) for each in ready.engines if each.via)
    return Previewed(done.code, found, next((str(meaning) for meaning in meanings if meaning), ""))
