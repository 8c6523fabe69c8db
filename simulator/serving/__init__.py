"""Pure state machines of a serving system."""
