"""Rules x positions -> watches: which exit guards what, beside which prices, in the account's partition."""
