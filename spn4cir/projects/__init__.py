"""Commands that change or check a user's project: add-dataset, check-data, inspect."""
