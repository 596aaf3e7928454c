"""The environment, as a table of contents: settings in, components out; each part is a file of components/."""

from components.alerts import Alerts, AlertsArgs
from components.backup import Backup, BackupArgs
from components.dask import Dask, DaskArgs
from components.docker_host import DockerHost, DockerHostArgs
from components.external_minio import ExternalMinio
from components.external_postgres import ExternalPostgres
from components.flow_project import FlowProject, FlowProjectArgs
from components.flow_storage import RESULT_BLOCK, FlowStorage, FlowStorageArgs
from components.front_door import FrontDoor, FrontDoorArgs
from components.images import Images
from components.metrics import Metrics, MetricsArgs
from components.minio import Minio, MinioArgs
from components.networks import Networks
from components.postgres import Postgres, PostgresArgs
from components.prefect_cli import PrefectCli, PrefectCliArgs
from components.prefect_client import addresses, client_env, result_env
from components.prefect_credential import PrefectCredential
from components.prefect_gateway import PrefectGateway, PrefectGatewayArgs
from components.prefect_server import PrefectServer, PrefectServerArgs
from components.prefect_worker import PrefectWorker, PrefectWorkerArgs
from components.site import FurtherHost, Site
from components.watch import Watch, WatchArgs
from outputs import Outputs, export
from settings import load

settings = load()
on = settings.profiles
outputs: Outputs = {}
host_args = DockerHostArgs(settings.host, settings.shared_address, data_directory=settings.minio.data_directory)
first_host = DockerHost("host", host_args)
host = first_host.options
networks = Networks("networks", settings.networks, host)
images = Images("images", settings.images, host)
sites: dict[str | None, Site] = {None: Site(None, first_host, images, networks.flows, networks.dask)}
sites |= {name: FurtherHost(name, each, settings.images).site for name, each in settings.hosts.items()}
results = result_env(RESULT_BLOCK if on.minio else None)
at = addresses(settings, networks)
credential = PrefectCredential("prefect-credential", settings.server, settings.rotation.api)
flow_env = client_env(settings, at, credential.auth) | results

if on.minio:
    theirs = settings.minio.external
    minio_args = MinioArgs(settings, images, networks.served, first_host)
    store = ExternalMinio("minio", theirs, settings.images) if theirs else Minio("minio", minio_args, host)
    storage = FlowStorage("storage", FlowStorageArgs(settings, store, at.s3), host)
    outputs |= store.outputs | storage.outputs

if on.orion:
    elsewhere = settings.postgres.external
    postgres_args = PostgresArgs(settings, images, networks, first_host.engine)
    postgres = ExternalPostgres("postgres", elsewhere) if elsewhere else Postgres("postgres", postgres_args, host)
    database = postgres.database
    server_args = PrefectServerArgs(settings, images, networks.served, database, credential, results, first_host)
    server = PrefectServer("prefect-server", server_args, host)
    outputs |= server.outputs
    gateway_args = PrefectGatewayArgs(settings.server, images.prefect, networks, server, first_host)
    PrefectGateway("prefect-api", gateway_args, host)
    if on.minio:
        storage.blocks(server)
    workers = {
        name: PrefectWorker(name, PrefectWorkerArgs(each, sites[each.host], server, flow_env, on.agent), host)
        for name, each in settings.all_workers().items()
    }
    Watch("watch", WatchArgs(settings, server), host)
    projects = [
        FlowProject(name, FlowProjectArgs(each, server, storage, workers[each.worker or name]), host)
        for name, each in settings.flows.items()
    ]
    outputs["deployments"] = {key: id_ for project in projects for key, id_ in project.deployment_ids.items()}

if on.dask:
    dask_args = DaskArgs(settings.dask, settings.dask_requirements, sites, settings.dask_workers, at.dask, flow_env)
    outputs["dask_dashboard_url"] = Dask("dask", dask_args, host).dashboard_url

if on.cli:
    cli_args = PrefectCliArgs(settings.cli, sites[None], flow_env, settings.flows_directory)
    outputs["cli_command"] = PrefectCli("prefect-cli", cli_args, host).command

backup = front_door = None
if settings.backup.on:
    saved = postgres if on.orion else None, storage if on.minio else None
    backup = Backup("backup", BackupArgs(settings.backup, images, networks.minio, *saved), host)
    outputs |= backup.outputs

if settings.metrics.on:
    watched = postgres.observer if on.orion else None, store if on.minio else None
    outputs |= Metrics("metrics", MetricsArgs(settings, images, networks, credential, *watched), host).outputs

if settings.proxy.serves:
    served = postgres.authelia if on.orion else None, [*([server] if on.orion else []), *([store] if on.minio else [])]
    door_args = FrontDoorArgs(settings, images, networks, first_host, credential.authorization, *served)
    front_door = FrontDoor("front-door", door_args, host)
    outputs |= front_door.outputs

if settings.alerts.on:
    Alerts("alerts", AlertsArgs(settings, images, networks, server, backup, front_door), host)
export(outputs)
