"""What runs in the container `prefect-exporter`: httpx and prometheus_client, which Prefect's image has.

Prefect's own `/api/metrics` tells of its process and of connections; of runs, queues and workers only the API does. See
docs/metrics.md and docs/adr/0030. Beside it, `dashboard.json` is the one that Grafana begins with.
"""
