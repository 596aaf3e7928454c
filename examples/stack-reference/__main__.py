"""A program of somebody else that builds on an environment: it reads the environment's outputs, and changes nothing.

    pulumi config set environment organization/prefect-environment/dev
    pulumi up

on the backend, and with the passphrase, of that stack. What outputs there are: docs/outputs.md.
"""

from collections.abc import Mapping

import pulumi

environment = pulumi.StackReference(pulumi.Config().require("environment"))

# A missing output is an error that names it.
api_url: pulumi.Output[str] = environment.require_output("prefect_api_url")
deployments: pulumi.Output[Mapping[str, str]] = environment.require_output("deployments")

# What a CI job needs to start a flow by HTTP, for instance.
pulumi.export(
    "start_urls",
    pulumi.Output.all(api_url, deployments).apply(
        lambda known: {name: f"{known[0]}/deployments/{id_}/create_flow_run" for name, id_ in known[1].items()}
    ),
)
# A secret stays one: it is encrypted in this program's state, too.
pulumi.export("object_store_password", environment.require_output("minio_root_password"))
