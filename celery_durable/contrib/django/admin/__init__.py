"""Orchestrations, entities and schedules in Django's admin; found by the admin's autodiscovery."""

from __future__ import annotations

from django.contrib import admin

from ..models import Entity, Instance, Schedule
from .entities import EntityAdmin
from .instances import InstanceAdmin
from .schedules import ScheduleAdmin

__all__ = ["EntityAdmin", "InstanceAdmin", "ScheduleAdmin"]

admin.site.register(Instance, InstanceAdmin)
admin.site.register(Entity, EntityAdmin)
admin.site.register(Schedule, ScheduleAdmin)
