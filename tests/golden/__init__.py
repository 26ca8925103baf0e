"""Golden rows: what ten programs write into every table and send to the broker, step by step."""
