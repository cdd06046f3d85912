"""The Containr API: services, deployments, image builds, databases and what belongs to them."""
