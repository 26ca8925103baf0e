"""Internal. All that speaks to Celery and kombu; nothing here speaks SQL."""
