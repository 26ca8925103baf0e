"""The shop, its admin and Flower as people use them, in a real browser.

One module, so that one process has the stack.
"""

import re

import pytest

from tests.conftest import wait_until

from .conftest import PATIENCE, Error, expect

pytestmark = pytest.mark.full

ORCHESTRATIONS = "/admin/celery_durable/instance/"


def order(page, **quantities):
    """Order something, by the products' names in the form; return the number of the order."""
    page.goto("/")
    for name, quantity in quantities.items():
        page.get_by_label(f"Quantity of {name.replace('_', ' ')}").fill(str(quantity))
    page.get_by_role("button", name="Order and pay").click()
    page.wait_for_url(re.compile(r"/orders/\d+/$"))
    return int(re.search(r"/orders/(\d+)/", page.url)[1])


def look_again(page):
    """Load a page anew; False if it is on its way to another one by itself."""
    try:
        page.reload()
    except Error:
        return False
    return True


def press(page, button):
    """Press a button that leads to another page, and wait for that."""
    with page.expect_navigation():
        button.click()


def shows(page, stage):
    """Wait until the order's page says how far it is, by itself."""
    expect(page.locator("#progress [data-stage]")).to_have_text(stage, timeout=PATIENCE)


# -- the shop --------------------------------------------------------------------------------------


def ask_for_approval(page, number):
    """Open the letter's link, as the staff does."""
    article = page.locator("article", has_text=f"Order {number} over")

    def is_there():
        page.goto("/letters/")
        return article.count()

    wait_until(is_there, 300, "the letter")
    page.goto(article.get_by_role("link").get_attribute("href"))


def test_an_order_is_delivered_while_its_customer_looks_on(log_in, picture):
    page = log_in("ada")
    order(page, House_blend=2, Paper_filters=1)
    shows(page, "delivered")
    expect(page.get_by_role("progressbar")).to_have_attribute("value", "6")
    expect(page.locator("[data-parcel]")).to_have_text(re.compile("^P[0-9A-F]{10}$"))
    picture(page, "shop-order")
    page.get_by_role("button", name="Return it").click()
    expect(page.get_by_role("status")).to_have_text("You get your money back.")


def test_a_dear_order_is_approved_by_the_link_in_the_letter(log_in, visitor):
    customer, staff = log_in("ada"), log_in("staff")
    number = order(customer, Espresso_machine=1)
    shows(customer, "waiting for approval")
    ask_for_approval(staff, number)
    expect(staff.get_by_role("heading", name=f"Order {number} over 1290.00 EUR")).to_be_visible()
    shows(customer, "waiting for approval")  # opening the link has changed nothing
    staff.get_by_role("button", name="Approve").click()
    expect(staff.get_by_role("heading", name="Thank you")).to_be_visible()
    shows(customer, "delivered")


def test_a_dear_order_can_be_cancelled_while_it_waits(log_in):
    page = log_in("ada")
    order(page, Espresso_machine=1)
    shows(page, "waiting for approval")
    page.get_by_role("button", name="Cancel this order").click()
    shows(page, "cancelled")
    expect(page.locator("[data-note]")).to_have_text(": cancelled on request")


def test_a_subscription_is_paid_paused_and_cancelled(log_in):
    page = log_in("ada")
    page.goto("/subscriptions/")
    page.get_by_label("Plan").select_option("A bag of beans")
    press(page, page.get_by_role("button", name="Subscribe"))
    card = page.locator("section.card").last

    def becomes(pattern):

        wait_until(lambda: look_again(page) and re.search(pattern, card.inner_text()), 300, pattern)

    becomes(r"Active. Paid: \d{4}-\d\d\.")
    press(page, card.get_by_role("button", name="Pause"))
    becomes("Paused")
    press(page, card.get_by_role("button", name="Cancel"))
    becomes("Ended: cancelled")


# -- the admin -------------------------------------------------------------------------------------


@pytest.fixture
def ordered(log_in):
    """Order something; return the customer's page and the id of the orchestration."""

    def place(**what):
        page = log_in("ada")
        return page, f"order-{order(page, **what)}"

    return place


@pytest.fixture
def waiting(log_in, sessions):
    """Return the number of an order that waits for its approval: the same for all who only look at
    it.
    """
    if "waiting" not in sessions:
        page = log_in("ada")
        sessions["waiting"] = order(page, House_blend=1, Hand_grinder=1, Espresso_machine=1)
        shows(page, "waiting for approval")
    return sessions["waiting"]


