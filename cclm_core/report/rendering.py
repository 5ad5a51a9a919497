"""Templates to pages: one file each, with the styles and the script in it, so that it loads nothing."""

from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from cclm_core.report import FACTS_PLACE


def rendered(template: str, **values: Any) -> str:
    """A page.

    Args:
        template: name of the template in this package, e.g. `page.html`.
        values: what the template shows.
    """
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, loader=FunctionLoader(_read)
    )
    return environment.get_template(template).render(
        style=Markup(_read("page.css")), script=Markup(_read("page.js")), facts=Markup(FACTS_PLACE), **values
    )


def _read(name: str) -> str:
    return (files("cclm_core.report") / name).read_text(encoding="utf-8")
