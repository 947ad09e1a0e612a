"""What `params.yaml` may hold, and how it is read."""
