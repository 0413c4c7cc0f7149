"""Finds, in the text of one module, what makes a provider's client or sends to a provider by itself."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from .names import names_of, reaches, texts_of, values_of
from .scopes import Function, Scope, read

__all__ = ["LITELLM_AIOHTTP", "OLD_OPENAI", "Found", "Module", "read_places"]

OLD_OPENAI = "openai before 1"
LITELLM_AIOHTTP = "litellm over aiohttp"

_OPENAI = "beta|chat|live|audio|evals|files|images|models|videos|batches|uploads|realtime|responses|containers"
_OPENAI += "|embeddings|completions|fine_tuning|moderations|conversations|vector_stores|skills|safety|admin"
_OLD = "ChatCompletion|Completion|Embedding|Edit|Image|Audio|Moderation|Engine|FineTune|FineTuningJob|File"
_SET = "api_key|admin_api_key|organization|project|base_url|api_base|api_type|api_version|azure_endpoint"
_SET += "|azure_ad_token|azure_ad_token_provider|http_client|default_headers|default_query|timeout|max_retries"
_LANGCHAIN = "ChatOpenAI|AzureChatOpenAI|OpenAIEmbeddings|AzureOpenAIEmbeddings|OpenAI|AzureOpenAI|ChatAnthropic"
_LITELLM = "completion|embedding|text_completion|responses|image_generation|speech|transcription|moderation"

# What is called, by its full name, and what sends for it. The first that fits counts.
_CALLED = [
    (re.compile(pattern), sends)
    for pattern, sends in (
        (r"openai\b.*\.realtime\.connect", "websockets"),
        (r"openai\.(?:\w+\.)*(?:(?:Async)?(?:Azure)?OpenAI|(?:Async)?Client)", "httpx"),
        (rf"openai\.(?:{_OPENAI})(?:\.\w+)+", "httpx"),
        (rf"openai\.(?:{_OLD})\.\w+", OLD_OPENAI),
        (r"anthropic\.(?:\w+\.)*(?:Async)?(?:Anthropic|Client)", "httpx"),
        (rf"langchain(?:_openai|_anthropic|_community)?\.(?:\w+\.)*(?:{_LANGCHAIN})", "httpx"),
        (r"agents\.(?:run\.)?Runner(?:\(\))?\.run(?:_sync|_streamed)?", "httpx"),
        (r"agents\.realtime\.(?:\w+\.)*RealtimeRunner", "websockets"),
        (rf"litellm\.(?:\w+\.)*(?:{_LITELLM})", "httpx"),
        (rf"litellm\.(?:\w+\.)*(?:a(?:{_LITELLM})|Router)", LITELLM_AIOHTTP),
    )
]
_CONFIGURED = re.compile(rf"openai\.(?:{_SET})")
_INSTRUMENT = re.compile(r"llmquota\.(?:instrument\.)?(?:patching\.)?instrument")
_TRANSPORT = re.compile(r"llmquota\.(?:instrument\.)?(?:transport\.)?(?:Async)?QuotaTransport")
# A guard may have been made before it is put on a function.
_GUARD = re.compile(r"llmquota\.(?:guard\.)?guarded(?:\(\))?")

_HTTP = ("httpx", "httpx2", "requests", "aiohttp", "urllib.request", "urllib3", "websockets", "websocket")
# How many words of a call may be its URL: the method stands before it, or not.
_VERBS = dict.fromkeys(("get", "post", "put", "patch", "delete", "head", "options", "ws_connect"), 1)
_VERBS |= {"request": 2, "stream": 2}
# They stand for a provider in tests, and send nothing.
_MOCKS = ("respx", "responses", "requests_mock", "aioresponses", "httpretty")
_URL_WORDS = ("url", "uri", "base_url")
_BASE_WORDS = ("base_url", "azure_endpoint", "openai_api_base", "api_base", "anthropic_api_url")
_CLIENT_WORDS = ("http_client", "http_async_client")
# They are given a function and its arguments, and call it.
_CALLERS = frozenset({"to_thread", "partial", "submit", "run_in_executor", "run_in_threadpool", "run_sync"})


@dataclass(frozen=True)
class Found:
    """A place that may send to a provider."""

    line: int
    what: str
    sends: str | None
    """The library that sends; ``None`` where the module does not tell."""
    urls: tuple[str, ...]
    """Where it says that it goes to; where it says nothing, to the provider's own host."""
    is_client: bool
    """Of a provider's SDK, wherever it goes; what is none is a place only where it goes to a provider."""
    guard: str | None
    """The guarded function that it is in."""
    has_transport: bool


