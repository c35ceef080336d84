"""Which workflows do not move by themselves, why, and what a person can do about it."""
