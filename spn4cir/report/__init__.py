"""The report: a self-contained HTML page per data set and family."""
