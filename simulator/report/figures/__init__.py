"""Plots as plotly's JSON, made from a run's frames; colours are names that the page looks up in its theme."""
