"""The page at /docs: the OpenAPI description as HTML, without scripts and without any other server."""

import json
from html import escape
from typing import Any

_STYLE = """
:root { color-scheme: light dark; --line: light-dark(#ddd, #444); --code: light-dark(#f4f4f4, #2a2a2a); }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem; }
code, pre { font: 14px/1.5 ui-monospace, monospace; background: var(--code); border-radius: 4px; }
code { padding: 0 .25rem; } pre { padding: .75rem; overflow-x: auto; }
table { border-collapse: collapse; } td { padding: .1rem 1rem .1rem 0; vertical-align: top; }
h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); }
"""


def page(description: dict[str, Any], server: str) -> str:
    """The page.

    Args:
        description: of the service, as in /openapi.json.
        server: the address of the service, with a slash at its end.
    """
    info = description["info"]
    operations = [
        (path, method.upper(), operation)
        for path, operations in description["paths"].items()
        for method, operation in operations.items()
    ]
    sections = [_section(server.rstrip("/"), *operation, description) for operation in operations]
    errors = {
        status: response
        for _, _, operation in operations
        for status, response in operation["responses"].items()
        if status != "200"
    }
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(info["title"])}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style></head><body><h1>{escape(info['title'])}</h1><p>{escape(info['summary'])} "
        "Send the header <code>Authorization: Bearer TOKEN</code> with each request; <code>cclm serve</code> prints "
        "where the token is. "
        'The OpenAPI description is at <a href="/openapi.json">/openapi.json</a>.</p>'
        f'{"".join(sections)}<h2>Errors</h2><p>Every error is <code>{{"error": "what to do"}}</code>.</p>'
        f"{_table((status, errors[status].get('description', '')) for status in sorted(errors))}</body></html>"
    )


def _section(server: str, path: str, method: str, operation: dict[str, Any], description: dict[str, Any]) -> str:
    parts = [f"<h2>{method} {escape(path)}</h2><p>{escape(operation.get('description', ''))}</p>"]
    command = "curl -H 'Authorization: Bearer TOKEN'"
    if content := operation.get("requestBody", {}).get("content", {}).get("application/json"):
        command += f" -H 'Content-Type: application/json' \\\n  -d '{json.dumps(content['example'])}'"
        parts += [f"<pre>{escape(f'{command} {server}{path}')}</pre>", _table(_fields(content["schema"]))]
    else:
        parts.append(f"<pre>{escape(f'{command} {server}{path}')}</pre>")
    good = operation["responses"]["200"]
    parts.append(f"<p>Answer: {escape(good.get('description', ''))}</p>")
    content = good.get("content", {}).get("application/json", {})
    if "example" in content:
        parts.append(f"<pre>{escape(json.dumps(content['example'], indent=2))}</pre>")
    if reference := content.get("schema", {}).get("$ref"):
        parts.append(_table(_fields(description["components"]["schemas"][reference.rpartition("/")[2]])))
    return "".join(parts)


def _fields(schema: dict[str, Any]) -> list[tuple[str, str]]:
    """The fields with a description."""
    fields = [(name, field.get("description", "")) for name, field in schema["properties"].items()]
    return [(name, about) for name, about in fields if about]


def _table(rows: Any) -> str:
    cells = "".join(f"<tr><td><code>{escape(name)}</code></td><td>{escape(about)}</td></tr>" for name, about in rows)
    return f"<table>{cells}</table>" if cells else ""
