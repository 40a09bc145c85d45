"""The scenarios with a server process, by what is done to it."""
