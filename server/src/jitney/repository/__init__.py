"""Models on disk: what is there, what it says about itself, and its bytes."""
