"""The search page of a real `spn4cir serve`, in Chromium and asked by many clients at once."""

import re
import signal
import socket
import struct
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import pytest

from tests.helpers.browser import SlowAnswers, compose
from tests.helpers.checkpoints import write_checkpoint
from tests.helpers.layouts import draw
from tests.helpers.server import HELD_SEARCHES, Server, serve

IMAGES = 30
CLIENTS = 16
CHANGE = "What should be different"
HTTP = httpx.Client(timeout=120, limits=httpx.Limits(max_keepalive_connections=0))
HTML = "<img src=x onerror=planted=1>"
PHONE = {"viewport": {"width": 360, "height": 740}, "color_scheme": "dark"}


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("page")
    for number in range(IMAGES):
        name = f"{number:02}{HTML if number == IMAGES - 1 else ''}.png"
        draw(folder / "gallery" / ("in" if number % 3 == 0 else "") / name, number)
    draw(folder / "upload.png", 99)
    draw(folder / f"{HTML}.png", 97)
    (folder / "broken.png").write_text("no picture")
    draw(folder / "vast.png", 98).write_bytes(bytes(11_000_000))
    write_checkpoint(folder / "best.pt", stage=2)
    with serve(folder, before=HELD_SEARCHES) as started:
        yield started


def choose(page, name: str) -> None:
    page.get_by_label("Images of the gallery").get_by_role("button", name=name, exact=True).click()
    page.get_by_role("img", name=f"The chosen image: {name}").wait_for()


def ask(page, text: str) -> None:
    page.get_by_label(CHANGE).fill(text)
    page.keyboard.press("Enter")
    page.get_by_text(f'for "{text}" from').wait_for()


def searching(page) -> Any:
    """A page that waits for the answer to "is red" from 01.png."""
    choose(page, "01.png")
    page.get_by_label(CHANGE).fill("is red")
    page.keyboard.press("Enter")
    page.get_by_text("Searching ...").wait_for()
    return page


def ranking(page) -> list[str]:
    return [item.get_attribute("alt").split(": ")[1] for item in page.get_by_role("img", name="Rank ").all()]


def found_by(server: Server, name: str, text: str, k: int) -> list[str]:
    fields = {"reference": name, "text": text, "k": str(k)}
    return [hit["name"] for hit in HTTP.post(f"{server.address}/api/search", data=fields).json()["hits"]]


def test_pick_type_see_refine_undo(server, open_page):
    page = open_page(server.address)
    choose(page, "01.png")
    page.wait_for_function("name => document.activeElement.ariaLabel === name", arg=CHANGE)
    ask(page, "is red")
    first = ranking(page)
    assert first == found_by(server, "01.png", "is red", 12)
    assert page.get_by_text(re.compile(r"^score -?0\.\d{3}$")).count() == 12
    page.get_by_role("button", name=f"Refine from {first[2]}, rank 3").click()
    page.get_by_role("img", name=f"The chosen image: {first[2]}").wait_for()
    page.get_by_role("status").get_by_text('The ranking is still that of "is red" from 01.png').wait_for()
    assert ranking(page) == first
    page.wait_for_function("getSelection().toString() === 'is red'")
    page.keyboard.type("has stripes")
    page.keyboard.press("Enter")
    page.get_by_text(f'for "has stripes" from {first[2]}').wait_for()
    assert ranking(page) == found_by(server, first[2], "has stripes", 12)
    page.get_by_role("button", name="Undo").click()
    page.get_by_text('Undone. 12 images for "is red" from 01.png').wait_for()
    assert ranking(page) == first
    page.wait_for_function("document.querySelector('input[data-change]').value === 'is red'")
    assert page.get_by_label("Searches so far").get_by_role("listitem").all_inner_texts() == ["01.png: is red"]


@pytest.mark.parametrize("undo", [False, True])
def test_the_label_of_the_change_is_above_its_placeholder(server, open_page, undo):
    page = open_page(server.address)
    page.get_by_text("1 to 24 of 30").wait_for()
    if undo:
        choose(page, "01.png")
        page.get_by_role("button", name="Undo").click()
        page.get_by_text("Undone. No image is chosen.").wait_for()
        page.get_by_role("heading", name="3. The ranking").click()
    label, field = page.get_by_text(CHANGE, exact=True).bounding_box(), page.get_by_label(CHANGE).bounding_box()
    text_top = field["y"] + page.get_by_label(CHANGE).evaluate(
        "field => parseFloat(getComputedStyle(field).paddingTop)"
    )
    assert page.get_by_label(CHANGE).input_value() == ""
    assert label["y"] + label["height"] <= text_top + 1


