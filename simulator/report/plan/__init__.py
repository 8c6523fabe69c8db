"""The page about a plan."""
