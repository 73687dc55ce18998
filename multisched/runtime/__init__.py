"""The contract with backends, how backends are found, and what is shared by all that runs on them."""
