"""Pages by their structure: what they show is what the queries say, every link leads somewhere, no text is markup."""

from __future__ import annotations

import json
import re
import shlex
from collections import Counter
from collections.abc import Iterator
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest
from litestar.testing import TestClient

import tegakari
from tegakari.analyses.classification import classification, majority_macro_f1
from tegakari.analyses.clue_words import clue_words
from tegakari.analyses.confusion import separating_features
from tegakari.schemas.notes import NoteChange
from tegakari.service.admission.keys import create_key
from tegakari.service.app import create_app
from tegakari.service.explorer import language
from tegakari.service.explorer.label import FEATURES_SHOWN
from tegakari.service.explorer.page import POLICY, visible_token
from tegakari.service.explorer.sign_in import own_address
from tegakari.store import Store, queries
from tegakari.store.notes import delete_note, write_note
from tegakari.store.sql.query import run_query
from tests.support.factories import LABELS, make_run, publish_case, random_case
from tests.support.service import RUN, UNEVEN, client_of, segment

EXPLORER = Path(language.__file__).parent
HOSTILE_LABEL = "</script><script>alert(1)</script>"
QUOTING_LABEL = "it's \\ $(x) `y`"
HOSTILE_LABELS = [HOSTILE_LABEL, '" onmouseover="alert(1)', "..", "あ" * 200, "مجتمع", "{{ 7 * 7 }}", QUOTING_LABEL]


