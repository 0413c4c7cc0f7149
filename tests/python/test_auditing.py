"""The command ``llmquota audit``: which places of a code base it finds, and what it says of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from llmquota import QuotaInputError
from llmquota.auditing import Place, audit
from llmquota.cli import main

ROOT = Path(__file__).resolve().parents[2]

Audited = Callable[..., list[Place]]
INSTRUMENTED = "import llmquota\nllmquota.instrument()\n"


@pytest.fixture(autouse=True)
def _no_bases(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_BASE_URL", "AZURE_OPENAI_ENDPOINT", "ANTHROPIC_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Where the code base is: a name of its own, not one of pytest's."""
    return tmp_path / "backend"


def write(tree: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")


@pytest.fixture
def audited(tree: Path) -> Audited:
    """What is found in a module, in a code base that has further files."""

    def run(text: str, **others: str) -> list[Place]:
        write(tree, {"app.py": text, **{f"{name}.py": other for name, other in others.items()}})
        return [place for place in audit([str(tree)]).places if place.path == str(tree / "app.py")]

    return run


def one(places: list[Place]) -> Place:
    assert len(places) == 1, places
    return places[0]


# --- clients of SDKs ---


@pytest.mark.parametrize("name", ["OpenAI", "AsyncOpenAI", "AzureOpenAI", "AsyncAzureOpenAI"])
@pytest.mark.parametrize(
    "text",
    [
        "import openai\nclient = openai.{}()",
        "import openai as o\nclient = o.{}()",
        "from openai import {} as X\nclient = X(max_retries=0)",
        "from openai import *\nclient = {}()",
        "def make():\n    from openai import {}; return {}()",
        "try:\n    from openai import {0}; x = {0}()\nexcept ImportError:\n    from mock import {0}",
        "import openai\nmake = openai.{}; client = make()",
        "import openai\nclass Mine(openai.{}): pass\n",
    ],
)
def test_a_client_is_found_however_it_is_imported(audited: Audited, text: str, name: str) -> None:
    place = one(audited(text.replace("{}", name).replace("{0}", name)))
    assert (place.line, place.what.endswith(f"openai.{name}"), place.covered) == (2, True, False)
    assert place.because.startswith("nothing here calls llmquota.instrument(): call it where the process starts")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("from anthropic import Anthropic\nAnthropic()", "anthropic.Anthropic"),
        ("import anthropic\nanthropic.AsyncAnthropic()", "anthropic.AsyncAnthropic"),
        ("from langchain_openai import ChatOpenAI\nChatOpenAI()", "langchain_openai.ChatOpenAI"),
        ("from langchain_openai import AzureChatOpenAI as X\nX()", "langchain_openai.AzureChatOpenAI"),
        ("import langchain_openai\nlangchain_openai.OpenAIEmbeddings()", "langchain_openai.OpenAIEmbeddings"),
        (
            "from langchain_community.chat_models import ChatOpenAI\nChatOpenAI()",
            "langchain_community.chat_models.ChatOpenAI",
        ),
        ("from langchain_anthropic import ChatAnthropic\nChatAnthropic()", "langchain_anthropic.ChatAnthropic"),
        ("from agents import Runner\nRunner.run_sync(agent, 'x')", "agents.Runner.run_sync"),
        ("import agents\nagents.Runner.run_streamed(agent, 'x')", "agents.Runner.run_streamed"),
        ("from agents import Runner\nRunner().run(agent, 'x')", "agents.Runner.run"),
        ("import openai\nopenai.chat.completions.create(model='m')", "openai.chat.completions.create"),
        ("from openai import embeddings\nembeddings.create(input='x')", "openai.embeddings.create"),
        ("import openai\nopenai.api_key = 'x'", "openai.api_key"),
        ("import litellm\nlitellm.completion(model='m')", "litellm.completion"),
        ("from litellm import embedding\nembedding(model='m')", "litellm.embedding"),
        (
            "import asyncio, openai\nasyncio.to_thread(openai.responses.create, model='m')",
            "openai.responses.create",
        ),
    ],
)
def test_what_goes_over_httpx_is_covered_by_instrument(audited: Audited, text: str, what: str) -> None:
    place = one(audited(text))
    assert (place.line, place.what, place.covered) == (2, what, False)
    place = one(audited(text, main=INSTRUMENTED))
    assert (place.covered, place.because) == (True, f"instrument() in {Path(place.path).with_name('main.py')}:2")


