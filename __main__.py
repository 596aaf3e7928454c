"""The environment, as a table of contents: settings in, components out; each part is a file of components/."""

import pulumi

from components.dask import SCHEDULER, SCHEDULER_PORT, Dask, DaskArgs
from components.docker_host import DockerHost, DockerHostArgs
from components.flow_project import FlowProject, FlowProjectArgs
from components.flow_storage import FlowStorage, FlowStorageArgs
from components.images import Images
from components.minio import Minio, MinioArgs
from components.networks import Networks
from components.postgres import Postgres, PostgresArgs
from components.prefect_cli import PrefectCli, PrefectCliArgs
from components.prefect_client import client_env, result_env
from components.prefect_server import PrefectServer, PrefectServerArgs
from components.prefect_worker import PrefectWorker, PrefectWorkerArgs
from outputs import Outputs, export
from settings import DASK_BLOCK, load

settings = load()
on = settings.profiles
outputs: Outputs = {}
first_host = DockerHost("host", DockerHostArgs(settings.host, data_directory=settings.minio.data_directory))
host = first_host.options

networks = Networks("networks", settings.networks, host)
images = Images("images", settings.images, host)
everywhere = [networks.prefect, networks.caddy, networks.minio, networks.dask]
flow_networks = [networks.prefect, networks.dask, networks.minio]

block = DASK_BLOCK if on.minio else None
scheduler = networks.host(SCHEDULER)
dask_address = f"{scheduler}:{SCHEDULER_PORT}" if on.dask else settings.dask.address
flow_env = client_env(networks.host("prefect-server"), settings.server, block, dask_address)

if on.minio:
    minio = Minio("minio", MinioArgs(settings.minio, images.minio(), everywhere, first_host), host)
    storage = FlowStorage("storage", FlowStorageArgs(settings.minio, minio, networks.host("minio")), host)
    root = minio.connection
    outputs |= {"minio_url": minio.url, "minio_console_url": minio.console_url}
    outputs |= {"minio_root_user": root["access_key"], "minio_root_password": root["secret_key"]}

if on.orion:
    postgres = Postgres(
        "postgres",
        PostgresArgs(settings.postgres, settings.images, images.postgres(), networks.database),
        host,
    )
    server = PrefectServer(
        "prefect-server",
        PrefectServerArgs(
            settings.server,
            images.prefect,
            [*everywhere, networks.database],
            postgres,
            settings.postgres,
            result_env(block),
            first_host,
        ),
        host,
    )
    outputs |= {"prefect_url": server.url, "prefect_api_url": server.api_url}
    if on.minio:
        storage.block(DASK_BLOCK, server, settings.minio.bucket, pulumi.ResourceOptions(parent=storage))

worker_settings = settings.all_workers() if on.orion or on.dask else {}
worker_images = {name: images.worker_with(name, worker.requirements) for name, worker in worker_settings.items()}

if on.dask:
    dask_args = DaskArgs(settings.dask, worker_images[settings.dask.image_of], networks.dask, scheduler, flow_env)
    outputs["dask_dashboard_url"] = Dask("dask", dask_args, host).dashboard_url

if on.cli:
    cli_args = PrefectCliArgs(
        settings.cli, images.worker, flow_networks, flow_env, first_host, settings.flows_directory
    )
    cli = PrefectCli("prefect-cli", cli_args, host)
    outputs["cli_command"] = cli.command

if on.orion:
    workers = {
        name: PrefectWorker(
            name,
            PrefectWorkerArgs(worker, worker_images[name], flow_networks, server, flow_env, running=on.agent),
            host,
        )
        for name, worker in worker_settings.items()
    }
    projects = [
        FlowProject(
            name,
            FlowProjectArgs(flow, server, minio, storage, settings.minio.bucket, workers[flow.worker or name]),
            host,
        )
        for name, flow in settings.flows.items()
    ]
    outputs["deployments"] = {key: id_ for project in projects for key, id_ in project.deployment_ids.items()}

export(outputs)
