"""The flow of scripts/bench: programs side by side, in turns, so that a busy machine is busy for all of them."""

import ast
import json
import os
import secrets
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from scripts.lib import stacks, tools
from scripts.lib.engine import Engine
from scripts.lib.environment import pulumi_environment
from scripts.lib.paths import ROOT, VENV
from scripts.lib.process import TAIL, attend, run
from scripts.lib.stacks import Stack
from scripts.lib.ui import Failure, say, step

GOAL = 1.3
"""How many times the bare program's time a preview of the stack may take."""
DOCKER = "docker:index/"
KINDS = frozenset({"Container", "Network", "RemoteImage", "Volume"})
"""Types that PROGRAM can declare."""
PROGRAM = Path(__file__).with_name("bare.py")
BARE = "prefect-environment-bare"
"""Project of the bare program: the label by which what it made is found again."""
SECONDS = 120.0
PROJECT_FILE = f"""\
name: {BARE}
runtime: {{name: python, options: {{toolchain: pip, virtualenv: {VENV}}}}}
"""


@dataclass
class Program:
    """A Pulumi program to be measured, brought up already."""

    title: str
    directory: Path
    words: Sequence[str]
    """What `pulumi preview` needs besides, to find the stack."""
    env: Mapping[str, str]
    imports: str
    """Its import statements."""
    previews: list[float] = field(default_factory=list)
    """Seconds that `pulumi preview` took."""
    loads: list[float] = field(default_factory=list)
    """Seconds that Python took to start and to import."""

    def measure(self) -> None:
        """Take one more time of each."""
        argv: list[str | Path] = [VENV / "bin" / "python", "-c", self.imports]
        self.loads.append(_timed(lambda: run(argv, timeout=SECONDS, env=self.env, cwd=self.directory)))
        self.previews.append(_timed(lambda: self.pulumi("preview", "--expect-no-changes")))

    def pulumi(self, command: str, *words: str) -> None:
        """Run a command of the CLI on the program, quietly.

        Raises:
            Failure: it ended badly, or was interrupted; then Pulumi has ended in order.
        """
        argv = ["pulumi", command, *self.words, "--non-interactive", "--color", "never", *words]
        with tempfile.TemporaryFile("w+") as output:
            code = attend(argv, env=self.env, cwd=self.directory, output=output)
            if code:
                output.seek(0)
                tail = "".join(f"\n  {line.rstrip()}" for line in output.readlines()[-TAIL:])
                fix = "\nOnly what is up to date can be measured: run scripts/up." if command == "preview" else ""
                raise Failure(f"`pulumi {command}` of {self.title} ended with {code}:{tail}{fix}")

    @property
    def median(self) -> float:
        """Median of the previews."""
        return statistics.median(self.previews)


