import threading
from contextvars import ContextVar

from tasks.aside import aside

WHOSE = ContextVar("whose", default="nobody's")


def test_the_caller_goes_on_and_the_block_ends_when_all_is_shown():
    go_on, shown = threading.Event(), []

    def show(number, *, of):
        go_on.wait()
        shown.append((number, of))

    with aside(show, print) as later:
        for number in range(5):
            later(number, of=5)
        assert shown == []  # and yet we are here
        go_on.set()
    assert shown == [(number, 5) for number in range(5)]


def test_it_is_shown_as_what_it_was_when_it_was_told():
    shown = []
    with aside(lambda: shown.append(WHOSE.get()), print) as later:
        for whose in ("one run's", "another's"):
            token = WHOSE.set(whose)
            later()
            WHOSE.reset(token)
    assert shown == ["one run's", "another's"]


def test_what_cannot_be_shown_is_told_once_and_stops_nothing():
    shown, told = [], []

    def show(number):
        if number < 2:
            raise OSError("no page")
        shown.append(number)

    with aside(show, told.append) as later:
        for number in range(4):
            later(number)
    assert shown == [2, 3]
    (line,) = told
    assert "the run goes on" in line and "no page" in line


def test_what_was_told_before_an_error_is_shown():
    shown = []
    try:
        with aside(shown.append, print) as later:
            later("the round")
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert shown == ["the round"]
