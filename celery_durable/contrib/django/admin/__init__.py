"""Orchestrations, entities, schedules and the audit trail in Django's admin; found by the admin's
autodiscovery.
"""

from __future__ import annotations

from django.contrib import admin

from ..models import AuditEntry, Entity, Instance, Schedule
from .audit import AuditAdmin
from .entities import EntityAdmin
from .instances import InstanceAdmin
from .schedules import ScheduleAdmin

__all__ = ["AuditAdmin", "EntityAdmin", "InstanceAdmin", "ScheduleAdmin"]

admin.site.register(Instance, InstanceAdmin)
admin.site.register(Entity, EntityAdmin)
admin.site.register(Schedule, ScheduleAdmin)
admin.site.register(AuditEntry, AuditAdmin)
