"""CSV that reads back as it was written, and that no spreadsheet executes."""

from __future__ import annotations

import csv
import io

from hypothesis import given
from hypothesis import strategies as st

from proxy.core.table import csv_row, json_line


def test_a_row_by_rfc_4180():
    assert csv_row(["a", None, 5, -2, True, 'say "hi"', "x,y", "two\nlines"]) == (
        'a,,5,-2,true,"say ""hi""","x,y","two\nlines"\r\n'
    )


def test_text_that_could_be_a_formula_is_text():
    for text in ("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "＝1"):
        assert csv_row([text]) == f"'{text}\r\n"
    assert csv_row(['=HYPERLINK("http://x")']) == '"\'=HYPERLINK(""http://x"")"\r\n'


def test_objects_are_json():
    assert csv_row([{"a": [1, None]}]) == '"{""a"":[1,null]}"\r\n'


@given(
    st.lists(
        st.text(st.characters(exclude_characters="\x00", exclude_categories=("Cs",))), min_size=2, max_size=6
    )
)
def test_what_is_no_formula_reads_back_as_it_was(values):
    values = ["a" + value for value in values]

    assert next(csv.reader(io.StringIO(csv_row(values), newline=""))) == values


def test_json_lines():
    assert json_line(["a", "b"], [1, None]) == b'{"a":1,"b":null}\n'