def test_a_result_is_enlarged_with_its_name_and_score(server, open_page):
    page = open_page(server.address)
    choose(page, "01.png")
    ask(page, "is red")
    name = ranking(page)[1]
    score = page.get_by_text(re.compile(r"^score ")).nth(1).inner_text()
    page.get_by_role("button", name=f"Enlarge {name}, rank 2").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("heading", name=name).wait_for()
    dialog.get_by_text(f"rank 2, {score}").wait_for()
    page.wait_for_function("document.querySelector('.enlarged img').naturalWidth > 0")
    page.keyboard.press("Escape")
    dialog.wait_for(state="hidden")
    page.get_by_role("button", name=f"Enlarge {name}, rank 2").click()
    dialog.get_by_role("button", name="Refine").click()
    page.get_by_role("img", name=f"The chosen image: {name}").wait_for()
    dialog.wait_for(state="hidden")


def test_a_reload_and_a_shared_address_show_the_search(server, open_page):
    page = open_page(server.address)
    page.get_by_label("Filter by name").fill("in/12")
    choose(page, "in/12.png")
    page.wait_for_url("**/?reference=in%2F12.png")
    page.get_by_label("Results").fill("5")
    ask(page, "is red & blue")
    page.wait_for_url("**/?reference=in%2F12.png&text=is+red+%26+blue&k=5")
    found = ranking(page)
    assert len(found) == 5
    page.reload()
    for each in (page, open_page(page.url)):
        each.get_by_text('5 images for "is red & blue" from in/12.png').wait_for()
        assert ranking(each) == found
        assert each.get_by_label(CHANGE).input_value() == "is red & blue"
        assert each.get_by_role("img", name="The chosen image: in/12.png").is_visible()
        for _ in range(2):
            each.get_by_role("button", name="Undo").click()
        each.wait_for_url(f"{server.address}/")


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        (
            "reference=%3Cb%3Enone.png&text=x",
            "The gallery contains no image called '<b>none.png'; choose another image.",
        ),
        ("reference=01.png&text=is+red&k=2000", "K is 2000; ask for 1 to 1,000 images."),
        ("reference=01.png&text=is+red&k=x", "K is 0; ask for 1 to 1,000 images."),
    ],
)
def test_an_address_that_cannot_be_followed_is_reported(server, open_page, fields, sentence):
    page = open_page(f"{server.address}/?{fields}")
    page.get_by_role("alert").get_by_text(sentence).wait_for()
    assert ranking(page) == []


def test_the_page_names_the_network_and_says_what_its_address_leaves_out(server, open_page):
    page = open_page(server.address)
    page.get_by_text("30 images, network clip from best.pt.").wait_for()
    page.get_by_text("An uploaded image is not part of it.").wait_for()


def test_a_click_on_a_tile_that_the_filter_keeps_is_not_lost(server, open_page):
    page = open_page(server.address)
    page.get_by_label("Images of the gallery").get_by_role("button", name="01.png", exact=True).hover()
    page.mouse.down()
    for part, position in (("1.png", "1 to 3 of 3"), ("01", "1 to 1 of 1"), ("", "1 to 24 of 30")):
        page.get_by_label("Filter by name").fill(part)
        page.get_by_text(position).wait_for()
    names = page.get_by_label("Images of the gallery").get_by_role("button").all_inner_texts()
    assert names == sorted(names)
    page.mouse.up()
    page.get_by_role("img", name="The chosen image: 01.png").wait_for()


