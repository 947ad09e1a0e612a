"""The demo: data that it draws itself and small models that it trains."""
