"""Our own HTTP API, `/-/api/v1`, which the command line uses; its wire types are `buildyard.client.messages`."""