def preview(wanted: str | None, runs: int) -> int:
    """Measure `pulumi preview` of a stack beside a bare and an empty program, and print the table.

    Raises:
        Failure: there is no such stack, or it is not up to date.
    """
    if not tools.cli() or not VENV.exists():
        raise Failure("Pulumi is not set up yet: run scripts/setup.")
    # Ended from outside, too, it removes what it made.
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(143))
    env = pulumi_environment()
    name = stacks.choose(wanted, env).name
    if name not in stacks.existing(env):
        raise Failure(f"There is no stack {name} to measure: run scripts/up --stack {name}.")
    settings = stacks.settings(name)
    docker = settings.engines[0]
    env |= settings.variables
    counts, image = _docker_resources(Stack(name, env))
    with _workplace(docker) as place:
        empty = _small("an empty program", place, env, imports="import pulumi")
        one = _small("one dynamic resource", place, env, imports="import pulumi, pulumi.dynamic", dynamic=1)
        alike = _small(
            "bare resources",
            place,
            env,
            imports="import pulumi, pulumi.dynamic, pulumi_docker",
            dynamic=1,
            counts=counts,
            image=image,
        )
        stack = Program(
            f"the stack {name}",
            ROOT,
            ("--stack", name, "--config-file", str(stacks.config_file(name))),
            env,
            _imports(ROOT / "__main__.py"),
        )
        programs = [empty, one, alike, stack]
        for program in programs:
            program.measure()  # the first fills caches
            program.previews.clear()
            program.loads.clear()
        for number in range(runs):
            with step(f"run {number + 1} of {runs}"):
                for program in programs:
                    program.measure()
    say(f"\n{table(empty, one, alike, stack)}")
    say(f"\nbare resources: {', '.join(f'{n} {kind}' for kind, n in sorted(counts.items()))}, 1 dynamic")
    say(f"this machine: {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    return 0


def table(empty: Program, one: Program, alike: Program, stack: Program) -> str:
    """Return the result: times with their ratios, and where they go."""
    lines = [f"{'pulumi preview, unchanged':32} {'median':>7} {'min':>7} {'max':>7}  {'to bare':>7}  {'to empty':>8}"]
    lines += [
        f"{each.title:32} {each.median:6.2f}s {min(each.previews):6.2f}s {max(each.previews):6.2f}s"
        f"  {each.median / alike.median:7.2f}  {each.median / empty.median:8.2f}"
        for each in (empty, one, alike, stack)
    ]
    ratio = stack.median / alike.median
    lines.append(f"goal: at most {GOAL} times bare; {'met' if ratio <= GOAL else 'missed'} with {ratio:.2f}")
    # Of the best runs: what else the machine does only ever adds. Parts that overlap in time make the rest smaller.
    engine_only = min(empty.previews) - min(empty.loads)
    provider = min(one.previews) - min(empty.previews)
    lines += ["", f"{'where it goes, in the best run':32} {'bare':>7} {'stack':>7}"]
    parts: list[tuple[str, Callable[[Program], float]]] = [
        ("Python and imports", lambda program: min(program.loads)),
        ("engine and language host", lambda _program: engine_only),
        ("dynamic provider process", lambda _program: provider),
        ("resources and Docker plugin", lambda p: min(p.previews) - min(p.loads) - engine_only - provider),
    ]
    lines += [f"{title:32} {part(alike):6.2f}s {part(stack):6.2f}s" for title, part in parts]
    return "\n".join(lines)


def _timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _docker_resources(stack: Stack) -> tuple[Counter[str], str]:
    """Return how many Docker resources of each type a stack has, and the name of an image that it uses."""
    state = stack.deployment()
    listed = (state.get("deployment") or {}).get("resources") or []
    counts = Counter(resource["type"].rpartition(":")[2] for resource in listed if resource["type"].startswith(DOCKER))
    if unknown := counts.keys() - KINDS:
        raise Failure(
            f"There is no bare form of {', '.join(sorted(unknown))} to measure against: add it to scripts/lib/bare.py."
        )
    images = stacks.resources(state, f"{DOCKER}remoteImage:RemoteImage")
    if not images:
        raise Failure(f"The stack {stack.name} has no images, so it is not up: run scripts/up --stack {stack.name}.")
    return counts, images[0]["outputs"]["name"]


def _imports(file: Path) -> str:
    """Return the import statements of a program."""
    statements = ast.parse(file.read_text()).body
    return "\n".join(ast.unparse(node) for node in statements if isinstance(node, ast.Import | ast.ImportFrom))


@contextmanager
def _workplace(docker: Engine) -> Iterator[Path]:
    """Give a directory for small programs; whatever they made goes with it, however this ends."""
    place = Path(tempfile.mkdtemp(prefix=f"{BARE}-"))
    try:
        yield place
    finally:
        for kind in ("container", "network", "volume"):
            there = docker.names(kind, BARE, place.name)
            docker.remove(kind, sorted(there) if kind != "volume" else sorted(there.values()))
        shutil.rmtree(place)


def _small(
    title: str,
    place: Path,
    env: Mapping[str, str],
    *,
    imports: str,
    dynamic: int = 0,
    counts: Mapping[str, int] | None = None,
    image: str = "",
) -> Program:
    """Write a small program, with a backend of its own, and bring it up."""
    directory = place / secrets.token_hex(4)
    backend = directory / "backend"
    backend.mkdir(parents=True)
    (directory / "Pulumi.yaml").write_text(PROJECT_FILE)
    shutil.copy(PROGRAM, directory / "bare.py")
    labels = {"prefect-environment.project": BARE, "prefect-environment.stack": place.name}
    call = f"declare({dynamic}, {json.dumps(counts or {})}, {image!r}, {place.name!r}, {labels})"
    text = f"from bare import declare\n\n{call}\n" if dynamic or counts else "import pulumi\n"
    (directory / "__main__.py").write_text(text)
    program = Program(title, directory, ("--stack", "bare"), {**env, "PULUMI_BACKEND_URL": backend.as_uri()}, imports)
    with step(f"bring up: {title}"):
        run(["pulumi", "stack", "init", "bare"], timeout=SECONDS, env=program.env, cwd=directory)
        program.pulumi("up", "--yes", "--skip-preview")
    return program
