"""The Hydra API: projects, jobsets, evaluations, builds, their products, and badges."""
