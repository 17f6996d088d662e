"""The push gateway: portfolio and tape over WebSockets and REST, for signed-in users. See decision 0017."""
