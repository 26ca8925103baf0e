"""The code of the orchestrators, as it is written."""

from click.testing import CliRunner

from celery_durable.cli import durable as commands
from config.celery import app


def test_no_orchestrator_does_what_a_replay_may_do_otherwise():
    done = CliRunner().invoke(commands, ["lint"], obj=app)
    assert done.exit_code == 0, done.output
