"""One reader a family of models: config.json facts in, layers out. `from_config.py` chooses among them."""
