"""Users of the sample models, for locust: each calls, waits for the answer, checks it, and again.

    locust -f loadtests/locustfile.py --host 127.0.0.1:8001              # with its web page
    locust -f loadtests/locustfile.py --host 127.0.0.1:8001 --headless -u 20 -t 30s

Each user is a gRPC client of its own. A wrong answer, an error and a missed deadline are failures.
"""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import grpc.experimental.gevent
from locust import User, events, task
from locust.exception import StopUser

sys.path.insert(0, str(Path(__file__).parent))

from scenarios import SCENARIOS, Case, chosen, mix_of

from jitney_client import Client

if TYPE_CHECKING:
    from argparse import ArgumentParser

    from locust.env import Environment

# locust runs its users as greenlets, and gRPC's threads would never let them run. Before the first
# channel, as grpcio's documentation has it.
grpc.experimental.gevent.init_gevent()

NUMBER = re.compile(r"\d+(\.\d+)?")
HOST = "127.0.0.1:8001"
PATIENCE = 30.0
"""Seconds for what is asked before the load."""


@events.init_command_line_parser.add_listener
def add_flags(parser: ArgumentParser) -> None:
    """Add our flags to locust's, on the command line and on the page."""
    parser.add_argument(
        "--mix",
        default="",
        env_var="JITNEY_MIX",
        help="models and how often each is called, such as simple=3,digits=1 (default: those of "
        "the sample models that are ready)",
    )
    parser.add_argument(
        "--timeout-ms",
        type=float,
        default=2000.0,
        env_var="JITNEY_TIMEOUT_MS",
        help="the deadline of a call, which the server is told (default 2000)",
    )


class Failed(Exception):
    """A call's failure; locust counts by the text, so numbers are left out of it."""

    def __init__(self, error: Exception) -> None:
        super().__init__(f"{type(error).__name__}: {NUMBER.sub('#', str(error))}")


class Plan:
    """What is called, and with which inputs; one for all users of a process."""

    def __init__(self, host: str, mix: str) -> None:
        wanted = mix_of(mix)
        self.cases: dict[str, list[Case]] = {}
        with Client(host, timeout=PATIENCE) as client:
            for model in wanted:
                # Models that were asked for have to be there; of the others, those that are.
                if mix or client.model_ready(model):
                    ask = lambda inputs, model=model: client.infer(model, inputs)  # noqa: E731
                    self.cases[model] = SCENARIOS[model].make(ask)
        self.mix = {model: wanted[model] for model in self.cases}
        if not self.mix:
            msg = f"{host} has none of the sample models ready: {', '.join(SCENARIOS)}"
            raise RuntimeError(msg)


plans: dict[str, Plan] = {}
"""The plan of a host; emptied when a test starts, as the page may change its flags."""


@events.test_start.add_listener
def start(environment: Environment, **_: object) -> None:
    """Ask for the right answers before there is load; end the test where that fails."""
    plans.clear()
    host = environment.host or HOST
    try:
        plans[host] = Plan(host, environment.parsed_options.mix)
    except Exception as error:  # noqa: BLE001  # whatever it is, there is nothing to test then
        print(f"nothing to test: {error}", file=sys.stderr)
        environment.process_exit_code = 1
        if environment.web_ui is None:  # whoever has the page may correct the flags there
            environment.runner.quit()


class Caller(User):
    """A user with a connection of its own, who never pauses."""

    host = HOST

    def on_start(self) -> None:
        """Connect; a user without a plan has nothing to do."""
        plan = plans.get(self.environment.host or HOST)
        if plan is None:
            raise StopUser
        self.plan = plan
        self.random = Random()  # noqa: S311  # load, no secret
        # No retries: every refusal shall be seen. Tensors in band, as most callers have them.
        self.client = Client(
            self.environment.host or HOST,
            timeout=self.environment.parsed_options.timeout_ms / 1e3,
            retries=None,
            shared_memory=False,
        )

    def on_stop(self) -> None:
        """Disconnect."""
        if hasattr(self, "client"):
            self.client.close()

    @task
    def call(self) -> None:
        """Call one of the models, and check the answer."""
        model = chosen(self.plan.mix, self.random)
        case = self.random.choice(self.plan.cases[model])
        failure, size = None, 0
        began = time.perf_counter()
        try:
            outputs = self.client.infer(model, case.inputs)
            took = time.perf_counter() - began
            size = sum(array.nbytes for array in outputs.values())
            case.check(outputs)
        except Exception as error:  # noqa: BLE001  # whatever it is, it is a failure of the call
            took = time.perf_counter() - began
            failure = Failed(error)
        self.environment.events.request.fire(
            request_type="gRPC",
            name=model,
            response_time=1e3 * took,
            response_length=size,
            exception=failure,
            context={},
        )