@pytest.mark.parametrize(
    "text",
    [
        "class OpenAI: ...\nclient = OpenAI()",
        "from .clients import OpenAI\nclient = OpenAI()",
        "from mine.clients import AsyncOpenAI\nclient = AsyncOpenAI()",
        "import openai\ndef run(openai):\n    openai.chat.completions.create()",
        "import openai\nraise openai.APIError('https://api.openai.com')",
        "from openai import OpenAI\ndef run(client: OpenAI) -> OpenAI:\n    return client",
        "import openai\nfrom openai.types.chat import ChatCompletion\nChatCompletion.model_validate({})",
        "import openai\nclass Openai:\n    api_key = ''\nme = Openai()\nme.api_key = 'x'",
        "# OpenAI() at https://api.openai.com/v1\n'''requests.post('https://api.openai.com/v1')'''",
        "x = 'import openai; openai.OpenAI()'",
    ],
)
def test_a_false_friend_is_no_client(audited: Audited, text: str) -> None:
    assert audited(text) == []


def test_a_package_of_the_backends_own_that_is_called_agents_is_not_the_sdk(tree: Path) -> None:
    call = "from agents import Runner\nRunner.run('x')"
    write(tree, {"jobs/nightly.py": call, "agents/__init__.py": "from .runner import Runner"})
    assert audit([str(tree)]).places == []
    # What does not have the name cannot be meant.
    write(tree, {"agents/__init__.py": "class Walker: ..."})
    assert one(audit([str(tree)]).places).what == "agents.Runner.run"


def test_litellms_asynchronous_calls_are_not_covered_before_its_aiohttp_transport_is_off(audited: Audited) -> None:
    call = "import litellm\nasync def ask():\n    await litellm.acompletion(model='m')\n"
    place = one(audited(call, main=INSTRUMENTED))
    assert (place.what, place.covered) == ("litellm.acompletion", False)
    assert "set litellm.disable_aiohttp_transport = True" in place.because
    main = f"{INSTRUMENTED}import litellm\nlitellm.disable_aiohttp_transport = True\n"
    assert one(audited(call, main=main)).covered is True


def test_openai_before_1_sends_with_what_nobody_sees(audited: Audited) -> None:
    place = one(audited("import openai\nopenai.ChatCompletion.create(model='m')", main=INSTRUMENTED))
    assert (place.covered, "use openai 1 or later" in place.because) == (False, True)


