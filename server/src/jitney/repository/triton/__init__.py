"""Triton's model configuration: ``config.pbtxt`` read, and its message made of what is in force."""
