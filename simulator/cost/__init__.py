"""The program read as time: kernels, collectives, steps."""
