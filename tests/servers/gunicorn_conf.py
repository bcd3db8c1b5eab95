"""Configuration of gunicorn for the apps in this folder."""

from __future__ import annotations

worker_class = "gthread"
threads = 32
control_socket_disable = True  # the socket would be in the user's home; versions before 25.1 have none
