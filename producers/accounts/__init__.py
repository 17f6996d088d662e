"""Order events, positions and cash of every brokerage account -> Kafka, by socket and by REST."""
