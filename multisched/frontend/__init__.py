"""The documented system: variables that record their own updates, and functions that apply them or not."""
