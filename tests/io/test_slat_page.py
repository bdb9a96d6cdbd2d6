from dataclasses import replace
from pathlib import Path

from slatfile import HEAD, small
from slatlisting import Listing

PAGE = Path(__file__).parents[2] / "docs/formats/slat.md"


def test_the_example_of_the_page_is_what_the_program_writes():
    codes = small(head=replace(HEAD, level=2), traces=(("AA", 14),))
    data = codes.to_bytes()
    listing = Listing(data).file()
    assert f"```text\n{listing}\n```" in PAGE.read_text()
