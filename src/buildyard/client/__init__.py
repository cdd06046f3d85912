"""HTTP clients: the transport, and what workers and the command line say over it."""
