"""Reading CSV files of requests: the formats of spreadsheet programs, and common mistakes."""

from datetime import timedelta
from pathlib import Path

import pytest

from smart_accounts.cli.csv_import import COLUMNS, BadFile, Row, read_rows
from smart_accounts.contract.messages import SmartAccountRequest

HEADER = "account_name,customer_email,requester_email,requester_name,requester_company"
CELLS = "Acme Networks,ada@acme.example,pat@partner.example,Pat Lee,Partner Ltd"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "requests.csv"


def only_request(rows: list[Row]) -> SmartAccountRequest:
    [row] = rows
    assert row.errors == ()
    assert row.request is not None
    return row.request


def messages(row: Row) -> dict[str, str]:
    assert row.request is None
    return {error.field: error.message for error in row.errors}


def test_columns_are_the_fields_of_a_request() -> None:
    assert COLUMNS == {
        "account_name": True,
        "customer_email": True,
        "account_domain": False,
        "note_to_customer": False,
        "user_emails": False,
        "note_to_added_users": False,
        "acceptance_window": False,
        "requester_email": True,
        "requester_name": True,
        "requester_company": True,
    }


def test_every_column_reaches_its_field(file: Path) -> None:
    file.write_text(
        f"{HEADER},account_domain,note_to_customer,user_emails,note_to_added_users,"
        f"acceptance_window\n{CELLS},acme.example,As agreed.,bo@acme.example,Welcome.,P30D\n"
    )
    request = only_request(read_rows(file))
    assert request == SmartAccountRequest.model_validate(
        {
            "account_name": "Acme Networks",
            "customer_email": "ada@acme.example",
            "account_domain": "acme.example",
            "note_to_customer": "As agreed.",
            "user_emails": ["bo@acme.example"],
            "note_to_added_users": "Welcome.",
            "requester": {
                "email": "pat@partner.example",
                "name": "Pat Lee",
                "company": "Partner Ltd",
            },
            "acceptance_window": timedelta(days=30),
        }
    )