def test_names_and_texts_with_html_are_text(server, open_page):
    page, name = open_page(server.address), f"29{HTML}.png"
    page.get_by_label("Filter by name").fill("29")
    page.get_by_text("1 to 1 of 1").wait_for()
    choose(page, name)
    ask(page, f"{HTML}</script>${{1}}`")
    first = ranking(page)[0]
    page.get_by_role("button", name="Refine from ").first.click()
    page.get_by_role("img", name=f"The chosen image: {first}").wait_for()
    page.get_by_label("Results").fill("29")
    ask(page, "is red")
    assert name in ranking(page)
    page.get_by_role("button", name=f"Enlarge {name}, ").click()
    page.get_by_role("dialog").get_by_role("heading", name=name).wait_for()
    page.keyboard.press("Escape")
    assert page.get_by_label("Searches so far").get_by_role("listitem").first.inner_text().startswith(f"{name}: {HTML}")
    page.locator("input[type=file]").set_input_files(server.folder / f"{HTML}.png")
    page.get_by_role("img", name=f"The chosen image: {HTML}.png").wait_for()
    assert page.evaluate("[typeof planted, document.querySelectorAll('[onerror]').length]") == ["undefined", 0]
    alone = open_page(f"{server.address}/?reference={quote(name)}&text={quote('</script>' + HTML)}")
    alone.get_by_role("status").get_by_text(f'for "</script>{HTML}" from {name}').wait_for()
    assert alone.evaluate("[typeof planted, document.querySelectorAll('[onerror]').length]") == ["undefined", 0]


def test_a_script_that_is_injected_into_the_page_does_not_run(server, open_page):
    page = open_page(server.address)
    page.get_by_text("1 to 24 of 30").wait_for()
    nonces = page.evaluate("[...document.scripts].map(script => script.nonce)")
    assert len(nonces) > 5
    assert all(nonces)
    policy = HTTP.get(server.address).headers["content-security-policy"]
    assert "'nonce-" in policy
    assert "script-src 'self' 'unsafe-inline'" not in policy


def test_an_upload_is_searched_with(server, open_page):
    page = open_page(server.address)
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Upload an image").click()
    chooser.value.set_files(server.folder / "upload.png")
    page.get_by_role("img", name="The chosen image: upload.png").wait_for()
    ask(page, "is red")
    files = {"image": (server.folder / "upload.png").read_bytes()}
    hits = HTTP.post(f"{server.address}/api/search", data={"text": "is red", "k": "12"}, files=files).json()["hits"]
    assert ranking(page) == [hit["name"] for hit in hits]
    page.wait_for_url(f"{server.address}/?text=is+red")


def test_invalid_requests_are_reported_on_the_page(server, open_page):
    page = open_page(server.address)
    page.get_by_role("button", name="Search").click()
    page.get_by_role("alert").get_by_text("Choose an image first, or upload one.").wait_for()
    choose(page, "02.png")
    assert page.get_by_role("alert").inner_text() == ""
    page.get_by_role("button", name="Search").click()
    page.get_by_role("alert").get_by_text("The text is empty").wait_for()
    for file, sentence in (
        ("broken.png", "The image is broken or its type"),
        ("vast.png", "Only images of at most 10 MB"),
    ):
        page.locator("input[type=file]").set_input_files(server.folder / file)
        page.get_by_role("alert").get_by_text(sentence).wait_for()


def test_the_gallery_is_paged_and_filtered(server, open_page):
    page = open_page(server.address)
    tiles = page.get_by_label("Images of the gallery").get_by_role("button")
    page.get_by_text("1 to 24 of 30").wait_for()
    assert tiles.count() == 24
    page.get_by_role("button", name="Next").click()
    page.get_by_text("25 to 30 of 30").wait_for()
    assert tiles.count() == 6
    page.get_by_label("Filter by name").fill("IN/1")
    page.get_by_text("1 to 3 of 3").wait_for()
    assert tiles.all_inner_texts() == ["in/12.png", "in/15.png", "in/18.png"]


def test_a_search_needs_no_mouse(server, open_page):
    page = open_page(server.address)
    page.get_by_text("1 to 24 of 30").wait_for()
    chosen = page.get_by_role("button", name="02.png", exact=True)
    for _ in range(20):
        page.keyboard.press("Tab")
        if chosen.evaluate("tile => tile === document.activeElement"):
            break
    page.keyboard.press("Enter")
    page.get_by_role("img", name="The chosen image: 02.png").wait_for()
    assert chosen.get_attribute("aria-pressed") == "true"
    page.wait_for_function("document.activeElement.placeholder === 'is red with long sleeves'")
    page.keyboard.type("is red")
    page.keyboard.press("Enter")
    page.get_by_role("status").get_by_text('12 images for "is red" from 02.png; the best is').wait_for()


