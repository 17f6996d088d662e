"""Orders, positions and accounts: a pure fold of trade updates, snapshots and marks, and the app for it."""
