"""Container engines: a client of the Docker Engine API as Docker and Podman serve it, and images by its means."""
