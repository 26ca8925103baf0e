"""Filters of the admin's templates (internal)."""
