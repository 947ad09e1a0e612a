"""The report: one HTML page a data set and family, which holds everything that it shows."""
