"""Our server and others, the same models and callers, in one run: ``python -m benchmarks.compare``.

Every peer is started once per model. Then every round visits each of them once, in an order that
moves on by one, so that none always follows the same neighbour's load or the start of a round; a
ratio is the median of those of single rounds. Every answer is checked; a wrong one voids the
figure.
"""
