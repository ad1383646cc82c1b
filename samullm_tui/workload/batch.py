"""Lines of OpenAI batch files as records."""

from __future__ import annotations

from samullm_tui.workload.problems import Problems

__all__ = ["batch_fields"]


def batch_fields(row: dict[str, object], place: str, problems: Problems) -> dict[str, object] | None:
    """The fields of one line: `id`, `prompt` (the prompt, or the texts of all messages with a blank line between),
    and for each role of a message a field of that name with its texts. None when there is no text to send.
    """
    body = row["body"]
    assert isinstance(body, dict)
    fields: dict[str, object] = {"id": row["custom_id"]}
    if isinstance(body.get("prompt"), str):
        return {**fields, "prompt": body["prompt"]}
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        problems.add(
            place, "its body has neither a prompt nor messages", "a line of a completion or chat batch"
        )
        return None
    texts: dict[str, list[str]] = {"prompt": []}
    for message in messages:
        text = _text(message)
        if text is None:
            problems.add(place, "a message that is not text", "messages of role and text only")
            return None
        texts["prompt"].append(text)
        texts.setdefault(str(message["role"]), []).append(text)
    return {**fields, **{role: "\n\n".join(parts) for role, parts in texts.items()}}


def _text(message: object) -> str | None:
    """The text of one message: its content, or its parts of type text when it has no others."""
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        return None
    content = message.get("content")
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return None
    parts = [
        part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None
        for part in content
    ]
    return (
        "\n".join(p for p in parts if isinstance(p, str)) if all(isinstance(p, str) for p in parts) else None
    )
