"""How `drive` works: what its arguments mean, the hooks on an optimizer, and the driver."""
