// Verifies a webhook of Followpoints with nothing but Node. The body comes on standard input:
//
//   node verify.mjs <app.pem | keys.json> <app id> < body
//
// With WEBHOOK_SECRET set it also checks the headers, in WEBHOOK_ID, WEBHOOK_TIMESTAMP and WEBHOOK_SIGNATURE.
import { createHmac, createPublicKey, timingSafeEqual, verify } from 'node:crypto';
import { readFileSync } from 'node:fs';

const TOLERANCE_S = 300;
const now = () => Date.now() / 1000;
const json = (part) => JSON.parse(Buffer.from(part, 'base64url').toString());

function publicKey(file, kid) {
  const text = readFileSync(file, 'utf8');
  if (text.startsWith('-----BEGIN')) return createPublicKey(text);
  const jwk = JSON.parse(text).keys.find((key) => key.kid === kid);
  if (!jwk) throw new Error(`there is no key ${kid}`);
  return createPublicKey({ key: jwk, format: 'jwk' });
}

export function verifyToken(token, keyFile, appId) {
  const parts = token.split('.');
  if (parts.length !== 3) throw new Error('not a token');
  const [head, body, signature] = parts;
  const { alg, kid } = json(head);
  // The token must not choose how it is verified.
  if (alg !== 'RS256') throw new Error(`the algorithm is ${alg}, not RS256`);
  const key = publicKey(keyFile, kid);
  if (!verify('sha256', Buffer.from(`${head}.${body}`), key, Buffer.from(signature, 'base64url'))) {
    throw new Error('the signature does not fit');
  }
  const claims = json(body);
  if (claims.iss !== 'followpoints') throw new Error(`the issuer is ${claims.iss}`);
  if (claims.aud !== appId) throw new Error(`the audience is ${claims.aud}`);
  if (!(claims.exp > now())) throw new Error('the token has expired');
  // JSON texts within a JSON text.
  const envelope = JSON.parse(claims.data);
  return {
    id: claims.jti,
    type: envelope.eventType,
    event: JSON.parse(envelope.data),
    identity: JSON.parse(envelope.identity),
  };
}

export function verifyHeaders(body, { id, timestamp, signature }, secret) {
  if (!(Math.abs(now() - Number(timestamp)) <= TOLERANCE_S)) throw new Error('the timestamp is too far from now');
  const key = Buffer.from(secret.replace(/^whsec_/, ''), 'base64');
  const expected = createHmac('sha256', key).update(`${id}.${timestamp}.${body}`).digest();
  // Several while a secret is being rotated; one that fits is enough.
  const fits = signature.split(' ').some((one) => {
    const given = Buffer.from(one.replace(/^v1,/, ''), 'base64');
    return one.startsWith('v1,') && given.length === expected.length && timingSafeEqual(given, expected);
  });
  if (!fits) throw new Error('no signature in the headers fits');
}

try {
  const [keyFile, appId] = process.argv.slice(2);
  const { WEBHOOK_SECRET, WEBHOOK_ID: id, WEBHOOK_TIMESTAMP: timestamp, WEBHOOK_SIGNATURE: signature } = process.env;
  if (!keyFile || !appId) throw new Error('usage: verify.mjs <app.pem | keys.json> <app id> < body');
  const body = readFileSync(0, 'utf8').trim();
  if (WEBHOOK_SECRET) verifyHeaders(body, { id, timestamp, signature }, WEBHOOK_SECRET);
  const webhook = verifyToken(body, keyFile, appId);
  console.log(webhook.id, webhook.type);
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
}
