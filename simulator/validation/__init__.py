"""Measured tables against predictions."""
