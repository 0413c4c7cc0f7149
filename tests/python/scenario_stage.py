"""Plays a scenario through the public Python API on a manual clock, and holds it to the laws at every step."""

from __future__ import annotations

from typing import Any

from scenario_document import CALL, FAILED, SECOND, Mistake, duration, fields, instant, matches

from llmquota import Hold, ManualClock, QuotaExceeded, QuotaManager

#: The innermost account of a call, and the keys that name it; the first that are all there.
SCOPES = [
    ("provider_model", ("credential", "model")),
    ("credential", ("credential",)),
    ("user", ("user",)),
    ("model", ("model",)),
    ("task", ("task",)),
    ("goal", ("goal",)),
]
#: What the package calls the keys of a call.
ARGUMENTS = {"goal": "goal_id", "task": "task_id", "user": "user_id"}


def play(scenario: dict[str, Any], store: str = "memory:") -> None:
    """Plays all of it on a store. Raises :class:`Mistake` for the first thing that does not go as written.

    In the end every counter has to be what history adds up to.
    """
    stage = _Stage(scenario, store)
    for number, step in enumerate(scenario["steps"], 1):
        try:
            stage.step(step)
        except Mistake as error:
            raise Mistake(f"step {number}: {error}") from error
    differences = stage.manager.verify()
    if differences:
        raise Mistake(f"counters differ from history: {differences}")


class _Stage:
    def __init__(self, scenario: dict[str, Any], store: str) -> None:
        # In whole nanoseconds: a float of seconds since 1970 has none.
        self.wall: int = scenario["start"]
        self.clock = ManualClock(self.wall / SECOND)
        self.manager = QuotaManager(store, limits=scenario["limits"], clock=self.clock)
        self.holds: dict[str, Hold] = {}
        # Held until they expire, or the scenario ends.
        self.nameless: list[Hold] = []

    def step(self, step: dict[str, Any]) -> None:
        getattr(self, f"_{step['verb']}")(step["value"], step)

    # --- the verbs ---

    def _record(self, value: dict[str, Any], step: dict[str, Any]) -> None:
        told = _used(value, "tokens_used")
        for _ in range(value.get("times", 1)):
            self._tracker(value).record_request(**_names(value), **told)

    def _reserve(self, value: dict[str, Any], step: dict[str, Any]) -> None:
        # Proven each time: the answer is what explain says, a refusal takes nothing, a grant is not past any limit.
        tracker, asked = self._tracker(value), {**_names(value), **_asked(value)}
        explained, before = tracker.explain(**asked), self._lines(value)
        life = {"ttl": duration(value["ttl"]) / SECOND} if "ttl" in value else {}
        try:
            hold = tracker.reserve(**asked, **life)
        except QuotaExceeded as error:
            _refused(error, step)
            if error.decision != explained:
                raise Mistake(f"refused by {error.decision}, where explain says {explained}") from error
            after = self._lines(value)
            if after != before:
                raise Mistake(f"the refusal took something: {before} became {after}") from error
            return
        if not explained["allowed"]:
            raise Mistake(f"granted, where explain says {explained}")
        if "refused" in step:
            raise Mistake("granted, and should have been refused")
        for line in self._lines(value):
            # Dollars are sums of decimal fractions.
            if line["mode"] == "enforce" and line["used"] + line["held"] > line["cap"] + 1e-9:
                raise Mistake(f"granted past the limit: {line}")
        if "as" not in value:
            self.nameless.append(hold)
        elif value["as"] in self.holds:
            raise Mistake(f"there is a hold {value['as']!r} already")
        else:
            self.holds[value["as"]] = hold

    def _explain(self, value: dict[str, Any], step: dict[str, Any]) -> None:
        decision = self._tracker(value).explain(**_names(value), **_asked(value))
        if not decision["allowed"]:
            _refused(QuotaExceeded(decision), step)
        elif "refused" in step:
            raise Mistake("granted, and should have been refused")

    def _learn(self, value: dict[str, Any], step: dict[str, Any]) -> None:
        failed = {key: item for key, item in value.items() if key in FAILED}
        if "retry_after" in failed:
            failed["retry_after"] = duration(failed["retry_after"]) / SECOND
        names = {key: value[key] for key in ("credential", "model") if key in value}
        self.manager.learn(value.get("workspace"), **names, **failed)

    def _hear(self, value: dict[str, Any], step: dict[str, Any]) -> None:
        names = {key: value[key] for key in ("credential", "model") if key in value}
        self.manager.hear(value.get("workspace"), value["headers"].items(), **names)

    def _start(self, name: str, step: dict[str, Any]) -> None:
        hold = self._hold(name)
        hold.start()
        _became(hold, step)

    def _settle(self, value: dict[str, Any], step: dict[str, Any]) -> None:
        hold = self._hold(value["hold"])
        requests = {"requests": value["requests"]} if "requests" in value else {}
        hold.settle(**_used(value, "tokens"), **requests)
        _became(hold, step)

    def _release(self, name: str, step: dict[str, Any]) -> None:
        hold = self._hold(name)
        hold.release()
        _became(hold, step)

    def _abandon(self, name: str, step: dict[str, Any]) -> None:
        hold = self._hold(name)
        hold.__exit__(None, None, None)
        _became(hold, step)

    def _drop(self, name: str, step: dict[str, Any]) -> None:
        self._hold(name)
        del self.holds[name]

    def _wait(self, text: str, step: dict[str, Any]) -> None:
        self._pass(duration(text))

    def _wait_until(self, text: str, step: dict[str, Any]) -> None:
        wait = instant(text) - self.wall
        if wait <= 0:
            raise Mistake("wait_until: that is over; set_clock sets the clock back")
        self._pass(wait)

    def _set_clock(self, text: str, step: dict[str, Any]) -> None:
        self.wall = instant(text)
        self.clock.set_wall(self.wall / SECOND)

    def _change_limits(self, limits: dict[str, Any], step: dict[str, Any]) -> None:
        self.manager.configure(limits=limits)

    def _reset(self, workspace: str | None, step: dict[str, Any]) -> None:
        self.manager.get_tracker(workspace).reset()

    def _expect(self, value: dict[str, Any], step: dict[str, Any]) -> None:
        expected = {key: item for key, item in value.items() if key not in CALL}
        if not expected:
            raise Mistake("nothing is expected")
        scope = next((scope for scope, keys in SCOPES if all(key in value for key in keys)), "workspace")
        found = {
            "limits": {line["limit"]: line for line in self._lines(value) if line["scope"] == scope},
            "usage": self.manager.usage(value.get("workspace"), **_inside(value)),
        }
        if not _inside(value):
            tracker = self._tracker(value)
            snapshot = tracker.snapshot()
            found.update({key: snapshot[key] for key in ("status", "status_reasons", "holds", "provider_state")})
            found["can_make_request"] = tracker.can_make_request()
        matches("", expected, found)

    # --- what they are made of ---

    def _pass(self, nanos: int) -> None:
        self.wall += nanos
        self.clock.advance(nanos / SECOND)

    def _tracker(self, value: dict[str, Any]) -> Any:
        return self.manager.get_tracker(value.get("workspace"))

    def _hold(self, name: str) -> Hold:
        if name not in self.holds:
            raise Mistake(f"there is no hold {name!r}")
        return self.holds[name]

    def _lines(self, value: dict[str, Any]) -> list[dict[str, Any]]:
        return self.manager.limits(value.get("workspace"), **_inside(value))


