"""Start and steer orders from the command line; a worker of ``shop`` has to run (see the README)."""

import argparse

from shop import OutOfStock, durable, fulfil_order, take_stock

from celery_durable import DurableError


def start(options):
    order = {"id": options.id, "items": options.items, "total": options.total}
    run = durable.start(fulfil_order.s(order), instance_id=options.id, tags={"customer": options.customer})
    print(f"{run.id} is {run.runtime_status}")


def decide(options):
    run = durable.get(options.id)
    # the id of the event makes it safe to say it twice
    run.raise_event("approval", {"approved": options.verb == "approve", "by": options.by}, event_id="the-approval")
    print(f"{options.id}: {options.verb}d by {options.by}")


def cancel(options):
    durable.get(options.id).cancel(reason=options.reason)
    print(f"{options.id} is asked to cancel; what was done is being taken back")


def show(options):
    run = durable.get(options.id)
    print(f"{run.id}  {run.name}  {run.runtime_status}  {run.custom_status or ''}")
    print(f"  input    {run.input['args']}")
    print(f"  output   {run.output}")
    if run.failure is not None:
        print(f"  failure  {type(run.failure).__name__}: {run.failure}")
    for event in run.history():
        print(f"  {event.kind:<20} {event.name}")


def wait(options):
    print(durable.get(options.id).wait(timeout=options.timeout))


def list_orders(options):
    page = durable.find(name=fulfil_order, status=options.status, limit=20)
    for run in page.items:
        print(f"{run.created_at:%Y-%m-%d %H:%M:%S}  {run.id:<20} {run.runtime_status}")
    print(f"{durable.count(name=fulfil_order, status=options.status)} in all")


def stock(options):
    print(take_stock.delay(options.items).get(timeout=30))


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)

    def verb(name, function, *, needs_id=True):
        command = verbs.add_parser(name)
        command.set_defaults(function=function)
        if needs_id:
            command.add_argument("id")
        return command

    command = verb("start", start)
    command.add_argument("items", nargs="+")
    command.add_argument("--total", type=int, default=50, help="from 100 on somebody has to approve")
    command.add_argument("--customer", default="7")
    for name in ("approve", "decline"):
        verb(name, decide).add_argument("--by", default="ada")
    verb("cancel", cancel).add_argument("--reason")
    verb("show", show)
    verb("wait", wait).add_argument("--timeout", type=float, default=30)
    verb("list", list_orders, needs_id=False).add_argument("--status")
    verb("stock", stock, needs_id=False).add_argument("items", nargs="+")
    options = parser.parse_args(arguments)
    try:
        options.function(options)
    except (DurableError, OutOfStock, PermissionError, TimeoutError) as error:
        raise SystemExit(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
