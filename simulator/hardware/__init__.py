"""Devices and links as facts, with sources."""
