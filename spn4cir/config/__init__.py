"""The settings in `params.yaml`: their models, and their reading and checking."""
