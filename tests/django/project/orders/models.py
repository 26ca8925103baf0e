from django.db import models


class Order(models.Model):
    name = models.CharField(max_length=100, unique=True)
    status = models.CharField(max_length=20, default="new")


class Payment(models.Model):
    """A row that an activity writes; ``key`` is what must be there once."""

    key = models.CharField(max_length=100, unique=True)
    amount = models.IntegerField()
