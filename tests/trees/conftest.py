"""Workers are started by tests, in processes of their own: to collect them would import frameworks, with settings."""

collect_ignore_glob = ["worker_*.py"]
