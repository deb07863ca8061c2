"""TLS contexts from the settings: for servers, and for clients."""

import ssl

from process.settings import SettingsError, Stack

MIN_VERSION = ssl.TLSVersion.TLSv1_2
"""The oldest permitted protocol. Debian's Python sets no minimum itself, and leaves it to OpenSSL's configuration."""


def server_context(stack: Stack) -> ssl.SSLContext | None:
    """Return the context with which services serve HTTPS; None if they serve HTTP.

    Raises:
        SettingsError: the certificate or its key cannot be used.
    """
    if not stack.tls_certificate:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = MIN_VERSION
    _load_certificate(context, stack)
    return context


def client_context(stack: Stack) -> ssl.SSLContext | None:
    """Return the context for connections to services and NATS servers that use TLS; None if TLS is not configured.

    It sends our own certificate, if there is one, to servers that request one, as the stack's NATS servers do.

    Raises:
        SettingsError: the CA, the certificate or its key cannot be used.
    """
    if not (stack.tls_certificate or stack.tls_ca):
        return None
    try:
        context = ssl.create_default_context(cafile=stack.tls_ca or None)
    except OSError as error:
        raise SettingsError(f"QS_STACK_TLS_CA: {stack.tls_ca}: {_reason(error)}") from error
    context.minimum_version = MIN_VERSION
    if stack.tls_certificate:
        _load_certificate(context, stack)
    return context


def _load_certificate(context: ssl.SSLContext, stack: Stack) -> None:
    try:
        context.load_cert_chain(stack.tls_certificate, stack.tls_key)
    except OSError as error:
        files = f"{stack.tls_certificate}, {stack.tls_key}"
        raise SettingsError(f"QS_STACK_TLS_CERTIFICATE, QS_STACK_TLS_KEY: {files}: {_reason(error)}") from error


def _reason(error: OSError) -> str:
    return error.reason if isinstance(error, ssl.SSLError) and error.reason else error.strerror or str(error)
