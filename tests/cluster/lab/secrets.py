"""The secrets of a cluster, and where they may not be seen."""

import base64
import json
import re
import tomllib


def secrets_of(cluster):
    """What no log, status or backup may hold: a name and the text, for each secret there is."""
    found = {"the root secret key": cluster.credentials[1]} if cluster.credentials else {}
    for number, token in enumerate(cluster.tokens):
        found[f"join token {number}"] = token
        found[f"the secret of join token {number}"] = decode_token(token)["secret"]
    for path in cluster.home.rglob("secrets.toml"):
        keys = tomllib.loads(path.read_text())
        found[f"the cluster key of {path.parent}"] = keys["cluster_key"]
        if "authority_seal_key" in keys:
            found[f"the authority seal key of {path.parent}"] = keys["authority_seal_key"]
    for path in [*cluster.home.rglob("node.key"), *cluster.home.rglob("authority.key")]:
        # The first lines of PEM are alike for all keys.
        found[str(path)] = path.read_text().splitlines()[2]
    return found


def leaks_in(log, secrets):
    """Which of the secrets a log shows."""
    # A greeting shows the keys that were made, once, to whoever started the server.
    lines = log.read_text(errors="replace").splitlines()
    text = "\n".join(line for line in lines if not line.startswith("  export AWS_"))
    return [f"{log.name} shows {what}" for what, secret in secrets.items() if secret in text]


def decode_token(token):
    """The document in a join token."""
    text = token.removeprefix("drystone-join-")
    return json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))


def encode_token(document):
    """The join token with a document."""
    text = base64.urlsafe_b64encode(json.dumps(document).encode()).decode()
    return f"drystone-join-{text.rstrip('=')}"


def credentials_in(text):
    """Access key and secret key, as `cluster init` and a greeting show them."""
    names = "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"
    return tuple(re.search(rf"export {name}=(\S+)", text)[1] for name in names)
