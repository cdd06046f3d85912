"""Tell the world: webhooks, mail, statuses at commits."""