class Page(HTMLParser):
    """Elements of a page, its links, its text, and the tags that were left open."""

    VOID = frozenset({"meta", "link", "input", "br", "rect", "line", "path"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> in the wrong place"

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def attributes(self, tag: str, name: str) -> list[str]:
        return [value for found, attributes in self.elements if found == tag and (value := attributes.get(name))]

    @property
    def links(self) -> set[str]:
        return set(self.attributes("a", "href"))

    @property
    def text(self) -> str:
        return "".join(self.texts)


def open_page(client: TestClient, path: str, status: int = 200) -> Page:
    response = client.get(path)
    assert response.status_code == status, response.text[:500]
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.headers["content-security-policy"] == POLICY
    page = Page(response.text)
    assert page.open == []
    assert not [attributes for _, attributes in page.elements if "style" in attributes], "the policy forbids it"
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    ids = [value for _, attributes in page.elements if (value := attributes.get("id"))]
    assert len(ids) == len(set(ids))
    for name in ("aria-labelledby", "aria-describedby"):
        assert {attributes[name] for _, attributes in page.elements if name in attributes} <= set(ids)
    assert len(page.attributes("html", "lang")) == 1
    assert sum(tag == "h1" for tag, _ in page.elements) == 1
    tables = sum(tag == "table" for tag, _ in page.elements)
    assert tables == sum(tag == "caption" for tag, _ in page.elements)
    return page


def shape(path: str) -> str:
    """A path with its names and numbers left out."""
    path = re.sub(r"/(runs|labels|documents|layers|features|confusions)/[^/?]+", r"/\1/*", path)
    return re.sub(r"(/confusions/\*)/[^/?]+", r"\1/*", path.partition("?")[0])


def walk(client: TestClient, start: str, of_shape: int) -> dict[str, Page]:
    """Pages that links lead to from a page, some of each shape, in the order of their discovery."""
    pages: dict[str, Page] = {}
    counts: Counter[str] = Counter()
    waiting = [start]
    while waiting:
        path = waiting.pop(0)
        if path in pages or counts[shape(path)] == of_shape:
            continue
        counts[shape(path)] += 1
        pages[path] = open_page(client, path)
        waiting += sorted(link for link in pages[path].links if link.startswith(("/runs/", "/compare", "/search")))
    return pages


def test_every_link_leads_to_a_page(client: TestClient):
    pages = walk(client, "/", 3)
    assert {shape(path) for path in pages} == {
        "/",
        "/runs/*",
        "/runs/*/labels/*",
        "/runs/*/layers/*/features/*",
        "/runs/*/layers/*/features/*/neighbours",
        "/runs/*/documents/*",
        "/runs/*/documents/*/similar",
        "/runs/*/confusions/*/*",
        "/runs/*/notes",
        "/search",
    }


def test_data_beside_a_table_is_served(client: TestClient):
    label = f"/runs/{RUN}/labels/{segment(LABELS[0])}"
    for path in (f"/runs/{RUN}", label, f"/runs/{RUN}/layers/1/features/3"):
        for link in open_page(client, path).links:
            if link.startswith("/v1/"):
                assert client.get(link).status_code == 200, link


def test_the_page_of_a_label_shows_its_features(client: TestClient, store: Path):
    run = Store(store).run(RUN)
    for label in LABELS:
        page = open_page(client, f"/runs/{RUN}/labels/{segment(label)}")
        features = queries.label_features(run, label, limit=FEATURES_SHOWN).items
        expected = {f"/runs/{RUN}/layers/{row.layer}/features/{row.feature}" for row in features}
        assert expected
        assert {link for link in page.links if re.search(r"/features/\d+$", link)} == expected
        assert label in page.text


def test_scores_stand_beside_what_they_have_to_beat(client: TestClient, store: Path):
    run = Store(store).run(RUN)
    row = queries.labels(run)[0]
    assert row.f1_low is not None
    assert f"{row.f1:.3f} {row.f1_low:.2f} – {row.f1_high:.2f}" in open_page(client, f"/runs/{RUN}").text
    baseline = f"{majority_macro_f1(run):.3f} most frequent label"
    scores = classification(run).macro_f1
    for path in ("/", f"/runs/{RUN}"):
        text = open_page(client, path).text
        assert baseline in text
        assert f"{scores.value:.3f} {scores.low:.2f} – {scores.high:.2f}" in text


def test_the_page_of_a_label_begins_with_its_clue_words(client: TestClient, store: Path):
    run = Store(store).run(RUN)
    page = open_page(client, f"/runs/{RUN}/labels/{segment(LABELS[0])}")
    assert page.attributes("section", "aria-labelledby")[:2] == ["clues", "knockout"]
    found = clue_words(run, LABELS[0])
    for word in found.words:
        assert f"{visible_token(word.word)} {len(word.features)}/{found.features}" in page.text
        assert {f"/runs/{RUN}/layers/{place.layer}/features/{place.feature}" for place in word.features} <= page.links


def test_a_long_post_is_whole_on_its_page_alone_and_training_documents_have_no_score(tmp_path: Path):
    case = random_case()
    longest = case.documents[0]
    longest = longest._replace(text=longest.text + "長" * 100_000)
    publish_case(tmp_path, "long", case._replace(documents=[longest, *case.documents[1:]]), "long")
    manifest = tmp_path / "runs/long/run.json"
    manifest.write_text(re.sub('"split": ?"eval"', '"split": "train"', manifest.read_text()))
    with client_of(tmp_path) as client:
        assert "長" * 100_000 in open_page(client, f"/runs/long/documents/{segment(longest.id)}").text
        for path, page in walk(client, "/", 4).items():
            if not path.startswith(f"/runs/long/documents/{segment(longest.id)}"):
                assert len("".join(page.texts)) < 50_000, path
        assert "most frequent label" not in open_page(client, "/").text


def listed_features(client: TestClient, path: str) -> set[str]:
    """Addresses of the features in the table of a label's page."""
    table = client.get(path).text.partition('aria-labelledby="features"')[2].partition("</table>")[0]
    return {link for link in Page(table).links if "/features/" in link}


def test_filters_and_pages_of_features(client: TestClient, store: Path):
    run, label = Store(store).run(RUN), LABELS[0]
    path = f"/runs/{RUN}/labels/{segment(label)}"

    def addresses(layer: int | None = None) -> set[str]:
        rows = queries.label_features(run, label, layer=layer, limit=FEATURES_SHOWN).items
        return {f"/runs/{RUN}/layers/{row.layer}/features/{row.feature}" for row in rows}

    assert listed_features(client, f"{path}?layer=1") == addresses(1)
    assert open_page(client, f"{path}?layer=&variety=").links == open_page(client, path).links  # as a form sends them
    assert listed_features(client, path) == addresses()
    following = next(link for link in open_page(client, path).links if "cursor=" in link)
    assert listed_features(client, following).isdisjoint(addresses())


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/runs/none", 404),
        (f"/runs/{RUN}/labels/none", 404),
        (f"/runs/{RUN}/layers/9/features/0", 404),
        (f"/runs/{RUN}/layers/0/features/99999", 404),
        (f"/runs/{RUN}/layers/x/features/0", 400),
        (f"/runs/{RUN}/documents/none", 404),
        ("/knockouts/none", 404),
        (f"/knockouts/{'0' * 32}", 404),
        ("/jobs?cursor=x", 400),
        (f"/runs/{RUN}/confusions/{segment(LABELS[0])}/{segment(LABELS[0])}", 400),
        (f"/runs/{RUN}/labels/{segment(LABELS[0])}?cursor=x", 400),
        (f"/runs/{RUN}?sort=colour", 400),
        (f"/compare?run={RUN}", 400),
        (f"/compare?run={RUN}&run=none", 404),
        ("/compare", 400),
        ("/search?q=a&run=none", 404),
        ("/language?to=xx", 400),
    ],
)
def test_a_failure_is_a_page_with_the_text_of_the_problem(client: TestClient, path: str, status: int):
    page = open_page(client, path, status)
    assert any(attributes.get("role") == "alert" for _, attributes in page.elements)
    assert any(link.startswith("/docs/errors/") for link in page.links)


