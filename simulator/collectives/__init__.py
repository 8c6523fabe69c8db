"""Collectives as schedules of transfers, and what a library would choose."""
