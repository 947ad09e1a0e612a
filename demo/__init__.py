"""The demo: the data that it draws and the small models that it trains."""
