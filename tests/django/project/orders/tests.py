"""Tests as a project writes them, run by ``manage.py test``: over SQLite in memory, where there is
no second connection.
"""

from datetime import timedelta
from unittest import mock

from django.db import connection, transaction
from django.test import TestCase, TransactionTestCase

from celery_durable import RuntimeStatus
from celery_durable.contrib.django.models import Instance
from celery_durable.contrib.django.testing import DurableTestMixin, durable_inline
from celery_durable.errors import ConfigurationError, InstanceNotFound
from tests.django.project.celery import app, durable

from .models import Order, Payment
from .tasks import (
    Counter,
    approval,
    checkout,
    failing,
    fan_out,
    fulfil,
    one_at_a_time,
    parent,
    patient,
    yearly,
)


class PlainTests(TestCase):
    """Without any helper: starts join the test's own transaction, on its own connection."""

    def test_a_start_is_there_and_nothing_is_sent(self):
        with self.captureOnCommitCallbacks() as callbacks:
            run = durable.start(fulfil.s("a"), instance_id="a")
        self.assertEqual(run.id, "a")
        self.assertEqual(Instance.objects.get().id, "a")
        self.assertEqual(len(callbacks), 1)

    def test_the_test_before_has_left_nothing(self):
        self.assertFalse(Instance.objects.exists())