def test_an_unknown_name_or_address_names_no_route_of_the_api_in_a_browser(client: TestClient, store: Path):
    browser = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    for path in ("/runs/none", f"/runs/{RUN}/none", "/none", f"/compare?run={RUN}&run=none"):
        response = client.get(path, headers=browser)
        page = Page(response.text)
        assert (response.status_code, "/v1" in page.text) == (404, False)
        assert {"/", "/search"} <= page.links
    published = ", ".join(Store(store).names())
    assert f"published runs: {published}" in open_page(client, "/runs/none", 404).text
    for path in ("/v1/none", "/none"):
        assert client.get(path).json()["detail"] == f"no route matches {path}"
    assert client.get("/v1/none", headers=browser).json()["status"] == 404


def test_unchanged_pages_are_not_sent_again(client: TestClient):
    path = f"/runs/{RUN}/labels/{segment(LABELS[0])}"
    first = client.get(path)
    tag = first.headers["etag"]
    assert client.get(path, headers={"If-None-Match": tag}).status_code == 304
    japanese = client.get(path, headers={"If-None-Match": tag, "Accept-Language": "ja"})
    assert (japanese.status_code, japanese.headers["etag"] == tag) == (200, False)
    assert "Accept-Language" in first.headers["vary"]
    assert client.get("/").headers["cache-control"] == "no-cache"


def test_both_languages_have_all_texts():
    tables = [language.texts(name) for name in language.LANGUAGES]
    assert tables[0].keys() == tables[1].keys()
    for key in tables[0]:
        fields = [set(re.findall(r"\{(\w+)\}", table[key])) for table in tables]
        assert fields[0] == fields[1], key
    sources = "".join(file.read_text(encoding="utf-8") for file in (EXPLORER / "templates").iterdir())
    for key in re.findall(r"""\bt\(["'](\w+?)["']""", sources):
        assert key in ("state_", "method_") or key in tables[0]
    scripts = "".join(file.read_text(encoding="utf-8") for file in (EXPLORER / "static").glob("*.js"))
    assert set(re.findall(r"\btexts\.(?!js\b)(\w+)", scripts)) <= language.script_texts("en").keys()


def test_the_language_is_that_of_the_reader(client: TestClient):
    assert open_page(client, "/").attributes("html", "lang") == ["en"]
    response = client.get("/", headers={"Accept-Language": "ja-JP,ja;q=0.9,en;q=0.5"})
    assert Page(response.text).attributes("html", "lang") == ["ja"]
    chosen = client.get("/language?to=ja&next=/search", follow_redirects=False)
    assert (chosen.status_code, chosen.headers["location"]) == (303, "/search")
    cookie = chosen.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "samesite=strict" in cookie.lower()


@pytest.mark.parametrize("address", ["//evil.example", "https://evil.example", "/\\evil.example", "evil", "/a\nb", ""])
def test_no_form_leads_to_another_server(client: TestClient, address: str):
    assert own_address(address) == "/"
    if address:
        response = client.get("/language", params={"to": "en", "next": address}, follow_redirects=False)
        assert response.headers["location"] == "/"


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TestClient, Path]]:
    store = tmp_path_factory.mktemp("hostile")
    make_run(
        store,
        "hostile",
        labels=HOSTILE_LABELS,
    )
    with client_of(store) as client:
        yield client, store


def test_names_are_text_wherever_they_stand(hostile: tuple[TestClient, Path]):
    client, _ = hostile
    for page in walk(client, "/", 4).values():
        scripts = [attributes for tag, attributes in page.elements if tag == "script"]
        assert [(attributes.get("src") or "").partition("?")[0] for attributes in scripts] == ["/explorer/explorer.js"]
    page = open_page(client, f"/runs/hostile/labels/{segment(HOSTILE_LABEL)}")
    assert HOSTILE_LABEL in page.text
    assert "49" not in open_page(client, f"/runs/hostile/labels/{segment('{{ 7 * 7 }}')}").attributes(
        "section", "data-label"
    )


