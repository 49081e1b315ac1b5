"""CPU of quota admission and settlement, by number of quotas: `python -m tests.benchmarks.admission`.

The best of several rounds, in this process, away from any edge: what each request pays for its quotas.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from proxy.core.call import Call
from proxy.core.caller import Caller
from proxy.core.endpoints import Endpoint
from proxy.core.quota import Quota
from proxy.core.shares import Grant, Need
from proxy.gateway.quotas import Quotas

CALLS = 20_000
ROUNDS = 7
LIMIT = 10**15
CALL = Call(
    method="POST",
    path="/v1/chat/completions",
    endpoint=Endpoint("/v1/chat/completions", meter="chat"),
    model="gpt-4o",
)
NEED = Need(1, 1_000, 1_000_000)
PATTERN = Quota("patterned", "user", "u", "tokens", "day", LIMIT, model="gpt-*")
QUOTAS = {
    "none": (),
    "requests": (Quota("r", "user", "u", "requests", "month", LIMIT),),
    "requests, tokens": (
        Quota("r", "user", "u", "requests", "month", LIMIT),
        Quota("t", "user", "u", "tokens", "month", LIMIT),
    ),
    "requests, tokens, cost": (
        Quota("r", "user", "u", "requests", "month", LIMIT),
        Quota("t", "user", "u", "tokens", "month", LIMIT),
        Quota("c", "user", "u", "cost", "month", LIMIT),
    ),
    "tokens of a model": (PATTERN,),
}


def holding(caller: Caller, at: float) -> Quotas:
    """Live quotas of a worker that was granted plenty."""
    live = Quotas(None)
    live.shares.lease, live.shares.deadline = 1, math.inf
    for number, binding in enumerate(live.rules_of(caller).bindings(CALL), 1):
        share = live.shares.turn(binding, at)
        live.shares.grant(share, Grant(share.key, number, LIMIT // 2, 0, 0, 0, LIMIT // 2))
    return live


def best_us(work: Callable[[], object]) -> float:
    """Microseconds of one call, the best of all rounds."""
    rounds = []
    for _ in range(ROUNDS):
        began = time.process_time()
        for _ in range(CALLS):
            work()
        rounds.append((time.process_time() - began) / CALLS * 1e6)
    return min(rounds)


def measure(quotas: tuple[Quota, ...]) -> tuple[float, float, float]:
    """µs of admission, of admission with settlement, and of the answer's headers."""
    now = time.time()
    caller = Caller("k", "u", quotas=quotas)
    live = holding(caller, now)

    def admit_and_settle() -> None:
        reservation = live.admit(caller, CALL, NEED)
        live.settle(reservation, tokens=600, cost_nanousd=900_000, counted=True)

    kept = live.admit(caller, CALL, NEED)
    return (
        best_us(lambda: live.admit(caller, CALL, NEED)),
        best_us(admit_and_settle),
        best_us(lambda: live.header_lines(caller, kept)),
    )


def main() -> None:
    """Print the table."""
    print(f"{'quotas':<24} {'admit':>8} {'+ settle':>9} {'headers':>8}   µs of CPU")
    for name, quotas in QUOTAS.items():
        admit, both, headers = measure(quotas)
        print(f"{name:<24} {admit:8.2f} {both:9.2f} {headers:8.2f}")


if __name__ == "__main__":
    main()
