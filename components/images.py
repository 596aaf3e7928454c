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

    def __init__(self, name: str, args: ImageSettings, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("prefect-environment:index:Images", name, None, opts)
        self._args = args
        self._opts = pulumi.ResourceOptions(parent=self)
        self.register_outputs({})

    @cached_property
    def prefect(self) -> Image:
        """Prefect itself: what the server runs, and what workers stand on."""
        ca_bundle = self._args.ca_bundle.read_text() if self._args.ca_bundle else ""
        parent = self._base or self._args.prefect
        return self._python("prefect", "prefect", parent, {"ca-bundle.crt": ca_bundle})

    @cached_property
    def worker(self) -> Image:
        """Prefect with what flows need to reach MinIO and Dask."""
        return self._python("worker", "worker", self.prefect, {})

    def postgres(self) -> Image:
        """The Postgres image."""
        return self._server(
            "postgres", self._args.postgres, BuildArgs("postgres", self._base, build_args=self._proxies())
        )

    def minio(self) -> Image:
        """The MinIO image."""
        return self._server("minio", self._args.minio, BuildArgs("minio", self._base, artefact="minio"))

    def worker_with(self, name: str, requirements: Sequence[str]) -> Image:
        """The worker image with more packages; without any, the worker image itself."""
        if not requirements:
            return self.worker
        lines = "".join(f"{line}\n" for line in requirements)
        return self._python(f"worker-{name}", "worker-extra", self.worker, {"requirements.txt": lines})

    @cached_property
    def _base(self) -> Image | None:
        if self._args.source is ImageSource.REGISTRY:
            return None
        return build("base", BuildArgs("base", artefact="rootfs"), self._opts)

    def _server(self, name: str, reference: str, args: BuildArgs) -> Image:
        return build(name, args, self._opts) if self._base else pulled(name, reference, self._opts)

    def _python(self, name: str, recipe: str, parent: Image | str, files: dict[str, str]) -> Image:
        index = {"INDEX_URL": self._args.index_url} if self._args.index_url else {}
        return build(name, BuildArgs(recipe, parent, files=files, build_args={**index, **self._proxies()}), self._opts)

    def _proxies(self) -> dict[str, str]:
        proxy = self._args.proxy
        return {"http_proxy": proxy, "https_proxy": proxy} if proxy else {}
