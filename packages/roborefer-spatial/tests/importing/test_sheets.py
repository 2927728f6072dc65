import re
import zipfile

import pytest
from roborefer_spatial.importing.sheets import read_sheet

MAIN = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'


def excel(path, rows, shared=()):
    """Write an .xlsx by hand; `rows` are the XML of each row."""
    with zipfile.ZipFile(path, "w") as book:
        if shared:
            items = "".join(f"<si>{item}</si>" for item in shared)
            book.writestr("xl/sharedStrings.xml", f"<sst {MAIN}>{items}</sst>")
        book.writestr("xl/worksheets/sheet2.xml", f"<worksheet {MAIN}/>")
        book.writestr(
            "xl/worksheets/sheet1.xml", f"<worksheet {MAIN}><sheetData>{''.join(rows)}</sheetData></worksheet>"
        )
    return path


@pytest.mark.parametrize(("name", "separator"), [("a.csv", ","), ("a.tsv", "\t"), ("a.CSV", ",")])
def test_separated(tmp_path, name, separator):
    lines = [separator.join(cells) for cells in (["index", "prediction"], ["7", '"a ""b""\nc"'], ["8", ""])]
    (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    assert list(read_sheet(tmp_path / name)) == [
        (2, {"index": "7", "prediction": 'a "b"\nc'}),
        (3, {"index": "8", "prediction": ""}),
    ]


def test_excel(tmp_path):
    shared = ["<t>index</t>", "<r><t>pred</t></r><r><t>iction</t></r><rPh><t>guide</t></rPh>"]
    rows = [
        '<row r="1"><c r="A1" t="s"><v>0</v></c><c r="B1" t="s"><v>1</v></c>'
        '<c r="C1" t="inlineStr"><is><t>x</t></is></c></row>',
        '<row r="3"><c r="A3"><v>7</v></c><c r="C3"><v>2.0</v></c></row>',
        '<row r="4"><c r="A4"><v>0.5</v></c><c r="B4" t="str"><v>(1, 2)</v></c></row>',
    ]
    found = list(read_sheet(excel(tmp_path / "a.xlsx", rows, shared)))
    assert found == [
        (3, {"index": "7", "prediction": "", "x": "2"}),
        (4, {"index": "0.5", "prediction": "(1, 2)", "x": ""}),
    ]


def test_another_programs_excel(tmp_path):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.active.append(["index", "prediction"])
    book.active.append([3, "NOT_VISIBLE"])
    book.save(tmp_path / "a.xlsx")
    assert list(read_sheet(tmp_path / "a.xlsx")) == [(2, {"index": "3", "prediction": "NOT_VISIBLE"})]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.csv", b"", "a.csv: empty; expected a header and rows"),
        ("a.csv", b"a,a\n1,2", "a.csv: the header names a column twice: a, a"),
        ("a.csv", b"a,b\n1,2,3", "a.csv, row 2: 3 cells, the header has 2"),
        ("a.csv", b"a,b\n\xff,2", "a.csv: not UTF-8"),
        ("a.xlsx", b"a,b", "a.xlsx: not an Excel file (.xlsx)"),
    ],
)
def test_what_is_no_table(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=re.escape(message)):
        list(read_sheet(tmp_path / name))


def test_an_archive_without_a_sheet(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.xlsx", "w") as book:
        book.writestr("x", "y")
    with pytest.raises(ValueError, match="an Excel file without a sheet"):
        list(read_sheet(tmp_path / "a.xlsx"))