def _inside(value: dict[str, Any]) -> dict[str, Any]:
    return {key: value[key] for key in CALL if key in value and key != "workspace"}


def _names(value: dict[str, Any]) -> dict[str, Any]:
    return {ARGUMENTS.get(key, key): name for key, name in _inside(value).items()}


def _asked(value: dict[str, Any]) -> dict[str, Any]:
    return {key: value[key] for key in ("tokens", "cost_usd") if key in value}


def _used(value: dict[str, Any], total: str) -> dict[str, Any]:
    """The arguments of a report; ``total`` is what its method calls all tokens."""
    keys = ("input_tokens", "output_tokens", "cached_tokens", "cost_usd")
    told = {key: value[key] for key in keys if key in value}
    if "tokens" in value:
        told[total] = value["tokens"]
    if "failed" in value:
        failed = value["failed"]
        fields("failed", failed, FAILED)
        told["success"] = False
        told.update({f"error_{key}": failed[key] for key in ("code", "status") if key in failed})
        if "retry_after" in failed:
            told["retry_after"] = duration(failed["retry_after"]) / SECOND
    return told


def _became(hold: Hold, step: dict[str, Any]) -> None:
    if "becomes" in step and hold.state != step["becomes"]:
        raise Mistake(f"becomes: expected {step['becomes']}, found {hold.state}")


def _refused(error: QuotaExceeded, step: dict[str, Any]) -> None:
    """Whether the refusal is the one that is written."""
    if "refused" not in step:
        raise Mistake(f"refused, and should have been granted: {error}") from error
    written = step["refused"]
    if not isinstance(written, dict) or not written:
        raise Mistake("refused: say why")
    if isinstance(written.get("retry_after"), str):
        written = {**written, "retry_after": duration(written["retry_after"]) / SECOND}
    found = {
        "reason": error.reason,
        "breaker": error.decision["breaker"],
        "never_fits": error.never_fits,
        "retry_at": error.retry_at,
        "retry_after": error.retry_after,
        "limits": [f"{line['scope']} {line['limit']}" for line in error.limits],
    }
    matches("refused", written, found)
