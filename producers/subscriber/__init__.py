"""Open positions and movers -> control.subscriptions: what money is in stays subscribed, by itself."""
