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
        (f"{HEADER},", "has unknown columns: (unnamed)."),
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
