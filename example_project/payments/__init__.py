"""A fake of a payment company: its HTTP API, and its books."""
