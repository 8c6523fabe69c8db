"""`python -m simulator` is `shardsim`."""

from simulator.cli import main

if __name__ == "__main__":
    main()
