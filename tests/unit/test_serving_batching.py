"""Questions of many clients in few calls, and the steps of a visitor."""

import asyncio
from threading import get_ident

import pytest

from spn4cir.search.hits import Hit
from spn4cir.serving.batching import Batcher
from spn4cir.serving.history import PageHistory, PageState, Reference
from spn4cir.serving.service import Found

GREEN, BLUE = Reference("green.png", "green.png", "/g"), Reference("blue.png", b"...", "data:")
FOUND = Found((Hit("red.png", 0.5, "/red.png"),), None)


def ask_all(questions, answer, largest=32):
    async def gather():
        async with Batcher(answer, largest, window=0.01) as batcher:
            return await asyncio.gather(*map(batcher.ask, questions), return_exceptions=True)

    return asyncio.run(gather())


@pytest.mark.parametrize(("largest", "calls"), [(32, 1), (8, 2), (5, 4), (1, 16)])
def test_questions_that_come_together_are_answered_together(largest, calls):
    batches = []

    def double(questions):
        batches.append(len(questions))
        return [2 * question for question in questions]

    assert ask_all(range(16), double, largest) == [2 * question for question in range(16)]
    assert len(batches) == calls
    assert max(batches) <= largest


def test_an_answer_is_worked_out_in_another_thread():
    assert ask_all([0], lambda _: [get_ident()]) != [get_ident()]


@pytest.mark.parametrize("largest", [1, 2, 32])
def test_a_bad_question_fails_alone(largest):
    def fails_at_three(questions):
        if 3 in questions:
            raise ValueError("three")
        return questions

    answers = ask_all(range(6), fails_at_three, largest)
    assert answers[:3] + answers[4:] == [0, 1, 2, 4, 5]
    assert str(answers[3]) == "three"


def test_a_client_that_leaves_holds_up_nobody():
    async def leave():
        async with Batcher(lambda questions: questions, 32, window=0.02) as batcher:
            leaving, staying = (asyncio.create_task(batcher.ask(number)) for number in range(2))
            await asyncio.sleep(0)
            leaving.cancel()
            return await staying

    assert asyncio.run(leave()) == 1


def test_undo_goes_back_step_by_step_to_an_empty_page():
    history = PageHistory()
    history.choose(GREEN)
    history.record("is red", FOUND)
    history.choose(BLUE)
    history.record("is longer", FOUND)
    seen = []
    while len(history.steps) > 1:
        history.undo()
        seen.append((history.current.reference, history.current.text, history.current.hits))
    assert seen == [(BLUE, "", ()), (GREEN, "is red", FOUND.hits), (GREEN, "", ()), (None, "", ())]
    history.undo()
    assert history.steps == [PageState()]


def test_the_oldest_steps_are_forgotten():
    history = PageHistory()
    for number in range(50):
        history.choose(Reference(str(number), b"", ""))
    names = [step.reference.name for step in history.steps if step.reference]
    assert names == [str(number) for number in range(50 - len(names), 50)]
    assert 2 < len(names) < 20
