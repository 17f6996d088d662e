"""What every role shares: settings, errors, metrics, logs, Kafka clients, the local stack, commands."""

__version__ = "0.1.0"
