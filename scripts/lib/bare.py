"""The program that scripts/bench measures against: bare Docker resources, and dynamic ones that do nothing.

scripts/bench copies this file beside a `__main__.py` that calls `declare`.
"""

from collections.abc import Mapping

from pulumi.dynamic import CreateResult, Resource, ResourceProvider


class NothingProvider(ResourceProvider):
    """As little as a provider can do."""

    serialize_as_secret_always = False

    def create(self, props: dict[str, object]) -> CreateResult:
        """Make nothing."""
        return CreateResult("nothing", props)


class Nothing(Resource):
    """A dynamic resource that is nothing."""

    def __init__(self, name: str) -> None:
        super().__init__(NothingProvider(), name, {})


def declare(dynamic: int, counts: Mapping[str, int], image: str, prefix: str, labels: Mapping[str, str]) -> None:
    """Declare resources; the containers are never started.

    Args:
        dynamic: how many dynamic ones.
        counts: how many of each type of Docker resource.
        image: name of an image that the engine has.
        prefix: what the names of containers, networks and volumes begin with.
        labels: what containers, networks and volumes bear.
    """
    for number in range(dynamic):
        Nothing(f"nothing-{number}")
    if not counts:
        return
    import pulumi_docker as docker  # noqa: PLC0415  (a program without Docker resources does not pay for it)

    images = [
        docker.RemoteImage(f"image-{number}", name=image, keep_locally=True)
        for number in range(counts.get("RemoteImage", 0))
    ]
    for number in range(counts.get("Network", 0)):
        docker.Network(
            f"network-{number}",
            name=f"{prefix}-{number}",
            labels=[docker.NetworkLabelArgs(label=key, value=value) for key, value in labels.items()],
        )
    for number in range(counts.get("Volume", 0)):
        docker.Volume(
            f"volume-{number}",
            name=f"{prefix}-{number}",
            labels=[docker.VolumeLabelArgs(label=key, value=value) for key, value in labels.items()],
        )
    for number in range(counts.get("Container", 0)):
        docker.Container(
            f"container-{number}",
            name=f"{prefix}-{number}",
            image=images[0].image_id,
            command=["true"],
            start=False,
            must_run=False,
            labels=[docker.ContainerLabelArgs(label=key, value=value) for key, value in labels.items()],
        )
