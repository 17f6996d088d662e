"""The log, read again from its beginning: rebuilds and checks without Faust, without a broker account."""
