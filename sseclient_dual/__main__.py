"""``python -m sseclient_dual``: the command line."""

import sys

from .cli import main

sys.exit(main())
