"""Questions of many clients in few calls."""

import asyncio
from threading import get_ident

import pytest

from spn4cir.serving.batching import Batcher


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
