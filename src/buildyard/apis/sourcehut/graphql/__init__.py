"""The GraphQL API of builds.sr.ht: `POST /query`."""
