"""Declared tensors: what they are, how they are recorded, named and listed, and how they become programs."""
