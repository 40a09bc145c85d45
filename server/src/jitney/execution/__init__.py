"""Running batches: worker processes, the memory shared with them, and the messages between."""