def test_a_client_that_goes_elsewhere_is_covered_where_instrument_is_told_of_it(
    audited: Audited, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = "import openai\nHERE = 'http://localhost:8000'\nopenai.OpenAI(base_url=f'{HERE}/v1')\n"
    place = one(audited(call, main=INSTRUMENTED))
    assert place.covered is False
    assert place.because.startswith("localhost is no provider that is known: name its base URL in instrument(")
    told = "from llmquota import instrument\nOWN = {'http://localhost:8000/v1': 'vllm', 'x': 'y'}\n"
    assert one(audited(call, main=f"{told}instrument(providers=OWN)")).covered is True
    assert one(audited(call, main=INSTRUMENTED)).covered is False
    monkeypatch.setenv("OPENAI_BASE_URL", "http://localhost:8000/v1")
    assert one(audited(call, main=INSTRUMENTED)).covered is True


def test_a_base_url_that_is_known_only_when_it_runs_is_taken_for_a_providers(audited: Audited) -> None:
    call = "import openai, os\nopenai.OpenAI(base_url=os.environ['BASE'])"
    assert one(audited(call, main=INSTRUMENTED)).covered is True


def test_a_realtime_connection_is_one_over_websockets(audited: Audited) -> None:
    text = "from openai import AsyncOpenAI\nasync def talk(client: AsyncOpenAI):\n    client.beta.realtime.connect()"
    place = one(audited(text, main=INSTRUMENTED))
    assert (place.covered, place.because.startswith("instrument() in")) == (True, True)
    assert one(audited("import openai\nopen(1).realtime.connect()", main="")).covered is False
    assert audited("import supabase\nopen(1).realtime.connect()") == []


# --- HTTP calls ---

URL = "https://api.openai.com/v1/chat/completions"


@pytest.mark.parametrize(
    "text",
    [
        f"httpx.post('{URL}', json={{}})",
        f"httpx.request('POST', url='{URL}')",
        f"httpx.Client().post('{URL}')",
        "client = httpx.AsyncClient(base_url='https://api.anthropic.com')",
        f"url = '{URL}'; httpx.post(url)",
        "BASE = 'https://api.openai.com/v1'; httpx.post(f'{BASE}/chat/completions')",
        "BASE = 'https://api.openai.com/v1'; httpx.post(BASE + '/chat/completions')",
        "httpx.post(f'https://api.openai.com/v1/threads/{thread}/runs')",
        "httpx.post(f'https://api.openai.com{path}')",
        "httpx.post(f'https://{name}.openai.azure.com/openai/deployments/x/chat/completions')",
        "httpx.post('https://api.openai.com/v1/threads/{}/runs'.format(thread))",
        "import os; httpx.post(os.getenv('BASE', 'https://api.openai.com/v1').rstrip('/') + '/responses')",
        f"httpx.post(settings.get('url', '{URL}'))",
        f"asyncio.to_thread(httpx.post, '{URL}')",
    ],
)
def test_a_call_to_a_providers_host_is_found_however_its_url_is_written(audited: Audited, text: str) -> None:
    place = one(audited(f"import asyncio, httpx\n{text}"))
    assert (place.line, place.covered) == (2, False)
    assert one(audited(f"import asyncio, httpx\n{text}", main=INSTRUMENTED)).covered is True


@pytest.mark.parametrize(
    "text",
    [
        f"""
        async def ask():
            async with httpx.AsyncClient() as client:
                await client.post("{URL}")
        """,
        f"""
        def ask(client: httpx.Client | None):
            client.post("{URL}")
        """,
        f"""
        class Asker:
            URL = "{URL}"
            def __init__(self):
                self.client = httpx.Client()
            def ask(self):
                self.client.post(self.URL)
        """,
        f"""
        from services import made
        made.stream("POST", "{URL}")
        """,
    ],
)
def test_a_call_on_a_client_is_of_the_library_that_made_it(audited: Audited, text: str) -> None:
    place = one(audited("import httpx\n" + textwrap.dedent(text), main=INSTRUMENTED))
    assert (place.covered, place.what.endswith("to api.openai.com")) == (True, True)


def test_httpx2_is_covered_too(audited: Audited) -> None:
    assert one(audited(f"import httpx2\nhttpx2.post('{URL}')", main=INSTRUMENTED)).covered is True


@pytest.mark.parametrize(
    ("text", "library"),
    [
        (f"import requests\nrequests.post('{URL}')", "requests"),
        (f"import requests\nsession = requests.Session(); session.post('{URL}')", "requests"),
        (f"import aiohttp\nasync def f():\n  async with aiohttp.ClientSession() as s: s.post('{URL}')", "aiohttp"),
        (f"import urllib.request\nurllib.request.urlopen('{URL}')", "urllib.request"),
        (f"from urllib.request import Request, urlopen\nurlopen(Request('{URL}'))", "urllib.request"),
    ],
)
def test_a_library_that_instrument_does_not_see_is_not_covered(audited: Audited, text: str, library: str) -> None:
    place = one(audited(text, main=INSTRUMENTED))
    assert place.covered is False
    assert place.because.startswith(f"instrument() does not see {library}: send it with httpx, or put @guarded on")


@pytest.mark.parametrize(
    "text",
    [
        "import websockets\nwebsockets.connect('wss://api.openai.com/v1/realtime?model=m')",
        "from websockets.sync.client import connect\nconnect('wss://api.openai.com/v1/realtime')",
    ],
)
def test_a_websocket_is_covered_where_its_library_is_seen(audited: Audited, text: str) -> None:
    place = one(audited(text, main=INSTRUMENTED))
    assert (place.line, place.covered) == (2, True)
    assert one(audited(text, main="")).covered is False
    other = "import websocket\nwebsocket.create_connection('wss://api.openai.com/v1/realtime')"
    place = one(audited(other, main=INSTRUMENTED))
    assert place.covered is False
    assert place.because.startswith("instrument() does not see websocket-client")


def test_a_client_of_unknown_make_is_not_covered(audited: Audited) -> None:
    text = f"import httpx, requests\ndef ask(client):\n    client.post('{URL}')"
    place = one(audited(text, main=INSTRUMENTED))
    assert (place.what, place.covered) == ("client.post to api.openai.com", False)
    assert place.because.startswith("which library sends it is not to be seen here: annotate what it is called on")


@pytest.mark.parametrize(
    "text",
    [
        "import requests\nrequests.post('https://example.com/v1/chat/completions')",
        "import requests\nrequests.post('https://api.openai.com.example.com/v1')",
        "import requests\nrequests.post('https://example.com/?next=https://api.openai.com')",
        "import requests\nrequests.post('https://[broken')",
        "import requests\nrequests.post(f'{base}/v1/chat/completions')",
        f"import respx\nrespx.post('{URL}')",
        f"from urllib.parse import urlsplit\nurlsplit('{URL}')",
        f"prices = {{}}\nprices.get('{URL}')",
        f"import httpx\nhttpx.URL('{URL}')",
        f"import logging\nlogging.info('{URL}')",
        f"import httpx\ndef ask(settings): return settings.get('url', '{URL}')",
    ],
)
def test_what_sends_nothing_to_a_provider_is_no_place(audited: Audited, text: str) -> None:
    assert audited(text) == []


def test_a_url_of_ones_own_provider_is_found_once_instrument_is_told_of_it(audited: Audited) -> None:
    call = "import requests\nrequests.post('http://localhost:8000/v1/chat/completions')"
    assert audited(call) == []
    told = "import llmquota\nllmquota.instrument(providers={'http://localhost:8000/v1': 'vllm'})"
    assert one(audited(call, main=told)).what == "requests.post to localhost"


def test_no_secret_of_a_url_is_told(audited: Audited) -> None:
    place = one(audited("import requests\nrequests.get('https://me:hunter2@api.openai.com/v1?key=hunter2')"))
    assert "hunter2" not in str(place)


# --- who covers ---


@pytest.mark.parametrize(
    "call",
    [
        "import llmquota\nllmquota.instrument()",
        "import llmquota as q\nq.instrument(mode='observe')",
        "from llmquota import instrument as watch\ndef start():\n    watch()",
        "from llmquota.instrument import instrument\ninstrument()",
    ],
)
def test_instrument_is_found_however_it_is_imported(audited: Audited, call: str) -> None:
    assert one(audited("import openai\nopenai.OpenAI()", main=call)).covered is True


@pytest.mark.parametrize(
    "text",
    ["def instrument(): ...\ninstrument()", "from otel import instrument\ninstrument()", "# llmquota.instrument()"],
)
def test_another_instrument_covers_nothing(audited: Audited, text: str) -> None:
    assert one(audited("import openai\nopenai.OpenAI()", main=text)).covered is False


def test_what_only_tests_instrument_is_not_covered(tree: Path) -> None:
    call = "import openai\nopenai.OpenAI()"
    write(tree, {"app.py": call, "tests/conftest.py": INSTRUMENTED, "tests/test_app.py": call})
    app, test = audit([str(tree)]).places
    assert (app.covered, test.covered) == (False, True)
    assert app.because.startswith("only tests call llmquota.instrument()")


@pytest.mark.parametrize(
    "text",
    [
        "openai.OpenAI(http_client=httpx.Client(transport=QuotaTransport()))",
        "openai.AsyncOpenAI(http_client=httpx.AsyncClient(transport=llmquota.AsyncQuotaTransport()))",
        "through = QuotaTransport(); http = httpx.Client(transport=through); openai.OpenAI(http_client=http)",
        f"httpx.Client(transport=QuotaTransport()).post('{URL}')",
    ],
)
def test_a_client_with_a_transport_is_covered_by_it(audited: Audited, text: str) -> None:
    place = one(audited(f"import httpx, llmquota, openai\nfrom llmquota import QuotaTransport\n{text}"))
    assert (place.covered, place.because) == (True, "the QuotaTransport of its client")


def test_a_client_without_a_transport_in_it_is_not_covered_by_it(audited: Audited) -> None:
    text = "import httpx, openai\nfrom llmquota import QuotaTransport\nopenai.OpenAI(http_client=httpx.Client())"
    assert one(audited(text)).covered is False


def test_langchain_needs_a_transport_in_both_of_its_clients(audited: Audited) -> None:
    head = "import httpx\nfrom llmquota import AsyncQuotaTransport, QuotaTransport\n"
    head += "from langchain_openai import ChatOpenAI\n"
    plain = "http_client=httpx.Client(transport=QuotaTransport())"
    both = f"{plain}, http_async_client=httpx.AsyncClient(transport=AsyncQuotaTransport())"
    assert one(audited(f"{head}ChatOpenAI({plain})")).covered is False
    assert one(audited(f"{head}ChatOpenAI({both})")).covered is True


@pytest.mark.parametrize(
    "decorator",
    ["@guarded", "@guarded()", "@q.guarded(workspace=None)", "@q.guard.guarded", "@guard"],
)
def test_a_place_in_a_guarded_function_is_covered_by_the_guard(audited: Audited, decorator: str) -> None:
    text = f"""
    import llmquota as q
    import requests
    from llmquota import guarded
    guard = guarded(workspace=None)

    class Asker:
        {decorator}
        def ask(self):
            def inner():
                requests.post("{URL}")
            inner()
    """
    place = one(audited(text))
    assert (place.covered, place.because) == (True, "@guarded on ask()")


def test_a_decorator_or_a_default_is_outside_of_the_guard(audited: Audited) -> None:
    text = """
    from llmquota import guarded
    from openai import OpenAI

    @guarded
    def ask(client=OpenAI()):
        return client
    """
    assert one(audited(text)).covered is False


def test_another_decorator_covers_nothing(audited: Audited) -> None:
    text = "import openai\nfrom mine import guarded\n@guarded\ndef ask():\n    openai.OpenAI()"
    assert one(audited(text)).covered is False


def test_the_guard_covers_what_instrument_does_not_know(audited: Audited) -> None:
    text = (
        "import openai\nfrom llmquota import guarded\n@guarded\ndef ask():\n    openai.OpenAI(base_url='http://h/v1')"
    )
    assert one(audited(text, main=INSTRUMENTED)).because == "@guarded on ask()"


# --- files ---


@pytest.mark.parametrize("folder", [".git", ".venv", "venv", "node_modules", "__pycache__", "lib/site-packages"])
def test_what_is_nobodys_own_code_is_left_out_unless_it_is_named(tree: Path, folder: str) -> None:
    write(tree, {f"{folder}/mine.py": "import openai\nopenai.OpenAI()"})
    assert audit([str(tree)]).places == []
    assert one(audit([str(tree / folder)]).places).covered is False


def test_a_file_is_read_once_and_the_paths_are_one_code_base(tree: Path) -> None:
    write(tree, {"a/app.py": "import openai\nopenai.OpenAI()", "b/main": INSTRUMENTED, "a/note.txt": "openai.OpenAI("})
    app, main = str(tree / "a" / "app.py"), str(tree / "b" / "main")
    assert one(audit([app, str(tree), app]).places).covered is False
    found = audit([str(tree), main])
    assert (one(found.places).covered, found.files) == (True, 2)


@pytest.mark.parametrize("text", [b"x = (:\n", b"x = 1\x00\n", b"# coding: none\n", b"\xff\xff = 1\n", b"(" * 9_999])
def test_a_file_that_is_no_python_is_named_and_not_judged(tree: Path, text: bytes) -> None:
    tree.mkdir()
    (tree / "broken.py").write_bytes(text)
    place = one(audit([str(tree)]).places)
    assert (place.path, place.line, place.covered) == (str(tree / "broken.py"), 1, None)
    assert place.because.startswith("it cannot be read as Python (")


def test_the_line_of_a_mistake_is_told(audited: Audited) -> None:
    assert one(audited("import openai\nopenai.OpenAI()\ndef x(:\n")).line == 3


def test_what_goes_round_or_deep_ends(audited: Audited) -> None:
    text = f"import httpx\na = b\nb = a\nc = c.x(c)\nu = u + v\nv = u + v\nhttpx.post(u)\na.post('{URL}')\n"
    text += "t = " + " + ".join(["'x'"] * 500) + "\nhttpx.get(t)\n" + "d = e" + ".f()" * 150
    assert one(audited(text)).line == 8


def test_a_path_that_is_not_there_is_named(tree: Path) -> None:
    with pytest.raises(QuotaInputError, match=r"nowhere': there is no such file or directory"):
        audit([str(tree.parent / "nowhere")])


# --- the command ---


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LLMQUOTA_", "OPENAI_"))}
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "llmquota", "audit", *arguments],
        env=kept,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_command_prints_a_line_for_each_place_and_a_count(tree: Path) -> None:
    write(
        tree, {"app.py": "import openai, requests\nopenai.OpenAI()\n", "main.py": INSTRUMENTED, "bad.py": "x = '\\d'"}
    )
    done = command(str(tree))
    line = f"{tree}/app.py:2  openai.OpenAI  covered by instrument() in {tree}/main.py:2"
    assert (done.returncode, done.stdout.splitlines(), done.stderr) == (0, [line, done.stdout.splitlines()[-1]], "")
    assert done.stdout.splitlines()[-1] == "ok: 1 places in 3 files, all covered"
    write(tree, {"raw.py": f"import requests\nrequests.post('{URL}')\n"})
    done = command(str(tree))
    assert done.returncode == 1
    assert done.stdout.splitlines()[1].startswith(f"{tree}/raw.py:2  requests.post to api.openai.com  NOT covered: ins")
    assert done.stdout.endswith("problems: 1 of 2 places in 4 files are not covered\n")


