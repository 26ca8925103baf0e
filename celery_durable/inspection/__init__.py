"""Internal: what people are shown of orchestrations; plain data, timelines and drawings."""