class InlineTests(DurableTestMixin, TestCase):
    def test_runs_to_the_end_on_the_tests_own_connection(self):
        Order.objects.create(name="a")
        with transaction.atomic():
            run = durable.start(fulfil.s("a", 7), tags={"customer": "1"})
        self.assertEqual(Order.objects.get().status, "new")
        self.durable.run_until_idle()
        self.assertEqual(run.refresh().runtime_status, RuntimeStatus.COMPLETED)
        self.assertEqual(run.output, {"name": "a", "amount": 7})
        self.assertEqual(run.get(timeout=1), run.output)
        self.assertEqual(Order.objects.get().status, "charged")
        self.assertEqual(
            [found.id for found in durable.find(tags={"customer": "1"}).items], [run.id]
        )

    def test_what_is_rolled_back_never_runs(self):
        Order.objects.create(name="a")
        with self.assertRaises(KeyError), transaction.atomic():
            durable.start(fulfil.s("a"), instance_id="a")
            raise KeyError
        self.durable.run_until_idle()
        self.assertEqual(Order.objects.get().status, "new")
        with self.assertRaises(InstanceNotFound):
            durable.get("a")

    def test_on_commit_callbacks_that_are_executed_change_nothing(self):
        with self.captureOnCommitCallbacks(execute=True) as callbacks, transaction.atomic():
            run = fulfil.delay("a")
        self.assertEqual(len(callbacks), 1)
        self.durable.run_until_idle()
        self.assertEqual(run.refresh().runtime_status, RuntimeStatus.COMPLETED)
        self.assertEqual([str(event.kind) for event in run.history()].count("ActivityCompleted"), 2)

    def test_a_year_passes(self):
        Order.objects.create(name="a")
        run = self.durable.start(yearly.s("a"))
        began = self.durable.now
        self.durable.advance(days=29)
        self.assertEqual(Order.objects.get().status, "new")
        self.durable.advance(days=2)
        self.assertEqual(Order.objects.get().status, "reminded 1")
        self.durable.advance(timedelta(days=365))
        self.assertEqual(run.refresh().runtime_status, RuntimeStatus.COMPLETED)
        took = run.completed_at - run.created_at
        self.assertTrue(timedelta(days=360) <= took < timedelta(days=360, minutes=5), took)
        self.assertTrue(
            timedelta(days=396) <= self.durable.now - began < timedelta(days=396, minutes=5)
        )

    def test_retries_wait_for_their_time(self):
        run = self.durable.start(patient.s("a", 3))
        self.durable.advance(hours=2)
        self.assertEqual(run.refresh().runtime_status, RuntimeStatus.RUNNING)
        self.durable.advance(hours=6)
        self.assertEqual(run.refresh().output, 4)

    def test_events_entities_children_and_fan_outs(self):
        Order.objects.create(name="a")
        run = self.durable.start(approval.s("a"))
        self.assertEqual(run.refresh().custom_status, {"waits": "approved"})
        run.raise_event("approved", {"by": "eve"})
        durable.entity(Counter, "n").signal.add(2)
        durable.entity(Counter, "n").signal.add(3)
        child = durable.start(parent.s("b"))
        many = fan_out.delay(20)
        self.durable.run_until_idle()
        self.assertEqual(run.refresh().output, {"by": "eve"})
        self.assertEqual(durable.entity(Counter, "n").state(), {"value": 5})
        self.assertEqual(child.refresh().output["name"], "b")
        self.assertEqual(durable.get("child-of-b").parent_id, child.id)
        self.assertEqual(many.refresh().output, sum(range(20)))

    def test_a_fan_out_that_is_sent_in_parts(self):
        with mock.patch("celery_durable.engine.compilers.activity.PRESUMED_SENT", 10):
            many = self.durable.start(fan_out.s(25))
        self.assertEqual(many.refresh().output, sum(range(25)))

    def test_failures_and_verbs(self):
        run = self.durable.start(failing.s("declined"))
        self.assertEqual(run.refresh().runtime_status, RuntimeStatus.FAILED)
        with self.assertRaisesMessage(ValueError, "declined"):
            run.get(timeout=1)
        other = self.durable.start(approval.s("x"))
        other.suspend("wait")
        other.raise_event("approved")
        self.durable.advance(days=1)
        self.assertEqual(other.refresh().runtime_status, RuntimeStatus.SUSPENDED)
        other.resume()
        self.durable.run_until_idle()
        self.assertEqual(other.refresh().runtime_status, RuntimeStatus.COMPLETED)
        self.assertEqual(
            durable.start(approval.s("x"), instance_id=other.id, if_exists="restart").id, other.id
        )
        with self.assertRaises(ConfigurationError), transaction.atomic():
            durable.start(approval.s("x"), instance_id=other.id, if_exists="replace")

    def test_limits_let_one_in_at_a_time(self):
        first, second = one_at_a_time.delay("a"), one_at_a_time.delay("b")
        self.durable.run_until_idle()
        running = [
            run for run in (first, second) if run.refresh().runtime_status is RuntimeStatus.RUNNING
        ]
        self.assertEqual(len(running), 1)
        running[0].raise_event("go", 1)
        self.durable.run_until_idle()
        states = sorted(str(run.refresh().runtime_status) for run in (first, second))
        self.assertEqual(states, ["COMPLETED", "RUNNING"])

    def test_schedules_start_at_their_time(self):
        durable.schedule("daily", fulfil.s("a"), interval=86_400)
        self.durable.advance(days=3, hours=1)
        self.assertEqual(durable.count(name=fulfil.name, status="COMPLETED"), 3)

    def test_transactional_activities_commit_or_undo_their_rows_with_their_outcome(self):
        run = self.durable.start(checkout.s("k1", 5))
        self.assertEqual((run.refresh().output, Payment.objects.get().amount), (5, 5))
        failed = self.durable.start(checkout.s("k2", 13))
        self.assertEqual(failed.refresh().runtime_status, RuntimeStatus.FAILED)
        self.assertFalse(Payment.objects.filter(key="k2").exists())

    def test_workers_die_everywhere_and_each_run_is_rolled_back(self):
        Order.objects.create(name="a")

        def scenario(env):
            result = env.run(checkout.s("k1", 5))
            return result, env.run(fulfil.s("a", 7)), Payment.objects.count()

        points = self.durable.crash_everywhere(scenario)
        self.assertGreater(points, 20)
        self.assertFalse(Payment.objects.exists())
        self.assertFalse(Instance.objects.exists())
        self.assertEqual(scenario(self.durable), (5, {"name": "a", "amount": 7}, 1))

    def test_time_passes_as_a_run_needs_it(self):
        Order.objects.create(name="a")
        began = self.durable.now
        self.durable.run(yearly.s("a"))
        self.assertGreater(self.durable.now - began, timedelta(days=359))


class SettingsTests(TestCase):
    def test_the_settings_of_the_project_are_back(self):
        with durable_inline() as env:
            env.start(fulfil.s("a"))
        self.assertFalse(app.conf.task_always_eager)


class CommittedTests(TransactionTestCase):
    def test_works_with_real_commits_and_leaves_the_store_empty(self):
        with durable_inline() as runner:
            with transaction.atomic():
                durable.start(fulfil.s("a"), instance_id="a")
            runner.run_until_idle()
            self.assertEqual(durable.get("a").runtime_status, RuntimeStatus.COMPLETED)
        self.assertFalse(connection.in_atomic_block)
        self.assertFalse(Instance.objects.exists())
