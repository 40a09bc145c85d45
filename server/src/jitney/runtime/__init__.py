"""The worker's side of inference: the only part of the program that imports torch."""
