"""The builds.sr.ht API: jobs from a manifest, job groups, and their GraphQL twin."""
