"""The search page and its JSON endpoint; requires the packages of the extra `serve`."""
