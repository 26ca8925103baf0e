"""The shop: what customers see, and what has to happen after they have ordered."""
