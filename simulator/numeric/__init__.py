"""The program read as numbers: NumPy kernels, and the unsharded reference."""
