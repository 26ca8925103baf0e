"""Internal. The pure heart: events in, commands out. No clock, socket, session or framework."""
