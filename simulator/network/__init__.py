"""Flows that share links."""
