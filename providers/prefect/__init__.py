"""What lives inside a Prefect server: blocks, work pools, work queues and deployments."""
