"""The scheduler in virtual time: ``make simulate``, or ``python -m benchmarks.simulation``.

The policy that the server runs decides; arrivals, devices and time are simulated. Beside it run
published rules in our words (``baselines``), and above it stand what no scheduler can beat
(``bounds``) and, for one device, what the best of all schedules reaches (``optimum``).
"""
