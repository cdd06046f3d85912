"""The Buildbot data API: builders, schedulers, changes, build requests, builds, steps, logs and workers."""