def test_a_text_that_is_typed_before_the_answer_to_a_click_stays(server, open_page):
    answers = SlowAnswers()
    page = open_page(f"{server.address}/?reference=01.png&text=is%20blue", answers=answers)
    page.get_by_text('for "is blue" from 01.png').wait_for()
    for click in (
        page.get_by_label("Images of the gallery").get_by_role("button", name="02.png", exact=True),
        page.get_by_role("button", name=re.compile("^Refine from .*, rank 3$")),
    ):
        answers.hold()
        click.click()
        page.keyboard.type("is red with ")
        answers.wait_for("Describe what should be different.")
        answers.release()
        page.get_by_role("status").get_by_text("The ranking is still that of").wait_for()
        page.keyboard.type("long sleeves")
        assert page.get_by_label(CHANGE).input_value() == "is red with long sleeves"


def test_an_upload_selects_the_text_unless_a_person_types(server, open_page):
    page = open_page(f"{server.address}/?reference=01.png&text=is%20blue")
    page.get_by_text('for "is blue" from 01.png').wait_for()
    page.locator("input[type=file]").set_input_files(server.folder / "upload.png")
    page.wait_for_function("getSelection().toString() === 'is blue'")
    page.keyboard.type("is red with ")
    page.locator("input[type=file]").set_input_files(server.folder / f"{HTML}.png")
    page.get_by_role("img", name=f"The chosen image: {HTML}.png").wait_for()
    page.wait_for_function("getSelection().toString() === ''")
    page.keyboard.type("long sleeves")
    assert page.get_by_label(CHANGE).input_value() == "is red with long sleeves"


def test_an_upload_that_does_not_arrive_is_reported_and_can_be_repeated(server, browser):
    page = browser.new_page()
    page.goto(server.address)
    page.get_by_text("1 to 24 of 30").wait_for()
    lost = []

    def lose(route) -> None:
        if route.request.method == "POST" and not lost:
            lost.append(route.request.url)
            route.abort()
        else:
            route.continue_()

    page.route("**/*", lose)
    page.locator("input[type=file]").set_input_files(server.folder / "upload.png")
    page.get_by_role("alert").get_by_text("The upload did not arrive; try again.").wait_for()
    page.locator("input[type=file]").set_input_files(server.folder / "upload.png")
    page.get_by_role("img", name="The chosen image: upload.png").wait_for()
    page.close()


def test_an_image_that_is_chosen_during_a_search_stays_chosen(server, open_page, hold):
    page = searching(open_page(server.address))
    choose(page, "02.png")
    hold.unlink()
    page.get_by_text('02.png is chosen. The ranking is still that of "is red" from 01.png.').wait_for()
    assert page.get_by_role("img", name="The chosen image: 02.png").is_visible()
    ask(page, "is blue")
    assert ranking(page) == found_by(server, "02.png", "is blue", 12)


def test_a_search_that_is_asked_for_during_another_follows_it(server, open_page, hold):
    page = searching(open_page(server.address))
    for text in ("is blue", "is blue and long"):
        page.get_by_label(CHANGE).fill(text)
        page.keyboard.press("Enter")
    page.get_by_label("Filter by name").fill("01.png")
    page.get_by_text("1 to 1 of 1").wait_for()  # the server has handled what came before
    hold.unlink()
    page.get_by_text('12 images for "is blue and long" from 01.png').wait_for()
    searched = page.get_by_label("Searches so far").get_by_role("listitem").all_inner_texts()
    assert searched == ["01.png: is red", "01.png: is blue and long"]


def test_a_search_that_is_undone_before_its_answer_is_not_shown(server, open_page, hold):
    page = searching(open_page(server.address))
    page.get_by_role("button", name="Undo").click()
    page.get_by_text("Undone. 01.png is chosen.").wait_for()
    page.locator(".search .q-spinner").wait_for()
    hold.unlink()
    page.locator(".search .q-spinner").wait_for(state="detached")
    assert page.get_by_text("Undone. 01.png is chosen.").is_visible()
    assert ranking(page) == []
    assert page.get_by_label(CHANGE).input_value() == "is red"


