"""How fast Buildyard is, beside its peers and the machine: `make bench`, or `python -m bench --help`."""
