"""``python -m sseclient_dual`` runs the command line."""

import sys

from .cli import main

sys.exit(main())
