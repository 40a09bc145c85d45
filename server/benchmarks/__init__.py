"""What the server costs, as ratios of two things measured in one run: ``python -m benchmarks``.

Every benchmark alternates its sides in short rounds (A B A B …) and takes the median of the ratio
of neighbouring rounds, because the speed of a shared machine drifts by more than what is looked
for. Callers, echo and server are processes of their own; every answer is checked.
"""
