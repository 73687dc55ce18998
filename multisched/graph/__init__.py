"""Declared tensors: nodes of a graph that is recorded, named and listed here, and compiled to programs."""
