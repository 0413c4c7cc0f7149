"""A provider that speaks the realtime and the responses WebSocket, on loopback, with books of its own."""

from __future__ import annotations

import itertools
import json
import threading
from typing import Any

from typing_extensions import Self
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

#: What a response uses, as OpenAI tells it.
USAGE = {
    "total_tokens": 30,
    "input_tokens": 20,
    "output_tokens": 10,
    "input_token_details": {"cached_tokens": 4, "text_tokens": 12, "audio_tokens": 8},
    "output_token_details": {"text_tokens": 4, "audio_tokens": 6},
}


class Speaker:
    """Answers each ``response.create`` as the event's own ``metadata`` asks; serves until it is left."""

    def __enter__(self) -> Self:
        self.asked: list[dict[str, Any]] = []
        self.tokens = 0
        self._ids = itertools.count(1)
        self._server = serve(self._talk, "127.0.0.1", 0)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        port = self._server.socket.getsockname()[1]
        self.base = f"http://127.0.0.1:{port}/v1"
        self.socket_base = f"ws://127.0.0.1:{port}/v1"
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.shutdown()
        self._thread.join()

    def _talk(self, connection: ServerConnection) -> None:
        def say(kind: str, **more: Any) -> None:
            connection.send(json.dumps({"event_id": f"event_{next(self._ids)}", "type": kind, **more}))

        assert connection.request is not None
        is_realtime = "/realtime" in connection.request.path
        if is_realtime:
            session = {"type": "realtime", "object": "realtime.session", "id": "s", "model": "gpt-realtime"}
            heard = {"input": {"transcription": {"model": "whisper-1"}}}
            say("session.created", session={**session, "audio": heard})
        try:
            for message in connection:
                event = json.loads(message)
                if event["type"] == "response.create":
                    self.asked.append(event)
                    body = event.get("response") or event
                    self._answer(connection, say, event, (body.get("metadata") or {}).get("as", "usual"), is_realtime)
                elif event["type"] == "input_audio_buffer.commit":
                    # The speaker has ended: it answers by itself, and says what it has heard.
                    for _twice in range(2):
                        spoken = {"item_id": "item_1", "content_index": 0, "transcript": "Hello"}
                        used = {"type": "duration", "seconds": 60.0}
                        say("conversation.item.input_audio_transcription.completed", **spoken, usage=used)
                    self._answer(connection, say, event, "usual", is_realtime)
        except ConnectionClosed:
            return

    def _answer(
        self, connection: ServerConnection, say: Any, event: dict[str, Any], how: str, is_realtime: bool
    ) -> None:
        if how == "refused":
            error = {"type": "invalid_request_error", "code": "invalid_value", "message": "No", "param": None}
            say("error", error={**error, "event_id": event.get("event_id")})
            return
        response = {"object": "realtime.response" if is_realtime else "response", "id": f"resp_{next(self._ids)}"}
        say("response.created", response={**response, "status": "in_progress"})
        part = {"response_id": response["id"], "item_id": "i", "output_index": 0, "content_index": 0}
        for _piece in range(5):
            say("response.output_text.delta", **part, delta="word " * 20)
        if how == "dropped":
            connection.close()
            return
        if how == "odd":
            for odd in ("{", b"\xff\xfe", '{"type": "response.done", "response": 7}', '{"type": "response.done"'):
                connection.send(odd)
        status = {"failed": "failed", "cancelled": "cancelled"}.get(how, "completed")
        error = {"type": "server_error", "code": "server_error"}
        details = {"status_details": {"type": "failed", "error": error}} if how == "failed" else {}
        usage: Any = {"total_tokens": -5, "input_tokens": "many"} if how == "odd" else USAGE
        self.tokens += 0 if how in ("odd", "failed") else USAGE["total_tokens"]  # type: ignore[operator]
        kind = "response.done" if is_realtime else f"response.{status}"
        told = {} if how == "failed" else {"usage": usage}
        for _time in range(2 if how == "twice" else 1):
            say(kind, response={**response, "status": status, **details, **told, "output": []})
