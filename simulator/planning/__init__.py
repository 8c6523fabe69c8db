"""Search, pruning, sizing, what-if, launch material."""
