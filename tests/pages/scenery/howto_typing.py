"""What the page on types takes for granted: nothing; in the end its orchestrator runs."""


def end(env, names):
    run = env.start(names["fulfil"].s("42"))
    run.raise_event("approved", {"by": "ada"})
    env.run_until_idle()
    assert names["receipt_of"](run) == 7
