"""How gunicorn serves the Flask app."""

from __future__ import annotations

worker_class = "gthread"
threads = 8
control_socket_disable = True  # it would be made in the user's home; versions before 25.1 have none