def test_a_letter_that_is_typed_before_the_answer_to_undo_is_not_searched_for(server, open_page):
    answers = SlowAnswers()
    page = open_page(server.address, answers=answers)
    choose(page, "01.png")
    ask(page, "is red")
    ask(page, "is green")
    answers.hold()
    page.get_by_role("button", name="Undo").click()
    answers.wait_for("Undone.")
    page.get_by_label(CHANGE).press("End")
    page.keyboard.type(" x")
    answers.release()
    page.get_by_text("Undone.").wait_for()
    page.wait_for_function("document.querySelector('input[data-change]').value === 'is red'")
    page.get_by_label("Results").fill("5")
    page.keyboard.press("Enter")
    page.get_by_text('5 images for "is red" from 01.png').wait_for()


def test_enter_that_ends_the_composition_of_a_character_does_not_search(server, open_page):
    page = open_page(server.address)
    choose(page, "01.png")
    page.get_by_label(CHANGE).fill("is ")
    compose(page, "赤い")
    page.keyboard.press("Enter")
    page.get_by_text('for "is 赤い" from 01.png').wait_for()
    assert page.get_by_label("Searches so far").get_by_role("listitem").count() == 1


def test_a_phone_shows_the_page_without_sideways_scrolling(server, open_page):
    page = open_page(server.address, **PHONE)
    choose(page, "01.png")
    ask(page, "is red")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(18, 22, 27)"
    assert page.evaluate("document.documentElement.lang") == "en-GB"
    page.get_by_role("button", name=re.compile("^Refine from .*, rank 12$")).scroll_into_view_if_needed()
    reference = page.get_by_role("img", name="The chosen image: 01.png").bounding_box()
    assert 0 <= reference["y"] < 100
    unnamed = "[...document.querySelectorAll('img:not([alt]), button:not([aria-label])')].filter(e => !e.innerText)"
    assert page.evaluate(f"{unnamed}.length") == 0


def test_sixteen_clients_at_once_get_what_each_gets_alone(server):
    questions = [(f"{number:02}.png", f"change {number}") for number in range(13) if number % 3]
    alone = {question: found_by(server, *question, 5) for question in questions}

    def one_client(number: int) -> None:
        for turn in range(3):
            question = questions[(number + turn) % len(questions)]
            assert found_by(server, *question, 5) == alone[question]

    with ThreadPoolExecutor(CLIENTS) as clients:
        assert list(clients.map(one_client, range(CLIENTS))) == [None] * CLIENTS


def test_uploads_that_are_too_large_are_answered_over_a_real_connection(server):
    answer = HTTP.post(f"{server.address}/api/search", data={"text": "x"}, files={"image": bytes(25_000_000)})
    assert (answer.status_code, answer.json()["detail"][:33]) == (413, "the upload is larger than 10 MB; ")


def test_pages_of_other_sites_may_not_open_the_page_s_socket(server):
    headers = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    headers |= {"Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA=="}
    address = f"{server.address}/_nicegui_ws/socket.io/?EIO=4&transport=websocket"
    assert HTTP.get(address, headers=headers | {"Origin": "http://evil.example"}).status_code == 403
    with HTTP.stream("GET", address, headers=headers | {"Origin": server.address}) as own:
        assert own.status_code == 101


def test_clients_that_leave_before_their_answer_begins(server):
    """The module's last test reads what the server printed."""
    place = urlsplit(server.address)
    paths = re.findall(r'(?:src|href)="(/[^"]+)"', HTTP.get(server.address).text)
    assert len(paths) > 5
    for turn in range(400):
        request = f"GET {paths[turn % len(paths)]} HTTP/1.1\r\nHost: {place.netloc}\r\n\r\n"
        with socket.create_connection((place.hostname, place.port)) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closing resets
            client.sendall(request.encode())
            time.sleep(turn % 20 / 2000)
    assert HTTP.get(server.address).status_code == 200


def test_ctrl_c_ends_the_server_while_a_page_is_open(server, open_page):
    """The last of the module: the server is gone afterwards."""
    page = open_page(server.address)
    page.get_by_text("1 to 24 of 30").wait_for()
    page.close()
    server.process.send_signal(signal.SIGINT)
    _, said = server.process.communicate(timeout=90)
    assert server.process.returncode == 130
    assert said.strip() == "interrupted"
