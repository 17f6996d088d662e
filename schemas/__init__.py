"""What is on the topics: the catalogue, the Avro schemas, the codec, the event ids."""
