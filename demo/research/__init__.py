"""`make research`: rows of settings compared on the demo's data sets over several seeds."""
