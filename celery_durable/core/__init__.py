"""The pure heart: events in, commands out. No clock, no socket, no session, no framework."""