def test_commands_beside_the_data_give_it(hostile: tuple[TestClient, Path]):
    """Python and SQL are run, commands are read as a shell reads them, on labels that quote and interpolate."""
    client, store = hostile
    labels = Store(store).run("hostile").labels
    codes: set[str] = set()
    for path in walk(client, "/runs/hostile", len(labels)):
        codes |= set(map(unescape, re.findall("<code>(.*?)</code>", client.get(path).text)))
    python = [code for code in codes if code.startswith("tegakari.open(")]
    sql = [code for code in codes if code.startswith("SELECT")]
    knockouts = [shlex.split(code) for code in codes if code.startswith("tegakari knockout")]
    for code in python:
        rows = eval(code.replace('"store"', repr(str(store))), {"tegakari": tegakari})
        list(rows)
    for code in sql:
        assert run_query(store, ["hostile"], code).read_all().num_columns
    of_labels = [words[words.index("--label") + 1] for words in knockouts if "--label" in words]
    of_features = [words[words.index("--documents-of") + 1] for words in knockouts if "--feature" in words]
    assert set(of_labels) == set(labels) >= set(of_features)
    assert of_features
    assert len(python) > 2 * len(labels)
    assert len(sql) > 2 * len(labels)


def test_texts_of_scripts_are_json(client: TestClient):
    (texts,) = open_page(client, f"/runs/{RUN}/labels/{segment(LABELS[0])}").attributes("body", "data-texts")
    assert json.loads(texts) == language.script_texts("en")


def test_many_labels_come_in_pages(tmp_path: Path):
    labels = [f"label {number}" for number in range(230)]
    make_run(tmp_path, "many", labels=labels, documents_per_label=1, layers=1, d_sae=8)
    with client_of(tmp_path) as client:
        shown: list[str] = []
        path: str | None = "/runs/many?sort=label"
        while path:
            page = open_page(client, path)
            shown += [link for link in page.attributes("a", "href") if link.startswith("/runs/many/labels/")][:100]
            path = next(
                (link for link in page.links if "first=" in link and int(link.rpartition("=")[2]) >= len(set(shown))),
                None,
            )
        assert len(set(shown)) == len(labels)


def test_a_run_without_active_features_or_vectors_has_its_pages(client: TestClient):
    page = open_page(client, f"/runs/{UNEVEN}")
    assert page.links
    for label in LABELS:
        open_page(client, f"/runs/{UNEVEN}/labels/{segment(label)}")
    assert "add-vectors" in open_page(client, f"/runs/{UNEVEN}/layers/0/features/0/neighbours").text


def test_an_empty_store_says_how_to_begin(tmp_path: Path):
    with client_of(tmp_path) as client:
        assert "tegakari index" in open_page(client, "/").text
        for path in ("/try", "/search?q=a", "/jobs"):
            open_page(client, path)


@pytest.fixture
def noted(tmp_path: Path) -> Iterator[TestClient]:
    """A run with notes, two of them hostile."""
    make_run(tmp_path, "noted")
    run = Store(tmp_path).run("noted")
    write_note(run, 1, 3, HOSTILE_LABEL, NoteChange(starred=True, tags=["</a><b>", "{{ 7 * 7 }}"], text=HOSTILE_LABEL))
    write_note(run, 1, 3, "Ann", NoteChange(text="軽トラ\nonly", tags=["車"]))
    write_note(run, 0, 2, '"><img src=x>', NoteChange(text="'\"><img src=x onerror=alert(1)>"))
    with client_of(tmp_path) as client:
        yield client


NOTED = "/runs/noted/layers/1/features/3"


def test_notes_are_shown_as_text(noted: TestClient):
    page = open_page(noted, NOTED)
    assert HOSTILE_LABEL in page.text
    assert "軽トラ\nonly" in page.text
    (data,) = page.attributes("section", "data-notes")
    assert [note["author"] for note in json.loads(data)] == [HOSTILE_LABEL, "Ann"]
    pages = walk(noted, "/runs/noted/notes", 4)
    assert {"/runs/noted/notes", "/runs/noted/notes?tag=%7B%7B+7+%2A+7+%7D%7D"} <= pages.keys()
    for page in pages.values():
        assert sum(tag == "script" for tag, _ in page.elements) == 1
        assert "img" not in {tag for tag, _ in page.elements}
        assert "onerror=alert(1)" not in page.attributes("img", "src")


