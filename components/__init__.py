"""Component resources: what runs on the Docker host, one a file."""
