"""Connected but mute, or a quiet market? Silence beyond a channel's rhythm is suspected, REST settles it."""
