"""What an address answers that is no PACS, or one that wants another password: a sentence with what to do."""

from __future__ import annotations

import pytest
import requests

from lib.cases.dicomweb.client import Pacs, PacsError
from tests.support.small_pacs import SERIES, Answer, listing, small_pacs

HTML = b"<!doctype html><title>Log in</title>"
OTHER_ADDRESS = "Is this the address of its DICOMweb, such as http://HOST:8042/dicom-web?"


@pytest.fixture(autouse=True)
def _quick(quick_retries: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every fault is met without waiting, and without a password of this machine."""
    for name in ("USERNAME", "PASSWORD"):
        monkeypatch.delenv(f"MONAI_LABEL_DICOMWEB_{name}", raising=False)


def sentence_of(answer: Answer) -> str:
    with small_pacs(lambda _: answer) as pacs, pytest.raises(PacsError) as caught:
        Pacs(pacs.address).series(["CT"])
    return str(caught.value)


@pytest.mark.parametrize("status", [401, 403])
def test_a_wrong_password_is_told_with_the_names_of_the_variables_that_hold_it(status: int) -> None:
    said = sentence_of((status, "text/plain", b"no"))
    assert f"it answered {status}" in said
    assert "MONAI_LABEL_DICOMWEB_USERNAME and MONAI_LABEL_DICOMWEB_PASSWORD" in said
    assert "Is it up" not in said


@pytest.mark.parametrize(
    "answer",
    [
        (200, "text/html", HTML),
        (200, "application/json", HTML),
        (200, "application/json", b"{"),
        (200, "application/json", b"{}"),
        (200, "application/fhir+json", b'{"resourceType": "Bundle"}'),
        (200, "application/json", b"null"),
        (200, "application/json", b"3"),
        (200, "application/json", b"[1, 2]"),
        (200, "application/json", b'["1.2.3"]'),
        (200, "application/json", b"[[]]"),
        (200, "application/json", b'[{"resourceType": "ImagingStudy"}]'),
        (200, "application/json", b"[" * 100_000),
        (404, "text/html", HTML),
        (405, "text/html", HTML),
        (301, "text/html", HTML),
    ],
)
def test_an_address_that_is_no_dicomweb_is_never_taken_for_an_empty_pacs(answer: Answer) -> None:
    assert OTHER_ADDRESS in sentence_of(answer)


def test_a_pacs_without_a_series_is_empty() -> None:
    for nothing in ((200, "application/dicom+json", b"[]"), (204, "", b"")):
        with small_pacs(lambda _, nothing=nothing: nothing) as pacs:  # type: ignore[misc]
            assert Pacs(pacs.address).series(["CT"]) == []
    with small_pacs(listing) as pacs:
        (found,) = Pacs(pacs.address).series(["CT"])
        assert found.uid == SERIES["0020000E"]["Value"][0]


def test_a_certificate_that_nobody_signed_and_a_server_without_tls_are_told_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with small_pacs() as pacs, pytest.raises(PacsError, match=r"does not speak TLS\. Write http://"):
        Pacs(pacs.address.replace("http://", "https://")).series(["CT"])

    def untrusted(*_: object, **__: object) -> None:
        raise requests.exceptions.SSLError("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed certificate")

    monkeypatch.setattr(requests.Session, "send", untrusted)
    with pytest.raises(PacsError, match=r"certificate is not trusted\. Set REQUESTS_CA_BUNDLE"):
        Pacs("https://127.0.0.1:1/dicom-web").series(["CT"])
