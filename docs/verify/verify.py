"""Verifies a webhook of Followpoints. Needs PyJWT[crypto]. The body comes on standard input:

    python3 verify.py <app.pem | keys.json> <app id> < body

With WEBHOOK_SECRET set it also checks the headers, in WEBHOOK_ID, WEBHOOK_TIMESTAMP and WEBHOOK_SIGNATURE.
"""

import base64
import hashlib
import hmac
import json
import os
import sys
import time

import jwt

TOLERANCE_S = 300


def public_key(file, token):
    with open(file) as opened:
        text = opened.read()
    if text.startswith("-----BEGIN"):
        return text
    return jwt.PyJWKSet.from_json(text)[jwt.get_unverified_header(token)["kid"]].key


def verify_token(token, key_file, app_id):
    claims = jwt.decode(
        token,
        public_key(key_file, token),
        algorithms=["RS256"],  # the token must not choose how it is verified
        issuer="followpoints",
        audience=app_id,
        options={"require": ["iss", "aud", "exp", "jti"]},
    )
    # JSON texts within a JSON text.
    envelope = json.loads(claims["data"])
    return {
        "id": claims["jti"],
        "type": envelope["eventType"],
        "event": json.loads(envelope["data"]),
        "identity": json.loads(envelope["identity"]),
    }


def verify_headers(body, webhook_id, timestamp, signatures, secret):
    if abs(time.time() - int(timestamp)) > TOLERANCE_S:
        raise ValueError("the timestamp is too far from now")
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = hmac.new(key, f"{webhook_id}.{timestamp}.{body}".encode(), hashlib.sha256).digest()
    expected = "v1," + base64.b64encode(digest).decode()
    # Several while a secret is being rotated; one that fits is enough.
    if not any(hmac.compare_digest(given.encode(), expected.encode()) for given in signatures.split(" ")):
        raise ValueError("no signature in the headers fits")


def main():
    if len(sys.argv) != 3:
        sys.exit("usage: verify.py <app.pem | keys.json> <app id> < body")
    key_file, app_id = sys.argv[1:]
    body = sys.stdin.read().strip()
    env = os.environ
    if env.get("WEBHOOK_SECRET"):
        verify_headers(
            body, env["WEBHOOK_ID"], env["WEBHOOK_TIMESTAMP"], env["WEBHOOK_SIGNATURE"], env["WEBHOOK_SECRET"]
        )
    webhook = verify_token(body, key_file, app_id)
    print(webhook["id"], webhook["type"])


if __name__ == "__main__":
    try:
        main()
    except (jwt.PyJWTError, KeyError, OSError, ValueError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