@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["no-mark", "byte-order-mark"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"], ids=["comma", "semicolon", "tab"])
def test_formats_of_spreadsheet_programs(
    file: Path, mark: str, line_end: str, delimiter: str
) -> None:
    text = f"{HEADER}\n{CELLS}\n".replace("Acme", "Äcme")
    text = mark + text.replace(",", delimiter).replace("\n", line_end)
    file.write_bytes(text.encode())
    assert only_request(read_rows(file)).account_name == "Äcme Networks"


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize("first", ["sep=;", '"sep=;"', "SEP=;", "sep=;;;"])
def test_line_that_tells_excel_the_separator(file: Path, first: str, line_end: str) -> None:
    lines = [first, HEADER.replace(",", ";"), CELLS.replace(",", ";") + ",,,,,,", ""]
    file.write_bytes(line_end.join(lines).encode("utf-8-sig"))
    [row] = read_rows(file)
    assert row.number == 2  # Excel does not show the line
    assert only_request([row]).requester.company == "Partner Ltd,,,,,,"


def test_other_separators(file: Path) -> None:
    for separator in ("|", "\t", ","):
        text = f"{HEADER}\n{CELLS}\n".replace(",", separator)
        file.write_text(f"sep={separator}\n{text}")
        assert only_request(read_rows(file)).account_domain == "acme.example"


@pytest.mark.parametrize("line", ["sep=", "sep=;", "sep=a"])
def test_separator_line_and_nothing_else(file: Path, line: str) -> None:
    file.write_text(f"{line}\n")
    with pytest.raises(BadFile, match="is missing: account_name"):
        read_rows(file)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_unicode_text_of_excel(file: Path, encoding: str) -> None:
    text = f"{HEADER}\r\n{CELLS}\r\n".replace(",", "\t").replace("Acme", "Äcme")
    mark = "" if encoding == "utf-16" else "\ufeff"
    file.write_bytes((mark + text).encode(encoding))
    assert only_request(read_rows(file)).account_name == "Äcme Networks"


def test_empty_columns_at_the_end(file: Path) -> None:
    file.write_text(f"{HEADER},, ,\n{CELLS},,,\n{CELLS}\n,,,,,,,\n{CELLS},,x,\n")
    first, second, bad = read_rows(file)
    assert first.request is not None
    assert first.request == second.request
    assert (bad.number, messages(bad)) == (5, {"row": "has more cells than the first row"})


def test_names_beside_addresses(file: Path) -> None:
    users = "Bo Bell <bo@acme.example>; Dee, Cy <cy@acme.example>"
    file.write_text(f'{HEADER},user_emails\n{CELLS},"{users}"\n')
    assert only_request(read_rows(file)).user_emails == ("bo@acme.example", "cy@acme.example")


@pytest.mark.parametrize("between", [",", "; ", " ", "\n", "\r\n", ",\n ,"])
def test_several_users_in_one_cell(file: Path, between: str) -> None:
    users = f"bo@acme.example{between}cy@acme.example"
    file.write_text(f'{HEADER},user_emails\n{CELLS},"{users}"\n', newline="")
    assert only_request(read_rows(file)).user_emails == ("bo@acme.example", "cy@acme.example")


def test_note_keeps_its_line_breaks(file: Path) -> None:
    file.write_text(f'{HEADER},note_to_customer\n{CELLS},"one\ntwo, three"\n')
    assert only_request(read_rows(file)).note_to_customer == "one\ntwo, three"


def test_rows_are_numbered_as_in_spreadsheets(file: Path) -> None:
    blank = "\n,,,,\n"
    file.write_text(f'{HEADER},note_to_customer\n{CELLS},"one\ntwo"{blank}{CELLS}\n')
    assert [row.number for row in read_rows(file)] == [2, 4]


def test_one_message_per_bad_field_and_good_rows_stay(file: Path) -> None:
    file.write_text(
        f"{HEADER},user_emails\n"
        f'<b>,ada@acme.example,"a@b.example, c@d.example",,Partner Ltd,"bo@acme.example no"\n'
        f"{CELLS}\n"
    )
    bad, good = read_rows(file)
    assert (bad.number, good.number) == (2, 3)
    assert messages(bad) == {
        "account_name": "must not contain < or >",
        "user_emails": "entry 2 must be one email address, without a display name",
        "requester_email": "must be one email address, without a display name",
        "requester_name": "is required",
    }
    assert good.request is not None


def test_row_with_too_many_cells(file: Path) -> None:
    file.write_text(f"{HEADER}\n{CELLS},\n{CELLS},and more\n")
    fine, bad = read_rows(file)
    assert fine.request is not None
    assert messages(bad) == {"row": "has more cells than the first row"}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is missing: account_name, customer_email, requester_email"),
        (HEADER.replace("requester_name,", ""), "is missing: requester_name."),
        (f"{HEADER},note_to_custumer", "has unknown columns: note_to_custumer. Known: account_"),
        (f"{HEADER},reminders", "has unknown columns: reminders."),
        (f"account_name,,{HEADER}", "has unknown columns: (unnamed)."),
        (f"{HEADER},account_name", "has the same column twice."),
        (f'{HEADER}\n"Acme{CELLS}\n{CELLS}\n', "line 3: unexpected end of data."),
        (f'{HEADER}\n"Acme" {CELLS}\n', "line 2: ',' expected after '\"'."),
    ],
    ids=["empty", "missing", "misspelt", "reminders", "blank", "twice", "open-quote", "quote"],
)
def test_file_that_is_not_a_table_of_requests(file: Path, text: str, problem: str) -> None:
    file.write_text(text)
    with pytest.raises(BadFile) as caught:
        read_rows(file)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_file_that_is_not_utf8(file: Path) -> None:
    file.write_bytes(f"{HEADER}\n{CELLS}\n".replace("Acme", "Äcme").encode("cp1252"))
    with pytest.raises(BadFile, match="is not UTF-8 text"):
        read_rows(file)
