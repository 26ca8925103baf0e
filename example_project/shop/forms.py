"""What customers may send."""

import uuid

from django import forms

from .models import Plan, Product

MOST = 20


class CheckoutForm(forms.Form):
    """A quantity for each product.

    A product that is not sold, or a number that makes no sense, is refused as a whole.
    """

    checkout = forms.UUIDField(widget=forms.HiddenInput)

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.products = {product.sku: product for product in Product.objects.all()}
        for product in self.products.values():
            self.fields[f"quantity-{product.sku}"] = forms.IntegerField(
                label=f"Quantity of {product.name}",
                min_value=0,
                max_value=MOST,
                required=False,
                initial=0,
            )
        self.fields["checkout"].initial = uuid.uuid4

    def rows(self):
        """Return each product with its field, for the template."""
        return [(product, self[f"quantity-{sku}"]) for sku, product in self.products.items()]

    def clean(self):
        """Return the form with ``lines``: what is ordered of each product."""
        data = super().clean()
        unknown = [
            name for name in self.data if name.startswith("quantity-") and name not in self.fields
        ]
        if unknown:
            raise forms.ValidationError(
                f"We do not sell {unknown[0].removeprefix('quantity-')[:50]}."
            )
        data["lines"] = [
            (product, count)
            for sku, product in self.products.items()
            if (count := data.get(f"quantity-{sku}"))
        ]
        if not data["lines"] and not self.errors:
            raise forms.ValidationError("Choose at least one product.")
        return data


class ChangeForm(forms.Form):
    """A change of a subscription."""

    to = forms.ChoiceField(choices=[(each, each) for each in ("pause", "resume", "cancel", "plan")])
    plan = forms.ChoiceField(choices=Plan.choices, required=False)

    def clean(self):
        data = super().clean()
        if data.get("to") == "plan" and not data.get("plan"):
            self.add_error("plan", "Choose a plan.")
        return data


class SubscribeForm(forms.Form):
    plan = forms.ChoiceField(choices=Plan.choices)
