"""What else could do the processor's work: Kafka Streams and stock Faust, with the same ten accumulators."""
