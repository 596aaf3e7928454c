"""Metrics: who is asked for them, by which credential, and what keeps and draws them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pulumi

from components import dask, grafana, minio, prefect_server, prometheus
from components.external_minio import ExternalMinio
from components.grafana import Grafana, GrafanaArgs
from components.images import Images
from components.minio import Minio
from components.naming import qualified
from components.networks import Network, Networks
from components.postgres import Database
from components.prefect_credential import PrefectCredential
from components.prometheus import Job, Prometheus, PrometheusArgs
from components.service import SecretFile, ServiceArgs, as_nobody, container, http_health, kept_secret, served_by
from outputs import Outputs
from providers.minio.policy import Policy, PolicyArgs
from providers.minio.policy_attachment import PolicyAttachment, PolicyAttachmentArgs
from providers.minio.user import User, UserArgs
from settings import API_USER, Settings

PREFECT_EXPORTER: Final = "prefect-exporter"
PREFECT_EXPORTER_PORT: Final = 9100
PROGRAM: Final = Path("metrics")
POSTGRES_EXPORTER: Final = "postgres-exporter"
POSTGRES_EXPORTER_PORT: Final = 9187
MINIO_USER: Final = "metrics"
MEMORY: Final = "metrics.exporter_memory_mb"
TOKEN_ENDS: Final = 4102444800
"""2100-01-01: the token lasts as long as the secret that it is signed with."""

METRICS_ONLY: Final = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": ["admin:Prometheus"], "Resource": ["arn:aws:s3:::*"]}],
}


@dataclass(frozen=True)
class MetricsArgs:
    """What there is to watch."""

    settings: Settings
    images: Images
    networks: Networks
    credential: PrefectCredential
    observer: Database | None
    """How the stack's own Postgres is asked; None where there is none."""
    store: Minio | ExternalMinio | None


