"""Real implementations of the ports; only `bootstrap` imports them."""