def open_in_admin(page, instance_id):
    """Find an orchestration in the list, by its id, and open it."""
    page.goto(ORCHESTRATIONS)
    page.get_by_label("Search").fill(instance_id)
    page.get_by_role("button", name="Filter").click()
    page.get_by_role("link", name=instance_id, exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_contain_text(instance_id)


def use_verb(page, verb, reason):
    page.locator("#durable-verbs").get_by_role("button", name=f"{verb}…").click()
    page.get_by_label("Reason").fill(reason)
    press(page, page.locator("#durable-yes"))
    expect(page.get_by_role("heading", level=1)).to_contain_text("order-")


def becomes(page, status):
    """Look again until the orchestration has a status."""
    title = page.get_by_role("heading", level=1)
    wait_until(lambda: look_again(page) and status in title.inner_text().lower(), 300, status)


def test_the_list_finds_by_status_and_tells_what_each_waits_for(log_in, waiting, ordered, picture):
    instance_id = f"order-{waiting}"
    _, other = ordered(Sencha=1)
    staff = log_in("staff")
    staff.goto(ORCHESTRATIONS)
    picture(staff, "admin-list")
    staff.get_by_label("running").check()
    staff.get_by_role("button", name="Filter").click()
    row = staff.locator(f'tr[data-instance="approval-{waiting}"]')
    expect(row).to_contain_text("event decision, until")
    staff.get_by_label("Search").fill(other)
    staff.get_by_label("running").uncheck()
    staff.get_by_role("button", name="Filter").click()
    expect(staff.locator("#result_list tbody tr").first).to_contain_text(other)
    expect(staff.locator("#result_list tbody tr", has_text=f"{instance_id} ")).to_have_count(0)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_timeline_shows_each_activity(log_in, waiting, picture, scheme):
    staff = log_in("staff", color_scheme=scheme)
    open_in_admin(staff, f"order-{waiting}")
    timeline = staff.locator("#durable-timeline svg")
    expect(timeline).to_be_visible()
    expect(timeline).to_contain_text("reserve_stock")
    expect(timeline).to_contain_text("charge_order")
    background = staff.evaluate("getComputedStyle(document.body).backgroundColor")
    brightness = sum(int(part) for part in background.removeprefix("rgb(").rstrip(")").split(","))
    assert (brightness > 384) == (scheme == "light")
    picture(staff, f"admin-timeline-{scheme}")
    staff.get_by_text("The timeline as a table").click()
    expect(staff.locator("#durable-timeline table")).to_contain_text("reserve_stock")


def test_a_long_name_leaves_room_for_the_details_of_events(log_in, waiting):
    staff = log_in("staff")
    open_in_admin(staff, f"order-{waiting}")
    name = staff.locator("#durable-events tbody td:nth-of-type(3)").first
    name.evaluate("cell => cell.textContent = 'celery_durable.reply:' + '7'.repeat(40)")
    assert (
        staff.locator("#durable-events tbody td:last-of-type").first.bounding_box()["width"] > 150
    )


def test_an_orchestration_is_suspended_and_resumed_with_a_reason(log_in, ordered):
    customer, instance_id = ordered(Espresso_machine=1)
    shows(customer, "waiting for approval")
    staff = log_in("staff")
    open_in_admin(staff, instance_id)
    staff.locator("#durable-verbs").get_by_role("button", name="Suspend…").click()
    staff.locator("#durable-yes").click()  # without a reason
    expect(staff.get_by_label("Reason")).to_be_visible()
    staff.get_by_label("Reason").fill("the warehouse moves")
    press(staff, staff.locator("#durable-yes"))
    becomes(staff, "suspended")
    expect(staff.locator("#durable-reason")).to_contain_text("the warehouse moves")
    use_verb(staff, "Resume", "it has moved")
    becomes(staff, "running")


def test_a_failed_order_is_rewound_when_the_cause_is_gone(log_in, ordered):
    staff = log_in("staff")
    staff.goto("/faults/")
    staff.get_by_label("Service").select_option("payments")
    staff.get_by_label("Kind").select_option("refuse")
    staff.get_by_role("button", name="Switch on").click()
    try:
        customer, instance_id = ordered(Gooseneck_kettle=1)
        shows(customer, "cancelled")
    finally:
        staff.goto("/faults/")
        staff.get_by_role("button", name="Switch off").click()
    expect(customer.locator("[data-note]")).to_have_text(": something broke: Refused")
    open_in_admin(staff, instance_id)
    becomes(staff, "failed")
    use_verb(staff, "Rewind", "the key was renewed")
    wait_until(
        lambda: (
            look_again(customer) and "delivered" in customer.locator("[data-stage]").inner_text()
        ),
        300,
        "delivery",
    )
    becomes(staff, "completed")
    expect(staff.locator("#durable-history")).to_contain_text("the key was renewed")


def test_a_customer_does_not_see_the_admin(log_in):
    page = log_in("ada")
    page.goto(ORCHESTRATIONS)
    expect(page.get_by_label("Password")).to_be_visible()
    assert page.url.startswith(page.url.partition("/admin/")[0] + "/admin/login/")


# -- Flower ----------------------------------------------------------------------------------------


def test_the_tab_lists_orchestrations_and_shows_the_timeline(waiting, visitor, stack, picture):
    instance_id, operator = f"order-{waiting}", visitor()
    operator.goto(stack.flower)
    operator.locator("#durable-tab").click()
    operator.get_by_label("Id begins with").fill(instance_id)
    operator.get_by_role("button", name="Filter").click()
    row = operator.get_by_role("row", name=instance_id).first
    expect(row).to_contain_text("RUNNING")
    operator.get_by_role("link", name=instance_id, exact=True).click()
    expect(operator.get_by_role("heading", level=1)).to_have_text(instance_id)
    expect(operator.get_by_role("region", name="Timeline").locator("svg")).to_contain_text(
        "charge_order"
    )
    picture(operator, "flower-orchestration")


def test_the_page_of_an_orchestration_follows_it(log_in, visitor, stack):
    customer = log_in("ada")
    number = order(customer, Espresso_machine=1)
    shows(customer, "waiting for approval")
    operator = visitor()
    operator.goto(f"{stack.flower}/orchestrations/show?id=order-{number}")
    expect(operator.locator("#durable-status")).to_have_text("RUNNING")
    customer.get_by_role("button", name="Cancel this order").click()
    expect(operator.locator("#durable-status")).to_have_text("CANCELED", timeout=PATIENCE)


def test_nothing_can_be_changed_where_no_one_has_to_log_in(waiting, visitor, stack):
    operator = visitor()
    operator.goto(f"{stack.flower}/orchestrations/show?id=order-{waiting}")
    expect(operator.locator("#durable-verbs")).to_contain_text("nothing can be changed here")


def test_the_ordinary_list_of_tasks_shows_the_orchestration(log_in, visitor, stack):
    customer = log_in("ada")
    number = order(customer, Paper_filters=3)
    shows(customer, "delivered")
    operator = visitor()
    operator.goto(f"{stack.flower}/tasks")
    wait_until(
        lambda: (
            look_again(operator)
            and f"order-{number}" in operator.locator("#tasks-table").inner_text()
        ),
        300,
        "the task",
    )


# -- on a telephone --------------------------------------------------------------------------------

TELEPHONE = {"width": 390, "height": 844}
LONG = "nothing" * 13  # has no place where it may be broken
SCHEDULES = "/admin/celery_durable/schedule/"


@pytest.fixture
def long_names(log_in, sessions):
    """Start orchestrations, and make a schedule, by the forms of the admin: with names that are
    broken nowhere, and one that fails.
    """
    if "long" in sessions:
        return
    staff = log_in("staff")
    for task, name, begins in (
        ("shop.approval", LONG, "2036-01-01T00:00"),
        ("shop.refund", "failing", ""),
    ):
        staff.goto(f"{ORCHESTRATIONS}add/?task={task}&args=[99999]")
        staff.locator("#id_instance_id").fill(name)
        staff.locator("#id_start_at").fill(begins)
        staff.locator("#id_tags").fill(f"{LONG}={LONG}\nland=de")
        press(staff, staff.locator("#durable-yes"))
        expect(staff.get_by_role("heading", level=1)).to_contain_text(name)
    becomes(staff, "failed")
    staff.goto(f"{SCHEDULES}add/")
    staff.locator("#id_name").fill(LONG)
    staff.locator("#id_task").fill("shop.monthly_invoices")
    staff.locator("#id_args").fill('["2026-11"]')
    staff.locator("#id_cron").fill("0 3 1 * *")
    press(staff, staff.locator("#durable-yes"))
    expect(staff.get_by_role("heading", level=1)).to_contain_text(LONG)
    sessions["long"] = True


def unfold(page):
    """Open all that is folded."""
    page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")


# how many texts were looked at, and those whose contrast is below 4.5 (links have Flower's colour)
FAINT = r"""() => {
    const numbers = colour => colour.match(/[\d.]+/g).map(Number);
    const linear = part => part <= 10 ? part / 3294 : ((part / 255 + 0.055) / 1.055) ** 2.4;
    const light = ([red, green, blue]) =>
        0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue);
    const behind = element => {
        for (; element; element = element.parentElement) {
            const style = getComputedStyle(element), colour = numbers(style.backgroundColor);
            if (style.backgroundImage !== "none" || (colour[3] > 0 && colour[3] < 1)) return null;
            if (colour.length === 3 || colour[3] === 1) return colour;
        }
        return [255, 255, 255];
    };
    const texts = document.createTreeWalker(
        document.querySelector(".durable-tab"), NodeFilter.SHOW_TEXT);
    const faint = [];
    let count = 0;
    while (texts.nextNode()) {
        const text = texts.currentNode.textContent.trim(), element = texts.currentNode.parentElement;
        const ground = behind(element);
        if (!text || !ground || !element.getClientRects().length) continue;
        if (element.closest("svg, option, a:not(.btn)")) continue;
        const pair = [light(numbers(getComputedStyle(element).color)), light(ground)];
        const contrast = (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
        count += 1;
        if (contrast < 4.5) faint.push(`${contrast.toFixed(2)}: ${text}`);
    }
    return [count, faint];
}"""


def assert_fits(page):
    """Assert that a page is no wider than its window: what is wider scrolls inside a box."""
    unfold(page)
    width, window = page.evaluate(
        "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    )
    assert width <= window, f"{page.url} is {width} wide"


def test_the_admin_fits_a_telephone(log_in, waiting, long_names):
    staff, one = log_in("staff"), f"{ORCHESTRATIONS}order-{waiting}"
    staff.set_viewport_size(TELEPHONE)
    for path in (
        ORCHESTRATIONS, f"{ORCHESTRATIONS}?status=FAILED", f"{ORCHESTRATIONS}add/",
        f"{one}/change/", f"{one}/ask/", f"{one}/history/",
        f"{ORCHESTRATIONS}failing/change/", f"{ORCHESTRATIONS}{LONG}/change/",
        f"{ORCHESTRATIONS}{LONG}/ask/", f"{ORCHESTRATIONS}{LONG}/history/",
        SCHEDULES, f"{SCHEDULES}add/", f"{SCHEDULES}{LONG}/change/", f"{SCHEDULES}{LONG}/edit/",
        "/admin/celery_durable/entity/", "/admin/celery_durable/auditentry/",
    ):  # fmt: skip
        staff.goto(path)
        assert_fits(staff)
    for path in (f"{one}/change/", f"{ORCHESTRATIONS}{LONG}/change/"):
        for verb in ("Suspend…", "Raise event…"):
            staff.goto(path)
            press(staff, staff.locator("#durable-verbs").get_by_role("button", name=verb))
            assert_fits(staff)
    staff.goto(f"{SCHEDULES}{LONG}/change/")
    press(staff, staff.get_by_role("button", name="Pause…"))
    assert_fits(staff)
    staff.goto(ORCHESTRATIONS)  # a table that is wider, in its box
    box = staff.locator(".durable-scroll")
    assert box.evaluate("box => box.scrollWidth > box.clientWidth")


def test_flower_fits_a_telephone(waiting, visitor, stack, long_names):
    operator = visitor()
    operator.set_viewport_size(TELEPHONE)
    for path in (
        "", f"/show?id=order-{waiting}", "/show?id=failing", f"/show?id={LONG}",
        "/schedules", "/entities",
    ):  # fmt: skip
        operator.goto(f"{stack.flower}/orchestrations{path}")
        assert_fits(operator)
    operator.goto(f"{stack.flower}/orchestrations")
    assert operator.locator("td.durable-id").first.bounding_box()["width"] > 150
    operator.goto(f"{stack.flower}/orchestrations/show?id=failing")
    expect(operator.locator("#durable-failure")).to_contain_text("frames of libraries")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_what_flowers_tab_says_stands_out_from_its_background(
    waiting, visitor, stack, long_names, scheme
):
    operator = visitor(color_scheme=scheme)
    seen = 0
    for path in ("", f"/show?id=order-{waiting}", "/show?id=failing", "/schedules", "/entities"):
        operator.goto(f"{stack.flower}/orchestrations{path}")
        unfold(operator)
        looked_at, faint = operator.evaluate(FAINT)
        seen += looked_at
        assert not faint, f"{operator.url}, {scheme}"
    assert seen > 50


def test_the_shop_fits_a_telephone(log_in, waiting):
    for name in ("ada", "staff"):
        page = log_in(name)
        page.set_viewport_size(TELEPHONE)
        paths = ["/", "/orders/", f"/orders/{waiting}/", "/subscriptions/"]
        for path in [*paths, *(["/letters/", "/faults/"] if name == "staff" else [])]:
            page.goto(path)
            assert_fits(page)