class Metrics(pulumi.ComponentResource):
    """A Prometheus, what it asks, and a Grafana if there is to be one; see docs/adr/0030."""

    outputs: Outputs

    def __init__(self, name: str, args: MetricsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("prefect-environment:index:Metrics", name, None, opts)
        self._args, self._child = args, pulumi.ResourceOptions(parent=self)
        settings, networks, on = args.settings.metrics, args.networks, args.settings.profiles
        door = [networks.caddy] if args.settings.proxy.serves else []
        jobs = [Job(prometheus.NAME, {prometheus.NAME: f"localhost:{prometheus.PORT}"})]
        where = [networks.metrics, *door]
        if on.orion:
            jobs += self._prefect()
            where.append(networks.prefect)
        if args.observer:
            jobs.append(self._postgres(args.observer))
        if isinstance(args.store, Minio):
            jobs += self._minio(args.store)
            where.append(networks.minio)
        if on.dask:
            jobs += self._dask()
            where.append(networks.dask)
        Prometheus(prometheus.NAME, PrometheusArgs(settings, args.images.prometheus(), where, jobs), self._child)
        self.outputs = {"prometheus_url": f"http://127.0.0.1:{settings.port}"}
        if settings.grafana:
            self._grafana([networks.metrics, *door])
        self.register_outputs({})

    def _prefect(self) -> Iterator[Job]:
        """The server tells how busy it is; of runs and workers its API is asked."""
        args, host = self._args, self._args.networks.host
        server = f"{host('prefect-server')}:{prefect_server.PORT}"
        password = SecretFile(
            f"{prometheus.NAME}-prefect-password", args.credential.auth.apply(lambda auth: auth.partition(":")[2])
        )
        yield Job("prefect-server", {"prefect-server": server}, "/api/metrics", API_USER, password)
        secret = SecretFile(PREFECT_EXPORTER, args.credential.authorization)
        exporter = ServiceArgs(
            image=args.images.prefect.image_id,
            networks=[args.networks.metrics, args.networks.prefect],
            alias=PREFECT_EXPORTER,
            memory_mb=args.settings.metrics.exporter_memory_mb,
            memory_setting=MEMORY,
            health=http_health(PREFECT_EXPORTER_PORT, "/health"),
        )
        words = f"{PREFECT_EXPORTER_PORT} http://{server}/api"
        container(PREFECT_EXPORTER, as_nobody(exporter, PROGRAM, words, secret), self._child)
        yield Job("prefect", {PREFECT_EXPORTER: f"{host(PREFECT_EXPORTER)}:{PREFECT_EXPORTER_PORT}"})

    def _postgres(self, observer: Database) -> Job:
        args = self._args
        secret = SecretFile(POSTGRES_EXPORTER, observer.password)
        container(
            POSTGRES_EXPORTER,
            ServiceArgs(
                image=args.images.postgres_exporter().image_id,
                networks=[args.networks.metrics, *observer.networks],
                alias=POSTGRES_EXPORTER,
                memory_mb=args.settings.metrics.exporter_memory_mb,
                memory_setting=MEMORY,
                # https://github.com/prometheus-community/postgres_exporter#environment-variables
                env={
                    "DATA_SOURCE_URI": f"{observer.host}:{observer.port}/{observer.database}?sslmode=disable",
                    "DATA_SOURCE_USER": observer.user,
                    "DATA_SOURCE_PASS_FILE": secret.path,
                },
                secret_files=[secret],
                health=http_health(POSTGRES_EXPORTER_PORT, "/"),
                # The official image's user could not read the secret.
                user="0",
            ),
            self._child,
        )
        return Job("postgres", {POSTGRES_EXPORTER: f"{args.networks.host(POSTGRES_EXPORTER)}:{POSTGRES_EXPORTER_PORT}"})

    def _minio(self, store: Minio) -> Iterator[Job]:
        """As a user that may ask for metrics, and do nothing else."""
        args = self._args
        adopt, generation = args.settings.minio.adopt, args.settings.rotation.minio_root
        in_minio = pulumi.ResourceOptions.merge(served_by(store.container), self._child)
        # Kept through a `down`, as MinIO's volume is that knows the user.
        secret = kept_secret(f"{MINIO_USER}-minio-secret", None, self._child, generation)
        name = f"{MINIO_USER}-only"
        user_args = UserArgs(store.connection, user=MINIO_USER, secret_key=secret, adopt=adopt)
        user = User(f"{MINIO_USER}-user", user_args, in_minio)
        policy_args = PolicyArgs(store.connection, policy=name, document=METRICS_ONLY, adopt=adopt)
        policy = Policy(name, policy_args, in_minio)
        PolicyAttachment(
            f"{name}-{MINIO_USER}",
            PolicyAttachmentArgs(store.connection, policy=name, user=MINIO_USER),
            pulumi.ResourceOptions.merge(in_minio, pulumi.ResourceOptions(depends_on=[user, policy])),
        )
        token = SecretFile(f"{prometheus.NAME}-minio-token", secret.apply(lambda key: minio_token(MINIO_USER, key)))
        address = f"{args.networks.host('minio')}:{minio.API_PORT}"
        # https://github.com/minio/minio/blob/master/docs/metrics/prometheus/list.md
        yield Job("minio", {"minio": address}, "/minio/v2/metrics/cluster", secret=token)
        yield Job("minio-buckets", {"minio": address}, "/minio/v2/metrics/bucket", secret=token)

    def _dask(self) -> Iterator[Job]:
        """The scheduler, and the workers beside it: those on further hosts publish no such port."""
        scheduler = self._args.networks.host(dask.SCHEDULER, dask.ALIAS)
        yield Job("dask-scheduler", {dask.SCHEDULER: f"{scheduler}:{dask.DASHBOARD_PORT}"})
        names = [f"dask-worker-{number}" for number in range(1, self._args.settings.dask.workers + 1)]
        yield Job("dask-worker", {name: f"{qualified(name)}:{dask.WORKER_DASHBOARD_PORT}" for name in names})

    def _grafana(self, where: Sequence[Network]) -> None:
        settings, host = self._args.settings, self._args.networks.host
        url, proxy = f"http://127.0.0.1:{settings.metrics.grafana_port}", settings.proxy
        grafana_args = GrafanaArgs(
            settings.metrics,
            self._args.images.grafana(),
            where,
            f"http://{host(prometheus.NAME)}:{prometheus.PORT}",
            proxy.url(proxy.dashboards) if proxy.serves else url,
        )
        drawn = Grafana(grafana.NAME, grafana_args, self._child)
        self.outputs |= {"grafana_url": url, "grafana_password": drawn.password}


def minio_token(user: str, secret: str) -> str:
    """Return the JSON Web Token by which MinIO lets Prometheus in as `user`, whose secret key signs it.

    https://github.com/minio/minio/blob/master/docs/metrics/prometheus/README.md
    """

    def part(content: bytes) -> str:
        return base64.urlsafe_b64encode(content).rstrip(b"=").decode()

    header = {"alg": "HS512", "typ": "JWT"}
    claims = {"exp": TOKEN_ENDS, "sub": user, "iss": "prometheus"}
    signed = ".".join(part(json.dumps(each).encode()) for each in (header, claims))
    return f"{signed}.{part(hmac.digest(secret.encode(), signed.encode(), hashlib.sha512))}"
