"""Runs compared with each other and with the paper."""
