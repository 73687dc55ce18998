"""Packages of third parties, as they would be installed: used by tests in processes of their own, not collected."""

collect_ignore_glob = ["*/*"]
