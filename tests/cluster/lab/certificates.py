"""Certificates that a cluster would never issue: expired, of another authority, for other roles."""

import datetime
import ssl

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = datetime.timedelta(days=1)


def now():
    """The time in UTC."""
    return datetime.datetime.now(datetime.UTC)


class Authority:
    """A certificate authority whose key we have."""

    def __init__(self, certificate, key):
        self.certificate, self.key = certificate, key

    @classmethod
    def read(cls, certificate, key):
        """That of a cluster, from the files of its founder before its first start."""
        return cls(
            x509.load_pem_x509_certificate(certificate.read_bytes()),
            serialization.load_pem_private_key(key.read_bytes(), None),
        )

    @classmethod
    def invent(cls, like):
        """One that says the same of itself as another, with a key of its own."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = x509.CertificateBuilder(
            like.certificate.subject, like.certificate.subject, key.public_key(),
            x509.random_serial_number(), now() - DAY, now() + 365 * DAY,
        )
        for extension in like.certificate.extensions:
            if not isinstance(extension.value, x509.SubjectKeyIdentifier | x509.AuthorityKeyIdentifier):
                builder = builder.add_extension(extension.value, extension.critical)
        return cls(builder.sign(key, hashes.SHA256()), key)

    def issue(self, like, key, begins=-DAY, ends=DAY):
        """A certificate that says of its holder what another one says, as it was signed by us."""
        builder = x509.CertificateBuilder(
            self.certificate.subject, like.subject, key.public_key(), x509.random_serial_number(),
            now() + begins, now() + ends,
        )
        for extension in like.extensions:
            if not isinstance(extension.value, x509.SubjectKeyIdentifier | x509.AuthorityKeyIdentifier):
                builder = builder.add_extension(extension.value, extension.critical)
        return builder.sign(self.key, hashes.SHA256())


def read_certificate(host):
    """The certificate in a host directory."""
    return x509.load_pem_x509_certificate((host / "node.crt").read_bytes())


def read_key(host):
    """The private key in a host directory."""
    return serialization.load_pem_private_key((host / "node.key").read_bytes(), None)


def write_certificate(host, certificate):
    """Puts another certificate into a host directory."""
    (host / "node.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def client_context(host, certificate=None, home=None):
    """TLS as a peer would speak it, with this certificate for the key of a host directory, or none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    if certificate is not None:
        path = home / "probe.crt"
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        context.load_cert_chain(path, host / "node.key")
    return context


def write_self_signed(certificate, key, address):
    """A certificate and key for a listener of the outside, as files; the certificate, as PEM."""
    own = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, address)])
    made = x509.CertificateBuilder(
        name, name, own.public_key(), x509.random_serial_number(), now() - DAY, now() + 30 * DAY
    ).sign(own, hashes.SHA256())
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    key.write_bytes(own.private_bytes(pem, pkcs8, serialization.NoEncryption()))
    certificate.write_bytes(made.public_bytes(pem))
    return made.public_bytes(pem).decode()
