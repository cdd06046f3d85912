"""Where forges report pushes and pull requests: `/-/hooks/{forge}/{name}`."""
