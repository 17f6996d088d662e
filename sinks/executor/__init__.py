"""Orders to the broker: from durable intents, past risk checks and the kill switch, each exactly once."""
