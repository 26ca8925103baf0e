"""``manage.py demo``: a web server, a worker that does not survive, and 20 orders that do.

The orders are placed as customers do it, by forms; those that need an approval get it by the link
in the letter. Then the books of all that took part are compared: the shop's, the payment company's
and the warehouse's.
"""

import http.cookiejar
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from django.conf import settings
from django.core.management import call_command

from celery_durable import RuntimeStatus
from config.celery import durable
from fakes.models import Fault, switch_off, switch_on
from payments.models import Charge
from warehouse.models import Shelf

from .models import Letter, Order
from .seed import PASSWORD, seed

PROJECT = Path(__file__).resolve().parents[1]
PATIENCE = 300.0  # seconds; a busy machine is slow
LIMIT = settings.SHOP_APPROVAL_LIMIT
STORIES = [  # who, what, what is expected
    *[("ada", {"house-blend": 1 + n % 3, "filters": 1}, "delivered") for n in range(9)],
    *[("ada", {"espresso": 1, "grinder": 1}, "approved")] * 4,
    *[("ada", {"espresso": 2}, "declined")] * 2,
    *[("bob", {"kettle": 1, "sencha": 2}, "card declined")] * 3,
    *[("ada", {"siphon": 1, "kettle": 1}, "while it lasts")] * 2,
]
FAULTS = [
    (Fault.Service.PAYMENTS, Fault.Kind.SLOW, 4),
    (Fault.Service.PAYMENTS, Fault.Kind.ERROR, 3),
    (Fault.Service.WAREHOUSE, Fault.Kind.DOWN, 3),
    (Fault.Service.WAREHOUSE, Fault.Kind.DUPLICATE_CALLBACK, 2),
    (Fault.Service.WAREHOUSE, Fault.Kind.LOST_CALLBACK, 3),
]


class DemoFailed(Exception):
    """It cannot go on; the message says why."""


class Browser:
    """As much of a browser as a customer needs: cookies and forms."""

    def __init__(self, url):
        self.url = url
        self._opener = urllib.request.build_opener(
            urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        )

    def get(self, path):
        """Return the address that was led to, and the page."""
        with self._opener.open(urllib.parse.urljoin(self.url, path), timeout=20) as answer:
            return answer.url, answer.read().decode()

    def submit(self, page, action, **fields):
        """Fill in the form that is on a page, and send it to an address."""
        address, text = self.get(page)
        hidden = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', text))
        data = urllib.parse.urlencode({**hidden, **fields}).encode()
        with self._opener.open(urllib.parse.urljoin(address, action), data, timeout=20) as answer:
            return answer.url

    def log_in(self, name):
        self.submit("/login/", "/login/", username=name, password=PASSWORD)
        return self


