"""One small file for each family of algorithms; each function gives the rounds of a `Schedule`."""
