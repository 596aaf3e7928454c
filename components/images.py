"""The stack's images, from the source that the settings name."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import pulumi

from components.image import BuildArgs, Image, build, pulled
from settings import ImageSettings, ImageSource


class Images(pulumi.ComponentResource):
    """The images that the containers run, each declared when it is first asked for.

    All built ones stand on `prefect` or, with source `build`, on Debian.
    """

    settings: ImageSettings

    def __init__(
        self, name: str, args: ImageSettings, opts: pulumi.ResourceOptions | None = None, *, on: str | None = None
    ) -> None:
        """Declare none yet; `on` is the further host that they are for."""
        super().__init__("prefect-environment:index:Images", name, None, opts)
        self.settings = args
        self._on = f"@{on}" if on else ""
        self._extra: dict[str, Image] = {}
        self._opts = pulumi.ResourceOptions(parent=self)
        self.register_outputs({})

    @cached_property
    def prefect(self) -> Image:
        """Prefect itself: what the server runs, and what workers stand on."""
        return self._python("prefect", "prefect", self._base or self.settings.prefect, self._ca_bundle())

    @cached_property
    def worker(self) -> Image:
        """Prefect with what flows need to reach MinIO and Dask."""
        return self._python("worker", "worker", self.prefect, {})

    @cached_property
    def postgres(self) -> Image:
        """The Postgres image."""
        return self._server(
            "postgres", self.settings.postgres, BuildArgs("postgres", self._base, build_args=self._proxies())
        )

    def minio(self) -> Image:
        """The MinIO image."""
        return self._server("minio", self.settings.minio, BuildArgs("minio", self._base, artefact="minio"))

    def caddy(self) -> Image:
        """The Caddy image."""
        return self._server("caddy", self.settings.caddy, BuildArgs("caddy", self._base, artefact="caddy"))

    def authelia(self) -> Image:
        """The Authelia image."""
        return self._server("authelia", self.settings.authelia, BuildArgs("authelia", self._base, artefact="authelia"))

    def prometheus(self) -> Image:
        """The Prometheus image."""
        recipe = BuildArgs("prometheus", self._base, build_args=self._proxies())
        return self._server("prometheus", self.settings.prometheus, recipe)

    def postgres_exporter(self) -> Image:
        """The image that asks Postgres for Prometheus."""
        recipe = BuildArgs("postgres-exporter", self._base, build_args=self._proxies())
        return self._server("postgres-exporter", self.settings.postgres_exporter, recipe)

    def grafana(self) -> Image:
        """The Grafana image; there is none to build."""
        return pulled("grafana", self.settings.grafana, self._opts)

    def backup(self) -> Image:
        """What backs up and restores: restic and rclone, on the Postgres image for its pg_dump."""
        args = BuildArgs("backup", self.postgres, files=self._ca_bundle(), build_args=self._proxies())
        return self._build("backup", args)

    def worker_with(self, name: str, requirements: Sequence[str]) -> Image:
        """The worker image with more packages; without any, the worker image itself."""
        if not requirements:
            return self.worker
        if name not in self._extra:
            lines = "".join(f"{line}\n" for line in requirements)
            files = {"requirements.txt": lines}
            self._extra[name] = self._python(f"worker-{name}", "worker-extra", self.worker, files)
        return self._extra[name]

    @cached_property
    def _base(self) -> Image | None:
        if self.settings.source is ImageSource.REGISTRY:
            return None
        return self._build("base", BuildArgs("base", artefact="rootfs"))

    def _server(self, name: str, reference: str, args: BuildArgs) -> Image:
        return self._build(name, args) if self._base else pulled(name, reference, self._opts)

    def _python(self, name: str, recipe: str, parent: Image | str, files: dict[str, str]) -> Image:
        index = {"INDEX_URL": self.settings.index_url} if self.settings.index_url else {}
        return self._build(name, BuildArgs(recipe, parent, files=files, build_args={**index, **self._proxies()}))

    def _build(self, name: str, args: BuildArgs) -> Image:
        return build(name, args, self._opts, on=self._on)

    def _ca_bundle(self) -> dict[str, str]:
        return {"ca-bundle.crt": self.settings.ca_bundle.read_text() if self.settings.ca_bundle else ""}

    def _proxies(self) -> dict[str, str]:
        proxy = self.settings.proxy
        return {"http_proxy": proxy, "https_proxy": proxy} if proxy else {}