def test_the_list_of_notes_is_filtered_and_paged(noted: TestClient, tmp_path: Path):
    features = f"{NOTED[:-2]}/"

    def rows(query: str) -> int:
        page = open_page(noted, f"/runs/noted/notes?{query}")
        return sum(link.startswith("/runs/noted/layers/") for link in page.attributes("a", "href"))

    assert [rows(query) for query in ("", "q=軽トラ", "starred=true", "starred=", "author=Ann&tag=車", "q=none")] == [
        *(3, 1, 1, 3, 1, 0)
    ]
    for feature in range(4, 40):
        write_note(Store(tmp_path).run("noted"), 1, feature, "Ann", NoteChange(starred=True))
    for feature in range(20):
        write_note(Store(tmp_path).run("noted"), 2, feature, "Ann", NoteChange(starred=True))
    page = open_page(noted, "/runs/noted/notes")
    assert f"{features}3" in page.links
    following = next(link for link in page.links if "cursor=" in link)
    assert rows(following.partition("?")[2]) == 3 + 36 + 20 - 50
    for link in page.links:
        if link.startswith("/v1/"):
            assert noted.get(link).status_code == 200, link


def test_pages_change_with_the_notes(noted: TestClient):
    paths = (NOTED, "/runs/noted/notes", f"/runs/noted/labels/{segment(LABELS[0])}")
    first = {path: noted.get(path) for path in paths}
    for path, response in first.items():
        assert response.headers["cache-control"] == "private, no-cache"
        assert noted.get(path, headers={"If-None-Match": response.headers["etag"]}).status_code == 304
    noted.patch(f"/v1{NOTED}/note", json={"author": "Ann", "text": "changed"})
    for path, response in first.items():
        assert noted.get(path, headers={"If-None-Match": response.headers["etag"]}).status_code == 200
    assert "changed" in open_page(noted, NOTED).text


def test_starred_features_have_a_star_in_tables(noted: TestClient, tmp_path: Path):
    run, label, other = Store(tmp_path).run("noted"), *LABELS[:2]
    document = queries.documents(run, limit=1).items[0].document
    tables = {
        f"/runs/noted/labels/{segment(label)}": queries.label_features(run, label, limit=5).items[4],
        f"/runs/noted/documents/{segment(document)}": queries.document_features(run, document, limit=1).items[0],
        f"/runs/noted/confusions/{segment(label)}/{segment(other)}": separating_features(run, label, other)[0],
    }
    for path, row in tables.items():
        starred = f'features/{row.feature}">{row.layer}:{row.feature}</a> <span class="star" role="img"'
        assert starred not in noted.get(path).text
        write_note(run, row.layer, row.feature, "Ann", NoteChange(starred=True))
        assert starred in noted.get(path).text, path
        delete_note(run, row.layer, row.feature, "Ann")


def test_the_search_finds_notes(noted: TestClient):
    page = open_page(noted, "/search?run=noted&q=軽トラ")
    assert NOTED in page.links
    assert "軽トラ\nonly" in page.text


def test_the_search_finds_explanations(noted: TestClient):
    written = {"author": "Ann <b>", "text": "names of 軽トラ <script>"}
    noted.post("/v1/runs/noted/layers/1/features/7/explanations", json=written)
    page = open_page(noted, "/search?run=noted&q=軽トラ")
    assert "/runs/noted/layers/1/features/7" in page.links
    assert "names of 軽トラ <script>" in page.text


def test_the_form_of_a_note_has_the_name_of_the_key(tmp_path: Path):
    make_run(tmp_path / "store", "noted")
    key, _ = create_key(tmp_path / "keys.json", "Ann <b>", "read")
    app = create_app(tmp_path / "store", keys=tmp_path / "keys.json")
    with TestClient(app, base_url="http://127.0.0.1") as client:
        client.headers["X-API-Key"] = key
        page = open_page(client, NOTED)
        authors = [attributes for _, attributes in page.elements if attributes.get("name") == "author"]
        assert [(author["value"], "readonly" in author) for author in authors] == 2 * [("Ann <b>", True)]
    forms = [attributes for tag, attributes in page.elements if tag == "form" and "data-form" in attributes]
    assert any("hidden" in attributes for attributes in forms), "without a script there is nothing to fill in"
