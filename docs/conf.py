"""How Sphinx builds the documentation: ``make docs``. Nothing in the pages comes from another site."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

import splitdeconv
from splitdeconv.deconv import weights
from splitdeconv.pipeline import bench as pipeline_bench
from splitdeconv.pipeline import convert, inspect, restore
from splitdeconv.results import bench, record

# The package imports these for its annotations only; with them its signatures in the reference become links.
vars(splitdeconv).update(
    Array=weights.Array,
    BenchRecord=bench.BenchRecord,
    Benchmark=pipeline_bench.Benchmark,
    RunRecord=record.RunRecord,
    Conversion=convert.Conversion,
    Inspection=inspect.Inspection,
    Restoration=restore.Restoration,
)

project = "splitdeconv"
copyright = "the splitdeconv authors"  # noqa: A001  # the name that Sphinx wants
version = release = splitdeconv.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_heading_anchors = 3
# Without torch the page on splitdeconv.torch has headings only; everything else is built and checked all the same.
suppress_warnings = [] if find_spec("torch") else ["autodoc.import_object"]

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
napoleon_google_docstring, napoleon_numpy_docstring = True, False
napoleon_use_ivar = True
napoleon_use_rtype = False

html_theme = "furo"
html_title = f"splitdeconv {release}"
html_static_path = ["static"]
html_extra_path = ["../src/splitdeconv/record.schema.json"]
html_css_files = ["own.css"]
html_copy_source = False
html_show_copyright = False


class DarkPictures(SphinxTransform):
    """Each picture for which there is a ``NAME-dark.svg`` is shown in the theme that the reader has."""

    default_priority = 10

    def apply(self, **_kwargs: object) -> None:
        """Put the dark picture behind the light one, each with the class that the theme shows or hides."""
        for picture in list(self.document.findall(nodes.image)):
            uri = picture["uri"]
            dark = uri.removesuffix(".svg") + "-dark.svg"
            if uri.endswith(".svg") and (Path(self.document["source"]).parent / dark).is_file():
                other = picture.deepcopy()
                other["uri"] = dark
                picture["classes"].append("only-light")
                other["classes"].append("only-dark")
                picture.parent.insert(picture.parent.index(picture) + 1, other)


def setup(app: Sphinx) -> None:
    """What Sphinx calls first."""
    app.add_transform(DarkPictures)
