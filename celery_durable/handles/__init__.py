"""Internal: what an application holds; handles of orchestrations, entities and schedules."""
