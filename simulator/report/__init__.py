"""Pages, tables and traces."""
