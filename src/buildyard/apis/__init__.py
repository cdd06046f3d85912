"""The HTTP APIs: one sub-package each, each translating its clients' words to and from ours."""
