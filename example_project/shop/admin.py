"""The shop's rows in Django's admin; the orchestrations are there, too."""

from django.contrib import admin

from .models import Customer, Invoice, Letter, Line, Order, Product, Subscription


class LineInline(admin.TabularInline):
    model = Line
    extra = 0


@admin.register(Order)
class OrderAdmin(admin.ModelAdmin):
    list_display = ("id", "customer", "state", "total", "created_at")
    list_filter = ("state",)
    inlines = (LineInline,)


admin.site.register([Customer, Invoice, Letter, Product, Subscription])
