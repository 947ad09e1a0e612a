"""Files of weights: published forms, hub folders, model cards, and what a file contains."""
