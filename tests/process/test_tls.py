"""TLS contexts: created from the settings, or refused with an error that names the variable."""

import ssl
from pathlib import Path

import pytest

from process import tls
from process.settings import SettingsError, Stack


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    """The settings of a stack with a certificate, its key and its CA."""
    files = {name: str(tmp_path / name) for name in ("certificate", "key", "ca")}
    import trustme  # here, as it takes a quarter of a second in each process that runs any tests

    authority = trustme.CA()
    own = authority.issue_cert("127.0.0.1")
    own.cert_chain_pems[0].write_to_path(files["certificate"])
    own.private_key_pem.write_to_path(files["key"])
    authority.cert_pem.write_to_path(files["ca"])
    return Stack(**{f"tls_{name}": file for name, file in files.items()})


def test_without_a_certificate_there_is_no_tls() -> None:
    assert tls.server_context(Stack()) is None
    assert tls.client_context(Stack()) is None


def test_certificates_are_verified_and_old_protocols_refused(stack: Stack) -> None:
    client, server = tls.client_context(stack), tls.server_context(stack)
    assert client is not None
    assert server is not None
    assert (client.verify_mode, client.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert len(client.get_ca_certs()) == 1, "ours, and none of those that this machine trusts"
    assert min(client.minimum_version, server.minimum_version) >= ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize("name", ["certificate", "key", "ca"])
@pytest.mark.parametrize("content", [None, "nonsense"])
def test_a_file_that_cannot_be_used_is_named(stack: Stack, name: str, content: str | None) -> None:
    file = Path(getattr(stack, f"tls_{name}"))
    file.unlink()
    if content is not None:
        file.write_text(content)
    with pytest.raises(SettingsError, match=rf"QS_STACK_TLS_{name.upper()}.*{file}"):
        tls.client_context(stack)
