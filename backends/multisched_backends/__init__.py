"""Adapters of multisched: one file a framework, imported only when that backend is used."""
