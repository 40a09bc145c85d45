"""The real server under open-loop load, on devices that only take time.

Everything but the model is real: gRPC, the server process, a worker process per device, slots and
control messages. What is measured against the same policy in virtual time is what the
implementation costs.
"""
