"""The simulated broker: orders, fills, accounts and their trading socket, beside the simulated market."""
