from django.core.management.base import BaseCommand, CommandError

from shop.models import Customer, Product
from shop.seed import PASSWORD, seed


class Command(BaseCommand):
    help = "Put products on the shelves and make customers; without effect on what is there."

    def add_arguments(self, parser):
        parser.add_argument("--customers", type=int, default=2000)

    def handle(self, *args, customers, **options):
        if customers < 0:
            raise CommandError("--customers is 0 or more")
        seed(customers)
        self.stdout.write(
            f"{Product.objects.count()} products and {Customer.objects.count()} customers are"
            " there."
        )
        self.stdout.write(
            f"Log in as ada, bob (whose card is declined) or staff; the password is {PASSWORD!r}."
        )
