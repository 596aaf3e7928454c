"""A long-running container as this project runs them all: least rights, bounded memory and logs, restarted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pulumi
import pulumi_docker as docker
from pydantic import SecretStr

from components.naming import LABEL, labels, qualified
from components.networks import Network
from providers.data_contract import DataContract, DataContractArgs
from providers.generated_secret import GeneratedSecret, GeneratedSecretArgs


@dataclass(frozen=True)
class SecretFile:
    """A file that only root in the container can read, put there before the container starts.

    It lies in /root, which every image closes to others: the Docker provider can't set a file's mode in all versions.
    """

    name: str
    content: pulumi.Input[str]

    @property
    def path(self) -> str:
        """Where it is in the container."""
        return f"/root/{self.name}"


@dataclass(frozen=True)
class Port:
    """A port of a container, published on one address of its Docker host."""

    outside: int
    inside: int
    ip: str = "127.0.0.1"


@dataclass(frozen=True)
class ServiceArgs:
    """What differs from one container to the next."""

    image: pulumi.Input[str]
    networks: Sequence[Network]
    memory_mb: int
    memory_setting: str
    """Path of the setting behind `memory_mb`: named when the kernel ends the container for want of memory."""
    alias: str | None = None
    """Short name on networks that allow it; the qualified name answers everywhere. None: the qualified name only."""
    command: Sequence[pulumi.Input[str]] | None = None
    entrypoint: Sequence[str] | None = None
    env: Mapping[str, pulumi.Input[str]] = field(default_factory=dict)
    ports: Sequence[Port] = ()
    volumes: Mapping[str, docker.Volume] = field(default_factory=dict)
    """Path in the container to volume."""
    directories: Mapping[str, str] = field(default_factory=dict)
    """Path in the container to directory on the Docker host."""
    read_only: Mapping[str, docker.Volume | str] = field(default_factory=dict)
    """Path in the container to a volume, or to a directory on the Docker host, that it may read alone."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Path in the container to a text that everybody may read."""
    scripts: Mapping[str, str] = field(default_factory=dict)
    """Path in the container to the text of an executable."""
    secret_files: Sequence[SecretFile] = ()
    health: Sequence[str] | None = None
    """Command of the health check, in Docker's exec form."""
    health_start: str = "1m0s"
    """How long failing checks are forgiven at the start, as the engine writes it: else it is an eternal difference."""
    capabilities: Sequence[str] = ()
    """Linux capabilities that it can't do without, as CAP_X; all others are dropped."""
    stop_seconds: int = 30
    """How long it may take to stop before it is killed."""
    interactive: bool = False
    """A box that is started by hand with a terminal, instead of a service that always runs."""
    working_dir: str | None = None
    user: str | None = None
    """None: the image's."""


def as_nobody(args: ServiceArgs, package: Path, words: str, secret: SecretFile) -> ServiceArgs:
    """A container of Prefect's image that runs a package of this project, without any right.

    Args:
        args: what else there is to the container.
        package: directory of the package.
        words: its arguments, as a shell reads them.
        secret: what it reads on its standard input, which is opened as root.
    """
    code = f"/opt/{package}"
    nobody = "setpriv --reuid 65534 --regid 65534 --clear-groups"
    return replace(
        args,
        command=["sh", "-c", f"exec {nobody} python -m {package} {words} <{secret.path}"],
        files={**args.files, **{f"{code}/{path}": path.read_text() for path in sorted(package.glob("*.py"))}},
        secret_files=[secret],
        capabilities=["CAP_SETGID", "CAP_SETUID"],
        working_dir=code,
    )


