// The library of the Standard Webhooks authors believes the headers that the server sends, through a rotation too.
import assert from 'node:assert/strict';
import { createPublicKey, verify } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { after, before, test } from 'node:test';
import { Webhook, WebhookVerificationError } from 'standardwebhooks';
import { admin, memberClient, newApp, newMember, newOauthClient, newSite } from './support.mjs';

const deadlineMs = 20_000;
// The body is a token and not JSON, so the library shall not parse it.
const asText = { jsonParse: false };

let site, frontEnd, receiver, created;
/** Every request that came, and what waits for the next one. */
const received = [];
let arrived = () => {};

before(async () => {
  site = await newSite();
  const app = await newApp(site);
  frontEnd = await newOauthClient(site);
  receiver = createServer(async (request, response) => {
    let body = '';
    for await (const chunk of request) body += chunk;
    received.push({ headers: request.headers, body });
    response.writeHead(200).end();
    arrived();
  });
  receiver.listen(0, '127.0.0.1');
  await once(receiver, 'listening');
  created = await admin('POST', '/admin/v1/webhook-subscriptions', {
    site,
    body: {
      webhookSubscription: {
        appId: app.id,
        eventTypes: ['wix.loyalty.socialmedia.v1.followed_channel_created'],
        url: `http://127.0.0.1:${receiver.address().port}/webhook`,
        signatureHeaders: ['V1', 'V1A'],
      },
    },
  });
});

after(() => {
  receiver.closeAllConnections();
  receiver.close();
});

/** What arrives when somebody new follows. */
async function nextWebhook() {
  const late = new Promise((_, reject) => {
    setTimeout(() => reject(new Error(`nothing came within ${deadlineMs} ms`)), deadlineMs).unref();
  });
  const next = new Promise((resolve) => { arrived = resolve; });
  const member = await memberClient(frontEnd, await newMember(site));
  await member.socialMedia.createFollowedChannel({ channel: 'X' });
  await Promise.race([next, late]);
  return received.at(-1);
}

/** Whether a `v1a` signature fits, by Node's own Ed25519. */
function fitsPublicKey(publicKey, { headers, body }) {
  const x = Buffer.from(publicKey.replace(/^whpk_/, ''), 'base64').toString('base64url');
  const key = createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x }, format: 'jwk' });
  const content = Buffer.from(`${headers['webhook-id']}.${headers['webhook-timestamp']}.${body}`);
  const signatures = headers['webhook-signature'].split(' ').filter((one) => one.startsWith('v1a,'));
  return signatures.some((one) => verify(null, content, key, Buffer.from(one.slice(4), 'base64')));
}

test('the library accepts what was delivered and nothing that was changed', async () => {
  const { headers, body } = await nextWebhook();
  const webhook = new Webhook(created.signingSecret);
  webhook.verify(body, headers, asText);
  assert.throws(() => webhook.verify(body, headers), SyntaxError);
  const other = new Webhook(`whsec_${Buffer.alloc(32, 7).toString('base64')}`);
  assert.throws(() => other.verify(body, headers, asText), WebhookVerificationError);
  assert.throws(() => webhook.verify(`${body}A`, headers, asText), WebhookVerificationError);
  for (const [name, value] of [['webhook-id', 'another'], ['webhook-timestamp', '1614265330']]) {
    assert.throws(() => webhook.verify(body, { ...headers, [name]: value }, asText), WebhookVerificationError);
  }
  assert.ok(fitsPublicKey(created.webhookSubscription.signingPublicKey, { headers, body }));
});

test('around a rotation the library accepts every delivery with the old and with the new secret', async () => {
  const path = `/admin/v1/webhook-subscriptions/${created.webhookSubscription.id}/rotate-secret`;
  const rotated = await admin('POST', path, { site, body: {} });
  assert.notEqual(rotated.signingSecret, created.signingSecret);
  const { headers, body } = await nextWebhook();
  for (const { signingSecret, webhookSubscription } of [created, rotated]) {
    new Webhook(signingSecret).verify(body, headers, asText);
    assert.ok(fitsPublicKey(webhookSubscription.signingPublicKey, { headers, body }));
  }

  const final = await admin('POST', path, { site, body: { overlapSeconds: 0 } });
  const last = await nextWebhook();
  new Webhook(final.signingSecret).verify(last.body, last.headers, asText);
  // Without overlap none of those before signs any more, although the first had a day.
  for (const { signingSecret } of [created, rotated]) {
    assert.throws(() => new Webhook(signingSecret).verify(last.body, last.headers, asText), WebhookVerificationError);
  }
});
