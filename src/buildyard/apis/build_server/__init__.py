"""The Build Server API: projects, workflows, builds, images, runner scripts and the audit log."""
