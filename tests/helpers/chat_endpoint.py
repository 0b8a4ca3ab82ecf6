"""An OpenAI-compatible endpoint on this machine: a tiny GPT-2 with random weights really writes the answers."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

KEY = "sesame"
WORDS = ["[END]", "[UNK]", *(f"word{number}" for number in range(60))]
NUM_WORDS = 6


class TinyModel:
    """Continues a chat by a few words, the likeliest ones, and counts tokens."""

    def __init__(self) -> None:
        vocabulary = {word: index for index, word in enumerate(WORDS)}
        self.tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
        self.tokenizer.pre_tokenizer = Whitespace()
        torch.manual_seed(0)
        config = transformers.GPT2Config(
            vocab_size=len(WORDS), n_positions=256, n_embd=16, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0
        )
        self.model = transformers.GPT2LMHeadModel(config).eval()
        self._lock = threading.Lock()

    def write(self, messages: list[dict[str, str]], max_tokens: int) -> dict[str, Any]:
        ids = self.tokenizer.encode(" ".join(message["content"] for message in messages)).ids[-200:]
        wanted = min(NUM_WORDS, max_tokens)
        with self._lock, torch.inference_mode():
            out = self.model.generate(
                torch.tensor([ids]),
                attention_mask=torch.ones(1, len(ids), dtype=torch.int64),
                max_new_tokens=wanted,
                min_new_tokens=wanted,
                do_sample=False,
                pad_token_id=0,
            )[0, len(ids) :].tolist()
        text = self.tokenizer.decode(out)
        return {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": "tiny",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": text},
                    "finish_reason": "length" if max_tokens < NUM_WORDS else "stop",
                }
            ],
            "usage": {"prompt_tokens": len(ids), "completion_tokens": len(out), "total_tokens": len(ids) + len(out)},
        }


class Endpoint(ThreadingHTTPServer):
    """Answers truly, but for what `script` says first.

    Attributes:
        script: Mishaps still to come, one a request: a status code, ``malformed``, ``odd``, ``slow``, ``empty`` or
            ``no usage``; an empty text is none.
        chats: Every chat that arrived.
        most_at_once: Most requests that were under way at one moment.
    """

    daemon_threads = True

    def __init__(self, model: TinyModel) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.model = model
        self.script: list[int | str] = []
        self.chats: list[dict[str, Any]] = []
        self.most_at_once = self.under_way = 0
        self.wait_s = 0.0
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class _Handler(BaseHTTPRequestHandler):
    server: Endpoint

    def do_POST(self) -> None:
        server = self.server
        chat = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.lock:
            server.chats.append(chat)
            server.under_way += 1
            server.most_at_once = max(server.most_at_once, server.under_way)
            mishap = server.script.pop(0) if server.script else ""
        try:
            time.sleep(server.wait_s)
        finally:
            with server.lock:  # before the answer leaves, which may bring the next request at once
                server.under_way -= 1
        self._answer(chat, mishap)

    def _answer(self, chat: dict[str, Any], mishap: int | str) -> None:
        if self.path != "/v1/chat/completions":
            self._send(404, b'{"error": {"message": "no such path"}}')
        elif self.headers.get("Authorization") != f"Bearer {KEY}":
            self._send(401, b'{"error": {"message": "wrong key"}}')
        elif isinstance(mishap, int):
            self._send(mishap, b'{"error": {"message": "as the script says"}}')
        elif mishap == "malformed":
            self._send(200, b'{"choices": [{"mess')
        elif mishap == "odd":
            self._send(200, b'{"choices": []}')
        else:
            content = self.server.model.write(chat["messages"], chat["max_tokens"])
            if mishap == "slow":
                time.sleep(1.5)
            elif mishap == "empty":
                content["choices"][0]["message"]["content"] = None
            elif mishap == "no usage":
                del content["usage"]
            self._send(200, json.dumps(content).encode())

    def _send(self, status: int, body: bytes) -> None:
        try:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            if status == 429:
                self.send_header("Retry-After", "0.05")
            self.end_headers()
            self.wfile.write(body)
        except BrokenPipeError:  # the client would not wait
            pass

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serve(model: TinyModel) -> Iterator[Endpoint]:
    server = Endpoint(model)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
