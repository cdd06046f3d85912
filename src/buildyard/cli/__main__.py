"""`python -m buildyard.cli`, for where the script `buildyard` is not on the path."""

import sys

from buildyard.cli import main

sys.exit(main())
