"""The contract with backends, and how they are found."""