def test_the_same_facts_as_json(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tree, {"app.py": "import openai\nopenai.OpenAI()\n", "main.py": INSTRUMENTED})
    assert main(["audit", "--json", str(tree)]) == 0
    fact = {"path": f"{tree}/app.py", "line": 2, "what": "openai.OpenAI", "covered": True}
    assert json.loads(capsys.readouterr().out) == [{**fact, "because": f"instrument() in {tree}/main.py:2"}]
    write(tree, {"broken.py": "def"})
    assert main(["audit", "--json", str(tree)]) == 1
    assert [each["covered"] for each in json.loads(capsys.readouterr().out)] == [True, None]


def test_a_file_that_cannot_be_read_is_status_1(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tree, {"bro\x1b[2Jken.py": "def"})
    assert main(["audit", str(tree)]) == 1
    output = capsys.readouterr().out
    assert output.startswith(f"{tree}/bro\\x1b[2Jken.py:1  file  NOT judged: it cannot be read as Python (")
    assert output.endswith("problems: 0 of 0 places in 0 files are not covered, 1 could not be read\n")


def test_bad_input_is_status_2(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", f"{tree}/nowhere"]) == 2
    output = capsys.readouterr()
    assert (output.out, output.err) == ("", f"llmquota audit: '{tree}/nowhere': there is no such file or directory\n")
    with pytest.raises(SystemExit, match="2"):
        main(["audit"])


def test_nothing_of_the_code_is_run(tree: Path) -> None:
    write(tree, {"app.py": f"import openai\nopen('{tree}/ran', 'w')\nopenai.OpenAI()\n"})
    assert command(str(tree)).returncode == 1
    assert not (tree / "ran").exists()


def test_the_calls_of_the_example_backend_are_found_and_covered_by_instrument(tmp_path: Path) -> None:
    example = str(ROOT / "examples" / "backend")
    (tmp_path / "main.py").write_text(INSTRUMENTED, encoding="utf-8")
    assert main(["audit", example, str(tmp_path / "main.py")]) == 0
    found = {(os.path.relpath(place.path, example), place.what) for place in audit([example]).places}
    assert found >= {
        ("ai_agents/conversational_simple.py", "openai.AsyncOpenAI"),
        ("services/ai_provider_abstraction.py", "openai.AsyncOpenAI"),
        ("services/ai_provider_abstraction.py", "agents.Runner.run"),
        ("tools/enhanced_document_search.py", "openai.OpenAI"),
    }


def test_of_the_backend_before_its_migration_nothing_is_covered() -> None:
    before = str(ROOT / "examples" / "migration" / "before")
    assert main(["audit", before]) == 1
    assert {place.covered for place in audit([before]).places} == {False}
