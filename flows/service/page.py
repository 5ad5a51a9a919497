"""The page at /docs: the OpenAPI description as HTML, without scripts and without any other server."""

import json
from html import escape
from typing import Any

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
code, pre { font: 14px/1.5 ui-monospace, monospace; background: #f4f4f4; border-radius: 4px; }
code { padding: 0 .25rem; } pre { padding: .75rem; overflow-x: auto; }
table { border-collapse: collapse; } td { padding: .1rem 1rem .1rem 0; vertical-align: top; }
h2 { margin-top: 2.5rem; border-bottom: 1px solid #ddd; }
"""


def page(description: dict[str, Any]) -> str:
    """The page.

    Args:
        description: of the service, as in /openapi.json.
    """
    info = description["info"]
    sections = [
        _section(path, method.upper(), operation)
        for path, operations in description["paths"].items()
        for method, operation in operations.items()
    ]
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(info["title"])}</title>'
        f"<style>{_STYLE}</style></head><body><h1>{escape(info['title'])}</h1><p>{escape(info['summary'])} "
        "Send the header <code>Authorization: Bearer TOKEN</code> with each request. "
        'The OpenAPI description is at <a href="/openapi.json">/openapi.json</a>.</p>'
        f"{''.join(sections)}</body></html>"
    )


def _section(path: str, method: str, operation: dict[str, Any]) -> str:
    parts = [f"<h2>{method} {escape(path)}</h2><p>{escape(operation.get('description', ''))}</p>"]
    if content := operation.get("requestBody", {}).get("content", {}).get("application/json"):
        command = (
            f"curl -H 'Authorization: Bearer TOKEN' -H 'Content-Type: application/json' \\\n"
            f"  -d '{json.dumps(content['example'])}' http://127.0.0.1:PORT{path}"
        )
        parts += [f"<pre>{escape(command)}</pre>", _table(_fields(content["schema"]))]
    responses = operation.get("responses", {})
    good = responses.get("200", {}).get("content", {}).get("application/json", {})
    if "example" in good:
        parts.append(f"<pre>{escape(json.dumps(good['example'], indent=2))}</pre>")
    parts.append(_table((status, response.get("description", "")) for status, response in responses.items()))
    return "".join(parts)


def _fields(schema: dict[str, Any]) -> list[tuple[str, str]]:
    return [(name, field.get("description", "")) for name, field in schema["properties"].items()]


def _table(rows: Any) -> str:
    cells = "".join(f"<tr><td><code>{escape(name)}</code></td><td>{escape(about)}</td></tr>" for name, about in rows)
    return f"<table>{cells}</table>"
