"""Averages of whole models: trees of arrays, averaged leaf by leaf."""

from multisched.trees.attach import Attachment
from multisched.trees.average import Average, Snapshot
from multisched.trees.checkpoint import load, save
from multisched.trees.posthoc import posthoc, posthoc_weights

__all__ = ["Attachment", "Average", "Snapshot", "load", "posthoc", "posthoc_weights", "save"]
