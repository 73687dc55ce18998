"""What fits rules into other libraries; each imports its library when it is used, and not before."""
