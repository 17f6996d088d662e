"""Exit rules beside the prices that they watch: what fires is durable before anybody hears of it."""
