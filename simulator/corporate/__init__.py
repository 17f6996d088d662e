"""Announced corporate actions: what the simulator says of them over REST, and how a test makes one."""