@dataclass
class Module:
    """What one file has to do with providers."""

    path: str
    is_test: bool
    found: list[Found] = field(default_factory=list)
    instruments: list[int] = field(default_factory=list)
    """The lines that call ``instrument()``."""
    bases: list[str] = field(default_factory=list)
    """Further base URLs that ``instrument()`` or a transport is told."""
    litellm_uses_httpx: bool = False


def read_places(path: str, tree: ast.Module, *, is_test: bool, is_own: Callable[[str], bool]) -> Module:
    """Reads a module. ``is_own``: whether a name comes from the code base, though a library has it too."""
    return _Reader(Module(path, is_test), tree, is_own).read()


@dataclass(frozen=True)
class _Call:
    func: ast.expr
    args: Sequence[ast.expr]
    keywords: Sequence[ast.keyword]
    scope: Scope

    def given(self, words: Sequence[str]) -> list[ast.expr]:
        return [keyword.value for keyword in self.keywords if keyword.arg in words]

    def texts(self, values: Sequence[ast.expr]) -> tuple[str, ...]:
        return tuple(text for value in values for text in texts_of(value, self.scope))


class _Reader:
    def __init__(self, module: Module, tree: ast.Module, is_own: Callable[[str], bool]) -> None:
        self._module = module
        self._nodes = read(tree)
        self._is_own = is_own
        self._imported = self._imported_libraries()

    def read(self) -> Module:
        for node, scope in self._nodes:
            if isinstance(node, ast.Call):
                self._read_call(node, scope)
            elif isinstance(node, ast.ClassDef):
                for base in node.bases:
                    self._read_client(node.lineno, _Call(base, (), (), scope), f"{node.name}, which is ")
            elif isinstance(node, ast.Assign):
                for target in node.targets:
                    self._read_setting(target, node, scope)
        return self._module

    def _imported_libraries(self) -> set[str]:
        imported = set()
        for node, _ in self._nodes:
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                imported |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        return {library for name in imported if (library := _library(name))}

    def _read_call(self, node: ast.Call, scope: Scope) -> None:
        self._read_one(node.lineno, _Call(node.func, node.args, node.keywords, scope))
        if _last(node.func) in _CALLERS:
            for index, function in enumerate(node.args[:2], 1):
                if isinstance(function, ast.Name | ast.Attribute):
                    self._read_one(node.lineno, _Call(function, node.args[index:], node.keywords, scope))

    def _read_one(self, line: int, call: _Call) -> None:
        names = names_of(call.func, call.scope)
        is_instrument = any(map(_INSTRUMENT.fullmatch, names))
        if is_instrument:
            self._module.instruments.append(line)
        if is_instrument or any(map(_TRANSPORT.fullmatch, names)):
            self._module.bases += _keys(call)
        elif not self._read_client(line, call):
            self._read_http(line, call, names)

    def _read_client(self, line: int, call: _Call, before: str = "") -> bool:
        for name in names_of(call.func, call.scope):
            sends = next((sends for pattern, sends in _CALLED if pattern.fullmatch(name)), None)
            # Of these names "agents" alone is one that a backend gives a package of its own.
            if sends is None or (name.startswith("agents.") and self._is_own(name)):
                continue
            clients = call.given(_CLIENT_WORDS)
            # LangChain's synchronous calls and its asynchronous ones go through a client each.
            wanted = 2 if name.startswith("langchain") else 1
            through = sum(reaches(client, call.scope, _is_transport) for client in clients)
            self._add(line, before + name, sends, call.texts(call.given(_BASE_WORDS)), True, call, through >= wanted)
            return True
        if _source(call.func).endswith(".realtime.connect") and self._imports("openai"):
            self._add(line, _source(call.func), "websockets", (), True, call, False)
            return True
        return False

    def _imports(self, module: str) -> bool:
        """Whether the module has something of another, at its top."""
        return any(
            bound.imported.partition(".")[0] == module
            for _, scope in self._nodes[:1]
            for things in scope.bound.values()
            for bound in things
        )

    def _read_http(self, line: int, call: _Call, names: list[str]) -> None:
        words = call.args[: _VERBS.get(_last(call.func), 2)]
        urls = tuple(text for text in call.texts([*words, *call.given(_URL_WORDS)]) if "://" in text)
        if not urls or _last(call.func) == "URL" or any(_is_of(name, _MOCKS) for name in names):
            return
        known = next(((name, library) for name in names if (library := _library(name))), None)
        if known is not None:
            name, library = known
        elif _last(call.func) in _VERBS and isinstance(call.func, ast.Attribute) and not _is_plain(call):
            # What it is called on, another module made. Where this one has one library it will be of that.
            name, library = _source(call.func), next(iter(self._imported), None) if len(self._imported) == 1 else None
        else:
            return
        parts = [call.func, *(keyword.value for keyword in call.keywords)]
        through = any(reaches(part, call.scope, _is_transport) for part in parts)
        self._add(line, name, library, urls, False, call, through)

    def _read_setting(self, target: ast.expr, node: ast.Assign, scope: Scope) -> None:
        for name in names_of(target, scope) if isinstance(target, ast.Attribute) else []:
            if _CONFIGURED.fullmatch(name):
                call = _Call(target, (), (), scope)
                is_base = name.endswith(("base_url", "api_base", "azure_endpoint"))
                urls = call.texts([node.value]) if is_base else ()
                self._add(node.lineno, name, "httpx", urls, True, call, reaches(node.value, scope, _is_transport))
            elif name == "litellm.disable_aiohttp_transport":
                self._module.litellm_uses_httpx |= getattr(node.value, "value", None) is True

    def _add(
        self,
        line: int,
        name: str,
        sends: str | None,
        urls: tuple[str, ...],
        is_client: bool,
        call: _Call,
        has_transport: bool,
    ) -> None:
        what = name.replace("()", "")
        self._module.found.append(Found(line, what, sends, urls, is_client, _guard(call.scope), has_transport))


