"""Search over layouts."""
