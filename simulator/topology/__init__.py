"""Clusters as graphs of GPUs, switches, NICs and links, and the routes through them."""
