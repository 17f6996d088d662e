"""The auditor: final minutes of the log beside Alpaca's own history; what differs is fetched again."""
