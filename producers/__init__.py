"""Alpaca -> Kafka: thin, supervised, nothing lost between a socket and the log without being counted."""
