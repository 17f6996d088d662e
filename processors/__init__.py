"""Kafka -> Kafka: Faust agents that fold the streams into tables and send what follows from them."""
