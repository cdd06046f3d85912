"""The worker: claims jobs from a server, runs them by its executors, and reports; it knows no database."""
