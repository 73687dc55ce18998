"""`make.py` was run once, with multisched 0.1; it is no module to be looked into for doctests."""

collect_ignore = ["make.py"]
