"""Tables of other programs: CSV, TSV and the first sheet of an Excel file, as rows of text by column name."""

from __future__ import annotations

import csv
import io
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

SUFFIXES = (".csv", ".tsv", ".xlsx")
_EXCEL = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
_MOST_BYTES = 1 << 30


def read_sheet(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (row number as a spreadsheet counts, from 2; column name -> text) of a table with a header.

    Raises
    ------
    ValueError
        No header, names that occur twice, a row of another length, or a file that is not what its name says.
    """
    rows = _excel(path) if path.suffix.lower() == ".xlsx" else _separated(path)
    header: list[str] | None = None
    for number, cells in rows:
        if not any(cells):
            continue
        if header is None:
            header = cells
            if len(set(header)) != len(header):
                raise ValueError(f"{path.name}: the header names a column twice: {', '.join(header)}")
            continue
        if len(cells) > len(header):
            raise ValueError(f"{path.name}, row {number}: {len(cells)} cells, the header has {len(header)}")
        yield number, dict(zip(header, cells + [""] * (len(header) - len(cells))))
    if header is None:
        raise ValueError(f"{path.name}: empty; expected a header and rows")


def _separated(path: Path) -> Iterator[tuple[int, list[str]]]:
    csv.field_size_limit(1 << 24)  # answers of reasoning models
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path.name}: not UTF-8 ({error}); save it as CSV UTF-8") from error
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    try:
        yield from enumerate(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), 1)
    except csv.Error as error:
        raise ValueError(f"{path.name}: not a table: {error}") from error


def _excel(path: Path) -> Iterator[tuple[int, list[str]]]:
    try:
        with zipfile.ZipFile(path) as book:
            names = book.namelist()
            shared = []
            if "xl/sharedStrings.xml" in names:
                shared = [_text(item) for item in _xml(book, "xl/sharedStrings.xml").iter(_EXCEL + "si")]
            sheets = sorted(
                (name for name in names if re.fullmatch(r"xl/worksheets/sheet\d+\.xml", name)),
                key=lambda name: (len(name), name),
            )
            if not sheets:
                raise ValueError(f"{path.name}: an Excel file without a sheet")
            sheet = _xml(book, sheets[0])
    except (zipfile.BadZipFile, ElementTree.ParseError, KeyError) as error:
        raise ValueError(f"{path.name}: not an Excel file (.xlsx): {error}") from error
    for number, row in enumerate(sheet.iter(_EXCEL + "row"), 1):
        cells: list[str] = []
        for cell in row.iter(_EXCEL + "c"):
            column = _column(cell.get("r") or "", len(cells))
            cells += [""] * (column - len(cells))  # cells without content are left out of the file
            cells.append(_value(cell, shared))
        yield int(row.get("r") or number), cells


def _xml(book: zipfile.ZipFile, name: str) -> ElementTree.Element:
    if book.getinfo(name).file_size > _MOST_BYTES:
        raise ValueError(f"{name}: over {_MOST_BYTES >> 20} MiB unpacked; save the table as TSV")
    return ElementTree.fromstring(book.read(name))


def _column(reference: str, otherwise: int) -> int:
    """Return the index of a cell such as "AB12"."""
    letters = re.match(r"[A-Z]+", reference)
    if letters is None:
        return otherwise
    index = 0
    for letter in letters.group():
        index = index * 26 + ord(letter) - ord("A") + 1
    return index - 1


def _value(cell: ElementTree.Element, shared: list[str]) -> str:
    if cell.get("t") == "inlineStr":
        return _text(cell)
    value = cell.findtext(_EXCEL + "v") or ""
    if cell.get("t") == "s":
        return shared[int(value)]
    if cell.get("t") is None and re.fullmatch(r"\d+\.0", value):
        return value[:-2]  # whole numbers are ids
    return value


def _text(element: ElementTree.Element) -> str:
    """Return a string's text; its parts differ in format only, and phonetic guides are not part of it."""
    guides = {part for guide in element.iter(_EXCEL + "rPh") for part in guide.iter(_EXCEL + "t")}
    return "".join(part.text or "" for part in element.iter(_EXCEL + "t") if part not in guides)
