"""Arrivals, lengths and expert routing skew."""
