"""What each rank does in one step, as data."""
