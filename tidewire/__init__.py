"""What every role rests on: settings, errors, metrics, logs, Kafka clients, columns, the local stack."""

__version__ = "0.1.0"