class Show:
    """What is shown, in order."""

    def __init__(self, out, err):
        self.out, self.err = out, err
        self._began = time.monotonic()
        self._processes = {}
        self._workers = 0
        self._orders = []  # (number, story)

    def __enter__(self):
        self._directory = TemporaryDirectory(prefix="shop-demo-logs-")
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.url = f"http://127.0.0.1:{free.getsockname()[1]}"
        self._environment = {
            **os.environ,
            "SHOP_URL": self.url,
            "SHOP_DAY": "40",
            "SHOP_DELIVERY_DAYS": "0.1",
            "SHOP_WORKER_LEASE": "2",
            "TMPDIR": self._directory.name,  # what a killed worker leaves behind
            "PYTHONUNBUFFERED": "1",
        }
        return self

    def __exit__(self, *_):
        for name in list(self._processes):
            self.kill(name)
        for service, kind, _ in FAULTS:
            with suppress(Exception):
                switch_off(service, kind)
        self._directory.cleanup()

    def run(self):
        """Play it; return 0 if everything was as it should be."""
        try:
            return self.play()
        except (DemoFailed, urllib.error.URLError) as error:
            self.err.write(f"\nThe demo failed: {error}\n{self.logs()}")
            return 1

    def play(self):
        self.prepare()
        self.order()
        mine = [f"order-{number}" for number, _ in self._orders]
        self.wait(
            lambda: Charge.objects.filter(reference__in=mine).count() >= 4, "the first charges"
        )
        self.kill("worker")
        self.report(
            f"worker {self._workers} is killed: kill -9, with {self.open_orders()} of 20 orders"
            " under way"
        )
        self.start_worker()
        self.decide()
        self.wait(lambda: not self.open_orders(), "the end of all orders")
        self.report("all 20 are over")
        self.print_table()
        return self.print_checks()

    # -- what happens ------------------------------------------------------------------------------

    def prepare(self):
        call_command("migrate", verbosity=0)
        seed(customers=20)
        self._shelves = dict(Shelf.objects.values_list("sku", "quantity"))
        self.report(
            "the shop is seeded: shelves, customers, a few faults in the services that it uses"
        )
        for service, kind, times in FAULTS:
            switch_on(service, kind, times)
        port = self.url.rpartition(":")[2]
        self.start("web", "manage.py", "runserver", "--noreload", f"127.0.0.1:{port}")
        self.wait(self.answers, "the web server")
        self.report(f"the web server answers at {self.url}")
        self.start_worker()

    def answers(self):
        with suppress(OSError):
            return Browser(self.url).get("/")

    def order(self):
        browsers = {name: Browser(self.url).log_in(name) for name in ("ada", "bob")}
        for who, what, story in STORIES:
            fields = {f"quantity-{sku}": count for sku, count in what.items()}
            url = browsers[who].submit("/", "/checkout/", **fields)
            self._orders.append((int(url.rstrip("/").rpartition("/")[2]), story))
        self.report("20 orders are placed, by the form that customers use")

    def decide(self):
        """Open the links of all letters that ask for an approval, and press a button."""
        browser = Browser(self.url)
        for number, story in self._orders:
            if story not in ("approved", "declined"):
                continue
            asks = Letter.objects.filter(subject__startswith=f"Order {number} over")
            self.wait(asks.exists, f"the letter that asks about order {number}")
            link = re.search(r"http\S+", asks.first().body)[0]
            browser.submit(link, link, choice="0" if story == "approved" else "1")
        self.report("4 dear orders are approved and 2 are declined, by the links in the letters")

    # -- processes ---------------------------------------------------------------------------------

    def start(self, name, *arguments):
        with open(Path(self._directory.name) / f"{name}.log", "ab") as log:
            self._processes[name] = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=PROJECT,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def start_worker(self):
        self._workers += 1
        options = ["-c", "3", "-l", "INFO", "-n", f"demo-{self._workers}-{os.getpid()}@%h"]
        self.start("worker", "-m", "celery", "-A", "config", "worker", *options)
        self.report(f"worker {self._workers} is started")

    def kill(self, name):
        """Kill a process and its children, as the kernel does when memory runs out: no one can
        clean up.
        """
        process = self._processes.pop(name)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def logs(self):
        files = sorted(Path(self._directory.name).glob("*.log"))
        lines = [
            f"{file.stem}: {line}"
            for file in files
            for line in file.read_text(errors="replace").splitlines()[-20:]
        ]
        return "\n".join(lines)

    # -- telling and waiting -----------------------------------------------------------------------

    def report(self, text):
        self.out.write(f"{time.monotonic() - self._began:6.1f} s  {text}")
        self.out.flush()

    def wait(self, condition, what):
        """Wait until something is true.

        Raises:
            DemoFailed: it takes too long, or a process has ended.
        """
        end = time.monotonic() + PATIENCE
        while not (value := condition()):
            for name, process in self._processes.items():
                if process.poll() is not None:
                    raise DemoFailed(f"the {name} ended with code {process.returncode}")
            if time.monotonic() > end:
                raise DemoFailed(f"{what} did not come within {PATIENCE:.0f} s")
            time.sleep(0.1)
        return value

    def runs(self):
        return {number: durable.get(f"order-{number}") for number, _ in self._orders}

    def open_orders(self):
        return sum(not run.runtime_status.is_terminal for run in self.runs().values())

    # -- what came of it ---------------------------------------------------------------------------

    def print_table(self):
        orders = Order.objects.in_bulk([number for number, _ in self._orders])
        charges = {charge.reference: charge for charge in Charge.objects.all()}
        self.out.write(
            f"\n{'order':<10} {'total':>9}  {'story':<15} {'state':<10} {'orchestration':<13}"
            f" {'money':<21} note"
        )
        for (number, story), run in zip(self._orders, self.runs().values(), strict=True):
            order = orders[number]
            self.out.write(
                f"{order.reference:<10} {order.total / 100:>9.2f}  {story:<15} {order.state:<10}"
                f" {run.runtime_status:<13} {money(charges.get(order.reference)):<21}"
                f" {order.note}".rstrip()
            )

    def print_checks(self):
        self.out.write("")
        checks = self.checks()
        for text, is_good in checks.items():
            self.out.write(f"{'ok    ' if is_good else 'FAILED'}  {text}")
        is_good = all(checks.values())
        took = time.monotonic() - self._began
        self.out.write(
            f"\n{'Everything was as it should be' if is_good else 'SOMETHING WENT WRONG'}, in"
            f" {took:.1f} s."
        )
        if not is_good:
            self.err.write(self.logs())
        return 0 if is_good else 1

    def checks(self):
        """Compare all books; return what was compared, and whether it holds."""
        orders = Order.objects.prefetch_related("lines").in_bulk(
            [number for number, _ in self._orders]
        )
        states = [(story, orders[number].state) for number, story in self._orders]
        counted = Counter(states)
        sold = Counter()
        for order in orders.values():
            if order.state == Order.State.DELIVERED:
                sold.update({line.product_id: line.quantity for line in order.lines.all()})
        charges = {
            c.reference: c
            for c in Charge.objects.filter(reference__in=[o.reference for o in orders.values()])
        }
        siphons = min(2, self._shelves["siphon"])
        left = dict(Shelf.objects.values_list("sku", "quantity"))
        counts = Counter(
            Letter.objects.filter(to__endswith="@shop.example").values_list("subject", flat=True)
        )
        return {
            "all 20 orchestrations have completed": (
                {run.runtime_status for run in self.runs().values()} == {RuntimeStatus.COMPLETED}
            ),
            "9 ordinary orders and 4 approved ones were delivered": (
                counted["delivered", "delivered"] == 9 and counted["approved", "delivered"] == 4
            ),
            "2 were declined by the shop, 3 by the bank": (
                counted["declined", "cancelled"] == 2 and counted["card declined", "cancelled"] == 3
            ),
            f"{siphons} of 2 got the siphon of which there was {self._shelves['siphon']}": (
                counted["while it lasts", "delivered"] == siphons
            ),
            "what was delivered is paid, once; what was not is paid back": (
                all(
                    (
                        charge.taken - charge.returned
                        if (charge := charges.get(order.reference))
                        else 0
                    )
                    == (order.state == Order.State.DELIVERED)
                    for order in orders.values()
                )
                and all(charge.taken == 1 for charge in charges.values())
            ),
            "the shelves lack what was delivered, and nothing else": (
                left == {sku: count - sold[sku] for sku, count in self._shelves.items()}
            ),
            "no customer got a letter twice": all(
                counts[f"{order} is {state}"] <= 1
                for order in orders.values()
                for state in Order.State
            ),
        }


def money(charge):
    if charge is None:
        return "-"
    asked = f", asked {charge.requests}x" if charge.requests > 1 else ""
    return f"{'paid' if charge.is_paid else 'paid back'}{asked}"
