"""What each command of the command line does; `cli.py` only reads arguments and imports one of these."""