def _is_transport(name: str) -> bool:
    return _TRANSPORT.fullmatch(name) is not None


def _guard(scope: Scope) -> str | None:
    """The guarded function around a scope."""
    for each in scope.chain():
        node, outside = each.node, each.parent
        if isinstance(node, Function) and not isinstance(node, ast.Lambda) and outside is not None:
            decorators = [name for decorator in node.decorator_list for name in names_of(decorator, outside)]
            if any(map(_GUARD.fullmatch, decorators)):
                return str(node.name)
    return None


def _keys(call: _Call) -> list[str]:
    """The base URLs of ``providers=``."""
    given = call.given(("providers",))
    given += [bound.value for value in given for bound in values_of(value, call.scope) if bound.value is not None]
    tables = [value for value in given if isinstance(value, ast.Dict)]
    return [text for table in tables for key in table.keys if key is not None for text in call.texts([key])]


def _library(name: str) -> str | None:
    return next((library for library in _HTTP if _is_of(name, (library,))), None)


def _is_of(name: str, modules: Sequence[str]) -> bool:
    return any(re.match(rf"{re.escape(module)}(?:[.(]|$)", name) for module in modules)


def _is_plain(call: _Call) -> bool:
    """Whether it is called on something of Python's own: ``prices.get(url)``."""
    things = values_of(call.func.value, call.scope) if isinstance(call.func, ast.Attribute) else []
    return any(isinstance(bound.value, ast.Dict | ast.DictComp | ast.List) for bound in things)


def _last(func: ast.expr) -> str:
    return func.attr if isinstance(func, ast.Attribute) else getattr(func, "id", "")


def _source(func: ast.expr) -> str:
    """How it is written, for what has no name; an object that is no name itself is three dots."""
    words: list[str] = []
    part: ast.AST = func
    while isinstance(part, ast.Attribute):
        words.append(part.attr)
        part = part.value
    words.append(part.id if isinstance(part, ast.Name) else "...")
    return ".".join(reversed(words))
