"""Variables that record their own updates, and functions that apply these updates."""
