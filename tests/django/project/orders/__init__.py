"""An app with a table of its own, and orchestrations about it."""
