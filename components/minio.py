"""MinIO: the S3 store for flows' code and results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import pulumi
import pulumi_docker as docker

from components.docker_host import DockerHost
from components.images import Images
from components.naming import qualified
from components.networks import Network
from components.service import (
    Port,
    SecretFile,
    ServiceArgs,
    container,
    data_contract,
    data_volume,
    http_health,
    kept_secret,
)
from outputs import Outputs
from providers.connection import MinioConnection
from settings import Settings

API_PORT: Final = 9000
CONSOLE_PORT: Final = 9001
DATA: Final = "/data"


@dataclass(frozen=True)
class MinioArgs:
    """What a MinIO server needs."""

    settings: Settings
    images: Images
    networks: Sequence[Network]
    host: DockerHost


class Minio(pulumi.ComponentResource):
    """A MinIO server with its data, in a volume or a directory of the host."""

    container: docker.Container
    connection: MinioConnection
    """How the program reaches it, as root."""
    outputs: Outputs

    def __init__(self, name: str, args: MinioArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("prefect-environment:index:Minio", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        settings, generation = args.settings.minio, args.settings.rotation.minio_root
        root_password = kept_secret(f"{name}-root-password", settings.root_password, child, generation)
        user_file = SecretFile("minio-root-user", settings.root_user)
        password_file = SecretFile("minio-root-password", root_password)
        public = {
            "MINIO_SERVER_URL": settings.server_url,
            "MINIO_BROWSER_REDIRECT_URL": settings.browser_redirect_url,
        }
        directory = settings.data_directory.as_posix() if settings.data_directory else None
        if directory:
            data_contract(f"{name}-data", {"path": DATA, "minio.data_directory": directory}, child)
            volumes = {}
        else:
            volumes = {DATA: data_volume(f"{name}-data", {"path": DATA}, child)}
        self.container = container(
            name,
            ServiceArgs(
                image=args.images.minio().image_id,
                networks=args.networks,
                alias=name,
                memory_mb=settings.memory_mb,
                memory_setting="minio.memory_mb",
                command=["server", "--address", f":{API_PORT}", "--console-address", f":{CONSOLE_PORT}", DATA],
                env={
                    "MINIO_ROOT_USER_FILE": user_file.path,
                    "MINIO_ROOT_PASSWORD_FILE": password_file.path,
                    **{key: url for key, url in public.items() if url},
                },
                ports=[
                    *args.host.published(settings.api_port, API_PORT),
                    Port(settings.console_port, CONSOLE_PORT),
                ],
                volumes=volumes,
                directories={DATA: directory} if directory else {},
                secret_files=[user_file, password_file],
                health=http_health(API_PORT, "/minio/health/live"),
                stop_seconds=60,
            ),
            child,
        )
        url = f"http://127.0.0.1:{settings.api_port}"
        self.connection = MinioConnection(
            server=qualified(name),
            url=url,
            access_key=settings.root_user,
            secret_key=root_password,
        )
        if args.host.via:
            self.connection["via"] = args.host.via
        self.outputs = {
            "minio_url": url,
            "minio_console_url": f"http://127.0.0.1:{settings.console_port}",
            "minio_root_user": settings.root_user,
            "minio_root_password": root_password,
        }
        self.register_outputs({"url": url})
