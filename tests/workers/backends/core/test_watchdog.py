"""Whether an engine advances: a slow one is not called dead, a stopped one is."""

import pytest

from workers.backends.core.watchdog import Counts, Watchdog
from workers.core.concurrency import Load


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


class Engine:
    """Takes steps of `seconds`, watched twice a second, as the real one is."""

    def __init__(self, look_every=0.5):
        self.look_every = look_every
        self.clock = Clock()
        self.pulse = Watchdog(self.clock)
        self.found = ""

    def wait(self, seconds):
        end = self.clock.now + seconds
        while self.clock.now < end - 1e-9:
            self.clock.now += min(self.look_every, end - self.clock.now)
            self.found = self.found or self.pulse.stalled()

    def step(self, seconds, prompt=0):
        self.wait(seconds)
        self.pulse.step(prompt, 0)

    def warmed_up(self, seconds, tokens=256):
        """After a prompt of `tokens` that took `seconds` to read."""
        self.pulse.begin("warm", tokens)
        self.step(seconds, tokens)
        for _ in range(3):
            self.step(seconds / 20)
        self.pulse.end("warm")
        return self

    def until_found(self, most):
        began = self.clock.now
        while not self.found and self.clock.now - began < most:
            self.wait(0.5)
        return self.clock.now - began


@pytest.mark.parametrize("prompt", [10, 8000])
@pytest.mark.parametrize("a_token", [0.0002, 0.002, 0.02])  # seconds: a GPU, a CPU, a bad day
def test_a_slow_engine_that_advances_is_never_called_stalled(prompt, a_token):
    engine = Engine().warmed_up(256 * a_token)
    for number in range(5):
        engine.pulse.begin(str(number), prompt)
        engine.step(max(0.05, prompt * a_token * 2), prompt)  # and twice as slow as it was
        for _ in range(20):
            engine.step(a_token * 60)
        engine.pulse.end(str(number))
        engine.wait(200)
    assert engine.found == ""


@pytest.mark.parametrize(("prompt", "at_most"), [(10, 20), (8000, 200)])
def test_a_stopped_engine_is_found_soon_with_short_prompts_and_with_long_ones(prompt, at_most):
    engine = Engine().warmed_up(0.5)
    for _ in range(3):
        engine.pulse.begin("a", prompt)
        engine.step(prompt * 0.002, prompt)
        engine.pulse.end("a")
    engine.pulse.begin("b", prompt)
    assert 15 <= engine.until_found(10_000) <= at_most
    assert "no step for" in engine.found
    assert "with 1 requests" in engine.found


def test_an_engine_that_slows_down_bit_by_bit_is_not_called_stalled():
    engine = Engine().warmed_up(0.1)
    engine.pulse.begin("a", 100)
    for seconds in (1, 5, 14, 60, 200):
        engine.step(seconds)
    assert engine.found == ""


def test_an_engine_that_stops_in_the_middle_of_its_requests_is_found():
    engine = Engine().warmed_up(0.5)
    for name in "abcd":
        engine.pulse.begin(name, 50)
    engine.step(0.2, 200)
    engine.pulse.end("a")
    assert engine.until_found(1000) < 30
    assert "with 3 requests" in engine.found


def test_one_step_that_took_ages_does_not_excuse_a_hang_for_ever():
    engine = Engine().warmed_up(900)  # it compiled, say
    engine.pulse.begin("a", 8000)
    assert engine.until_found(10_000) <= 1801


def test_idle_time_is_no_stall_and_no_step():
    engine = Engine().warmed_up(0.5)
    engine.wait(5000)
    assert engine.found == ""
    assert engine.pulse.idle_for() == pytest.approx(5000)
    engine.pulse.step(0, 0)  # a late word of the step that ended long ago
    engine.pulse.begin("a", 10)
    assert engine.pulse.idle_for() == 0
    assert engine.pulse.deadline() == 15
    assert engine.until_found(1000) <= 16


def test_a_watch_that_was_held_up_itself_first_hears_the_steps_that_were_taken():
    engine = Engine().warmed_up(0.5)
    engine.pulse.begin("a", 10)
    engine.wait(1)
    engine.clock.now += 120  # the whole process was suspended, the engine's steps are unread
    assert engine.pulse.stalled() == ""
    assert 15 <= engine.until_found(1000) <= 16  # and no longer than that


def test_delays_of_the_watchdog_itself_do_not_count():
    engine = Engine(look_every=3).warmed_up(0.5)
    engine.pulse.begin("a", 10)
    engine.wait(80)  # which would be a hang, were a look not six times as late as it should be
    assert engine.found == ""
    engine.wait(20)
    assert "no step for" in engine.found


def test_counts_add_up_and_tokens_are_those_of_answered_calls():
    engine = Engine()
    engine.pulse.step(256, 0)
    engine.pulse.step(100, 64)
    engine.pulse.step(0, 0)
    engine.pulse.served(100, 4)
    engine.pulse.served(50, 3)
    assert engine.pulse.counts == Counts(150, 7, 356, 64, 3)


def test_the_load_is_the_schedulers_and_its_fullest_cache_since_the_last_look():
    engine = Engine()
    engine.pulse.begin("a", 10)
    engine.pulse.note_load(3, 2, 0.5)
    engine.pulse.note_load(4, 1, 0.25)
    engine.pulse.note_preempted(2)
    engine.pulse.note_preempted(1)
    assert engine.pulse.take_load() == Load(4, 1, 0.5, 3)
    engine.pulse.note_load(4, 0, 0.25)
    assert engine.pulse.take_load() == Load(4, 0, 0.25, 3)
    engine.pulse.end("a")  # no step follows the last request
    assert engine.pulse.take_load() == Load(preempted=3)