def container(name: str, args: ServiceArgs, opts: pulumi.ResourceOptions) -> docker.Container:
    """Declare the container `<project>-<stack>-<name>`."""
    marks = {**labels(name), f"{LABEL}.memory-setting": args.memory_setting}
    return docker.Container(
        name,
        name=qualified(name),
        hostname=qualified(name),
        # The newer Docker provider's default, spelled out: else the state differs with the provider's version, and a
        # change from one to the other replaces every container.
        network_mode="bridge",
        image=args.image,
        command=args.command,
        entrypoints=args.entrypoint,
        envs=pulumi.Output.all(**args.env).apply(lambda env: [f"{key}={env[key]}" for key in sorted(env)]),
        networks_advanced=[
            docker.ContainerNetworksAdvancedArgs(
                name=network.name,
                aliases=[args.alias] if args.alias and network.short_names else None,
            )
            for network in args.networks
        ],
        ports=[
            docker.ContainerPortArgs(internal=port.inside, external=port.outside, ip=port.ip) for port in args.ports
        ],
        volumes=[
            *(
                docker.ContainerVolumeArgs(container_path=path, volume_name=volume.name)
                for path, volume in args.volumes.items()
            ),
            *(
                docker.ContainerVolumeArgs(container_path=path, host_path=directory)
                for path, directory in args.directories.items()
            ),
            *(
                docker.ContainerVolumeArgs(container_path=path, host_path=what, read_only=True)
                if isinstance(what, str)
                else docker.ContainerVolumeArgs(container_path=path, volume_name=what.name, read_only=True)
                for path, what in args.read_only.items()
            ),
        ],
        uploads=[
            *(docker.ContainerUploadArgs(file=path, content=text) for path, text in args.files.items()),
            *(
                docker.ContainerUploadArgs(file=path, content=text, executable=True)
                for path, text in args.scripts.items()
            ),
            *(
                docker.ContainerUploadArgs(file=secret.path, content=pulumi.Output.secret(secret.content))
                for secret in args.secret_files
            ),
        ],
        healthcheck=docker.ContainerHealthcheckArgs(
            tests=["CMD", *args.health], interval="10s", timeout="5s", retries=6, start_period=args.health_start
        )
        if args.health
        else None,
        labels=[docker.ContainerLabelArgs(label=key, value=value) for key, value in marks.items()],
        memory=args.memory_mb,
        # No swap on top: a leak ends early and visibly.
        memory_swap=args.memory_mb,
        log_driver="json-file",
        log_opts={"max-size": "10m", "max-file": "3"},
        capabilities=docker.ContainerCapabilitiesArgs(drops=["ALL"], adds=list(args.capabilities)),
        security_opts=["no-new-privileges=true"],
        working_dir=args.working_dir,
        user=args.user,
        destroy_grace_seconds=args.stop_seconds,
        stop_timeout=args.stop_seconds,
        # A stopped container with must_run=True is deleted by a refresh; that services run is asserted by whoever
        # calls them.
        must_run=False,
        start=not args.interactive,
        tty=args.interactive,
        stdin_open=args.interactive,
        restart="no" if args.interactive else "unless-stopped",
        opts=pulumi.ResourceOptions.merge(
            # These three are recorded but not applied by an update.
            pulumi.ResourceOptions(delete_before_replace=True, replace_on_changes=["healthcheck", "tmpfs", "init"]),
            opts,
        ),
    )


def served_by(server: docker.Container) -> pulumi.ResourceOptions:
    """Options of a resource that lives inside a server: made after its container, and gone with it."""
    return pulumi.ResourceOptions(depends_on=[server], deleted_with=server)


@dataclass(frozen=True)
class KeptSecret:
    """A secret, and what it was before."""

    value: pulumi.Output[str]
    former: pulumi.Output[str]
    """As `value` where there was none."""


def rotated_secret(name: str, given: SecretStr | None, opts: pulumi.ResourceOptions, generation: int = 1) -> KeptSecret:
    """A secret from the settings, else a generated one; it stays in state as long as the data it opens.

    Another generation of a generated one is another secret.
    """
    value = pulumi.Output.secret(given.get_secret_value()) if given else None
    protected = pulumi.ResourceOptions.merge(pulumi.ResourceOptions(protect=True), opts)
    kept = GeneratedSecret(name, GeneratedSecretArgs(version=generation, given=value), protected)
    former = pulumi.Output.all(kept.value, kept.former).apply(lambda known: str(known[1] or known[0]))
    return KeptSecret(value or kept.value, former)


def kept_secret(
    name: str, given: SecretStr | None, opts: pulumi.ResourceOptions, generation: int = 1
) -> pulumi.Output[str]:
    """As `rotated_secret`, where the former one is of no use."""
    return rotated_secret(name, given, opts, generation).value


def data_volume(name: str, terms: Mapping[str, str], opts: pulumi.ResourceOptions) -> docker.Volume:
    """Declare the volume `<project>-<stack>-<name>`, which outlives every mistake."""
    return docker.Volume(
        name,
        name=qualified(name),
        labels=[docker.VolumeLabelArgs(label=key, value=value) for key, value in labels(name).items()],
        opts=pulumi.ResourceOptions.merge(
            pulumi.ResourceOptions(protect=True, retain_on_delete=True, depends_on=[data_contract(name, terms, opts)]),
            opts,
        ),
    )


def data_contract(name: str, terms: Mapping[str, str], opts: pulumi.ResourceOptions) -> DataContract:
    """Record what data needs of the program that opens it; a change of the terms is refused in preview."""
    return DataContract(
        f"{name}-terms",
        DataContractArgs(terms, qualified(name)),
        pulumi.ResourceOptions.merge(pulumi.ResourceOptions(protect=True), opts),
    )


def http_health(port: int, path: str) -> list[str]:
    """A health check that needs bash or wget in the image, and no more: `path` on localhost answers with 200."""
    request = f"GET {path} HTTP/1.0\\r\\nHost: localhost:{port}\\r\\n\\r\\n"
    ask = f"exec 3<>/dev/tcp/127.0.0.1/{port} && printf '{request}' >&3"
    answered = f"{ask} && read -r status <&3 && [[ $status == *' 200 '* ]]"
    # Images on Alpine have the one, those on Debian the other.
    fetch = f"exec wget -q -O /dev/null http://127.0.0.1:{port}{path}"
    return ["sh", "-c", f'if command -v bash >/dev/null; then exec bash -c "$0"; fi; {fetch}', answered]
