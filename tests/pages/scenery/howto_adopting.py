"""What the page on adopting takes for granted: nothing. ``tests/unit/cli`` runs its command."""
