"""The search page and the JSON endpoint behind it; needs the packages of the extra `serve`."""
