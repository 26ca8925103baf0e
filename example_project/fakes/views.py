"""The page on which the staff breaks the fake services."""

from django import forms
from django.contrib import messages
from django.contrib.admin.views.decorators import staff_member_required
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_POST

from .models import Fault, switch_off, switch_on


class FaultForm(forms.Form):
    service = forms.ChoiceField(choices=Fault.Service.choices)
    kind = forms.ChoiceField(choices=Fault.Kind.choices)
    left = forms.IntegerField(
        label="How often",
        min_value=1,
        max_value=1000,
        required=False,
        help_text="Empty: until it is switched off.",
    )


@staff_member_required
@require_GET
def overview(request):
    context = {"faults": Fault.objects.order_by("service", "kind"), "form": FaultForm()}
    return render(request, "fakes/faults.html", context)


@staff_member_required
@require_POST
def on(request):
    form = FaultForm(request.POST)
    if not form.is_valid():
        context = {"faults": Fault.objects.order_by("service", "kind"), "form": form}
        return render(request, "fakes/faults.html", context, status=400)
    chosen = form.cleaned_data
    switch_on(chosen["service"], chosen["kind"], chosen["left"])
    messages.success(request, f"{chosen['service']}: {chosen['kind']} is on")
    return redirect("faults")


@staff_member_required
@require_POST
def off(request):
    switch_off(request.POST.get("service"), request.POST.get("kind"))
    return redirect("faults")
