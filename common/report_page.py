"""Pages of the reports: templates that share a look.

A page is self-contained: no script, no font, no picture from elsewhere, so it can be
mailed or kept beside the data. What it shows may be text that anybody has written: all
text is escaped, and a policy in the page forbids scripts and fetches altogether.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined

from adaptiverec.common import report_text as text

__all__ = ["render_page"]


def render_page(template: str, **values: Any) -> str:
    """Renders a template.

    Args:
        template: Its stage and file name, such as `"pipeline/report.html.j2"`.
        **values: What it shows. A value that the template names must be given.

    Returns:
        An HTML page.
    """
    environment = Environment(
        loader=FunctionLoader(_source),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        count=lambda number: f"{number:,}",
        plural=text.plural,
        value=text.value,
        visible=text.visible,
    )
    return environment.get_template(template).render(**values)


def _source(name: str) -> str:
    stage, _, file = name.partition("/")
    return files(f"adaptiverec.{stage}").joinpath(file).read_text("utf-8")
