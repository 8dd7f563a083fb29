"""Writes replies.json: replies with calls of tools, and what vLLM's own parsers make of them.

.venv-vllm/bin/python tests/data/tool_calls/record.py
"""

import json
from pathlib import Path

CALL = '{"name": "add", "arguments": {"a": 3, "b": [1, {"c": "}"}]}}'
OTHER = '{"name": "search", "arguments": {"query": "caf\\u00e9 <b>"}}'
REPLIES = {
    "hermes": [
        f"<tool_call>\n{CALL}\n</tool_call>",
        f"Let me see.\n<tool_call>\n{CALL}\n</tool_call>\n<tool_call>\n{OTHER}\n</tool_call>",
        f"<tool_call>{CALL}",
        "I know it: 4.",
        "<tool_call>\n{'name': 'add'}\n</tool_call>",
        '<tool_call>\n{"name": "add", "arguments": \n</tool_call>',
    ],
    "llama3_json": [
        CALL.replace("arguments", "parameters"),
        f"<|python_tag|>{CALL.replace('arguments', 'parameters')}",
        f"{CALL.replace('arguments', 'parameters')}; {OTHER.replace('arguments', 'parameters')}",
        "The answer is 4.",
        CALL,
    ],
    "mistral": [
        f"[TOOL_CALLS] [{CALL}]",
        f"[TOOL_CALLS] [{CALL}, {OTHER}]",
        "It is 4.",
    ],
    "qwen3_coder": [
        "<tool_call>\n<function=add>\n<parameter=a>\n3\n</parameter>\n<parameter=b>\n[1, 2]\n</parameter>\n"
        "</function>\n</tool_call>",
        "<tool_call>\n<function=search>\n<parameter=query>\n42 is\nit\n</parameter>\n</function>\n</tool_call>\n"
        "<tool_call>\n<function=add>\n<parameter=a>\n-1\n</parameter>\n</function>\n</tool_call>",
        "No call.",
    ],
}
TOOLS = [
    {
        "name": "add",
        "description": "Adds.",
        "parameters": {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "array"}}},
    },
    {
        "name": "search",
        "description": "Searches.",
        "parameters": {"type": "object", "properties": {"query": {"type": "string"}}},
    },
]
MARKS = ("<tool_call>", "</tool_call>", "[TOOL_CALLS]", "<|python_tag|>", "<function=", "</function>")


class Words:
    """A tokenizer with as much as the parsers ask for."""

    is_fast = True

    def get_vocab(self):
        return {mark: place for place, mark in enumerate(MARKS)}

    def encode(self, text, **_):
        return [self.get_vocab()[text]] if text in MARKS else [100 + ord(letter) for letter in text]

    def decode(self, ids, **_):
        return "".join(MARKS[one] if one < 100 else chr(one - 100) for one in ids)

    def convert_ids_to_tokens(self, ids, **_):
        return [self.decode([one]) for one in ids]


def main():
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
    from vllm.tool_parsers import ToolParserManager

    found = {}
    tools = [{"type": "function", "function": tool} for tool in TOOLS]
    request = ChatCompletionRequest(model="m", messages=[{"role": "user", "content": "?"}], tools=tools)
    for name, replies in REPLIES.items():
        parser = ToolParserManager.get_tool_parser(name)(Words(), request.tools)
        found[name] = []
        for reply in replies:
            said = parser.extract_tool_calls(reply, request)
            calls = [[one.function.name, json.loads(one.function.arguments)] for one in said.tool_calls]
            found[name].append({"reply": reply, "calls": calls})
    file = Path(__file__).parent / "replies.json"
    file.write_text(json.dumps({"tools": TOOLS, "replies": found}, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
