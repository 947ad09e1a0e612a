"""Additions of `make docs` to the pages of `docs/`: formulas, diagrams, help of commands, the tutorial's images."""
